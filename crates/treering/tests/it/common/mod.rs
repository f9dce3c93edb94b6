//! What the tests of the public face share: small databases, and a guard that turns a hang into a
//! failure.

#![allow(dead_code)] // Each test file uses its part.

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use treering::{Database, Io, Options, Tree};

/// Longer than any of these tests takes on a busy machine: whoever waits so long waits for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that goes away with the test, and the database in it.
pub(crate) struct Home {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.tr");
        Self { _folder: folder, path }
    }
}

/// Options with a pool of `frames` pages of `page_size` bytes and a log that is small, too.
pub(crate) fn tiny(page_size: usize, frames: usize) -> Options {
    Options::new()
        .page_size(page_size)
        .cache_size((page_size * frames) as u64)
        .log_size(2 << 20)
        .log_buffer(64 << 10)
}

pub(crate) fn both_io() -> [Io; 2] {
    [Io::Uring, Io::Threads]
}

/// A Tokio runtime with as many threads, on which a hang becomes a failure.
pub(crate) fn on_tokio<T>(threads: usize, what: &str, test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap();
    let done = runtime.block_on(in_time(what, test));
    // A task that is stuck in a poll would keep a plain drop waiting for ever.
    runtime.shutdown_background();
    done
}

/// Runs a test on a thread of its own, so that a hang becomes a failure whatever runs it.
pub(crate) fn on_a_thread<T: Send + 'static>(
    what: &str,
    test: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, wait) = mpsc::channel();
    let thread = thread::spawn(move || drop(done.send(test())));
    match wait.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs: {what}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
    }
}

/// Fails the test, saying what hangs, if `test` does not end.
pub(crate) async fn in_time<T>(what: &str, test: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, test).await {
        Ok(done) => done,
        Err(_) => panic!("hangs: {what}"),
    }
}

/// All pairs of a tree in order.
pub(crate) async fn all(tree: &Tree) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs = Vec::new();
    let mut range = tree.range(..);
    while let Some(chunk) = range.next_chunk().await.unwrap() {
        pairs.extend(chunk.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
    pairs
}

/// Fails unless `verify` finds nothing wrong.
pub(crate) async fn assert_sound(db: &Database) {
    let report = db.verify().await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

/// Polls a future so many times, each time after it was woken. Gives it back if it is not over.
pub(crate) async fn polled<F: Future + Unpin>(mut future: F, times: usize) -> Result<F::Output, F> {
    let mut left = times;
    let over = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.poll_unpin(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    over.await.ok_or(future)
}
