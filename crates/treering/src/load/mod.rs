//! Bulk load, as its users see it: keys in any order go in, and the tree has all of them at the end.
//!
//! The user's future only hands packs of records to a thread of the load's own, through a bounded
//! channel (I1): sorting and temporary files would block whoever polls. The thread notices whether the
//! keys ascend as they come:
//!
//! * Ascending keys for an empty tree become pages as they come ([`treering_txn::Load`]).
//! * Anything else is gathered up to a budget of memory, sorted, and written to a temporary file as a
//!   *run*; in the end all runs are merged.
//!
//! A tree that is empty gets everything in one step. One that has keys gets sorted batches.

mod merge;
mod pack;
mod run;
mod sorter;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::{mpsc, oneshot};

use crate::error::Error;
use crate::tree::Tree;
use pack::Pack;
use sorter::Sorter;

/// Bytes of a pack.
const PACK: usize = 128 << 10;
/// Packs that wait for the thread.
const PACKS_AHEAD: usize = 4;

/// What a bulk load came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Keys that the tree got: records, but for those whose key came again later.
    pub keys: u64,
    /// Whether all of them became visible in one step, as the tree was empty.
    pub at_once: bool,
    /// Pages that were built; 0 if the tree had keys.
    pub pages: u64,
    /// Bytes of sorted records that were written to temporary files.
    pub spilled: u64,
}

/// Puts many keys into a tree, faster than any batches. Made by [`Tree::load`].
///
/// Dropping it before [`Loader::finish`] means that nothing was loaded; the space comes back by itself.
pub struct Loader {
    tree: Tree,
    pack: Pack,
    work: Option<Work>,
}

/// The thread of a load, as far as its user knows it.
struct Work {
    packs: mpsc::Sender<Message>,
    /// Why the thread has ended.
    failure: Failure,
}

type Failure = Arc<Mutex<Option<Error>>>;

enum Message {
    Records(Pack),
    Finish(oneshot::Sender<Result<LoadReport, Error>>),
}

impl Loader {
    pub(crate) fn new(tree: Tree) -> Self {
        Self { tree, pack: Pack::default(), work: None }
    }

    /// Gives a key a value when the load ends; the last value for a key wins. Keys may come in any
    /// order, and ascending ones are never written anywhere but to the tree.
    ///
    /// Dropping the future takes nothing back: the record has been added.
    ///
    /// # Errors
    /// What ended the load: [`crate::ErrorKind::InvalidInput`] if an earlier key or value is too long,
    /// [`crate::ErrorKind::Full`], those of [`Tree::get`]. Nothing is loaded then.
    pub async fn put(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        self.pack.push(key.as_ref(), value.as_ref());
        if self.pack.bytes() >= PACK { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<(), Error> {
        let pack = &mut self.pack;
        let work = match &mut self.work {
            Some(work) => work,
            None => self.work.insert(start(&self.tree)?),
        };
        // First a place, then the pack: so that nothing is lost if this future is dropped.
        let sent = match poll_fn(|cx| work.packs.poll_ready(cx)).await {
            Ok(()) => work.packs.start_send(Message::Records(std::mem::take(pack))),
            Err(error) => Err(error),
        };
        sent.map_err(|_| work.ended())
    }

    /// Gives the tree all keys, durably.
    ///
    /// If the tree is empty, that is one step: readers find all keys or none, and so does whoever
    /// opens the database after a crash. If it has keys, batches are applied one after the other, and
    /// readers, or a crash, may find some of them.
    ///
    /// Dropping the future leaves open whether the keys are loaded.
    ///
    /// # Errors
    /// As [`Loader::put`]. A tree that was empty stays so; one that had keys may have some of the batches.
    pub async fn finish(mut self) -> Result<LoadReport, Error> {
        if self.pack.len() > 0 {
            self.send().await?;
        }
        let Some(work) = &mut self.work else { return Ok(LoadReport::default()) };
        let (done, report) = oneshot::channel();
        let sent = match poll_fn(|cx| work.packs.poll_ready(cx)).await {
            Ok(()) => work.packs.start_send(Message::Finish(done)),
            Err(error) => Err(error),
        };
        sent.map_err(|_| work.ended())?;
        report.await.unwrap_or_else(|_| Err(work.ended()))
    }
}

impl Work {
    fn ended(&self) -> Error {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        failure.unwrap_or_else(|| treering_txn::Error::Closed.into())
    }
}

/// Starts a load's thread.
fn start(tree: &Tree) -> Result<Work, Error> {
    let (packs, mut received) = mpsc::channel(PACKS_AHEAD);
    let failure = Failure::default();
    let shared = &tree.database().shared;
    let mut sorter =
        Sorter::new(&shared.engine, tree.id(), shared.load_memory, shared.scratch.clone());
    let told = Arc::clone(&failure);
    let run = async move {
        while let Some(message) = futures::StreamExt::next(&mut received).await {
            let failed = match message {
                Message::Records(pack) => sorter.add(pack).await.err(),
                Message::Finish(done) => {
                    // The future may be gone: then nobody wants to know.
                    let _ = done.send(sorter.finish().await);
                    return;
                }
            };
            if let Some(error) = failed {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("treering-load".into())
        .spawn(move || futures::executor::block_on(run))
        .map_err(|source| Error::io("starting a thread for a bulk load", source))?;
    Ok(Work { packs, failure })
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("tree", &self.tree.name()).finish_non_exhaustive()
    }
}
