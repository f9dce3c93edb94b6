//! The end of an engine against operations that are under way (I2, I8): the engine's real door.
//!
//! Protocol: an attempt counts itself in and looks then whether the door is closed. Whoever closes it
//! closes it first, and then waits for all who are counted; the last one out tells. Tasks of the engine's
//! are counted by whoever is inside, before they run. Checked, with four preemptions (three for two
//! attempts at once):
//!
//! * when the wait is over, nobody is inside, everything that was done inside is visible (a cell of
//!   loom's reports a race otherwise), and nobody comes in afterwards;
//! * the wait ends, whoever comes and goes meanwhile: loom reports a deadlock otherwise;
//! * a task that an attempt began is waited for, too. (The look for tasks was once before the one for
//!   attempts, and overlooked such a task: `a_task_that_was_begun_is_waited_for` found that.)
//!
//! Planted: an attempt that looks at the door before it counts itself in; a last one out that tells
//! nobody; a look for tasks before the one for attempts.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it.
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::future::block_on;
use loom::thread;
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};
use treering_txn::Door;

/// A door, and the files behind it: how often something was written, and whether they have been
/// given up.
#[derive(Default)]
struct Engine {
    door: Door,
    files: UnsafeCell<u32>,
}

// SAFETY: one thread in a model writes, and whoever ends the engine has waited for it; loom checks that
// this suffices.
unsafe impl Sync for Engine {}

const GIVEN_UP: u32 = 100;

impl Engine {
    fn write(&self) {
        // SAFETY: the one that writes is inside.
        self.files.with_mut(|files| unsafe {
            assert!(*files < GIVEN_UP, "something was written after the end");
            *files += 1;
        });
    }

    fn end(&self) -> u32 {
        assert!(self.door.close(), "it is closed once");
        block_on(self.door.empty());
        // SAFETY: nobody is inside any more.
        self.files.with_mut(|files| unsafe { std::mem::replace(&mut *files, GIVEN_UP) })
    }
}

fn spawn<T: 'static>(
    engine: &Arc<Engine>,
    body: impl FnOnce(&Engine) -> T + 'static,
) -> thread::JoinHandle<T> {
    let engine = Arc::clone(engine);
    thread::spawn(move || body(&engine))
}

/// A thread makes two attempts, and main ends the engine.
fn attempts_and_end(reached: &Reached) {
    let engine = Arc::new(Engine::default());
    let thread = spawn(&engine, |engine| {
        let attempt = || engine.door.enter().map(|_inside| engine.write()).is_some();
        [attempt(), attempt()]
    });
    let written = engine.end();
    let [first, second] = thread.join().unwrap();
    assert!(first || !second, "a closed door was opened again");
    assert_eq!(written, u32::from(first) + u32::from(second), "an attempt was not waited for");
    if written == 1 {
        reached.now();
    }
    assert!(engine.door.enter().is_none(), "a closed door was opened again");
}

/// An attempt begins a task, which writes later.
fn task_and_end(reached: &Reached) {
    let engine = Arc::new(Engine::default());
    let thread = spawn(&engine, |engine| {
        let began = engine.door.enter().map(|_inside| engine.door.task_begins()).is_some();
        if began {
            engine.write();
            engine.door.task_ended();
        }
        began
    });
    let written = engine.end();
    let began = thread.join().unwrap();
    assert_eq!(written, u32::from(began), "a task was not waited for");
    if began {
        reached.now();
    }
}

/// Two threads make an attempt each, and main ends the engine.
fn two_attempts_and_end() {
    let engine = Arc::new(Engine::default());
    let attempts =
        [(), ()].map(|()| spawn(&engine, |engine| engine.door.enter().map(drop).is_some()));
    engine.end();
    for attempt in attempts {
        attempt.join().unwrap();
    }
    assert!(engine.door.enter().is_none(), "a closed door was opened again");
}

mod holds {
    use super::*;

    #[test]
    fn whoever_is_inside_is_waited_for() {
        explore_reaching(PREEMPTIONS, attempts_and_end);
    }

    #[test]
    fn a_task_that_was_begun_is_waited_for() {
        explore_reaching(PREEMPTIONS, task_and_end);
    }

    #[test]
    fn the_wait_comes_to_an_end() {
        explore(3, two_attempts_and_end);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn an_attempt_that_looks_first() {
        with(Bug::DoorLooksFirst, || explore_reaching(PREEMPTIONS, attempts_and_end));
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_look_for_tasks_before_the_one_for_attempts() {
        with(Bug::DoorTasksFirst, || explore_reaching(PREEMPTIONS, task_and_end));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_last_one_out_that_tells_nobody() {
        with(Bug::LastOneOutIsSilent, || explore_reaching(PREEMPTIONS, attempts_and_end));
    }
}
