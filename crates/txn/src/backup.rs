//! Online backup: a copy of the database as of one checkpoint, while everything else goes on.
//!
//! 1. A checkpoint is written. Then, with checkpoints held off for a moment, a *snapshot* takes the
//!    page map as that checkpoint has it, and pins its extents. Writers notice nothing of it.
//! 2. The pages are read in the order of the file, several neighbours an I/O, verified, and written to
//!    a new page file as they are: same page, same stamp, other place.
//! 3. The copy gets a log of its own, empty, and last of all its first checkpoint, with the sequence
//!    of the one that was copied. Until then it is no database, so a backup that was interrupted
//!    cannot be taken for a whole one.
//!
//! A pinned checkpoint keeps extents from being used again. When that is what fills the disk, the
//! engine breaks the pin ([`Engine::make_space`]): the backup fails, and no write does.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use futures::stream::{FuturesUnordered, StreamExt};
use treering_pagefile::{
    AlignedBuf, CheckpointInfo, Disk, Extent, FileError, FileErrorKind, Health, IoBuf, Lane,
    MapEntry, Op, PageFile, Presence, Room, Snapshot, transfer, verify,
};

use crate::engine::Engine;
use crate::error::Error;
use crate::log::{Log, LogOptions, LogStart};

/// Where a backup goes.
pub struct BackupTarget {
    /// A disk with no database on it.
    pub disk: Arc<dyn Disk>,
    /// A number that no opening of any copy used: see [`crate::EngineOptions::entropy`].
    pub entropy: u64,
    /// What has to live as long as anything may be written there: the lock of the directory.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// What a backup came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedUp {
    /// Pages that were copied.
    pub pages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The sequence of the last commit that is in the copy: all up to it are, and none behind it.
    pub sequence: u64,
}

/// Neighbouring pages are copied in pieces of this many bytes, or one page each.
const PIECE: usize = 256 << 10;
/// Pieces on their way: so many bytes, and between two and eight pieces.
const IN_FLIGHT: usize = 2 << 20;

impl Engine {
    /// Copies the database, as of a checkpoint written for this, to the disk that `target` opens, on
    /// the engine's own thread. The copy is a database with a life of its own.
    ///
    /// The future only waits: dropping it stops nothing. The end of the engine ends the backup, too.
    ///
    /// # Errors
    /// `Full` if there is no room for the copy, or if the source's disk is full but for what the
    /// backup kept from being used again; `Damaged`, naming the page, if one does not verify; `NotADatabase`
    /// if there is a database at the target already; those of `target`, and of either disk. What was
    /// written of the copy is no database then; the source goes on.
    pub async fn backup(
        self: &Arc<Self>,
        target: impl FnOnce() -> Result<BackupTarget, Error> + Send + 'static,
    ) -> Result<BackedUp, Error> {
        self.check_writable()?;
        let (done, backed_up) = oneshot::channel();
        let engine = Arc::clone(self);
        self.begin(async move {
            let backed_up = match target() {
                Ok(target) => engine.back_up(target).await,
                Err(error) => Err(error),
            };
            // The future may be gone: the copy stands all the same.
            let _ = done.send(backed_up);
        })?;
        backed_up.await.unwrap_or(Err(Error::Closed))
    }

    async fn back_up(self: &Arc<Self>, target: BackupTarget) -> Result<BackedUp, Error> {
        let BackupTarget { disk, entropy, keep } = target;
        if PageFile::presence(&disk).await? == Presence::Present {
            let message = "there is a database already: back up to a folder that is new or empty";
            return Err(FileError::new(FileErrorKind::NotADatabase, message).into());
        }
        let snapshot = self.snapshot().await?;
        // The copy's own: whatever happens to it, the source goes on.
        let health = Arc::new(Health::of_a_copy());
        let page_size = self.pool().page_size();
        let (place, its_health) = (Arc::clone(&disk), Arc::clone(&health));
        let file = PageFile::create(place, its_health, page_size, entropy).await?;
        file.continue_stamps(&snapshot);
        let copying = Copying { engine: self, snapshot, file, health, disk, entropy };
        let backed_up = copying.run().await;
        // With it ends the copy's disk, after whatever was on its way there.
        drop(copying);
        drop(keep);
        let backed_up = backed_up?;
        tracing::info!(pages = backed_up.pages, sequence = backed_up.sequence, "backed up");
        Ok(backed_up)
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.checkpoint().await?;
        let _no_checkpoint = self.checkpoints.exclusive.enter_async().await;
        Ok(self.pool().file().snapshot()?)
    }
}

/// A backup under way.
struct Copying<'e> {
    engine: &'e Arc<Engine>,
    snapshot: Snapshot,
    /// The copy.
    file: Arc<PageFile>,
    health: Arc<Health>,
    disk: Arc<dyn Disk>,
    entropy: u64,
}

impl Copying<'_> {
    async fn run(&self) -> Result<BackedUp, Error> {
        self.copy_pages().await?;
        if self.snapshot.is_broken() {
            return Err(self.broken());
        }
        let info = self.snapshot.info();
        let start = LogStart {
            incarnation: self.entropy,
            first_segment: 1,
            last_sequence: info.sequence,
            epoch: info.epoch + 1,
            keep: Vec::new(),
        };
        let (disk, health) = (Arc::clone(&self.disk), Arc::clone(&self.health));
        let runtime = Arc::clone(&self.engine.runtime);
        // It is never appended to: the first opening begins one as large as it wants.
        let smallest = LogOptions {
            segment_size: 0,
            max_segments: 0,
            buffer_size: 0,
            flush_delay: Duration::ZERO,
        };
        let (_log, log) = Log::create(disk, runtime, health, smallest, start).await?;
        self.file.checkpoint(CheckpointInfo { incarnation: self.entropy, log, ..info }).await?;
        let pages = self.snapshot.entries().len() as u64;
        let bytes = pages * self.file.page_size() as u64;
        Ok(BackedUp { pages, bytes, sequence: info.sequence })
    }

    async fn copy_pages(&self) -> Result<(), Error> {
        let mut entries = self.snapshot.entries().to_vec();
        entries.sort_unstable_by_key(|entry| entry.extent.offset);
        let page_size = self.file.page_size();
        let in_piece = (PIECE / page_size).max(1);
        let most = (IN_FLIGHT / (in_piece * page_size)).clamp(2, 8);
        let mut pieces = entries.chunk_by(|a, b| adjacent(a.extent, b.extent));
        let mut rest: &[MapEntry] = &[];
        let mut copied = Ok(());
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < most && copied.is_ok() {
                if rest.is_empty() {
                    let Some(neighbours) = pieces.next() else { break };
                    rest = neighbours;
                }
                let (piece, behind) = rest.split_at(in_piece.min(rest.len()));
                rest = behind;
                in_flight.push(self.copy_piece(piece));
            }
            // Also after an error: nothing is on its way to a folder that is free again.
            let Some(piece) = in_flight.next().await else { return copied };
            copied = copied.and(piece).and_then(|()| self.engine.check());
        }
    }

    /// Copies pages that are neighbours.
    async fn copy_piece(&self, pages: &[MapEntry]) -> Result<(), Error> {
        let bytes = self.read(pages).await?;
        let mut extents = Vec::with_capacity(pages.len());
        while !self.file.try_reserve(pages.len(), Room::Growing) {
            self.file.grow().await?;
        }
        self.file.take_extents(pages.len(), &mut extents);
        if extents.windows(2).all(|two| adjacent(two[0], two[1])) {
            self.write(extents[0], bytes).await?;
        } else {
            for (&extent, image) in extents.iter().zip(bytes.chunks_exact(self.file.page_size())) {
                let mut one = AlignedBuf::zeroed(image.len());
                one.copy_from_slice(image);
                self.write(extent, one).await?;
            }
        }
        let epoch = self.snapshot.info().epoch;
        for (page, &extent) in pages.iter().zip(&extents) {
            self.file.record_written(MapEntry { extent, ..*page }, epoch, None);
        }
        Ok(())
    }

    /// The images of neighbouring pages, each verified (I7).
    async fn read(&self, pages: &[MapEntry]) -> Result<AlignedBuf, Error> {
        let source = self.engine.pool().file();
        let (page_size, disk) = (source.page_size(), source.disk());
        let name = || disk.describe(source.file());
        let offset = pages[0].extent.offset;
        let buf = IoBuf::Owned(AlignedBuf::zeroed(pages.len() * page_size));
        let lane = Lane::Background;
        let (buf, read) = transfer(&**disk, lane, source.file(), Op::Read, offset, buf).await;
        // From now on overwritten pages do not matter; before, they explain everything.
        let broken = self.snapshot.is_broken();
        let bytes = match (read, buf.into_owned()) {
            (Ok(()), Some(bytes)) => bytes,
            _ if broken => return Err(self.broken()),
            (read, _) => {
                let error = read.err().unwrap_or_else(|| std::io::Error::other("no bytes"));
                let doing = format!("reading {} pages at byte {offset} of {}", pages.len(), name());
                return Err(FileError::io(doing, error).into());
            }
        };
        for (entry, image) in pages.iter().zip(bytes.chunks_exact(page_size)) {
            if let Err(damage) = verify(image, entry.page, entry.stamp) {
                if broken {
                    return Err(self.broken());
                }
                let (page, at) = (entry.page, entry.extent.offset);
                let message = format!(
                    "{page} at byte {at} of {} is damaged: {damage}; the backup was given up",
                    name()
                );
                return Err(FileError::new(FileErrorKind::Damaged, message).into());
            }
        }
        Ok(bytes)
    }

    async fn write(&self, extent: Extent, bytes: AlignedBuf) -> Result<(), Error> {
        let file = self.file.file();
        let written = self.disk.write(file, Op::Write, extent.offset, bytes).await;
        written.map_err(|error| {
            let name = self.disk.describe(file);
            FileError::io(format!("writing at byte {} of {name}", extent.offset), error).into()
        })
    }

    fn broken(&self) -> Error {
        let message = "the backup was given up: the disk is full, and the space that the backup \
                       kept was needed for writes; free some, then back up again";
        FileError::new(FileErrorKind::Full, message).into()
    }
}

fn adjacent(a: Extent, b: Extent) -> bool {
    a.offset + u64::from(a.len) == b.offset
}
