//! Freeing a page: its id, its frame and its extent go back (seed row T8).
//!
//! Freeing counts as a change of the page in an epoch, and like every change it is prepared before
//! and cannot fail afterwards:
//!
//! 1. *Doom*, under the page's exclusive latch. The frame must have no pin but the caller's, which is
//!    then turned into a claim: from here on nobody can pin it. So whoever has a page pinned knows
//!    that it keeps its identity. An image that a checkpoint needs is captured first, and one that is
//!    on its way to disk has to arrive, so that no completion ever speaks of a page that is gone; both
//!    are refusals that pass.
//! 2. *Free*: the page file notes that the page is gone as of the epoch, and keeps its extent until
//!    no checkpoint needs it; the word says free; the latch's version moves, which tells optimistic
//!    readers; the frame is anybody's. The id may be used again when the epoch's checkpoint is durable:
//!    the log behind the checkpoint before may give it to a large value, while that checkpoint's page
//!    map gives it to this page (see `overflow`).

use std::sync::atomic::Ordering;

use treering_latch::planted_bug;

use crate::frame::{CLAIMED, COLD};
use crate::guard::{ExclusivePage, Refusal};
use crate::pool::lock;
use crate::table::Place;

/// A page about to be freed, under its exclusive latch. Dropping it leaves the page as it was.
pub struct DoomedPage<'p> {
    /// `None` once the page is free.
    page: Option<ExclusivePage<'p>>,
}

impl<'p> ExclusivePage<'p> {
    /// Makes the page ready to be freed in `epoch`.
    ///
    /// # Errors
    /// [`Refusal::Staging`] if an image of the page is or has to be on its way to disk first,
    /// [`Refusal::Pinned`]. The page is released.
    pub fn doom(self, epoch: u64) -> Result<DoomedPage<'p>, Refusal> {
        let (pool, index) = self.place();
        let frame = &pool.frames[index as usize];
        let dirty = frame.dirty_epoch.load(Ordering::Acquire);
        debug_assert!(dirty <= epoch, "epochs of a page never go backwards (I5)");
        if dirty != 0 && dirty != epoch {
            // Whether or not that succeeds, an image has to arrive first.
            pool.capture(index);
            return Err(Refusal::Staging);
        }
        let (one, order) = (1, Ordering::AcqRel);
        if planted_bug!(FreedWhilePinned) {
            frame.pins.fetch_or(CLAIMED, order);
        } else if frame.pins.compare_exchange(one, one | CLAIMED, order, Ordering::Relaxed).is_err()
        {
            return Err(Refusal::Pinned);
        }
        let doomed = DoomedPage { page: Some(self) };
        // After the claim, nobody can begin a write any more.
        if frame.writing.load(Ordering::SeqCst) {
            return Err(Refusal::Staging);
        }
        Ok(doomed)
    }
}

impl DoomedPage<'_> {
    /// Frees the page as of `epoch`, for which it was doomed.
    pub fn free(mut self, epoch: u64) {
        let Some(page) = self.page.take() else { return };
        let (pool, index) = page.place();
        let frame = &pool.frames[index as usize];
        let id = frame.page();
        if frame.dirty_epoch.swap(0, Ordering::AcqRel) != 0 {
            pool.dirty.fetch_sub(1, Ordering::Relaxed);
            // The image that it was reserved for will not be written.
            pool.file.unreserve(1);
        }
        pool.file.record_freed(id, epoch, frame.extent());
        let gone = pool.table.change(id, Place::Resident(index), Place::Free);
        assert!(gone, "{id} was pinned and is not in its frame");
        frame.set_page(treering_pagefile::PageId::NONE);
        frame.set_extent(None);
        frame.warmth.store(COLD, Ordering::Relaxed);
        page.release_claimed();
        pool.retire_id(id, epoch);
        lock(&pool.empty).push(index);
        pool.frame_freed();
    }
}

impl Drop for DoomedPage<'_> {
    fn drop(&mut self) {
        if let Some(page) = &self.page {
            let (pool, index) = page.place();
            pool.frames[index as usize].unclaim();
        }
    }
}
