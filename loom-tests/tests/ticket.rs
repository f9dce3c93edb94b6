//! L5 and L6: the ticket latch (seed row T2), whose line has threads and tasks in it, and in which
//! nobody has to stay.
//!
//! Protocol: who cannot enter draws a number and waits; who leaves takes the first one out of the
//! line and grants; a task that is dropped looks for its number, and if that is gone, the latch is
//! its own and is passed on. Checked, over all interleavings with four preemptions:
//!
//! * whoever is inside is alone, however it entered, and sees what was done inside before;
//! * who came first is served first;
//! * a task that gives up, at any moment, before its turn, during the grant or after it, keeps
//!   nobody out: loom reports a deadlock otherwise;
//! * a task is woken by the waker of its latest poll;
//! * `try_enter` does not pass anybody, and leaves no trace.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it.
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use std::pin::Pin;
use std::sync::atomic::{AtomicBool as StdBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::{Context, Wake, Waker};

use loom::cell::UnsafeCell;
use loom::future::block_on;
use loom::thread;
use treering_latch::{Ticket, Turn};
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};

/// A latch, what it protects, and the order of entering, which loom does not see. Nor does it see the
/// `Arc` around it: a thread that loom finds in a deadlock is unwound, and an `Arc` of loom's could not
/// be dropped then.
struct Desk {
    latch: Ticket,
    value: UnsafeCell<u32>,
    served: StdMutex<Vec<&'static str>>,
}

// SAFETY: L1; `value` is accessed under the latch only, and loom checks that this suffices.
unsafe impl Sync for Desk {}

impl Desk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            latch: Ticket::new(),
            value: UnsafeCell::new(0),
            served: StdMutex::new(Vec::new()),
        })
    }

    /// With the latch held.
    fn serve(&self, name: &'static str) {
        self.served.lock().unwrap().push(name);
        // SAFETY: L1, exclusive.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }

    fn thread(&self, name: &'static str) {
        let _guard = self.latch.enter();
        self.serve(name);
    }

    fn task(&self, name: &'static str) {
        let _guard = block_on(self.latch.enter_async());
        self.serve(name);
    }

    fn served(&self) -> Vec<&'static str> {
        self.served.lock().unwrap().clone()
    }

    /// Nobody is left, and nobody left a trace.
    fn assert_free(&self, served: u32) {
        assert_eq!(self.latch.waiting(), 0);
        let _guard = self.latch.try_enter().expect("somebody left a trace");
        // SAFETY: L1, exclusive.
        assert_eq!(self.value.with(|value| unsafe { *value }), served, "a turn was lost");
    }
}

fn spawn(desk: &Arc<Desk>, body: impl FnOnce(&Desk) + 'static) -> thread::JoinHandle<()> {
    let desk = desk.clone();
    thread::spawn(move || body(&desk))
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// One look, by an executor that is not told of anything.
fn poll_once(turn: &mut Turn<'_>) -> bool {
    Pin::new(turn).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// A thread, a task, and main, which only tries.
fn exclusion() {
    let desk = Desk::new();
    let others =
        [spawn(&desk, |desk| desk.thread("thread")), spawn(&desk, |desk| desk.task("task"))];
    let mut served = 2;
    if let Some(_guard) = desk.latch.try_enter() {
        desk.serve("main");
        served += 1;
    }
    join(others);
    desk.assert_free(served);
}

/// Main is inside; the thread was seen to wait before the task came.
fn in_order(reached: &Reached) {
    let desk = Desk::new();
    let inside = desk.latch.enter();
    let first = spawn(&desk, |desk| desk.thread("thread"));
    let first_waits = desk.latch.waiting() == 1;
    let second = spawn(&desk, |desk| desk.task("task"));
    drop(inside);
    join([first, second]);
    if first_waits {
        reached.now();
        assert_eq!(desk.served(), ["thread", "task"], "who came later was served before");
    }
    desk.assert_free(2);
}

/// Main is inside and leaves; a task waits and gives up; a thread insists.
fn giving_up() {
    let desk = Desk::new();
    let inside = desk.latch.enter();
    let task = spawn(&desk, |desk| {
        let mut turn = desk.latch.enter_async();
        poll_once(&mut turn);
    });
    let thread = spawn(&desk, |desk| desk.thread("thread"));
    drop(inside);
    join([task, thread]);
    desk.assert_free(1);
}

/// The turn has come for certain when it is dropped: main polls, leaves, and drops.
fn giving_up_after_the_grant() {
    let desk = Desk::new();
    let inside = desk.latch.enter();
    let mut turn = desk.latch.enter_async();
    assert!(!poll_once(&mut turn));
    let thread = spawn(&desk, |desk| desk.thread("thread"));
    drop(inside);
    drop(turn);
    join([thread]);
    desk.assert_free(1);
}

/// Main's task is polled by one executor, and then by another, while a thread enters and leaves.
fn moving(reached: &Reached) {
    let desk = Desk::new();
    let thread = spawn(&desk, |desk| desk.thread("thread"));
    let (before, after) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    let mut turn = desk.latch.enter_async();
    if before.poll(&mut turn) || after.poll(&mut turn) {
        return join([thread]);
    }
    reached.now();
    join([thread]);
    assert!(after.0.load(SeqCst), "a task was not woken where it is");
    assert!(poll_once(&mut turn), "it was not its turn");
}

/// Whether it was woken; loom does not see it.
#[derive(Default)]
struct Woken(StdBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl Woken {
    /// Whether it is ready, and the guard is dropped.
    fn poll(self: &Arc<Self>, turn: &mut Turn<'_>) -> bool {
        let waker = Waker::from(self.clone());
        Pin::new(turn).poll(&mut Context::from_waker(&waker)).is_ready()
    }
}

/// Main tries while a task waits: it is not let in before it, and the task enters.
fn trying(reached: &Reached) {
    let desk = Desk::new();
    let inside = desk.latch.enter();
    let task = spawn(&desk, |desk| desk.task("task"));
    let task_waits = desk.latch.waiting() == 1;
    drop(inside);
    let entered = desk.latch.try_enter().map(|_guard| desk.serve("main")).is_some();
    join([task]);
    if task_waits {
        reached.now();
        assert_eq!(desk.served()[0], "task", "a try passed somebody");
    }
    desk.assert_free(1 + u32::from(entered));
}

mod holds {
    use super::*;

    #[test]
    fn t2_whoever_is_inside_is_alone() {
        explore(PREEMPTIONS, exclusion);
    }

    #[test]
    fn t2_first_come_first_served() {
        explore_reaching(PREEMPTIONS, in_order);
    }

    #[test]
    fn t2_who_gives_up_keeps_nobody_out() {
        explore(PREEMPTIONS, giving_up);
    }

    #[test]
    fn t2_who_gives_up_after_the_grant_passes_it_on() {
        explore(PREEMPTIONS, giving_up_after_the_grant);
    }

    #[test]
    fn t2_a_task_that_moves_is_woken_where_it_is() {
        explore_reaching(PREEMPTIONS, moving);
    }

    #[test]
    fn t2_a_try_passes_nobody() {
        explore_reaching(PREEMPTIONS, trying);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_ticket_that_does_not_see_what_was_done() {
        with(Bug::TicketWithoutAcquire, || explore(PREEMPTIONS, exclusion));
    }

    #[test]
    #[should_panic(expected = "who came later was served before")]
    fn the_newest_ticket_first() {
        with(Bug::NewestTicketFirst, || explore_reaching(PREEMPTIONS, in_order));
    }

    #[test]
    #[should_panic(expected = "somebody left a trace")]
    fn a_task_that_stays_in_line() {
        with(Bug::TicketStaysInLine, || explore(PREEMPTIONS, giving_up));
    }

    #[test]
    #[should_panic(expected = "somebody left a trace")]
    fn a_turn_that_is_lost() {
        with(Bug::TicketTurnIsLost, || explore(PREEMPTIONS, giving_up));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_turn_that_is_lost_after_the_grant() {
        with(Bug::TicketTurnIsLost, || explore(PREEMPTIONS, giving_up_after_the_grant));
    }

    #[test]
    #[should_panic(expected = "a task was not woken where it is")]
    fn a_waker_that_is_out_of_date() {
        with(Bug::TicketKeepsFirstWaker, || explore_reaching(PREEMPTIONS, moving));
    }
}
