//! In the place of `AtomicModification` (seed row T4): a batch latches all its leaves, left to right,
//! changes them, and lets go of each, in one synchronous step. With four preemptions.
//!
//! Protocol: I11's order (here: left before right), all latches before the first change, each
//! released when its leaf is changed. Checked:
//!
//! * two batches over the same two leaves never interleave: each finds both as one and the same
//!   batch left them, and leaves them so;
//! * a reader of both leaves that holds both latches, in the same order, sees whole batches only;
//! * nobody waits in a circle (a batch over one leaf only is in between).
//!
//! Planted: a batch that lets go of each leaf before it latches the next, and one that goes right
//! to left.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// What is planted in the model is used by `finds` only, and not every model is.
#![allow(dead_code)]
#![cfg_attr(treering_planted_bug, allow(unused_imports))]

use loom::cell::UnsafeCell;
use loom::thread;
use treering_latch::PhaseFair;
use treering_latch::sync::Arc;
use treering_loom_tests::{PREEMPTIONS, explore};

/// A leaf, and the batch that changed it last.
struct Leaf {
    latch: PhaseFair,
    batch: UnsafeCell<u32>,
}

// SAFETY: L1; `batch` is accessed under the latch only, and loom checks that this suffices.
unsafe impl Sync for Leaf {}

impl Leaf {
    /// With the latch held.
    fn get(&self) -> u32 {
        // SAFETY: L1, no writer but us is inside.
        self.batch.with(|batch| unsafe { *batch })
    }

    /// With the latch held exclusively.
    fn set(&self, to: u32) {
        // SAFETY: L1, exclusive.
        self.batch.with_mut(|batch| unsafe { *batch = to });
    }
}

type Leaves = Arc<[Leaf; 2]>;

fn leaves() -> Leaves {
    Arc::new([(), ()].map(|()| Leaf { latch: PhaseFair::new(), batch: UnsafeCell::new(0) }))
}

fn spawn(leaves: &Leaves, body: impl FnOnce(&[Leaf; 2]) + 'static) -> thread::JoinHandle<()> {
    let leaves = leaves.clone();
    thread::spawn(move || body(&leaves))
}

fn apply([left, right]: &[Leaf; 2], batch: u32) {
    let on_left = left.latch.write();
    let on_right = right.latch.write();
    assert_eq!(left.get(), right.get(), "two batches interleaved");
    left.set(batch);
    drop(on_left);
    right.set(batch);
    drop(on_right);
}

fn apply_leaf_by_leaf([left, right]: &[Leaf; 2], batch: u32) {
    let before = {
        let _guard = left.latch.write();
        let before = left.get();
        left.set(batch);
        before
    };
    let _guard = right.latch.write();
    assert_eq!(before, right.get(), "two batches interleaved");
    right.set(batch);
}

/// It tries for the second one and looks: threads that do wait for each other hold guards, which
/// loom cannot unwind.
fn apply_right_to_left([left, right]: &[Leaf; 2]) {
    let _on_right = right.latch.write();
    let in_the_way = left.latch.try_write().is_none();
    let waits_for_us = right.latch.waiting() == (0, 1);
    assert!(!(in_the_way && waits_for_us), "each waits for the other");
}

fn two_batches(apply: fn(&[Leaf; 2], u32)) {
    let leaves = leaves();
    let other = spawn(&leaves, move |leaves| apply(leaves, 1));
    apply(&leaves, 2);
    other.join().unwrap();
    let _guards = leaves.each_ref().map(|leaf| leaf.latch.read());
    let end = leaves[0].get();
    assert!(end == leaves[1].get() && end != 0, "two batches interleaved");
}

/// Main looks at both leaves; another batch is over the right leaf alone and changes nothing that
/// would show.
fn batch_and_reader() {
    let leaves = leaves();
    let batch = spawn(&leaves, |leaves| apply(leaves, 1));
    let small = spawn(&leaves, |[_, right]| drop(right.latch.write()));
    {
        let [left, right] = &*leaves;
        let _on_left = left.latch.read();
        let _on_right = right.latch.read();
        assert_eq!(left.get(), right.get(), "half of a batch was seen");
    }
    batch.join().unwrap();
    small.join().unwrap();
}

fn against_the_order() {
    let leaves = leaves();
    let other = spawn(&leaves, |leaves| apply(leaves, 1));
    apply_right_to_left(&leaves);
    other.join().unwrap();
}

mod holds {
    use super::*;

    #[test]
    fn t4_two_batches_over_the_same_leaves_never_interleave() {
        explore(PREEMPTIONS, || two_batches(apply));
    }

    #[test]
    fn t4_who_looks_at_all_leaves_sees_whole_batches() {
        explore(PREEMPTIONS, batch_and_reader);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;

    #[test]
    #[should_panic(expected = "two batches interleaved")]
    fn a_batch_leaf_by_leaf() {
        explore(PREEMPTIONS, || two_batches(apply_leaf_by_leaf));
    }

    #[test]
    #[should_panic(expected = "each waits for the other")]
    fn a_batch_from_right_to_left() {
        explore(PREEMPTIONS, against_the_order);
    }
}
