//! The first-come-first-served latch: one word, and a line that exists only once it was needed.
//!
//! # The word
//!
//! * `HELD`: somebody is inside.
//! * `WAITERS`: the line is not empty. Set and cleared only under the line's mutex, and never
//!   without `HELD`: the latch is not free while somebody waits, so nobody can barge in.
//!
//! **Enter, nobody inside**: one compare-and-swap from 0 to `HELD`. The `try_` form does this and
//! nothing else.
//!
//! **Enter, somebody inside**: lock the line, set both bits in one step. If `HELD` was not set, the
//! holder has just left, and that step has taken the latch: clear `WAITERS` and be inside. Else join
//! the line, unlock, and wait for the turn. Who is inside when `WAITERS` is set sees it when leaving.
//!
//! **Leave**: swap `HELD` for 0. If that fails, `WAITERS` was set: lock the line, take out the first,
//! set the word to what holds with that one inside, unlock, and grant. If everybody has withdrawn
//! meanwhile, the word becomes 0.
//!
//! **Withdraw** (a [`Turn`] is dropped): lock the line and look for one's own number. Still there:
//! take it out, and clear `WAITERS` if it was the last. Not there: the turn has come, granted or just
//! being granted, and whoever drops it owns the latch: it leaves, which passes the latch on. The
//! mutex makes these two the only cases, and orders what the last holder did before what the next
//! one does also when the grant itself was never looked at.
//!
//! # Memory orderings
//!
//! Entering is `Acquire`, leaving `Release`, on the word or, when handed over, through the waiter's
//! own word or the line's mutex. `WAITERS` alone carries no data, so setting and clearing it needs
//! no order of its own; a read-modify-write leaves an earlier release in place for who acquires.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::line::{Line, Who};
use crate::planted_bug;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::waiter::Waiter;

const FREE: u32 = 0;
const HELD: u32 = 1;
const WAITERS: u32 = 2;

/// An exclusive latch that lets in threads and tasks in the order in which they came.
///
/// Like the crate's other latches it is not re-entrant, and it protects nothing by itself: what it
/// guards is the caller's agreement. Memory is allocated when somebody has to wait for the first
/// time, and kept for the next.
pub struct Ticket {
    word: AtomicU32,
    line: Mutex<Option<Box<Line>>>,
}

impl Ticket {
    /// A latch that nobody holds.
    pub fn new() -> Self {
        Self { word: AtomicU32::new(FREE), line: Mutex::new(None) }
    }

    /// Enters, after everybody who came before. Blocks the thread: for stays of microseconds.
    /// Released when the guard is dropped.
    #[inline]
    pub fn enter(&self) -> TicketGuard<'_> {
        if !self.enter_free() {
            self.enter_slow();
        }
        TicketGuard { latch: self, not_send: PhantomData }
    }

    /// Enters if nobody is inside; then nobody waits, either. Never waits, and leaves no trace if it
    /// fails.
    #[inline]
    pub fn try_enter(&self) -> Option<TicketGuard<'_>> {
        // Not `then_some`: a guard made for nothing would be dropped, and drop releases.
        self.enter_free().then(|| TicketGuard { latch: self, not_send: PhantomData })
    }

    /// Enters, after everybody who came before, without blocking the thread. The place in line is
    /// taken when the future is polled for the first time.
    ///
    /// **For an engine's own tasks**, which somebody polls for certain: from the moment at which its
    /// turn has come until the guard is dropped, the task keeps everybody else out, polled or not.
    /// (I1: the future of a user must not wait here.)
    ///
    /// Dropping the future gives the place up; if its turn has come already, the next one's comes.
    #[inline]
    pub fn enter_async(&self) -> Turn<'_> {
        Turn { latch: self, place: Place::Outside }
    }

    /// How many wait at this moment: for tests and diagnostics, out of date when it returns.
    pub fn waiting(&self) -> usize {
        self.line.lock().as_ref().map_or(0, |line| line.len())
    }

    #[inline]
    fn enter_free(&self) -> bool {
        let order = if planted_bug!(TicketWithoutAcquire) { Relaxed } else { Acquire };
        self.word.compare_exchange(FREE, HELD, order, Relaxed).is_ok()
    }

    #[cold]
    fn enter_slow(&self) {
        let waiter = Waiter::new();
        if self.line_up(Who::Thread(waiter.clone())).is_some() {
            waiter.wait();
        }
    }

    /// The number drawn, or `None` if the latch was free and has been entered instead.
    fn line_up(&self, who: Who) -> Option<u64> {
        let mut line = self.line.lock();
        let before = self.word.fetch_or(HELD | WAITERS, Acquire);
        if before & HELD == 0 {
            // Ours, and the mutex is: nobody else changes the word between these two steps.
            self.word.fetch_and(!WAITERS, Relaxed);
            drop(line);
            return None;
        }
        Some(line.get_or_insert_default().join(who))
    }

    /// Whether the task with this number has to wait on; it will be woken by `waker` then.
    fn still_waits(&self, number: u64, mut waker: Waker) -> bool {
        let mut line = self.line.lock();
        let waits = line.as_mut().is_some_and(|line| line.swap_waker(number, &mut waker));
        // Before `waker`, which may be the old one by now, is dropped.
        drop(line);
        waits
    }

    #[cold]
    fn withdraw(&self, number: u64) {
        if planted_bug!(TicketStaysInLine) {
            return;
        }
        let mut guard = self.line.lock();
        let line = guard.as_mut().expect("a number was drawn from this line");
        let withdrawn = line.leave(number);
        if withdrawn.is_some() && line.is_empty() {
            self.word.fetch_and(!WAITERS, Relaxed);
        }
        drop(guard);
        if withdrawn.is_none() && !planted_bug!(TicketTurnIsLost) {
            self.leave();
        }
    }

    #[inline]
    fn leave(&self) {
        if self.word.compare_exchange(HELD, FREE, Release, Relaxed).is_err() {
            self.hand_over();
        }
    }

    #[cold]
    fn hand_over(&self) {
        let mut guard = self.line.lock();
        let line = guard.as_mut().expect("WAITERS is set together with a place in the line");
        let next = line.next();
        let word = match (&next, line.is_empty()) {
            (None, _) => FREE,
            (Some(_), true) => HELD,
            (Some(_), false) => HELD | WAITERS,
        };
        // A plain store: the latch is ours, and the mutex keeps everybody from `WAITERS`.
        self.word.store(word, Release);
        drop(guard);
        if let Some(next) = next {
            next.grant();
        }
    }
}

impl Default for Ticket {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Relaxed);
        let mut fields = f.debug_struct("Ticket");
        fields.field("held", &(word & HELD != 0));
        // Printing waits for nobody.
        match self.line.try_lock() {
            Some(line) => fields.field("waiting", &line.as_ref().map_or(0, |line| line.len())),
            None => fields.field("waiting", &format_args!("<changing>")),
        };
        fields.finish()
    }
}

/// Nobody else is inside until it is dropped. `!Send`: to be dropped in the poll, and by the thread,
/// that took it.
#[must_use = "the latch is released when the guard is dropped"]
pub struct TicketGuard<'a> {
    latch: &'a Ticket,
    not_send: PhantomData<*const ()>,
}

/// Nobody else is inside until it is dropped. May be kept over an `.await` and dropped by another
/// thread, unlike [`TicketGuard`]: for an engine's own tasks.
#[must_use = "the latch is released when the guard is dropped"]
pub struct TaskGuard<'a> {
    latch: &'a Ticket,
}

impl Drop for TicketGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.latch.leave();
    }
}

impl Drop for TaskGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.latch.leave();
    }
}

impl fmt::Debug for TicketGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TicketGuard").field(self.latch).finish()
    }
}

impl fmt::Debug for TaskGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskGuard").field(self.latch).finish()
    }
}

/// What [`Ticket::enter_async`] returns. Dropping it gives the place in line up, or, if its turn has
/// come, passes the latch on.
#[must_use = "a future that is not polled does not get in line"]
pub struct Turn<'a> {
    latch: &'a Ticket,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Outside,
    InLine(u64),
    /// The guard has been given out, and with it the duty to leave.
    Entered,
}

impl<'a> Future for Turn<'a> {
    type Output = TaskGuard<'a>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TaskGuard<'a>> {
        // Cloned before the line's mutex is taken: a waker's code is a stranger's.
        let waits = match self.place {
            Place::Outside if self.latch.enter_free() => None,
            Place::Outside => self.latch.line_up(Who::Task(cx.waker().clone())),
            Place::InLine(number) => {
                self.latch.still_waits(number, cx.waker().clone()).then_some(number)
            }
            Place::Entered => panic!("a `Turn` was polled after it had completed"),
        };
        match waits {
            Some(number) => {
                self.place = Place::InLine(number);
                Poll::Pending
            }
            None => {
                self.place = Place::Entered;
                Poll::Ready(TaskGuard { latch: self.latch })
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Place::InLine(number) = self.place {
            self.latch.withdraw(number);
        }
    }
}

impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("latch", self.latch).field("place", &self.place).finish()
    }
}
