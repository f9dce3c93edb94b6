//! Who is inside an engine that is to end: attempts to change something, and the engine's own tasks.
//!
//! 1. An attempt counts itself in ([`Attempts`]) and only then looks whether the door is closed. If it
//!    is, the attempt goes out again, having done nothing.
//! 2. Whoever closes the door closes it first and only then begins to wait: for each who is counted.
//! 3. Who goes out counts itself off, and only then looks whether somebody may be waiting.
//!
//! All of these are sequentially consistent, so of two who meet one sees the other: an attempt that
//! found the door open is waited for, and the last one out tells who waits.
//!
//! A task is counted before it runs, by whoever is inside: an attempt, or another task. So who waits
//! looks for attempts first and for tasks then; the other way round, it would overlook a task that the
//! last attempt began between the two looks.

// Public in a model only.
#![cfg_attr(not(treering_loom), allow(unreachable_pub))]

use event_listener::Event;
use treering_latch::planted_bug;
use treering_latch::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::attempts::Attempts;

/// The door of an engine.
#[derive(Default)]
pub struct Door {
    closed: AtomicBool,
    pub(crate) attempts: Attempts,
    tasks: AtomicUsize,
    went: Event,
}

/// An attempt to change something, counted while this lives.
pub struct Inside<'d> {
    door: &'d Door,
    side: usize,
}

impl Door {
    /// Begins an attempt, if the door is open.
    pub fn enter(&self) -> Option<Inside<'_>> {
        if planted_bug!(DoorLooksFirst) && self.is_closed() {
            return None;
        }
        let inside = Inside { door: self, side: self.attempts.enter() };
        (planted_bug!(DoorLooksFirst) || !self.is_closed()).then_some(inside)
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Closes it for good; whether it was open.
    pub fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::SeqCst)
    }

    /// A task of the engine's will run.
    pub fn task_begins(&self) {
        self.tasks.fetch_add(1, Ordering::SeqCst);
    }

    /// It runs no more.
    pub fn task_ended(&self) {
        self.tasks.fetch_sub(1, Ordering::SeqCst);
        self.went.notify(usize::MAX);
    }

    /// Resolves when nobody is inside any more, after [`Door::close`].
    pub async fn empty(&self) {
        loop {
            let went = self.went.listen();
            // The attempts first: one may begin a task and go out between the two looks.
            let tasks = || self.tasks.load(Ordering::SeqCst);
            let too_early = planted_bug!(DoorTasksFirst).then(tasks);
            if self.attempts.none() && too_early.unwrap_or_else(tasks) == 0 {
                return;
            }
            went.await;
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.door.attempts.leave(self.side);
        if self.door.is_closed() && !planted_bug!(LastOneOutIsSilent) {
            self.door.went.notify(usize::MAX);
        }
    }
}
