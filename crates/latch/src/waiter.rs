//! How a thread waits for a latch, and how it is told that it is in.
//!
//! A waiting thread owns one [`Waiter`], shared with the queue that it stands in. Its word goes
//!
//! ```text
//! WAITING --(waiter is tired of spinning)--> PARKED --(grant)--> GRANTED
//!    '------------------(grant)----------------------------------->'
//! ```
//!
//! and exactly one of two things happens: the grant finds `PARKED` and unparks, once; or the waiter
//! finds `GRANTED` and never parks. So a grant leaves no stray unpark token in a thread that did not
//! park for it, which an executor's `park` in the same thread would trip over.
//!
//! A thread has one token for everybody who parks it. While it waits here, inside the poll of some
//! future, a waker may unpark it for an executor that does nothing but park: that token is consumed
//! here, and the executor would sleep over its wake-up. So whoever has parked leaves a token behind; at
//! worst somebody parks once for nothing.
//!
//! The latch has changed hands *before* the grant: the leaver takes the next one out of the queue,
//! writes the new owner into the latch's word, and only then grants.

// Not `sync::Arc`: counting references is not what a model is to explore.
use std::sync::Arc;

use crate::sync::atomic::AtomicU8;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{hint, thread};

/// How often a waiter looks before it parks: two to five microseconds of `pause`, which is longer
/// than a page change and shorter than a trip through the scheduler.
const SPINS: usize = 100;

const WAITING: u8 = 0;
const PARKED: u8 = 1;
const GRANTED: u8 = 2;

/// One waiting thread.
pub(crate) struct Waiter {
    word: AtomicU8,
    thread: thread::Thread,
}

impl Waiter {
    /// For the current thread, which is to call [`Waiter::wait`].
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { word: AtomicU8::new(WAITING), thread: thread::current() })
    }

    /// Returns once granted; everything the leaver did is visible then.
    pub(crate) fn wait(&self) {
        if self.spin() {
            return;
        }
        if self.word.compare_exchange(WAITING, PARKED, Relaxed, Acquire).is_err() {
            return;
        }
        // Parks first and looks then: the unpark for PARKED is on its way, and is consumed here.
        loop {
            thread::park();
            if self.word.load(Acquire) == GRANTED {
                break;
            }
        }
        // In a model there is no such executor, and one more token would only multiply its states.
        if !cfg!(treering_loom) {
            self.thread.unpark();
        }
    }

    /// Whether it was granted meanwhile. In a model waiting is parking: spinning would only multiply
    /// its states.
    fn spin(&self) -> bool {
        let granted = || {
            hint::spin_loop();
            self.word.load(Acquire) == GRANTED
        };
        !cfg!(any(treering_loom, treering_shuttle)) && (0..SPINS).any(|_| granted())
    }

    /// Lets it go on: everything the granting thread did is visible to it.
    pub(crate) fn grant(&self) {
        if self.word.swap(GRANTED, Release) == PARKED {
            self.thread.unpark();
        }
    }
}
