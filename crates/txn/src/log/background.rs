//! What the engine's own task does for the log: the next segments, ahead of need, and the records
//! that somebody wants soon but does not wait for, in time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{join, select};
use std::sync::Arc;
use treering_pagefile::FileErrorKind;

use super::Log;
use super::files::{prepare, shrink};
use super::segment::{Job, Plan};

/// How long to wait when there is no space for a segment and only somebody else can make some.
const RETRY: Duration = Duration::from_millis(100);

/// What is to be done about the filling group.
enum Due {
    /// Write it now: everything up to this sequence.
    Now(u64),
    /// Look again after this time.
    Later(Duration),
    /// Nothing, until somebody wants something soon.
    Idle,
    /// Write what is there, and end.
    Stop,
}

impl Log {
    /// The background of the log; the engine spawns it once. It ends after [`Log::stop`], when what
    /// is in the buffer is written or cannot be.
    pub async fn run(self: Arc<Self>) {
        join(self.prepare_segments(), self.flush_in_time()).await;
    }

    /// Lets [`Log::run`] write what is in the buffer, and end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.work.notify(usize::MAX);
        self.dirty.notify(usize::MAX);
    }

    fn is_over(&self) -> bool {
        self.stopping.load(Ordering::SeqCst) || self.health.check().is_err()
    }

    async fn prepare_segments(&self) {
        loop {
            let work = self.work.listen();
            if self.is_over() {
                return;
            }
            let job = self.lock().segments.plan();
            match job {
                Some(Job::Prepare(plan)) => self.prepare_segment(plan).await,
                Some(Job::Shrink(file)) => {
                    if let Err(error) = shrink(&*self.disk, file, 0) {
                        tracing::warn!(%error, "a log file that is no longer needed stays");
                    }
                }
                None if self.lock().segments.is_stuck() => {
                    // Nobody says when there is room on the disk again.
                    select(work, self.runtime.sleep(RETRY)).await;
                    self.lock().segments.given_up(false);
                }
                None => work.await,
            }
        }
    }

    async fn prepare_segment(&self, plan: Plan) {
        let prepared = prepare(&*self.disk, self.incarnation, plan, || !self.is_over()).await;
        let mut state = self.lock();
        match prepared {
            Ok(Some(file)) => {
                state.segments.prepared(plan, file);
                drop(state);
                self.room.notify(usize::MAX);
            }
            Ok(None) => state.segments.given_up(false),
            Err(error) if error.kind() == FileErrorKind::Full => {
                state.segments.given_up(true);
                drop(state);
                tracing::warn!(%error, "the log goes on with the segments it has");
                // With less capacity it is time for a checkpoint earlier.
                self.pressure.notify(usize::MAX);
            }
            Err(error) => {
                state.segments.given_up(false);
                drop(state);
                self.poison(error);
            }
        }
    }

    async fn flush_in_time(self: &Arc<Self>) {
        loop {
            let dirty = self.dirty.listen();
            match self.due() {
                Due::Now(sequence) => {
                    // An error ends the next round.
                    let _ = self.wait_durable(sequence).await;
                }
                Due::Later(delay) => {
                    select(dirty, self.runtime.sleep(delay)).await;
                }
                Due::Idle => dirty.await,
                Due::Stop => {
                    // An error is the engine's, and known to it.
                    let _ = self.wait_durable(self.last_sequence()).await;
                    return;
                }
            }
        }
    }

    fn due(&self) -> Due {
        if self.is_over() {
            return Due::Stop;
        }
        let mut state = self.lock();
        let Some(at) = state.soon else {
            state.idle = true;
            return Due::Idle;
        };
        match at.checked_sub(self.runtime.now()) {
            Some(left) if !left.is_zero() => Due::Later(left),
            _ => Due::Now(self.last_sequence()),
        }
    }
}
