//! Repeats one of the engine's smallest steps, for `ci/instructions`, which counts what that takes.
//!
//! `instructions` lists the steps; `instructions STEP TIMES` does that one so many times.

use clap::Parser;
use treering::Io;
use treering_benches::raw::Failure;
use treering_benches::steps::{self, Step};

#[derive(Parser)]
struct Args {
    /// A step; without one, all of them are listed.
    #[arg(requires = "times")]
    step: Option<String>,
    /// How often to do it.
    times: Option<u64>,
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    // Counting goes on in all threads, and not every emulated kernel has io_uring.
    let with_database = || steps::with_database(folder.path(), Io::Threads);
    let (Some(name), Some(times)) = (args.step, args.times) else {
        let all = steps::without_database().into_iter().chain(with_database()?);
        all.for_each(|step| println!("{}", step.name));
        return Ok(());
    };
    let named = |steps: Vec<Step>| steps.into_iter().find(|step| step.name == name);
    let step = match named(steps::without_database()) {
        Some(step) => Some(step),
        None => named(with_database()?),
    };
    step.ok_or("there is no such step")?.run(times);
    Ok(())
}
