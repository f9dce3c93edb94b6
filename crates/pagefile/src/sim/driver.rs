//! [`Sim`]: the loop that polls tasks, completes I/Os and moves the clock, and notices hangs.
//!
//! One round of the loop, by chance where there is a choice:
//!
//! 1. If tasks are ready, and (with a probability that the seed chose once) also if they are: one
//!    I/O completes, if any is in flight.
//! 2. Else one ready task is polled.
//! 3. Else, with no task ready and no I/O in flight but such as [stand still](SimDisk::stall): one of
//!    those goes on, or the clock jumps to the next timer. Not on a dead machine, whose programs would
//!    only watch the time pass.
//! 4. Else nothing will ever happen: [`Stalled`].
//!
//! A poll takes 1 us of virtual time and an I/O 1 to 128 us, so that timers also expire while there
//! is work.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::channel::oneshot;

use super::disk::{SimDisk, SimDiskOptions};
use super::image::SimImage;
use super::lock;
use super::requests::Power;
use super::rng::Rng;
use super::runtime::{SimRuntime, Task};
use crate::runtime::Runtime;

/// A simulated machine: a disk, a runtime, and the chance that drives both.
///
/// Dropping it drops all its tasks and requests. The disk is then off.
pub struct Sim {
    disk: Arc<SimDisk>,
    runtime: Arc<SimRuntime>,
    chance: Mutex<Chance>,
    patience: Patience,
}

/// How many polls a program gets that goes on by itself on a dead machine.
const DEAD_POLLS: u64 = 10_000;

struct Chance {
    rng: Rng,
    /// Of 256 rounds, in how many an I/O completes though a task is ready.
    eagerness: u64,
}

/// How long something may go on without getting anywhere until it counts as a livelock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Polls in a row without an I/O completing or the clock jumping. Default ten million.
    pub polls: u64,
    /// Jumps of the clock in a row without an I/O completing: a program that hangs but for a
    /// periodic timer. Default a hundred thousand.
    pub jumps: u64,
    /// Virtual time for one [`Sim::run`]. Default one day.
    pub time: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { polls: 10_000_000, jumps: 100_000, time: Duration::from_secs(86_400) }
    }
}

/// Why [`Sim::run`] gave up.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Stalled {
    /// A deadlock: nothing is ready, no I/O is in flight, no timer is set.
    #[error("the program hangs: {0}")]
    Hang(Scene),
    /// The disk is dead or off, and nothing is ready, or what is ready goes on without any I/O.
    #[error("the machine is dead: {0}")]
    Dead(Scene),
    /// Something goes on and on, but gets nowhere ([`Patience`]).
    #[error("the program goes in circles: {0}")]
    Livelock(Scene),
}

/// What it looked like when a simulation [`Stalled`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scene {
    /// Virtual time.
    pub now: Duration,
    /// Spawned tasks that have not ended.
    pub tasks: usize,
    /// Where they were spawned, with numbers.
    pub origins: Vec<String>,
    /// Requests submitted so far.
    pub io_count: u64,
    /// Requests in flight.
    pub in_flight: usize,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "after {:.6} s and {} I/Os, {} of them in flight, with {} tasks waiting",
            self.now.as_secs_f64(),
            self.io_count,
            self.in_flight,
            self.tasks
        )?;
        for (number, origin) in self.origins.iter().enumerate() {
            write!(f, "{}{origin}", if number == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

/// What one run has done since it got somewhere.
struct Progress {
    polls: u64,
    jumps: u64,
    until: Duration,
}

impl Sim {
    /// A machine with an empty disk with default options.
    pub fn new(seed: u64) -> Self {
        Self::with_options(seed, SimDiskOptions::default())
    }

    /// A machine with an empty disk.
    pub fn with_options(seed: u64, options: SimDiskOptions) -> Self {
        Self::assemble(seed, SimDisk::with_options(seed, options))
    }

    /// A machine with the disk of another.
    pub fn from_image(image: &SimImage, seed: u64) -> Self {
        Self::assemble(seed, SimDisk::from_image(image, seed))
    }

    fn assemble(seed: u64, disk: SimDisk) -> Self {
        Self {
            disk: Arc::new(disk),
            runtime: Arc::new(SimRuntime::new()),
            chance: Mutex::new(Chance::new(seed)),
            patience: Patience::default(),
        }
    }

    /// The disk.
    pub fn disk(&self) -> Arc<SimDisk> {
        Arc::clone(&self.disk)
    }

    /// The runtime, for the engine.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.runtime) as Arc<dyn Runtime>
    }

    /// Sets when to speak of a livelock.
    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Spawns a task and gives its result to whoever awaits the handle. Dropping the handle lets
    /// the task go on.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> SimTask<T> {
        let (sender, receiver) = oneshot::channel();
        let task = async move {
            // Nobody may be waiting for the result.
            let _ = sender.send(future.await);
        };
        self.runtime.spawn_from(Some(Location::caller()), Box::pin(task));
        SimTask { receiver }
    }

    /// Polls `future`, and all tasks, until it ends. The tasks then stand still until the next
    /// call.
    ///
    /// # Errors
    /// [`Stalled`] if the future will never end; it is dropped then.
    ///
    /// # Panics
    /// If a task does.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> Result<T, Stalled> {
        let main = self.runtime.foreign_task();
        let waker = Waker::from(Arc::clone(&main));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        let mut progress = self.begin();
        loop {
            let Some(task) = self.next_task(&mut progress, true)? else {
                let scene = self.scene();
                return Err(match self.disk.is_dead() {
                    true => Stalled::Dead(scene),
                    false => Stalled::Hang(scene),
                });
            };
            if !Arc::ptr_eq(&task, &main) {
                self.runtime.poll(&task);
            } else if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Ok(output);
            }
        }
    }

    /// Runs the tasks until none is ready and no I/O is in flight, or the machine is dead, without
    /// waiting for timers. Background work has then come to rest.
    ///
    /// # Errors
    /// [`Stalled::Livelock`] if that never happens.
    pub fn settle(&self) -> Result<(), Stalled> {
        let mut progress = self.begin();
        while let Some(task) = self.next_task(&mut progress, false)? {
            self.runtime.poll(&task);
        }
        Ok(())
    }

    /// Ends the machine and starts another with the disk of `image`, no tasks, and the clock at
    /// zero. [`Sim::disk`] and [`Sim::runtime`] have to be asked for again.
    pub fn restart(&mut self, image: &SimImage, seed: u64) {
        let patience = self.patience;
        *self = Self::from_image(image, seed);
        self.patience = patience;
    }

    fn begin(&self) -> Progress {
        let until = self.runtime.now().saturating_add(self.patience.time);
        Progress { polls: 0, jumps: 0, until }
    }

    /// Moves the machine on until a task may be polled; `None` if that will never be.
    fn next_task(
        &self,
        progress: &mut Progress,
        timers: bool,
    ) -> Result<Option<Arc<Task>>, Stalled> {
        let mut chance = lock(&self.chance);
        loop {
            let power = self.disk.power();
            if power == Power::Off || (power == Power::Dead && progress.polls > DEAD_POLLS) {
                return Ok(None);
            }
            if progress.polls > self.patience.polls
                || progress.jumps > self.patience.jumps
                || self.runtime.now() > progress.until
            {
                return Err(Stalled::Livelock(self.scene()));
            }
            let eager = chance.rng.next() % 256 < chance.eagerness;
            if eager || !self.runtime.has_ready() {
                // Completions run engine code, which never runs the simulation.
                if self.disk.step() {
                    (progress.polls, progress.jumps) = (0, 0);
                    let latency_us = 1 + chance.rng.next() % 128;
                    self.runtime.advance(Duration::from_micros(latency_us));
                    continue;
                }
            }
            if let Some(task) = self.runtime.take_ready(&mut chance.rng) {
                progress.polls += 1;
                self.runtime.advance(Duration::from_micros(1));
                return Ok(Some(task));
            }
            let timer = self.runtime.next_timer().filter(|_| timers);
            // Somebody's patience may end before an I/O does that stands still.
            if power == Power::On
                && self.disk.has_stalled()
                && (timer.is_none() || chance.rng.next().is_multiple_of(2))
            {
                self.disk.release_stalled();
                self.runtime.advance(Duration::from_millis(1 << (chance.rng.next() % 12)));
                continue;
            }
            match timer {
                Some(wait) if power == Power::On => {
                    progress.polls = 0;
                    progress.jumps += 1;
                    self.runtime.advance(wait);
                }
                _ => return Ok(None),
            }
        }
    }

    fn scene(&self) -> Scene {
        Scene {
            now: self.runtime.now(),
            tasks: self.runtime.live_tasks(),
            origins: self.runtime.origins(),
            io_count: self.disk.io_count(),
            in_flight: self.disk.in_flight(),
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // The disk first: what tasks submit while they are dropped must not pile up in it.
        self.disk.power_off();
        self.runtime.close();
    }
}

impl Chance {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(!seed);
        // Never zero: a task that yields while it waits for an I/O must get it some day.
        let eagerness = [1, 8, 48, 160][rng.below(4)];
        Self { rng, eagerness }
    }
}

/// The result of a task that [`Sim::spawn`] started.
pub struct SimTask<T> {
    receiver: oneshot::Receiver<T>,
}

impl<T> Future for SimTask<T> {
    type Output = T;

    /// # Panics
    /// If the task was dropped with its machine.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.receiver).poll(cx).map(|result| {
            result.unwrap_or_else(|_| panic!("a task of a machine that has ended was awaited"))
        })
    }
}
