//! Where the tests' backups go: a part of a simulated disk, or a second one that moves when told to.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use treering_pagefile::sim::{Sim, SimDisk};
use treering_pagefile::yield_now;
use treering_pagefile::{Disk, FileId, Lane, Request};
use treering_txn::{BackupTarget, Engine, EngineOptions, Error};

/// The files of a disk whose names begin with a prefix.
#[derive(Clone)]
pub struct Folder {
    disk: Arc<SimDisk>,
    prefix: &'static str,
}

impl Folder {
    pub fn new(disk: Arc<SimDisk>, prefix: &'static str) -> Self {
        Self { disk, prefix }
    }

    /// Opens the database in the folder.
    pub async fn open(&self, sim: &Sim, options: EngineOptions) -> Result<Arc<Engine>, Error> {
        Engine::open(Arc::new(self.clone()), sim.runtime(), options, Box::new(())).await
    }
}

pub fn target(
    folder: &Folder,
    entropy: u64,
) -> impl FnOnce() -> Result<BackupTarget, Error> + use<> {
    let disk = Arc::new(folder.clone());
    move || Ok(BackupTarget { disk, entropy: entropy ^ 0xbac0, keep: Box::new(()) })
}

impl Disk for Folder {
    fn open(&self, name: &str, create: bool) -> io::Result<FileId> {
        self.disk.open(&format!("{}{name}", self.prefix), create)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let names = self.disk.names()?;
        let own = names.iter().filter_map(|name| name.strip_prefix(self.prefix));
        Ok(own.map(str::to_owned).collect())
    }

    fn len(&self, file: FileId) -> io::Result<u64> {
        self.disk.len(file)
    }

    fn set_len(&self, file: FileId, len: u64) -> io::Result<()> {
        self.disk.set_len(file, len)
    }

    fn describe(&self, file: FileId) -> String {
        self.disk.describe(file)
    }

    fn block_size(&self) -> usize {
        self.disk.block_size()
    }

    fn backend(&self) -> String {
        self.disk.backend()
    }

    fn submit(&self, lane: Lane, requests: &mut Vec<Request>) {
        self.disk.submit(lane, requests);
    }

    fn reap(&self) {}
}

/// A second disk on a machine that does not drive it.
pub struct Stepped {
    pub disk: Arc<SimDisk>,
    stop: Arc<AtomicBool>,
}

impl Stepped {
    /// It stands still at first.
    pub fn new(disk: &Arc<SimDisk>) -> Self {
        Self { disk: Arc::clone(disk), stop: Arc::default() }
    }

    /// From now on it moves, until [`Stepped::stop`].
    pub fn run(&self, sim: &Sim) {
        let (disk, stop) = (Arc::clone(&self.disk), Arc::clone(&self.stop));
        sim.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                disk.step();
                yield_now().await;
            }
        });
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
