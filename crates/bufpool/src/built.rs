//! Pages that were built outside the pool, and go to disk without ever being in a frame.
//!
//! A frame is for a page that somebody will look at. Whoever builds many pages in a row that nobody
//! can reach yet gathers them in a buffer, up to 1 MiB of them, and that buffer is what is
//! written: one I/O where their extents lie side by side.
//!
//! 1. *Gathered* ([`PageBatch::push`]): images under ids that were taken before.
//! 2. *Taken* ([`PageBatch::try_take`]): extents for all of them, or none (I13). From here to the end
//!    a drop gives them back, unless they are just being written to.
//! 3. *Written* ([`PageBatch::write`]): sealed, and on the medium or in its cache. Every checkpoint
//!    syncs the file before it says where its pages are.
//! 4. *Published* ([`Pool::publish_pages`]): in a step of the current epoch, the page file learns of
//!    them, and their words go from free to on disk. That epoch's checkpoint has them (I5), and who
//!    reads them verifies them like any other page (I7).
//!
//! Write and publication are an engine task's: whoever drops its future while the disk writes to the
//! extents leaves them to nobody, until the database is opened again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use treering_pagefile::{AlignedBuf, FileError, MapEntry, PageId, Room, seal};

use crate::pool::Pool;
use crate::runs::PageRun;
use crate::table::Place;

/// Bytes of a batch, at most, or one page if that is more.
const BATCH_BYTES: usize = 1 << 20;
/// A batch is no more than this share of the pool's memory (I9).
const BATCH_SHARE: usize = 8;

/// Pages being gathered.
pub struct PageBatch {
    pool: Arc<Pool>,
    /// In the order of their images.
    ids: Vec<PageId>,
    /// As long as the batch may become; made with the first page.
    buf: Option<AlignedBuf>,
    taken: Taken,
}

/// Pages that are written, and that nobody knows of. Dropping it gives their extents back.
pub struct WrittenPages {
    batch: PageBatch,
    _in_flight: InFlight,
}

/// Extents, given back when this is dropped.
struct Taken {
    pool: Arc<Pool>,
    runs: Vec<PageRun>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.pool.discard_runs(self.runs.drain(..));
    }
}

/// What a comparison of the space map with the pages has to know of: extents that are about to become
/// pages'.
struct InFlight(Arc<Pool>);

impl InFlight {
    fn begin(pool: &Arc<Pool>) -> Self {
        pool.direct_writes.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(pool))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.direct_writes.fetch_sub(1, Ordering::SeqCst);
        self.0.relief.notify(usize::MAX);
    }
}

impl Pool {
    /// An empty batch.
    pub fn gather_pages(self: &Arc<Self>) -> PageBatch {
        let taken = Taken { pool: Arc::clone(self), runs: Vec::new() };
        PageBatch { pool: Arc::clone(self), ids: Vec::new(), buf: None, taken }
    }

    /// Makes pages known under their ids, as of `epoch`. The caller is one of its appliers, and no
    /// other page leads to them yet. Returns the batch, to be filled again.
    ///
    /// # Panics
    /// If an id names a page already.
    pub fn publish_pages(&self, written: WrittenPages, epoch: u64) -> PageBatch {
        let WrittenPages { mut batch, _in_flight } = written;
        let runs = std::mem::take(&mut batch.taken.runs);
        let places = runs.iter().flat_map(|run| run.pages(self.page_size()));
        for (page, (extent, stamp)) in batch.ids.drain(..).zip(places) {
            // Before the word says so: whoever loads the page to change it replaces this extent.
            let entry = MapEntry { page, extent, stamp, overflow: false };
            self.file.record_written(entry, epoch, None);
            self.table.set_stamp(page, stamp);
            let set = self.table.change(page, Place::Free, Place::Disk(extent));
            assert!(set, "{page} was not free");
        }
        batch
    }
}

impl PageBatch {
    /// How many pages it may have.
    fn capacity(&self) -> usize {
        let most = (self.pool.frame_count() / BATCH_SHARE).max(1);
        (BATCH_BYTES / self.pool.page_size()).clamp(1, most)
    }

    /// Whether it has no page.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.ids.len() == self.capacity()
    }

    /// Adds the image of a page, all but the seal. Its id was taken and names nothing.
    ///
    /// # Panics
    /// If the batch is full, has taken its extents, or the image is not as long as a page.
    pub fn push(&mut self, page: PageId, words: &[u64]) {
        assert!(!self.is_full() && self.taken.runs.is_empty(), "a batch that takes pages");
        let page_size = self.pool.page_size();
        assert_eq!(words.len() * 8, page_size, "an image is as long as a page");
        let len = self.capacity() * page_size;
        let buf = self.buf.get_or_insert_with(|| AlignedBuf::zeroed(len));
        let start = self.ids.len() * page_size;
        let to = buf[start..start + page_size].chunks_exact_mut(8);
        for (to, word) in to.zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.ids.push(page);
    }

    /// Takes extents for all its pages. False, and none is taken, if there is no space: the file has to
    /// grow, or a checkpoint to free something.
    pub fn try_take(&mut self) -> bool {
        if self.taken.runs.is_empty() && !self.is_empty() {
            let Some(runs) = self.pool.try_take_runs(self.ids.len(), Room::Growing) else {
                return false;
            };
            self.taken.runs = runs;
        }
        true
    }

    /// Seals the pages and writes them to the extents that were taken.
    ///
    /// # Errors
    /// A write failed: the engine is poisoned (I8).
    ///
    /// # Panics
    /// If no extents were taken.
    pub async fn write(mut self) -> Result<WrittenPages, FileError> {
        let in_flight = InFlight::begin(&self.pool);
        // Not given back while they are being written to, even if this is dropped.
        let runs = std::mem::take(&mut self.taken.runs);
        let pieces = self.seal_into(&runs);
        let writes = runs.iter().zip(pieces);
        let writes = writes.map(|(run, buf)| Arc::clone(&self.pool).write_run(*run, buf));
        let mut written = join_all(writes).await;
        self.taken.runs = runs;
        if let [Ok(buf)] = &mut written[..]
            && self.buf.is_none()
        {
            self.buf = buf.take();
        }
        written.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(WrittenPages { batch: self, _in_flight: in_flight })
    }

    /// The buffer of each run, sealed: the batch's own, if one run fills it, else copies.
    fn seal_into(&mut self, runs: &[PageRun]) -> Vec<AlignedBuf> {
        let page_size = self.pool.page_size();
        let count: usize = runs.iter().map(|run| run.count as usize).sum();
        assert_eq!(count, self.ids.len(), "every page has an extent");
        let Some(mut whole) = self.buf.take() else { return Vec::new() };
        let places = runs.iter().flat_map(|run| run.pages(page_size));
        let pages = whole.chunks_exact_mut(page_size).zip(&self.ids);
        for ((page, id), (_, stamp)) in pages.zip(places) {
            seal(page, *id, stamp);
        }
        if let [run] = runs
            && run.bytes(page_size) == whole.len()
        {
            return vec![whole];
        }
        let (mut pieces, mut rest) = (Vec::new(), &whole[..]);
        for run in runs {
            let (piece, behind) = rest.split_at(run.bytes(page_size));
            let mut buf = AlignedBuf::zeroed(piece.len());
            buf.copy_from_slice(piece);
            pieces.push(buf);
            rest = behind;
        }
        self.buf = Some(whole);
        pieces
    }
}

impl std::fmt::Debug for PageBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageBatch").field("pages", &self.ids.len()).finish_non_exhaustive()
    }
}
