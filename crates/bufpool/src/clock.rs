//! Victims: a clock with second chances over clean, unpinned frames.

use treering_latch::planted_bug;
use treering_latch::sync::atomic::{Ordering, fence};
use treering_pagefile::PageId;

use crate::frame::{COLD, FRESH, Frame};
use crate::pool::{Pool, lock};
use crate::table::Place;

impl Pool {
    /// An empty, claimed frame: one that nobody uses, or the clock's next victim. `None` when every
    /// frame is pinned, dirty, being loaded or being written: the cleaner makes more.
    pub(crate) fn claim_frame(&self) -> Option<u32> {
        if let Some(index) = lock(&self.empty).pop() {
            // Who emptied it has moved its version, on another thread perhaps. What is stored to it
            // from here on must not be seen without that (the fences of `PhaseFair`).
            if !planted_bug!(EmptyFrameWithoutFence) {
                fence(Ordering::Release);
            }
            self.populated.is_using(index as usize);
            return Some(index);
        }
        // A frame that can be had is warm for one round at most, so the second finds it.
        for _ in 0..2 * self.frames.len() {
            let index = self.hand.fetch_add(1, Ordering::Relaxed) % self.frames.len();
            let frame = &self.frames[index];
            let pinned = frame.pins.load(Ordering::SeqCst) != 0 && !planted_bug!(PinNotCounted);
            if pinned || !frame.is_clean() {
                continue;
            }
            match frame.warmth.load(Ordering::Relaxed) {
                COLD => {}
                FRESH => continue,
                warmth => {
                    frame.cool(warmth);
                    continue;
                }
            }
            if self.evict(index as u32, frame) {
                return Some(index as u32);
            }
        }
        None
    }

    /// Whether a frame could be claimed just now.
    pub(crate) fn has_frame(&self) -> bool {
        let idle = |frame: &Frame| {
            let fresh = frame.warmth.load(Ordering::Relaxed) == FRESH;
            frame.pins.load(Ordering::SeqCst) == 0 && frame.is_clean() && !fresh
        };
        !lock(&self.empty).is_empty() || self.frames.iter().any(idle)
    }

    /// Takes a clean frame's page out of it. The frame stays claimed.
    fn evict(&self, index: u32, frame: &Frame) -> bool {
        if !frame.try_claim() {
            return false;
        }
        if frame.warmth.load(Ordering::Relaxed) == FRESH {
            // Another page has been loaded since the hand looked.
            frame.unclaim();
            return false;
        }
        // Now nobody can pin it, and whoever had it latched was pinned. The latch is taken for its
        // version: optimistic readers of this page must not take the next page's bytes for its.
        let latched = match planted_bug!(EvictedWithoutLatch) {
            true => None,
            false => frame.latch.try_write(),
        };
        if latched.is_some() || planted_bug!(EvictedWithoutLatch) {
            let page = frame.page();
            if page != PageId::NONE
                && frame.is_clean()
                && let Some(extent) = frame.extent()
                && self.table.change(page, Place::Resident(index), Place::Disk(extent))
            {
                frame.set_page(PageId::NONE);
                drop(latched);
                self.eviction_count.fetch_add(1, Ordering::Relaxed);
                return true;
            }
        }
        drop(latched);
        frame.unclaim();
        false
    }
}
