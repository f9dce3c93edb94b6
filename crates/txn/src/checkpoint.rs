//! Checkpoints by epoch, without a pause (I5).
//!
//! 1. *Flip*: under the log's mutex the epoch changes; everything up to the last sequence drawn is
//!    the checkpoint, everything after it is not.
//! 2. *Quiesce*: wait for the changes of the closed epoch that are just being made to pages.
//!    The pages of large values that these changes brought or took are noted, or given up.
//! 3. *Write* every page that is still dirty from the closed epoch, out of place. A writer of the
//!    new epoch that meets such a page first captures its image before it changes it.
//! 4. *Log*: the closed epoch's records are made durable, which also tells where the log goes on
//!    behind them.
//! 5. *Publish*: the page map's changes, a sync, both superblocks; then the extents and the log
//!    segments that only older checkpoints needed are free.
//!
//! Any failure on the way poisons the engine (I8); the last checkpoint and the log behind it are
//! untouched.

use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;
use futures::future::select;
use tracing::Instrument;
use treering_latch::sync::Mutex;
use treering_latch::sync::atomic::{AtomicU64, Ordering};
use treering_latch::{Ticket, planted_bug};
use treering_pagefile::{CheckpointInfo, FileError, LogPosition};

use crate::engine::Engine;
use crate::error::Error;
use crate::stats::CheckpointStats;

/// Requests for checkpoints, by number.
#[derive(Default)]
pub(crate) struct Checkpoints {
    requested: AtomicU64,
    /// Requests up to this number have been answered by a checkpoint begun after them.
    answered: AtomicU64,
    written: AtomicU64,
    wanted: Event,
    ended: Event,
    /// Held while a checkpoint is written, and by who needs the log to stay as it is: engine tasks.
    pub(crate) exclusive: Ticket,
    /// Where the log begins behind the last checkpoint, and that checkpoint's sequence.
    last: Mutex<Option<(LogPosition, u64)>>,
    /// What it came to, and when it ended by the runtime's clock.
    last_written: Mutex<Option<(CheckpointStats, Duration)>>,
}

impl Checkpoints {
    pub(crate) fn count(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn note(&self, log: LogPosition, sequence: u64) {
        *self.last.lock() = Some((log, sequence));
    }

    /// The last checkpoint, as seen at `now` on the runtime's clock.
    pub(crate) fn last_stats(&self, now: Duration) -> Option<CheckpointStats> {
        let (stats, ended) = (*self.last_written.lock())?;
        Some(CheckpointStats { ago: now.saturating_sub(ended), ..stats })
    }

    pub(crate) fn last(&self) -> Option<(LogPosition, u64)> {
        *self.last.lock()
    }
}

impl Engine {
    /// Resolves when a checkpoint that began after this call is durable. Dropping the future takes
    /// nothing back: the checkpoint is the engine's.
    ///
    /// # Errors
    /// The write error that poisoned the engine; [`Error::Closed`].
    pub async fn checkpoint(&self) -> Result<(), Error> {
        self.check_writable()?;
        let number = self.checkpoints.requested.fetch_add(1, Ordering::AcqRel) + 1;
        self.checkpoints.wanted.notify(usize::MAX);
        loop {
            let ended = self.checkpoints.ended.listen();
            if self.checkpoints.answered.load(Ordering::Acquire) >= number {
                return Ok(());
            }
            self.check()?;
            ended.await;
        }
    }

    /// The engine's checkpoint task: writes one when somebody asks and when the log is half full.
    pub(crate) async fn run_checkpoints(self: Arc<Self>) {
        loop {
            let wanted = self.checkpoints.wanted.listen();
            let pressure = self.log.pressure();
            let closing = self.closing.listen();
            if self.check().is_err() {
                break;
            }
            let requested = self.checkpoints.requested.load(Ordering::Acquire);
            let answered = self.checkpoints.answered.load(Ordering::Acquire);
            if requested == answered && !self.log.usage().is_pressing() {
                select(wanted, select(pressure, closing)).await;
                continue;
            }
            if self.write_checkpoint().await.is_err() {
                break;
            }
            self.checkpoints.answered.store(requested, Ordering::Release);
            self.checkpoints.ended.notify(usize::MAX);
        }
        // Whoever still waits finds the engine closed or poisoned.
        self.checkpoints.ended.notify(usize::MAX);
    }

    /// Writes one checkpoint. Called by one task at a time.
    pub(crate) async fn write_checkpoint(&self) -> Result<(), FileError> {
        let span = tracing::debug_span!("checkpoint", sequence = tracing::field::Empty);
        self.write_checkpoint_in_span().instrument(span).await
    }

    async fn write_checkpoint_in_span(&self) -> Result<(), FileError> {
        let _exclusive = self.checkpoints.exclusive.enter_async().await;
        let (began, written_before) = (self.runtime.now(), self.pool().write_count());
        let flip = self.log.flip();
        tracing::Span::current().record("sequence", flip.last_sequence);
        if !planted_bug!(CheckpointDoesNotWait) {
            self.log.quiesced(flip.closed_epoch).await;
        }
        self.pool().settle_values(flip.closed_epoch).await;
        self.pool().write_epoch(flip.closed_epoch).await?;
        let log = self.log.position_after(flip.last_sequence).await?;
        let info = CheckpointInfo {
            epoch: flip.closed_epoch,
            sequence: flip.last_sequence,
            incarnation: self.incarnation,
            log,
        };
        self.pool().file().checkpoint(info).await?;
        self.pool().release_value_ids();
        self.checkpoints.note(log, flip.last_sequence);
        self.log.release_before(log);
        let ended = self.runtime.now();
        let stats = CheckpointStats {
            sequence: info.sequence,
            pages: self.pool().write_count() - written_before,
            took: ended.saturating_sub(began),
            ago: Duration::ZERO,
        };
        *self.checkpoints.last_written.lock() = Some((stats, ended));
        self.checkpoints.written.fetch_add(1, Ordering::Relaxed);
        if let Some(observer) = &self.observer {
            observer.checkpoint(&stats);
        }
        tracing::debug!(
            epoch = info.epoch,
            sequence = info.sequence,
            pages = stats.pages,
            took_ms = stats.took.as_millis() as u64,
            "checkpoint"
        );
        Ok(())
    }
}
