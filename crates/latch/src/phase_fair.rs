//! The phase-fair latch: one word, one version, and a queue that exists only once it was needed.
//!
//! # The state word
//!
//! ```text
//!   readers inside  | WAITERS | WRITER
//!       62 bits     |    1    |   1
//! ```
//!
//! * `WRITER`: a writer is inside; then no reader is.
//! * `WAITERS`: the queue is not empty. Set and cleared only under the queue's mutex. While it is
//!   set nobody enters by himself, so the word changes in two ways only: readers leave, and whoever
//!   leaves last hands over.
//!
//! **Enter, nobody in the way**: one compare-and-swap. For a reader neither bit may be set, for a
//! writer the whole word must be 0. The `try_` forms do this and nothing else.
//!
//! **Enter, somebody in the way**: lock the queue, look again (enter if the way is free now), set
//! `WAITERS`, append, unlock, wait to be granted. Whoever is inside when `WAITERS` is set sees it
//! when leaving, because leaving is a read-modify-write of the same word. There is no spinning
//! before the queue: its order is the order of arrival, and a reader that span outside it could be
//! overtaken by any number of writers.
//!
//! **Leave**: a reader subtracts itself, a writer swaps `WRITER` for 0. If the reader was the last
//! and `WAITERS` was set, or the writer's swap fails because of it, the leaver hands over: it locks
//! the queue, takes out the next phase (all readers after a writer, else the oldest writer), stores
//! the word as it is with them inside, unlocks, and grants. The plain store is sound: with `WAITERS`
//! set and no reader inside, only the leaver may change the word.
//!
//! So the latch is never free while somebody waits; it passes from hand to hand. That costs a wake-up
//! where barging would not, and buys the bound: one writer's stay, or the readers' before it.
//!
//! # The version
//!
//! Even: no writer inside; odd: one is. Only the writer inside stores it.
//!
//! ```text
//! writer                             optimistic reader
//!   version = odd      (Relaxed)       v = version        (Acquire)  odd? give up
//!   fence              (Release)       loads of data      (Relaxed)
//!   stores of data     (Relaxed)       fence              (Acquire)
//!   version = even     (Release)       version == v?      (Relaxed)
//! ```
//!
//! A reader that saw any store of a writer sees, through the two fences, that writer's odd version
//! or a later one, and does not validate. A reader that starts from a writer's even version sees all
//! of its stores. 64 bits do not wrap around in the life of a machine.

use std::fmt;
use std::marker::PhantomData;

use crate::planted_bug;
use crate::queue::{Next, Queue};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU64, fence};
use crate::sync::{Mutex, load_to_store};
use crate::waiter::Waiter;

const WRITER: u64 = 1;
const WAITERS: u64 = 2;
const READER: u64 = 4;

/// What keeps a reader from entering by himself: a writer inside, or anybody in the queue.
const BLOCKS_READERS: u64 = WRITER | WAITERS;

/// A phase-fair reader/writer latch, and a version that every write moves.
///
/// The crate's page has the guarantees, the module's the protocol. 32 bytes on Linux; memory is
/// allocated when somebody has to wait for the first time, and kept for the next.
pub struct PhaseFair {
    state: AtomicU64,
    version: AtomicU64,
    queue: Mutex<Option<Box<Queue>>>,
}

// One of them sits in each frame header, which is to fit a cache line.
#[cfg(all(target_os = "linux", not(any(treering_loom, treering_shuttle))))]
const _: () = assert!(size_of::<PhaseFair>() <= 32);

/// What the page looked like: [`PhaseFair::optimistic`] gives it, [`PhaseFair::validate`] takes it.
/// Means nothing to another latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

impl PhaseFair {
    /// A latch that nobody holds.
    pub fn new() -> Self {
        Self { state: AtomicU64::new(0), version: AtomicU64::new(0), queue: Mutex::new(None) }
    }

    /// Enters as a reader; waits behind one writer at most. Released when the guard is dropped.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_> {
        let state = self.state.load(Relaxed);
        if state & BLOCKS_READERS != 0
            || self.state.compare_exchange_weak(state, state + READER, Acquire, Relaxed).is_err()
        {
            self.read_slow();
        }
        ReadGuard { latch: self, not_send: PhantomData }
    }

    /// Enters as a reader unless a writer is inside *or waits* for the latch. Never waits, and
    /// leaves no trace if it fails.
    #[inline]
    pub fn try_read(&self) -> Option<ReadGuard<'_>> {
        if planted_bug!(TryReadLeavesTrace) {
            // The counter scheme: come in first, look then.
            if self.state.fetch_add(READER, Acquire) & BLOCKS_READERS != 0 {
                self.state.fetch_sub(READER, Release);
                return None;
            }
            return Some(ReadGuard { latch: self, not_send: PhantomData });
        }
        // Not `then_some`: a guard made for nothing would be dropped, and drop releases.
        self.enter_reader().then(|| ReadGuard { latch: self, not_send: PhantomData })
    }

    /// Enters as the only one; waits behind the writers that came before. The version is odd until
    /// the guard is dropped, which moves it on and releases.
    #[inline]
    pub fn write(&self) -> WriteGuard<'_> {
        let order = if planted_bug!(WriterWithoutAcquire) { Relaxed } else { Acquire };
        if self.state.compare_exchange(0, WRITER, order, Relaxed).is_err() {
            self.write_slow();
        }
        self.open_version();
        WriteGuard { latch: self, not_send: PhantomData }
    }

    /// Enters as the only one if nobody is inside and nobody waits. Never waits, and leaves no trace
    /// if it fails: the version has not moved then.
    #[inline]
    pub fn try_write(&self) -> Option<WriteGuard<'_>> {
        if planted_bug!(TryWriteMovesVersion) {
            self.version.fetch_add(2, Relaxed);
        }
        self.state.compare_exchange(0, WRITER, Acquire, Relaxed).ok()?;
        self.open_version();
        Some(WriteGuard { latch: self, not_send: PhantomData })
    }

    /// Begins a read without the latch: `None` while a writer is inside, else the version to
    /// validate the copy with. Load the data with `Relaxed` atomics between the two calls.
    #[inline]
    pub fn optimistic(&self) -> Option<Version> {
        let version = self.version.load(Acquire);
        version.is_multiple_of(2).then_some(Version(version))
    }

    /// Ends a read without the latch. `true`: no writer has been inside since `version` was taken,
    /// and what this thread loaded since then fits together. `false`: it may be torn; throw it away.
    #[inline]
    #[must_use = "what was read is not to be believed unless this says so"]
    pub fn validate(&self, version: Version) -> bool {
        if !planted_bug!(ReaderWithoutFence) {
            fence(Acquire);
        }
        self.version.load(Relaxed) == version.0
    }

    /// How many readers and how many writers wait at this moment: for tests and diagnostics, out of
    /// date when it returns.
    pub fn waiting(&self) -> (usize, usize) {
        self.queue.lock().as_ref().map_or((0, 0), |queue| queue.len())
    }

    /// By himself if no bit is in the way. Fails only for that: other readers that come and go make
    /// it look again.
    #[inline]
    fn enter_reader(&self) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & BLOCKS_READERS == 0 {
            match self.state.compare_exchange_weak(state, state + READER, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    #[cold]
    fn read_slow(&self) {
        if self.enter_reader() {
            return;
        }
        let waiter = Waiter::new();
        {
            let mut queue = self.queue.lock();
            if planted_bug!(ReadersPassWaitingWriter) && self.join_readers() {
                return;
            }
            if self.enter_or_announce(BLOCKS_READERS, READER) {
                return;
            }
            queue.get_or_insert_default().push_reader(waiter.clone());
        }
        waiter.wait();
    }

    /// The planted bug: readers are inside and a writer waits, but what is one reader more?
    fn join_readers(&self) -> bool {
        let joined = |state| (state >= READER).then_some(state + READER);
        self.state.fetch_update(Acquire, Relaxed, joined).is_ok()
    }

    #[cold]
    fn write_slow(&self) {
        let waiter = Waiter::new();
        {
            let mut queue = self.queue.lock();
            if self.enter_or_announce(u64::MAX, WRITER) {
                return;
            }
            queue.get_or_insert_default().push_writer(waiter.clone());
        }
        waiter.wait();
    }

    /// Under the queue's mutex: enters (`true`) if nothing of `blocked_by` is set, else sees to it
    /// that `WAITERS` is. A stale word cannot mislead it: what was loaded is acted upon by
    /// compare-and-swap, and that `WAITERS` is set can only be news, for the mutex orders its changes.
    fn enter_or_announce(&self, blocked_by: u64, entry: u64) -> bool {
        let mut state = self.state.load(Relaxed);
        loop {
            let enters = state & blocked_by == 0;
            if !enters && state & WAITERS != 0 {
                return false;
            }
            let next = if enters { state + entry } else { state | WAITERS };
            match self.state.compare_exchange_weak(state, next, Acquire, Relaxed) {
                Ok(_) => return enters,
                Err(now) => state = now,
            }
        }
    }

    /// By the last one out, with `WAITERS` set.
    #[cold]
    fn hand_over(&self) {
        let mut guard = self.queue.lock();
        // Acquire: whom we grant comes after every reader that left before us, not only after us.
        let state = load_to_store(&self.state, Acquire);
        assert!(
            state == WAITERS || state == WAITERS | WRITER,
            "a latch is handed over by the last one out: state {state:#x}"
        );
        let queue = guard.as_mut().expect("WAITERS is set together with an entry in the queue");
        let next = queue.next(state & WRITER != 0).expect("WAITERS is cleared with the last entry");
        let entered = match &next {
            Next::Readers(readers) => readers.len() as u64 * READER,
            Next::Writer(_) => WRITER,
        };
        let waiters = if queue.is_empty() { 0 } else { WAITERS };
        // Release: readers that now enter by themselves come after the writer that leaves.
        self.state.store(entered | waiters, Release);
        drop(guard);
        next.grant();
    }

    #[inline]
    fn leave_reader(&self) {
        if self.state.fetch_sub(READER, Release) == READER | WAITERS {
            self.hand_over();
        }
    }

    #[inline]
    fn leave_writer(&self) {
        self.close_version();
        if self.state.compare_exchange(WRITER, 0, Release, Relaxed).is_err() {
            self.hand_over();
        }
    }

    #[inline]
    fn open_version(&self) {
        if planted_bug!(VersionStaysEven) {
            return;
        }
        let version = load_to_store(&self.version, Relaxed);
        debug_assert!(version.is_multiple_of(2), "the last writer left the version even");
        self.version.store(version + 1, Relaxed);
        if !planted_bug!(WriterWithoutFence) {
            fence(Release);
        }
    }

    #[inline]
    fn close_version(&self) {
        let version = load_to_store(&self.version, Relaxed);
        // The next even number.
        self.version.store((version | 1) + 1, Release);
    }
}

impl Default for PhaseFair {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PhaseFair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.load(Relaxed);
        f.debug_struct("PhaseFair")
            .field("readers", &(state / READER))
            .field("writer", &(state & WRITER != 0))
            .field("waiters", &(state & WAITERS != 0))
            .field("version", &self.version.load(Relaxed))
            .finish()
    }
}

/// Shared: no writer is inside until it is dropped. `!Send`: to be dropped in the poll, and by the
/// thread, that took it.
#[must_use = "the latch is released when the guard is dropped"]
pub struct ReadGuard<'a> {
    latch: &'a PhaseFair,
    not_send: PhantomData<*const ()>,
}

/// Exclusive, and the version is odd, until it is dropped. `!Send`: to be dropped in the poll, and
/// by the thread, that took it.
#[must_use = "the latch is released when the guard is dropped"]
pub struct WriteGuard<'a> {
    latch: &'a PhaseFair,
    not_send: PhantomData<*const ()>,
}

impl Drop for ReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.latch.leave_reader();
    }
}

impl Drop for WriteGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.latch.leave_writer();
    }
}

impl fmt::Debug for ReadGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadGuard").field(self.latch).finish()
    }
}

impl fmt::Debug for WriteGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WriteGuard").field(self.latch).finish()
    }
}
