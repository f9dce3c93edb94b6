//! The latch on real threads: what loom cannot reach, which is many threads, many rounds, real
//! parking and the processor's own reordering. The protocols themselves are model-checked in
//! `loom-tests/`.
#![cfg(not(treering_loom))]

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use treering_latch::PhaseFair;

/// More threads than cores, so that holders are preempted and waiters do park.
const THREADS: usize = 8;
const ROUNDS: u64 = if cfg!(miri) { 33 } else { 20_000 };

#[test]
fn latches_may_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<PhaseFair>();
}

#[test]
fn the_state_of_a_latch_shows_in_what_try_says() {
    let latch = PhaseFair::new();
    {
        let _one = latch.try_read().unwrap();
        let _two = latch.try_read().unwrap();
        assert!(latch.try_write().is_none());
    }
    {
        let _only = latch.try_write().unwrap();
        assert!(latch.try_read().is_none());
        assert!(latch.try_write().is_none());
    }
    drop(latch.write());
    drop(latch.read());
    assert!(latch.try_write().is_some(), "failed attempts left something behind");
}

#[test]
fn only_writes_move_the_version() {
    let latch = PhaseFair::new();
    let before = latch.optimistic().unwrap();
    drop(latch.read());
    drop(latch.try_read());
    assert!(latch.validate(before));
    {
        let _reader = latch.read();
        assert!(latch.try_write().is_none());
        assert!(latch.validate(before), "a try_write that failed moved the version");
    }
    {
        let _writer = latch.write();
        assert_eq!(latch.optimistic(), None);
        assert!(!latch.validate(before));
    }
    assert!(!latch.validate(before));
    let after = latch.optimistic().unwrap();
    assert_ne!(before, after);
    assert!(latch.validate(after));
}

#[test]
fn a_panic_inside_releases() {
    let latch = PhaseFair::new();
    let panicked = thread::scope(|s| {
        s.spawn(|| {
            let _writer = latch.write();
            std::panic::resume_unwind(Box::new("inside"));
        })
        .join()
    });
    assert!(panicked.is_err());
    assert!(latch.try_write().is_some());
}

/// Now and then, with the latch held: others run into it and park, on one core as well.
fn dawdle(round: u64) {
    if round.is_multiple_of(32) {
        thread::yield_now();
    }
}

/// L1. `pair` is incremented with separate loads and stores, which only exclusion makes exact.
#[test]
fn t1_writers_exclude_each_other_and_readers() {
    let latch = PhaseFair::new();
    let pair = [AtomicU64::new(0), AtomicU64::new(0)];
    let (written, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Barrier::new(THREADS);
    thread::scope(|s| {
        for thread in 0..THREADS as u64 {
            let (latch, pair, written, refused) = (&latch, &pair, &written, &refused);
            let start = &start;
            s.spawn(move || {
                start.wait();
                let (mut mine, mut no) = (0, 0);
                for round in 0..ROUNDS {
                    match (round + thread) % 5 {
                        0 => {
                            let _guard = latch.write();
                            bump(pair);
                            dawdle(round);
                            mine += 1;
                        }
                        1 => {
                            if let Some(_guard) = latch.try_write() {
                                bump(pair);
                                mine += 1;
                            } else {
                                no += 1;
                            }
                        }
                        2 => {
                            if let Some(_guard) = latch.try_read() {
                                assert_eq!(pair[0].load(Relaxed), pair[1].load(Relaxed));
                            }
                        }
                        _ => {
                            let _guard = latch.read();
                            dawdle(round);
                            assert_eq!(pair[0].load(Relaxed), pair[1].load(Relaxed));
                        }
                    }
                }
                written.fetch_add(mine, Relaxed);
                refused.fetch_add(no, Relaxed);
            });
        }
    });
    let written = written.load(Relaxed);
    assert!(written >= THREADS as u64 * ROUNDS / 5);
    assert_eq!(pair[0].load(Relaxed), written);
    assert_eq!(pair[1].load(Relaxed), written);
    assert!(refused.into_inner() > 0, "nobody ran into anybody: this tested nothing");
    assert_eq!(latch.waiting(), (0, 0));
}

fn bump(pair: &[AtomicU64; 2]) {
    for word in pair {
        word.store(word.load(Relaxed) + 1, Relaxed);
    }
}

/// L4. Each writer fills a page's worth of words with one number; a validated copy has one number.
#[test]
fn an_optimistic_reader_never_believes_a_torn_page() {
    const WORDS: usize = 64;
    let latch = PhaseFair::new();
    let page: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    let start = Barrier::new(4);
    thread::scope(|s| {
        let writers: Vec<_> = (0..2)
            .map(|_| {
                s.spawn(|| {
                    start.wait();
                    for round in 0..ROUNDS {
                        let _guard = latch.write();
                        let next = page[0].load(Relaxed) + 1;
                        let (first, second) = page.split_at(WORDS / 2);
                        first.iter().for_each(|word| word.store(next, Relaxed));
                        dawdle(round);
                        second.iter().for_each(|word| word.store(next, Relaxed));
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            s.spawn(|| {
                start.wait();
                let mut last = 0;
                while !done.load(Relaxed) {
                    let Some(version) = latch.optimistic() else { continue };
                    let copy: Vec<u64> = page.iter().map(|word| word.load(Relaxed)).collect();
                    if latch.validate(version) {
                        assert!(copy.iter().all(|&word| word == copy[0]), "torn: {copy:?}");
                        assert!(copy[0] >= last, "a page went back in time");
                        last = copy[0];
                    }
                }
            });
        }
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Relaxed);
    });
    assert_eq!(page[WORDS - 1].load(Relaxed), 2 * ROUNDS);
}

/// L2, with waiters that are known to wait: one writer inside, then W1, R1, R2, W2 in this order.
/// The readers come after one writer (the one inside), together, and before W1.
#[test]
fn t1_readers_and_writers_alternate_and_writers_keep_their_order() {
    let latch = PhaseFair::new();
    let entered = Mutex::new(Vec::new());
    let both_inside = Barrier::new(2);
    thread::scope(|s| {
        let inside = latch.write();
        let write = |name| {
            let _guard = latch.write();
            entered.lock().unwrap().push(name);
        };
        let read = || {
            let _guard = latch.read();
            // Neither leaves before both are in.
            both_inside.wait();
            entered.lock().unwrap().push("reader");
        };
        s.spawn(move || write("first writer"));
        until_waiting(&latch, (0, 1));
        s.spawn(read);
        s.spawn(read);
        until_waiting(&latch, (2, 1));
        s.spawn(move || write("second writer"));
        until_waiting(&latch, (2, 2));
        drop(inside);
    });
    assert_eq!(*entered.lock().unwrap(), ["reader", "reader", "first writer", "second writer"]);
}

/// L2: a reader that comes while readers are inside and writers wait goes behind the first of these
/// writers and before the second, and a `try_read` says no. So it waits for one writer, however many
/// there are.
#[test]
fn t1_a_reader_waits_for_one_writer_at_most() {
    let latch = PhaseFair::new();
    let entered = Mutex::new(Vec::new());
    thread::scope(|s| {
        let inside = latch.read();
        let write = |name| {
            let _guard = latch.write();
            entered.lock().unwrap().push(name);
        };
        for (waiting, name) in (1..).zip(["first writer", "second writer", "third writer"]) {
            s.spawn(move || write(name));
            until_waiting(&latch, (0, waiting));
        }
        assert!(latch.try_read().is_none());
        s.spawn(|| {
            let _guard = latch.read();
            entered.lock().unwrap().push("reader");
        });
        until_waiting(&latch, (1, 3));
        drop(inside);
    });
    assert_eq!(
        *entered.lock().unwrap(),
        ["first writer", "reader", "second writer", "third writer"]
    );
}

fn until_waiting(latch: &PhaseFair, expected: (usize, usize)) {
    while latch.waiting() != expected {
        thread::yield_now();
    }
}

/// An executor may do nothing but park the thread until a waker unparks it. Waiting for a latch in the
/// middle of a poll once consumed the waker's token, and the executor slept for ever.
#[test]
fn a_wake_up_that_comes_while_waiting_for_a_latch_is_left_for_the_executor() {
    const FOR_EVER: Duration = Duration::from_secs(20);
    const ROUNDS: usize = if cfg!(miri) { 2 } else { 100 };
    const SPINS: usize = if cfg!(miri) { 200 } else { 20_000 };
    for _ in 0..ROUNDS {
        let (latch, held) = (PhaseFair::new(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let guard = latch.write();
                held.store(true, Relaxed);
                // Long enough for the reader to park.
                (0..SPINS).for_each(|_| std::hint::spin_loop());
                drop(guard);
            });
            while !held.load(Relaxed) {
                std::hint::spin_loop();
            }
            thread::current().unpark();
            drop(latch.read());
            let asleep = Instant::now();
            thread::park_timeout(FOR_EVER);
            assert!(asleep.elapsed() < FOR_EVER, "the wake-up was swallowed");
        });
    }
}
