//! Tasks that do one thing after the other for a while, and how long each took.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use treering::Tree;

use crate::error::Failure;
use crate::pennysort::Record;

/// What was measured.
pub(crate) struct Measured {
    pub(crate) what: String,
    /// Records or operations.
    pub(crate) count: u64,
    pub(crate) elapsed: Duration,
    /// How long single operations took, where they were looked at one by one.
    pub(crate) times: Option<Times>,
}

impl Measured {
    pub(crate) fn total(what: impl Into<String>, count: u64, elapsed: Duration) -> Self {
        Self { what: what.into(), count, elapsed, times: None }
    }

    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// What a task does.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Commits records of its own durably, one by one.
    Commit,
    /// Looks up one of so many records.
    LookUp { records: u64 },
}

/// Has so many tasks work for a while.
pub(crate) async fn run_tasks(
    what: String,
    tree: &Tree,
    work: Work,
    tasks: usize,
    time: Duration,
) -> Result<Measured, Failure> {
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..tasks as u64 {
        running.spawn(run_task(tree.clone(), work, task, begun + time));
    }
    let mut times = Times::default();
    while let Some(ended) = running.join_next().await {
        let ended = ended.map_err(|panic| Failure::wrong(format!("a task ended: {panic}")))?;
        times.add(&ended?);
    }
    let (count, elapsed) = (times.count, begun.elapsed());
    Ok(Measured { what, count, elapsed, times: Some(times) })
}

async fn run_task(tree: Tree, work: Work, task: u64, until: Instant) -> Result<Times, Failure> {
    let mut random = SmallRng::seed_from_u64(task);
    let mut times = Times::default();
    let mut begun = Instant::now();
    // Each does one thing at least.
    while begun < until || times.count == 0 {
        match work {
            Work::Commit => {
                // No two tasks write the same key.
                let Record { key, value } = Record::new(task << 40 | times.count);
                tree.put(key, value).await?;
            }
            Work::LookUp { records } => {
                let Record { key, .. } = Record::new(random.random_range(0..records));
                if tree.get_with(key, <[u8]>::len).await?.is_none() {
                    return Err(Failure::wrong("a record that was loaded is not there"));
                }
            }
        }
        let ended = Instant::now();
        times.note(ended - begun);
        begun = ended;
        if times.count.is_multiple_of(YIELD_EVERY) {
            // What is in memory completes at once, and the other tasks want their turn.
            tokio::task::yield_now().await;
        }
    }
    Ok(times)
}

const YIELD_EVERY: u64 = 64;

/// How often something took about how long: sixteen steps for each doubling.
pub(crate) struct Times {
    pub(crate) count: u64,
    steps: Vec<u64>,
}

const STEPS: u64 = 16;

impl Default for Times {
    fn default() -> Self {
        Self { count: 0, steps: vec![0; 64 * STEPS as usize] }
    }
}

impl Times {
    fn note(&mut self, time: Duration) {
        self.count += 1;
        self.steps[step(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))] += 1;
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.steps.iter_mut().zip(&other.steps).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// What `share` of all took at most, from 0 to 1.
    pub(crate) fn at(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.steps.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        Duration::from_nanos(end(found.unwrap_or(0)))
    }
}

fn step(nanos: u64) -> usize {
    let nanos = nanos.max(STEPS);
    let doublings = u64::from(nanos.ilog2() - STEPS.ilog2());
    // The leading one is that of the doubling.
    (doublings * STEPS + (nanos >> doublings) - STEPS) as usize
}

/// The end of a step.
fn end(step: usize) -> u64 {
    let (doublings, within) = (step as u64 / STEPS, step as u64 % STEPS);
    ((within + STEPS + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_step_that_ends_behind_it() {
        for nanos in [16, 17, 31, 32, 33, 1000, 4095, 4096, 123_456_789, 1 << 40] {
            let at = step(nanos);
            assert!(end(at) >= nanos && (at == 0 || end(at - 1) < nanos), "{nanos}");
            assert!((end(at) - nanos) * STEPS <= nanos, "{nanos}");
        }
        assert!(step(u64::MAX) < 64 * STEPS as usize);
    }

    #[test]
    fn percentiles_are_those_of_the_times() {
        let mut times = Times::default();
        (1..=1000).for_each(|number| times.note(Duration::from_micros(number)));
        for (share, micros) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let at = times.at(share).as_secs_f64() * 1e6;
            assert!((at / micros - 1.0).abs() < 0.07, "{share}: {at}");
        }
    }
}
