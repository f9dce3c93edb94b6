//! A simulated machine with a database on its disk, and lies that can be planted between the two.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use treering::{Database, Error, Options};
use treering_pagefile::sim::{Patience, SECTOR, Sim, SimDisk, SimFolder, SimImage};
use treering_pagefile::{Completion, Disk, FileId, IoBuf, Lane, Op, Request};

/// Bytes a page: the fewest there can be, so that trees are deep.
pub const PAGE: usize = 512;

/// What is planted so that somebody notices whether the checks find anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum Planted {
    /// Nothing: all must be well.
    #[default]
    Nothing,
    /// Writes of the log are not durable when they say so.
    LogSync,
    /// Syncs of the page file do nothing.
    PageSync,
    /// The third sync of a life does nothing.
    ThirdSync,
    /// Every fifth write of pages does nothing.
    LostWrite,
    /// Writes that fail say that all is well.
    DeafWrites,
    /// The model forgets what was acknowledged.
    Forgets,
    /// The model takes for durable what was merely acknowledged.
    Impatient,
}

/// A machine; each life of a database on it has numbers of its own.
pub struct Machine {
    sim: Sim,
    planted: Planted,
    entropy: Cell<u64>,
    lies: Arc<Lies>,
    reads: Option<Arc<Reads>>,
}

/// Sectors, by file and offset.
pub type Sectors = HashSet<(String, u64)>;

type Reads = Mutex<Vec<(FileId, u64, u64)>>;

impl Machine {
    /// A machine with this on its disk. `life` is a number that no earlier life of it had.
    pub fn new(image: &SimImage, seed: u64, life: u64, planted: Planted) -> Self {
        let mut sim = Sim::from_image(image, seed);
        sim.set_patience(Patience {
            polls: 200_000,
            jumps: 10_000,
            time: Duration::from_secs(120),
        });
        let lies = Arc::new(Lies { planted, syncs: AtomicU64::new(0), writes: AtomicU64::new(0) });
        Self { sim, planted, entropy: Cell::new(life << 16), lies, reads: None }
    }

    /// The same machine, which notes what is read.
    pub fn noting_reads(mut self) -> Self {
        self.reads = Some(Arc::default());
        self
    }

    /// The sectors that were read so far.
    pub fn read(&self) -> Sectors {
        let Some(reads) = &self.reads else { return Sectors::new() };
        let reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = self.sim.disk();
        let sectors = reads.iter().flat_map(|&(file, offset, len)| {
            let name = disk.describe(file);
            let name = name.trim_start_matches("sim:").to_owned();
            (offset..offset + len).step_by(SECTOR).map(move |offset| (name.clone(), offset))
        });
        sectors.collect()
    }

    /// Whether it died: nothing completes any more, and some calls fail.
    pub fn is_dead(&self) -> bool {
        self.sim.disk().is_dead()
    }

    /// What drives it.
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// A number that no opening had so far.
    pub fn entropy(&self) -> u64 {
        self.entropy.set(self.entropy.get() + 1);
        self.entropy.get()
    }

    /// The disk as it is seen by a database whose files begin with `prefix`.
    pub fn disk_of(&self, prefix: &'static str) -> Arc<dyn Disk> {
        let disk = self.sim.disk();
        let lies = (self.planted != Planted::Nothing).then(|| Arc::clone(&self.lies));
        let reads = self.reads.clone();
        if prefix.is_empty() && lies.is_none() && reads.is_none() {
            return disk;
        }
        Arc::new(Part { files: SimFolder::new(Arc::clone(&disk), prefix), disk, lies, reads })
    }

    /// Opens the database whose files begin with `prefix`, with a pool of so many frames and the
    /// smallest log.
    ///
    /// # Errors
    /// As [`Options::open_on`].
    pub async fn open(
        &self,
        prefix: &'static str,
        frames: usize,
        create: bool,
    ) -> Result<Database, Error> {
        let options = Options::new()
            .page_size(PAGE)
            .cache_size((frames * PAGE) as u64)
            .log_buffer(8 << 10)
            .log_size(48 << 10)
            .flush_delay(Duration::from_millis(1))
            .create(create);
        options.open_on(self.disk_of(prefix), self.sim.runtime(), self.entropy()).await
    }
}

/// What is planted in a disk, and how often it has struck.
struct Lies {
    planted: Planted,
    syncs: AtomicU64,
    writes: AtomicU64,
}

/// The files of one database, and what becomes of the requests to them.
struct Part {
    files: SimFolder,
    disk: Arc<SimDisk>,
    lies: Option<Arc<Lies>>,
    reads: Option<Arc<Reads>>,
}

impl Disk for Part {
    fn open(&self, name: &str, create: bool) -> io::Result<FileId> {
        self.files.open(name, create)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.files.names()
    }

    fn len(&self, file: FileId) -> io::Result<u64> {
        self.files.len(file)
    }

    fn set_len(&self, file: FileId, len: u64) -> io::Result<()> {
        self.files.set_len(file, len)
    }

    fn describe(&self, file: FileId) -> String {
        self.files.describe(file)
    }

    fn block_size(&self) -> usize {
        self.files.block_size()
    }

    fn backend(&self) -> String {
        self.files.backend()
    }

    fn submit(&self, lane: Lane, requests: &mut Vec<Request>) {
        if let Some(lies) = &self.lies {
            for request in requests.iter_mut() {
                lies.tell(&self.disk, request);
            }
        }
        if let Some(reads) = &self.reads {
            let read = requests.iter().filter(|request| request.op == Op::Read);
            let read = read.map(|read| (read.file, read.offset, read.buf.len() as u64));
            reads.lock().unwrap_or_else(PoisonError::into_inner).extend(read);
        }
        self.disk.submit(lane, requests);
    }

    fn reap(&self) {}
}

impl Lies {
    fn tell(&self, disk: &SimDisk, request: &mut Request) {
        let pages = || disk.describe(request.file).ends_with("pages");
        match (self.planted, request.op) {
            (Planted::LogSync, Op::WriteDurable) if !pages() => request.op = Op::Write,
            (Planted::PageSync, Op::Sync) if pages() => do_nothing(request),
            (Planted::ThirdSync, Op::Sync) if self.syncs.fetch_add(1, Ordering::Relaxed) == 2 => {
                do_nothing(request);
            }
            (Planted::LostWrite, Op::Write)
                if pages() && self.writes.fetch_add(1, Ordering::Relaxed) % 5 == 4 =>
            {
                do_nothing(request);
            }
            (Planted::DeafWrites, Op::Write | Op::WriteDurable) => {
                let told = std::mem::replace(&mut request.done, Arc::new(Nobody));
                request.done = Arc::new(Deaf(told));
            }
            _ => {}
        }
    }
}

/// A reservation of no bytes.
fn do_nothing(request: &mut Request) {
    (request.op, request.offset) = (Op::Allocate { len: 0 }, 0);
}

struct Deaf(Arc<dyn Completion>);

impl Completion for Deaf {
    fn complete(self: Arc<Self>, token: u64, buf: IoBuf, _result: io::Result<()>) {
        Arc::clone(&self.0).complete(token, buf, Ok(()));
    }
}

struct Nobody;

impl Completion for Nobody {
    fn complete(self: Arc<Self>, _token: u64, _buf: IoBuf, _result: io::Result<()>) {}
}
