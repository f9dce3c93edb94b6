//! How a database is opened.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use tracing::Instrument;
use treering_pagefile::{
    DirectoryLock, Disk, DiskOptions, EngineThread, IoBackend, Runtime, SLOW_IO, open_directory,
};
use treering_txn::{Durability, Engine, EngineOptions, LogOptions, RecoveryProgress};

use crate::database::{Database, Shared};
use crate::device;
use crate::error::{Error, ErrorKind};
use crate::folder;
#[cfg(feature = "metrics")]
use crate::metrics::Metrics;
use crate::recovery::OnRecovery;
use crate::registry::{Entered, Entry};
use crate::statistics::{self, Publisher, Publishing, StatisticsFile};
use crate::watch::{Watch, Watchers};

/// How the disk is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Io {
    /// io_uring where the kernel allows it, threads elsewhere; which it was is in the `tracing`
    /// event of the opening.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// A pool of threads with `pread` and `pwrite`: works everywhere.
    Threads,
}

/// Options of a database, with defaults that suit a service with a few GiB of data.
#[derive(Clone, Debug)]
pub struct Options {
    cache_size: u64,
    page_size: Option<usize>,
    io: Io,
    durability: Durability,
    create: bool,
    read_only: bool,
    device: Option<PathBuf>,
    overwrite_device: bool,
    log_size: u64,
    log_buffer: usize,
    flush_delay: Duration,
    load_memory: usize,
    slow_io: Duration,
    on_recovery: Option<OnRecovery>,
    statistics_file: bool,
    #[cfg(feature = "metrics")]
    metrics: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_size: 256 << 20,
            page_size: None,
            io: Io::Auto,
            durability: Durability::Durable,
            create: true,
            read_only: false,
            device: None,
            overwrite_device: false,
            log_size: 256 << 20,
            log_buffer: 2 << 20,
            flush_delay: Duration::from_millis(10),
            load_memory: 64 << 20,
            slow_io: SLOW_IO,
            on_recovery: None,
            statistics_file: false,
            #[cfg(feature = "metrics")]
            metrics: false,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Memory for pages in bytes, 256 MiB by default; 16 pages at least are used. It is address
    /// space at first, and becomes memory as pages are used.
    pub fn cache_size(mut self, bytes: u64) -> Self {
        self.cache_size = bytes;
        self
    }

    /// Bytes a page, when the database is made: a power of two from 512 to 16 MiB, no smaller than
    /// the device's blocks; 4096 by default. Opening a database with another page size is an error
    /// when this was set.
    pub fn page_size(mut self, bytes: usize) -> Self {
        self.page_size = Some(bytes);
        self
    }

    /// How the disk is reached: [`Io::Auto`] unless set.
    pub fn io(mut self, io: Io) -> Self {
        self.io = io;
        self
    }

    /// What commits wait for, unless they say otherwise: [`Durability::Durable`] by default. Deleting
    /// ranges waits for this, too. Making, renaming and dropping trees is durable in any case.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Whether a database is made where there is none: true by default.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Opens an existing database for reading only: nothing in its folder is created or changed, and
    /// every change is refused with [`ErrorKind::ReadOnly`]. Several may read at once, in this process
    /// and others, but nobody beside somebody who writes. What is in the log of a database that was
    /// not closed is there, too; it has to fit into the cache. False by default.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// A block device for the pages of a database that is made: a link to it takes the place of the
    /// page file. The log stays in the folder. Pages may not be smaller than the device's blocks, and
    /// the database may grow to the device's end. Opening a database whose pages are elsewhere is an
    /// error when this was set.
    pub fn device(mut self, device: impl AsRef<Path>) -> Self {
        self.device = Some(device.as_ref().to_path_buf());
        self
    }

    /// Whether a device that is not blank may be made a database's: **what is on it is lost**. False
    /// by default.
    pub fn overwrite_device(mut self, overwrite: bool) -> Self {
        self.overwrite_device = overwrite;
        self
    }

    /// Bytes that the redo log may take on disk, 256 MiB by default. A checkpoint is written when
    /// half of it is used, so it bounds the time that recovery takes.
    pub fn log_size(mut self, bytes: u64) -> Self {
        self.log_size = bytes;
        self
    }

    /// Bytes of one of the log's buffers, 2 MiB by default. A batch that takes more is written to the
    /// page file first.
    pub fn log_buffer(mut self, bytes: usize) -> Self {
        self.log_buffer = bytes;
        self
    }

    /// How long a [`Durability::Buffered`] commit may stay in memory: 10 ms by default.
    pub fn flush_delay(mut self, delay: Duration) -> Self {
        self.flush_delay = delay;
        self
    }

    /// Bytes that a bulk load ([`crate::Tree::load`]) may gather in memory before it writes them to a
    /// temporary file or to the tree: 64 MiB by default.
    pub fn load_memory(mut self, bytes: usize) -> Self {
        self.load_memory = bytes;
        self
    }

    /// What a request to the disk may take before a `tracing` event `slow I/O` tells of it (one a
    /// second at most) and [`crate::DiskCounters::slow`] counts it: 1 s by default. With
    /// [`Duration::MAX`] nothing is slow, and no clock is read for it.
    pub fn slow_io(mut self, time: Duration) -> Self {
        self.slow_io = time;
        self
    }

    /// Who is told how far a recovery is: at its beginning, about ten times a second, and at its
    /// end. It runs on the engine's thread, which must not wait for it. A database that was closed
    /// has nothing to recover: then it is told of a beginning and an end without records.
    pub fn on_recovery(mut self, told: impl Fn(&RecoveryProgress) + Send + Sync + 'static) -> Self {
        self.on_recovery = Some(OnRecovery(Arc::new(told)));
        self
    }

    /// Whether the database offers its statistics to other processes: a file `statistics.json` in its
    /// folder, written anew once a second by a thread of its own, for `treering top` and whoever
    /// reads JSON. Lookups are counted then, too ([`crate::Stats::lookups`]). False by default, and
    /// without effect on a database that is open for reading only.
    pub fn statistics_file(mut self, offer: bool) -> Self {
        self.statistics_file = offer;
        self
    }

    /// Whether times and numbers go to the recorder of the `metrics` facade that is installed when
    /// the database is opened. False by default.
    #[cfg(feature = "metrics")]
    pub fn metrics(mut self, record: bool) -> Self {
        self.metrics = record;
        self
    }

    /// Opens the database in the folder `path`: recovers it if it was not closed, and makes it if
    /// there is none.
    ///
    /// The work is done by the engine's own thread. Dropping the future lets it come to its end
    /// there; the database is then closed again.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] names the process that has it open; [`ErrorKind::InvalidOptions`],
    /// [`ErrorKind::Version`], [`ErrorKind::Damaged`], [`ErrorKind::Full`], [`ErrorKind::Io`].
    pub async fn open(self, path: impl AsRef<Path>) -> Result<Database, Error> {
        let path = path.as_ref().to_path_buf();
        let entered = Entry::enter(&path, self.read_only).await?;
        let mut given_up = GivenUp(Some(entered.entry()));
        let (sender, receiver) = oneshot::channel();
        let thread = EngineThread::start()
            .map_err(|source| Error::io("starting the engine's thread", source))?;
        let runtime = Arc::new(thread);
        let inside: Arc<dyn Runtime> = Arc::clone(&runtime) as _;
        let span = tracing::info_span!("open", path = %path.display(), read_only = self.read_only);
        let opening = async move {
            // If nobody takes it, the database is dropped here or in the channel, which closes it.
            let _ = sender.send(self.open_on_engine_thread(path, inside, entered).await);
        };
        runtime.spawn(Box::pin(opening.instrument(span)));
        let database = receiver.await.map_err(|_| {
            Error::io("opening", std::io::Error::other("the engine's thread has ended"))
        })??;
        given_up.0 = None;
        Ok(database)
    }

    async fn open_on_engine_thread(
        self,
        path: PathBuf,
        runtime: Arc<dyn Runtime>,
        entered: Entered,
    ) -> Result<Database, Error> {
        let entry = entered.entry();
        let create = self.create && !self.read_only;
        folder::prepare(&path, create)?;
        let lock = DirectoryLock::acquire_after_the_dead(&path, self.read_only, &*runtime).await?;
        let lock = Arc::new(lock);
        if let Some(device) = &self.device {
            device::link(&path, device, create, self.overwrite_device)?;
        }
        let io = match self.io {
            Io::Auto => IoBackend::Auto,
            Io::Uring => IoBackend::Uring,
            Io::Threads => IoBackend::Threads,
        };
        let watched = self.watched(&path);
        let disk = open_directory(
            &path,
            &DiskOptions {
                io,
                read_only: self.read_only,
                lock: Some(Arc::clone(&lock)),
                slow_io: self.slow_io,
                observer: watched.io_observer(),
                ..DiskOptions::default()
            },
        )?;
        let (began, io) = (runtime.now(), disk.backend());
        let clock = Arc::clone(&runtime);
        // The standard library seeds its hashers from the system's random source.
        let mut options = self.engine_options(RandomState::new().hash_one(&path));
        options.observer = watched.observer(self.on_recovery.clone());
        let publishing = Publishing::default();
        // In this order they end.
        let keep = Box::new((publishing.stop_on_drop(), lock, entered));
        let opened = match self.read_only {
            false => Engine::open(disk, runtime, options, keep).await,
            true => Engine::open_read_only(disk, runtime, options, keep).await,
        };
        let engine = opened.map_err(|error| explain(error.into(), &path))?;
        let publisher = self.publisher(&watched, &path, io);
        self.move_in(&path, &engine, &publishing, publisher).inspect_err(|_| engine.stop())?;
        let recovery = engine.recovery();
        tracing::info!(
            path = %path.display(),
            created = recovery.created,
            replayed = recovery.replayed,
            sequence = recovery.sequence,
            took_ms = (clock.now() - began).as_millis() as u64,
            "ready"
        );
        let scratch = path.join(folder::SCRATCH).into();
        Ok(self.database(engine, scratch, entry, watched.watch))
    }

    /// What is done in the folder when it is known to hold a database: in another one nothing is ours.
    fn move_in(
        &self,
        path: &Path,
        engine: &Arc<Engine>,
        publishing: &Publishing,
        publisher: Option<Publisher>,
    ) -> Result<(), Error> {
        if !self.read_only {
            folder::clear_scratch(path)?;
            statistics::clear(path).map_err(|source| {
                let path = path.display();
                Error::io(format!("removing the statistics of an earlier life in {path}"), source)
            })?;
        }
        let Some(publisher) = publisher else { return Ok(()) };
        let started = publishing.start(engine, publisher);
        started.map_err(|source| Error::io("starting the thread for statistics", source))
    }

    /// Who watches this database, as the options ask.
    fn watched(&self, path: &Path) -> Watchers {
        #[cfg(feature = "metrics")]
        {
            let metrics = self.metrics.then(|| Metrics::new(path.display().to_string()));
            Watchers::new(self.statistics_file, metrics)
        }
        #[cfg(not(feature = "metrics"))]
        {
            let _ = path;
            Watchers::new(self.statistics_file)
        }
    }

    /// What is published once a second, if anything is.
    fn publisher(&self, watched: &Watchers, path: &Path, io: String) -> Option<Publisher> {
        let file = (self.statistics_file && !self.read_only)
            .then(|| StatisticsFile { folder: path.to_path_buf(), io });
        watched.publisher(file)
    }

    fn engine_options(&self, entropy: u64) -> EngineOptions {
        // Three of them are made with the database, so a new one is small.
        let segment_size = (self.log_size / 64).max(self.log_buffer as u64 * 2);
        EngineOptions {
            page_size: self.page_size,
            cache_size: self.cache_size,
            log: LogOptions {
                segment_size,
                max_segments: (self.log_size / segment_size).clamp(3, 64) as usize,
                buffer_size: self.log_buffer,
                flush_delay: self.flush_delay,
            },
            create: self.create && !self.read_only,
            entropy,
            observer: None,
        }
    }

    fn database(
        &self,
        engine: Arc<Engine>,
        scratch: Arc<Path>,
        entry: Arc<Entry>,
        watch: Watch,
    ) -> Database {
        let (durability, load_memory) = (self.durability, self.load_memory);
        Database::new(Shared { engine, durability, scratch, load_memory, entry, watch })
    }

    /// Opens a database on a disk and a runtime of the caller's: those of a simulation. `entropy` is a
    /// number that no earlier opening of it used. What the options say of folders and devices does not
    /// matter, and a bulk load that has to sort has nowhere to do so.
    ///
    /// # Errors
    /// As [`Options::open`].
    #[doc(hidden)]
    pub async fn open_on(
        self,
        disk: Arc<dyn Disk>,
        runtime: Arc<dyn Runtime>,
        entropy: u64,
    ) -> Result<Database, Error> {
        let options = self.engine_options(entropy);
        let engine = match self.read_only {
            false => Engine::open(disk, runtime, options, Box::new(())).await,
            true => Engine::open_read_only(disk, runtime, options, Box::new(())).await,
        }?;
        Ok(self.database(engine, Path::new("").into(), Arc::default(), Watch::default()))
    }
}

/// Says, unless the opening succeeds, that whatever it made of the folder is about to end: whoever
/// opens it next waits for that.
struct GivenUp(Option<Arc<Entry>>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        if let Some(entry) = &self.0 {
            entry.end();
        }
    }
}

/// Names the folder where the error does not.
fn explain(error: Error, path: &Path) -> Error {
    if error.kind() == ErrorKind::InvalidOptions && !error.to_string().contains("there is no") {
        return error;
    }
    match error.kind() {
        ErrorKind::InvalidOptions => treering_pagefile::FileError::new(
            treering_pagefile::FileErrorKind::NotADatabase,
            format!("{}: {error}", path.display()),
        )
        .into(),
        _ => error,
    }
}
