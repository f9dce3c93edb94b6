//! Opening: the last checkpoint, the log behind it, and a first checkpoint of the new life.
//!
//! Replay applies what the log's records come to, in the epoch after the checkpoint's. Nothing is
//! logged, and no superblock is written before everything is applied: a crash during recovery finds
//! the old checkpoint and the old log untouched and begins again. The checkpoint that ends it names
//! a new log with a new incarnation, so that no record of an earlier life is ever taken for one of
//! this (I6).

use std::any::Any;
use std::sync::Arc;

use futures::channel::oneshot;
use tracing::Instrument;
use treering_blink::{Forest, TreeRef};
use treering_bufpool::{Pool, PoolOptions, Refusal};
use treering_latch::sync::{Mutex, MutexGuard};
use treering_pagefile::{
    Disk, FileError, FileErrorKind, FileId, Health, PageFile, Presence, Room, Runtime, sync_file,
};

use crate::catalog::{CATALOG, Catalog};
use crate::create_tree::write_empty_root;
use crate::engine::{Engine, EngineOptions, Parts, Recovery};
use crate::error::Error;
use crate::load::Loads;
use crate::log::{Log, LogStart, is_log_file};
use crate::observe::Reporter;
use crate::replay::{Replay, Replayed};
use crate::replay_large::claim_values;

/// Bytes a page when a database is made and nothing is said.
pub const DEFAULT_PAGE_SIZE: usize = 4096;

/// The epoch of the first life's first changes.
const FIRST_EPOCH: u64 = 1;

impl Engine {
    /// Opens the database on `disk`, or makes one; `keep` lives as long as anything may be written.
    ///
    /// The opening is a task of the engine's: dropping the future lets it come to its end, and then
    /// closes what it opened. (Were it given up half-way, writes of it might still be in flight when
    /// somebody else opens the database.)
    ///
    /// # Errors
    /// There is none and `create` is not set; it is damaged, of another version or page size; the
    /// disk fails or is full.
    pub async fn open(
        disk: Arc<dyn Disk>,
        runtime: Arc<dyn Runtime>,
        options: EngineOptions,
        keep: Box<dyn Any + Send + Sync>,
    ) -> Result<Arc<Self>, Error> {
        Opening::new(disk, runtime, options, keep, false).start().await
    }
}

/// An engine that was opened, and whose user has not got it yet.
struct Unclaimed(Option<Arc<Engine>>);

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(engine) = &self.0 {
            engine.stop();
        }
    }
}

pub(crate) struct Opening {
    disk: Arc<dyn Disk>,
    runtime: Arc<dyn Runtime>,
    health: Arc<Health>,
    options: EngineOptions,
    /// Nothing may be changed on the disk.
    read_only: bool,
    /// Taken by the engine, once there is one.
    keep: Mutex<Option<Box<dyn Any + Send + Sync>>>,
    /// The pool, once there is one.
    pool: Mutex<Option<Arc<Pool>>>,
}

impl Opening {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        runtime: Arc<dyn Runtime>,
        options: EngineOptions,
        keep: Box<dyn Any + Send + Sync>,
        read_only: bool,
    ) -> Self {
        let (health, keep, pool) = (Arc::default(), Mutex::new(Some(keep)), Mutex::default());
        Self { disk, runtime, health, options, read_only, keep, pool }
    }

    /// Opens, as a task of the engine's.
    pub(crate) async fn start(self) -> Result<Arc<Engine>, Error> {
        let (done, opened) = oneshot::channel();
        let runtime = Arc::clone(&self.runtime);
        let opening = async move {
            // Whoever drops it, here or on its way, closes the engine.
            let _ = done.send(self.run().await.map(|engine| Unclaimed(Some(engine))));
        };
        runtime.spawn(Box::pin(opening.in_current_span()));
        // The runtime itself has ended otherwise.
        let mut opened = opened.await.unwrap_or(Err(Error::Closed))?;
        Ok(opened.0.take().expect("an engine is claimed once"))
    }

    async fn run(self) -> Result<Arc<Engine>, Error> {
        let opened = self.open().await;
        if opened.is_err() {
            // Before the folder is free, nothing may be on its way to it.
            self.give_up_pool().await;
        }
        opened
    }

    async fn open(&self) -> Result<Arc<Engine>, Error> {
        let presence = PageFile::presence(&self.disk).await?;
        match presence {
            Presence::Present => return self.recover().await,
            Presence::Missing | Presence::Blank => self.refuse_lone_log()?,
            Presence::Interrupted => {}
        }
        if self.options.create && !self.read_only {
            if presence == Presence::Interrupted {
                self.empty_log().await?;
            }
            return self.create().await;
        }
        Err(Error::File(FileError::new(
            FileErrorKind::NotADatabase,
            "there is no database here; create it first, or correct the path",
        )))
    }

    /// A page file has something in it before the log's first file is made. So a log without one is what
    /// is left of a database, and nobody makes another in its place.
    fn refuse_lone_log(&self) -> Result<(), FileError> {
        let Some(file) = self.log_files()?.pop() else { return Ok(()) };
        let log = self.disk.describe(file);
        let message = format!(
            "the page file is missing or empty, but there is {log}: the pages of this database are \
             lost; restore a backup, or take the log files away to begin anew"
        );
        Err(FileError::new(FileErrorKind::Damaged, message))
    }

    /// Durably empties the log that a creation has left which did not come far: the next one empties the
    /// page file first, and might be interrupted just then.
    async fn empty_log(&self) -> Result<(), FileError> {
        for file in self.log_files()? {
            let doing =
                |error| FileError::io(format!("emptying {}", self.disk.describe(file)), error);
            self.disk.set_len(file, 0).map_err(doing)?;
            sync_file(&*self.disk, file).await.map_err(doing)?;
        }
        Ok(())
    }

    /// The log's files in which there is something.
    fn log_files(&self) -> Result<Vec<FileId>, FileError> {
        let asking = |error| FileError::io("looking for log files", error);
        let mut files = Vec::new();
        for name in self.disk.names().map_err(asking)?.iter().filter(|name| is_log_file(name)) {
            let file = self.disk.open(name, false).map_err(asking)?;
            if self.disk.len(file).map_err(asking)? > 0 {
                files.push(file);
            }
        }
        Ok(files)
    }

    /// Ends the pool; resolves when no page is on its way to disk.
    async fn give_up_pool(&self) {
        let pool = lock(&self.pool).take();
        if let Some(pool) = pool {
            pool.stop();
            pool.written().await;
        }
    }

    async fn create(&self) -> Result<Arc<Engine>, Error> {
        let page_size = self.options.page_size.unwrap_or(DEFAULT_PAGE_SIZE);
        let incarnation = self.options.entropy;
        let (disk, health) = (Arc::clone(&self.disk), Arc::clone(&self.health));
        let file = PageFile::create(disk, health, page_size, incarnation).await?;
        let forest = self.forest(file, &[])?;
        make_root(forest.pool(), CATALOG.id, FIRST_EPOCH).await?;
        let recovery = Recovery { created: true, ..Recovery::default() };
        let start = LogStart {
            incarnation,
            first_segment: 1,
            last_sequence: 0,
            epoch: FIRST_EPOCH,
            keep: Vec::new(),
        };
        let (epoch, posting) = (FIRST_EPOCH, Posting::Now);
        let (catalog, loads) = (Catalog::default(), Loads::default());
        let runtime = Arc::clone(&self.runtime);
        let first = Replay { forest, catalog, loads, epoch, posting, runtime };
        first.count_opening().await?;
        self.finish(first.forest, first.catalog, recovery, start).await
    }

    /// Opens the last checkpoint and replays the log. Posting splits takes room that the life before
    /// may not have had: parents change that had not changed yet. If that is what fills the disk, it
    /// begins once more and leaves the splits to be posted later (I13). As nothing durable has
    /// changed, it may.
    async fn recover(&self) -> Result<Arc<Engine>, Error> {
        let span = || tracing::info_span!("recovery");
        let recovered = match self.replay(Posting::Now).instrument(span()).await {
            Err(error) if error.file_kind() == Some(FileErrorKind::Full) => {
                tracing::warn!(%error, "the disk is too full to tidy up now; recovering without");
                self.give_up_pool().await;
                self.replay(Posting::Later).instrument(span()).await?
            }
            recovered => recovered?,
        };
        let Recovered { forest, catalog, recovery, start } = recovered;
        self.finish(forest, catalog, recovery, start).await
    }

    async fn replay(&self, posting: Posting) -> Result<Recovered, Error> {
        let (disk, health) = (Arc::clone(&self.disk), Arc::clone(&self.health));
        let opened = match self.read_only {
            false => PageFile::open(disk, health, self.options.page_size).await?,
            true => PageFile::open_read_only(disk, health, self.options.page_size).await?,
        };
        let checkpoint = opened.checkpoint;
        let forest = self.forest(opened.file, &opened.entries)?;
        let (catalog, epoch) = (Catalog::default(), checkpoint.epoch + 1);
        let (loads, runtime) = (Loads::default(), Arc::clone(&self.runtime));
        let mut replay = Replay { forest, catalog, loads, epoch, posting, runtime };
        let pool = replay.forest.pool();
        claim_values(pool, Arc::clone(&self.disk), checkpoint, epoch).await?;
        replay.load_catalog().await?;
        // Before the replay uses ids of its own.
        let built = replay.built_pages();
        replay.finish_deferred().await?;
        let Replayed { records: replayed, sequence, last_segment, segments } =
            replay.run(Arc::clone(&self.disk), checkpoint, |bytes| self.reporter(bytes)).await?;
        replay.free_loads(built).await?;
        if !self.read_only {
            replay.count_opening().await?;
        }
        let start = LogStart {
            incarnation: self.options.entropy,
            first_segment: last_segment + 1,
            last_sequence: sequence,
            epoch: replay.epoch,
            keep: segments,
        };
        let recovery = Recovery {
            created: false,
            replayed,
            sequence,
            damaged_superblock: opened.damaged_superblock,
        };
        let Replay { forest, catalog, .. } = replay;
        Ok(Recovered { forest, catalog, recovery, start })
    }

    fn reporter(&self, bytes_at_most: u64) -> Reporter {
        let observer = self.options.observer.clone();
        Reporter::begin(Arc::clone(&self.runtime), observer, bytes_at_most)
    }

    /// The trees of a file, and the cleaner of their pool.
    fn forest(
        &self,
        file: Arc<PageFile>,
        entries: &[treering_pagefile::MapEntry],
    ) -> Result<Arc<Forest>, Error> {
        let frames = (self.options.cache_size / file.page_size() as u64).max(16) as usize;
        let (staging, captures) = ((frames / 4).clamp(4, 256), (frames / 64).clamp(4, 4096));
        let options = PoolOptions { frames, staging, captures };
        let cache = self.options.cache_size;
        let pool =
            Pool::new(file, Arc::clone(&self.health), entries, options).map_err(|source| {
                FileError::io(format!("reserving {cache} bytes of memory for the cache"), source)
            })?;
        *lock(&self.pool) = Some(Arc::clone(&pool));
        self.runtime.spawn(Box::pin(Arc::clone(&pool).run_cleaner(Arc::clone(&self.runtime))));
        Ok(Arc::new(Forest::new(pool)))
    }

    /// The new life's log and its first checkpoint.
    async fn finish(
        &self,
        forest: Arc<Forest>,
        catalog: Catalog,
        recovery: Recovery,
        start: LogStart,
    ) -> Result<Arc<Engine>, Error> {
        let incarnation = start.incarnation;
        let (disk, runtime) = (Arc::clone(&self.disk), Arc::clone(&self.runtime));
        let (health, options) = (Arc::clone(&self.health), self.options.log);
        let log = match self.read_only {
            true => Log::nowhere(disk, runtime, health, options, start),
            false => Log::create(disk, runtime, health, options, start).await?.0,
        };
        let keep = lock(&self.keep).take();
        let engine = Engine::new(Parts {
            health: Arc::clone(&self.health),
            forest,
            log,
            catalog,
            incarnation,
            recovery,
            read_only: self.read_only,
            observer: self.options.observer.clone(),
            runtime: Arc::clone(&self.runtime),
            keep: keep.expect("an opening makes one engine"),
        });
        if self.read_only {
            return Ok(engine);
        }
        let first = engine.checkpoint().await;
        if first.is_err() {
            engine.stop();
        }
        first?;
        engine.resume_drops();
        engine.hold_replay_slack().await;
        Ok(engine)
    }
}

/// What a replay leads to.
struct Recovered {
    forest: Arc<Forest>,
    catalog: Catalog,
    recovery: Recovery,
    start: LogStart,
}

/// When a replay tells parents of the splits that it makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Posting {
    Now,
    Later,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// Makes an empty tree's root, waiting for what that takes.
pub(crate) async fn make_root(pool: &Arc<Pool>, tree: u32, epoch: u64) -> Result<TreeRef, Error> {
    let mut written = false;
    loop {
        let relief = pool.relief();
        let refusal = match pool.try_new_page(Room::Growing) {
            Ok(page) => {
                let root = write_empty_root(&page, tree, pool.page_size());
                page.publish(epoch);
                return Ok(TreeRef::new(tree, root));
            }
            Err(refusal) => refusal,
        };
        wait_for(pool, refusal, relief, epoch, &mut written).await?;
    }
}

/// Waits for what was lacking. `written` is false at first, and belongs to one change.
///
/// When the disk is full: a page that was written back and changed again in the same epoch takes two
/// extents, until it is written again. How many there are depends on what was evicted when, so a
/// replay may come to more of them than the life that it repeats. Writing them all back leaves each
/// page with one extent, for which there was room in that life, too (I13).
pub(crate) async fn wait_for(
    pool: &Pool,
    refusal: Refusal,
    relief: event_listener::EventListener,
    epoch: u64,
    written: &mut bool,
) -> Result<(), Error> {
    match refusal {
        Refusal::Space => match pool.file().grow().await {
            Err(error) if error.kind() == FileErrorKind::Full && !*written => {
                *written = true;
                pool.write_epoch(epoch).await?;
            }
            grown => grown?,
        },
        refusal => pool.wait_for_relief(refusal, relief).await?,
    }
    Ok(())
}
