//! Write-back: page images on their way to disk, out of place.
//!
//! An image is copied to staging ([`crate::staging`]) under the page's latch, sealed, and written to a
//! free extent from there: writers never wait for a page write. Copying cleans the page; the image's
//! epoch goes with the write, and at its end the page file notes the new extent under that epoch.
//! One write a page is in flight at a time, so the images of a page land in order.
//!
//! Three ask for it: the cleaner (ahead of the clock), a checkpoint (every page still dirty from
//! its epoch), and a writer that meets such a page first ([`crate::capture`]).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use event_listener::EventListener;
use futures::future::{Either, select};
use treering_latch::planted_bug;
use treering_latch::sync::hint;
use treering_pagefile::{
    Extent, FileError, FileErrorKind, Lane, MapEntry, Op, PageId, Request, Runtime, yield_now,
};

use crate::frame::{COLD, Frame, WriteInFlight};
use crate::guard::Refusal;
use crate::pool::{Pool, lock, write_token};
use crate::staging::{Run, Slot, Staging, Use};

/// An image that has no extent yet.
pub(crate) struct Image {
    index: u32,
    page: PageId,
    epoch: u64,
    stamp: u32,
    slot: Slot,
}

impl Pool {
    /// Wakes, with all others that listen, when what a [`crate::Refusal`] was about may have
    /// changed. Listen first, then try.
    pub fn relief(&self) -> EventListener {
        self.relief.listen()
    }

    /// Waits, after a [`Refusal`] of frames or staging buffers, until another try is worth while.
    /// `relief` is from before that try, and the caller holds no page.
    ///
    /// A try that was refused a frame lets go of pages and frames itself, and must not take that for
    /// somebody else's: it would try again at once, for ever, and keep its thread from whoever could
    /// help. So for frames, the wait begins here; and as long as there are some, but not enough, it
    /// only lets others go first; and so for pins, whose end is not announced.
    ///
    /// # Errors
    /// When nothing will come free any more: the engine is poisoned, or the pool has been stopped.
    pub async fn wait_for_relief(
        &self,
        refusal: Refusal,
        mut relief: EventListener,
    ) -> Result<(), FileError> {
        let mut at_once = refusal == Refusal::Pinned;
        if refusal == Refusal::Frames {
            relief = self.relief.listen();
            self.frames_wanted.store(true, Ordering::SeqCst);
            self.clean_wanted.notify(1);
            // What came free before the store was not announced.
            at_once = self.has_frame();
        }
        self.health.check()?;
        if self.stopping.load(Ordering::SeqCst) {
            return Err(stopped());
        }
        if at_once {
            yield_now().await;
        } else {
            relief.await;
        }
        Ok(())
    }

    /// Keeps clean frames ahead of demand, and ends the grace of loaded pages that nobody looks at,
    /// until [`Pool::stop`]. Run once, by an engine task.
    pub async fn run_cleaner(self: Arc<Self>, runtime: Arc<dyn Runtime>) {
        let mut grace = None;
        loop {
            let poisoned = self.health.listen();
            let wanted = self.clean_wanted.listen();
            let relief = self.relief.listen();
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            if let Err(error) = self.health.check() {
                self.fail_waiting(&error);
                self.relief.notify(usize::MAX);
                return;
            }
            let needed = self.cleaning_needed();
            if !needed && !self.crowded.load(Ordering::SeqCst) {
                grace = None;
                select(poisoned, wanted).await;
                continue;
            }
            if needed && self.clean_some() > 0 {
                continue;
            }
            // Everything dirty is pinned or on its way, or staging is used up: an ended write, or
            // whoever misses a frame next, moves it on.
            let moved = select(relief, wanted);
            let (pages, over) =
                grace.get_or_insert_with(|| (self.unseen_pages(), runtime.sleep(GRACE)));
            if pages.is_empty() {
                grace = None;
                moved.await;
            } else if let Either::Right(_) = select(moved, over).await {
                self.end_grace(pages);
                grace = None;
            }
        }
    }

    /// Resolves when no page is on its way to disk: after [`Pool::stop`], and with nobody left who
    /// changes pages, for good.
    pub async fn written(&self) {
        loop {
            let ended = self.relief.listen();
            if self.count_writes_in_flight() == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Ends [`Pool::run_cleaner`]. Loads that find no frame fail from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.clean_wanted.notify(usize::MAX);
        // Nobody makes room any more for the loads that wait for it.
        self.fail_waiting(&stopped());
        self.relief.notify(usize::MAX);
    }

    fn cleaning_needed(&self) -> bool {
        self.starving.load(Ordering::SeqCst)
            || self.frames_wanted.load(Ordering::SeqCst)
            || self.dirty.load(Ordering::Relaxed) > self.dirty_target()
    }

    /// More dirty frames than this and the cleaner writes some: an eighth of the pool stays clean.
    fn dirty_target(&self) -> usize {
        self.frames.len() - (self.frames.len() / 8).max(4)
    }

    /// Starts the write-back of the coldest dirty pages ahead of the clock's hand; returns of how
    /// many.
    fn clean_some(&self) -> usize {
        if self.file.is_read_only() {
            return 0;
        }
        let total = self.frames.len();
        let start = self.hand.load(Ordering::Relaxed);
        let wanted = (total / 8).clamp(4, 64);
        let mut pages = Vec::with_capacity(wanted);
        for pass in [Pass::Cold, Pass::Warm] {
            let indices = (0..total).map(|step| (start + step) % total);
            let frames = indices.map(|index| (index as u32, &self.frames[index]));
            let fit = frames.filter(|(_, frame)| {
                let cold = frame.warmth.load(Ordering::Relaxed) == COLD;
                cold == (pass == Pass::Cold)
                    && frame.dirty_epoch.load(Ordering::Acquire) != 0
                    && !frame.writing.load(Ordering::Relaxed)
            });
            let room = wanted - pages.len();
            pages.extend(fit.take(room).map(|(index, frame)| (frame.page(), index)));
        }
        pages.sort_unstable();
        let images = pages.into_iter().filter_map(|(_, index)| self.image_of(index, u64::MAX));
        let images: Vec<Image> = images.collect();
        let count = images.len();
        self.write_images(images);
        count
    }

    /// Writes every page that is still dirty from `epoch` or before, and resolves when the images
    /// of all those epochs are written (not yet synced). After the flip to `epoch + 1`, and with
    /// all appliers of `epoch` gone.
    ///
    /// # Errors
    /// The write error that poisoned the engine.
    pub async fn write_epoch(&self, epoch: u64) -> Result<(), FileError> {
        // Nobody dirties a page for a closed epoch: there will be fewer of them and no others.
        let mut left = self.dirty_frames(epoch);
        loop {
            self.health.check()?;
            let ended = self.relief.listen();
            self.write_some(&mut left, epoch);
            let in_flight = self.writes_in_flight[epoch as usize & 1].load(Ordering::Acquire);
            if left.is_empty() && in_flight == 0 {
                return self.health.check();
            }
            ended.await;
        }
    }

    /// The frames of all pages that are dirty from `epoch` or before, in the order of the pages, so
    /// that neighbours go to disk beside each other.
    fn dirty_frames(&self, epoch: u64) -> VecDeque<u32> {
        let frames = self.frames.iter().enumerate();
        let dirty = frames.filter(|(_, frame)| frame.is_dirty_from(epoch));
        let mut pages: Vec<_> = dirty.map(|(index, frame)| (frame.page(), index as u32)).collect();
        pages.sort_unstable();
        pages.into_iter().map(|(_, index)| index).collect()
    }

    /// Starts as many writes of these frames' pages as there is staging for; those that have to wait
    /// stay.
    fn write_some(&self, left: &mut VecDeque<u32>, epoch: u64) {
        let mut images = Vec::new();
        for _ in 0..left.len() {
            let Some(index) = left.pop_front() else { break };
            match self.image_of(index, epoch) {
                Some(image) => images.push(image),
                None if !self.frames[index as usize].is_dirty_from(epoch) => {}
                None if self.staging.is_used_up(Use::Batch) => {
                    left.push_front(index);
                    break;
                }
                // An older image is still on its way.
                None => left.push_back(index),
            }
            if images.len() == WRITE_BATCH {
                self.write_images(std::mem::take(&mut images));
            }
        }
        self.write_images(images);
    }

    /// The image of a frame's page, if it is dirty from `up_to` or before and can be written now.
    fn image_of(&self, index: u32, up_to: u64) -> Option<Image> {
        let frame = &self.frames[index as usize];
        while !frame.try_pin() {
            // A dirty frame is claimed for instants only: by the clock before it looks closer, and
            // by a new page about to be published.
            if frame.dirty_epoch.load(Ordering::Acquire) == 0 {
                return None;
            }
            hint::spin_loop();
        }
        let latch = (!planted_bug!(CopiedWithoutLatch)).then(|| frame.latch.read());
        let image = self.image_latched(index, up_to, Use::Batch);
        drop(latch);
        if planted_bug!(CleanedAfterLatch) && image.is_some() {
            frame.dirty_epoch.store(0, Ordering::Release);
        }
        // Not `Pool::unpin`: that would start loads, and a load that finds no frame calls for the
        // cleaner, which this may be, so that it would keep itself busy. A frame that is dirty or
        // being written is of no use to a load yet.
        if frame.unpin() && frame.is_clean() {
            self.frame_freed();
        }
        image
    }

    /// As [`Pool::image_of`]; the caller holds the frame's latch and a pin.
    pub(crate) fn image_latched(&self, index: u32, up_to: u64, by: Use) -> Option<Image> {
        let frame = &self.frames[index as usize];
        let epoch = frame.dirty_epoch.load(Ordering::Acquire);
        if epoch == 0 || epoch > up_to || frame.writing.swap(true, Ordering::AcqRel) {
            return None;
        }
        // Others may hold the shared latch, too, and have made an image since the first look.
        if frame.dirty_epoch.load(Ordering::Acquire) != epoch {
            frame.writing.store(false, Ordering::SeqCst);
            return None;
        }
        let Some(mut slot) = self.staging.take(by) else {
            frame.writing.store(false, Ordering::Release);
            return None;
        };
        self.staging.copy(&mut slot, self.memory.words(index as usize));
        let (page, stamp) = (frame.page(), self.file.next_stamp());
        // In this order: `write_epoch` must find either the page dirty or the write in flight.
        self.writes_in_flight[epoch as usize & 1].fetch_add(1, Ordering::AcqRel);
        if !planted_bug!(CleanedAfterLatch) {
            frame.dirty_epoch.store(0, Ordering::Release);
        }
        self.dirty.fetch_sub(1, Ordering::Relaxed);
        Some(Image { index, page, epoch, stamp, slot })
    }

    /// Seals the images and sends them to neighbouring extents, in their order.
    pub(crate) fn write_images(&self, images: Vec<Image>) {
        if images.is_empty() {
            return;
        }
        self.write_count.fetch_add(images.len() as u64, Ordering::Relaxed);
        let mut extents: Vec<Extent> = Vec::with_capacity(images.len());
        self.file.take_extents(images.len(), &mut extents);
        let mut requests = Vec::new();
        let mut run: Option<Run> = None;
        for (image, extent) in images.into_iter().zip(extents) {
            let Image { index, page, epoch, stamp, mut slot } = image;
            self.staging.seal(&mut slot, page, stamp);
            let frame = &self.frames[index as usize];
            *lock(&frame.in_flight) = Some(WriteInFlight { page, epoch, stamp, extent });
            let lone = match &mut run {
                Some(run) => self.staging.extend(run, slot, index, extent.offset).err(),
                None => Some(slot),
            };
            if let Some(slot) = lone {
                let before = run.replace(Staging::run(slot, index, extent.offset));
                requests.extend(before.map(|before| self.write_of(before)));
            }
        }
        requests.extend(run.map(|last| self.write_of(last)));
        self.file.disk().submit(Lane::Background, &mut requests);
    }

    fn write_of(&self, run: Run) -> Request {
        let (file, offset) = (self.file.file(), run.offset);
        let (write, buf) = self.staging.submit(run);
        let token = write_token(write);
        Request { file, op: Op::Write, offset, buf, done: self.arc(), token }
    }

    /// A write of images has ended.
    pub(crate) fn finish_write(&self, write: u32, result: io::Result<()>) {
        let frames = self.staging.landed(write);
        let (written, mut failure) = (result.is_ok(), result.err());
        for index in &frames {
            let frame = &self.frames[*index as usize];
            let image = lock(&frame.in_flight).take();
            let image = image.expect("a write in flight is noted in its frame");
            match (written, failure.take()) {
                (true, _) => self.note_written(frame, image),
                (false, Some(source)) => self.write_failed(image, source),
                // The failure has been told of the first.
                (false, None) => {}
            }
            self.writes_in_flight[image.epoch as usize & 1].fetch_sub(1, Ordering::AcqRel);
            if written {
                // After a failure it stays set: what is on disk is stale, and a frame that counts as
                // being written is never emptied for somebody to read that.
                frame.writing.store(false, Ordering::SeqCst);
            }
        }
        self.staging.release(write, frames.len());
        if self.staging.use_of(write) == Use::Capture {
            self.captures_landed(frames.len());
        }
        self.relief.notify(usize::MAX);
        self.frame_freed();
    }

    fn note_written(&self, frame: &Frame, write: WriteInFlight) {
        let WriteInFlight { page, extent, stamp, .. } = write;
        let entry = MapEntry { page, extent, stamp, overflow: false };
        self.file.record_written(entry, write.epoch, frame.extent());
        self.table.set_stamp(write.page, write.stamp);
        frame.set_extent(Some(write.extent));
    }

    /// I8: a page that could not be written poisons the engine; what it held is in the log. The
    /// frame's old image stays the page's newest, and no checkpoint will say otherwise.
    fn write_failed(&self, write: WriteInFlight, source: io::Error) {
        let name = self.file.disk().describe(self.file.file());
        let doing = format!("writing {} at byte {} of {name}", write.page, write.extent.offset);
        self.health.poison(FileError::io(doing, source));
    }

    pub(crate) fn count_dirty(&self) {
        if self.dirty.fetch_add(1, Ordering::Relaxed) >= self.dirty_target() {
            self.clean_wanted.notify(1);
        }
    }
}

pub(crate) fn stopped() -> FileError {
    FileError::new(FileErrorKind::Closed, "the database was closed while a page was to be loaded")
}

/// What the cleaner takes first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Cold,
    Warm,
}

/// Images that go to disk in one submission.
const WRITE_BATCH: usize = 64;
/// How long a page that was loaded waits to be looked at while others wait for its frame.
const GRACE: Duration = Duration::from_millis(1);
