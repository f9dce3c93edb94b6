//! The page table: page id to atomic word, and the page ids themselves.

use std::sync::OnceLock;

use treering_latch::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use treering_latch::sync::{Mutex, MutexGuard};
use treering_pagefile::{Extent, PageId};

use crate::ids::FreeIds;

/// What a page's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// No such page.
    Free,
    /// On disk only.
    Disk(Extent),
    /// Being read into a frame.
    Loading(u32),
    /// In a frame.
    Resident(u32),
    /// On disk, and never in a frame: a page of an overflow value.
    Overflow(Extent),
}

const DISK: u64 = 1;
const LOADING: u64 = 2;
const RESIDENT: u64 = 3;
/// Beside [`DISK`]. No file is so long that an offset has this bit.
const OVERFLOW: u64 = 1 << 63;

impl Place {
    fn encode(self) -> u64 {
        match self {
            Place::Free => 0,
            Place::Disk(extent) => extent.pack() << 2 | DISK,
            Place::Loading(frame) => u64::from(frame) << 2 | LOADING,
            Place::Resident(frame) => u64::from(frame) << 2 | RESIDENT,
            Place::Overflow(extent) => OVERFLOW | extent.pack() << 2 | DISK,
        }
    }

    #[inline]
    fn decode(word: u64) -> Self {
        match word & 3 {
            0 => Place::Free,
            DISK if word & OVERFLOW != 0 => {
                Place::Overflow(Extent::unpack((word & !OVERFLOW) >> 2))
            }
            DISK => Place::Disk(Extent::unpack(word >> 2)),
            LOADING => Place::Loading((word >> 2) as u32),
            _ => Place::Resident((word >> 2) as u32),
        }
    }
}

struct Entry {
    word: AtomicU64,
}

/// Chunk `k` holds `FIRST_CHUNK << k` pages, so that the table doubles without ever moving a word
/// that somebody may be looking at.
const FIRST_CHUNK: u64 = if cfg!(treering_loom) { 4 } else { 1024 };
const CHUNKS: usize = 40;

struct Chunk {
    entries: Box<[Entry]>,
    stamps: Box<[AtomicU32]>,
}

/// Every page that exists, and where it is.
pub(crate) struct PageTable {
    chunks: [OnceLock<Chunk>; CHUNKS],
    free: Mutex<FreeIds>,
}

impl PageTable {
    pub(crate) fn new() -> Self {
        Self { chunks: std::array::from_fn(|_| OnceLock::new()), free: Mutex::new(FreeIds::new()) }
    }

    #[inline]
    fn locate(page: PageId) -> (usize, usize) {
        // What a damaged page calls a page may be any number, which then is in no chunk.
        let shifted = page.0.saturating_add(FIRST_CHUNK);
        let chunk = (shifted / FIRST_CHUNK).ilog2();
        (chunk as usize, (shifted - (FIRST_CHUNK << chunk)) as usize)
    }

    #[inline]
    fn chunk(&self, page: PageId) -> Option<(&Chunk, usize)> {
        let (chunk, index) = Self::locate(page);
        Some((self.chunks.get(chunk)?.get()?, index))
    }

    fn chunk_or_new(&self, page: PageId) -> (&Chunk, usize) {
        let (chunk, index) = Self::locate(page);
        let chunk = self.chunks[chunk].get_or_init(|| {
            let len = (FIRST_CHUNK << chunk) as usize;
            Chunk {
                entries: (0..len).map(|_| Entry { word: AtomicU64::new(0) }).collect(),
                stamps: (0..len).map(|_| AtomicU32::new(0)).collect(),
            }
        });
        (chunk, index)
    }

    /// Where `page` is. An id that never was is free.
    #[inline]
    pub(crate) fn place(&self, page: PageId) -> Place {
        self.chunk(page).map_or(Place::Free, |(chunk, index)| {
            Place::decode(chunk.entries[index].word.load(Ordering::Acquire))
        })
    }

    /// Moves `page` from one place to another; false if it was not at `from`.
    pub(crate) fn change(&self, page: PageId, from: Place, to: Place) -> bool {
        let (chunk, index) = self.chunk_or_new(page);
        let word = &chunk.entries[index].word;
        let (from, to) = (from.encode(), to.encode());
        word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The write stamp that the page's image on disk has (I7).
    pub(crate) fn stamp(&self, page: PageId) -> u32 {
        self.chunk(page).map_or(0, |(chunk, index)| chunk.stamps[index].load(Ordering::Acquire))
    }

    pub(crate) fn set_stamp(&self, page: PageId, stamp: u32) {
        let (chunk, index) = self.chunk_or_new(page);
        chunk.stamps[index].store(stamp, Ordering::Release);
    }

    /// A page id that is free.
    pub(crate) fn take_id(&self) -> PageId {
        self.take_ids(1)
    }

    /// The first of `count` free page ids in a row.
    pub(crate) fn take_ids(&self, count: u64) -> PageId {
        let id = PageId(self.free_ids().take(count));
        debug_assert_eq!(self.place(id), Place::Free, "{id} was handed out while in use");
        id
    }

    /// Takes certain ids in a row; false if one of them is not free.
    pub(crate) fn claim_ids(&self, first: PageId, count: u64) -> bool {
        self.free_ids().claim(first.0, count)
    }

    /// Gives back an id that names nothing.
    pub(crate) fn return_id(&self, page: PageId) {
        self.return_ids(page, 1);
    }

    /// Gives back ids in a row, which name nothing.
    pub(crate) fn return_ids(&self, first: PageId, count: u64) {
        self.free_ids().give(first.0, count);
    }

    /// All ids in use are below this.
    pub(crate) fn bound(&self) -> u64 {
        self.free_ids().bound()
    }

    /// After an open: ids without a place, below the greatest that has one, are free.
    pub(crate) fn set_bound(&self, bound: u64) {
        let mut ids = FreeIds::new();
        ids.take(bound.max(2) - 1);
        let mut from = 1;
        for id in (1..bound).filter(|&id| self.place(PageId(id)) != Place::Free) {
            ids.give(from, id - from);
            from = id + 1;
        }
        ids.give(from, bound.max(2) - from);
        *self.free_ids() = ids;
    }

    fn free_ids(&self) -> MutexGuard<'_, FreeIds> {
        self.free.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_id_has_a_word_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for id in (0..5000).chain([1 << 20, (1 << 20) + 1, 1 << 32]) {
            assert!(seen.insert(PageTable::locate(PageId(id))), "page {id} shares a word");
        }
        assert_eq!(PageTable::locate(PageId(0)), (0, 0));
        assert_eq!(PageTable::locate(PageId(1023)), (0, 1023));
        assert_eq!(PageTable::locate(PageId(1024)), (1, 0));
        assert_eq!(PageTable::locate(PageId(3071)), (1, 2047));
        assert_eq!(PageTable::locate(PageId(3072)), (2, 0));
        assert_eq!(PageTable::new().place(PageId(u64::MAX)), Place::Free);
    }

    #[test]
    fn places_survive_encoding_and_change_only_from_what_they_were() {
        let table = PageTable::new();
        let extent = Extent { offset: 1 << 40, len: 1 << 24 };
        let (page, mut at) = (PageId(7000), Place::Free);
        let places = [Place::Loading(9), Place::Resident(u32::MAX >> 2), Place::Overflow(extent)];
        for next in std::iter::once(Place::Disk(extent)).chain(places) {
            assert!(!table.change(page, Place::Loading(1), next));
            assert!(table.change(page, at, next));
            assert_eq!(table.place(page), next);
            at = next;
        }
    }

    #[test]
    fn unused_ids_are_handed_out_again_after_an_open() {
        let table = PageTable::new();
        table.change(PageId(2), Place::Free, Place::Resident(0));
        table.set_bound(4);
        assert_eq!([table.take_id(), table.take_id(), table.take_id()].map(|id| id.0), [1, 3, 4]);
    }
}
