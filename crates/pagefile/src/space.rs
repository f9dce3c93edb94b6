//! Which parts of the page file are free: one bit for each slot, in memory only.
//!
//! The file is divided into *slots* of one page each, after the area of the superblocks:
//!
//! | bytes of the file | |
//! |---|---|
//! | 0..4 KiB | superblock A |
//! | 16..20 KiB | superblock B |
//! | up to 32 KiB, or one page where a page is larger | unused |
//! | from there on | slots, each as long as a page |
//!
//! A page takes one slot. The page map's own pieces (see [`crate::map`]) take runs of slots. No free
//! list is stored: opening rebuilds the bits from the page map, so there is none that could lie.
//!
//! Slots are found by next-fit: the search goes on where the last one ended, so that what is written
//! together lies together, and slots just freed rest for a while. A summary with one bit for each
//! word of 64 slots keeps the search short in a file that is nearly full. Who asks for many slots
//! gets the longest of the first few free runs, which bounds the time under the mutex.

use crate::page::Extent;
use crate::superblock;

/// How many free runs a search for a long one looks at.
const RUNS_LOOKED_AT: usize = 64;

const BITS: usize = u64::BITS as usize;

/// Where slots lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Bytes of a page and of a slot.
    pub(crate) page_size: usize,
    /// Where slot 0 begins, in bytes.
    pub(crate) data_start: u64,
}

impl Geometry {
    pub(crate) fn new(page_size: usize) -> Self {
        Self { page_size, data_start: superblock::AREA_LEN.max(page_size as u64) }
    }

    /// Whole slots in a file of `len` bytes.
    pub(crate) fn slots_in(&self, len: u64) -> usize {
        (len.saturating_sub(self.data_start) / self.page_size as u64) as usize
    }

    /// The first byte behind `slots` slots: the length of a file that has them.
    pub(crate) fn end_of(&self, slots: usize) -> u64 {
        self.data_start + slots as u64 * self.page_size as u64
    }

    pub(crate) fn extent_of(&self, run: Run) -> Extent {
        let len = run.len * self.page_size;
        Extent { offset: self.end_of(run.start), len: u32::try_from(len).expect("runs are short") }
    }

    /// The slots that `extent` covers; `None` if it does not cover whole slots.
    pub(crate) fn run_of(&self, extent: Extent) -> Option<Run> {
        let page_size = self.page_size as u64;
        let offset = extent.offset.checked_sub(self.data_start)?;
        let len = u64::from(extent.len);
        (len > 0 && offset.is_multiple_of(page_size) && len.is_multiple_of(page_size))
            .then(|| Run { start: (offset / page_size) as usize, len: (len / page_size) as usize })
    }
}

/// Adjacent slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl Run {
    pub(crate) fn end(&self) -> usize {
        self.start + self.len
    }
}

/// The bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpaceMap {
    /// A set bit is a slot in use. Bits beyond the last slot are set.
    used: Vec<u64>,
    /// A set bit is a word of `used` without a free slot.
    full: Vec<u64>,
    slots: usize,
    free: usize,
    /// Where the next search begins.
    cursor: usize,
    /// Searches begin at the start and take the first run: while the file is compacted.
    lowest_first: bool,
}

impl SpaceMap {
    /// `slots` free slots.
    pub(crate) fn new(slots: usize) -> Self {
        let mut map = Self::default();
        map.grow(slots);
        map
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// Adds free slots at the end, up to `slots` in all.
    pub(crate) fn grow(&mut self, slots: usize) {
        assert!(slots >= self.slots, "growing is not shrinking");
        self.used.resize(slots.div_ceil(BITS), u64::MAX);
        self.full.resize(self.used.len().div_ceil(BITS), u64::MAX);
        let added = Run { start: self.slots, len: slots - self.slots };
        self.slots = slots;
        self.clear(added);
    }

    /// Takes slots as near to the start as possible from now on, or goes back to next-fit.
    pub(crate) fn set_lowest_first(&mut self, lowest_first: bool) {
        self.lowest_first = lowest_first;
    }

    /// How many slots there are up to the last one in use.
    pub(crate) fn used_end(&self) -> usize {
        (0..self.slots).rev().find(|&slot| self.is_used(slot)).map_or(0, |slot| slot + 1)
    }

    /// Gives up the slots from `slots` on, which are free.
    pub(crate) fn cut(&mut self, slots: usize) {
        let cut = Run { start: slots, len: self.slots - slots };
        assert!(self.is_free(cut), "only free slots are cut off");
        self.set(cut);
        self.slots = slots;
        self.used.truncate(slots.div_ceil(BITS));
        self.full.truncate(self.used.len().div_ceil(BITS));
    }

    pub(crate) fn is_used(&self, slot: usize) -> bool {
        self.used.get(slot / BITS).is_none_or(|word| word >> (slot % BITS) & 1 == 1)
    }

    /// Whether every slot of `run` is there and free.
    pub(crate) fn is_free(&self, run: Run) -> bool {
        run.end() <= self.slots && self.free_from(run.start, run.len) == run.len
    }

    /// Marks free slots as used. Panics if one is in use: that would be I4 broken.
    pub(crate) fn set(&mut self, run: Run) {
        assert!(run.end() <= self.slots, "a run within the file");
        for (word, mask) in words_of(run) {
            assert_eq!(self.used[word] & mask, 0, "a live extent is never handed out (I4)");
            self.used[word] |= mask;
            if self.used[word] == u64::MAX {
                self.full[word / BITS] |= 1 << (word % BITS);
            }
        }
        self.free -= run.len;
    }

    /// Marks used slots as free. Panics if one is free already: then two parties believed to own it.
    pub(crate) fn clear(&mut self, run: Run) {
        assert!(run.end() <= self.slots, "a run within the file");
        for (word, mask) in words_of(run) {
            assert_eq!(self.used[word] & mask, mask, "an extent is freed once");
            self.used[word] &= !mask;
            self.full[word / BITS] &= !(1 << (word % BITS));
        }
        self.free += run.len;
    }

    /// Takes a run of one to `longest` slots, as long as a short search finds one; `None` if no slot
    /// is free.
    pub(crate) fn take(&mut self, longest: usize) -> Option<Run> {
        debug_assert!(longest > 0);
        let begin = if self.cursor < self.slots && !self.lowest_first { self.cursor } else { 0 };
        let mut best = Run { start: 0, len: 0 };
        let (mut at, mut wrapped) = (begin, false);
        for _ in 0..RUNS_LOOKED_AT {
            let Some(start) = self.next_free(at) else {
                if wrapped {
                    break;
                }
                (at, wrapped) = (0, true);
                continue;
            };
            if wrapped && start >= begin {
                break;
            }
            let len = self.free_from(start, longest);
            if len > best.len {
                best = Run { start, len };
            }
            if len == longest || self.lowest_first {
                break;
            }
            at = start + len;
        }
        if best.len == 0 {
            return None;
        }
        self.set(best);
        self.cursor = best.end();
        Some(best)
    }

    /// The first free slot at or behind `from`.
    fn next_free(&self, from: usize) -> Option<usize> {
        let word = from / BITS;
        let here = !self.used.get(word)? & (u64::MAX << (from % BITS));
        if here != 0 {
            return Some(word * BITS + here.trailing_zeros() as usize);
        }
        let next = word + 1;
        let mut mask = u64::MAX << (next % BITS);
        for (at, full) in self.full.iter().enumerate().skip(next / BITS) {
            let open = !full & mask;
            if open != 0 {
                let word = at * BITS + open.trailing_zeros() as usize;
                return Some(word * BITS + (!self.used[word]).trailing_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }

    /// How many slots from `start` on are free, counted up to `longest`.
    fn free_from(&self, start: usize, longest: usize) -> usize {
        let mut len = 0;
        while len < longest {
            let at = start + len;
            let Some(word) = self.used.get(at / BITS) else { break };
            let left = BITS - at % BITS;
            let free = ((word >> (at % BITS)).trailing_zeros() as usize).min(left);
            len += free;
            if free < left {
                break;
            }
        }
        len.min(longest)
    }
}

/// The words that `run` touches, each with a mask of its bits in it.
fn words_of(run: Run) -> impl Iterator<Item = (usize, u64)> {
    let mut at = run.start;
    std::iter::from_fn(move || {
        let len = (BITS - at % BITS).min(run.end() - at);
        let item = (len > 0).then(|| (at / BITS, (u64::MAX >> (BITS - len)) << (at % BITS)));
        at += len;
        item
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fresh_map_gives_one_long_run_and_then_nothing() {
        let mut map = SpaceMap::new(1000);
        assert_eq!(map.take(2000), Some(Run { start: 0, len: 1000 }));
        assert_eq!(map.take(1), None);
        map.grow(1100);
        assert_eq!(map.take(64), Some(Run { start: 1000, len: 64 }));
        assert_eq!(map.free(), 36);
    }

    #[test]
    fn the_longest_of_the_free_runs_is_preferred() {
        let mut map = SpaceMap::new(512);
        map.set(Run { start: 0, len: 512 });
        for run in [(3, 2), (60, 10), (200, 1)] {
            map.clear(Run { start: run.0, len: run.1 });
        }
        assert_eq!(map.take(64), Some(Run { start: 60, len: 10 }));
        assert_eq!(map.take(1), Some(Run { start: 200, len: 1 }), "next-fit goes on behind");
        assert_eq!(map.take(2), Some(Run { start: 3, len: 2 }));
    }

    #[test]
    #[should_panic(expected = "never handed out")]
    fn a_used_slot_cannot_be_taken_again() {
        let mut map = SpaceMap::new(10);
        map.set(Run { start: 2, len: 3 });
        map.set(Run { start: 4, len: 1 });
    }

    #[test]
    fn extents_and_slots_translate_for_every_page_size() {
        for shift in 9..=24 {
            let geometry = Geometry::new(1 << shift);
            assert!(geometry.data_start >= superblock::AREA_LEN);
            let run = Run { start: 7, len: 1 };
            let extent = geometry.extent_of(run);
            assert_eq!(geometry.run_of(extent), Some(run));
            assert_eq!(geometry.run_of(Extent { offset: extent.offset + 256, ..extent }), None);
            assert_eq!(geometry.slots_in(geometry.end_of(8)), 8);
            assert_eq!(geometry.slots_in(0), 0);
        }
    }

    proptest! {
        #[test]
        fn taking_and_freeing_agree_with_a_model(
            slots in 1usize..700,
            steps in prop::collection::vec((any::<bool>(), 1usize..90, any::<u16>()), 1..300),
        ) {
            let mut map = SpaceMap::new(slots);
            let mut model = vec![false; slots];
            let mut runs: Vec<Run> = Vec::new();
            for (take, len, pick) in steps {
                if take {
                    match map.take(len) {
                        Some(run) => {
                            prop_assert!(run.len >= 1 && run.len <= len);
                            let taken = &mut model[run.start..run.end()];
                            prop_assert!(taken.iter().all(|used| !used));
                            taken.fill(true);
                            runs.push(run);
                        }
                        None => prop_assert!(model.iter().all(|used| *used)),
                    }
                } else if !runs.is_empty() {
                    let run = runs.swap_remove(usize::from(pick) % runs.len());
                    prop_assert!(!map.is_free(run));
                    map.clear(run);
                    prop_assert!(map.is_free(run));
                    model[run.start..run.end()].fill(false);
                }
                prop_assert_eq!(map.free(), model.iter().filter(|used| !**used).count());
                prop_assert!(model.iter().enumerate().all(|(at, used)| map.is_used(at) == *used));
            }
        }
    }
}
