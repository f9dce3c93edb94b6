//! A runtime that polls only what was woken, and whose clock moves when a test says so.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use treering_pagefile::{Runtime, Spawn};

/// A waker that remembers whether it was woken.
#[derive(Default)]
pub struct Flag(pub AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Flag {
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

/// A future and whether it was woken.
pub struct Task<T> {
    pub flag: Arc<Flag>,
    pub future: BoxFuture<'static, T>,
}

impl<T> Task<T> {
    pub fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { flag: Arc::new(Flag::default()), future: Box::pin(future) }
    }

    pub fn poll(&mut self) -> Poll<T> {
        let waker = Waker::from(Arc::clone(&self.flag));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

#[derive(Default)]
pub struct ManualRuntime {
    tasks: Mutex<Vec<Task<()>>>,
    clock: Arc<Mutex<Clock>>,
}

#[derive(Default)]
struct Clock {
    now: Duration,
    timers: Vec<(Duration, Waker)>,
}

impl Runtime for ManualRuntime {
    fn spawn(&self, future: Spawn) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.tasks.lock().unwrap().push(Task { flag, future });
    }

    fn now(&self) -> Duration {
        self.clock.lock().unwrap().now
    }

    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()> {
        let clock = Arc::clone(&self.clock);
        let at = self.now() + delay;
        Box::pin(std::future::poll_fn(move |cx| {
            let mut clock = clock.lock().unwrap();
            if clock.now >= at {
                return Poll::Ready(());
            }
            clock.timers.push((at, cx.waker().clone()));
            Poll::Pending
        }))
    }
}

impl ManualRuntime {
    /// Polls every task that was woken; whether there was one.
    pub fn turn(&self) -> bool {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        let mut any = false;
        let mut left = Vec::new();
        for mut task in tasks {
            if task.flag.take() {
                any = true;
                if task.poll().is_ready() {
                    continue;
                }
            }
            left.push(task);
        }
        self.tasks.lock().unwrap().extend(left);
        any
    }

    pub fn tasks(&self) -> usize {
        self.tasks.lock().unwrap().len()
    }

    /// How many timers are set.
    pub fn timers(&self) -> usize {
        self.clock.lock().unwrap().timers.len()
    }

    pub fn advance(&self, time: Duration) {
        let mut clock = self.clock.lock().unwrap();
        clock.now += time;
        let now = clock.now;
        let (due, later) = std::mem::take(&mut clock.timers).into_iter().partition(|t| t.0 <= now);
        clock.timers = later;
        drop(clock);
        let due: Vec<(Duration, Waker)> = due;
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }
}
