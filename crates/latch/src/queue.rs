//! Who waits for a phase-fair latch, and whose phase is next.
//!
//! [`Queue::next`] says who is next, the leaver writes them into the state word as inside, and only
//! then grants ([`Next::grant`]).

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use crate::planted_bug;
use crate::waiter::Waiter;

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
