//! I/O in flight against futures that are dropped (I12): `transfer` and the real pool over a disk whose
//! requests end when loom says so.
//!
//! Protocol: a request owns its buffer (or a share of the memory that its buffer is part of), and who
//! is told of its end; the future has a receiver only. So whoever drops the future, and everything
//! else that it knows of, at whatever moment, takes nothing from the I/O: the memory is freed by the
//! completion, or by the one who looks at the result, whichever is later. Checked, with four
//! preemptions:
//!
//! * memory is alive whenever the disk touches it, at whatever moment the future is dropped (what hands
//!   the result over is a channel of `futures`, whose memory orderings loom does not see);
//! * a result that somebody waits for comes, whoever performs the request;
//! * a pool that everybody has dropped lives until its last read has ended, and no longer.
//!
//! Planted, in the model: a future that owns the buffer.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// What is planted in the model is used by `finds` only, and not every model is.
#![allow(dead_code)]
#![cfg_attr(treering_planted_bug, allow(unused_imports))]

use std::any::Any;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use loom::thread;
use treering_loom_tests::bench::Bench;
use treering_loom_tests::desk::{Desk, PAGE};
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};
use treering_pagefile::{Disk, FileId, IoBuf, Lane, Op, PageId, transfer};

/// Memory that the disk reads into, and what has become of it.
struct Memory {
    bytes: Box<[u8; PAGE]>,
    state: Mutex<State>,
}

#[derive(PartialEq, Debug)]
enum State {
    Blank,
    Filled,
    Freed,
}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Self { bytes: Box::new([0; PAGE]), state: Mutex::new(State::Blank) })
    }

    fn becomes(&self, next: State) {
        let before = std::mem::replace(&mut *self.state.lock().unwrap(), next);
        assert_ne!(before, State::Freed, "the disk touches memory that was freed");
    }

    fn is_filled(&self) -> bool {
        *self.state.lock().unwrap() == State::Filled
    }
}

/// Frees the memory, for the model, when it is dropped. The memory itself stays, for the model to look at.
struct Owner(Arc<Memory>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.becomes(State::Freed);
    }
}

/// A disk with one file of one page; when it reads, the memory is filled.
fn disk(memory: &Arc<Memory>) -> (Arc<Desk>, FileId) {
    let desk = Desk::new(0);
    let file = desk.open("a file", true).unwrap();
    desk.put(file, 0, &[7; PAGE]);
    desk.begin_watched({
        let memory = Arc::clone(memory);
        move |request| {
            if request.op == Op::Read {
                memory.becomes(State::Filled);
            }
        }
    });
    (desk, file)
}

fn lend(memory: &Arc<Memory>, owner: Arc<dyn Any + Send + Sync>) -> IoBuf {
    let start = NonNull::new(memory.bytes.as_ptr().cast_mut()).unwrap();
    // SAFETY: `memory` outlives the model's disk, and nobody else touches its bytes.
    unsafe { IoBuf::shared(start, PAGE, owner) }
}

/// Main asks for a read and drops the future; a thread performs it.
fn dropped(reached: &Reached, owner_of: fn(Arc<Memory>) -> [Arc<dyn Any + Send + Sync>; 2]) {
    let memory = Memory::new();
    let (desk, file) = disk(&memory);
    let [io, future] = owner_of(Arc::clone(&memory));
    let disk = {
        let read = transfer(&*desk, Lane::Foreground, file, Op::Read, 0, lend(&memory, io));
        let mut read = Box::pin(async move {
            let read = read.await;
            drop(future);
            read
        });
        assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let disk = {
            let desk = Arc::clone(&desk);
            thread::spawn(move || desk.serve())
        };
        desk.moment();
        if read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            reached.now();
        }
        disk
    };
    // The future is gone, in whatever state it was.
    assert!(disk.join().unwrap(), "a request was lost");
}

/// Main waits to the end, and the thread may be the one that performs the read.
fn awaited() {
    let memory = Memory::new();
    let (desk, file) = disk(&memory);
    let disk = {
        let desk = Arc::clone(&desk);
        thread::spawn(move || desk.serve())
    };
    let owner = Arc::new(Owner(Arc::clone(&memory)));
    let read = transfer(&*desk, Lane::Foreground, file, Op::Read, 0, lend(&memory, owner));
    let (buf, result) = desk.drive(read);
    result.unwrap();
    assert!(memory.is_filled(), "a read ended before it was performed");
    drop(buf);
    disk.join().unwrap();
}

/// Main asks a pool for a page, and drops the future and the pool; a thread performs the read.
fn pool_dropped() {
    let Bench { desk, pool } = Bench::new(2, 1, 1);
    desk.begin();
    let mut fetch = Box::pin(pool.fetch(PageId(1)));
    assert!(fetch.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let known = Arc::downgrade(&pool);
    let disk = {
        let desk = Arc::clone(&desk);
        thread::spawn(move || desk.serve())
    };
    desk.moment();
    drop(fetch);
    desk.moment();
    drop(pool);
    disk.join().unwrap();
    assert_eq!(desk.counted().reads, 1, "a request was lost");
    assert!(known.upgrade().is_none(), "a pool was leaked");
}

/// As it is: the request has it all.
fn by_the_request(memory: Arc<Memory>) -> [Arc<dyn Any + Send + Sync>; 2] {
    [Arc::new(Owner(memory)), Arc::new(())]
}

/// The planted bug.
fn by_the_future(memory: Arc<Memory>) -> [Arc<dyn Any + Send + Sync>; 2] {
    [Arc::new(()), Arc::new(Owner(memory))]
}

mod holds {
    use super::*;

    #[test]
    fn a_buffer_outlives_its_io() {
        explore_reaching(PREEMPTIONS, |reached| dropped(reached, by_the_request));
    }

    #[test]
    fn a_result_comes_whoever_performs_the_request() {
        explore(PREEMPTIONS, awaited);
    }

    #[test]
    fn a_pool_outlives_its_reads() {
        explore(PREEMPTIONS, pool_dropped);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;

    #[test]
    #[should_panic(expected = "the disk touches memory that was freed")]
    fn a_future_that_owns_the_buffer() {
        explore_reaching(PREEMPTIONS, |reached| dropped(reached, by_the_future));
    }
}
