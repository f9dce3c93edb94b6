//! A frame's header: everything about the page in it but its bytes, a cache line or two of its own.

use treering_latch::sync::Mutex;
use treering_latch::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use treering_latch::{PhaseFair, planted_bug};
use treering_pagefile::{Extent, PageId};

/// Set in `pins` while the pool, and nobody else, has the frame: empty, being loaded, or being made
/// into a new page.
pub(crate) const CLAIMED: u32 = 1 << 31;

/// How warm the clock found the page. A `FRESH` page was loaded for somebody who has not seen it
/// yet: it is no victim until somebody has, or its grace is over (see `load.rs`).
pub(crate) const COLD: u8 = 0;
pub(crate) const REFERENCED: u8 = 1;
pub(crate) const FRESH: u8 = 2;

/// The image of a page that is on its way to disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteInFlight {
    pub(crate) page: PageId,
    pub(crate) epoch: u64,
    pub(crate) stamp: u32,
    pub(crate) extent: Extent,
}

#[repr(align(128))]
pub(crate) struct Frame {
    /// On the page's bytes.
    pub(crate) latch: PhaseFair,
    /// Pins, or [`CLAIMED`] (with pins that are about to find out and go away again).
    pub(crate) pins: AtomicU32,
    pub(crate) warmth: AtomicU8,
    /// A write-back of an image of this page is in flight: one at a time.
    pub(crate) writing: AtomicBool,
    /// The page in the frame; 0 when empty.
    page: AtomicU64,
    /// The epoch of the oldest change that is in no image yet; 0 when there is none. Changed under
    /// the latch: set under the exclusive one, cleared under any.
    pub(crate) dirty_epoch: AtomicU64,
    /// Where the newest complete image is, packed and shifted left with the low bit set; 0: nowhere.
    extent: AtomicU64,
    pub(crate) in_flight: Mutex<Option<WriteInFlight>>,
}

impl Frame {
    pub(crate) fn new() -> Self {
        Self {
            latch: PhaseFair::new(),
            pins: AtomicU32::new(CLAIMED),
            warmth: AtomicU8::new(COLD),
            writing: AtomicBool::new(false),
            page: AtomicU64::new(0),
            dirty_epoch: AtomicU64::new(0),
            extent: AtomicU64::new(0),
            in_flight: Mutex::new(None),
        }
    }

    pub(crate) fn page(&self) -> PageId {
        PageId(self.page.load(Ordering::Acquire))
    }

    pub(crate) fn set_page(&self, page: PageId) {
        self.page.store(page.0, Ordering::Release);
    }

    pub(crate) fn extent(&self) -> Option<Extent> {
        let word = self.extent.load(Ordering::Acquire);
        (word != 0).then(|| Extent::unpack(word >> 1))
    }

    pub(crate) fn set_extent(&self, extent: Option<Extent>) {
        let word = extent.map_or(0, |extent| extent.pack() << 1 | 1);
        self.extent.store(word, Ordering::Release);
    }

    /// Adds a pin unless the frame is claimed. The caller looks at the page table again afterwards.
    pub(crate) fn try_pin(&self) -> bool {
        if self.pins.fetch_add(1, Ordering::AcqRel) & CLAIMED == 0 {
            return true;
        }
        self.pins.fetch_sub(1, Ordering::AcqRel);
        false
    }

    /// Removes a pin; true if it was the last.
    pub(crate) fn unpin(&self) -> bool {
        // Sequentially consistent with `Pool::starving`: either the last pinner sees that a load
        // waits for a frame, or the load that gave up sees that this pin is gone.
        let before = self.pins.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before & !CLAIMED > 0, "a pin was removed twice");
        before == 1
    }

    /// Claims the frame if it has no pins.
    pub(crate) fn try_claim(&self) -> bool {
        if planted_bug!(PinNotCounted) {
            return self.pins.fetch_or(CLAIMED, Ordering::AcqRel) & CLAIMED == 0;
        }
        self.pins.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends a claim. (A subtraction: others may be just adding and removing a pin in vain.)
    pub(crate) fn unclaim(&self) {
        let before = self.pins.fetch_sub(CLAIMED, Ordering::AcqRel);
        debug_assert!(before & CLAIMED != 0, "a claim was ended twice");
    }

    /// Whether somebody has it pinned. A pin that comes and goes in vain on a claimed frame is none.
    pub(crate) fn is_pinned(&self) -> bool {
        let pins = self.pins.load(Ordering::Acquire);
        pins & CLAIMED == 0 && pins > 0
    }

    /// Whether it has changes of `epoch` or before that are in no image yet.
    pub(crate) fn is_dirty_from(&self, epoch: u64) -> bool {
        let dirty = self.dirty_epoch.load(Ordering::Acquire);
        dirty != 0 && dirty <= epoch
    }

    pub(crate) fn is_clean(&self) -> bool {
        let on_its_way = self.writing.load(Ordering::SeqCst) && !planted_bug!(VictimMayBeOnItsWay);
        self.dirty_epoch.load(Ordering::SeqCst) == 0 && !on_its_way
    }

    /// Notes that somebody has seen the page; true if nobody had since it was loaded.
    #[inline]
    pub(crate) fn touch(&self) -> bool {
        // A load first: most touches find it so and leave the cache line shared.
        if self.warmth.load(Ordering::Relaxed) == REFERENCED {
            return false;
        }
        self.warmth.swap(REFERENCED, Ordering::Relaxed) == FRESH
    }

    /// The clock's hand passes: the frame is less warm than `warmth`, if it still was that warm.
    pub(crate) fn cool(&self, warmth: u8) {
        let (order, cooler) = (Ordering::Relaxed, warmth - 1);
        // If that fails, somebody has just touched or loaded the page.
        let _ = self.warmth.compare_exchange(warmth, cooler, order, order);
    }
}
