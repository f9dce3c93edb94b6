//! The line in front of a [`Ticket`](crate::Ticket): numbers in the order of arrival.
//!
//! Whoever joins draws a number, and the numbers in the line only ever ascend from front to back. So
//! whoever was given a number can ask at any time whether it still stands there: if not, it is its
//! turn. That is all that a task has to know, and what makes it possible to leave the line again,
//! which the counters of a ticket latch in the books do not allow.
//!
//! A waker belongs to strangers. Dropping one may drop a task, and with it a place in this very
//! line; so none is dropped or woken in here, under the mutex, but handed out to the caller.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use crate::planted_bug;
use crate::waiter::Waiter;

/// The waiters of one latch, the first to be served in front.
#[derive(Default)]
pub(crate) struct Line {
    drawn: u64,
    waiting: VecDeque<(u64, Who)>,
}

/// One who waits.
pub(crate) enum Who {
    Thread(Arc<Waiter>),
    Task(Waker),
}

impl Line {
    /// At the end. The number that is drawn is no other waiter's.
    pub(crate) fn join(&mut self, who: Who) -> u64 {
        self.drawn += 1;
        self.waiting.push_back((self.drawn, who));
        self.drawn
    }

    /// Takes out the one whose turn it is.
    pub(crate) fn next(&mut self) -> Option<Who> {
        let next = if planted_bug!(NewestTicketFirst) {
            self.waiting.pop_back()
        } else {
            self.waiting.pop_front()
        };
        next.map(|(_, who)| who)
    }

    /// Takes out the one with this number, who does not want to wait any longer. `None`: its turn
    /// has come already.
    pub(crate) fn leave(&mut self, number: u64) -> Option<Who> {
        let index = self.find(number)?;
        self.waiting.remove(index).map(|(_, who)| who)
    }

    /// Whether the task with this number still stands here. It is then to be woken by `waker`, and
    /// what it was to be woken by is in there instead.
    pub(crate) fn swap_waker(&mut self, number: u64, waker: &mut Waker) -> bool {
        match self.find(number).map(|index| &mut self.waiting[index].1) {
            Some(Who::Task(old)) => {
                if !planted_bug!(TicketKeepsFirstWaker) {
                    mem::swap(old, waker);
                }
                true
            }
            Some(Who::Thread(_)) => unreachable!("a thread never asks: it is told"),
            None => false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&number, |(number, _)| *number).ok()
    }
}

impl Who {
    /// Lets it in. The latch's word says already that it is held.
    pub(crate) fn grant(self) {
        match self {
            Who::Thread(waiter) => waiter.grant(),
            Who::Task(waker) => waker.wake(),
        }
    }
}
