//! Compacting: the page file gives back to the file system what it does not need, while everything
//! else goes on.
//!
//! 1. The pages of trees that were dropped are free. All leaves and inner pages are looked at, and those that are underfull merge.
//! 2. From now on extents are taken from the start of the file. Pages that live beyond where the file
//!    could end are changed, without a change, so that the next checkpoint writes them somewhere else
//!    (I4); the page map is written anew as a whole.
//! 3. After that checkpoint what they left is free, and the file's free end is cut off.
//!
//! Steps 2 and 3 are repeated while they get the file shorter.

use std::sync::Arc;

use futures::channel::oneshot;
use treering_blink::{Blocked, Page};
use treering_bufpool::{Read, Refusal};
use treering_pagefile::{PageId, Room};

use crate::engine::Engine;
use crate::error::Error;

/// What compacting came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Bytes of the page file before.
    pub before: u64,
    /// Bytes of the page file after.
    pub after: u64,
    /// Pages that were moved.
    pub moved: u64,
}

impl Engine {
    /// Makes the page file as short as it gets without a pause of anything. One at a time.
    ///
    /// Dropping the future does not stop it: it is a task of the engine's.
    ///
    /// # Errors
    /// What poisoned the engine; a read that failed. The database is sound all the same.
    pub async fn compact(self: &Arc<Self>) -> Result<Compacted, Error> {
        self.check_writable()?;
        let (done, compacted) = oneshot::channel();
        let engine = Arc::clone(self);
        self.begin(async move {
            let one_at_a_time = engine.compacting.enter_async().await;
            let compacted = engine.compact_now().await;
            engine.pool().file().set_compacting(false);
            drop(one_at_a_time);
            // The future may be gone: the file is shorter all the same.
            let _ = done.send(compacted);
        })?;
        compacted.await.unwrap_or(Err(Error::Closed))
    }

    async fn compact_now(&self) -> Result<Compacted, Error> {
        let file = Arc::clone(self.pool().file());
        let mut compacted = Compacted { before: file.space().file, ..Compacted::default() };
        self.wait_for_drops().await?;
        self.report_all_underfull().await?;
        self.tidy().await?;
        file.set_compacting(true);
        for _ in 0..ROUNDS_MAX {
            // What the last changes replaced is free after it.
            self.checkpoint().await?;
            compacted.moved += self.move_pages_beyond(file.least_len()).await?;
            compacted.moved += self.move_values_beyond(file.least_len()).await?;
            self.checkpoint().await?;
            // The page map that the first of them wrote may have been in the way of the cut.
            self.checkpoint().await?;
            self.release_replay_slack();
            self.hold_replay_slack().await;
            if file.shrink().await? == 0 {
                break;
            }
        }
        file.set_compacting(false);
        compacted.after = file.space().file;
        tracing::info!(before = compacted.before, after = compacted.after, "compacted");
        Ok(compacted)
    }

    /// Looks at all pages, a share of the pool at a time, and reports those that are underfull.
    async fn report_all_underfull(&self) -> Result<(), Error> {
        let pool = self.pool();
        let share = (pool.frame_count() / 8).clamp(1, 64);
        for pages in pool.pages().chunks(share) {
            self.check()?;
            pool.fetch_many(pages).await?;
            for &page in pages {
                let small = pool.read_page(page, |words| {
                    let page = Page::new(words);
                    page.is_underfull() || !page.is_leaf() && page.len() == 1
                });
                if matches!(small, Read::Done(true)) {
                    self.forest.report_underfull(page);
                }
            }
        }
        Ok(())
    }

    /// Makes the pages that live at or beyond byte `end` of the file move. Returns how many do.
    async fn move_pages_beyond(&self, end: u64) -> Result<u64, Error> {
        let pool = self.pool();
        let beyond = pool.extents().into_iter().filter(|(_, extent)| extent.offset >= end);
        let mut beyond: Vec<PageId> = beyond.map(|(page, _)| page).collect();
        beyond.sort_unstable();
        let share = (pool.frame_count() / 8).clamp(1, 64);
        let mut moved = 0;
        for pages in beyond.chunks(share) {
            pool.fetch_many(pages).await?;
            for &page in pages {
                moved += u64::from(self.move_page(page).await?);
            }
        }
        Ok(moved)
    }

    /// Moves pages of large values that live at or beyond byte `end` of the file. Returns how many.
    async fn move_values_beyond(&self, end: u64) -> Result<u64, Error> {
        let pool = self.pool();
        let (mut moved, mut checkpointed) = (0, false);
        for pages in pool.values_beyond(end).chunks(pool.copies_at_once()) {
            self.check()?;
            let copies = match pool.copy_values(pages).await? {
                Some(copies) => copies,
                // Not by growing: that is what this is against.
                None if std::mem::replace(&mut checkpointed, true) => break,
                None => {
                    self.checkpoint().await?;
                    let Some(copies) = pool.copy_values(pages).await? else { break };
                    copies
                }
            };
            moved += loop {
                let epoch = self.log.epoch();
                if let Some(entered) = self.log.try_enter(epoch) {
                    let placed = pool.place_copies(copies, epoch);
                    drop(entered);
                    break placed;
                }
            };
        }
        Ok(moved)
    }

    /// Makes the next checkpoint write a page somewhere else; whether it is still there.
    async fn move_page(&self, page: PageId) -> Result<bool, Error> {
        let mut checkpointed = false;
        loop {
            self.check()?;
            let relief = self.pool().relief();
            match self.try_move(page) {
                Ok(moved) => return Ok(moved),
                Err(Blocked::Fetch(pages)) => self.pool().fetch_many(&pages).await?,
                Err(Blocked::Refused(Refusal::Space)) => {
                    // Not by growing: that is what this is against.
                    if std::mem::replace(&mut checkpointed, true) {
                        return Ok(false);
                    }
                    self.checkpoint().await?;
                }
                Err(Blocked::Refused(refusal)) => {
                    self.pool().wait_for_relief(refusal, relief).await?;
                }
                Err(Blocked::Moved | Blocked::TooManyLeaves) => {}
            }
        }
    }

    fn try_move(&self, page: PageId) -> Result<bool, Blocked> {
        let pool = self.pool();
        if matches!(pool.read_page(page, |_| ()), Read::Free) {
            return Ok(false);
        }
        let pinned = pool.try_pin(page).ok_or_else(|| Blocked::Fetch(vec![page]))?;
        let latched = pinned.write();
        let epoch = self.log.epoch();
        let reserved = latched.prepare(epoch, Room::Shrinking)?;
        let Some(entered) = self.log.try_enter(epoch) else {
            pool.unreserve(usize::from(reserved));
            return Err(Blocked::Moved);
        };
        latched.changed(epoch);
        drop(latched);
        drop(entered);
        Ok(true)
    }
}

/// Each round moves pages into room that the round before has freed; the second finds little to do.
const ROUNDS_MAX: usize = 4;
