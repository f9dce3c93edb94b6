//! Histories in which a promise cannot be kept have to fail, or the others would show nothing.

use std::panic::catch_unwind;

use treering_sim::faults::Planted;
use treering_sim::history::run_planted;

/// The number of the first history that fails.
fn first_failure(planted: Planted) -> Option<u64> {
    (1..=150).find(|seed| catch_unwind(|| run_planted(*seed, planted)).is_err())
}

#[test]
fn a_disk_whose_syncs_do_nothing_is_noticed() {
    assert!(first_failure(Planted::VolatileSyncs).is_some());
}

#[test]
fn a_log_whose_syncs_do_nothing_is_noticed() {
    assert!(first_failure(Planted::VolatileLog).is_some());
}

#[test]
fn a_lost_write_of_the_log_is_noticed() {
    assert!(first_failure(Planted::LostLogWrites).is_some());
}

#[test]
fn a_commit_that_was_not_durable_and_is_taken_for_it_is_noticed() {
    assert!(first_failure(Planted::BufferedTakenForDurable).is_some());
}

#[test]
fn a_commit_that_survives_out_of_its_order_is_noticed() {
    assert!(first_failure(Planted::CommitsInAnotherOrder).is_some());
}
