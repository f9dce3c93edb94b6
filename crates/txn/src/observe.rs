//! Who watches the engine is told of recoveries and checkpoints; and how far a recovery is.
//!
//! How much log there is to replay is not known before its end has been found. At most it is what
//! the segments hold from the last checkpoint on, and of the last one usually only a part: so the
//! estimate is an upper bound, and a recovery ends earlier rather than later than it says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use treering_pagefile::Runtime;

use crate::stats::CheckpointStats;

/// Is told of what the engine does. Called on the engine's thread: it must not block.
pub trait EngineObserver: fmt::Debug + Send + Sync {
    /// A recovery has come this far. It is told at the beginning, then some times a second, and at
    /// the end.
    fn recovering(&self, _progress: &RecoveryProgress) {}

    /// A checkpoint was written.
    fn checkpoint(&self, _checkpoint: &CheckpointStats) {}
}

/// How far a recovery is: the replay of the log behind the last checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryProgress {
    /// Bytes of the log that have been replayed.
    pub bytes: u64,
    /// Bytes of the log that there may be to replay; at the end, those that there were.
    pub bytes_at_most: u64,
    /// Log records that have been replayed.
    pub records: u64,
    /// Since the replay began.
    pub elapsed: Duration,
    /// What it will take from now on at most, if it goes on as it did; none as long as nothing can be
    /// said. Zero at the end.
    pub remaining: Option<Duration>,
    /// The log has been replayed. What is left is a checkpoint.
    pub done: bool,
}

/// Between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Between two events for those who read the trace.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// Reports on one replay.
pub(crate) struct Reporter {
    runtime: Arc<dyn Runtime>,
    observer: Option<Arc<dyn EngineObserver>>,
    began: Duration,
    reported: Duration,
    event: Duration,
    bytes_at_most: u64,
}

impl Reporter {
    pub(crate) fn begin(
        runtime: Arc<dyn Runtime>,
        observer: Option<Arc<dyn EngineObserver>>,
        bytes_at_most: u64,
    ) -> Self {
        let began = runtime.now();
        let reporter =
            Self { runtime, observer, began, reported: began, event: began, bytes_at_most };
        tracing::debug!(bytes_at_most, "reading the log");
        reporter.tell(&RecoveryProgress { bytes_at_most, ..RecoveryProgress::default() });
        reporter
    }

    /// So much has been replayed. Cheap, unless it is time for a report.
    pub(crate) fn at(&mut self, bytes: u64, records: u64) {
        let now = self.runtime.now();
        if now.saturating_sub(self.reported) < REPORT_EVERY {
            return;
        }
        self.reported = now;
        let elapsed = now.saturating_sub(self.began);
        let remaining = remaining(bytes, self.bytes_at_most, elapsed);
        let bytes_at_most = self.bytes_at_most.max(bytes);
        let done = false;
        self.tell(&RecoveryProgress { bytes, bytes_at_most, records, elapsed, remaining, done });
        if now.saturating_sub(self.event) >= EVENT_EVERY {
            self.event = now;
            tracing::info!(
                bytes,
                bytes_at_most,
                records,
                elapsed_ms = elapsed.as_millis() as u64,
                remaining_ms = remaining.unwrap_or_default().as_millis() as u64,
                "recovering"
            );
        }
    }

    /// All of it has been replayed. Returns how long that took.
    pub(crate) fn end(self, bytes: u64, records: u64) -> Duration {
        let elapsed = self.runtime.now().saturating_sub(self.began);
        let remaining = Some(Duration::ZERO);
        let (bytes_at_most, done) = (bytes, true);
        self.tell(&RecoveryProgress { bytes, bytes_at_most, records, elapsed, remaining, done });
        elapsed
    }

    fn tell(&self, progress: &RecoveryProgress) {
        if let Some(observer) = &self.observer {
            observer.recovering(progress);
        }
    }
}

fn remaining(bytes: u64, at_most: u64, elapsed: Duration) -> Option<Duration> {
    let left = at_most.saturating_sub(bytes) as f64;
    (bytes > 0).then(|| elapsed.mul_f64(left / bytes as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_follows_from_what_is_done() {
        let second = Duration::from_secs(1);
        assert_eq!(remaining(0, 100, second), None);
        assert_eq!(remaining(25, 100, second), Some(3 * second));
        assert_eq!(remaining(100, 100, second), Some(Duration::ZERO));
        // A log longer than its segments is none; it is no reason to panic.
        assert_eq!(remaining(101, 100, second), Some(Duration::ZERO));
    }
}
