//! Loads that several wait for (I1, I10), some of whom give up: the real pool and its load queue over
//! a disk whose requests end when loom says so. Four preemptions; three if
//! two wait to the end.
//!
//! Protocol: a load belongs to the pool. Who wants a page looks under the queue's mutex whether it has
//! a load already, joins it or makes one, and starts whatever has a frame. The completion takes the
//! load out of the queue and moves the page's word on under the same mutex, and then wakes all who
//! registered. A future that is dropped takes nothing along. Checked:
//!
//! * one read, however many want the page;
//! * whoever stays is woken, whoever gives up and when, also if that was the one who asked first;
//! * a load is known as long as its page is being loaded;
//! * what was given up blocks no frame: pages can be loaded afterwards.
//!
//! Planted: a completion that wakes the first who registered; a load that is forgotten before its
//! page's word has moved on.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it.
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use std::pin::Pin;
use std::task::{Context, Waker};

use loom::thread;
use treering_bufpool::Fetch;
use treering_loom_tests::bench::{Bench, original};
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};
use treering_pagefile::PageId;

fn poll_once(fetch: &mut Fetch) -> bool {
    Pin::new(fetch).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Two wait to the end.
fn two_wait() {
    let bench = Bench::new(2, 1, 1);
    bench.desk.begin();
    let other = {
        let bench = bench.clone();
        thread::spawn(move || assert_eq!(bench.desk.drive(bench.get(1)), original(1)))
    };
    assert_eq!(bench.desk.drive(bench.get(1)), original(1));
    other.join().unwrap();
    assert_eq!(bench.desk.counted().reads, 1, "a page was read twice");
}

/// Main asked first and gives up, at any moment; a thread waits to the end.
fn one_gives_up(reached: &Reached) {
    let bench = Bench::new(2, 3, 1);
    bench.desk.begin();
    let mut fetch = bench.pool.fetch(PageId(1));
    assert!(!poll_once(&mut fetch));
    let stays = {
        let (bench, reached) = (bench.clone(), reached.clone());
        thread::spawn(move || {
            let mut fetch = bench.pool.fetch(PageId(1));
            if !poll_once(&mut fetch) {
                reached.now();
            }
            bench.desk.drive(fetch).unwrap();
            assert_eq!(bench.desk.drive(bench.get(1)), original(1));
        })
    };
    bench.desk.moment();
    drop(fetch);
    stays.join().unwrap();
    assert_eq!(bench.desk.counted().reads, 1, "a page was read twice");
    for page in [2, 3] {
        assert_eq!(bench.desk.drive(bench.get(page)), original(page));
    }
}

/// Main has asked, and nobody but the disk goes on with it: a thread that was not asked for anything.
fn all_give_up() {
    let bench = Bench::new(2, 3, 1);
    bench.desk.begin();
    let mut fetch = bench.pool.fetch(PageId(1));
    assert!(!poll_once(&mut fetch));
    let disk = {
        let bench = bench.clone();
        thread::spawn(move || bench.desk.serve())
    };
    bench.desk.moment();
    drop(fetch);
    disk.join().unwrap();
    assert_eq!(bench.desk.drive(bench.get(1)), original(1));
    for page in [2, 3] {
        assert_eq!(bench.desk.drive(bench.get(page)), original(page));
    }
    assert_eq!(bench.desk.counted().reads, 3, "a load that was given up was lost");
}

mod holds {
    use super::*;

    #[test]
    fn a_page_that_two_want_is_read_once() {
        explore(3, two_wait);
    }

    #[test]
    fn who_stays_is_woken_whoever_gives_up() {
        explore_reaching(PREEMPTIONS, one_gives_up);
    }

    #[test]
    fn a_load_goes_on_when_all_have_given_up() {
        explore(PREEMPTIONS, all_give_up);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_load_that_wakes_the_first_only() {
        with(Bug::LoadWakesOne, || explore_reaching(PREEMPTIONS, one_gives_up));
    }

    #[test]
    #[should_panic(expected = "is being loaded, but by nobody")]
    fn a_load_that_is_forgotten_too_early() {
        with(Bug::LoadForgottenTooEarly, || explore(3, two_wait));
    }
}
