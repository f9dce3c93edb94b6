//! Moving pages of values to other extents, so that the file can get shorter.
//!
//! A page keeps its id, its version and its bytes, so no leaf has to know. It gets a new stamp and a
//! new extent, first as a copy that nobody refers to; then, in a step of the current epoch, its word
//! and its line in the page map change ([`Pool::place_copies`]). What a reader finds in between is
//! either image, and the old extent is not used again before that epoch's checkpoint is durable.
//!
//! Left alone are pages of values about which a checkpoint has something to do yet: that are being
//! made, that were published since the last one (the log names their extents, and the map is still
//! to name them), or that are retired. The caller is an applier of the current epoch. So whatever is
//! retired from now on is settled after that.

use std::sync::Arc;

use treering_pagefile::{
    AlignedBuf, Extent, FileError, IoBuf, Lane, MapEntry, Op, PageId, Room, seal, transfer,
};

use super::{IO_BYTES, State};
use crate::pool::Pool;

/// Copies of pages of values. Dropping it gives their extents back.
pub struct Copies {
    pool: Arc<Pool>,
    pages: Vec<Copied>,
}

struct Copied {
    page: PageId,
    /// What it was a copy of.
    before: (Extent, u32),
    after: (Extent, u32),
}

impl Pool {
    /// Pages of values that live at or beyond byte `end` of the file, by rising id.
    pub fn values_beyond(&self, end: u64) -> Vec<PageId> {
        let ids = (1..self.table.bound()).map(PageId);
        let beyond = |page: &PageId| {
            self.overflow_page(*page).is_some_and(|(extent, _)| extent.offset >= end)
        };
        ids.filter(beyond).collect()
    }

    /// How many pages are copied in one step.
    pub fn copies_at_once(&self) -> usize {
        (IO_BYTES / self.page_size()).max(1)
    }

    /// Copies pages of values to other extents. `None` if there is no room for them. Pages that are
    /// no values' any more are left out. For engine tasks.
    ///
    /// # Errors
    /// A page cannot be read or is damaged; a write failed, and the engine is poisoned (I8).
    pub async fn copy_values(
        self: &Arc<Self>,
        pages: &[PageId],
    ) -> Result<Option<Copies>, FileError> {
        if !self.file.try_reserve(pages.len(), Room::Shrinking) {
            return Ok(None);
        }
        let mut extents = Vec::with_capacity(pages.len());
        self.file.take_extents(pages.len(), &mut extents);
        let mut copies = Copies { pool: Arc::clone(self), pages: Vec::new() };
        let mut failed = None;
        for (&page, extent) in pages.iter().zip(extents) {
            // One after the other: nobody waits for this.
            let copied = match failed {
                None => self.copy_value(page, extent).await,
                Some(_) => Ok(None),
            };
            match copied {
                Ok(Some(copied)) => copies.pages.push(copied),
                Ok(None) => self.file.discard_extent(extent),
                Err(error) => {
                    self.file.discard_extent(extent);
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(Some(copies)), Err)
    }

    async fn copy_value(
        self: &Arc<Self>,
        page: PageId,
        extent: Extent,
    ) -> Result<Option<Copied>, FileError> {
        let Some((mut buf, before)) = self.read_overflow_page(page).await? else {
            return Ok(None);
        };
        let stamp = self.file.next_stamp();
        seal(&mut buf, page, stamp);
        let (disk, file) = (self.file.disk(), self.file.file());
        let buf = IoBuf::Owned(buf);
        let write = transfer(&**disk, Lane::Background, file, Op::Write, extent.offset, buf);
        write.await.1.map_err(|source| {
            let name = disk.describe(file);
            let doing = format!("writing {page} at byte {} of {name}", extent.offset);
            self.health.poison(FileError::io(doing, source))
        })?;
        Ok(Some(Copied { page, before, after: (extent, stamp) }))
    }

    /// A page of a value and where it was read; `None` if it is none any more, or its value is being
    /// made.
    async fn read_overflow_page(
        self: &Arc<Self>,
        page: PageId,
    ) -> Result<Option<(AlignedBuf, (Extent, u32))>, FileError> {
        loop {
            let Some(piece) = self.piece(page, 1) else { return Ok(None) };
            // It may have its place already, and its bytes not yet. Asked in this order: who is not
            // being made now was there as a whole when its place was looked up, or has lost it.
            if self.values.lock().is_making(page) {
                return Ok(None);
            }
            let (piece, read) = Arc::clone(self).read_piece(piece).await;
            match self.check_piece(&piece, read) {
                Ok(buf) => {
                    let extent = Extent { offset: piece.run.offset, len: self.page_size() as u32 };
                    return Ok(Some((buf, (extent, piece.run.stamp))));
                }
                Err(_) if !self.is_current(&piece) => {}
                // Its word says where it lies as soon as its write is on its way.
                Err(_) if self.values.lock().busy().contains(page) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts copies into the place of their originals as of `epoch`, which is the current one and
    /// stays so: the caller is one of its appliers. Returns how many; the others have changed in
    /// between, or are to be left alone.
    pub fn place_copies(&self, mut copies: Copies, epoch: u64) -> u64 {
        let state = self.values.lock();
        let busy = state.busy();
        let mut placed = 0;
        copies.pages.retain(|&Copied { page, before, after: (extent, stamp) }| {
            if busy.contains(page) || self.overflow_page(page) != Some(before) {
                return true;
            }
            self.move_overflow(page, before.0, extent, stamp);
            let entry = MapEntry { page, extent, stamp, overflow: true };
            self.file.record_written(entry, epoch, Some(before.0));
            placed += 1;
            false
        });
        drop(state);
        placed
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        for copied in &self.pages {
            self.pool.file.discard_extent(copied.after.0);
        }
    }
}

/// Ids of values about which a checkpoint has something to do yet.
struct Busy(Vec<(PageId, u64)>);

impl Busy {
    fn contains(&self, page: PageId) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= page);
        let before = behind.checked_sub(1).map(|at| self.0[at]);
        before.is_some_and(|(first, count)| page.0 < first.0 + count)
    }
}

impl State {
    fn is_making(&self, page: PageId) -> bool {
        let before = self.making.range(..=page.0).next_back();
        before.is_some_and(|(first, count)| page.0 < first + count)
    }

    fn busy(&self) -> Busy {
        let making = self.making.iter().map(|(first, count)| (PageId(*first), *count));
        let retired = self.retired.iter().map(|value| (value.first, value.count));
        let published = self
            .published
            .iter()
            .map(|value| (value.first, value.runs.iter().map(|run| u64::from(run.count)).sum()));
        let mut ids: Vec<_> = making.chain(retired).chain(published).collect();
        ids.sort_unstable();
        Busy(ids)
    }
}
