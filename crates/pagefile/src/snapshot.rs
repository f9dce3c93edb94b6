//! What a checkpoint refers to, kept from being overwritten while somebody copies it.
//!
//! # Protocol
//! 1. With no checkpoint running, [`PageFile::snapshot`] copies the page map of the last durable one,
//!    and pins it: what later checkpoints release of it is held instead of becoming free.
//! 2. Writers and checkpoints go on. Who copies reads extents in any order, verifies each page, and, if
//!    one does not verify, asks [`Snapshot::is_broken`] before it blames the medium.
//! 3. Dropping the snapshot frees what was held for it.
//!
//! No change is refused for lack of space while extents are held: [`PageFile::break_snapshots`] comes
//! first (I13). It says so to the snapshots before any extent is free, so that whoever reads an
//! overwritten page knows why.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::checkpoint::{Checkpointer, RELEASED_AT_ONCE};
use crate::error::{FileError, FileErrorKind};
use crate::file::{MapEntry, PageFile, lock};
use crate::pins::Pin;
use crate::superblock::CheckpointInfo;

/// The pages of one checkpoint, where they are, and the promise that they stay there.
pub struct Snapshot {
    file: Arc<PageFile>,
    pin: Pin,
    entries: Vec<MapEntry>,
    info: CheckpointInfo,
    next_stamp: u32,
}

impl PageFile {
    /// A snapshot of the last durable checkpoint. It takes 32 bytes of memory a page.
    ///
    /// # Errors
    /// When a checkpoint was given up half-way, after which there is no other.
    ///
    /// # Panics
    /// If a checkpoint is running.
    pub fn snapshot(self: &Arc<Self>) -> Result<Snapshot, FileError> {
        let checkpointer = lock(&self.checkpointer);
        let (entries, info) = match &*checkpointer {
            Checkpointer::Idle(state) => (state.entries(), state.info),
            Checkpointer::Running => panic!("no snapshot is taken while a checkpoint is running"),
            Checkpointer::Abandoned => {
                let message = format!("a checkpoint of {} was given up half-way", self.name());
                return Err(FileError::new(FileErrorKind::Io, message));
            }
        };
        // Under the lock still: no checkpoint begins between the map and the pin.
        let pin = self.ledger().pin();
        let next_stamp = self.stamps.load(Ordering::Relaxed);
        Ok(Snapshot { file: Arc::clone(self), pin, entries, info, next_stamp })
    }

    /// Ends the promise of all snapshots if that makes space free; whether it does. For whoever would
    /// be refused a reservation otherwise.
    pub fn break_snapshots(&self) -> bool {
        let broken = self.ledger().pins.break_all();
        while self.ledger().release_held(RELEASED_AT_ONCE) {}
        broken
    }

    /// Lets the stamps of this file go on where a snapshot's did: for a copy of it, so that no image
    /// of a page ever carries the stamp of an older one.
    pub fn continue_stamps(&self, of: &Snapshot) {
        self.stamps.store(of.next_stamp, Ordering::Relaxed);
    }
}

impl Snapshot {
    /// Where each page is, by rising page id.
    pub fn entries(&self) -> &[MapEntry] {
        &self.entries
    }

    /// What the checkpoint says of itself.
    pub fn info(&self) -> CheckpointInfo {
        self.info
    }

    /// Whether the space was needed: pages may have been overwritten since.
    pub fn is_broken(&self) -> bool {
        !self.file.ledger().pins.is_pinned(self.pin)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.file.ledger().pins.unpin(self.pin);
        while self.file.ledger().release_held(RELEASED_AT_ONCE) {}
    }
}
