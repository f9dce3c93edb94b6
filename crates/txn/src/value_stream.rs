//! Large values in pieces: written and read without ever being in memory as a whole.
//!
//! # Writing
//! A [`ValueWriter`] gathers bytes until there are [`PART`] of them. A value that ends before is put
//! like any other. Otherwise a task of the engine's takes over, to which the writer hands part after
//! part through a channel of bounded length: the task takes the space and writes the pages as they
//! fill, and it alone owns what the value has taken so far (I1). The writer's commit makes it sync the
//! file and hand the rest of the work to the engine's workers. If the writer goes without one, the
//! task finds the channel closed and gives everything back.
//!
//! # Reading
//! A [`ValueReader`] has the reference that its key had, and reads part after part. It holds nothing on
//! to the value, which may be overwritten meanwhile. Its pages then stay until the next checkpoint;
//! after that the reader says that the value was replaced.

use std::sync::Arc;

use futures::channel::{mpsc, oneshot};
use futures::future::{Either, select};
use futures::{SinkExt, StreamExt};
use treering_blink::TreeRef;
use treering_bufpool::{ValueMaker, ValueRef, Written};
use treering_latch::sync::Mutex;

use crate::attempt::Outcome;
use crate::batch::{Batch, OpKind};
use crate::engine::{Durability, Engine};
use crate::error::Error;
use crate::job::{Job, lost_value};
use crate::large::VALUE_MAX;
use crate::read::Found;
use crate::records::{Rejected, Settled};

/// Bytes that a writer hands over at once, and that a reader reads at once.
const PART: usize = 1 << 20;

enum Message {
    Bytes(Vec<u8>),
    Commit(oneshot::Sender<Settled>),
}

/// A value being written piece by piece. Dropped without [`ValueWriter::commit`] it leaves nothing.
pub struct ValueWriter {
    engine: Arc<Engine>,
    tree: TreeRef,
    key: Vec<u8>,
    /// Bytes that were handed over.
    sent: u64,
    buffer: Vec<u8>,
    task: Option<Task>,
    /// A call was dropped half-way: what has arrived is not known.
    torn: bool,
}

/// The engine's task that writes what the writer gets.
struct Task {
    messages: mpsc::Sender<Message>,
    /// Why it gave up.
    failed: Arc<Mutex<Option<Error>>>,
}

impl Engine {
    /// Begins to write a value in pieces.
    ///
    /// # Errors
    /// A key that is too long; a closed or poisoned engine.
    pub fn write_stream(self: &Arc<Self>, tree: TreeRef, key: &[u8]) -> Result<ValueWriter, Error> {
        self.check_writable()?;
        if key.len() > self.limits.max_key {
            return Err(Error::KeyTooLong { len: key.len(), max: self.limits.max_key });
        }
        Ok(ValueWriter {
            engine: Arc::clone(self),
            tree,
            key: key.to_vec(),
            sent: 0,
            buffer: Vec::new(),
            task: None,
            torn: false,
        })
    }

    /// Begins to read a key's value in pieces; `None` if the key is not there.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn read_stream(
        self: &Arc<Self>,
        tree: TreeRef,
        key: &[u8],
    ) -> Result<Option<ValueReader>, Error> {
        let found = self.find(tree, key).await?;
        let engine = Arc::clone(self);
        Ok(found.map(|found| ValueReader { engine, tree, key: key.to_vec(), found, at: 0 }))
    }

    /// The engine's side of a [`ValueWriter`].
    async fn run_stream(
        self: Arc<Self>,
        tree: TreeRef,
        key: Vec<u8>,
        mut messages: mpsc::Receiver<Message>,
        failed: Arc<Mutex<Option<Error>>>,
    ) {
        let version = match self.next_unique() {
            Ok(version) => version,
            Err(error) => return set(&failed, error),
        };
        let mut maker = self.pool().make_value(tree.id, version, VALUE_MAX);
        match self.write_stream_parts(&mut maker, &mut messages).await {
            Ok(Some(done)) => match self.finish_stream(maker).await {
                Ok(written) => {
                    let mut batch = Batch::new();
                    batch.push(tree, OpKind::Put, &key, b"");
                    let mut job = Job::new(batch, Durability::None);
                    job.written.insert(0, written);
                    self.hand_over(job, done).await;
                }
                // The future may be gone: then nobody wants to know.
                Err(error) => drop(done.send(Err(Rejected::from(error)))),
            },
            Ok(None) => maker.abandon().await,
            Err(error) => {
                maker.abandon().await;
                // Before the channel is closed, which is how the writer notices.
                set(&failed, error);
            }
        }
    }

    /// Writes what comes, up to the commit; `None` if the writer is gone.
    async fn write_stream_parts(
        &self,
        maker: &mut ValueMaker,
        messages: &mut mpsc::Receiver<Message>,
    ) -> Result<Option<oneshot::Sender<Settled>>, Error> {
        loop {
            let (closing, poisoned) = (self.closing.listen(), self.health.listen());
            self.check()?;
            match select(messages.next(), select(closing, poisoned)).await {
                Either::Left((Some(Message::Bytes(bytes)), _)) => {
                    self.write_part(maker, &bytes, bytes.len() as u64).await?;
                }
                Either::Left((Some(Message::Commit(done)), _)) => return Ok(Some(done)),
                Either::Left((None, _)) => return Ok(None),
                Either::Right(_) => {}
            }
        }
    }

    async fn finish_stream(&self, maker: ValueMaker) -> Result<Written, Error> {
        let written = maker.finish().await?;
        self.sync_values().await?;
        Ok(written)
    }
}

fn set(failed: &Mutex<Option<Error>>, error: Error) {
    *failed.lock() = Some(error);
}

impl ValueWriter {
    /// Takes in the next bytes. Waits, owning nothing that others could wait for, while earlier ones
    /// are written. Dropping the future half-way makes the writer useless, since nobody knows how
    /// many bytes it took.
    ///
    /// # Errors
    /// The value becomes too long; the disk is full; a write failed. All of it is given back then.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.begin()?;
        let len = self.len() + bytes.len() as u64;
        if len > VALUE_MAX {
            self.task = None;
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            return Err(Error::ValueTooLong { len, max: VALUE_MAX as usize });
        }
        while !bytes.is_empty() {
            if self.buffer.len() == PART {
                self.send_buffer().await?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PART - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        self.torn = false;
        Ok(())
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.sent + self.buffer.len() as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the key what was written, and waits until that is as durable as asked. Dropping the
    /// future leaves the value there or not, wholly.
    ///
    /// # Errors
    /// As a commit's.
    pub async fn commit(mut self, durability: Durability) -> Result<Outcome, Error> {
        self.begin()?;
        if self.task.is_none() {
            let mut batch = Batch::new();
            batch.push(self.tree, OpKind::Put, &self.key, &self.buffer);
            return self.engine.commit(batch, durability).await;
        }
        if !self.buffer.is_empty() {
            self.send_buffer().await?;
        }
        let (done, outcome) = oneshot::channel();
        self.send(Message::Commit(done)).await?;
        let settled = outcome.await.unwrap_or_else(|_| Err(self.engine.ended().into()));
        self.engine.settle_outcome(settled, durability).await
    }

    fn begin(&mut self) -> Result<(), Error> {
        if self.torn {
            return Err(Error::Stream(
                "an earlier write failed or was dropped half-way; write the value anew",
            ));
        }
        self.torn = true;
        Ok(())
    }

    async fn send_buffer(&mut self) -> Result<(), Error> {
        if self.task.is_none() {
            // One part may wait while the task writes another.
            let (messages, receiver) = mpsc::channel(0);
            let failed = Arc::default();
            let (engine, key) = (Arc::clone(&self.engine), self.key.clone());
            let task = engine.run_stream(self.tree, key, receiver, Arc::clone(&failed));
            self.engine.begin(task)?;
            self.task = Some(Task { messages, failed });
        }
        let bytes = std::mem::take(&mut self.buffer);
        self.sent += bytes.len() as u64;
        self.send(Message::Bytes(bytes)).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Error> {
        let Some(task) = &mut self.task else { return Err(Error::Closed) };
        if task.messages.send(message).await.is_ok() {
            return Ok(());
        }
        let failed = task.failed.lock().take();
        Err(failed.unwrap_or_else(|| self.engine.ended()))
    }
}

/// A value being read piece by piece.
pub struct ValueReader {
    engine: Arc<Engine>,
    tree: TreeRef,
    key: Vec<u8>,
    found: Found,
    at: u64,
}

impl ValueReader {
    /// Bytes of the whole value.
    pub fn len(&self) -> u64 {
        match &self.found {
            Found::Inline(value) => value.len() as u64,
            Found::Large(value) => value.len,
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes have been read.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next bytes: up to 1 MiB; `None` at the end. Dropping the future skips nothing.
    ///
    /// # Errors
    /// [`Error::Replaced`] if the value was overwritten or deleted and is gone by now; as
    /// [`Engine::get`].
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let end = self.len().min(self.at + PART as u64);
        if self.at == end {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        match &self.found {
            Found::Inline(value) => bytes.extend_from_slice(value),
            Found::Large(value) => {
                self.engine.check()?;
                let (pool, value) = (self.engine.pool(), *value);
                match pool.read_value(self.tree.id, value, self.at..end, &mut bytes).await {
                    Ok(true) => {}
                    Ok(false) => return Err(self.why(value, None).await?),
                    Err(error) => return Err(self.why(value, Some(error.into())).await?),
                }
            }
        }
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// Why the value could not be read.
    async fn why(&self, value: ValueRef, error: Option<Error>) -> Result<Error, Error> {
        Ok(match self.engine.find(self.tree, &self.key).await? {
            Some(Found::Large(same)) if same == value => {
                error.unwrap_or_else(|| lost_value(&value.to_bytes()).into())
            }
            _ => Error::Replaced,
        })
    }
}
