//! Batches that are too large for one step: the cache has not enough leaves or frames for them, or
//! the log's buffer no room for their record.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::channel::oneshot;
use treering_blink::{Reference, Stored};
use treering_bufpool::{Pool, ValueRef};
use treering_pagefile::{FileError, FileErrorKind, Room, yield_now};

use super::Deferred;
use super::apply::{Applied, Chunk, Outcome as KeyOutcome};
use super::commit::Commit;
use crate::attempt::{Outcome, violation};
use crate::body::{ENTRY_OVERHEAD, Entry, encode_runs};
use crate::engine::Engine;
use crate::error::Error;
use crate::job::Job;
use crate::overlay::{Overlay, What};
use crate::records::{Rejected, Settled};

/// Outcomes that are applied in one step: at first, and at most.
const CHUNK_FIRST: usize = 128;
const CHUNK_MAX: usize = 1024;

/// A big batch that holds.
struct Held {
    id: u64,
    body: ValueRef,
    job: Job,
    deciding: Vec<u32>,
    /// Of the large values, by operation.
    references: BTreeMap<usize, Reference>,
    overlay: Arc<Overlay>,
    slack: Slack,
}

/// Space that applying may come to need, held from before the batch is committed: while it could not
/// be applied, nobody could delete a range or drop a tree, which might make room (I13). What a batch
/// takes depends on how full its leaves are; this is more than it does by far, in most cases.
struct Slack {
    pool: Arc<Pool>,
    pages: AtomicUsize,
}

impl Slack {
    /// Gives it to whoever is quick; whether there was any.
    fn release(&self) -> bool {
        let pages = self.pages.swap(0, Ordering::Relaxed);
        self.pool.unreserve(pages);
        pages > 0
    }
}

impl Drop for Slack {
    fn drop(&mut self) {
        self.release();
    }
}

impl Engine {
    /// Has an engine task commit a batch that is too large for one step, and apply it behind. Resolves
    /// when it is committed or has failed.
    pub(crate) async fn apply_deferred(self: &Arc<Self>, job: Job) -> Settled {
        let (done, settled) = oneshot::channel();
        {
            // The engine's end does not come between this and the task.
            let Some(_inside) = self.door.enter() else { return Err(self.ended().into()) };
            self.defer(job, done);
        }
        settled.await.unwrap_or_else(|_| Err(self.ended().into()))
    }

    /// As [`Engine::apply_deferred`], for somebody else who waits.
    pub(crate) fn defer(self: &Arc<Self>, job: Job, done: oneshot::Sender<Settled>) {
        let engine = Arc::clone(self);
        self.spawn(async move {
            let turn = engine.overlays.turn.enter_async().await;
            match engine.commit_big_batch(job).await {
                Ok((held, outcome)) => {
                    // The future may be gone: the batch stands all the same.
                    let _ = done.send(Ok(outcome));
                    match held {
                        Some(held) => {
                            engine.keep_applying(|| engine.apply_big_batch(&held)).await;
                        }
                        None => engine.overlays.clear(),
                    }
                }
                Err(rejected) => {
                    engine.overlays.clear();
                    let _ = done.send(Err(rejected));
                }
            }
            drop(turn);
        });
    }

    /// Commits a batch; `None` if it holds and changes nothing.
    async fn commit_big_batch(&self, mut job: Job) -> Result<(Option<Held>, Outcome), Rejected> {
        // The trees stay from here on: who drops one waits for the turn.
        let mut last = None;
        for (number, &at) in job.order.iter().enumerate() {
            pause(number).await;
            let tree = job.batch.op(at).tree;
            if last.replace(tree) != Some(tree) {
                self.check_tree(tree)?;
            }
        }
        let (deciding, asking) = keys_of(&job).await;
        self.write_values(&mut job).await?;
        // What is overwritten within the batch has no leaf that would refer to it.
        if !job.written.is_empty() {
            let decides: HashSet<usize> = deciding.iter().map(|&at| at as usize).collect();
            job.written.retain(|at, _| decides.contains(at));
        }
        let body = self.write_body(&job, &deciding).await?;
        self.sync_values().await.map_err(Error::from)?;
        let slack = self.hold_slack(&job, body.value(), deciding.len()).await?;

        let batch = Arc::clone(&job.batch);
        let asks = !asking.is_empty();
        let what = What::Batch { batch, deciding: deciding.clone(), asking };
        let overlay = Arc::new(Overlay::new(what, (0, b"")));
        self.overlays.set(Arc::clone(&overlay));
        self.door.attempts.ended().await;
        let mut outcome = self.check_conditions(&job).await?;
        if deciding.is_empty() {
            outcome.sequence = self.log.last_sequence();
            return Ok((None, outcome));
        }

        let id = self.next_unique()?;
        let value = body.value();
        let (reference, runs) = (value.to_bytes(), encode_runs(body.runs()));
        let entry = Deferred::Batch { body: reference, done: 0 };
        let references =
            job.written.iter().map(|(&at, written)| (at, written.value().to_bytes())).collect();
        let mut values: Vec<_> = std::mem::take(&mut job.written).into_values().collect();
        values.push(body);
        outcome.sequence = self
            .commit_deferred(Commit {
                record: Entry::BigBatch { body: &reference, runs: &runs },
                entries: &[(Deferred::key(id), Some(entry.encode()))],
                values,
                overlay: Some(&overlay),
            })
            .await?;
        if asks {
            // Those keys are anybody's again.
            self.overlays.notify_moved();
        }
        Ok((Some(Held { id, body: value, job, deciding, references, overlay, slack }), outcome))
    }

    /// Holds room for applying a batch with this body and so many keys.
    async fn hold_slack(&self, job: &Job, body: ValueRef, keys: usize) -> Result<Slack, Error> {
        let file = self.pool().file();
        let all = (file.space().file / self.pool().page_size() as u64) as usize;
        let filled = (body.len / self.pool().page_size() as u64) as usize;
        // Pages that are half full, and some that are split for little.
        let pages = if job.batch.only_deletes() { 0 } else { 2 * filled + keys.min(all / 16) + 4 };
        let mut checkpointed = false;
        while !file.try_reserve(pages, Room::Growing) {
            self.make_space(&mut checkpointed).await?;
        }
        Ok(Slack { pool: Arc::clone(self.pool()), pages: AtomicUsize::new(pages) })
    }

    /// Checks the conditions of a batch whose keys are claimed.
    async fn check_conditions(&self, job: &Job) -> Result<Outcome, Rejected> {
        let batch = &job.batch;
        let mut outcome = Outcome::default();
        let asks = batch.keeps_old() || batch.len() <= ASKED_MAX;
        if asks {
            outcome.existed = vec![false; batch.len()];
            outcome.old = vec![None; if batch.keeps_old() { batch.len() } else { 0 }];
        }
        let mut violated: Option<(usize, Error)> = None;
        let same_key = |a: &usize, b: &usize| {
            let (a, b) = (batch.op(*a), batch.op(*b));
            a.tree == b.tree && a.key == b.key
        };
        for (number, run) in job.order.chunk_by(same_key).enumerate() {
            pause(number).await;
            if !asks && !run.iter().any(|&at| batch.op(at).kind.has_condition()) {
                continue;
            }
            let first = batch.op(run[0]);
            let there = self.get_in_pages(first.tree, first.key).await?;
            let mut now = there.as_deref();
            for &at in run {
                let op = batch.op(at);
                if asks {
                    outcome.existed[at] = now.is_some();
                }
                if batch.keeps_old() {
                    outcome.old[at] = now.map(<[u8]>::to_vec);
                }
                match violation(op.kind, now.is_some(), now == Some(op.value)) {
                    // The first in the order of the batch is the one to name.
                    Some(violation) if violated.as_ref().is_none_or(|(first, _)| at < *first) => {
                        let (key, there) = (op.key.into(), now.map(Arc::from));
                        let error = Error::Violated { operation: at, key, violation, there };
                        violated = Some((at, error));
                    }
                    Some(_) => {}
                    None if op.kind.gives_value() => now = Some(op.value),
                    None if op.kind.takes_away() => now = None,
                    None => {}
                }
            }
        }
        match violated {
            None => Ok(outcome),
            Some((_, error)) => Err(Rejected { error, sequence: self.log.last_sequence() }),
        }
    }

    async fn apply_big_batch(&self, held: &Held) -> Result<(), Error> {
        let Held { id, body, job, deciding, references, overlay, slack } = held;
        let place = |at: usize| job.batch.op(deciding[at] as usize);
        // Where it is after an attempt that failed for want of space.
        let mut at = deciding.partition_point(|&at| {
            let op = job.batch.op(at as usize);
            !overlay.claims(op.tree.id, op.key)
        });
        let mut most = CHUNK_FIRST;
        while at < deciding.len() {
            let (mut end, mut bytes) = (at, 0);
            while end < deciding.len() && end - at < most {
                bytes += place(end).key.len() + place(end).value.len() + ENTRY_OVERHEAD;
                if end > at && bytes > self.limits.batch_bytes / 2 {
                    break;
                }
                end += 1;
            }
            let outcomes: Vec<_> = deciding[at..end]
                .iter()
                .map(|&at| {
                    let op = job.batch.op(at as usize);
                    let value = match references.get(&(at as usize)) {
                        Some(reference) => Some(Stored::Overflow(reference)),
                        None => op.kind.gives_value().then_some(Stored::Inline(op.value)),
                    };
                    KeyOutcome { tree: op.tree, key: op.key, value }
                })
                .collect();
            let last = end == deciding.len();
            let entry = Deferred::Batch { body: body.to_bytes(), done: end as u64 };
            let progress = [(Deferred::key(*id), (!last).then(|| entry.encode()))];
            let shrinks = outcomes.iter().all(|outcome| outcome.value.is_none());
            let room = if shrinks { Room::Shrinking } else { Room::Growing };
            let chunk = Chunk { outcomes: &outcomes, progress: &progress, room };
            let after = |epoch| {
                if last {
                    self.pool().retire_value(*body, epoch);
                    overlay.advance(u32::MAX, b"");
                } else {
                    overlay.advance(place(end).tree.id, place(end).key);
                }
            };
            match self.apply_chunk(&chunk, &after).await {
                Ok(Applied::Yes) => {
                    self.overlays.notify_moved();
                    at = end;
                    most = (most * 2).min(CHUNK_MAX);
                }
                Ok(Applied::TooMany) => most = ((end - at) / 2).max(1),
                // Fewer leaves at once take less space; a checkpoint gives back what they had.
                Err(error) if error.is_full() && end - at > 1 => most = (end - at) / 2,
                Err(error) if error.is_full() && slack.release() => {}
                Err(error) => return Err(error),
            }
        }
        self.overlays.clear();
        Ok(())
    }

    /// Applies what holds already until it is done. A full disk may get room, and a read may succeed the
    /// next time. If it does not, the engine is poisoned, so that those who wait for the keys are told
    /// (I8): what is left is done when the database is opened again.
    pub(super) async fn keep_applying<'a, F>(&'a self, apply: impl Fn() -> F)
    where
        F: Future<Output = Result<(), Error>> + 'a,
    {
        let mut failures = 0;
        while let Err(error) = apply().await {
            if self.check().is_err() {
                return;
            }
            tracing::warn!(%error, "a change that holds already could not be applied yet");
            failures += u32::from(!error.is_full());
            if failures == FAILURES_MAX {
                let doing = "applying a big batch or the deletion of a range";
                self.health.poison(FileError::new(FileErrorKind::Io, format!("{doing}: {error}")));
                return;
            }
            self.runtime.sleep(PAUSE).await;
        }
    }
}

/// The operations that decide what their keys come to, by tree and key: the last on each key that
/// changes it. And one on each key that is only asked about.
async fn keys_of(job: &Job) -> (Vec<u32>, Vec<u32>) {
    let batch = &job.batch;
    let same_key = |a: &usize, b: &usize| {
        let (a, b) = (batch.op(*a), batch.op(*b));
        a.tree == b.tree && a.key == b.key
    };
    let changes = |at: &&usize| {
        let kind = batch.op(**at).kind;
        kind.gives_value() || kind.takes_away()
    };
    let (mut deciding, mut asking) = (Vec::new(), Vec::new());
    for (number, run) in job.order.chunk_by(same_key).enumerate() {
        pause(number).await;
        match run.iter().rev().find(changes) {
            Some(&at) => deciding.push(at as u32),
            None => asking.push(run[0] as u32),
        }
    }
    (deciding, asking)
}

/// In a long pass over operations, at operation `number`: the engine's thread has other tasks, too.
pub(crate) async fn pause(number: usize) {
    if number % OPERATIONS_AT_ONCE == OPERATIONS_AT_ONCE - 1 {
        yield_now().await;
    }
}

/// Operations that are looked at before others go first.
const OPERATIONS_AT_ONCE: usize = 4096;
/// For batches of more operations, nobody is told which keys were there before.
const ASKED_MAX: usize = 4096;
/// How often applying may fail, but for want of space.
const FAILURES_MAX: u32 = 50;
/// How long to wait before the next attempt.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
