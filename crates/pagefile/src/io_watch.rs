//! How long requests take on a real disk: slow ones are reported, and whoever measures is told of all.
//!
//! A request's time is from when it was handed over until it has ended, waiting for room or for a
//! thread included. Syncs that share one count once, as the one that was done.
//!
//! Two clock readings a request are all that this costs. Unless somebody measures, they are of the
//! kernel's coarse clock, which is a few loads; it moves every few milliseconds, and what is slow
//! takes longer than that. If nothing counts as slow either, no clock is read.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::disk::Op;

/// Is told of every request that has ended on a real disk ([`crate::DiskOptions::observer`]).
pub trait IoObserver: fmt::Debug + Send + Sync {
    /// A request has ended, well or not, `took` after it was handed over. Called where completions
    /// are run: it must not block.
    fn ended(&self, op: Op, bytes: usize, took: Duration);
}

/// Between two reports of slow requests of one disk; a disk that hangs has hundreds of them.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What looks at the clock for all files of a disk.
#[derive(Debug)]
pub(crate) struct IoWatch {
    slow: Duration,
    observer: Option<Arc<dyn IoObserver>>,
    /// Requests that were slow.
    count: AtomicU64,
    /// How many of them were reported, or counted in a report.
    reported: AtomicU64,
    /// When the last report was made, in nanoseconds; 0 for never.
    last_report: AtomicU64,
}

impl IoWatch {
    pub(crate) fn new(slow: Duration, observer: Option<Arc<dyn IoObserver>>) -> Self {
        let zero = AtomicU64::default;
        Self { slow, observer, count: zero(), reported: zero(), last_report: zero() }
    }

    /// Whether anybody wants to know how long something took.
    fn is_asked(&self) -> bool {
        self.observer.is_some() || self.slow < Duration::MAX
    }

    /// The time, in nanoseconds, for [`IoWatch::ended`]; 0 if nobody wants to know.
    pub(crate) fn now(&self) -> u64 {
        if self.is_asked() { clock::now(self.observer.is_some()) } else { 0 }
    }

    /// Requests that took longer than they should.
    pub(crate) fn slow_count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// A request that was begun at `begun` is over.
    pub(crate) fn ended(&self, file: &Path, op: Op, offset: u64, bytes: usize, begun: u64) {
        if !self.is_asked() {
            return;
        }
        let now = self.now();
        let took = Duration::from_nanos(now.saturating_sub(begun));
        if let Some(observer) = &self.observer {
            observer.ended(op, bytes, took);
        }
        if took < self.slow {
            return;
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let last = self.last_report.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= REPORT_EVERY.as_nanos() as u64;
        let mine = |last| {
            let (swap, relaxed) = (now.max(1), Ordering::Relaxed);
            self.last_report.compare_exchange(last, swap, relaxed, relaxed).is_ok()
        };
        if due && mine(last) {
            let since_last = count - self.reported.swap(count, Ordering::Relaxed).min(count);
            tracing::warn!(
                file = %file.display(),
                op = name(op),
                offset,
                bytes,
                took_ms = took.as_millis() as u64,
                since_last,
                "slow I/O"
            );
        }
    }
}

fn name(op: Op) -> &'static str {
    match op {
        Op::Read => "read",
        Op::Write => "write",
        Op::WriteDurable => "durable write",
        Op::Sync => "sync",
        Op::Allocate { .. } => "allocate",
    }
}

#[cfg(target_os = "linux")]
mod clock {
    use rustix::time::{ClockId, clock_gettime};

    pub(super) fn now(precise: bool) -> u64 {
        let clock = if precise { ClockId::Monotonic } else { ClockId::MonotonicCoarse };
        let time = clock_gettime(clock);
        // The time since the machine was started is not negative.
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

#[cfg(not(target_os = "linux"))]
mod clock {
    use std::sync::LazyLock;
    use std::time::Instant;

    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(super) fn now(_precise: bool) -> u64 {
        BEGAN.elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Seen(Mutex<Vec<(Op, usize, Duration)>>);

    impl IoObserver for Seen {
        fn ended(&self, op: Op, bytes: usize, took: Duration) {
            self.0.lock().unwrap().push((op, bytes, took));
        }
    }

    #[test]
    fn whoever_measures_is_told_of_all_and_slow_ones_are_counted() {
        let seen = Arc::new(Seen::default());
        let watch = IoWatch::new(Duration::from_secs(1), Some(Arc::clone(&seen) as _));
        let begun = watch.now();
        watch.ended(Path::new("pages"), Op::Read, 0, 4096, begun);
        assert_eq!(watch.slow_count(), 0);
        watch.ended(Path::new("pages"), Op::Sync, 0, 0, begun - 3_000_000_000);
        assert_eq!(watch.slow_count(), 1);
        let seen = seen.0.lock().unwrap();
        assert_eq!((seen[0].0, seen[0].1), (Op::Read, 4096));
        assert!(seen[0].2 < Duration::from_secs(1) && seen[1].2 >= Duration::from_secs(3));
    }

    #[test]
    fn where_nothing_is_slow_and_nobody_measures_no_clock_is_read() {
        let watch = IoWatch::new(Duration::MAX, None);
        assert_eq!(watch.now(), 0);
        watch.ended(Path::new("pages"), Op::Read, 0, 4096, 0);
        assert_eq!(watch.slow_count(), 0);
        let measured = IoWatch::new(Duration::MAX, Some(Arc::new(Seen::default())));
        assert!(measured.now() > 0);
    }

    #[test]
    fn both_clocks_move_forward_and_agree() {
        let (coarse, precise) = (IoWatch::new(Duration::ZERO, None), Arc::new(Seen::default()));
        let precise = IoWatch::new(Duration::ZERO, Some(precise));
        let (first, second) = (coarse.now(), precise.now());
        assert!(coarse.now() >= first && precise.now() >= second);
        assert!(first.abs_diff(second) < 1_000_000_000);
    }
}
