//! Six modes in four sets (seed row T4): every pair of them, and all of them under load. The
//! protocols that they are for are model-checked in `loom-tests/`.
#![cfg(not(treering_loom))]
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Barrier, Mutex};
use std::thread;

use treering_latch::{Mode, PageLatch};

/// Who keeps out whom, as the seed has it: a line for each mode, in the order of `Mode::ALL`.
const COMPATIBLE: [&str; 6] = [
    //AI ND AM R W PM
    "+ - + + + +", // AccessIntent
    "- - + + + +", // NodeDelete
    "+ + - + + +", // AtomicModification
    "+ + + + - +", // Read
    "+ + + - - +", // Write
    "+ + + + + -", // ParentModification
];

fn expected(held: usize, wanted: usize) -> bool {
    COMPATIBLE[held].split(' ').nth(wanted) == Some("+")
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..6).flat_map(|held| (0..6).map(move |wanted| (held, wanted)))
}

#[test]
fn t4_each_pair_of_modes_excludes_or_not() {
    for (held, wanted) in pairs() {
        let (held_mode, wanted_mode) = (Mode::ALL[held], Mode::ALL[wanted]);
        let latch = PageLatch::new();
        let guard = latch.enter(held_mode);
        assert_eq!(guard.mode(), held_mode);
        let entered = latch.try_enter(wanted_mode);
        let context = format!("{wanted_mode:?} beside {held_mode:?}");
        assert_eq!(entered.is_some(), expected(held, wanted), "{context}");
        assert_eq!(held_mode.is_compatible(wanted_mode), expected(held, wanted), "{context}");
        drop((guard, entered));
        assert!(latch.try_enter(wanted_mode).is_some(), "{context}: a trace was left");
    }
}

/// The same for the form that waits: who is kept out is seen to wait, and enters in the end.
#[test]
fn t4_who_is_kept_out_enters_when_the_other_leaves() {
    for (held, wanted) in pairs() {
        let (held, compatible) = (Mode::ALL[held], expected(held, wanted));
        let wanted = Mode::ALL[wanted];
        let latch = PageLatch::new();
        let left = AtomicU64::new(0);
        thread::scope(|s| {
            let guard = latch.enter(held);
            let other = s.spawn(|| {
                let _guard = latch.enter(wanted);
                left.load(Relaxed)
            });
            if compatible {
                assert_eq!(other.join().unwrap(), 0, "{wanted:?} beside {held:?}");
                return;
            }
            while latch.waiting(wanted) == 0 {
                thread::yield_now();
            }
            left.store(1, Relaxed);
            drop(guard);
            assert_eq!(other.join().unwrap(), 1, "{wanted:?} entered beside {held:?}");
        });
    }
}

#[test]
fn t4_one_holder_takes_one_mode_of_each_set_at_once() {
    for (first, second) in [(Mode::AccessIntent, Mode::Read), (Mode::NodeDelete, Mode::Write)] {
        let latch = PageLatch::new();
        let all = [first, Mode::AtomicModification, second, Mode::ParentModification];
        assert!(all.is_sorted_by_key(|mode| mode.set()), "the order of latches");
        let guards = all.map(|mode| latch.enter(mode));
        for mode in Mode::ALL {
            let free = all.iter().all(|&held| held.is_compatible(mode));
            assert_eq!(latch.try_enter(mode).is_some(), free, "{mode:?} beside {all:?}");
        }
        drop(guards);
        assert!(Mode::ALL.iter().all(|&mode| latch.try_enter(mode).is_some()));
    }
}

/// Sets 2 and 4 serve in the order of arrival.
#[test]
fn t4_batches_and_postings_of_one_page_come_in_order() {
    for mode in [Mode::AtomicModification, Mode::ParentModification] {
        let latch = PageLatch::new();
        let served = Mutex::new(Vec::new());
        thread::scope(|s| {
            let inside = latch.enter(mode);
            for name in 0..4 {
                let (latch, served) = (&latch, &served);
                s.spawn(move || {
                    let _guard = latch.enter(mode);
                    served.lock().unwrap().push(name);
                });
                while latch.waiting(mode) != name + 1 {
                    thread::yield_now();
                }
            }
            drop(inside);
        });
        assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3], "{mode:?}");
    }
}

/// `Write` moves the version that optimistic readers look at; no other mode does.
#[test]
fn t4_only_write_moves_the_version() {
    for mode in Mode::ALL {
        let latch = PageLatch::new();
        let before = latch.bytes().optimistic().unwrap();
        drop(latch.enter(mode));
        drop(latch.try_enter(mode));
        assert_eq!(latch.bytes().validate(before), mode != Mode::Write, "{mode:?}");
    }
}

/// Each mode counts who is inside; who is not compatible sees a zero.
#[test]
fn t4_all_modes_at_once_on_many_threads() {
    const THREADS: usize = 8;
    const ROUNDS: usize = if cfg!(miri) { 12 } else { 6_000 };
    let latch = PageLatch::new();
    let inside: [AtomicU64; 6] = Default::default();
    let start = Barrier::new(THREADS);
    thread::scope(|s| {
        for thread in 0..THREADS {
            let (latch, inside, start) = (&latch, &inside, &start);
            s.spawn(move || {
                start.wait();
                for round in 0..ROUNDS {
                    let index = (round + thread) % 6;
                    let mode = Mode::ALL[index];
                    let guard = match round % 4 {
                        0 => latch.try_enter(mode),
                        _ => Some(latch.enter(mode)),
                    };
                    let Some(_guard) = guard else { continue };
                    inside[index].fetch_add(1, Relaxed);
                    if round.is_multiple_of(16) {
                        thread::yield_now();
                    }
                    for (other, count) in inside.iter().enumerate() {
                        let own = u64::from(other == index);
                        if !expected(index, other) {
                            assert_eq!(count.load(Relaxed), own, "{:?}", Mode::ALL[other]);
                        }
                    }
                    inside[index].fetch_sub(1, Relaxed);
                }
            });
        }
    });
    assert!(Mode::ALL.iter().all(|&mode| latch.waiting(mode) == 0));
    assert!(Mode::ALL.iter().all(|&mode| latch.try_enter(mode).is_some()));
}
