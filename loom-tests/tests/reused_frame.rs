//! Reading without pin or latch while the page leaves its frame and another comes (I3, L4): the real
//! pool, with a word of loom's beside each frame that is stored to and loaded as the page's bytes are.
//!
//! Protocol: a reader loads the page's word, the version of the frame's latch and the word again,
//! reads the page through relaxed loads, and validates the version. Who empties the frame has claimed
//! it and moves the version, under the latch, for an instant; only then another page is read into the
//! frame or made in it. Checked, with four
//! preemptions, three for the new page, and two for the write:
//!
//! * what is validated is of the page that was asked for, never of the next one in its frame, be that
//!   one loaded, or made by another thread than the one that emptied the frame;
//! * beside a writer, an image on its way and the eviction after it, it is what the page was before
//!   or after the write.
//!
//! Planted: an eviction that does not move the version; a frame that is taken from the empty ones
//! without a fence.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it.
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;
use treering_bufpool::Read;
use treering_loom_tests::bench::{Bench, original};
use treering_loom_tests::{PREEMPTIONS, Reached, explore_reaching};
use treering_pagefile::{PageId, Room};

const CHANGED: u64 = 11;
const MADE: u64 = 40;

/// A thread that looks at page 1 once.
fn reader(bench: &Bench, reached: &Reached, may_be: [u64; 2]) -> thread::JoinHandle<()> {
    let (bench, reached) = (bench.clone(), reached.clone());
    thread::spawn(move || {
        if let Read::Done(value) = bench.look(1) {
            assert!(may_be.contains(&value), "what was validated is of another page: {value}");
            reached.now();
        }
    })
}

/// Main has page 3 loaded, for which there is only page 1's frame.
fn reader_and_eviction(reached: &Reached) {
    let bench = Bench::new(2, 3, 1);
    bench.load([1, 2]);
    let pinned = bench.pool.try_pin_owned(PageId(2)).unwrap();
    bench.desk.begin();
    let reader = reader(&bench, reached, [original(1); 2]);
    assert_eq!(bench.desk.drive(bench.get(3)), original(3));
    reader.join().unwrap();
    drop(pinned);
}

/// Main changes the page, has it written and then evicted.
fn reader_and_writer_and_eviction(reached: &Reached) {
    let bench = Bench::new(2, 3, 1);
    bench.load([1, 2]);
    let pinned = bench.pool.try_pin_owned(PageId(2)).unwrap();
    bench.desk.begin();
    let reader = reader(&bench, reached, [original(1), CHANGED]);
    bench.write(1, CHANGED, 1);
    bench.desk.drive(bench.pool.write_epoch(1)).unwrap();
    assert_eq!(bench.desk.drive(bench.get(3)), original(3));
    reader.join().unwrap();
    drop(pinned);
}

/// Main frees the page, and another thread makes a new one in its frame.
fn reader_and_new_page(reached: &Reached) {
    let bench = Bench::new(2, 2, 1);
    bench.load([1, 2]);
    let pinned = bench.pool.try_pin_owned(PageId(2)).unwrap();
    let reader = reader(&bench, reached, [original(1); 2]);
    if let Ok(doomed) = bench.pin(1).write().doom(1) {
        doomed.free(1);
        let bench = bench.clone();
        let maker = thread::spawn(move || {
            let new = bench.pool.try_new_page(Room::Growing).unwrap();
            bench.desk.beside(new.words().as_ptr().cast()).store(MADE, Relaxed);
            new.publish(1);
        });
        maker.join().unwrap();
    }
    reader.join().unwrap();
    drop(pinned);
}

mod holds {
    use super::*;

    #[test]
    fn the_next_page_in_a_frame_is_not_taken_for_the_last() {
        explore_reaching(PREEMPTIONS, reader_and_eviction);
    }

    #[test]
    fn a_page_that_is_changed_written_and_evicted() {
        explore_reaching(2, reader_and_writer_and_eviction);
    }

    #[test]
    fn a_new_page_in_a_frame_is_not_taken_for_the_last() {
        explore_reaching(3, reader_and_new_page);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    #[test]
    #[should_panic(expected = "what was validated is of another page")]
    fn an_eviction_that_does_not_move_the_version() {
        with(Bug::EvictedWithoutLatch, || explore_reaching(PREEMPTIONS, reader_and_eviction));
    }

    #[test]
    #[should_panic(expected = "what was validated is of another page")]
    fn an_empty_frame_that_is_taken_without_a_fence() {
        with(Bug::EmptyFrameWithoutFence, || explore_reaching(3, reader_and_new_page));
    }
}
