//! The synchronization primitives that everything here is written against, in three forms:
//!
//! | build | primitives of | for |
//! |---|---|---|
//! | as it comes | `std` | use |
//! | `--cfg treering_loom` | loom | running a small protocol through all its interleavings |
//! | `--cfg treering_shuttle` | shuttle | running a whole engine through many interleavings, by chance |
//!
//! The cfgs have names of their own: `--cfg loom` would switch other crates of a build as well.
//! A protocol that is written against this module can be model-checked; `loom-tests/README.md`
//! shows how.
//!
//! Whoever holds a lock that is *not* from here must not come to anything that is: under shuttle all
//! threads of a program are one thread of the system, and a switch away from the holder would leave
//! the others, and with them the program, standing before that lock.
//!
//! `Weak`, and an `Arc` of something unsized, loom does not have: they are used from `std` wherever
//! counting references is not what is to be explored. Counters that nobody decides by are `std`'s as
//! well, and so is a `OnceLock`, whose value is made without looking at anything shared.

use std::sync::{PoisonError, TryLockError};

#[cfg(not(any(treering_loom, treering_shuttle)))]
use std as imp;

#[cfg(treering_loom)]
use loom as imp;

#[cfg(all(treering_shuttle, not(treering_loom)))]
use shuttle as imp;

pub use imp::sync::Arc;

#[cfg(treering_loom)]
pub use crate::loom_atomic as atomic;

/// Atomics and fences. An atomic of loom or shuttle may be used inside a model only.
#[cfg(not(treering_loom))]
pub mod atomic {
    pub use super::imp::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
}

/// A load by the only thread that may store next.
///
/// Under loom it is a read-modify-write that changes nothing. Loom 0.7 keeps one last access for each
/// atomic: if a thread loads and then stores, its own load hides an earlier load by another thread,
/// and the executions in which that other load comes after the store are never looked at.
#[inline]
pub(crate) fn load_to_store(word: &atomic::AtomicU64, order: atomic::Ordering) -> u64 {
    if cfg!(treering_loom) { word.fetch_add(0, order) } else { word.load(order) }
}

/// A point at which other threads may go first, for memory that cannot be of this module's atomics,
/// as the bytes of a page in a frame cannot. Nothing at all, but under shuttle.
///
/// (Nothing under loom, either, which has to see the accesses themselves: there a model brings memory
/// of its own.)
#[inline(always)]
pub fn step() {
    #[cfg(all(treering_shuttle, not(treering_loom)))]
    shuttle::thread::sleep(std::time::Duration::ZERO);
}

/// Threads, and waiting for them.
pub mod thread {
    pub use super::imp::thread::{JoinHandle, Thread, current, park, spawn, yield_now};
}

/// What to tell the processor while spinning.
pub mod hint {
    pub use super::imp::hint::spin_loop;
}

/// What [`Mutex::lock`] returns.
pub type MutexGuard<'a, T> = imp::sync::MutexGuard<'a, T>;

/// For the short inner sections of a latch: a few instructions on its queue, with `lock` and
/// `try_lock`. What other latch packages have a spin latch for (seed row T3).
///
/// It is the mutex of `std`, which on Linux is one 32-bit word that spins for as long as such a
/// section takes and then sleeps until it is woken. A latch that only spins is as fast while the
/// holder runs; when the holder has lost its processor in the middle, it keeps that processor busy
/// with waiting, the more so the more threads want it, and below a thread of higher priority for
/// ever. And a model checker cannot explore a loop whose end is somebody else's business.
///
/// It is not poisoned by a panic: what it protects here is consistent between any two
/// statements that could panic, and a latch that answers everybody with a second panic would only
/// hide the first.
#[derive(Debug, Default)]
pub struct Mutex<T>(imp::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// An unlocked mutex around `value`.
    pub fn new(value: T) -> Self {
        Self(imp::sync::Mutex::new(value))
    }

    /// Waits for the mutex; released when the guard is dropped.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mutex if nobody has it just now. Never waits.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// What [`RwLock::read`] returns.
pub type RwLockReadGuard<'a, T> = imp::sync::RwLockReadGuard<'a, T>;

/// What [`RwLock::write`] returns.
pub type RwLockWriteGuard<'a, T> = imp::sync::RwLockWriteGuard<'a, T>;

/// For what is looked at often and changed seldom. That of `std`, not poisoned by a panic for the
/// same reason as [`Mutex`].
#[derive(Debug, Default)]
pub struct RwLock<T>(imp::sync::RwLock<T>);

impl<T> RwLock<T> {
    /// An unlocked lock around `value`.
    pub fn new(value: T) -> Self {
        Self(imp::sync::RwLock::new(value))
    }

    /// Waits until no writer is inside.
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody is inside.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
