//! Short physical latches on the bytes of a page, with a version beside them for readers that
//! take no latch at all.
//!
//! What this crate guarantees to the crates above it:
//!
//! * **I1** A suspended future owns no latch. Guards are `!Send`, so a future that is `Send` cannot
//!   keep one over an `.await`: the compiler refuses it. Latches are taken and released inside one
//!   poll, and whoever waits for one is a running thread that waits for microseconds.
//! * **L1 Exclusion.** A writer is alone inside; readers share.
//! * **L2 Phase-fairness.** A reader that arrives while a writer is inside enters when that one
//!   leaves. A reader that arrives while readers are inside and writers wait enters after the first
//!   of these writers and before the second. Writers enter in the order in which they arrived. When a
//!   writer leaves, all waiting readers enter together.
//! * **L3 No trace.** `try_read` and `try_write` never wait, and one that fails leaves nothing
//!   behind: no count, no bit, no ticket that somebody has to serve.
//! * **L4 Versions.** What an optimistic reader copied is what one moment between two writers looked
//!   like, if [`PhaseFair::validate`] says so. If it says no, the copy is thrown away.
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
//! A guard cannot travel (I1):
//!
//! ```compile_fail,E0277
//! fn travels<T: Send>(_: T) {}
//! travels(treering_latch::PhaseFair::new().write());
//! ```
//!
//! # Checked how
//!
//! Everything here is written against [`sync`], which is `std` or, with `--cfg treering_loom`, the
//! model checker loom. `loom-tests/` holds a model for each of L1 to L4, and for each model planted
//! bugs that it has to find (`--cfg treering_planted_bug`).
//!
//! # Where the ideas come from
//!
//! * B. Brandenburg and J. Anderson, "Reader-writer synchronization for shared-memory
//!   multiprocessor real-time systems" (ECRTS 2009): phase-fairness. Their ticket form cannot
//!   withdraw a waiter, which L3 asks for, so there are no tickets here but a queue and hand-over.
//! * Karl Malbrain's `threadskv9.c`, `ReadLock` and `WriteLock`: phase-fair latches on the pages of
//!   a B-link tree.
//! * H. Boehm, "Can seqlocks get along with programming language memory models?" (MSPC 2012): the
//!   fences of L4.

mod line;
mod page_latch;
mod phase_fair;
#[cfg(treering_planted_bug)]
pub mod planted;
mod queue;
pub mod sync;
mod ticket;
mod waiter;

pub use page_latch::{Mode, PageGuard, PageLatch};
pub use phase_fair::{PhaseFair, ReadGuard, Version, WriteGuard};
pub use ticket::{TaskGuard, Ticket, TicketGuard, Turn};

/// `planted_bug!(Bug)`: whether that bug is armed. Constant `false`, and compiled out, in every build but
/// that of the canaries.
#[cfg(treering_planted_bug)]
macro_rules! planted_bug {
    ($bug:ident) => {
        $crate::planted::armed($crate::planted::Bug::$bug)
    };
}
#[cfg(not(treering_planted_bug))]
macro_rules! planted_bug {
    ($bug:ident) => {
        false
    };
}
pub(crate) use planted_bug;
