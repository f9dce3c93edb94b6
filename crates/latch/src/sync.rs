//! The synchronization primitives that everything here is written against: those of `std`, or with
//! `--cfg treering_loom` those of loom, which runs a program through its possible interleavings.
//!
//! The cfg has a name of its own: `--cfg loom` would switch other crates of a build as well.
//! A protocol that is written against this module can be model-checked; `loom-tests/README.md`
//! shows how.

use std::sync::{PoisonError, TryLockError};

#[cfg(not(treering_loom))]
use std as imp;

#[cfg(treering_loom)]
use loom as imp;

pub use imp::sync::Arc;

/// Atomics and fences. An atomic of loom may be made inside a model only, hence no `const` ones.
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
