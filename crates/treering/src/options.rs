//! How a database is opened.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use treering_pagefile::{
    DirectoryLock, Disk, DiskOptions, EngineThread, IoBackend, Runtime, open_directory,
};
use treering_txn::{Durability, Engine, EngineOptions, LogOptions};

use crate::database::{Database, Shared};
use crate::device;
use crate::error::{Error, ErrorKind};
use crate::folder;
use crate::registry::{Entered, Entry};

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
        runtime.spawn(Box::pin(async move {
            // If nobody takes it, the database is dropped here or in the channel, which closes it.
            let _ = sender.send(self.open_on_engine_thread(path, inside, entered).await);
        }));
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
        if !self.read_only {
            folder::clear_scratch(&path)?;
        }
        let io = match self.io {
            Io::Auto => IoBackend::Auto,
            Io::Uring => IoBackend::Uring,
            Io::Threads => IoBackend::Threads,
        };
        let disk = open_directory(
            &path,
            &DiskOptions {
                io,
                read_only: self.read_only,
                lock: Some(Arc::clone(&lock)),
                ..DiskOptions::default()
            },
        )?;
        tracing::info!(path = %path.display(), io = %disk.backend(), "opening");
        // The standard library seeds its hashers from the system's random source.
        let options = self.engine_options(RandomState::new().hash_one(&path));
        let keep = Box::new((lock, entered));
        let opened = match self.read_only {
            false => Engine::open(disk, runtime, options, keep).await,
            true => Engine::open_read_only(disk, runtime, options, keep).await,
        };
        let engine = opened.map_err(|error| explain(error.into(), &path))?;
        let scratch = path.join(folder::SCRATCH).into();
        Ok(self.database(engine, scratch, entry))
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
        }
    }

    fn database(&self, engine: Arc<Engine>, scratch: Arc<Path>, entry: Arc<Entry>) -> Database {
        let (durability, load_memory) = (self.durability, self.load_memory);
        Database::new(Shared { engine, durability, scratch, load_memory, entry })
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
        Ok(self.database(engine, Path::new("").into(), Arc::default()))
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
