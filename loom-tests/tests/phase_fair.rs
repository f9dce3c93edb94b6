//! L1 and L2: the phase-fair latch's slow path, which is queue, hand-over and parking.
//!
//! Protocol: whoever cannot enter queues and parks; the last one out writes the next phase into the
//! state word and grants. Checked, over all interleavings with four preemptions, or five where one
//! goes into seeing somebody wait (of the five of `phases_alternate` three do; a sixth would take
//! minutes):
//!
//! * a writer is alone inside, and everything done inside happens before the next one's stay
//!   (`UnsafeCell` of loom reports a race if the memory orderings were too weak);
//! * nobody sleeps through a grant: loom reports a deadlock otherwise;
//! * writers enter in the order in which they queued;
//! * a reader does not pass a waiting writer, and is passed by one writer at most;
//! * all readers that wait when a writer leaves are inside together.
//!
//! A model may not spin until somebody waits, or it has no end. It looks *once*, and demands what
//! must follow in those executions in which the waiters were seen in the queue; loom comes by them.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it.
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicBool as StdBool, Ordering::SeqCst};

use loom::cell::UnsafeCell;
use loom::thread;
use treering_latch::PhaseFair;
use treering_latch::sync::Arc;
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};

/// A latch, what it protects, and the order of entering. The order is kept in a `std` mutex: loom
/// does not see it, so that it neither adds interleavings nor synchronizes anybody.
struct Page {
    latch: PhaseFair,
    value: UnsafeCell<u32>,
    entered: StdMutex<Vec<&'static str>>,
}

// SAFETY: L1; `value` is accessed under the latch only, and loom checks that this suffices.
unsafe impl Sync for Page {}

impl Page {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            latch: PhaseFair::new(),
            value: UnsafeCell::new(0),
            entered: StdMutex::new(Vec::new()),
        })
    }

    fn log(&self, name: &'static str) {
        self.entered.lock().unwrap().push(name);
    }

    fn entered(&self) -> Vec<&'static str> {
        self.entered.lock().unwrap().clone()
    }

    fn write(&self, name: &'static str) {
        let _guard = self.latch.write();
        self.log(name);
        self.increment();
    }

    /// With the write latch held.
    fn increment(&self) {
        // SAFETY: L1, exclusive.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }

    fn read(&self, name: &'static str) -> u32 {
        let _guard = self.latch.read();
        self.log(name);
        self.value()
    }

    /// With a latch held.
    fn value(&self) -> u32 {
        // SAFETY: L1, no writer is inside.
        self.value.with(|value| unsafe { *value })
    }
}

fn spawn(page: &Arc<Page>, body: impl FnOnce(&Page) + 'static) -> thread::JoinHandle<()> {
    let page = page.clone();
    thread::spawn(move || body(&page))
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Two writers and a reader, nobody waits for anybody outside the latch.
fn exclusion() {
    let page = Page::new();
    let writer = spawn(&page, |page| page.write("writer"));
    let reader = spawn(&page, |page| {
        page.read("reader");
    });
    page.write("main");
    join([writer, reader]);
    assert_eq!(page.read("end"), 2, "a write was lost");
    assert_eq!(page.latch.waiting(), (0, 0));
}

/// A writer between readers: the last reader out wakes it, whoever that is.
fn last_reader_hands_over() {
    let page = Page::new();
    let writer = spawn(&page, |page| page.write("writer"));
    let reader = spawn(&page, |page| {
        page.read("reader");
    });
    page.read("main");
    join([writer, reader]);
    assert_eq!(page.read("end"), 1);
}

/// Main holds the latch; the writer that queued first enters first.
fn writers_in_order(reached: &Reached) {
    let page = Page::new();
    let inside = page.latch.write();
    let first = spawn(&page, |page| page.write("first"));
    let first_waits = page.latch.waiting() == (0, 1);
    let second = spawn(&page, |page| page.write("second"));
    drop(inside);
    join([first, second]);
    if first_waits {
        reached.now();
        assert_eq!(page.entered(), ["first", "second"], "a writer was passed by a later one");
    }
}

/// Readers are inside and a writer waits: the next reader goes behind it.
fn reader_behind_waiting_writer(reached: &Reached) {
    let page = Page::new();
    let inside = page.latch.read();
    let writer = spawn(&page, |page| page.write("writer"));
    let writer_waits = page.latch.waiting() == (0, 1);
    let reader = spawn(&page, |page| {
        page.read("reader");
    });
    drop(inside);
    join([writer, reader]);
    if writer_waits {
        reached.now();
        assert_eq!(page.entered(), ["writer", "reader"], "a reader passed a waiting writer");
    }
}

/// A writer is inside, a reader waits, and a writer besides: the reader is next. It was passed by
/// the one writer that was there when it came.
fn reader_passed_by_one_writer(reached: &Reached) {
    let page = Page::new();
    let inside = page.latch.write();
    let writer = spawn(&page, |page| page.write("writer"));
    let reader = spawn(&page, |page| {
        page.read("reader");
    });
    let reader_waits = page.latch.waiting().0 == 1;
    drop(inside);
    join([writer, reader]);
    if reader_waits {
        reached.now();
        assert_eq!(page.entered(), ["reader", "writer"], "a reader was passed by a second writer");
    }
}

/// A reader is inside, and there queue in this order: a writer, a reader, a writer. Phases
/// alternate, so they enter in the same order, though the second phase could have joined the first.
fn phases_alternate(reached: &Reached) {
    let page = Page::new();
    let inside = page.latch.read();
    let first = spawn(&page, |page| page.write("first writer"));
    if page.latch.waiting() != (0, 1) {
        drop(inside);
        return join([first]);
    }
    let reader = spawn(&page, |page| {
        page.read("reader");
    });
    if page.latch.waiting() != (1, 1) {
        drop(inside);
        return join([first, reader]);
    }
    let second = spawn(&page, |page| page.write("second writer"));
    if page.latch.waiting() == (1, 2) {
        reached.now();
    }
    drop(inside);
    join([first, reader, second]);
    assert_eq!(page.entered(), ["first writer", "reader", "second writer"], "phases got mixed up");
}

/// A writer is inside and two readers wait: neither leaves before both are in. If the latch let
/// them in one by one, that would be a deadlock.
fn readers_enter_together(reached: &Reached) {
    let page = Page::new();
    // Set before main leaves, read by readers that entered after it: L1 orders that.
    let meet = std::sync::Arc::new(StdBool::new(false));
    let inside = page.latch.write();
    let readers: Vec<thread::JoinHandle<()>> = {
        let both = Arc::new(Meeting::new());
        (0..2)
            .map(|_| {
                let (both, meet) = (both.clone(), meet.clone());
                spawn(&page, move |page| {
                    let _guard = page.latch.read();
                    page.value();
                    if meet.load(SeqCst) {
                        both.meet();
                    }
                })
            })
            .collect()
    };
    page.increment();
    if page.latch.waiting() == (2, 0) {
        reached.now();
        meet.store(true, SeqCst);
    }
    drop(inside);
    join(readers);
}

/// Two threads that each wait for the other to come: loom has no barrier that blocks.
struct Meeting(loom::sync::Mutex<usize>, loom::sync::Condvar);

impl Meeting {
    fn new() -> Self {
        Self(loom::sync::Mutex::new(0), loom::sync::Condvar::new())
    }

    fn meet(&self) {
        let mut came = self.0.lock().unwrap();
        *came += 1;
        self.1.notify_all();
        while *came < 2 {
            came = self.1.wait(came).unwrap();
        }
    }
}

mod holds {
    use super::*;

    #[test]
    fn t1_writers_are_alone() {
        explore(PREEMPTIONS, exclusion);
    }

    #[test]
    fn t1_the_last_reader_wakes_the_writer() {
        explore(PREEMPTIONS, last_reader_hands_over);
    }

    #[test]
    fn t1_writers_enter_in_order() {
        explore_reaching(PREEMPTIONS + 1, writers_in_order);
    }

    #[test]
    fn t1_a_reader_goes_behind_a_waiting_writer() {
        explore_reaching(PREEMPTIONS + 1, reader_behind_waiting_writer);
    }

    #[test]
    fn t1_a_reader_is_passed_by_one_writer_at_most() {
        explore_reaching(PREEMPTIONS + 1, reader_passed_by_one_writer);
    }

    #[test]
    fn t1_reader_and_writer_phases_alternate() {
        explore_reaching(5, phases_alternate);
    }

    #[test]
    fn t1_waiting_readers_enter_together() {
        explore_reaching(PREEMPTIONS, readers_enter_together);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_writer_that_does_not_see_what_was_done() {
        with(Bug::WriterWithoutAcquire, || explore(PREEMPTIONS, exclusion));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_reader_that_is_not_woken() {
        with(Bug::OneReaderForgotten, || explore_reaching(PREEMPTIONS, readers_enter_together));
    }

    #[test]
    #[should_panic(expected = "a writer was passed by a later one")]
    fn the_newest_writer_first() {
        with(Bug::NewestWriterFirst, || explore_reaching(PREEMPTIONS + 1, writers_in_order));
    }

    #[test]
    #[should_panic(expected = "a reader passed a waiting writer")]
    fn a_reader_that_joins_readers() {
        with(Bug::ReadersPassWaitingWriter, || {
            explore_reaching(PREEMPTIONS + 1, reader_behind_waiting_writer);
        });
    }

    #[test]
    #[should_panic(expected = "a reader was passed by a second writer")]
    fn a_writer_after_a_writer() {
        with(Bug::WriterOvertakesReaders, || {
            explore_reaching(PREEMPTIONS + 1, reader_passed_by_one_writer)
        });
    }
}
