//! What a row asks of an engine.
//!
//! Rows are written once, as async functions, and an engine says how many of them run side by side: one
//! whose calls block gives each a thread of its own, where its futures are ready at once and cost
//! nothing; treering's are tasks on a multi-thread Tokio runtime.

use std::path::PathBuf;
use std::sync::Arc;

use crate::data::{Data, Numbers};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Failure>;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    /// Until it would survive a power failure.
    Durable,
    /// Not for the disk. What each engine promises then is in the README.
    Buffered,
}

/// How to open a database.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where it is, or will be.
    pub folder: PathBuf,
    /// Bytes of memory that the engine may use for pages or blocks.
    pub cache: u64,
    pub commits: Commits,
    /// The data is much larger than the memory.
    pub larger_than_memory: bool,
}

/// An engine with one open database.
pub trait Engine: Sized + Send + Sync + 'static {
    type Reader: Reader;

    /// What runs side by side: threads or tasks.
    const WORKERS: &'static str = "threads";

    /// How many workers do most when none of them waits for the disk.
    const BUSY_WORKERS: usize;

    /// Opens the database, or makes it.
    fn open(setup: &Setup) -> Result<Self>;

    /// Runs so many workers side by side, to the end of all: on a thread each, as its calls block.
    fn run<T, F, W>(&self, workers: usize, work: W) -> Result<Vec<T>>
    where
        W: Fn(usize) -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        on_threads(workers, work)
    }

    /// Puts all pairs into the empty database, in the way that is best for that; durable at the end.
    fn load(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()>;

    /// Takes pairs out, in the way that is best for many; durable at the end.
    fn unload(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()>;

    /// For reads that follow one another. Those that have read transactions begin one.
    fn reader(&self) -> Result<Self::Reader>;

    /// One commit of one pair.
    fn put(&self, key: &[u8], value: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// One commit of many pairs.
    fn put_all<I>(&self, data: Data, numbers: I) -> impl Future<Output = Result<()>> + Send
    where
        I: Iterator<Item = u64> + Send;

    /// One commit that removes many pairs.
    fn remove_all<I>(&self, data: Data, numbers: I) -> impl Future<Output = Result<()>> + Send
    where
        I: Iterator<Item = u64> + Send;

    /// Makes all commits so far durable.
    fn sync(&self) -> Result<()>;

    /// Brings to an end what the engine would do in the background by itself.
    fn settle(&self) -> Result<()>;

    /// Makes the database as small as it gets.
    fn compact(self) -> Result<()>;

    /// Closes the database, when nobody uses it any more.
    fn close(self) -> Result<()>;
}

/// Somebody who reads.
pub trait Reader: Send + 'static {
    /// The checksum of a key's value.
    fn get(&mut self, key: &[u8]) -> impl Future<Output = Result<Option<u64>>> + Send;

    /// How many pairs there are from a key on, up to `count`, and the sum of their checksums. An empty
    /// key is the beginning.
    fn range(&mut self, from: &[u8], count: u64)
    -> impl Future<Output = Result<(u64, u64)>> + Send;
}

/// Runs workers on a thread each.
pub fn on_threads<T, F, W>(workers: usize, work: W) -> Result<Vec<T>>
where
    W: Fn(usize) -> F + Send + Sync,
    F: Future<Output = Result<T>>,
    T: Send,
{
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                std::thread::Builder::new()
                    .stack_size(512 << 10)
                    .spawn_scoped(scope, move || futures::executor::block_on(work(worker)))
            })
            .collect::<std::io::Result<_>>()?;
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect()
    })
}

/// What to do with many pairs.
#[derive(Clone, Copy)]
pub enum Change {
    Put,
    Remove,
}

/// Changes many pairs by commits of `batch` pairs from `workers` workers, durably at the end.
pub fn change_all<E: Engine>(
    engine: &Arc<E>,
    (data, numbers): (Data, Numbers),
    change: Change,
    (workers, batch): (usize, u64),
) -> Result<()> {
    let each = numbers.len().div_ceil(workers as u64);
    engine.run(workers, |worker| {
        let (engine, numbers) = (Arc::clone(engine), numbers.clone());
        async move {
            let mut at = (worker as u64 * each).min(numbers.len());
            let end = (at + each).min(numbers.len());
            while at < end {
                let next = (at + batch).min(end);
                let part = numbers.part(at..next);
                match change {
                    Change::Put => engine.put_all(data, part).await?,
                    Change::Remove => engine.remove_all(data, part).await?,
                }
                at = next;
            }
            Ok(())
        }
    })?;
    engine.sync()
}
