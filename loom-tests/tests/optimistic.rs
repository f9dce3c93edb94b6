//! L4: reading without the latch, against writers, with four preemptions and every value that the
//! memory model lets a relaxed load see.
//!
//! Protocol: take the version, load the data, validate the version. The writer makes the version
//! odd, stores the data, makes it even; the two fences between (see the header of `phase_fair.rs` in
//! the latch crate) are what this model is about. Checked:
//!
//! * a pair that two writers change together is never torn once validated;
//! * a reader that begins after it was told of a write sees that write;
//! * a reader that falls back to the latch gets the truth without validating.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it.
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use loom::thread;
use treering_latch::PhaseFair;
use treering_latch::sync::Arc;
use treering_latch::sync::atomic::AtomicU64;
use treering_latch::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};

struct Page {
    latch: PhaseFair,
    words: [AtomicU64; 2],
}

impl Page {
    fn new() -> Arc<Self> {
        Arc::new(Self { latch: PhaseFair::new(), words: [AtomicU64::new(0), AtomicU64::new(0)] })
    }

    /// Without loading first: that would hide races from loom (`README.md`).
    fn fill(&self, value: u64) {
        let _guard = self.latch.write();
        for word in &self.words {
            word.store(value, Relaxed);
        }
    }

    fn copy(&self) -> (u64, u64) {
        // The order against the writer's: a torn pair is seen if the version does not tell.
        let second = self.words[1].load(Relaxed);
        (self.words[0].load(Relaxed), second)
    }

    fn read_optimistically(&self) -> Option<(u64, u64)> {
        let version = self.latch.optimistic()?;
        let copy = self.copy();
        self.latch.validate(version).then_some(copy)
    }
}

/// Main reads twice beside one writer, or falls back to the latch.
fn reader_and_writer(reached: &Reached) {
    let page = Page::new();
    let writer = {
        let page = page.clone();
        thread::spawn(move || page.fill(1))
    };
    let before = page.read_optimistically();
    if before.is_none() {
        reached.now();
    }
    let (first, second) = before.unwrap_or_else(|| {
        let _guard = page.latch.read();
        page.copy()
    });
    assert_eq!(first, second, "a torn pair was validated");
    writer.join().unwrap();
    assert_eq!(page.read_optimistically(), Some((1, 1)), "a write that is over was not seen");
}

/// Two writers after each other or queueing: the version of the one must not pass for the other's.
fn reader_and_two_writers() {
    let page = Page::new();
    let writers = [1, 2].map(|value| {
        let page = page.clone();
        thread::spawn(move || page.fill(value))
    });
    if let Some((first, second)) = page.read_optimistically() {
        assert_eq!(first, second, "a torn pair was validated");
    }
    for writer in writers {
        writer.join().unwrap();
    }
    let end = page.read_optimistically();
    assert!(matches!(end, Some((1, 1) | (2, 2))), "a write that is over was not seen: {end:?}");
}

/// The writer leaves and then tells; who was told and validates has the new pair.
fn reader_that_was_told(reached: &Reached) {
    let page = Page::new();
    let told = Arc::new(AtomicU64::new(0));
    let writer = {
        let (page, told) = (page.clone(), told.clone());
        thread::spawn(move || {
            page.fill(1);
            told.store(1, Release);
        })
    };
    if told.load(Acquire) == 1 {
        reached.now();
        assert_eq!(page.read_optimistically(), Some((1, 1)), "a write that is over was not seen");
    }
    writer.join().unwrap();
}

mod holds {
    use super::*;

    #[test]
    fn a_validated_pair_is_whole() {
        explore_reaching(PREEMPTIONS, reader_and_writer);
    }

    #[test]
    fn a_validated_pair_is_whole_beside_two_writers() {
        explore(PREEMPTIONS, reader_and_two_writers);
    }

    #[test]
    fn a_write_that_is_over_is_seen() {
        explore_reaching(PREEMPTIONS, reader_that_was_told);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    #[test]
    #[should_panic(expected = "a torn pair was validated")]
    fn a_version_that_stays_even() {
        with(Bug::VersionStaysEven, || explore_reaching(PREEMPTIONS, reader_and_writer));
    }

    #[test]
    #[should_panic(expected = "a torn pair was validated")]
    fn a_writer_without_its_fence() {
        with(Bug::WriterWithoutFence, || explore_reaching(PREEMPTIONS, reader_and_writer));
    }

    #[test]
    #[should_panic(expected = "a torn pair was validated")]
    fn a_reader_without_its_fence() {
        with(Bug::ReaderWithoutFence, || explore_reaching(PREEMPTIONS, reader_and_writer));
    }
}
