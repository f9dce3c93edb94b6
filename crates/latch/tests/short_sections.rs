//! What stands for a spin latch with `try` (seed row T3): `sync::Mutex`, around the short inner
//! sections of the latches. Its model is in `loom-tests/`.
#![cfg(not(treering_loom))]
#![allow(clippy::unwrap_used)]

use std::sync::Barrier;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use treering_latch::sync::Mutex;

/// Four times as many threads as a small machine has cores: holders lose their processor inside,
/// which is where a latch that only spins falls over.
const THREADS: u64 = 16;
const ROUNDS: u64 = if cfg!(miri) { 10 } else { 10_000 };

#[test]
fn t3_short_sections_exclude_each_other_on_a_crowded_machine() {
    // Two numbers that are equal outside.
    let section = Mutex::new((0_u64, 0_u64));
    let tried = AtomicU64::new(0);
    let start = Barrier::new(THREADS as usize);
    let bump = |pair: &mut (u64, u64), round: u64| {
        assert_eq!(pair.0, pair.1, "somebody is inside");
        pair.0 += 1;
        if round.is_multiple_of(512) {
            thread::yield_now();
        }
        pair.1 += 1;
    };
    thread::scope(|s| {
        for thread in 0..THREADS {
            let (section, tried, start) = (&section, &tried, &start);
            s.spawn(move || {
                start.wait();
                for round in 0..ROUNDS {
                    if (round + thread) % 2 == 0 {
                        bump(&mut section.lock(), round);
                    } else if let Some(mut pair) = section.try_lock() {
                        bump(&mut pair, round);
                        tried.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    let insisted = THREADS * ROUNDS / 2;
    assert_eq!(section.lock().0, insisted + tried.into_inner());
}

#[test]
fn t3_try_says_no_at_once_and_leaves_no_trace() {
    let section = Mutex::new(());
    {
        let _inside = section.lock();
        let refused = thread::scope(|s| s.spawn(|| section.try_lock().is_none()).join().unwrap());
        assert!(refused);
    }
    assert!(section.try_lock().is_some());
}

#[test]
fn t3_a_panic_inside_answers_nobody_else_with_a_panic() {
    let section = Mutex::new(1);
    let panicked = thread::scope(|s| {
        s.spawn(|| {
            let _inside = section.lock();
            std::panic::resume_unwind(Box::new("inside"));
        })
        .join()
    });
    assert!(panicked.is_err());
    assert_eq!(section.try_lock().map(|value| *value), Some(1));
    assert_eq!(*section.lock(), 1);
}
