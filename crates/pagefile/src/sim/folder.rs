//! [`SimFolder`]: a part of a simulated disk.

use std::io;
use std::sync::Arc;

use super::disk::SimDisk;
use crate::disk::{Disk, FileId, Lane, Request};

/// The files of a disk whose names begin with a prefix, as a disk of their own: for a second database
/// on the same machine.
#[derive(Clone)]
pub struct SimFolder {
    disk: Arc<SimDisk>,
    prefix: Arc<str>,
}

impl SimFolder {
    /// The files of `disk` whose names begin with `prefix`.
    pub fn new(disk: Arc<SimDisk>, prefix: &str) -> Self {
        Self { disk, prefix: prefix.into() }
    }
}

impl Disk for SimFolder {
    fn open(&self, name: &str, create: bool) -> io::Result<FileId> {
        self.disk.open(&format!("{}{name}", self.prefix), create)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let names = self.disk.names()?;
        let own = names.iter().filter_map(|name| name.strip_prefix(&*self.prefix));
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
