//! All workloads, on several threads: the work is cut into pieces, and each thread takes the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::crash::{Crasher, Share};
use super::fail::fail_all;
use super::fates::Effort;
use super::life::Start;
use super::machine::Planted;
use super::tally::Tally;
use super::workload::Workload;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The workloads.
    pub workloads: Vec<Workload>,
    /// The first seed.
    pub seed: u64,
    /// Every workload runs with one seed at least; others follow until there are so many images.
    pub images: u64,
    /// Threads.
    pub jobs: usize,
    /// What is tried of each moment.
    pub effort: Effort,
    /// How often recoveries crash again.
    pub depth: usize,
    /// Whether power fails.
    pub crashes: bool,
    /// Whether I/Os fail.
    pub failures: bool,
    /// What is planted.
    pub planted: Planted,
    /// Whether also those images are opened of which it is known what would come of it.
    pub open_all: bool,
    /// Complaints after which a workload is given up; `None`: never.
    pub complaints_max: Option<usize>,
}

/// What came of it, by workload.
pub type Results = BTreeMap<&'static str, Tally>;

/// Pieces into which the moments of a workload are cut, and its failures.
const PARTS: usize = 8;
/// Of each piece, so many images are where recoveries that crash begin.
const NESTED: usize = 1;

impl Plan {
    /// All that there is to do for these workloads, once.
    pub fn new(workloads: Vec<Workload>) -> Self {
        Self {
            workloads,
            seed: 1,
            images: 0,
            jobs: thread::available_parallelism().map_or(1, usize::from),
            effort: Effort { every_subset_up_to: 12, sampled: 32, torn: 4 },
            depth: 2,
            crashes: true,
            failures: true,
            planted: Planted::Nothing,
            open_all: false,
            complaints_max: Some(3),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Crashes,
    Failures,
}

/// Does all of it. `told` hears of each piece of work when it is done: its workload, and what there is
/// in all so far.
pub fn run(plan: &Plan, told: impl Fn(&str, &Tally) + Sync) -> Results {
    let mut results = Results::new();
    let mut starts = Vec::new();
    for workload in &plan.workloads {
        match workload.prepare() {
            Ok(start) => starts.push((workload, start)),
            Err(what) => results.entry(workload.name).or_default().complain(what),
        }
    }
    let mut crasher = Crasher::new(plan.effort, plan.depth, NESTED, plan.planted);
    crasher.open_all = plan.open_all;
    let shared = Mutex::new((results, Tally::default()));
    for seed in plan.seed.. {
        round(plan, &starts, seed, &crasher, &shared, &told);
        let (_, total) = &*shared.lock().unwrap_or_else(PoisonError::into_inner);
        if total.images >= plan.images || !total.complaints.is_empty() {
            break;
        }
    }
    shared.into_inner().unwrap_or_else(PoisonError::into_inner).0
}

/// All workloads with one seed.
fn round(
    plan: &Plan,
    starts: &[(&Workload, Start)],
    seed: u64,
    crasher: &Crasher,
    shared: &Mutex<(Results, Tally)>,
    told: &(impl Fn(&str, &Tally) + Sync),
) {
    let kinds = [(plan.crashes, Kind::Crashes), (plan.failures, Kind::Failures)];
    let kinds: Vec<Kind> = kinds.iter().filter(|(wanted, _)| *wanted).map(|kind| kind.1).collect();
    let mut pieces = Vec::new();
    for (workload, start) in starts {
        for part in 0..PARTS {
            let share = Share { part, of: PARTS };
            pieces.extend(kinds.iter().map(|kind| (*workload, start, share, *kind)));
        }
    }
    let next = AtomicUsize::new(0);
    let hopeless = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(|| {
                while let Some(&(workload, start, share, kind)) =
                    pieces.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    if hopeless
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .contains(workload.name)
                    {
                        continue;
                    }
                    let complaints_max = plan.complaints_max;
                    let mut tally = Tally { complaints_max, ..Tally::default() };
                    let begun = Instant::now();
                    match kind {
                        Kind::Crashes => crasher.crash(workload, start, seed, share, &mut tally),
                        Kind::Failures => {
                            fail_all(workload, start, seed, share, plan.planted, &mut tally);
                        }
                    }
                    tally.seconds = begun.elapsed().as_secs_f64();
                    if tally.is_enough() {
                        hopeless
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .insert(workload.name);
                    }
                    let (results, total) =
                        &mut *shared.lock().unwrap_or_else(PoisonError::into_inner);
                    results.entry(workload.name).or_default().add(tally.clone());
                    total.add(tally);
                    told(workload.name, total);
                }
            });
        }
    });
}
