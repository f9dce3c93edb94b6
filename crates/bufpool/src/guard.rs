//! Pins and latches in the hands of those who use pages.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use treering_latch::{ReadGuard, WriteGuard};
use treering_pagefile::{PageId, Room};

use crate::frame::REFERENCED;
use crate::pool::{Pool, lock};
use crate::table::Place;

/// A page that cannot be evicted while this lives. Not `Send`: it lives within one poll (I1).
pub struct PinnedPage<'p> {
    pin: RawPin<'p>,
}

/// A pin that an engine task may hold across awaits, within its credits (I10).
pub struct OwnedPin {
    pool: Arc<Pool>,
    index: u32,
}

/// A page under its shared latch.
pub struct SharedPage<'p> {
    // The order of the fields is the order of their release: latch, then pin.
    _latch: ReadGuard<'p>,
    pin: RawPin<'p>,
}

/// A page under its exclusive latch.
pub struct ExclusivePage<'p> {
    _latch: WriteGuard<'p>,
    pin: RawPin<'p>,
}

/// A page in the making: an id that nobody knows and a frame that nobody else can reach. Dropping
/// it gives both back.
pub struct NewPage<'p> {
    pool: &'p Pool,
    index: u32,
    page: PageId,
}

/// Why a page cannot be changed just now. All of them pass; none of them has taken anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The image that a checkpoint needs has to be copied first, and no staging buffer is free, or
    /// an older image of the page is still on its way to disk: [`Pool::relief`].
    Staging,
    /// The page file has to grow first, or space has to be freed by a checkpoint.
    Space,
    /// No frame is free for a new page, and the cleaner has been told: [`Pool::relief`].
    Frames,
    /// The page cannot be freed, as somebody has it pinned just now.
    Pinned,
}

struct RawPin<'p> {
    pool: &'p Pool,
    index: u32,
    not_send: PhantomData<*const ()>,
}

impl Drop for RawPin<'_> {
    fn drop(&mut self) {
        self.pool.unpin(self.index);
    }
}

impl<'p> PinnedPage<'p> {
    pub(crate) fn new(pool: &'p Pool, index: u32) -> Self {
        Self { pin: RawPin { pool, index, not_send: PhantomData } }
    }

    /// Takes the shared latch, waiting for one writer at most.
    pub fn read(self) -> SharedPage<'p> {
        let frame = &self.pin.pool.frames[self.pin.index as usize];
        SharedPage { _latch: frame.latch.read(), pin: self.pin }
    }

    /// Takes the exclusive latch. I11: tree, then level from the leaves up, then left to right.
    pub fn write(self) -> ExclusivePage<'p> {
        let frame = &self.pin.pool.frames[self.pin.index as usize];
        ExclusivePage { _latch: frame.latch.write(), pin: self.pin }
    }
}

impl OwnedPin {
    pub(crate) fn new(pool: Arc<Pool>, index: u32) -> Self {
        Self { pool, index }
    }
}

impl Drop for OwnedPin {
    fn drop(&mut self) {
        self.pool.unpin(self.index);
    }
}

impl<'p> SharedPage<'p> {
    /// The page's words, which do not change while this lives.
    pub fn words(&self) -> &'p [AtomicU64] {
        self.pin.pool.memory.words(self.pin.index as usize)
    }
}

impl<'p> ExclusivePage<'p> {
    /// The page's words, which nobody else changes while this lives.
    pub fn words(&self) -> &'p [AtomicU64] {
        self.pin.pool.memory.words(self.pin.index as usize)
    }

    /// The page.
    pub fn page(&self) -> PageId {
        self.pin.pool.frames[self.pin.index as usize].page()
    }

    /// Makes the page ready to be changed in `epoch`: if it still has changes of the epoch before,
    /// whose checkpoint needs them, their image is captured and sent off; and room for the image
    /// that the change will need is reserved (what the change is for, `room` says).
    ///
    /// True if the reservation was made; [`ExclusivePage::changed`] uses it up, and whoever does
    /// not get that far gives it back with [`Pool::unreserve`]. False if none is needed.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing is reserved then.
    pub fn prepare(&self, epoch: u64, room: Room) -> Result<bool, Refusal> {
        let pool = self.pin.pool;
        let frame = &pool.frames[self.pin.index as usize];
        let dirty = frame.dirty_epoch.load(Ordering::Acquire);
        if dirty == epoch {
            return Ok(false);
        }
        debug_assert!(dirty < epoch, "epochs of a page never go backwards (I5)");
        if dirty != 0 && !pool.capture(self.pin.index) {
            return Err(Refusal::Staging);
        }
        if pool.file.try_reserve(1, room) { Ok(true) } else { Err(Refusal::Space) }
    }

    /// A mistake made on purpose: whoever holds the page goes on without its latch.
    #[cfg(treering_planted_bug)]
    pub fn lose_latch(&mut self) {
        // Never freed, in a build that is made to fail.
        let nobodys: &'static treering_latch::PhaseFair = Box::leak(Box::default());
        self._latch = nobodys.write();
    }

    pub(crate) fn place(&self) -> (&'p Pool, u32) {
        (self.pin.pool, self.pin.index)
    }

    /// Lets go of the latch and of a pin that has been turned into a claim, which stays.
    pub(crate) fn release_claimed(self) {
        let Self { _latch, pin } = self;
        drop(_latch);
        pin.pool.frames[pin.index as usize].pins.fetch_sub(1, Ordering::AcqRel);
        std::mem::forget(pin);
    }

    /// Notes that the page was changed in `epoch`, for which it was prepared.
    pub fn changed(&self, epoch: u64) {
        let pool = self.pin.pool;
        let frame = &pool.frames[self.pin.index as usize];
        let before = frame.dirty_epoch.swap(epoch, Ordering::AcqRel);
        if before == 0 {
            pool.count_dirty();
        }
        assert!(before == 0 || before == epoch, "a page of an older epoch was not captured (I5)");
    }
}

impl Pool {
    /// Gives back reservations that [`ExclusivePage::prepare`] or [`Pool::try_new_page`] made.
    pub fn unreserve(&self, count: usize) {
        if count > 0 {
            self.file.unreserve(count);
        }
    }

    /// A frame, a page id and a reservation for a new page.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing is taken then.
    pub fn try_new_page(&self, room: Room) -> Result<NewPage<'_>, Refusal> {
        if !self.file.try_reserve(1, room) {
            return Err(Refusal::Space);
        }
        let claimed = self.claim_frame().or_else(|| {
            self.frames_wanted.store(true, Ordering::SeqCst);
            // A frame that came free between the first look and the store was not announced.
            self.claim_frame()
        });
        let Some(index) = claimed else {
            self.file.unreserve(1);
            self.clean_wanted.notify(1);
            return Err(Refusal::Frames);
        };
        Ok(NewPage { pool: self, index, page: self.table.take_id() })
    }
}

impl<'p> NewPage<'p> {
    /// The new page's id.
    pub fn id(&self) -> PageId {
        self.page
    }

    /// The frame's words, which nobody else can reach, though a reader of the frame's last page may
    /// still be looking: all of them are to be written, as atomics.
    pub fn words(&self) -> &'p [AtomicU64] {
        self.pool.memory.words(self.index as usize)
    }

    /// Makes the page known under its id, as changed in `epoch`. It is reached only through the
    /// links that the caller, holding its neighbour's latch, makes.
    pub fn publish(self, epoch: u64) {
        let frame = &self.pool.frames[self.index as usize];
        frame.set_page(self.page);
        frame.set_extent(None);
        frame.warmth.store(REFERENCED, Ordering::Relaxed);
        frame.dirty_epoch.store(epoch, Ordering::Release);
        self.pool.count_dirty();
        // Before the word says so: whoever sees the page resident can pin it.
        frame.unclaim();
        let published = self.pool.table.change(self.page, Place::Free, Place::Resident(self.index));
        assert!(published, "{} was not free", self.page);
        std::mem::forget(self);
    }
}

impl Drop for NewPage<'_> {
    fn drop(&mut self) {
        self.pool.table.return_id(self.page);
        self.pool.file.unreserve(1);
        lock(&self.pool.empty).push(self.index);
        self.pool.frame_freed();
    }
}
