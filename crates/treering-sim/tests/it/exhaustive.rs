//! A few of the exhaustive workloads, and checks of the checks: that each workload does what its name
//! says, that every planted fault is found, and that what is not opened twice need not be.

#![allow(clippy::unwrap_used)]

use clap::ValueEnum;
use treering_sim::exhaustive::fates::Effort;
use treering_sim::exhaustive::machine::Planted;
use treering_sim::exhaustive::tally::Tally;
use treering_sim::exhaustive::workload::Workload;
use treering_sim::exhaustive::{Plan, run, workloads};

fn named(names: &[&str]) -> Vec<Workload> {
    let mut chosen = workloads::all();
    chosen.retain(|workload| names.contains(&workload.name));
    assert_eq!(chosen.len(), names.len(), "{names:?}");
    chosen
}

/// Fewer subsets than the program tries.
fn quick(names: &[&str]) -> Plan {
    let mut plan = Plan::new(named(names));
    plan.effort = Effort { every_subset_up_to: 6, sampled: 6, torn: 2 };
    plan.depth = 1;
    plan
}

fn total(plan: &Plan) -> Tally {
    let mut total = Tally::default();
    run(plan, |_, _| {}).into_values().for_each(|tally| total.add(tally));
    total
}

#[test]
fn every_workload_does_what_its_name_says() {
    let all = workloads::all();
    assert!(all.len() >= 30, "{} workloads", all.len());
    let mut wrong = Vec::new();
    for workload in all {
        let (before, after) = workload.shapes().unwrap();
        if !(workload.shows)(&before, &after) {
            wrong.push(format!("{}: {before:?}, then {after:?}", workload.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn some_workloads_survive_every_crash_and_every_failure() {
    let total = total(&quick(&["split", "delete", "large-overwrite", "recovery"]));
    assert_eq!(total.complaints, Vec::<String>::new());
    assert!(total.images > 500 && total.opened > 100 && total.failures > 50, "{total:?}");
}

/// The canary: whoever finds nothing here finds nothing anywhere.
#[test]
fn every_planted_fault_is_found() {
    for planted in Planted::value_variants() {
        let mut plan = quick(&["checkpoint", "two-checkpoints"]);
        plan.planted = *planted;
        let complaints = total(&plan).complaints;
        assert_eq!(
            complaints.is_empty(),
            *planted == Planted::Nothing,
            "{planted:?}: {complaints:?}"
        );
    }
}

/// What is planted in the log is found by what is opened anyway; and opening all images finds no more
/// where nothing is planted.
#[test]
fn an_image_that_is_not_opened_would_not_have_been_a_surprise() {
    for planted in [Planted::Nothing, Planted::LogSync] {
        let mut plan = quick(&["batch-pages", "overwrite"]);
        (plan.planted, plan.failures) = (planted, false);
        // To the end, or who finds more at once would open fewer.
        plan.complaints_max = None;
        let some = total(&plan);
        plan.open_all = true;
        let all = total(&plan);
        assert!(some.opened < all.opened, "{some:?}, {all:?}");
        assert_eq!(some.complaints.is_empty(), all.complaints.is_empty(), "{some:?}, {all:?}");
        assert_eq!(some.complaints.is_empty(), planted == Planted::Nothing, "{some:?}");
    }
}
