//! L3: the `try_` forms beside waiters, with four preemptions.
//!
//! Protocol: `try_read` and `try_write` compare-and-swap the state word if nothing in it is in their
//! way, and otherwise change nothing. Checked:
//!
//! * the classic: one `try_read` and two writers. In a ticket or counter latch the reader counts
//!   itself in, looks, and counts itself out again; a writer that comes between waits for a reader
//!   that has left without telling. Here nobody may be left asleep, and no state may be undone;
//! * `try_write` beside a waiting writer and a reader: whether it fails or enters and leaves, the
//!   waiters enter;
//! * a failed `try_write` does not move the version, a failed `try_read` does not keep a writer out.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it.
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use loom::cell::UnsafeCell;
use loom::thread;
use treering_latch::PhaseFair;
use treering_latch::sync::Arc;
use treering_loom_tests::{PREEMPTIONS, explore};

struct Page {
    latch: PhaseFair,
    value: UnsafeCell<u32>,
}

// SAFETY: L1; `value` is accessed under the latch only, and loom checks that this suffices.
unsafe impl Sync for Page {}

impl Page {
    fn new() -> Arc<Self> {
        Arc::new(Self { latch: PhaseFair::new(), value: UnsafeCell::new(0) })
    }

    fn write(&self) {
        let _guard = self.latch.write();
        self.increment();
    }

    /// With the write latch held.
    fn increment(&self) {
        // SAFETY: L1, exclusive.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }

    /// With a latch held.
    fn value(&self) -> u32 {
        // SAFETY: L1, no writer is inside.
        self.value.with(|value| unsafe { *value })
    }
}

fn spawn<T: 'static>(
    page: &Arc<Page>,
    body: impl FnOnce(&Page) -> T + 'static,
) -> thread::JoinHandle<T> {
    let page = page.clone();
    thread::spawn(move || body(&page))
}

/// Afterwards the latch is as if the failed attempts had never been.
fn assert_free(page: &Page, writes: u32) {
    assert_eq!(page.latch.waiting(), (0, 0));
    {
        let _guard = page.latch.try_read().expect("somebody left a trace");
        assert_eq!(page.value(), writes, "a write was lost");
    }
    assert!(page.latch.try_write().is_some(), "somebody left a trace");
}

fn try_read_and_two_writers() {
    let page = Page::new();
    let writer = spawn(&page, Page::write);
    let reader = spawn(&page, |page| {
        if let Some(_guard) = page.latch.try_read() {
            assert!(page.value() <= 2);
        }
    });
    page.write();
    writer.join().unwrap();
    reader.join().unwrap();
    assert_free(&page, 2);
}

fn try_write_and_waiters() {
    let page = Page::new();
    let writer = spawn(&page, Page::write);
    let reader = spawn(&page, |page| {
        let _guard = page.latch.read();
        page.value();
    });
    let mut writes = 1;
    if let Some(_guard) = page.latch.try_write() {
        page.increment();
        writes += 1;
    }
    writer.join().unwrap();
    reader.join().unwrap();
    assert_free(&page, writes);
}

/// Main reads throughout, so every attempt to write fails.
fn failure_changes_nothing() {
    let page = Page::new();
    let inside = page.latch.read();
    let version = page.latch.optimistic().expect("no writer is inside");
    let attempts = spawn(&page, |page| page.latch.try_write().is_some());
    let reader = spawn(&page, |page| page.latch.try_read().is_some());
    assert!(!attempts.join().unwrap(), "a writer entered beside a reader");
    assert!(reader.join().unwrap(), "a failed try_write kept a reader out");
    assert!(page.latch.validate(version), "a failed try_write moved the version");
    drop(inside);
    assert_free(&page, 0);
}

mod holds {
    use super::*;

    #[test]
    fn one_try_read_and_two_writers() {
        explore(PREEMPTIONS, try_read_and_two_writers);
    }

    #[test]
    fn try_write_beside_a_waiting_writer_and_a_reader() {
        explore(PREEMPTIONS, try_write_and_waiters);
    }

    #[test]
    fn a_failed_attempt_changes_nothing() {
        explore(PREEMPTIONS, failure_changes_nothing);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    /// The hand-over meets a state that nobody inside accounts for.
    #[test]
    #[should_panic(expected = "a latch is handed over by the last one out")]
    fn a_try_read_that_leaves_a_trace() {
        with(Bug::TryReadLeavesTrace, || explore(PREEMPTIONS, try_read_and_two_writers));
    }

    #[test]
    #[should_panic(expected = "a failed try_write moved the version")]
    fn a_try_write_that_moves_the_version() {
        with(Bug::TryWriteMovesVersion, || explore(PREEMPTIONS, failure_changes_nothing));
    }
}
