//! The engine: what an open database consists of, and its own tasks.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;
use futures::FutureExt;
use futures::channel::oneshot;
use treering_blink::{Forest, max_key_len, max_record_len};
use treering_bufpool::Pool;
use treering_latch::Ticket;
use treering_latch::sync::Mutex;
use treering_latch::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use treering_pagefile::{FileError, FileErrorKind, Health, Room, Runtime};

use crate::catalog::Catalog;
use crate::checkpoint::Checkpoints;
use crate::deferred::Drops;
use crate::door::{Door, Inside};
use crate::error::Error;
use crate::large::{LargeWrites, WRITERS};
use crate::load::Loads;
use crate::log::{Log, LogOptions};
use crate::observe::EngineObserver;
use crate::overlay::Overlays;
use crate::records::Records;
use crate::unique::Unique;

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// When it is on disk: it is there after any crash.
    #[default]
    Durable,
    /// When it is applied; it is sent to the disk within the log's flush delay. A crash may lose
    /// the last of them, never one without all that came after it.
    Buffered,
    /// When it is applied; it reaches the disk with a later durable commit, a sync or a checkpoint,
    /// or when the log's buffer is full. Lost in a crash as `Buffered` is, over a longer time.
    None,
}

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Bytes a page: required when a database is created (4096 by default); when one is opened,
    /// `Some` asks for exactly this.
    pub page_size: Option<usize>,
    /// Memory for pages, in bytes. At least 16 pages are used.
    pub cache_size: u64,
    /// The log.
    pub log: LogOptions,
    /// Whether a database is made if there is none.
    pub create: bool,
    /// A number that no earlier opening of the database used: from the system's random source, or a
    /// simulation's seed.
    pub entropy: u64,
    /// Who is told of the recovery and of checkpoints.
    pub observer: Option<Arc<dyn EngineObserver>>,
}

/// What opening a database found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// A database was made; there was none.
    pub created: bool,
    /// Log records that were applied again, because they were behind the last checkpoint.
    pub replayed: u64,
    /// The sequence of the last commit that is there.
    pub sequence: u64,
    /// One of the two superblocks was damaged; the other was used, and this is what was wrong.
    pub damaged_superblock: Option<FileError>,
}

/// What one apply step may touch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) batch_leaves: usize,
    /// Bytes of keys and values. They may make three times as many pages as they would fill, and all
    /// of them need frames at once.
    pub(crate) batch_bytes: usize,
    /// Pins that an engine record may hold while it waits (I10).
    pub(crate) record_pins: usize,
    /// Engine records worked on at once.
    pub(crate) workers: usize,
    pub(crate) max_key: usize,
    pub(crate) max_record: usize,
}

impl Limits {
    pub(crate) fn new(frames: usize, page_size: usize) -> Self {
        // All workers together pin half of the frames at most, so loads, splits and everybody
        // else's gathering always find some; and one can pin all leaves of any batch.
        let workers = if frames >= 256 { 4 } else { 1 };
        Self {
            batch_leaves: (frames / 8).clamp(2, 4096),
            batch_bytes: (frames / 8).max(2).saturating_mul(page_size),
            record_pins: (frames / 8).max(frames / 4 / workers).max(2),
            workers,
            max_key: max_key_len(page_size),
            max_record: max_record_len(page_size),
        }
    }
}

/// An open database, below its face.
pub struct Engine {
    pub(crate) health: Arc<Health>,
    pub(crate) forest: Arc<Forest>,
    pub(crate) log: Arc<Log>,
    pub(crate) catalog: Catalog,
    pub(crate) limits: Limits,
    pub(crate) records: Records,
    pub(crate) large: LargeWrites,
    pub(crate) loads: Loads,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) overlays: Overlays,
    /// Held while pages are merged, and by who needs pages to stay: engine tasks.
    pub(crate) merging: Ticket,
    /// Pages may be on their way from the queue of the underfull ones to being merged.
    pub(crate) merging_now: AtomicBool,
    pub(crate) merges: AtomicU64,
    pub(crate) compacting: Ticket,
    /// Extents reserved for the next recovery.
    pub(crate) replay_slack: AtomicUsize,
    /// No page waits to be merged.
    pub(crate) tidied: Event,
    pub(crate) drops: Drops,
    pub(crate) incarnation: u64,
    pub(crate) unique: Unique,
    /// Nothing is ever written: there is no log, and no task that changes anything.
    pub(crate) read_only: bool,
    pub(crate) door: Door,
    pub(crate) closing: Event,
    recovery: Recovery,
    pub(crate) observer: Option<Arc<dyn EngineObserver>>,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// What has to live as long as anything may be written: the lock of the directory.
    keep: Mutex<Option<Box<dyn Any + Send + Sync>>>,
    /// By the runtime's clock.
    pub(crate) opened_at: Duration,
    over: AtomicBool,
    ended: Event,
}

/// What [`Engine::new`] puts together.
pub(crate) struct Parts {
    pub(crate) health: Arc<Health>,
    pub(crate) forest: Arc<Forest>,
    pub(crate) log: Arc<Log>,
    pub(crate) catalog: Catalog,
    pub(crate) incarnation: u64,
    pub(crate) recovery: Recovery,
    pub(crate) read_only: bool,
    pub(crate) observer: Option<Arc<dyn EngineObserver>>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) keep: Box<dyn Any + Send + Sync>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let pool = parts.forest.pool();
        let limits = Limits::new(pool.frame_count(), pool.page_size());
        let unique = Unique::new(parts.catalog.openings());
        let engine = Arc::new(Self {
            health: parts.health,
            forest: parts.forest,
            log: parts.log,
            catalog: parts.catalog,
            limits,
            records: Records::default(),
            large: LargeWrites::default(),
            loads: Loads::default(),
            checkpoints: Checkpoints::default(),
            overlays: Overlays::default(),
            merging: Ticket::new(),
            merging_now: AtomicBool::new(false),
            merges: AtomicU64::new(0),
            compacting: Ticket::new(),
            replay_slack: AtomicUsize::new(0),
            tidied: Event::new(),
            drops: Drops::default(),
            incarnation: parts.incarnation,
            unique,
            read_only: parts.read_only,
            door: Door::default(),
            closing: Event::new(),
            recovery: parts.recovery,
            observer: parts.observer,
            opened_at: parts.runtime.now(),
            runtime: parts.runtime,
            keep: Mutex::new(Some(parts.keep)),
            over: AtomicBool::new(false),
            ended: Event::new(),
        });
        if engine.read_only {
            return engine;
        }
        engine.spawn(Arc::clone(&engine.log).run());
        engine.spawn(Arc::clone(&engine).run_checkpoints());
        engine.spawn(Arc::clone(&engine).run_posting());
        engine.spawn(Arc::clone(&engine).run_merging());
        for _ in 0..limits.workers {
            engine.spawn(Arc::clone(&engine).run_records());
        }
        for _ in 0..WRITERS {
            engine.spawn(Arc::clone(&engine).run_large());
        }
        engine
    }

    /// Has the runtime run a task of the engine's. One that panics poisons the engine: nobody is to wait
    /// for ever for what it had in hand.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        /// Counts the task off even when the runtime drops it unfinished.
        struct Running(Arc<Engine>);
        impl Drop for Running {
            fn drop(&mut self) {
                self.0.door.task_ended();
            }
        }
        self.door.task_begins();
        let running = Running(Arc::clone(self));
        self.runtime.spawn(Box::pin(async move {
            let running = running;
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                let message = "a task of the engine panicked, which is a mistake in the engine";
                running.0.health.poison(FileError::new(FileErrorKind::Io, message));
                resume_unwind(panic);
            }
        }));
    }

    /// Spawns a task for somebody who is not inside: as [`Engine::check`], and the engine's end does not
    /// come between the check and the task.
    pub(crate) fn begin(
        self: &Arc<Self>,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let inside = self.door.enter().ok_or(Error::Closed)?;
        self.check()?;
        self.spawn(task);
        drop(inside);
        Ok(())
    }

    /// Whether operations may begin: the database is not closed, and nothing has failed (I8).
    pub fn check(&self) -> Result<(), Error> {
        if self.door.is_closed() {
            return Err(Error::Closed);
        }
        Ok(self.health.check()?)
    }

    /// Whether changes may begin: as [`Engine::check`], and the database is open for writing.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        self.check()?;
        if self.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Begins an attempt to change something: as [`Engine::check`], and as long as the answer
    /// lives, the engine's end waits for it.
    pub(crate) fn enter(&self) -> Result<Inside<'_>, Error> {
        let inside = self.door.enter().ok_or(Error::Closed)?;
        self.check_writable()?;
        Ok(inside)
    }

    /// The pool under the trees.
    pub fn pool(&self) -> &Arc<Pool> {
        self.forest.pool()
    }

    /// What opening found and did.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Resolves when everything that was acknowledged before is durable.
    ///
    /// # Errors
    /// The write error that poisoned the engine.
    pub async fn sync(&self) -> Result<(), Error> {
        self.check()?;
        Ok(self.log.wait_durable(self.log.last_sequence()).await?)
    }

    /// Begins to end the engine: operations from now on are refused, and its tasks end when what
    /// they have in hand is done. What is buffered is still written. In the end nothing is written
    /// any more and the directory is free, whoever may still hold the engine.
    pub fn stop(self: &Arc<Self>) {
        if !self.door.close() {
            return;
        }
        self.closing.notify(usize::MAX);
        self.log.stop();
        self.pool().stop();
        self.runtime.spawn(Box::pin(Arc::clone(self).end()));
    }

    /// Makes everything durable, writes a checkpoint, and ends the engine. Operations that are
    /// under way end first or are refused. Resolves when the database can be opened again; dropping
    /// the future does not stop the closing.
    ///
    /// # Errors
    /// What kept the last checkpoint from being written; the engine ends all the same, and what was
    /// acknowledged as durable is in the log.
    pub async fn close(self: &Arc<Self>) -> Result<(), Error> {
        let (done, written) = oneshot::channel();
        let engine = Arc::clone(self);
        // A task of the runtime's, so that what was begun is done though this future be dropped.
        self.runtime.spawn(Box::pin(async move {
            let written = match engine.check() {
                Ok(()) if engine.read_only => Ok(()),
                Ok(()) => engine.checkpoint().await,
                Err(error) => Err(error),
            };
            engine.stop();
            let _ = done.send(written);
        }));
        let written = written.await.unwrap_or(Err(Error::Closed));
        loop {
            let ended = self.ended.listen();
            if self.over.load(Ordering::SeqCst) {
                return match written {
                    // Somebody else closed it meanwhile.
                    Err(Error::Closed) => Ok(()),
                    written => written,
                };
            }
            ended.await;
        }
    }

    /// The last of the engine's tasks: futures that were abandoned may hold the engine for ever, so
    /// the end does not wait for the last reference.
    async fn end(self: Arc<Self>) {
        self.door.empty().await;
        let closed = FileError::new(FileErrorKind::Closed, "the database was closed");
        self.log.close(closed).await;
        self.pool().written().await;
        let keep = self.keep.lock().take();
        drop(keep);
        self.over.store(true, Ordering::SeqCst);
        self.ended.notify(usize::MAX);
    }

    /// Provides room in the page file: grows it, or, if the disk is full, frees what backups hold and
    /// what a checkpoint can free, once.
    pub(crate) async fn make_space(&self, checkpointed: &mut bool) -> Result<(), Error> {
        let file = self.pool().file();
        match file.grow().await {
            Err(error) if error.kind() == FileErrorKind::Full && file.break_snapshots() => Ok(()),
            Err(error) if error.kind() == FileErrorKind::Full && !*checkpointed => {
                *checkpointed = true;
                self.checkpoint().await
            }
            other => Ok(other?),
        }
    }

    /// Sets room aside for the next recovery (I13). A replay changes the pages that the log's commits
    /// changed, for which there was room when they were made; but it may split elsewhere, and so come
    /// to a few pages more, and the opening counts itself in the catalog. What is held here is not
    /// held while a replay runs. Where the disk is full already, there is none.
    pub(crate) async fn hold_replay_slack(&self) {
        let file = self.pool().file();
        let pages = file.space().used / self.pool().page_size() as u64;
        let slack = (pages / 32).clamp(3, 8192) as usize;
        while !file.try_reserve(slack, Room::Growing) {
            if let Err(error) = file.grow().await {
                tracing::warn!(%error, "no room is set aside for the next recovery");
                return;
            }
        }
        self.replay_slack.fetch_add(slack, Ordering::Relaxed);
    }

    /// Gives that room back.
    pub(crate) fn release_replay_slack(&self) {
        self.pool().unreserve(self.replay_slack.swap(0, Ordering::Relaxed));
    }
}
