//! The pool itself: frames, table, and the ways to look at a page.

use std::io;
use std::sync::{Arc, Weak};

use event_listener::Event;
use treering_latch::planted_bug;
use treering_latch::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use treering_latch::sync::{Mutex, MutexGuard, hint};
use treering_pagefile::{Completion, Health, IoBuf, MapEntry, PageFile, PageId};

use crate::capture::Captured;
use crate::frame::Frame;
use crate::guard::{OwnedPin, PinnedPage};
use crate::load::LoadQueue;
use crate::memory::{FrameMemory, prefetch};
use crate::overflow::Values;
use crate::populate::Populated;
use crate::staging::Staging;
use crate::table::{PageTable, Place};

use std::sync::atomic::AtomicU64 as Word;

/// How a pool is made.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// Frames, each of one page. At least 16.
    pub frames: usize,
    /// Slots for page images on their way to disk: as many write-backs of the cleaner and of
    /// checkpoints are in flight at once. At least 1.
    pub staging: usize,
    /// Slots for images that writers capture beside a checkpoint. At least 1; a batch that changes
    /// more pages than this may have to be tried again while there is one.
    pub captures: usize,
}

/// What a read of a page came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<R> {
    /// The page was resident; this is what the closure made of it.
    Done(R),
    /// The page is on disk or on its way: [`Pool::fetch`] it and look again.
    Absent,
    /// There is no such page (any more): descend again.
    Free,
}

/// Counters since the pool was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolStats {
    /// Frames in the pool.
    pub frames: usize,
    /// Frames whose newest contents are in no image on disk yet.
    pub dirty: usize,
    /// Pages read from disk.
    pub loads: u64,
    /// Page images sent to disk.
    pub writes: u64,
    /// Those of them that are still on their way; a batch of built pages counts once.
    pub writes_in_flight: usize,
    /// Pages that made room for others.
    pub evictions: u64,
    /// Frames that are pinned at this moment: none when nobody works, and no task of the engine's.
    /// To count them, all frames are looked at.
    pub pinned: usize,
}

/// A buffer pool over one page file.
pub struct Pool {
    pub(crate) me: Weak<Pool>,
    pub(crate) file: Arc<PageFile>,
    pub(crate) health: Arc<Health>,
    pub(crate) table: PageTable,
    pub(crate) frames: Box<[Frame]>,
    pub(crate) memory: Arc<FrameMemory>,
    pub(crate) populated: Populated,
    /// Claimed frames with nothing in them.
    pub(crate) empty: Mutex<Vec<u32>>,
    pub(crate) hand: AtomicUsize,
    pub(crate) loads: Mutex<LoadQueue>,
    /// A load waits for a frame, so whoever frees one starts it.
    pub(crate) starving: AtomicBool,
    /// Frames that are being loaded, or hold a page that nobody has seen since it was loaded.
    pub(crate) unseen: AtomicUsize,
    /// A load waits until there are fewer of them.
    pub(crate) crowded: AtomicBool,
    /// Somebody was refused a frame for a new page, so whoever frees one says so.
    pub(crate) frames_wanted: AtomicBool,
    pub(crate) staging: Staging,
    pub(crate) captured: Mutex<Captured>,
    /// Something that refusals are about may have changed: a write-back has ended (a staging buffer
    /// is back, a page is clean, a page may be captured), or a frame that was wanted came free.
    pub(crate) relief: Event,
    /// The cleaner has something to do.
    pub(crate) clean_wanted: Event,
    pub(crate) dirty: AtomicUsize,
    /// Write-backs in flight by the parity of their image's epoch: two epochs are open at most.
    pub(crate) writes_in_flight: [AtomicUsize; 2],
    /// Batches of built pages that are being written, or are written and not published.
    pub(crate) direct_writes: AtomicUsize,
    /// Values in overflow pages, as far as something is still to be done about them.
    pub(crate) values: Values,
    pub(crate) stopping: AtomicBool,
    pub(crate) load_count: AtomicU64,
    pub(crate) write_count: AtomicU64,
    pub(crate) eviction_count: AtomicU64,
}

impl Pool {
    /// A pool over `file`, whose pages are `entries` (as the page map had them when it was opened).
    ///
    /// # Errors
    /// When the memory for the frames cannot be had.
    pub fn new(
        file: Arc<PageFile>,
        health: Arc<Health>,
        entries: &[MapEntry],
        options: PoolOptions,
    ) -> io::Result<Arc<Self>> {
        let PoolOptions { frames, staging, captures } = options;
        assert!(frames >= FRAMES_MIN && staging >= 1 && captures >= 1, "a pool this small");
        let page_size = file.page_size();
        let memory = Arc::new(FrameMemory::map(page_size, frames)?);
        let owner: Arc<dyn std::any::Any + Send + Sync> = Arc::clone(&memory) as _;
        // SAFETY: the mapping is valid as long as its owner lives.
        unsafe { file.disk().register(memory.frame(0), page_size * frames, owner) };
        let staging = Staging::new(page_size, staging, captures)?;
        let table = PageTable::new();
        let mut bound = 1;
        for entry in entries {
            let place = if entry.overflow { Place::Overflow } else { Place::Disk };
            table.change(entry.page, Place::Free, place(entry.extent));
            table.set_stamp(entry.page, entry.stamp);
            bound = bound.max(entry.page.0 + 1);
        }
        table.set_bound(bound);
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            file,
            health,
            table,
            frames: (0..frames).map(|_| Frame::new()).collect(),
            populated: Populated::new(&memory, frames, page_size),
            memory,
            empty: Mutex::new((0..frames as u32).rev().collect()),
            hand: AtomicUsize::new(0),
            loads: Mutex::default(),
            starving: AtomicBool::new(false),
            unseen: AtomicUsize::new(0),
            crowded: AtomicBool::new(false),
            frames_wanted: AtomicBool::new(false),
            staging,
            captured: Mutex::default(),
            relief: Event::new(),
            clean_wanted: Event::new(),
            dirty: AtomicUsize::new(0),
            writes_in_flight: [AtomicUsize::new(0), AtomicUsize::new(0)],
            direct_writes: AtomicUsize::new(0),
            values: Values::default(),
            stopping: AtomicBool::new(false),
            load_count: AtomicU64::new(0),
            write_count: AtomicU64::new(0),
            eviction_count: AtomicU64::new(0),
        }))
    }

    /// Bytes in a page.
    pub fn page_size(&self) -> usize {
        self.file.page_size()
    }

    /// Frames in the pool.
    pub fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// The file under the pool.
    pub fn file(&self) -> &Arc<PageFile> {
        &self.file
    }

    /// Looks at a page without waiting: optimistically, and after a few failures under the shared
    /// latch, whose phase-fairness bounds the wait to one writer's few microseconds.
    ///
    /// `look` may run several times, on words that are being changed while it looks; only a result
    /// that was validated afterwards is returned. So it must be free of effects (or start by
    /// clearing what it fills), and must not panic or run away on any contents.
    #[inline]
    pub fn read_page<R>(&self, page: PageId, mut look: impl FnMut(&[Word]) -> R) -> Read<R> {
        for _ in 0..OPTIMISTIC_TRIES {
            let place = self.table.place(page);
            let Place::Resident(index) = place else { return Self::not_resident(place) };
            let frame = &self.frames[index as usize];
            self.memory.prefetch(index as usize);
            let Some(version) = frame.latch.optimistic() else {
                hint::spin_loop();
                continue;
            };
            if self.table.place(page) != place {
                continue;
            }
            let result = look(self.memory.words(index as usize));
            if frame.latch.validate(version) || planted_bug!(NoValidation) {
                self.touch(frame);
                return Read::Done(result);
            }
        }
        self.read_latched(page, look)
    }

    /// Whether a page is resident, which counts as a look at it, and waits for nobody.
    #[inline]
    pub fn find_page(&self, page: PageId) -> Read<()> {
        match self.table.place(page) {
            Place::Resident(index) => {
                self.touch(&self.frames[index as usize]);
                Read::Done(())
            }
            place => Self::not_resident(place),
        }
    }

    /// Asks the processor to bring what a look at the page begins with, if it is resident: for who will look
    /// at it soon and has something else to do first.
    #[inline]
    pub fn will_look(&self, page: PageId) {
        if let Place::Resident(index) = self.table.place(page) {
            prefetch(std::ptr::from_ref(&self.frames[index as usize]).cast());
            self.memory.prefetch(index as usize);
        }
    }

    /// One optimistic look at a page, which never waits, whatever latches the caller holds. `None`:
    /// the page is not resident, or somebody was changing it.
    pub fn glance<R>(&self, page: PageId, look: impl FnOnce(&[Word]) -> R) -> Option<R> {
        let place = self.table.place(page);
        let Place::Resident(index) = place else { return None };
        let frame = &self.frames[index as usize];
        let version = frame.latch.optimistic()?;
        if self.table.place(page) != place {
            return None;
        }
        let result = look(self.memory.words(index as usize));
        frame.latch.validate(version).then_some(result)
    }

    #[cold]
    fn read_latched<R>(&self, page: PageId, mut look: impl FnMut(&[Word]) -> R) -> Read<R> {
        match self.try_pin(page) {
            Some(pinned) => Read::Done(look(pinned.read().words())),
            None => Self::not_resident(self.table.place(page)),
        }
    }

    fn not_resident<R>(place: Place) -> Read<R> {
        match place {
            // Whoever takes a page of an overflow value for one of a tree has an old id.
            Place::Free | Place::Overflow(_) => Read::Free,
            _ => Read::Absent,
        }
    }

    /// Pins a resident page for the rest of this poll.
    pub fn try_pin(&self, page: PageId) -> Option<PinnedPage<'_>> {
        let index = self.pin_frame(page)?;
        Some(PinnedPage::new(self, index))
    }

    /// Pins a resident page for as long as an engine task likes.
    pub fn try_pin_owned(self: &Arc<Self>, page: PageId) -> Option<OwnedPin> {
        let index = self.pin_frame(page)?;
        Some(OwnedPin::new(Arc::clone(self), index))
    }

    fn pin_frame(&self, page: PageId) -> Option<u32> {
        let place = self.table.place(page);
        let Place::Resident(index) = place else { return None };
        let frame = &self.frames[index as usize];
        if !frame.try_pin() {
            return None;
        }
        if self.table.place(page) != place && !planted_bug!(PinBelievesFirstLook) {
            self.unpin(index);
            return None;
        }
        self.touch(frame);
        Some(index)
    }

    pub(crate) fn unpin(&self, index: u32) {
        if self.frames[index as usize].unpin() {
            self.frame_freed();
        }
    }

    /// A frame may have become free or evictable: whoever waits for one gets it, or is told.
    #[inline]
    pub(crate) fn frame_freed(&self) {
        if self.frames_wanted.load(Ordering::SeqCst) {
            self.frames_wanted.store(false, Ordering::SeqCst);
            self.relief.notify(usize::MAX);
        }
        let crowded =
            || self.crowded.load(Ordering::SeqCst) && self.crowded.swap(false, Ordering::SeqCst);
        if self.starving.load(Ordering::SeqCst) || crowded() {
            self.start_loads();
        }
    }

    #[inline]
    fn touch(&self, frame: &Frame) {
        if frame.touch() {
            self.seen(1);
        }
    }

    /// All pages that exist with their extents on disk, as `verify` wants to see them. Meaningful
    /// for pages that are clean.
    pub fn extents(&self) -> Vec<(PageId, treering_pagefile::Extent)> {
        let pages = (1..self.table.bound()).map(PageId);
        pages.filter_map(|page| Some((page, self.extent_of(page)?))).collect()
    }

    /// As [`Pool::extents`], with whether each is a page of a large value.
    pub fn extents_and_kinds(
        &self,
    ) -> impl Iterator<Item = (PageId, treering_pagefile::Extent, bool)> {
        let pages = (1..self.table.bound()).map(PageId);
        pages.filter_map(|page| {
            let large = matches!(self.table.place(page), Place::Overflow(_));
            Some((page, self.extent_of(page)?, large))
        })
    }

    fn extent_of(&self, page: PageId) -> Option<treering_pagefile::Extent> {
        loop {
            let place = self.table.place(page);
            let extent = match place {
                Place::Disk(extent) | Place::Overflow(extent) => return Some(extent),
                Place::Resident(index) | Place::Loading(index) => {
                    self.frames[index as usize].extent()
                }
                Place::Free => return None,
            };
            // Else the frame may have been another page's by the time it was looked at.
            if self.table.place(page) == place {
                return extent;
            }
        }
    }

    /// All page ids that name a page.
    pub fn pages(&self) -> Vec<PageId> {
        let ids = (1..self.table.bound()).map(PageId);
        ids.filter(|&page| self.table.place(page) != Place::Free).collect()
    }

    /// Page images sent to disk since the pool was made, as in [`Pool::stats`].
    pub fn write_count(&self) -> u64 {
        self.write_count.load(Ordering::SeqCst)
    }

    /// Counters since the pool was made.
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            frames: self.frames.len(),
            dirty: self.dirty.load(Ordering::Relaxed),
            loads: self.load_count.load(Ordering::Relaxed),
            // In this order: a write that is neither in flight nor counted has not begun.
            writes_in_flight: self.count_writes_in_flight(),
            writes: self.write_count.load(Ordering::SeqCst),
            evictions: self.eviction_count.load(Ordering::Relaxed),
            pinned: self.frames.iter().filter(|frame| frame.is_pinned()).count(),
        }
    }

    /// [`PoolStats::dirty`] alone, without a look at all frames: for who asks again and again.
    pub fn dirty_count(&self) -> usize {
        self.dirty.load(Ordering::Relaxed)
    }

    pub(crate) fn count_writes_in_flight(&self) -> usize {
        let of_frames = self.writes_in_flight.iter().map(|count| count.load(Ordering::SeqCst));
        of_frames.sum::<usize>() + self.direct_writes.load(Ordering::SeqCst)
    }

    pub(crate) fn arc(&self) -> Arc<Self> {
        self.me.upgrade().expect("a pool is made in an Arc, and `&self` comes from that Arc")
    }
}

/// A pool with fewer is of no use but in a model.
const FRAMES_MIN: usize = if cfg!(treering_loom) { 2 } else { 16 };

/// How often a page is read optimistically before the shared latch is taken. (In a model, where each
/// try multiplies the executions, once.)
const OPTIMISTIC_TRIES: usize = if cfg!(treering_loom) { 1 } else { 4 };

/// Completion tokens: the index of the frame that is loaded, or the number of a write of images.
pub(crate) fn load_token(frame: u32) -> u64 {
    u64::from(frame) << 1
}

pub(crate) fn write_token(write: u32) -> u64 {
    u64::from(write) << 1 | 1
}

impl Completion for Pool {
    fn complete(self: Arc<Self>, token: u64, buf: IoBuf, result: io::Result<()>) {
        let number = (token >> 1) as u32;
        // Its hold on the memory ends here; the frame is still claimed, the slots are still taken.
        drop(buf);
        if token & 1 == 1 {
            self.finish_write(number, result);
        } else {
            self.finish_load(number, result);
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
