//! `exhaustive`: crashes and failures at every I/O of many short workloads.
//!
//! Prints a table to stdout, a line a workload; what is wrong goes to stderr, with what repeats it, and
//! makes the program fail.

use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

use clap::Parser;
use treering_sim::exhaustive::machine::Planted;
use treering_sim::exhaustive::tally::Tally;
use treering_sim::exhaustive::{Plan, Results, run, workloads};

/// Crashes a database at every I/O of many short workloads, with every subset of what was not durable,
/// fails every I/O, and checks what is left.
#[derive(Parser)]
struct Arguments {
    /// Only the workloads whose names contain this.
    #[arg(long)]
    workload: Option<String>,
    /// Goes on, with other seeds, until there were so many distinct crash images.
    #[arg(long, default_value_t = 0)]
    images: u64,
    /// Threads; as many as there are processors unless given.
    #[arg(long)]
    jobs: Option<usize>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tries every subset of up to so many changes, and a sample of more.
    #[arg(long, default_value_t = 12)]
    every_subset_up_to: usize,
    /// How often recoveries crash again.
    #[arg(long, default_value_t = 2)]
    depth: usize,
    /// No I/O fails.
    #[arg(long)]
    no_failures: bool,
    /// The power does not fail.
    #[arg(long)]
    no_crashes: bool,
    /// Opens every image, also those of which it is known what would come of it.
    #[arg(long)]
    open_all: bool,
    /// Plants a fault. The program then fails, unless it is blind.
    #[arg(long, value_enum, default_value_t = Planted::Nothing)]
    planted: Planted,
    /// Prints the names of the workloads and ends.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut workloads = workloads::all();
    if let Some(part) = &arguments.workload {
        workloads.retain(|workload| workload.name.contains(part.as_str()));
    }
    if arguments.list || workloads.is_empty() {
        workloads.iter().for_each(|workload| println!("{}", workload.name));
        return if arguments.list { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut plan = Plan::new(workloads);
    plan.seed = arguments.seed;
    plan.images = arguments.images;
    plan.jobs = arguments.jobs.unwrap_or(plan.jobs);
    plan.effort.every_subset_up_to = arguments.every_subset_up_to;
    plan.depth = arguments.depth;
    plan.failures = !arguments.no_failures;
    plan.crashes = !arguments.no_crashes;
    plan.open_all = arguments.open_all;
    plan.planted = arguments.planted;
    let begun = Instant::now();
    let found = OnceLock::new();
    let results = run(&plan, |_, total| {
        if !total.complaints.is_empty() {
            found.get_or_init(|| (begun.elapsed().as_secs_f64(), total.opened, total.failures));
        }
    });
    print(&results, begun.elapsed().as_secs_f64());
    if let Some((seconds, opened, failures)) = found.get() {
        println!("found after {seconds:.2} s, {opened} databases opened, {failures} failures");
    }
    let mut sound = true;
    for complaint in results.values().flat_map(|tally| &tally.complaints) {
        eprintln!("FAILED: {complaint}");
        sound = false;
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(results: &Results, elapsed: f64) {
    println!(
        "{:<22} {:>8} {:>10} {:>10} {:>9} {:>9} {:>9}",
        "workload", "moments", "subsets", "images", "opened", "failures", "thread s"
    );
    let mut total = Tally::default();
    for (name, tally) in results {
        line(name, tally);
        total.add(tally.clone());
    }
    line("all", &total);
    println!("{elapsed:.0} s, {:.0} images/s", total.images as f64 / elapsed);
}

fn line(name: &str, tally: &Tally) {
    let Tally { moments, subsets, images, opened, failures, seconds, .. } = tally;
    println!(
        "{name:<22} {moments:>8} {subsets:>10} {images:>10} {opened:>9} {failures:>9} {seconds:>9.1}"
    );
}
