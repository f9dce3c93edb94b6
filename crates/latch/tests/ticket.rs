//! The ticket latch on real threads and beneath real wakers (seed row T2). The protocol itself is
//! model-checked in `loom-tests/`.
#![cfg(not(treering_loom))]
#![allow(clippy::unwrap_used)]

use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use treering_latch::{TaskGuard, Ticket, Turn};

/// More threads than cores, so that holders are preempted and waiters do park.
const THREADS: u64 = 8;
const ROUNDS: u64 = if cfg!(miri) { 33 } else { 10_000 };

/// Polls until it is ready, and parks the thread meanwhile: the smallest executor.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Woken {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn times(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn poll<'a>(self: &Arc<Self>, turn: &mut Turn<'a>) -> Poll<TaskGuard<'a>> {
        let waker = Waker::from(self.clone());
        Pin::new(turn).poll(&mut Context::from_waker(&waker))
    }
}

#[test]
fn tickets_may_be_shared_and_a_task_may_take_its_turn_along() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Ticket>();
    sent::<Turn<'_>>();
    sent::<TaskGuard<'_>>();
}

/// A counter is incremented by separate loads and stores, which only exclusion makes exact. All
/// three forms of entering are mixed.
#[test]
fn t2_whoever_is_inside_is_alone() {
    let (latch, counter) = (Ticket::new(), AtomicU64::new(0));
    let (entered, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Barrier::new(THREADS as usize);
    let bump = |round: u64| {
        let before = counter.load(Relaxed);
        if round.is_multiple_of(32) {
            thread::yield_now();
        }
        counter.store(before + 1, Relaxed);
        entered.fetch_add(1, Relaxed);
    };
    thread::scope(|s| {
        for thread in 0..THREADS {
            let (latch, refused, start) = (&latch, &refused, &start);
            s.spawn(move || {
                start.wait();
                for round in 0..ROUNDS {
                    match (round + thread) % 3 {
                        0 => {
                            let _guard = latch.enter();
                            bump(round);
                        }
                        1 => {
                            let _guard = block_on(latch.enter_async());
                            bump(round);
                        }
                        _ => match latch.try_enter() {
                            Some(_guard) => bump(round),
                            None => _ = refused.fetch_add(1, Relaxed),
                        },
                    }
                }
            });
        }
    });
    assert_eq!(counter.into_inner(), entered.load(Relaxed), "two were inside");
    assert_eq!(entered.into_inner() + refused.load(Relaxed), THREADS * ROUNDS);
    assert!(refused.into_inner() > 0, "nobody ran into anybody: this tested nothing");
    assert_eq!(latch.waiting(), 0);
    assert!(latch.try_enter().is_some());
}

/// Threads and tasks in one line, each known to wait before the next one comes.
#[test]
fn t2_first_come_first_served_whether_thread_or_task() {
    let latch = Ticket::new();
    let served = Mutex::new(Vec::new());
    let serve = |name| served.lock().unwrap().push(name);
    thread::scope(|s| {
        let inside = latch.enter();
        for name in 0..6 {
            let latch = &latch;
            s.spawn(move || {
                if name % 2 == 0 {
                    let _guard = latch.enter();
                    serve(name);
                } else {
                    let _guard = block_on(latch.enter_async());
                    serve(name);
                }
            });
            while latch.waiting() != name + 1 {
                thread::yield_now();
            }
        }
        assert!(latch.try_enter().is_none());
        drop(inside);
    });
    assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn t2_who_waits_and_gives_up_leaves_the_line() {
    let (latch, woken) = (Ticket::new(), Woken::new());
    let inside = latch.enter();
    let (mut first, mut second) = (latch.enter_async(), latch.enter_async());
    assert!(woken.poll(&mut first).is_pending());
    assert!(woken.poll(&mut second).is_pending());
    assert_eq!(latch.waiting(), 2);
    drop(first);
    assert_eq!(latch.waiting(), 1);
    drop(inside);
    assert_eq!(woken.times(), 1, "the second one's turn, and nobody else's");
    assert!(woken.poll(&mut second).is_ready(), "the guard is dropped at once");
    assert!(latch.try_enter().is_some());
}

#[test]
fn t2_a_turn_that_has_come_and_is_dropped_passes_on() {
    let latch = Ticket::new();
    let (one, two) = (Woken::new(), Woken::new());
    let inside = latch.enter();
    let (mut first, mut second) = (latch.enter_async(), latch.enter_async());
    assert!(one.poll(&mut first).is_pending());
    assert!(two.poll(&mut second).is_pending());
    drop(inside);
    assert_eq!((one.times(), two.times()), (1, 0));
    assert!(latch.try_enter().is_none(), "it belongs to the first, polled or not");
    drop(first);
    assert_eq!(two.times(), 1);
    drop(second);
    assert!(latch.try_enter().is_some(), "the last one that did not want it leaves it free");
}

#[test]
fn t2_everybody_gives_up_and_the_latch_is_as_new() {
    let (latch, woken) = (Ticket::new(), Woken::new());
    let inside = latch.enter();
    let mut turn = latch.enter_async();
    assert!(woken.poll(&mut turn).is_pending());
    drop(turn);
    // Never polled: it was never in line.
    drop(latch.enter_async());
    drop(inside);
    assert_eq!((woken.times(), latch.waiting()), (0, 0));
    assert!(latch.try_enter().is_some());
}

#[test]
fn t2_a_task_that_moves_is_woken_where_it_is() {
    let latch = Ticket::new();
    let (before, after) = (Woken::new(), Woken::new());
    let inside = latch.enter();
    let mut turn = latch.enter_async();
    assert!(before.poll(&mut turn).is_pending());
    assert!(after.poll(&mut turn).is_pending());
    assert_eq!(Arc::strong_count(&before), 1, "the waker that is no use any more is gone");
    drop(inside);
    assert_eq!((before.times(), after.times()), (0, 1));
    assert!(after.poll(&mut turn).is_ready());
}

/// The last reference to a waiting task may be the waker that the line gives back: dropping it drops
/// the task, and its place in the same line.
#[test]
fn t2_a_waker_may_own_another_place_in_line() {
    struct Owner(#[allow(dead_code, reason = "kept for its drop")] Mutex<Option<Turn<'static>>>);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }
    let latch: &'static Ticket = Box::leak(Box::default());
    let inside = latch.enter();
    let mut owned = latch.enter_async();
    assert!(Woken::new().poll(&mut owned).is_pending());
    let owner = Waker::from(Arc::new(Owner(Mutex::new(Some(owned)))));
    let mut turn = latch.enter_async();
    assert!(Pin::new(&mut turn).poll(&mut Context::from_waker(&owner)).is_pending());
    drop(owner);
    assert_eq!(latch.waiting(), 2);
    assert!(Woken::new().poll(&mut turn).is_pending());
    assert_eq!(latch.waiting(), 1, "the owned place was given up with the waker");
    drop((turn, inside));
    assert!(latch.try_enter().is_some());
}

/// Turns that are dropped at random moments, beside threads that insist.
#[test]
fn t2_nobody_is_left_waiting_by_those_who_give_up() {
    let latch = Ticket::new();
    let entered = AtomicU64::new(0);
    thread::scope(|s| {
        for thread in 0..THREADS {
            let (latch, entered) = (&latch, &entered);
            s.spawn(move || {
                for round in 0..ROUNDS {
                    if thread % 2 == 0 {
                        let _guard = latch.enter();
                        entered.fetch_add(1, Relaxed);
                    } else {
                        let (woken, mut turn) = (Woken::new(), latch.enter_async());
                        for _look in 0..=round % 3 {
                            if woken.poll(&mut turn).is_ready() {
                                break;
                            }
                        }
                    }
                }
            });
        }
    });
    assert_eq!(entered.into_inner(), THREADS / 2 * ROUNDS);
    assert_eq!(latch.waiting(), 0);
    assert!(latch.try_enter().is_some());
}

#[test]
fn a_panic_inside_passes_the_latch_on() {
    let latch = Ticket::new();
    let panicked = thread::scope(|s| {
        s.spawn(|| {
            let _guard = latch.enter();
            std::panic::resume_unwind(Box::new("inside"));
        })
        .join()
    });
    assert!(panicked.is_err());
    assert!(latch.try_enter().is_some());
}

#[test]
#[should_panic(expected = "polled after it had completed")]
fn a_turn_is_not_polled_twice_for_the_same_guard() {
    let (latch, woken) = (Ticket::new(), Woken::new());
    let mut turn = latch.enter_async();
    assert!(woken.poll(&mut turn).is_ready());
    _ = woken.poll(&mut turn);
}
