//! `treering-sim`: runs seeded histories of the whole engine and says what they came to.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use treering_sim::faults::Planted;
use treering_sim::history::{self, Outcome};

/// Runs histories of the whole engine, background tasks included, on a simulated machine: clients,
/// faults of the disk, crashes, recoveries. Each is a function of its seed.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many histories, with this seed and those behind it.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Goes on with further seeds until so many hours of virtual time have passed.
    #[arg(long, default_value_t = 0.0)]
    hours: f64,
    /// Plants something that makes a promise impossible to keep: the histories have to fail.
    #[arg(long)]
    planted: Option<Planted>,
    /// Runs each history twice: both have to do the same I/Os.
    #[arg(long)]
    twice: bool,
    /// Threads.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    jobs: usize,
}

/// What all histories together came to.
#[derive(Default)]
struct Total {
    histories: u64,
    sum: Outcome,
    failed: Vec<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let begin = Instant::now();
    let next = AtomicU64::new(arguments.seed);
    let (total, enough) = (Mutex::new(Total::default()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let more = arguments.hours > 0.0;
                    if !more && seed >= arguments.seed + arguments.seeds {
                        return;
                    }
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, &arguments)));
                    let mut total = total.lock().unwrap_or_else(|error| error.into_inner());
                    match outcome {
                        Ok(outcome) => total.add(outcome),
                        Err(_) => {
                            eprintln!("seed {seed} failed; again: treering-sim --seed {seed}");
                            total.failed.push(seed);
                        }
                    }
                    let hours = total.sum.time.as_secs_f64() / 3600.0;
                    if more && hours >= arguments.hours || total.failed.len() >= 10 {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(|error| error.into_inner());
    total.print(begin.elapsed());
    if total.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(seed: u64, arguments: &Arguments) -> Outcome {
    let once = || match arguments.planted {
        None => history::run(seed),
        Some(planted) => history::run_planted(seed, planted),
    };
    let outcome = once();
    if arguments.twice {
        assert_eq!(outcome, once(), "seed {seed} was another history the second time");
    }
    outcome
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        let sum = &mut self.sum;
        self.histories += 1;
        sum.lives += outcome.lives;
        sum.crashes += outcome.crashes;
        sum.ios += outcome.ios;
        sum.time += outcome.time;
        // The order in which threads come by does not matter.
        sum.trace = sum.trace.wrapping_add(outcome.trace);
        for (event, count) in outcome.events {
            *sum.events.entry(event).or_default() += count;
        }
    }

    fn print(&self, took: Duration) {
        let Outcome { lives, crashes, ios, time, trace, events } = &self.sum;
        let width = events.keys().map(|event| event.len()).max().unwrap_or(0);
        for (event, count) in sorted(events) {
            println!("{event:width$}  {count:>10}");
        }
        println!();
        println!(
            "{} histories, {lives} lives, {crashes} crashes, {ios} I/Os, {:.2} hours of virtual time \
             in {:.1} s; trace {trace:016x}",
            self.histories,
            time.as_secs_f64() / 3600.0,
            took.as_secs_f64()
        );
        match self.failed.as_slice() {
            [] => println!("nothing lost, nothing torn, nothing hung"),
            failed => println!("FAILED: seeds {failed:?}"),
        }
    }
}

fn sorted<'e>(events: &'e BTreeMap<&'static str, u64>) -> Vec<(&'static str, &'e u64)> {
    let mut sorted: Vec<_> = events.iter().map(|(event, count)| (*event, count)).collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    sorted
}
