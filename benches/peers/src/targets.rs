//! What treering is to reach, and whether a run did.

use crate::disk::{DISK, RAW};
use crate::engines::OURS;
use crate::report::Report;

/// Whom ours is compared with.
enum Against {
    /// The best of the others.
    Best,
    /// The best of those named.
    Engines(&'static [&'static str]),
    /// The disk's own latency.
    Disk,
    /// Ours itself, in another row.
    OwnRow(&'static str),
}

use Against::{Best, Disk, Engines, OwnRow};

/// Those without group commit.
const ALONE: Against = Engines(&["redb", "lmdb", "fjall"]);

/// A row, whom it is compared with, and how many times as good it has to be.
const TARGETS: &[(&str, Against, f64)] = &[
    ("durable commits, 256 writers", ALONE, 10.0),
    ("durable commits, 256 writers", Engines(&["rocksdb"]), 3.0),
    ("durable commits, 1 writer", Best, 1.5),
    // A commit may take 1.15 times as long as a raw write.
    ("durable commits, 1 writer: p50", Disk, 1.0 / 1.15),
    ("durable batches of 1,000 pairs, 1 writer", Best, 1.5),
    ("bulk load", Best, 1.5),
    ("buffered commits, 256 tasks", Best, 1.5),
    ("random reads, 1 thread", Best, 1.2),
    ("random reads, 2 threads", Best, 1.2),
    ("range reads of 10, pairs", Best, 1.0),
    ("range reads of 1,000, pairs", Best, 1.0),
    ("full scan, pairs", Best, 1.0),
    ("removals", Best, 1.5),
    ("YCSB A", Best, 1.2),
    ("YCSB B", Best, 1.2),
    ("YCSB C", Best, 1.2),
    ("YCSB D", Best, 1.2),
    ("YCSB E", Best, 1.2),
    ("YCSB F", Best, 1.2),
    ("data 10 x memory: random reads", Best, 1.5),
    ("data 10 x memory: YCSB A", Best, 1.5),
    ("data 10 x memory: YCSB B", Best, 1.5),
    ("data 10 x memory: YCSB C", Best, 1.5),
    ("data 10 x memory: YCSB F", Best, 1.5),
    // At most 1.15 times the data.
    ("size after compact", OwnRow("data"), 1.0 / 1.15),
];

/// A table of the targets whose rows were measured, and whether all of them are met.
pub fn check(report: &Report) -> (String, bool) {
    let mut table = String::from("| target | at least | is | |\n|---|---:|---:|---|\n");
    let mut all = true;
    for (row, against, at_least) in TARGETS {
        let Some((ratio, whom)) = ratio(report, row, against) else { continue };
        let met = ratio >= *at_least;
        all &= met;
        let verdict = if met { "met" } else { "**missed**" };
        table += &format!("| {row}, to {whom} | {at_least:.2} | {ratio:.2} | {verdict} |\n");
    }
    (table, all)
}

/// How much better ours is than the best that it is compared with, and what that is.
fn ratio(report: &Report, row: &str, against: &Against) -> Option<(f64, String)> {
    let more = report.unit(row)?.more_is_better();
    let ours = report.median(OURS, row)?;
    let compare = |engine: &str, row: &str, name: &str| {
        let theirs = report.median(engine, row)?;
        Some((if more { ours / theirs } else { theirs / ours }, name.to_owned()))
    };
    match against {
        OwnRow(other) => compare(OURS, other, other),
        Disk => compare(DISK, RAW, "a raw write"),
        Best => best(report.peers().filter_map(|peer| compare(peer, row, peer))),
        Engines(names) => best(names.iter().filter_map(|peer| compare(peer, row, peer))),
    }
}

fn best(ratios: impl Iterator<Item = (f64, String)>) -> Option<(f64, String)> {
    ratios.min_by(|a, b| a.0.total_cmp(&b.0))
}
