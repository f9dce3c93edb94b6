//! How a round is measured: tasks that do one thing after the other until the time is up, what each took, and
//! the processor time of the whole process. And the medians of several rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::raw::Failure;

/// What was measured in one round.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// How often it was done.
    pub count: u64,
    /// How long all of it took.
    pub seconds: f64,
    /// Processor time of it, of all threads, in user code and in the kernel.
    pub cpu_seconds: f64,
    /// The median of the times.
    pub p50_us: f64,
    /// What a hundredth of the times exceed.
    pub p99_us: f64,
}

impl Round {
    /// How often a second.
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// Processor time of one, in microseconds; a million of them take as many seconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.count as f64
    }
}

/// Processor time of this process so far, of all its threads, in user code and in the kernel.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Has `tasks` tasks of the runtime do `work` until the time is up, each once at least. `work` gets the
/// number of its task, and how often that task has done it before.
///
/// # Errors
/// Those of `work`.
pub async fn tasks<F>(
    tasks: u64,
    seconds: f64,
    work: impl Fn(u64, u64) -> F + Send + Sync + 'static,
) -> Result<Round, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send,
{
    let work = Arc::new(work);
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let until = begun + Duration::from_secs_f64(seconds);
    let workers: Vec<_> = (0..tasks)
        .map(|task| {
            let work = Arc::clone(&work);
            tokio::spawn(async move {
                let (mut times, mut turn) = (Vec::new(), 0);
                let mut now = Instant::now();
                loop {
                    work(task, turn).await?;
                    turn += 1;
                    let end = Instant::now();
                    times.push((end - now).as_nanos() as u64);
                    now = end;
                    if now >= until {
                        break;
                    }
                }
                Ok::<_, Failure>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await??);
    }
    let mut round = Round {
        count: times.len() as u64,
        seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds() - cpu,
        ..Round::default()
    };
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0);
    round.p50_us = at(0.5) as f64 / 1e3;
    round.p99_us = at(0.99) as f64 / 1e3;
    Ok(round)
}

/// The median; of none it is not a number.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => numbers[len / 2],
        len => (numbers[len / 2 - 1] + numbers[len / 2]) / 2.0,
    }
}
