//! Many executions, on as many threads as there are processors, each of a seed of its own.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use shuttle::scheduler::RoundRobinScheduler;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use treering_latch::planted::{self, Bug};

use crate::canaries;
use crate::schedule::{Counts, Seeded};
use crate::story;

/// Runs the engine on many threads under a seeded scheduler.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// Executions to run, each with a seed of its own; with --canaries, as many for each bug at most
    #[arg(long)]
    pub(crate) iterations: Option<u64>,
    /// The seed of the first execution; the next one has the next. A failed one has told its seed:
    /// with that and `--iterations 1` it is had again
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Threads of the system, each of which runs executions
    #[arg(long)]
    jobs: Option<usize>,
    /// Plants a bug, and looks for it
    #[arg(long)]
    bug: Option<String>,
    /// Looks for every bug that can be planted; each must be found
    #[arg(long)]
    canaries: bool,
}

/// Executions, if nothing else is said: about a quarter of a minute on two processors.
const ITERATIONS: u64 = 400;
/// More steps than any execution takes that gets anywhere.
const STEPS_MAX: usize = 20_000_000;
/// Of a thread; only what is used of it becomes memory.
const STACK: usize = 1 << 20;

/// What came of some executions.
#[derive(Debug, Default)]
struct Sum {
    executions: u64,
    steps: u64,
    switches: u64,
    /// The seed of the first that failed, and how.
    failed: Option<(u64, String)>,
}

thread_local! {
    /// The execution that this thread runs.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    if args.canaries {
        return canaries::look_for_all(&args);
    }
    let bug = match args.bug.as_deref().map(canaries::bug_named) {
        Some(None) => {
            eprintln!("no such bug; there are: {}", canaries::names().join(", "));
            return ExitCode::FAILURE;
        }
        Some(bug) => bug,
        None => None,
    };
    tell_seed_of_panics();
    let began = Instant::now();
    let sum = run(&args, bug);
    let Sum { executions, steps, switches, failed } = &sum;
    println!(
        "{executions} executions, {steps} steps, {switches} switches, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let Some((seed, message)) = failed else { return ExitCode::SUCCESS };
    println!("seed {seed} failed: {message}");
    let planted = args.bug.map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    println!("again: ci/shuttle --seed {seed} --iterations 1{planted}");
    ExitCode::FAILURE
}

/// Runs all executions, or as many as it takes until one fails.
fn run(args: &Args, bug: Option<Bug>) -> Sum {
    let iterations = args.iterations.unwrap_or(ITERATIONS);
    let jobs = args.jobs.or_else(|| Some(std::thread::available_parallelism().ok()?.get()));
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Sum::default()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= iterations {
                        return;
                    }
                    let seed = args.seed.wrapping_add(number);
                    let (counts, failed) = match bug {
                        Some(bug) => planted::with(bug, || execute(seed)),
                        None => execute(seed),
                    };
                    let mut sum = sum.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    sum.executions += 1;
                    sum.steps += counts.steps.get();
                    sum.switches += counts.switches.get();
                    if sum.executions.is_multiple_of(1000) {
                        eprintln!("{} executions, {} steps", sum.executions, sum.steps);
                    }
                    if let Some(message) = failed {
                        sum.failed.get_or_insert((seed, message));
                        next.store(iterations, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs the execution of this seed.
fn execute(seed: u64) -> (Rc<Counts>, Option<String>) {
    SEED.set(seed);
    let counts = Rc::new(Counts::default());
    let mut config = Config::new();
    config.stack_size = STACK;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    let runner = Runner::new(Seeded::new(seed, Rc::clone(&counts)), config);
    let ran = catch_unwind(AssertUnwindSafe(|| runner.run(move || story::run(seed))));
    (counts, ran.err().map(|panic| message_of(&*panic)))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// A panic while others unwind ends the process: whoever panics says first which execution it is.
fn tell_seed_of_panics() {
    // Shuttle puts a hook of its own in front, once, which would be the one to be in front.
    Runner::new(RoundRobinScheduler::new(1), Config::new()).run(|| {});
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        eprintln!("seed {}:", SEED.get());
        before(panic);
    }));
}
