//! Making everything that was written to the page file durable.
//!
//! A sync that fails may have lost any of the writes before it, and the kernel says so once: the next
//! sync succeeds. So the engine is poisoned (I8) where the failed one ends, by its completion, before another
//! can begin. A task that is woken and poisons when it is polled comes too late: a checkpoint may have synced
//! meanwhile, and its superblock would name pages that are not there.

use std::io;
use std::sync::Arc;

use futures::channel::oneshot;
use treering_latch::sync::Mutex;

use crate::buf::IoBuf;
use crate::disk::{Completion, Lane, Op, Request};
use crate::error::{FileError, Health};
use crate::file::PageFile;

impl PageFile {
    /// Makes everything written so far durable; `what` is for an error to name. Dropping the future
    /// abandons the result only: a failure poisons the engine all the same.
    ///
    /// # Errors
    /// The sync failed, or an earlier one: the engine is poisoned.
    pub async fn sync(&self, what: &str) -> Result<(), FileError> {
        let doing = format!("syncing {what} in {}", self.name());
        let (sender, receiver) = oneshot::channel();
        let waiter = Mutex::new(Some(sender));
        let done = Arc::new(Synced { health: Arc::clone(&self.health), doing, waiter });
        let request =
            Request { file: self.file, op: Op::Sync, offset: 0, buf: IoBuf::None, done, token: 0 };
        self.disk.submit(Lane::Background, &mut vec![request]);
        self.disk.reap();
        receiver.await.unwrap_or_else(|_| {
            let gone = io::Error::other("the disk was dropped with a sync in flight");
            Err(self.health.poison(FileError::io(self.name(), gone)))
        })
    }
}

/// Is told of the end of a sync.
struct Synced {
    health: Arc<Health>,
    /// For an error.
    doing: String,
    waiter: Mutex<Option<Waiter>>,
}

type Waiter = oneshot::Sender<Result<(), FileError>>;

impl Completion for Synced {
    fn complete(self: Arc<Self>, _token: u64, _buf: IoBuf, result: io::Result<()>) {
        let Some(waiter) = self.waiter.lock().take() else { return };
        let result = match result {
            // Of another one that failed beside it, which may have lost what this one was for.
            Ok(()) => self.health.check(),
            Err(error) => Err(self.health.poison(FileError::io(self.doing.clone(), error))),
        };
        // Nobody may be waiting any more.
        let _ = waiter.send(result);
    }
}
