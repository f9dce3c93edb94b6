//! The page table and the frames (I3, I7, I10): pinning against loading, evicting, writing back and
//! freeing, with the real pool over a disk whose requests end when loom says so. Two frames, up to
//! four pages; four preemptions, or two where two threads and their loads are more than that allows.
//!
//! Protocol: pinning loads the page's word, counts itself in the frame's pins, and loads the word
//! again. Evicting sets the pins from 0 to claimed first, looks whether the page is clean, neither
//! changed nor on its way to disk, and only then changes the word. Freeing turns the one pin that there
//! is into a claim, under the page's latch. Only who has the claim may have something else read into
//! the frame. Checked:
//!
//! * who has a page pinned has that page, whatever is loaded beside it, and whoever wants it freed;
//! * a page that was changed is read again as it was changed: it is evicted only after its image has
//!   arrived;
//! * whoever waits for a page gets it, and the right one: loom reports a deadlock otherwise.
//!
//! Planted: a pin that does not look again; a clock that does not count pins; one that takes a page
//! whose image is on its way; a page that is freed whoever has it pinned.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it.
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use loom::thread;
use treering_bufpool::Read;
use treering_loom_tests::bench::{Bench, original};
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};
use treering_pagefile::{PageId, Room};

const CHANGED: u64 = 11;

/// Main has page 3 loaded into one of two frames; a thread pins page 1.
fn pin_beside_eviction(reached: &Reached) {
    let bench = Bench::new(2, 3, 1);
    bench.load([1, 2]);
    bench.desk.begin();
    let thread = {
        let (bench, reached) = (bench.clone(), reached.clone());
        thread::spawn(move || {
            if let Some(pin) = bench.pool.try_pin(PageId(1)) {
                let page = pin.read();
                assert_eq!(bench.value(page.words()), original(1), "a pinned page was evicted");
                reached.now();
            }
        })
    };
    assert_eq!(bench.desk.drive(bench.get(3)), original(3));
    thread.join().unwrap();
    for page in [1, 2] {
        assert_eq!(bench.desk.drive(bench.get(page)), original(page));
    }
}

/// Two want what is not there, each the other's frame.
fn two_loads() {
    let bench = Bench::new(2, 4, 1);
    bench.load([1, 2]);
    bench.desk.begin();
    let thread = {
        let bench = bench.clone();
        thread::spawn(move || assert_eq!(bench.desk.drive(bench.get(3)), original(3)))
    };
    assert_eq!(bench.desk.drive(bench.get(4)), original(4));
    thread.join().unwrap();
    assert_eq!(bench.desk.drive(bench.get(1)), original(1));
}

/// Page 1 was changed and is being written; main wants another page, for which there is only its
/// frame. Afterwards page 1 is wanted again.
fn written_before_it_is_evicted() {
    let bench = Bench::new(2, 3, 1);
    bench.load([1, 2]);
    let pinned = bench.pool.try_pin_owned(PageId(2)).unwrap();
    bench.write(1, CHANGED, 1);
    bench.desk.begin();
    let writer = {
        let bench = bench.clone();
        thread::spawn(move || bench.desk.drive(bench.pool.write_epoch(1)).unwrap())
    };
    assert_eq!(bench.desk.drive(bench.get(3)), original(3));
    writer.join().unwrap();
    assert_eq!(bench.desk.drive(bench.get(1)), CHANGED, "a change was lost");
    drop(pinned);
}

/// Main frees page 1 and makes a new page, for which there is only its frame, while a thread pins it.
fn freed_beside_a_pin(reached: &Reached) {
    let bench = Bench::new(2, 2, 1);
    bench.load([1, 2]);
    let pinned = bench.pool.try_pin_owned(PageId(2)).unwrap();
    let thread = {
        let (bench, reached) = (bench.clone(), reached.clone());
        thread::spawn(move || {
            if let Some(pin) = bench.pool.try_pin(PageId(1)) {
                let page = pin.write();
                assert_eq!(page.page(), PageId(1), "a pinned page was freed");
                reached.now();
            }
        })
    };
    let page = bench.pin(1).write();
    if let Ok(doomed) = page.doom(1) {
        doomed.free(1);
        let new = bench.pool.try_new_page(Room::Growing).unwrap();
        assert_ne!(new.id(), PageId(1), "an id is used again after the next checkpoint only");
        new.publish(1);
    }
    thread.join().unwrap();
    assert!(matches!(bench.look(1), Read::Free | Read::Done(10)));
    drop(pinned);
}

mod holds {
    use super::*;

    #[test]
    fn a_pinned_page_stays() {
        explore_reaching(PREEMPTIONS, pin_beside_eviction);
    }

    #[test]
    fn whoever_waits_for_a_page_gets_it() {
        explore(2, two_loads);
    }

    #[test]
    fn a_page_is_evicted_after_its_image_has_arrived() {
        explore(2, written_before_it_is_evicted);
    }

    #[test]
    fn a_pinned_page_is_not_freed() {
        explore_reaching(PREEMPTIONS, freed_beside_a_pin);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    #[test]
    #[should_panic(expected = "a pinned page was evicted")]
    fn a_pin_that_does_not_look_again() {
        with(Bug::PinBelievesFirstLook, || explore_reaching(PREEMPTIONS, pin_beside_eviction));
    }

    #[test]
    #[should_panic(expected = "a pinned page was evicted")]
    fn a_clock_that_does_not_count_pins() {
        with(Bug::PinNotCounted, || explore_reaching(PREEMPTIONS, pin_beside_eviction));
    }

    #[test]
    #[should_panic(expected = "an older image was found")]
    fn a_page_that_is_evicted_before_its_image_has_arrived() {
        with(Bug::VictimMayBeOnItsWay, || explore(2, written_before_it_is_evicted));
    }

    #[test]
    #[should_panic(expected = "a pinned page was freed")]
    fn a_page_that_is_freed_whoever_has_it_pinned() {
        with(Bug::FreedWhilePinned, || explore_reaching(PREEMPTIONS, freed_beside_a_pin));
    }
}
