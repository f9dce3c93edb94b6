//! What a disk has done so far, for statistics and for tests that count.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::io_watch::IoWatch;

/// Totals since the disk was opened. Each counter is exact; together they are no snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskCounters {
    /// Requests handed to [`crate::Disk::submit`].
    pub requests: u64,
    /// Sync requests among them.
    pub syncs_asked: u64,
    /// `fdatasync`s started for them: concurrent sync requests for one file share one.
    pub syncs_done: u64,
    /// Completions that nobody reaped for some milliseconds, and that the I/O thread then ran: a
    /// runtime stood still.
    pub rescued: u64,
    /// Requests that took longer than [`crate::DiskOptions::slow_io`].
    pub slow: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) syncs_asked: AtomicU64,
    pub(crate) syncs_done: AtomicU64,
    pub(crate) rescued: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, watch: &IoWatch) -> DiskCounters {
        DiskCounters {
            requests: self.requests.load(Ordering::Relaxed),
            syncs_asked: self.syncs_asked.load(Ordering::Relaxed),
            syncs_done: self.syncs_done.load(Ordering::Relaxed),
            rescued: self.rescued.load(Ordering::Relaxed),
            slow: watch.slow_count(),
        }
    }
}
