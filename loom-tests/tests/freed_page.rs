//! In the place of `AccessIntent` and `NodeDelete` (seed row T4): a page that is freed under a descent
//! is noticed by who comes to it, and nobody announces that he will. With four preemptions.
//!
//! Protocol: a descent looks at one page at a time, without a latch, and holds nothing between two
//! looks. What it finds has to show that it is the page that was meant: its fences hold the key. A
//! merge latches left page, right page and parent, in this order, moves what the right page has to
//! the left one, takes the right one out of the parent and empties its fences, in one step. Later the
//! page begins another life with other fences. Checked:
//!
//! * a descent never believes that a key is missing which was there all along, wherever the merge
//!   and the next life overtake it;
//! * if it notices that it came to the wrong page and begins again, it finds the key.
//!
//! Planted: a descent that does not look at the fences, and a merge that lets go of the pages before
//! the parent has been told.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// What is planted in the model is used by `finds` only, and not every model is.
#![allow(dead_code)]
#![cfg_attr(treering_planted_bug, allow(unused_imports))]

use loom::thread;
use treering_latch::PhaseFair;
use treering_latch::sync::Arc;
use treering_latch::sync::atomic::AtomicU64;
use treering_latch::sync::atomic::Ordering::Relaxed;
use treering_loom_tests::{PREEMPTIONS, Reached, explore_reaching};

/// The key that is looked for, and that is there all along.
const KEY: u64 = 7;

/// A page: its latch, its fences (packed, `low << 8 | high`; `low` is included), and the one key that
/// is in it, or 0. As many atomics as the protocol needs: each costs the model.
struct Page {
    latch: PhaseFair,
    fences: AtomicU64,
    key: AtomicU64,
}

/// No key is between them.
const FREE: u64 = 0;

fn fences(low: u64, high: u64) -> u64 {
    low << 8 | high
}

/// What a look at a page says of [`KEY`].
#[derive(Debug, PartialEq)]
enum Look {
    Found,
    Missing,
    /// It is not between the fences.
    NotHere,
}

impl Page {
    fn new(fences: u64, key: u64) -> Self {
        Self { latch: PhaseFair::new(), fences: AtomicU64::new(fences), key: AtomicU64::new(key) }
    }

    fn look(&self, descent: Descent) -> Look {
        let fences = self.fences.load(Relaxed);
        let (low, high) = (fences >> 8, fences & 0xff);
        if descent == Descent::ChecksFences && !(low..high).contains(&KEY) {
            Look::NotHere
        } else if self.key.load(Relaxed) == KEY {
            Look::Found
        } else {
            Look::Missing
        }
    }

    /// With the latch held exclusively.
    fn fill(&self, fences: u64, key: u64) {
        self.fences.store(fences, Relaxed);
        self.key.store(key, Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Descent {
    ChecksFences,
    BelievesParent,
}

#[derive(Clone, Copy, PartialEq)]
enum Merge {
    InOneStep,
    TellsParentLater,
}

/// Two leaves, and a parent that says in which of them the key is.
struct Tree {
    leaves: [Page; 2],
    parent: PhaseFair,
    child: AtomicU64,
}

const LEFT: u64 = 0;
const RIGHT: u64 = 1;

impl Tree {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            leaves: [Page::new(fences(1, 5), 0), Page::new(fences(5, 9), KEY)],
            parent: PhaseFair::new(),
            child: AtomicU64::new(RIGHT),
        })
    }

    fn leaf(&self, leaf: u64) -> &Page {
        &self.leaves[leaf as usize]
    }

    /// The left leaf takes over, and the right one is freed.
    fn merge(&self, merge: Merge) {
        let left = self.leaf(LEFT).latch.write();
        let right = self.leaf(RIGHT).latch.write();
        self.leaf(LEFT).fill(fences(1, 9), KEY);
        self.leaf(RIGHT).fill(FREE, 0);
        // To the end of the step.
        let leaves = (merge == Merge::InOneStep).then_some((left, right));
        let parent = self.parent.write();
        self.child.store(LEFT, Relaxed);
        drop((parent, leaves));
    }

    /// The page that was freed comes to another place.
    fn reuse(&self) {
        let page = self.leaf(RIGHT);
        let _guard = page.latch.write();
        page.fill(fences(20, 30), 25);
    }

    /// Without latches; `None` if a writer was in the way.
    fn descend(&self, descent: Descent) -> Option<Look> {
        let version = self.parent.optimistic()?;
        let child = self.child.load(Relaxed);
        if !self.parent.validate(version) {
            return None;
        }
        let leaf = self.leaf(child);
        let version = leaf.latch.optimistic()?;
        let look = leaf.look(descent);
        leaf.latch.validate(version).then_some(look)
    }

    /// With shared latches, one at a time: the form that has an end for certain.
    fn descend_latched(&self) -> Look {
        let child = {
            let _guard = self.parent.read();
            self.child.load(Relaxed)
        };
        let leaf = self.leaf(child);
        let _guard = leaf.latch.read();
        leaf.look(Descent::ChecksFences)
    }
}

fn descent_beside_merge(reached: &Reached, descent: Descent, merge: Merge) {
    let tree = Tree::new();
    let merger = {
        let tree = tree.clone();
        thread::spawn(move || {
            tree.merge(merge);
            tree.reuse();
        })
    };
    match tree.descend(descent) {
        Some(Look::Missing) => panic!("a key that was there all along was not found"),
        Some(Look::NotHere) => {
            reached.now();
            assert_eq!(tree.descend_latched(), Look::Found, "beginning again leads nowhere");
        }
        Some(Look::Found) | None => {}
    }
    merger.join().unwrap();
    assert_eq!(tree.descend(Descent::ChecksFences), Some(Look::Found));
}

mod holds {
    use super::*;

    #[test]
    fn t4_a_page_that_is_freed_under_a_descent_is_noticed() {
        explore_reaching(PREEMPTIONS, |reached| {
            descent_beside_merge(reached, Descent::ChecksFences, Merge::InOneStep);
        });
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;

    #[test]
    #[should_panic(expected = "a key that was there all along was not found")]
    fn a_descent_that_does_not_look_at_the_fences() {
        explore_reaching(PREEMPTIONS, |reached| {
            descent_beside_merge(reached, Descent::BelievesParent, Merge::InOneStep);
        });
    }

    #[test]
    #[should_panic(expected = "beginning again leads nowhere")]
    fn a_merge_in_two_steps() {
        explore_reaching(PREEMPTIONS, |reached| {
            descent_beside_merge(reached, Descent::ChecksFences, Merge::TellsParentLater);
        });
    }
}
