//! L7: the six modes of a page latch (seed row T4) in the protocols that they are for, with four
//! preemptions.
//!
//! Checked, for a page and its parent:
//!
//! * **modes that exclude each other do**, and what was done inside is visible to the next one;
//! * **access and delete**: a descent takes `AccessIntent` to the child before it lets go of the
//!   parent; who deletes unlinks the child first and then takes `NodeDelete`. So nobody who has a
//!   pointer finds a page that was freed. And the order of modes matters: taking `NodeDelete` with
//!   `Write` held is a deadlock, which a model has to find;
//! * **posting**: `ParentModification` is taken under the page's `Write` and kept while the parent
//!   is told. So the parent hears of two splits of one page in their order, while the page is read;
//! * **batches**: `AtomicModification` on all pages, left to right, makes steps on several pages one
//!   step for other batches, while readers go on;
//! * **sets are independent**: a batch goes on beside a posting;
//! * **all six together**, in the order of sets, lead neither into a deadlock nor to a freed page.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it, and not every bug is one of the latch.
#![allow(dead_code)]
#![cfg_attr(treering_planted_bug, allow(unused_imports))]

use loom::cell::UnsafeCell;
use loom::thread;
use treering_latch::sync::Arc;
use treering_latch::{Mode, PageLatch};
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};

/// A page: its latch, and one number.
struct Page {
    latch: PageLatch,
    value: UnsafeCell<u32>,
}

// SAFETY: L7; `value` is changed in `Write` and looked at in `Read` or `Write` (in `exclusion`: in the
// modes that it is about), and loom checks that this suffices.
unsafe impl Sync for Page {}

impl Page {
    fn new(value: u32) -> Self {
        Self { latch: PageLatch::new(), value: UnsafeCell::new(value) }
    }

    /// In a mode that keeps out whoever changes the value.
    fn get(&self) -> u32 {
        // SAFETY: the mode.
        self.value.with(|value| unsafe { *value })
    }

    /// In a mode that keeps out whoever looks at the value.
    fn set(&self, to: u32) {
        // SAFETY: the mode.
        self.value.with_mut(|value| unsafe { *value = to });
    }

    fn read(&self) -> u32 {
        let _guard = self.latch.enter(Mode::Read);
        self.get()
    }

    fn write(&self, to: u32) {
        let _guard = self.latch.enter(Mode::Write);
        self.set(to);
    }
}

/// A page and the one that points to it, or two neighbours.
type Pages = Arc<[Page; 2]>;

fn pages(values: [u32; 2]) -> Pages {
    Arc::new(values.map(Page::new))
}

fn spawn<T: 'static>(
    pages: &Pages,
    body: impl FnOnce(&[Page; 2]) -> T + 'static,
) -> thread::JoinHandle<T> {
    let pages = pages.clone();
    thread::spawn(move || body(&pages))
}

/// `exclusive` changes what `other` looks at, or changes as well.
fn exclusion(exclusive: Mode, other: Mode) {
    assert!(!exclusive.is_compatible(other));
    let pages = pages([0, 0]);
    let thread = spawn(&pages, move |[page, _]| {
        let _guard = page.latch.enter(other);
        let value = page.get();
        if !other.is_shared() {
            page.set(value + 1);
        }
    });
    {
        let _guard = pages[0].latch.enter(exclusive);
        pages[0].set(pages[0].get() + 1);
    }
    thread.join().unwrap();
    let _guard = pages[0].latch.try_enter(exclusive).expect("somebody left a trace");
    assert_eq!(pages[0].get(), 1 + u32::from(!other.is_shared()), "a change was lost");
}

/// What a parent or a page is, in the models of a delete.
const LINKED: u32 = 1;
const UNLINKED: u32 = 2;
const ALIVE: u32 = 3;
const FREED: u32 = 4;

/// Whether it came to the child.
fn descend([parent, child]: &[Page; 2]) -> bool {
    let on_parent = parent.latch.enter(Mode::Read);
    if parent.get() == UNLINKED {
        return false;
    }
    let intent = child.latch.enter(Mode::AccessIntent);
    drop(on_parent);
    let _on_child = child.latch.enter(Mode::Read);
    drop(intent);
    assert_eq!(child.get(), ALIVE, "a descent came to a page that was freed");
    true
}

fn delete([parent, child]: &[Page; 2]) {
    parent.write(UNLINKED);
    let _nobody_comes = child.latch.enter(Mode::NodeDelete);
    child.write(FREED);
}

/// Main deletes the page that a thread descends to.
fn access_and_delete(reached: &Reached) {
    let pages = pages([LINKED, ALIVE]);
    let descent = spawn(&pages, descend);
    delete(&pages);
    if descent.join().unwrap() {
        reached.now();
    }
}

/// The same with the modes of the child the wrong way round. (It tries, and looks: two threads that
/// do wait for each other hold guards, which loom cannot unwind.)
fn delete_with_write_held() {
    let pages = pages([LINKED, ALIVE]);
    let descent = spawn(&pages, descend);
    {
        let [parent, child] = &*pages;
        parent.write(UNLINKED);
        let _bytes = child.latch.enter(Mode::Write);
        let comes = child.latch.try_enter(Mode::NodeDelete).is_none();
        let waits_for_us = child.latch.waiting(Mode::Read) == 1;
        assert!(!(comes && waits_for_us), "each waits for the other");
    }
    descent.join().unwrap();
}

/// Main posts something of the child and then deletes it, beside a batch that comes down to it and has
/// it for two steps. All six modes, and each takes the child's in the order of sets.
fn all_six_modes(reached: &Reached) {
    let pages = pages([LINKED, ALIVE]);
    let batch = spawn(&pages, |[parent, child]| {
        let on_parent = parent.latch.enter(Mode::Read);
        if parent.get() == UNLINKED {
            return false;
        }
        let intent = child.latch.enter(Mode::AccessIntent);
        drop(on_parent);
        let _batch = child.latch.enter(Mode::AtomicModification);
        drop(intent);
        assert_eq!(child.read(), ALIVE, "a batch came to a page that was freed");
        let _bytes = child.latch.enter(Mode::Write);
        assert_eq!(child.get(), ALIVE, "a page was freed between two steps of a batch");
        child.set(ALIVE);
        true
    });
    {
        let [parent, child] = &*pages;
        let bytes = child.latch.enter(Mode::Write);
        let posting = child.latch.enter(Mode::ParentModification);
        drop(bytes);
        parent.write(LINKED);
        drop(posting);
        parent.write(UNLINKED);
        let _nobody_comes = child.latch.enter(Mode::NodeDelete);
        let _no_batch = child.latch.enter(Mode::AtomicModification);
        child.write(FREED);
    }
    if batch.join().unwrap() {
        reached.now();
    }
}

/// Splits the page, which counts its splits, and posts that one in the parent, which counts postings.
fn split_and_post([parent, page]: &[Page; 2]) {
    let write = page.latch.enter(Mode::Write);
    let split = page.get() + 1;
    page.set(split);
    let _posting = page.latch.enter(Mode::ParentModification);
    drop(write);
    let _on_parent = parent.latch.enter(Mode::Write);
    assert_eq!(parent.get() + 1, split, "the parent heard of a later split first");
    parent.set(split);
}

fn postings_in_order() {
    let pages = pages([0, 0]);
    let other = spawn(&pages, split_and_post);
    split_and_post(&pages);
    other.join().unwrap();
    assert_eq!((pages[0].read(), pages[1].read()), (2, 2));
}

/// Main posts a split and waits for somebody who reads the page meanwhile.
fn reading_beside_a_posting() {
    let pages = pages([0, 1]);
    let posting = pages[1].latch.enter(Mode::ParentModification);
    let reader = spawn(&pages, |[_, page]| page.read());
    assert_eq!(reader.join().unwrap(), 1);
    drop(posting);
}

/// Each batch takes several steps over both pages; whether it comes second is told by the first page.
fn batch([left, right]: &[Page; 2], own: u32) {
    let _on_left = left.latch.enter(Mode::AtomicModification);
    let _on_right = right.latch.enter(Mode::AtomicModification);
    assert_eq!(left.read(), right.read(), "two batches interleaved");
    left.write(own);
    right.write(own);
}

fn batches_over_two_pages() {
    let pages = pages([0, 0]);
    let other = spawn(&pages, |pages| batch(pages, 1));
    batch(&pages, 2);
    other.join().unwrap();
    let end = pages[0].read();
    assert!(end == pages[1].read() && end != 0, "two batches interleaved");
}

/// Main posts a split of the page, which is nothing to a batch that wants the page meanwhile.
fn batch_beside_a_posting() {
    let pages = pages([0, 0]);
    let posting = pages[1].latch.enter(Mode::ParentModification);
    let other = spawn(&pages, |[_, page]| {
        let batch = page.latch.try_enter(Mode::AtomicModification);
        assert!(batch.is_some(), "a posting keeps a batch out");
        page.write(1);
    });
    other.join().unwrap();
    drop(posting);
    assert_eq!(pages[1].read(), 1);
}

mod holds {
    use super::*;

    #[test]
    fn t4_modes_of_one_set_exclude_each_other() {
        for exclusive in Mode::ALL {
            for other in Mode::ALL {
                if !exclusive.is_shared() && !exclusive.is_compatible(other) {
                    explore(PREEMPTIONS, move || exclusion(exclusive, other));
                }
            }
        }
    }

    #[test]
    fn t4_who_has_a_pointer_finds_no_page_that_was_freed() {
        explore_reaching(PREEMPTIONS, access_and_delete);
    }

    #[test]
    fn t4_all_six_modes_go_together() {
        explore_reaching(PREEMPTIONS, all_six_modes);
    }

    #[test]
    fn t4_the_parent_hears_of_splits_in_their_order() {
        explore(PREEMPTIONS, postings_in_order);
    }

    #[test]
    fn t4_a_page_is_read_while_its_split_is_posted() {
        explore(PREEMPTIONS, reading_beside_a_posting);
    }

    #[test]
    fn t4_batches_over_the_same_pages_do_not_interleave() {
        explore(PREEMPTIONS, batches_over_two_pages);
    }

    #[test]
    fn t4_a_batch_goes_on_beside_a_posting() {
        explore(PREEMPTIONS, batch_beside_a_posting);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    #[test]
    #[should_panic(expected = "a descent came to a page that was freed")]
    fn a_delete_that_does_not_wait_for_those_on_the_way() {
        with(Bug::DeleteIsMereIntent, || explore_reaching(PREEMPTIONS, access_and_delete));
    }

    #[test]
    #[should_panic(expected = "a batch came to a page that was freed")]
    fn a_delete_that_does_not_wait_for_a_batch_on_the_way() {
        with(Bug::DeleteIsMereIntent, || explore_reaching(PREEMPTIONS, all_six_modes));
    }

    #[test]
    #[should_panic(expected = "each waits for the other")]
    fn a_delete_in_the_wrong_order() {
        explore(PREEMPTIONS, delete_with_write_held);
    }

    #[test]
    #[should_panic(expected = "the parent heard of a later split first")]
    fn postings_that_pass_each_other() {
        with(Bug::PostingsShareAPage, || explore(PREEMPTIONS, postings_in_order));
    }

    #[test]
    #[should_panic(expected = "two batches interleaved")]
    fn batches_that_share_a_page() {
        with(Bug::BatchesShareAPage, || explore(PREEMPTIONS, batches_over_two_pages));
    }

    #[test]
    #[should_panic(expected = "a posting keeps a batch out")]
    fn a_batch_that_waits_for_a_posting() {
        with(Bug::OneTicketForTwoSets, || explore(PREEMPTIONS, batch_beside_a_posting));
    }
}
