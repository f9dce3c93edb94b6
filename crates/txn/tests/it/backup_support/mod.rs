//! Where the tests' backups go: a part of a simulated disk, or a second one that moves when told to.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use treering_pagefile::sim::{Sim, SimDisk, SimFolder};
use treering_pagefile::yield_now;
use treering_txn::{BackupTarget, Engine, EngineOptions, Error};

/// A part of a disk to which a backup goes.
pub struct Folder(SimFolder);

impl Folder {
    pub fn new(disk: Arc<SimDisk>, prefix: &str) -> Self {
        Self(SimFolder::new(disk, prefix))
    }

    /// Opens the database in the folder.
    pub async fn open(&self, sim: &Sim, options: EngineOptions) -> Result<Arc<Engine>, Error> {
        Engine::open(Arc::new(self.0.clone()), sim.runtime(), options, Box::new(())).await
    }
}

pub fn target(
    folder: &Folder,
    entropy: u64,
) -> impl FnOnce() -> Result<BackupTarget, Error> + use<> {
    let disk = Arc::new(folder.0.clone());
    move || Ok(BackupTarget { disk, entropy: entropy ^ 0xbac0, keep: Box::new(()) })
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
