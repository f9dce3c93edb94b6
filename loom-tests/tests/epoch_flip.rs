//! A checkpoint's flip of the epoch against those who apply changes (I5): the real log.
//!
//! Protocol: an applier draws its sequence and counts itself for the current epoch under the log's mutex
//! (or, for a change of structure, counts itself and looks then whether that epoch is current), changes
//! its pages, and counts itself off. The flip makes the next epoch current under the same mutex and says
//! what the last sequence was; then it waits until nobody is counted for the closed one. Checked, with
//! four preemptions (three for two appliers):
//!
//! * when the wait is over, everybody who applied in the closed epoch has changed its pages, and that is
//!   visible (a cell of loom's reports a race otherwise);
//! * the cut is exact: the sequences up to the flip's are those of the closed epoch;
//! * nobody applies in the closed epoch afterwards; the wait comes to an end.
//!
//! Planted: an applier that is counted after its record was appended; one that looks at the epoch
//! before it is counted; a last one that tells nobody.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it.
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use treering_loom_tests::journal::{EPOCH, Journal};
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};
use treering_txn::AppendError;

/// A page, with the number of changes made to it in the first epoch and later. Whoever changes it holds
/// a latch that is not part of the model: there is one applier for each page.
#[derive(Default)]
struct Page {
    changes: UnsafeCell<[u64; 2]>,
}

// SAFETY: loom checks that the protocol suffices.
unsafe impl Sync for Page {}

impl Page {
    fn change(&self, epoch: u64) {
        // SAFETY: the one applier of this page, and the protocol.
        self.changes.with_mut(|changes| unsafe { (*changes)[(epoch - EPOCH) as usize] += 1 });
    }

    fn changes(&self) -> [u64; 2] {
        // SAFETY: the protocol: whoever changed it has been waited for.
        self.changes.with(|changes| unsafe { *changes })
    }
}

/// Appends and applies one change, in whatever epoch is current; returns it.
fn apply(journal: &Journal, page: &Page) -> u64 {
    let mut epoch = journal.log.epoch();
    loop {
        match journal.log.try_append(epoch, b"a change") {
            Ok(applying) => {
                page.change(epoch);
                drop(applying);
                return epoch;
            }
            Err(AppendError::EpochChanged) => epoch += 1,
            Err(other) => panic!("{other}"),
        }
    }
}

/// One applier applies once, and main flips.
fn one_applier(reached: &Reached) {
    let (journal, page) = (Journal::new(), Arc::new(Page::default()));
    let applier = {
        let (journal, page) = (journal.clone(), Arc::clone(&page));
        thread::spawn(move || apply(&journal, &page))
    };
    let flip = journal.log.flip();
    if flip.last_sequence == 1 {
        journal.desk.drive(journal.log.quiesced(flip.closed_epoch));
        assert_eq!(page.changes(), [1, 0], "the cut is not exact");
        reached.now();
    }
    assert_eq!(flip.closed_epoch, EPOCH);
    let epoch = applier.join().unwrap();
    assert_eq!(epoch, EPOCH + u64::from(flip.last_sequence == 0), "the cut is not exact");
}

/// Two appliers of two pages; whoever is counted for the closed epoch is waited for.
fn two_appliers() {
    let journal = Journal::new();
    let appliers = [(), ()].map(|()| {
        let (journal, page) = (journal.clone(), Arc::new(Page::default()));
        let applier = {
            let page = Arc::clone(&page);
            thread::spawn(move || apply(&journal, &page))
        };
        (applier, page)
    });
    let flip = journal.log.flip();
    journal.desk.drive(journal.log.quiesced(flip.closed_epoch));
    let epochs = appliers.map(|(applier, _)| applier.join().unwrap());
    let closed = epochs.iter().filter(|epoch| **epoch == EPOCH).count();
    assert_eq!(closed as u64, flip.last_sequence, "the cut is not exact");
}

/// A change of structure, which has no record: main sees it, or it was refused.
fn structure(reached: &Reached) {
    let (journal, page) = (Journal::new(), Arc::new(Page::default()));
    let applier = {
        let (journal, page) = (journal.clone(), Arc::clone(&page));
        thread::spawn(move || {
            let applying = journal.log.try_enter(EPOCH);
            if applying.is_some() {
                page.change(EPOCH);
            }
            applying.is_some()
        })
    };
    let flip = journal.log.flip();
    journal.desk.drive(journal.log.quiesced(flip.closed_epoch));
    let seen = page.changes()[0];
    let entered = applier.join().unwrap();
    assert_eq!(seen, u64::from(entered), "a change came after its epoch was closed");
    if entered {
        reached.now();
    }
}

mod holds {
    use super::*;

    #[test]
    fn whoever_applied_in_a_closed_epoch_has_finished() {
        explore_reaching(PREEMPTIONS, one_applier);
    }

    #[test]
    fn the_cut_is_exact() {
        explore(3, two_appliers);
    }

    #[test]
    fn a_change_of_structure_is_seen_or_refused() {
        explore_reaching(PREEMPTIONS, structure);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    #[test]
    #[should_panic(expected = "the cut is not exact")]
    fn an_applier_that_is_counted_late() {
        with(Bug::ApplierCountedLate, || explore_reaching(PREEMPTIONS, one_applier));
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn an_applier_that_looks_first() {
        with(Bug::ApplierLooksFirst, || explore_reaching(PREEMPTIONS, structure));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_last_applier_that_tells_nobody() {
        with(Bug::LastApplierIsSilent, || explore_reaching(PREEMPTIONS, one_applier));
    }
}
