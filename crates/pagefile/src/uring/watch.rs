//! The I/O thread: performs background requests, waits for lanes that have no poller, and watches
//! those that have one.
//!
//! One turn of [`Watch::run`]: take the inbox, arm the polls, sleep in `io_uring_enter`, run what
//! has finished, look after the watched lanes if a tick has passed. Polls are one-shot and armed
//! anew before each sleep, which makes them level-triggered: a ring that is readable then ends the
//! sleep at once.
//!
//! The tick goes on as long as something is in flight on a watched lane, or was submitted since the
//! tick before; then the thread sleeps without one until it is kicked.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::ring::{Reap, Ring};
use super::{AWAKE, IDLE, POLLER, Shared, TICKING, WATCH};
use crate::counters::Counters;
use crate::work::lock;

/// How long a completion may lie in a watched lane before it is a candidate for rescue; it is
/// rescued a tick later.
const TICK: Duration = Duration::from_millis(5);

/// The tag of the poll on the eventfd; lanes have their index.
const EVENT: u64 = u32::MAX as u64;

pub(super) struct Watch {
    shared: Arc<Shared>,
    ring: Ring,
    /// Which lanes have a poll in flight.
    armed: Vec<bool>,
    event_armed: bool,
    /// What the last tick saw of each lane.
    seen: Vec<Seen>,
    /// When the next tick is due; none while nothing is to be watched.
    next_tick: Option<Instant>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    accepted: u64,
    reaped: u64,
    had_completions: bool,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, ring: Ring) -> Self {
        let lanes = shared.lanes.len();
        Self {
            shared,
            ring,
            armed: vec![false; lanes],
            event_armed: false,
            seen: vec![Seen::default(); lanes],
            next_tick: None,
        }
    }

    pub(super) fn run(mut self) {
        let mut fired = Vec::new();
        while !self.is_done() {
            let works = std::mem::take(&mut *lock(&self.shared.inbox));
            self.ring.push(works.into_iter());
            let armed = self.arm();
            self.sleep(armed);
            self.ring.reap(Reap::Now, &mut fired);
            for tag in fired.drain(..) {
                self.fired(tag);
            }
            if self.next_tick.is_some_and(|at| Instant::now() >= at) {
                self.tick();
            }
        }
        for lane in &self.shared.lanes {
            lane.ring.unregister();
        }
    }

    /// Whether the disk has been dropped and nothing is in flight. The lanes are looked at first:
    /// their completions may start background requests (the next shared sync), never the reverse,
    /// since nobody is left who could submit to a lane.
    fn is_done(&self) -> bool {
        self.shared.closing.load(Ordering::SeqCst)
            && self.shared.lanes.iter().all(|lane| lane.ring.in_flight() == 0)
            && lock(&self.shared.inbox).is_empty()
            && self.ring.in_flight() == 0
    }

    /// Polls the eventfd and all lanes that this thread has to wait for. False if the kernel takes
    /// no polls just now.
    fn arm(&mut self) -> bool {
        let closing = self.shared.closing.load(Ordering::SeqCst);
        if !self.event_armed {
            self.event_armed = self.ring.poll_once(self.shared.event.as_raw_fd(), EVENT);
        }
        let mut all = self.event_armed;
        for (index, lane) in self.shared.lanes.iter().enumerate() {
            let mine = closing || lane.waiter.load(Ordering::SeqCst) == WATCH;
            if mine && !self.armed[index] {
                let fd: RawFd = lane.ring.as_raw_fd();
                self.armed[index] = self.ring.poll_once(fd, index as u64);
                all &= self.armed[index];
            }
        }
        all
    }

    fn sleep(&mut self, armed: bool) {
        let shared = &self.shared;
        let state = if self.next_tick.is_some() { TICKING } else { IDLE };
        shared.watch.store(state, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.next_tick.is_none() && (!armed || self.to_watch()) {
            // Somebody submitted before they could see that this thread sleeps without a tick.
            self.next_tick = Some(Instant::now() + TICK);
            shared.watch.store(TICKING, Ordering::SeqCst);
        }
        let timeout = if lock(&shared.inbox).is_empty() {
            self.next_tick.map(|at| at.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        self.ring.wait(timeout);
        shared.watch.store(AWAKE, Ordering::SeqCst);
    }

    /// Whether anything is going on that needs ticks.
    fn to_watch(&self) -> bool {
        let lanes = &self.shared.lanes;
        self.ring.is_stuck()
            || self.shared.closing.load(Ordering::SeqCst)
            || lanes.iter().any(|lane| {
                let watched = lane.waiter.load(Ordering::SeqCst) == POLLER;
                lane.ring.is_stuck() || (watched && lane.ring.in_flight() > 0)
            })
    }

    fn fired(&mut self, tag: u64) {
        if tag == EVENT {
            self.event_armed = false;
            let mut count = [0; 8];
            // Cleared before anything is looked at, so that a kick from now on is seen later. An
            // empty eventfd is an error of no consequence.
            let _ = rustix::io::read(&self.shared.event, &mut count);
            self.shared.kicked.store(false, Ordering::SeqCst);
            return;
        }
        let index = tag as usize;
        self.armed[index] = false;
        let has_poller = self.shared.lanes[index].waiter.load(Ordering::SeqCst) == POLLER;
        // A poll left over from before the poller came says nothing that the poller does not know.
        if !has_poller || self.shared.closing.load(Ordering::SeqCst) {
            self.shared.reap_lane(index, Reap::Now);
        }
    }

    /// Rescues completions that nobody reaps, and decides whether to go on ticking.
    fn tick(&mut self) {
        let mut active = false;
        for (index, lane) in self.shared.lanes.iter().enumerate() {
            let ring = &lane.ring;
            if ring.is_stuck() {
                ring.pump();
            }
            let seen = &mut self.seen[index];
            let watched = lane.waiter.load(Ordering::SeqCst) == POLLER;
            active |= watched && ring.accepted() != seen.accepted;
            let has_completions = watched && ring.has_completions();
            if has_completions && seen.had_completions && ring.reaped() == seen.reaped {
                let rescued = self.shared.reap_lane(index, Reap::Now);
                Counters::add(&self.shared.counters.rescued, rescued);
            }
            *seen = Seen {
                accepted: ring.accepted(),
                reaped: ring.reaped(),
                had_completions: has_completions,
            };
        }
        let go_on = active || self.to_watch();
        self.next_tick = go_on.then(|| Instant::now() + TICK);
    }
}
