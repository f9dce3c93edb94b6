//! Waiting for durability and for room: registered to be woken, owning nothing (I1).
//!
//! A record that is not durable yet is in the group on its way or in the filling one, so there are
//! two lists of wakers, and sealing a group turns the second into the first. A list has a number
//! that no other list has; a future remembers the list and its place in it, so that being polled
//! again replaces its waker, and being dropped removes it, in constant time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::future::select;
use slab::Slab;
use treering_latch::planted_bug;
use treering_pagefile::FileError;

use super::Log;
use super::format::padded;
use super::group::State;

/// The wakers of those who wait for one group.
pub(super) struct List {
    number: u64,
    wakers: Slab<Waker>,
}

impl List {
    /// Wakes everybody, outside the mutex.
    pub(super) fn wake(&mut self) {
        self.wakers.drain().for_each(Waker::wake);
    }
}

/// Everybody who waits for durability.
pub(super) struct Waiters {
    on_its_way: List,
    filling: List,
    /// The memory of an earlier list.
    spare: Slab<Waker>,
    /// The last number that was given to a list.
    lists: u64,
}

/// A future's place in a list.
#[derive(Clone, Copy)]
struct Place {
    list: u64,
    key: usize,
}

impl Waiters {
    pub(super) fn new() -> Self {
        let list = |number| List { number, wakers: Slab::new() };
        Self { on_its_way: list(0), filling: list(1), spare: Slab::new(), lists: 2 }
    }

    /// The filling group is on its way now, and another one fills.
    pub(super) fn group_sealed(&mut self) {
        debug_assert!(self.on_its_way.wakers.is_empty(), "no other group was on its way");
        std::mem::swap(&mut self.on_its_way, &mut self.filling);
        self.filling.number = self.next_number();
    }

    /// Those who waited for the group that is durable now.
    pub(super) fn take_durable(&mut self) -> List {
        let number = self.next_number();
        let fresh = List { number, wakers: std::mem::take(&mut self.spare) };
        std::mem::replace(&mut self.on_its_way, fresh)
    }

    /// Everybody.
    pub(super) fn take_all(&mut self) -> [List; 2] {
        let fresh = List { number: self.next_number(), wakers: Slab::new() };
        [self.take_durable(), std::mem::replace(&mut self.filling, fresh)]
    }

    /// Gives a list back whose wakers have been woken.
    pub(super) fn reuse(&mut self, list: List) {
        self.spare = list.wakers;
    }

    fn next_number(&mut self) -> u64 {
        self.lists += 1;
        self.lists
    }

    fn list(&mut self, place: Place) -> Option<&mut List> {
        [&mut self.on_its_way, &mut self.filling].into_iter().find(|list| list.number == place.list)
    }

    fn register(&mut self, on_its_way: bool, place: &mut Option<Place>, waker: &Waker) {
        if let Some(known) = *place
            && let Some(list) = self.list(known)
            && let Some(old) = list.wakers.get_mut(known.key)
        {
            if !old.will_wake(waker) {
                *old = waker.clone();
            }
            return;
        }
        let list = if on_its_way { &mut self.on_its_way } else { &mut self.filling };
        *place = Some(Place { list: list.number, key: list.wakers.insert(waker.clone()) });
    }

    fn withdraw(&mut self, place: Place) -> Option<Waker> {
        self.list(place)?.wakers.try_remove(place.key)
    }
}

/// Resolves when a sequence is durable. See [`Log::wait_durable`].
#[must_use = "futures do nothing unless polled"]
pub struct WaitDurable {
    log: Arc<Log>,
    sequence: u64,
    place: Option<Place>,
}

impl WaitDurable {
    /// The answer, if there is one without waiting.
    fn outcome(&self, state: &State) -> Option<Result<(), FileError>> {
        if self.log.durable_sequence() >= self.sequence {
            return Some(Ok(()));
        }
        let on_its_way = || state.on_its_way.is_some_and(|g| g.last_sequence >= self.sequence);
        if planted_bug!(AcknowledgedTooSoon) && on_its_way() {
            return Some(Ok(()));
        }
        state.poisoned.as_ref().map(|error| Err(error.clone()))
    }
}

impl Future for WaitDurable {
    type Output = Result<(), FileError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.log.durable_sequence() >= this.sequence {
            this.place = None;
            return Poll::Ready(Ok(()));
        }
        this.log.disk.reap();
        let mut state = this.log.lock();
        if let Some(outcome) = this.outcome(&state) {
            this.place = None;
            return Poll::Ready(outcome);
        }
        let on_its_way = state.on_its_way.is_some_and(|g| g.last_sequence >= this.sequence)
            && !planted_bug!(WaitsForWrongGroup);
        state.waiters.register(on_its_way, &mut this.place, cx.waker());
        let sealed = this.log.want(&mut state, this.sequence);
        drop(state);
        this.log.launch(sealed);
        Poll::Pending
    }
}

impl Drop for WaitDurable {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let withdrawn = self.log.lock().waiters.withdraw(place);
            // A waker's drop is somebody else's code: it runs after the mutex is released.
            drop(withdrawn);
        }
    }
}

impl Log {
    /// Resolves when `sequence` and everything before it is durable. The first poll asks for that
    /// as [`Log::request_flush`] does.
    ///
    /// The future owns nothing that anybody waits for; dropping it takes nothing back.
    ///
    /// # Errors
    /// Resolves to the error that poisoned the engine. Whether the record is there after reopening
    /// is then open.
    pub fn wait_durable(self: &Arc<Self>, sequence: u64) -> WaitDurable {
        WaitDurable { log: Arc::clone(self), sequence, place: None }
    }

    /// Resolves when room may have come back after [`super::AppendError::NoRoom`], or the engine is
    /// poisoned. Everybody is told at once, and nobody has room reserved: try again.
    ///
    /// The first poll asks for the filling group to be written, so that room comes.
    pub fn wait_room(self: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        let log = Arc::clone(self);
        async move {
            let (room, poisoned) = (log.room.listen(), log.health.listen());
            if !log.make_room() {
                select(room, poisoned).await;
            }
        }
    }

    /// Asks for the filling group to be written; whether any record has room now. If not, `room`
    /// will be notified: when the group is sealed, or, if it is empty, when the next segment is
    /// prepared.
    fn make_room(&self) -> bool {
        self.disk.reap();
        let mut state = self.lock();
        let sealed = self.want(&mut state, self.last_sequence());
        let empty = state.count == 0;
        let roomy = empty && state.segments.fits(padded(self.options.buffer_size));
        let over = roomy || state.poisoned.is_some();
        drop(state);
        self.launch(sealed);
        over || self.health.check().is_err()
    }
}
