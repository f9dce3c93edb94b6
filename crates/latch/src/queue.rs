//! Who waits for a latch, and how a waiter is told that it is in.
//!
//! A waiting thread owns one [`Waiter`], shared with the queue. Its word goes
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
//! The latch has changed hands *before* the grant: [`Queue::next`] says who is next, the leaver
//! writes the new owner into the state word, and only then grants.

use std::collections::VecDeque;
use std::mem;

use crate::planted_bug;
use crate::sync::atomic::AtomicU8;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{Arc, hint, thread};

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
                return;
            }
        }
    }

    /// Whether it was granted meanwhile. In a model waiting is parking: spinning would only multiply
    /// its states.
    fn spin(&self) -> bool {
        let granted = || {
            hint::spin_loop();
            self.word.load(Acquire) == GRANTED
        };
        !cfg!(treering_loom) && (0..SPINS).any(|_| granted())
    }

    fn grant(&self) {
        if self.word.swap(GRANTED, Release) == PARKED {
            self.thread.unpark();
        }
    }
}

/// The waiters of one latch.
#[derive(Default)]
pub(crate) struct Queue {
    writers: VecDeque<Arc<Waiter>>,
    readers: Vec<Arc<Waiter>>,
}

/// Who enters next, taken from the queue.
pub(crate) enum Next {
    /// All that waited, together; at least one.
    Readers(Vec<Arc<Waiter>>),
    /// The writer that has waited longest.
    Writer(Arc<Waiter>),
}

impl Queue {
    pub(crate) fn push_reader(&mut self, waiter: Arc<Waiter>) {
        self.readers.push(waiter);
    }

    pub(crate) fn push_writer(&mut self, waiter: Arc<Waiter>) {
        self.writers.push_back(waiter);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.readers.is_empty() && self.writers.is_empty()
    }

    /// Waiting readers and waiting writers.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.readers.len(), self.writers.len())
    }

    /// Phases alternate: after a writer the readers if there are any, after readers a writer.
    /// `None` only if nobody waits: a reader waits only while a writer is inside or waiting, so
    /// where readers leave and somebody waits, a writer does.
    pub(crate) fn next(&mut self, writer_leaves: bool) -> Option<Next> {
        let writer_anyway = planted_bug!(WriterOvertakesReaders) && !self.writers.is_empty();
        if writer_leaves && !self.readers.is_empty() && !writer_anyway {
            return Some(Next::Readers(mem::take(&mut self.readers)));
        }
        if planted_bug!(NewestWriterFirst) {
            return self.writers.pop_back().map(Next::Writer);
        }
        self.writers.pop_front().map(Next::Writer)
    }
}

impl Next {
    /// Lets them in. The state word counts them as inside already.
    pub(crate) fn grant(self) {
        match self {
            Next::Readers(mut readers) => {
                if planted_bug!(OneReaderForgotten) {
                    readers.pop();
                }
                readers.iter().for_each(|reader| reader.grant());
            }
            Next::Writer(writer) => writer.grant(),
        }
    }
}
