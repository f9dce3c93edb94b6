//! Some histories with every test run; `ci/sim` runs many.

use std::collections::BTreeMap;

use treering_sim::history;

/// What has to occur in a handful of histories, or they would not show much.
const EVENTS: &[&str] = &[
    "appended",
    "backup",
    "batch",
    "big batch",
    "checkpoint",
    "closed",
    "compact",
    "condition violated",
    "crash in recovery",
    "crashed",
    "damage reported",
    "duplicate deleted",
    "duplicate inserted",
    "duplicates read",
    "futures dropped",
    "futures forgotten",
    "histories that ended with reported damage",
    "killed",
    "large value",
    "many read",
    "part read",
    "range",
    "range backwards",
    "range deleted",
    "read",
    "reads failed",
    "room accounted for",
    "single write",
    "somebody else appended",
    "stopped",
    "sync",
    "the disk was full",
    "the engine ended",
    "tidy",
    "tree dropped",
    "tree made",
    "tree renamed",
    "upkeep failed",
    "value streamed",
    "verify",
    "waited until the faults stopped",
    "walk",
    "written through the face",
];

#[test]
fn a_handful_of_histories_loses_nothing_and_everything_occurs_in_them() {
    let mut events: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 1..=100 {
        for (event, count) in history::run(seed).events {
            *events.entry(event).or_default() += count;
        }
    }
    let missing: Vec<_> = EVENTS.iter().filter(|event| !events.contains_key(*event)).collect();
    assert!(missing.is_empty(), "{missing:?} never occurred: {events:?}");
    let unknown: Vec<_> = events.keys().filter(|event| !EVENTS.contains(event)).collect();
    assert!(unknown.is_empty(), "{unknown:?} have to be in the list");
}
