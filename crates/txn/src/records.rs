//! Engine records: operations that the engine's own tasks bring to an end (I2).
//!
//! A user's future may own nothing while it waits, so under pressure it can be refused again and
//! again. What was refused twice moves here, with its keys and values, into a bounded queue. The
//! engine's workers may hold pins (within their share, I10) and wait for frames, staging buffers,
//! log room and disk space, one after the other, until the batch is applied or has failed. The
//! future only looks at the outcome; dropping it changes nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use event_listener::Event;
use futures::channel::oneshot;
use futures::future::select;
use treering_blink::{TreeRef, Way};
use treering_bufpool::{OwnedPin, Refusal};
use treering_latch::Ticket;
use treering_latch::sync::atomic::{AtomicU64, Ordering};
use treering_latch::sync::{Mutex, MutexGuard};
use treering_pagefile::PageId;

use crate::attempt::{Attempt, Outcome};
use crate::batch::Batch;
use crate::engine::Engine;
use crate::error::Error;
use crate::job::Job;
use crate::tree_options::TreeOptions;

/// What an operation came to in the engine's hands.
pub(crate) type Settled = Result<Outcome, Rejected>;

/// A failure, and the sequence that has to be durable before it may be reported.
pub(crate) struct Rejected {
    pub(crate) error: Error,
    pub(crate) sequence: u64,
}

impl From<Error> for Rejected {
    fn from(error: Error) -> Self {
        Self { error, sequence: 0 }
    }
}

enum Record {
    Apply {
        job: Job,
        done: oneshot::Sender<Settled>,
    },
    CreateTree {
        name: Vec<u8>,
        options: TreeOptions,
        done: oneshot::Sender<Result<(TreeRef, u64), Error>>,
    },
    RenameTree {
        old: Vec<u8>,
        new: Vec<u8>,
        done: oneshot::Sender<Result<u64, Error>>,
    },
}

/// The queue of records.
#[derive(Default)]
pub(crate) struct Records {
    queue: Mutex<VecDeque<Record>>,
    added: Event,
    room: Event,
    count: AtomicU64,
    /// The catalog is changed by one after the other.
    pub(crate) catalog: Ticket,
}

/// Records that wait for a worker; futures beyond that wait for room, owning nothing.
const QUEUE_MAX: usize = 4096;

impl Records {
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.queue.lock()
    }

    /// Adds a record, waiting for room. Everybody who waits is woken when there is some, so it does
    /// not matter who of them is still being polled (I1).
    async fn add(&self, engine: &Engine, record: Record) -> Result<(), Error> {
        loop {
            let room = self.room.listen();
            engine.check_writable()?;
            {
                let mut queue = self.lock();
                if queue.len() < QUEUE_MAX {
                    queue.push_back(record);
                    break;
                }
            }
            room.await;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.added.notify(usize::MAX);
        // The workers may have ended between the check and the push.
        if engine.check().is_err() {
            self.lock().clear();
        }
        Ok(())
    }

    fn take(&self) -> Option<Record> {
        let mut queue = self.lock();
        let record = queue.pop_front();
        if queue.len() == QUEUE_MAX - 1 {
            self.room.notify(usize::MAX);
        }
        record
    }
}

impl Engine {
    /// Hands a batch to the engine's workers and waits for its outcome.
    pub(crate) async fn apply_as_record(&self, job: Job) -> Settled {
        let (done, outcome) = oneshot::channel();
        self.records.add(self, Record::Apply { job, done }).await?;
        outcome.await.unwrap_or_else(|_| Err(self.ended().into()))
    }

    /// Hands a batch to the workers for somebody else, who is told.
    pub(crate) async fn hand_over(&self, job: Job, done: oneshot::Sender<Settled>) {
        // If the engine has ended, dropping the record says so.
        let _ = self.records.add(self, Record::Apply { job, done }).await;
    }

    /// Has the engine's workers make a tree, if there is none of that name.
    pub(crate) async fn create_as_record(
        &self,
        name: &[u8],
        options: TreeOptions,
    ) -> Result<(TreeRef, u64), Error> {
        let (done, outcome) = oneshot::channel();
        self.records.add(self, Record::CreateTree { name: name.to_vec(), options, done }).await?;
        outcome.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Has the engine's workers give a tree another name.
    pub(crate) async fn rename_as_record(&self, old: &[u8], new: &[u8]) -> Result<u64, Error> {
        let (done, outcome) = oneshot::channel();
        let (old, new) = (old.to_vec(), new.to_vec());
        self.records.add(self, Record::RenameTree { old, new, done }).await?;
        outcome.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Why a record was dropped.
    pub(crate) fn ended(&self) -> Error {
        self.check().err().unwrap_or(Error::Closed)
    }

    /// One of the engine's workers.
    pub(crate) async fn run_records(self: Arc<Self>) {
        loop {
            let added = self.records.added.listen();
            let closing = self.closing.listen();
            let poisoned = self.health.listen();
            if self.check().is_err() {
                break;
            }
            match self.records.take() {
                Some(Record::Apply { mut job, done }) => match self.see_through(&mut job).await {
                    // The future may be gone: the write stands all the same.
                    Some(settled) => drop(done.send(settled)),
                    None => self.defer(job, done),
                },
                Some(Record::CreateTree { name, options, done }) => {
                    let one_at_a_time = self.records.catalog.enter_async().await;
                    let created = self.create_tree_now(&name, &options).await;
                    drop(one_at_a_time);
                    let _ = done.send(created);
                }
                Some(Record::RenameTree { old, new, done }) => {
                    let one_at_a_time = self.records.catalog.enter_async().await;
                    let renamed = self.rename_tree_now(&old, &new).await;
                    drop(one_at_a_time);
                    let _ = done.send(renamed);
                }
                None => drop(select(added, select(closing, poisoned)).await),
            }
        }
        self.records.lock().clear();
        self.records.room.notify(usize::MAX);
    }

    /// Tries until the batch is applied or fails, waiting for whatever is lacking; `None` if it is too
    /// large for one step.
    async fn see_through(&self, job: &mut Job) -> Option<Settled> {
        let mut waiting = Waiting::new(self);
        waiting.shrinks = job.batch.only_deletes();
        loop {
            waiting.listen();
            match self.attempt(job, &mut waiting.ways) {
                Attempt::Applied(outcome) => return Some(Ok(outcome)),
                Attempt::Violated { sequence, error } => {
                    return Some(Err(Rejected { error, sequence }));
                }
                Attempt::TooLarge => return None,
                Attempt::Failed(error) => return Some(Err(error.into())),
                Attempt::Unknown(values) => {
                    if let Err(error) = job.known.read(self, &values).await {
                        return Some(Err(error.into()));
                    }
                }
                lacking => match waiting.wait(lacking).await {
                    Ok(()) => {}
                    // One step takes as much space as it has leaves; chunk by chunk it takes less.
                    Err(error) if error.is_full() && may_shrink_in_chunks(&job.batch) => {
                        return None;
                    }
                    Err(error) => return Some(Err(error.into())),
                },
            }
        }
    }
}

/// Whether a batch gives space back, and could do so in several steps.
fn may_shrink_in_chunks(batch: &Batch) -> bool {
    batch.len() > 1 && batch.only_deletes()
}

/// What a worker holds and has tried while it waits for what an attempt lacked.
pub(crate) struct Waiting<'e> {
    engine: &'e Engine,
    /// How far the descents to its keys have come.
    pub(crate) ways: Vec<Way>,
    /// Pages that they lead to.
    pins: Vec<(PageId, OwnedPin)>,
    relief: Option<event_listener::EventListener>,
    moved: Option<event_listener::EventListener>,
    checkpointed: bool,
    /// What is tried gives space back, and does not fail because others were quicker to take what a
    /// checkpoint freed: there is another checkpoint as long as others commit (I13).
    pub(crate) shrinks: bool,
    /// The last sequence before the last checkpoint.
    last_sequence: u64,
}

impl<'e> Waiting<'e> {
    pub(crate) fn new(engine: &'e Engine) -> Self {
        Self {
            engine,
            ways: Vec::new(),
            pins: Vec::new(),
            relief: None,
            moved: None,
            checkpointed: false,
            shrinks: false,
            last_sequence: 0,
        }
    }

    /// Before each attempt: whatever comes free from now on will be noticed.
    pub(crate) fn listen(&mut self) {
        self.relief = Some(self.engine.pool().relief());
    }

    /// Waits for what the attempt lacked.
    pub(crate) async fn wait(&mut self, lacking: Attempt) -> Result<(), Error> {
        self.engine.check()?;
        match lacking {
            Attempt::Absent(pages) => self.pin(&pages).await?,
            Attempt::Refused(Refusal::Space) => {
                let last = self.engine.log.last_sequence();
                if self.shrinks && last != std::mem::replace(&mut self.last_sequence, last) {
                    self.checkpointed = false;
                }
                self.engine.make_space(&mut self.checkpointed).await?;
            }
            Attempt::Refused(refusal) => {
                if let Some(relief) = self.relief.take() {
                    self.engine.pool().wait_for_relief(refusal, relief).await?;
                }
            }
            Attempt::NoRoom => self.engine.room_or_end().await,
            Attempt::Held => self.engine.wait_for_overlay(&mut self.moved).await,
            Attempt::Moved => {}
            Attempt::Applied(_)
            | Attempt::Violated { .. }
            | Attempt::Unknown(_)
            | Attempt::TooLarge
            | Attempt::Failed(_) => {}
        }
        Ok(())
    }

    /// Loads pages and keeps them, as far as this worker's share of the pool goes. Of those so far it
    /// keeps what the descents still lead to: the leaves that were found, not the pages above them.
    async fn pin(&mut self, pages: &[PageId]) -> Result<(), Error> {
        let pool = self.engine.pool();
        let ways = &self.ways;
        self.pins.retain(|(page, _)| ways.iter().any(|way| way.page() == Some(*page)));
        pool.fetch_many(pages).await?;
        for &page in pages {
            if self.pins.len() == self.engine.limits.record_pins {
                break;
            }
            if let Some(pin) = pool.fetch_pinned(page).await? {
                self.pins.push((page, pin));
            }
        }
        Ok(())
    }
}
