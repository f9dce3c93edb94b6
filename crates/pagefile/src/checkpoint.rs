//! Making a checkpoint durable.
//!
//! # Protocol
//! The caller has written all page images of the epoch, and recorded them.
//! 1. The epoch is closed: its entries are the new delta.
//! 2. The delta, or a new base if one is due, and a new directory are written to free slots.
//! 3. The file is synced: from here on the pages and the map of this checkpoint are durable.
//! 4. Superblock A is written, durably; then B.
//! 5. What only the checkpoint before this one referred to is free: the extents that were replaced,
//!    the directory, and a replaced base with its deltas.
//!
//! If anything fails before step 5, the engine is poisoned (I8): no superblock is written any more and
//! nothing is released, so that the copies on disk, old or new, all name untouched extents.

use std::future::Future;
use std::sync::atomic::Ordering;

use futures::stream::{FuturesUnordered, StreamExt};

use crate::buf::AlignedBuf;
use crate::disk::Op;
use crate::error::{FileError, FileErrorKind};
use crate::file::{MapEntry, PageFile, lock};
use crate::map::{self, Image, Kind, Layout, Line, Sizes};
use crate::space::Run;
use crate::superblock::{self, CheckpointInfo, Superblock};

/// Pieces of the map in flight at once.
const WRITES_IN_FLIGHT: usize = 16;
/// Extents released under one hold of the mutex.
pub(crate) const RELEASED_AT_ONCE: usize = 1024;

/// Whether a checkpoint can be made.
pub(crate) enum Checkpointer {
    Idle(Box<Checkpointed>),
    Running,
    /// One was begun and never ended: its future was dropped, or it failed.
    Abandoned,
}

/// What the last checkpoint said.
#[derive(Debug, Default)]
pub(crate) struct Checkpointed {
    pub(crate) image: Image,
    pub(crate) layout: Layout,
    pub(crate) generation: u64,
    pub(crate) info: CheckpointInfo,
}

impl Checkpointed {
    /// Where each page is, by rising page id.
    pub(crate) fn entries(&self) -> Vec<MapEntry> {
        let lines = self.image.lines();
        let entry = |line: Line| {
            let (extent, overflow) = map::unpack_extent(line.extent);
            MapEntry { page: line.page, extent, stamp: line.stamp, overflow }
        };
        lines.map(entry).collect()
    }
}

impl PageFile {
    /// Makes the checkpoint that ends `info.epoch`: when this returns, opening finds it, and what it
    /// replaced is free. All writes of page images of epochs up to `info.epoch` must have completed
    /// and been recorded before; recording images of later epochs may go on meanwhile.
    ///
    /// Dropping the future leaves the checkpoint undone or half done, which is safe for what is on
    /// disk; but the next call poisons the engine, since nobody knows how far this one came.
    ///
    /// # Errors
    /// Any failed write or sync poisons the engine, and this returns the error of kind `Poisoned`.
    ///
    /// # Panics
    /// If the file is open for reading only, if another checkpoint is running, or `info.epoch` is not beyond the last one's.
    pub async fn checkpoint(&self, info: CheckpointInfo) -> Result<(), FileError> {
        assert!(!self.read_only, "a file that is open for reading only has no checkpoints");
        self.health.check()?;
        let mut turn = Turn::begin(self)?;
        match self.write_checkpoint(&mut turn.state, info).await {
            Ok(()) => {
                turn.end();
                Ok(())
            }
            Err(error) => Err(self.health.poison(error)),
        }
    }

    async fn write_checkpoint(
        &self,
        state: &mut Checkpointed,
        info: CheckpointInfo,
    ) -> Result<(), FileError> {
        let lines = self.ledger().close(info.epoch);
        for line in &lines {
            state.image.apply(*line).map_err(|error| {
                let message = format!("no memory for {} in the page map: {error}", line.page);
                FileError::new(FileErrorKind::Io, message)
            })?;
        }
        state.generation += 1;
        if !lines.is_empty() || self.compacting.load(Ordering::Acquire) {
            state.layout = self.write_map(state, lines).await?;
        }
        self.sync("pages").await?;

        let superblock = Superblock {
            page_size: self.page_size(),
            next_stamp: self.stamps.load(Ordering::Relaxed),
            generation: state.generation,
            checkpoint: info,
            directory: state.layout.head,
        };
        for copy in 0..superblock::OFFSETS.len() {
            // The log may have failed meanwhile.
            self.health.check()?;
            superblock::write_copy(&*self.disk, self.file, copy, superblock.encode()).await?;
        }
        state.info = info;
        self.ledger().finish(&state.layout, state.image.live());
        while self.ledger().release_some(RELEASED_AT_ONCE) {}
        tracing::debug!(
            epoch = info.epoch,
            generation = state.generation,
            pages = state.image.live(),
            "page map and superblocks written"
        );
        Ok(())
    }

    /// Writes the pieces of the map that make it say what `state.image` says; `lines` are the changes.
    async fn write_map(&self, state: &Checkpointed, lines: Vec<Line>) -> Result<Layout, FileError> {
        let sizes = Sizes::new(&self.geometry);
        let block = self.block();
        let generation = state.generation;
        let base = state.layout.wants_base(sizes.slots_for(lines.len()))
            || self.compacting.load(Ordering::Acquire);
        let (kind, count) =
            if base { (Kind::Base, state.image.live()) } else { (Kind::Delta, lines.len()) };
        let mut segments = if base { Vec::new() } else { state.layout.segments.clone() };
        let mut source: Box<dyn Iterator<Item = Line> + Send> =
            if base { Box::new(state.image.lines()) } else { Box::new(lines.into_iter()) };

        let mut in_flight = FuturesUnordered::new();
        for run in self.slots_for_map(sizes.slots_for(count))? {
            let (segment, buf) =
                map::encode_segment(&self.geometry, block, kind, generation, run, &mut *source);
            segments.push(segment);
            in_flight.push(self.write_piece(run, buf));
            settle(&mut in_flight, WRITES_IN_FLIGHT).await?;
        }
        let runs = self.slots_for_map(sizes.directory_slots(segments.len()))?;
        let (head, blocks) =
            map::encode_directory(&self.geometry, block, generation, &segments, &runs);
        for (run, buf) in blocks {
            in_flight.push(self.write_piece(run, buf));
            settle(&mut in_flight, WRITES_IN_FLIGHT).await?;
        }
        settle(&mut in_flight, 0).await?;
        Ok(Layout { segments, directory: runs, head })
    }

    fn slots_for_map(&self, slots: usize) -> Result<Vec<Run>, FileError> {
        self.ledger().take_metadata(slots).ok_or_else(|| {
            let message = format!("no room for the page map in {}: a bug in treering", self.name());
            FileError::new(FileErrorKind::Full, message)
        })
    }

    async fn write_piece(&self, run: Run, buf: AlignedBuf) -> Result<(), FileError> {
        let offset = self.geometry.end_of(run.start);
        self.disk.write(self.file, Op::Write, offset, buf).await.map_err(|error| {
            let doing = format!("writing the page map at offset {offset} of {}", self.name());
            FileError::io(doing, error)
        })
    }

    /// The unit of every I/O in bytes.
    pub(crate) fn block(&self) -> usize {
        self.disk.block_size().max(512)
    }
}

/// The right to make a checkpoint. Dropped without [`Turn::end`], there will be no other.
struct Turn<'a> {
    file: &'a PageFile,
    state: Box<Checkpointed>,
    ended: bool,
}

impl<'a> Turn<'a> {
    fn begin(file: &'a PageFile) -> Result<Self, FileError> {
        let mut checkpointer = lock(&file.checkpointer);
        match std::mem::replace(&mut *checkpointer, Checkpointer::Running) {
            Checkpointer::Idle(state) => Ok(Self { file, state, ended: false }),
            Checkpointer::Running => panic!("checkpoints are made one at a time"),
            Checkpointer::Abandoned => {
                *checkpointer = Checkpointer::Abandoned;
                let message = format!("a checkpoint of {} was given up half-way", file.name());
                Err(file.health.poison(FileError::new(FileErrorKind::Io, message)))
            }
        }
    }

    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let state = std::mem::take(&mut self.state);
        *lock(&self.file.checkpointer) =
            if self.ended { Checkpointer::Idle(state) } else { Checkpointer::Abandoned };
    }
}

/// Waits until no more than `most` writes are in flight; the first that failed ends it.
async fn settle<F>(in_flight: &mut FuturesUnordered<F>, most: usize) -> Result<(), FileError>
where
    F: Future<Output = Result<(), FileError>>,
{
    while in_flight.len() > most {
        if let Some(written) = in_flight.next().await {
            written?;
        }
    }
    Ok(())
}
