//! Writing large values: into overflow pages first, then as any other batch.
//!
//! A batch with values that are too large for a leaf is handed to the engine at once. Its future
//! only waits for the outcome (I1). Writers, tasks of the engine's, take batches from a queue, some
//! at a time, write the values, and sync the page file once for all of them. Then the batch goes to
//! the workers with the references that its leaves are to get, and is attempted as any other. So a
//! value's pages are durable before the log has the record that names them, and are written once.
//!
//! Whatever fails, a value that was not published is given back: space, page ids and all.
//!
//! The queue holds a bounded number of bytes (I9): beyond that, futures wait for room, owning
//! nothing, and everybody is woken when there is some.

use std::collections::VecDeque;
use std::sync::Arc;

use event_listener::Event;
use futures::channel::oneshot;
use futures::future::{join_all, select};
use treering_bufpool::{ValueMaker, Written};
use treering_latch::sync::{Mutex, MutexGuard};
use treering_pagefile::FileError;

use crate::deferred::pause;
use crate::engine::Engine;
use crate::error::Error;
use crate::job::Job;
use crate::records::{Rejected, Settled};

/// The longest value, in bytes.
pub(crate) const VALUE_MAX: u64 = 1 << 30;

/// Writers at work at once.
pub(crate) const WRITERS: usize = 2;
/// Bytes of batches that wait for a writer, or one batch.
const QUEUE_BYTES: usize = 64 << 20;
/// Bytes of the batches that one writer takes at once, or one batch.
const GROUP_BYTES: usize = 1 << 20;

struct Waiting {
    job: Job,
    done: oneshot::Sender<Settled>,
}

/// The queue of batches with large values.
#[derive(Default)]
pub(crate) struct LargeWrites {
    queue: Mutex<Queue>,
    added: Event,
    room: Event,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl LargeWrites {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Some batches that are written together.
    fn take(&self) -> Vec<Waiting> {
        let mut queue = self.lock();
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(next) = queue.waiting.front() {
            bytes += next.job.batch.bytes();
            if !group.is_empty() && bytes > GROUP_BYTES {
                break;
            }
            group.extend(queue.waiting.pop_front());
        }
        let taken: usize = group.iter().map(|waiting: &Waiting| waiting.job.batch.bytes()).sum();
        queue.bytes -= taken;
        self.room.notify(usize::MAX);
        group
    }

    fn clear(&self) {
        let mut queue = self.lock();
        queue.waiting.clear();
        queue.bytes = 0;
        self.room.notify(usize::MAX);
    }
}

impl Engine {
    /// Whether a value goes to overflow pages: when it does not fit into a leaf beside its key.
    ///
    /// What fits stays in the leaf even if it is more than a quarter of a page. Such a commit costs one
    /// write of the log, while overflow pages are written and synced before it, and two or three such
    /// values fill a page better than each fills one of its own.
    pub(crate) fn is_large(&self, key: &[u8], value: &[u8]) -> bool {
        key.len() + value.len() > self.limits.max_record
    }

    /// Hands a batch with large values to the engine's writers and waits for its outcome.
    pub(crate) async fn apply_large(&self, job: Job) -> Settled {
        let (done, outcome) = oneshot::channel();
        let bytes = job.batch.bytes();
        let mut waiting = Some(Waiting { job, done });
        while waiting.is_some() {
            let room = self.large.room.listen();
            self.check_writable()?;
            {
                let mut queue = self.large.lock();
                if queue.waiting.is_empty() || queue.bytes + bytes <= QUEUE_BYTES {
                    queue.bytes += bytes;
                    queue.waiting.extend(waiting.take());
                    break;
                }
            }
            room.await;
        }
        self.large.added.notify(usize::MAX);
        // The writers may have ended between the check and the push.
        if self.check().is_err() {
            self.large.clear();
        }
        outcome.await.unwrap_or_else(|_| Err(self.ended().into()))
    }

    /// One of the engine's writers.
    pub(crate) async fn run_large(self: Arc<Self>) {
        loop {
            let added = self.large.added.listen();
            let closing = self.closing.listen();
            let poisoned = self.health.listen();
            if self.check().is_err() {
                break;
            }
            let group = self.large.take();
            if group.is_empty() {
                select(added, select(closing, poisoned)).await;
                continue;
            }
            self.write_group(group).await;
        }
        self.large.clear();
    }

    /// Writes the values of some batches, and hands the batches to the workers.
    async fn write_group(&self, group: Vec<Waiting>) {
        let writes = group.into_iter().map(|mut waiting| async {
            let written = self.write_values(&mut waiting.job).await;
            (waiting, written)
        });
        let group = join_all(writes).await;
        let synced = self.sync_values().await;
        for (Waiting { job, done }, written) in group {
            match written.and(synced.clone().map_err(Error::from)) {
                Ok(()) => self.hand_over(job, done).await,
                // The future may be gone: then nobody wants to know.
                Err(error) => drop(done.send(Err(Rejected::from(error)))),
            }
        }
    }

    /// Writes those of a batch's values that are too large for a leaf.
    pub(crate) async fn write_values(&self, job: &mut Job) -> Result<(), Error> {
        for index in 0..job.batch.len() {
            pause(index).await;
            let op = job.batch.op(index);
            let missing = !job.written.contains_key(&index);
            if missing && op.kind.gives_value() && self.is_large(op.key, op.value) {
                let written = self.write_value(op.tree.id, op.value).await?;
                job.written.insert(index, written);
            }
        }
        Ok(())
    }

    pub(crate) async fn write_value(&self, tree: u32, value: &[u8]) -> Result<Written, Error> {
        let mut maker = self.pool().make_value(tree, self.next_unique()?, value.len() as u64);
        match self.write_part(&mut maker, value, value.len() as u64).await {
            Ok(()) => Ok(maker.finish().await?),
            Err(error) => {
                maker.abandon().await;
                Err(error)
            }
        }
    }

    /// Writes some of a value's bytes, finding the space for them; `ahead` is how many bytes, these
    /// included, are known to come.
    ///
    /// # Errors
    /// The disk is full; a write failed; the engine is closed. What the maker has is left to it.
    pub(crate) async fn write_part(
        &self,
        maker: &mut ValueMaker,
        mut bytes: &[u8],
        mut ahead: u64,
    ) -> Result<(), Error> {
        let mut checkpointed = false;
        while !bytes.is_empty() {
            self.check_writable()?;
            if !maker.has_room() && !maker.try_take(ahead) {
                self.make_space(&mut checkpointed).await?;
                continue;
            }
            let written = maker.write(bytes).await?;
            bytes = &bytes[written..];
            ahead -= written as u64;
        }
        Ok(())
    }

    /// Makes the pages of all values written so far durable.
    ///
    /// # Errors
    /// A sync that failed may have lost pages that it knows nothing of: the engine is poisoned (I8).
    pub(crate) async fn sync_values(&self) -> Result<(), FileError> {
        self.pool().file().sync("large values").await
    }
}
