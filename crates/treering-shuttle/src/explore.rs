//! Many executions, one after the other, each of a seed of its own.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use clap::Parser;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::schedule::{Counts, Seeded};
use crate::story;

/// Runs the engine on many threads under a seeded scheduler.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Executions to run, each with a seed of its own.
    #[arg(long, default_value_t = 100)]
    iterations: u64,
    /// The seed of the first execution; the next one has the next. A failed one has told its seed:
    /// with that and `--iterations 1` it is had again.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// More steps than any execution takes that gets anywhere.
const STEPS_MAX: usize = 30_000_000;
/// Of a thread; only what is used of it becomes memory.
const STACK: usize = 1 << 20;

/// What one execution came to.
pub(crate) struct Outcome {
    pub(crate) counts: Rc<Counts>,
    pub(crate) failed: Option<String>,
}

/// Runs the execution of this seed.
pub(crate) fn execute(seed: u64) -> Outcome {
    let counts = Rc::new(Counts::default());
    let mut config = Config::new();
    config.stack_size = STACK;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    let runner = Runner::new(Seeded::new(seed, Rc::clone(&counts)), config);
    let ran = catch_unwind(AssertUnwindSafe(|| runner.run(move || story::run(seed))));
    Outcome { counts, failed: ran.err().map(|panic| message_of(&*panic)) }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    let (mut steps, mut switches) = (0, 0);
    for number in 0..args.iterations {
        let seed = args.seed.wrapping_add(number);
        let Outcome { counts, failed } = execute(seed);
        steps += counts.steps.get();
        switches += counts.switches.get();
        if let Some(message) = failed {
            println!("seed {seed} failed: {message}");
            println!("again: ci/shuttle --seed {seed} --iterations 1");
            return ExitCode::FAILURE;
        }
    }
    println!(
        "{} executions, {steps} steps, {switches} switches, {:.1} s",
        args.iterations,
        began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}
