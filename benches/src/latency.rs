//! How long operations take, with and without waiting for a processor.
//!
//! An operation that is in the middle of its poll when its thread is pushed off the processor takes as long
//! as that lasts, which on a machine that does other work, too, is what the longest times come from.
//! So the time for which the thread was ready to run and had no processor, as Linux counts it, is taken
//! off in a second histogram.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::raw::Failure;

/// How long operations took, in nanoseconds.
pub struct Times {
    /// All of the time.
    pub all: Histogram<u64>,
    /// Without waiting for a processor.
    pub own: Histogram<u64>,
}

impl Times {
    /// Of no operation so far.
    ///
    /// # Errors
    /// None is expected.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self { all: Histogram::new(3)?, own: Histogram::new(3)? })
    }

    /// Awaits `work`, and notes how long that took.
    ///
    /// # Errors
    /// None is expected.
    pub async fn time<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let (thread, waited) = (std::thread::current().id(), waited_for_processor());
        let begun = Instant::now();
        let result = work.await;
        let took = begun.elapsed().as_nanos() as u64;
        // What had to wait may have ended on another thread: then all of it counts.
        let here = std::thread::current().id() == thread;
        let waited = if here { waited_for_processor().saturating_sub(waited) } else { 0 };
        self.all.record(took)?;
        self.own.record(took.saturating_sub(waited))?;
        Ok(result)
    }

    /// Adds what others have noted.
    ///
    /// # Errors
    /// None is expected.
    pub fn add(&mut self, others: Self) -> Result<(), Failure> {
        self.all.add(others.all)?;
        self.own.add(others.own)?;
        Ok(())
    }
}

thread_local! {
    static SCHEDULING: Option<File> = File::open("/proc/thread-self/schedstat").ok();
}

/// For how many nanoseconds this thread has been ready to run without a processor; 0 if the system
/// does not say.
fn waited_for_processor() -> u64 {
    SCHEDULING.with(|file| {
        let mut text = [0; 64];
        let read = file.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = std::str::from_utf8(&text[..read]).unwrap_or_default();
        text.split(' ').nth(1).and_then(|waited| waited.parse().ok()).unwrap_or(0)
    })
}
