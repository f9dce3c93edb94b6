//! Short physical latches for the pages of a B-link tree, model-checked, for this engine's tree and
//! for others.
//!
//! | type | what it is | taken for |
//! |---|---|---|
//! | [`PhaseFair`] | readers and writers in turns, and a version beside them for readers that take no latch at all | the bytes of a page |
//! | [`Ticket`] | one at a time, first come, first served; waiters may be tasks, and may leave | what engine tasks do one after the other |
//! | [`PageLatch`] | six modes in four sets, made of the other two | all that a B-link tree of the classic kind wants of one page |
//! | [`sync::Mutex`] | lock and `try_lock`, spins a little and then sleeps | a few instructions, on the queues of the other three |
//!
//! What this crate guarantees to the crates above it:
//!
//! * **I1** A suspended future owns no latch. Guards are `!Send`, so a future that is `Send` cannot
//!   keep one over an `.await`: the compiler refuses it. Latches are taken and released inside one
//!   poll, and whoever waits for one is a running thread that waits for microseconds. The one
//!   exception has a name of its own: [`TaskGuard`], which [`Ticket::enter_async`] gives to an
//!   engine's own tasks.
//! * **L1 Exclusion.** A writer is alone inside; readers share. Whoever enters sees what those did
//!   who had to be out before.
//! * **L2 Phase-fairness.** A reader that arrives while a writer is inside enters when that one
//!   leaves. A reader that arrives while readers are inside and writers wait enters after the first
//!   of these writers and before the second. Writers enter in the order in which they arrived. When a
//!   writer leaves, all waiting readers enter together.
//! * **L3 No trace.** `try_read` and `try_write` never wait, and one that fails leaves nothing
//!   behind: no count, no bit, no ticket that somebody has to serve.
//! * **L4 Versions.** What an optimistic reader copied is what one moment between two writers looked
//!   like, if [`PhaseFair::validate`] says so. If it says no, the copy is thrown away.
//! * **L5 First come, first served.** A [`Ticket`] is entered in the order of arrival, threads and
//!   tasks in one line; `try_enter` passes nobody.
//! * **L6 Who waits may leave.** A [`Turn`] may be dropped at any point, also after it was granted:
//!   then the next one's turn comes.
//! * **L7 Modes.** Two holders of a [`PageLatch`] are inside together if and only if
//!   [`Mode::is_compatible`] says so.
//! * No re-entrancy: a thread that waits for a latch that it holds waits forever, a reader as well
//!   (behind a writer, which waits for that reader). The order of latches (I11: tree, then level from
//!   the leaves up, then left to right) is the caller's to keep.
//!
//! # Reading without a latch
//!
//! The latch does not contain what it protects: page bytes are a `[AtomicU64]` elsewhere, because
//! an optimistic reader reads them while a writer may be writing, and only atomics make that sound
//! Rust. Writers store `Relaxed` under a [`WriteGuard`]; readers load `Relaxed`, copy what they
//! need, and believe the copy only after it validated. Nothing may be derived from an unvalidated
//! copy that cannot be taken back; lengths and offsets in it are to be bounds-checked like any
//! untrusted input.
//!
//! ```
//! use treering_latch::PhaseFair;
//! use treering_latch::sync::atomic::{AtomicU64, Ordering::Relaxed};
//!
//! let latch = PhaseFair::new();
//! let page = [AtomicU64::new(1), AtomicU64::new(1)];
//!
//! {
//!     let _guard = latch.write();
//!     page[0].store(2, Relaxed);
//!     page[1].store(2, Relaxed);
//! }
//!
//! let read = || (page[0].load(Relaxed), page[1].load(Relaxed));
//! let mut pair = None;
//! for _attempt in 0..3 {
//!     let Some(version) = latch.optimistic() else { continue };
//!     let copy = read();
//!     if latch.validate(version) {
//!         pair = Some(copy);
//!         break;
//!     }
//! }
//! // Phase-fairness bounds this wait by one writer, so falling back cannot starve.
//! let pair = pair.unwrap_or_else(|| {
//!     let _guard = latch.read();
//!     read()
//! });
//! assert_eq!(pair, (2, 2));
//! ```
//!
//! A guard cannot travel (I1), be it of one kind or of another:
//!
//! ```compile_fail,E0277
//! fn travels<T: Send>(_: T) {}
//! travels(treering_latch::PhaseFair::new().write());
//! ```
//!
//! ```compile_fail,E0277
//! fn travels<T: Send>(_: T) {}
//! travels(treering_latch::Ticket::new().enter());
//! ```
//!
//! # One after the other
//!
//! ```
//! use treering_latch::Ticket;
//!
//! let catalog = Ticket::new();
//! {
//!     let _one_at_a_time = catalog.enter();
//!     assert!(catalog.try_enter().is_none());
//! }
//!
//! /// By an engine task. Whoever drops this future, wherever it has come to, keeps nobody waiting.
//! async fn rename(catalog: &Ticket) {
//!     let _one_at_a_time = catalog.enter_async().await;
//!     // .. and awaits to come.
//! }
//! # fn sent<T: Send>(_: T) {}
//! # sent(rename(&catalog));
//! ```
//!
//! # All the latches of a page
//!
//! The modes, what they keep out and the order in which to take them are on the page of [`Mode`].
//! Here a descent that couples its latches (announce, let go of the parent, latch), and a delete
//! that waits until nobody is on the way any more:
//!
//! ```
//! use treering_latch::{Mode, PageLatch};
//!
//! let (parent, child) = (PageLatch::new(), PageLatch::new());
//!
//! let on_parent = parent.enter(Mode::Read);
//! let intent = child.enter(Mode::AccessIntent);
//! drop(on_parent);
//! assert!(child.try_enter(Mode::NodeDelete).is_none(), "somebody is on the way");
//! let on_child = child.enter(Mode::Read);
//! drop(intent);
//!
//! let nobody_comes = child.enter(Mode::NodeDelete);
//! assert!(child.try_enter(Mode::Write).is_none(), "somebody is still there");
//! drop(on_child);
//! let bytes = child.enter(Mode::Write);
//! # drop((nobody_comes, bytes));
//! ```
//!
//! # Checked how
//!
//! Everything here is written against [`sync`], which is `std` or, with `--cfg treering_loom`, the
//! model checker loom, or, with `--cfg treering_shuttle`, the randomized scheduler shuttle. `loom-tests/` holds models for each of L1 to L7, and planted bugs that they
//! have to find (`--cfg treering_planted_bug`). Its README says how to check a protocol of your own
//! that is built on these latches.
//!
//! # Where the ideas come from
//!
//! * B. Brandenburg and J. Anderson, "Reader-writer synchronization for shared-memory
//!   multiprocessor real-time systems" (ECRTS 2009): phase-fairness. Their ticket form cannot
//!   withdraw a waiter, which L3 asks for, so there are no tickets here but a queue and hand-over.
//! * Karl Malbrain's `threadskv9.c`: phase-fair latches on the pages of a B-link tree (`ReadLock`,
//!   `WriteLock`), the exclusive latch with tickets (`WriteOLock`), and the six modes (`bt_lockpage`).
//! * H. Boehm, "Can seqlocks get along with programming language memory models?" (MSPC 2012): the
//!   fences of L4.

mod line;
#[cfg(treering_loom)]
#[doc(hidden)]
pub mod loom_atomic;
#[cfg(treering_loom)]
mod loom_event;
mod page_latch;
mod phase_fair;
#[cfg(treering_planted_bug)]
pub mod planted;
mod queue;
pub mod sync;
mod ticket;
mod waiter;

#[cfg(treering_loom)]
#[doc(hidden)]
pub use loom_event::{Event, EventListener};
pub use page_latch::{Mode, PageGuard, PageLatch};
pub use phase_fair::{PhaseFair, ReadGuard, Version, WriteGuard};
pub use ticket::{TaskGuard, Ticket, TicketGuard, Turn};

/// `planted_bug!(Bug)`: whether that bug is armed. Constant `false`, and compiled out, in every build but
/// that of the canaries. For this crate and those above it.
#[cfg(treering_planted_bug)]
#[doc(hidden)]
#[macro_export]
macro_rules! planted_bug {
    ($bug:ident) => {
        $crate::planted::armed($crate::planted::Bug::$bug)
    };
}
#[cfg(not(treering_planted_bug))]
#[doc(hidden)]
#[macro_export]
macro_rules! planted_bug {
    ($bug:ident) => {
        false
    };
}
