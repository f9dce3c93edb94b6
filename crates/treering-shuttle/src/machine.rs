//! The machine that an execution runs on: a simulated disk that two threads complete, a clock that
//! a third one moves, and engine tasks that are polled beside each other.
//!
//! Everything that a real machine does at the same time is done by threads of the scheduler's here,
//! so a completion runs in the middle of a writer's change, and a timer expires between any two
//! steps. A timer may expire at any moment: nothing is said about how long anything takes.
//!
//! The disk, the timers and the histories of keys are behind mutexes of `std`, under which there is
//! no point at which threads could switch.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use shuttle::future;
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread::{Builder, JoinHandle};
use treering_pagefile::sim::{SimDisk, SimImage};
use treering_pagefile::{Disk, FileId, Lane, Request, Runtime, Spawn};

/// A machine that is on.
pub(crate) struct Machine {
    pub(crate) disk: Arc<BusyDisk>,
    pub(crate) runtime: Arc<Tasks>,
    threads: Vec<JoinHandle<()>>,
}

/// How many threads complete requests.
const COMPLETERS: usize = 2;

impl Machine {
    /// A machine with an empty disk, or with what a crash of another one left.
    pub(crate) fn start(seed: u64, image: Option<&SimImage>) -> Self {
        let sim = match image {
            Some(image) => SimDisk::from_image(image, seed),
            None => SimDisk::new(seed),
        };
        let disk = Arc::new(BusyDisk { sim, bell: Bell::default() });
        let runtime = Arc::new(Tasks::default());
        let mut threads = Vec::new();
        for _ in 0..COMPLETERS {
            let disk = Arc::clone(&disk);
            threads.push(thread("completer", move || {
                while disk.bell.heard() {
                    disk.sim.step();
                }
            }));
        }
        let clock = Arc::clone(&runtime.clock);
        threads.push(thread("clock", move || {
            while clock.bell.heard() {
                clock.expire_next();
            }
        }));
        Self { disk, runtime, threads }
    }

    /// Waits until all tasks of the engine's have ended, and ends the machine.
    pub(crate) fn stop(self) {
        self.runtime.alive.wait_for_none();
        self.disk.bell.end();
        self.runtime.clock.bell.end();
        for thread in self.threads {
            thread.join().unwrap_or_else(|_| panic!("a thread of the machine's panicked"));
        }
    }
}

/// A thread of the scheduler's; a deadlock is told with the names of all.
pub(crate) fn thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let spawned = Builder::new().name(name.to_owned()).spawn(body);
    spawned.unwrap_or_else(|error| panic!("no thread: {error}"))
}

/// How often somebody is to do something.
#[derive(Default)]
struct Bell {
    state: Mutex<Rung>,
    rung: Condvar,
}

#[derive(Default)]
struct Rung {
    times: usize,
    ended: bool,
}

impl Bell {
    fn ring(&self, times: usize) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.times += times;
        drop(state);
        self.rung.notify_all();
    }

    fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.ended = true;
        drop(state);
        self.rung.notify_all();
    }

    /// Waits for a ring; false when there are none left and there will be no more.
    fn heard(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while state.times == 0 && !state.ended {
            state = self.rung.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        let rung = state.times > 0;
        state.times -= usize::from(rung);
        rung
    }
}

/// A simulated disk whose requests are completed by threads.
pub(crate) struct BusyDisk {
    pub(crate) sim: SimDisk,
    bell: Bell,
}

impl Disk for BusyDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<FileId> {
        self.sim.open(name, create)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.sim.names()
    }

    fn len(&self, file: FileId) -> io::Result<u64> {
        self.sim.len(file)
    }

    fn set_len(&self, file: FileId, len: u64) -> io::Result<()> {
        self.sim.set_len(file, len)
    }

    fn describe(&self, file: FileId) -> String {
        self.sim.describe(file)
    }

    fn block_size(&self) -> usize {
        self.sim.block_size()
    }

    fn backend(&self) -> String {
        self.sim.backend()
    }

    fn submit(&self, lane: Lane, requests: &mut Vec<Request>) {
        let count = requests.len();
        self.sim.submit(lane, requests);
        self.bell.ring(count);
    }

    fn reap(&self) {}
}

/// A runtime whose tasks are the scheduler's.
#[derive(Default)]
pub(crate) struct Tasks {
    alive: Arc<Alive>,
    clock: Arc<Clock>,
}

impl Runtime for Tasks {
    fn spawn(&self, task: Spawn) {
        let alive = Alive::one_more(&self.alive);
        let handle = future::spawn(async move {
            task.await;
            drop(alive);
        });
        // Dropping the handle lets the task go on, and others not be waited for it.
        drop(handle);
    }

    fn now(&self) -> Duration {
        self.clock.times().now
    }

    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()> {
        let at = self.now() + delay;
        Box::pin(Sleep { clock: Arc::clone(&self.clock), at, number: None })
    }
}

/// How many tasks there are.
#[derive(Default)]
struct Alive {
    count: Mutex<usize>,
    fewer: Condvar,
}

struct OneAlive(Arc<Alive>);

impl Alive {
    fn one_more(this: &Arc<Self>) -> OneAlive {
        *this.count.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += 1;
        OneAlive(Arc::clone(this))
    }

    fn wait_for_none(&self) {
        let mut count = self.count.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while *count > 0 {
            count = self.fewer.wait(count).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

impl Drop for OneAlive {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) -= 1;
        self.0.fewer.notify_all();
    }
}

#[derive(Default)]
struct Clock {
    times: std::sync::Mutex<Times>,
    /// Rings once for each timer.
    bell: Bell,
}

#[derive(Default)]
struct Times {
    now: Duration,
    timers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
}

impl Clock {
    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets the time of the next timer come.
    fn expire_next(&self) {
        let mut times = self.times();
        let Some(((at, _), waker)) = times.timers.pop_first() else { return };
        times.now = times.now.max(at);
        drop(times);
        waker.wake();
    }
}

struct Sleep {
    clock: Arc<Clock>,
    at: Duration,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = Arc::clone(&self.clock);
        let mut times = clock.times();
        if times.now >= self.at {
            return Poll::Ready(());
        }
        let fresh = self.number.is_none();
        let number = self.number.unwrap_or(times.next);
        times.next = times.next.max(number + 1);
        self.number = Some(number);
        times.timers.insert((self.at, number), cx.waker().clone());
        drop(times);
        if fresh {
            clock.bell.ring(1);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.clock.times().timers.remove(&(self.at, number));
        }
    }
}
