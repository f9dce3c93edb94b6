//! Hands the records of the inputs out to many tasks.
//!
//! A thread of its own reads, since reading may block for ever, and sends chunks through a bounded
//! channel. Tasks take lots from the current chunk under a short lock; the one that finds it used up
//! waits for the next chunk, and the others for that one. After the first failure, of reading or of
//! a task, nobody gets any more: what is under way is brought to its end.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::ProgressBar;
use tokio::sync::{Notify, mpsc};

use crate::args::Format;
use crate::error::Failure;
use crate::input::{Chunk, Input};

/// Chunks that were read and not handed out yet.
const CHUNKS_AHEAD: usize = 8;

pub(crate) struct Feed {
    batch: usize,
    current: Mutex<Option<Lot>>,
    chunks: tokio::sync::Mutex<mpsc::Receiver<Result<Chunk, Failure>>>,
    stopped: AtomicBool,
    stopping: Notify,
    failure: Mutex<Option<Failure>>,
    bar: ProgressBar,
}

/// Some records of a chunk.
#[derive(Clone)]
pub(crate) struct Lot {
    chunk: Arc<Chunk>,
    records: Range<usize>,
}

impl Feed {
    /// Begins to read; lots will have `batch` records, but for the last of a file.
    pub(crate) fn start(
        inputs: Vec<Input>,
        format: Format,
        batch: usize,
        bar: ProgressBar,
    ) -> Result<Arc<Self>, Failure> {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let read = move || {
            for input in inputs {
                let mut give = |chunk| sender.blocking_send(Ok(chunk)).is_ok();
                match input.read(format, batch, &mut give) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(failure) => {
                        // Nobody may be there any more to hear of it.
                        let _ = sender.blocking_send(Err(failure));
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("reader".into())
            .spawn(read)
            .map_err(|error| Failure::wrong(format!("starting a thread: {error}")))?;
        Ok(Arc::new(Self {
            batch,
            current: Mutex::default(),
            chunks: tokio::sync::Mutex::new(receiver),
            stopped: AtomicBool::new(false),
            stopping: Notify::new(),
            failure: Mutex::default(),
            bar,
        }))
    }

    /// The next records; `None` at the end and after a failure.
    pub(crate) async fn next(&self) -> Option<Lot> {
        loop {
            if let Some(lot) = self.take() {
                return Some(lot);
            }
            let mut chunks = self.chunks.lock().await;
            let stopping = self.stopping.notified();
            tokio::pin!(stopping);
            stopping.as_mut().enable();
            if self.is_stopped() {
                return None;
            }
            if lock(&self.current).is_some() {
                continue;
            }
            tokio::select! {
                chunk = chunks.recv() => match chunk? {
                    Ok(chunk) => {
                        self.bar.inc(chunk.bytes() + chunk.len() as u64);
                        let records = 0..chunk.len();
                        *lock(&self.current) = Some(Lot { chunk: Arc::new(chunk), records });
                    }
                    Err(failure) => self.fail(failure),
                },
                () = &mut stopping => {}
            }
        }
    }

    fn take(&self) -> Option<Lot> {
        if self.is_stopped() {
            return None;
        }
        let mut current = lock(&self.current);
        let rest = current.as_mut()?;
        let end = rest.records.end.min(rest.records.start + self.batch);
        let lot = Lot { chunk: Arc::clone(&rest.chunk), records: rest.records.start..end };
        rest.records.start = end;
        if rest.records.is_empty() {
            *current = None;
        }
        Some(lot)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Stops everybody; the first failure is kept.
    pub(crate) fn fail(&self, failure: Failure) {
        lock(&self.failure).get_or_insert(failure);
        self.stopped.store(true, Ordering::Release);
        self.stopping.notify_waiters();
    }

    /// What went wrong, if anything did.
    pub(crate) fn end(&self) -> Option<Failure> {
        self.bar.finish_and_clear();
        lock(&self.failure).take()
    }
}

impl Lot {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.records.clone().map(|record| self.chunk.key(record))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.records.clone().map(|record| self.chunk.value(record))
    }

    /// The file and the lines.
    pub(crate) fn place(&self) -> String {
        self.chunk.place(&self.records)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
