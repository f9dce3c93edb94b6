//! [`SimRuntime`]: tasks, a ready queue, and timers on a clock that only the simulation moves.
//!
//! # Who owns whom
//! Tasks usually own the runtime, the disk, and each other's wakers. So the runtime owns the
//! futures, in their tasks' slots, and everything else that it hands out (wakers, sleeps) points to
//! the queue or the clock only. [`SimRuntime::close`] takes the futures out and drops them, which
//! undoes every cycle; from then on spawned tasks are dropped at once and wake-ups mean nothing.
//!
//! No lock is held while a future is polled or dropped, or a waker woken or dropped: all of these
//! may spawn, wake and set timers.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::BoxFuture;

use super::lock;
use super::rng::Rng;
use crate::runtime::{Runtime, Spawn};

/// The runtime of a simulated machine; [`Sim`](super::Sim) drives it.
pub struct SimRuntime {
    tasks: Mutex<Tasks>,
    ready: Arc<Ready>,
    clock: Arc<Clock>,
}

#[derive(Default)]
struct Tasks {
    live: BTreeMap<u64, Arc<Task>>,
    next: u64,
    closed: bool,
}

/// Tasks that were woken since their last poll.
#[derive(Default)]
struct Ready {
    queue: Mutex<Vec<Arc<Task>>>,
    closed: AtomicBool,
}

/// A future with its place in the ready queue. Without a future it stands for the one that
/// [`Sim::run`](super::Sim::run) polls itself, or has ended.
pub(super) struct Task {
    number: u64,
    future: Mutex<Option<Spawn>>,
    queued: AtomicBool,
    ready: Arc<Ready>,
    origin: Option<&'static Location<'static>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) && !self.ready.closed.load(Ordering::Acquire) {
            let ready = Arc::clone(&self.ready);
            lock(&ready.queue).push(self);
        }
    }
}

impl SimRuntime {
    pub(super) fn new() -> Self {
        let (tasks, ready, clock) = Default::default();
        Self { tasks, ready, clock }
    }

    /// A task for a future that the caller polls; it is ready.
    pub(super) fn foreign_task(&self) -> Arc<Task> {
        let task = self.task(u64::MAX, None, None);
        Waker::from(Arc::clone(&task)).wake();
        task
    }

    fn task(
        &self,
        number: u64,
        future: Option<Spawn>,
        origin: Option<&'static Location<'static>>,
    ) -> Arc<Task> {
        let (future, ready) = (Mutex::new(future), Arc::clone(&self.ready));
        Arc::new(Task { number, future, queued: AtomicBool::new(false), ready, origin })
    }

    pub(super) fn spawn_from(&self, origin: Option<&'static Location<'static>>, future: Spawn) {
        let refused = {
            let mut tasks = lock(&self.tasks);
            if tasks.closed {
                Some(future)
            } else {
                let number = tasks.next;
                tasks.next += 1;
                let task = self.task(number, Some(future), origin);
                tasks.live.insert(number, Arc::clone(&task));
                drop(tasks);
                task.wake();
                None
            }
        };
        drop(refused);
    }

    pub(super) fn has_ready(&self) -> bool {
        !lock(&self.ready.queue).is_empty()
    }

    /// Takes one task out of the ready queue, by chance.
    pub(super) fn take_ready(&self, rng: &mut Rng) -> Option<Arc<Task>> {
        let mut queue = lock(&self.ready.queue);
        let count = queue.len();
        let task = (count > 0).then(|| queue.swap_remove(rng.below(count)))?;
        task.queued.store(false, Ordering::Release);
        Some(task)
    }

    /// Polls a spawned task once. One that has ended stays so.
    pub(super) fn poll(&self, task: &Arc<Task>) {
        let Some(mut future) = lock(&task.future).take() else { return };
        let waker = Waker::from(Arc::clone(task));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => *lock(&task.future) = Some(future),
            Poll::Ready(()) => {
                let ended = lock(&self.tasks).live.remove(&task.number);
                drop(ended);
            }
        }
    }

    pub(super) fn live_tasks(&self) -> usize {
        lock(&self.tasks).live.len()
    }

    /// Where the live tasks were spawned, as far as it is known, with their number.
    pub(super) fn origins(&self) -> Vec<String> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for task in lock(&self.tasks).live.values() {
            let origin = task.origin.map_or("the engine".to_owned(), Location::to_string);
            *counts.entry(origin).or_default() += 1;
        }
        counts.into_iter().map(|(origin, count)| format!("{count} from {origin}")).collect()
    }

    /// Moves the clock and wakes whose time has come, earliest first.
    pub(super) fn advance(&self, by: Duration) {
        let due = {
            let mut times = lock(&self.clock.times);
            times.now += by;
            let now = times.now;
            if times.timers.first_key_value().is_none_or(|((at, _), _)| *at > now) {
                return;
            }
            let later = times.timers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut times.timers, later)
        };
        for waker in due.into_values() {
            waker.wake();
        }
    }

    /// How long until the next timer, if there is one.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        let times = lock(&self.clock.times);
        times.timers.keys().next().map(|(at, _)| at.saturating_sub(times.now))
    }

    /// Drops all tasks, in the order in which they were spawned, and those that this spawns.
    pub(super) fn close(&self) {
        self.ready.closed.store(true, Ordering::Release);
        let live = {
            let mut tasks = lock(&self.tasks);
            tasks.closed = true;
            std::mem::take(&mut tasks.live)
        };
        for task in live.into_values() {
            let future = lock(&task.future).take();
            drop(future);
        }
        let queue = std::mem::take(&mut *lock(&self.ready.queue));
        drop(queue);
        let timers = std::mem::take(&mut lock(&self.clock.times).timers);
        drop(timers);
    }
}

impl Runtime for SimRuntime {
    fn spawn(&self, task: Spawn) {
        self.spawn_from(None, task);
    }

    /// Tasks apart take turns like all others, so that what they do in which order is the seed's.
    fn processors(&self) -> usize {
        2
    }

    fn now(&self) -> Duration {
        lock(&self.clock.times).now
    }

    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()> {
        let at = self.now().saturating_add(delay);
        Box::pin(Sleep { clock: Arc::clone(&self.clock), at, timer: None })
    }
}

#[derive(Default)]
struct Clock {
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    now: Duration,
    /// By time, and among equals in the order of their first poll.
    timers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
}

struct Sleep {
    clock: Arc<Clock>,
    at: Duration,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = Arc::clone(&self.clock);
        let mut times = lock(&clock.times);
        if times.now >= self.at {
            return Poll::Ready(());
        }
        let number = self.timer.unwrap_or(times.next);
        times.next = times.next.max(number + 1);
        self.timer = Some(number);
        let replaced = times.timers.insert((self.at, number), cx.waker().clone());
        drop(times);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.timer {
            let removed = lock(&self.clock.times).timers.remove(&(self.at, number));
            drop(removed);
        }
    }
}
