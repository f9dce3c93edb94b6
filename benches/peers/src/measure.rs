//! How a row is timed, and what the kernel says of this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Result};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Operations, or pairs, a second: more is better.
    PerSecond,
    /// Microseconds: less is better.
    Micros,
    /// MiB: less is better.
    MiB,
    /// Bytes for each byte of keys and values: less is better.
    PerByte,
}

impl Unit {
    pub fn more_is_better(self) -> bool {
        self == Self::PerSecond
    }
}

/// One figure of one engine in one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub row: String,
    pub unit: Unit,
    pub value: f64,
    /// Who did the work: "256 tasks".
    pub by: String,
}

/// A worker of a row that goes on until the time is up.
pub trait Turns: Send + 'static {
    /// Does turn `turn`, and returns what can be checked: a sum.
    fn turn(&mut self, turn: u64) -> impl Future<Output = Result<u64>> + Send;

    /// What that sum has to be; `None` if it depends on the others.
    fn expected(&self, turn: u64) -> Option<u64>;
}

/// How a row is run.
#[derive(Clone, Copy)]
pub struct Pace {
    pub workers: usize,
    pub time: Duration,
    /// Turns between two looks at the clock.
    pub stride: u64,
    /// Whether each turn's latency is of interest: two looks at the clock a turn.
    pub latencies: bool,
}

/// What came of a row.
pub struct Ran {
    pub turns: u64,
    pub took: Duration,
    pub latencies: Histogram<u64>,
    /// Turns that each worker did.
    pub by_worker: Vec<u64>,
}

impl Ran {
    pub fn per_second(&self) -> f64 {
        self.turns as f64 / self.took.as_secs_f64()
    }

    pub fn micros(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// A histogram of nanoseconds.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// Runs workers side by side until the time is up, then checks, outside the time, that they have read
/// what they should.
pub fn run<E, S, M>(engine: &Arc<E>, pace: Pace, make: M) -> Result<Ran>
where
    E: Engine,
    S: Turns,
    M: Fn(usize) -> Result<S> + Send + Sync,
{
    let sessions = (0..pace.workers).map(make).collect::<Result<Vec<S>>>()?;
    let sessions: Vec<_> = sessions.into_iter().map(|s| std::sync::Mutex::new(Some(s))).collect();
    let began = Instant::now();
    let until = began + pace.time;
    let ended = engine.run(pace.workers, |worker| {
        let taken = sessions[worker].lock().map(|mut slot| slot.take());
        let session = taken.ok().flatten().expect("a worker starts once");
        work(session, pace, until)
    })?;
    let took = began.elapsed();
    let mut ran = Ran { turns: 0, took, latencies: histogram(), by_worker: Vec::new() };
    for done in ended {
        ran.turns += done.turns;
        ran.latencies.add(&done.latencies)?;
        ran.by_worker.push(done.turns);
        done.check()?;
    }
    Ok(ran)
}

struct Done<S> {
    session: S,
    turns: u64,
    sum: u64,
    latencies: Histogram<u64>,
}

async fn work<S: Turns>(mut session: S, pace: Pace, until: Instant) -> Result<Done<S>> {
    let (mut turns, mut sum, mut latencies) = (0, 0u64, histogram());
    let mut now = Instant::now();
    while now < until {
        for _ in 0..pace.stride {
            sum = sum.wrapping_add(session.turn(turns).await?);
            turns += 1;
        }
        let then = std::mem::replace(&mut now, Instant::now());
        if pace.latencies {
            let nanos = (now - then).as_nanos() as u64 / pace.stride;
            latencies.record(nanos.max(1))?;
        }
    }
    Ok(Done { session, turns, sum, latencies })
}

impl<S: Turns> Done<S> {
    fn check(&self) -> Result<()> {
        let mut expected = 0u64;
        for turn in 0..self.turns {
            let Some(sum) = self.session.expected(turn) else { return Ok(()) };
            expected = expected.wrapping_add(sum);
        }
        if expected != self.sum {
            return Err(format!("{} turns did not read what was written", self.turns).into());
        }
        Ok(())
    }
}

/// Most memory that this process has had, in MiB, mapped files included.
pub fn peak_memory() -> Result<f64> {
    Ok(field("/proc/self/status", "VmHWM:")? as f64 / 1024.0)
}

/// Bytes that this process has had written to the device. A page of the page cache counts when it
/// becomes dirty, direct I/O when it is submitted; the file system's own writes do not count.
pub fn written() -> Result<u64> {
    field("/proc/self/io", "write_bytes:")
}

fn field(file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("{file} has no {name}"))?.parse()?)
}

/// Bytes that a folder takes on disk.
pub fn disk_bytes(folder: &std::path::Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => disk_bytes(&entry.path())?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}
