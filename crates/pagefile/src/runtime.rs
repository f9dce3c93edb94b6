//! Where engine tasks run and what time it is: the one seam to threads and clocks.
//!
//! The engine starts no thread and reads no clock but through [`Runtime`], so that all of it also
//! runs on a seeded, deterministic executor with virtual time (`sim`). The real one is
//! [`EngineThread`]: one thread with an executor and its timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use async_executor::Executor;
use futures::future::BoxFuture;

/// A task of the engine's own.
pub type Spawn = BoxFuture<'static, ()>;

/// Lets other tasks go first, once.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs engine tasks and tells the time.
pub trait Runtime: Send + Sync + 'static {
    /// Runs `task` to its end on the engine's thread. A task that is still there when the runtime
    /// is dropped is dropped with it.
    fn spawn(&self, task: Spawn);

    /// Runs `task` to its end beside the engine's thread: for work that takes a processor of its own.
    /// Where there is no other thread it is a task like any other.
    fn spawn_apart(&self, task: Spawn) {
        self.spawn(task);
    }

    /// How many tasks at once are worth spawning apart.
    fn processors(&self) -> usize {
        1
    }

    /// Time since the runtime began.
    fn now(&self) -> Duration;

    /// Resolves after `delay`. Dropping it cancels the timer.
    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()>;
}

/// The real runtime: one thread, named `treering-engine`, that ends when this is dropped.
pub struct EngineThread {
    shared: Arc<Shared>,
}

struct Shared {
    executor: Executor<'static>,
    timers: Mutex<BinaryHeap<Reverse<Timer>>>,
    stop: AtomicBool,
    thread: Arc<ThreadWaker>,
    began: Instant,
}

impl EngineThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start() -> std::io::Result<Self> {
        let (sender, receiver) = std::sync::mpsc::channel::<Arc<Shared>>();
        let handle = thread::Builder::new().name("treering-engine".into()).spawn(move || {
            if let Ok(shared) = receiver.recv() {
                run(&shared);
            }
        })?;
        let shared = Arc::new(Shared {
            executor: Executor::new(),
            timers: Mutex::new(BinaryHeap::new()),
            stop: AtomicBool::new(false),
            thread: Arc::new(ThreadWaker(handle.thread().clone())),
            began: Instant::now(),
        });
        // The thread holds the receiver until it gets this message, so that sending cannot fail.
        let _ = sender.send(Arc::clone(&shared));
        Ok(Self { shared })
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.thread.0.unpark();
    }
}

impl Runtime for EngineThread {
    fn spawn(&self, task: Spawn) {
        self.shared.executor.spawn(task).detach();
    }

    /// On a thread that is started for it, named `treering-helper`.
    fn spawn_apart(&self, task: Spawn) {
        let (sender, receiver) = std::sync::mpsc::channel::<Spawn>();
        let thread = thread::Builder::new().name("treering-helper".into());
        let started = thread.spawn(move || {
            if let Ok(task) = receiver.recv() {
                futures::executor::block_on(task);
            }
        });
        match started {
            // It holds the receiver until it gets the task.
            Ok(_) => drop(sender.send(task)),
            // The system has no more threads: it takes longer.
            Err(_) => self.spawn(task),
        }
    }

    fn processors(&self) -> usize {
        thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }

    fn now(&self) -> Duration {
        self.shared.began.elapsed()
    }

    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { shared: Arc::clone(&self.shared), at: self.now() + delay })
    }
}

/// The engine thread: polls the executor, fires timers, parks until either has something to do.
fn run(shared: &Shared) {
    let waker = Waker::from(Arc::clone(&shared.thread));
    let mut cx = Context::from_waker(&waker);
    let mut tasks = pin!(shared.executor.run(std::future::pending::<()>()));
    while !shared.stop.load(Ordering::Acquire) {
        let _: Poll<()> = tasks.as_mut().poll(&mut cx);
        match fire_timers(shared) {
            Some(wait) => thread::park_timeout(wait),
            None => thread::park(),
        }
    }
}

/// Wakes whoever's time has come; returns how long until the next one.
fn fire_timers(shared: &Shared) -> Option<Duration> {
    let now = shared.began.elapsed();
    loop {
        let due = {
            let mut timers = lock(&shared.timers);
            match timers.peek() {
                None => return None,
                Some(Reverse(timer)) if timer.at > now => return Some(timer.at - now),
                Some(_) => timers.pop(),
            }
        };
        if let Some(Reverse(timer)) = due {
            timer.waker.wake();
        }
    }
}

struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Timer {
    at: Duration,
    waker: Waker,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

struct Sleep {
    shared: Arc<Shared>,
    at: Duration,
}

impl Future for Sleep {
    type Output = ();

    /// Each poll before the time leaves one timer behind; the engine's tasks poll a sleep a few
    /// times at most, and a stale timer only wakes its task once more.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.began.elapsed() >= self.at {
            return Poll::Ready(());
        }
        lock(&self.shared.timers).push(Reverse(Timer { at: self.at, waker: cx.waker().clone() }));
        self.shared.thread.0.unpark();
        Poll::Pending
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::oneshot;

    #[test]
    fn a_task_apart_waits_on_a_thread_of_its_own_and_keeps_nobody_from_running() {
        let runtime = Arc::new(EngineThread::start().unwrap());
        let name = || thread::current().name().map(str::to_owned);
        let (go, going) = oneshot::channel::<Option<String>>();
        let (sender, receiver) = oneshot::channel();
        runtime.spawn_apart(Box::pin(async move {
            let engine = going.await.unwrap();
            let _ = sender.send((engine, name()));
        }));
        runtime.spawn(Box::pin(async move {
            let _ = go.send(name());
        }));
        let (engine, apart) = futures::executor::block_on(receiver).unwrap();
        assert_eq!(engine.as_deref(), Some("treering-engine"));
        assert_eq!(apart.as_deref(), Some("treering-helper"));
        assert!(runtime.processors() > 0);
    }

    #[test]
    fn tasks_run_timers_fire_in_order_and_drop_ends_the_thread() {
        let runtime = Arc::new(EngineThread::start().unwrap());
        let (sender, receiver) = oneshot::channel();
        let inner = Arc::clone(&runtime);
        runtime.spawn(Box::pin(async move {
            let long = inner.sleep(Duration::from_millis(30));
            let short = inner.sleep(Duration::from_millis(5));
            let first = futures::future::select(long, short).await;
            let short_first = matches!(first, futures::future::Either::Right(_));
            let _ = sender.send((short_first, inner.now()));
        }));
        let (short_first, at) = futures::executor::block_on(receiver).unwrap();
        assert!(short_first && at >= Duration::from_millis(5));
    }
}
