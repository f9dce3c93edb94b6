//! Librarian slots: fillers left between the live slots of a leaf, so that an insert moves few.
//!
//! The slots of a page are in key order without holes, so an insert in the middle of a large page
//! moves half of them. A librarian leaves room on every shelf instead (Malbrain's threadskv; Bender,
//! Farach-Colton and Mosteiro, "Insertion sort is O(n log n)", 2006).
//!
//! **A filler** stands directly before a live slot, or before another filler of it, and has the same
//! head and the same record; only its kind differs. So the slots are still sorted, a search needs
//! not know of fillers, and whatever slot of a run it ends at leads to the right record. What keeps
//! that true:
//!
//! * behind a run of fillers there is a live slot: none stands at the end of the page;
//! * whoever moves the record of a live slot changes the fillers before it too;
//! * only leaves that are flagged `GAPS` have any; inner pages never do;
//! * the eight bytes of each filler count as garbage: making the page anew gives them back.
//!
//! Fillers come from [`build`](fn@crate::build), which spreads them by a [`Gap`], and from removed
//! entries, whose slots become fillers of their right neighbours. They go by inserts, which take the
//! nearest one, and when the page has to be made anew and is too full for them.

use std::ops::Range;

use crate::layout::{
    FLAG_GAPS, FLAGS_SHIFT, KIND_FILLER, SLOT_LEN, WORD_IDENTITY, filler_word, slot_kind,
};
use crate::page::Page;
use crate::words::{Words, WordsMut};

/// How densely fillers are spread over a leaf when it is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gap(u8);

impl Gap {
    /// No fillers.
    pub const NONE: Self = Self(0);

    /// A filler after every `live` live slots; none at all for 0.
    pub const fn every(live: u8) -> Self {
        Self(live)
    }

    /// What pays for pages of `page_size` bytes when what they store of a key and its value has
    /// `record_len` bytes on average: a filler for each entry where a page has very many, else none.
    /// `docs/librarian.md` has the measurements.
    pub const fn automatic(page_size: usize, record_len: usize) -> Self {
        let entries = page_size / (SLOT_LEN + LENGTHS_LEN + record_len);
        if entries < AUTOMATIC_ENTRIES_MIN { Self::NONE } else { Self(1) }
    }

    /// How many fillers come to `live` live slots.
    pub(crate) fn fillers(self, live: usize) -> usize {
        live.saturating_sub(1).checked_div(self.0.into()).unwrap_or(0)
    }

    /// Whether one of them stands before the live slot number `index`.
    pub(crate) fn before(self, index: usize) -> bool {
        index > 0 && index.checked_rem(self.0.into()) == Some(0)
    }
}

/// From how many entries of a full page on fillers pay. With fewer, moving slots costs less than
/// making a page anew that is full of records and still has fillers.
const AUTOMATIC_ENTRIES_MIN: usize = 512;
/// Bytes that the lengths in a record take at least.
const LENGTHS_LEN: usize = 2;

/// The longest run of fillers that a removal leaves. It bounds what moving a record costs; and the
/// tail is moved over a whole run at once when it would grow longer.
const RUN_MAX: usize = 16;

impl<W: Words> Page<W> {
    /// Whether it may have fillers.
    #[inline]
    pub fn has_gaps(&self) -> bool {
        self.flags() & FLAG_GAPS != 0
    }

    /// Whether a slot is a filler: what it leads to is the entry of the next live slot.
    #[inline]
    pub fn is_filler(&self, slot: usize) -> bool {
        slot_kind(self.slot(slot)) == KIND_FILLER
    }

    /// The first live slot from `slot` on.
    #[inline]
    pub fn live_from(&self, slot: usize) -> Option<usize> {
        (slot..self.len()).find(|&slot| !self.is_filler(slot))
    }

    /// The last live slot before `slot`.
    #[inline]
    pub fn live_before(&self, slot: usize) -> Option<usize> {
        (0..slot.min(self.len())).rev().find(|&slot| !self.is_filler(slot))
    }

    /// The live slots among `slots`, in order; backward with `rev`.
    pub fn live_among(self, slots: Range<usize>) -> impl DoubleEndedIterator<Item = usize> {
        let end = slots.end.min(self.len());
        (slots.start..end).filter(move |&slot| !self.is_filler(slot))
    }

    /// All live slots in order.
    pub fn live_slots(self) -> impl DoubleEndedIterator<Item = usize> {
        self.live_among(0..usize::MAX)
    }

    /// How many entries it has. Looks at every slot if there may be fillers.
    pub fn live_len(&self) -> usize {
        if self.has_gaps() { self.live_slots().count() } else { self.len() }
    }

    /// Where the run of fillers before a live slot begins; the slot itself if there is none.
    fn run_start(&self, slot: usize) -> usize {
        (0..slot).rev().find(|&before| !self.is_filler(before)).map_or(0, |live| live + 1)
    }

    /// The filler that an insert at `slot` reaches by moving the fewest slots, if that is less than
    /// moving the tail.
    fn nearest_filler(&self, slot: usize) -> Option<usize> {
        if !self.has_gaps() || self.garbage() < SLOT_LEN {
            return None;
        }
        for distance in 0..self.len().saturating_sub(slot) {
            if self.is_filler(slot + distance) {
                return Some(slot + distance);
            }
            if distance < slot && self.is_filler(slot - 1 - distance) {
                return Some(slot - 1 - distance);
            }
        }
        None
    }
}

impl<W: WordsMut> Page<W> {
    /// Makes a slot for an entry that belongs before the entry of `slot`, and answers where it is.
    /// The caller has checked that there is room for one more, and sets the slot.
    pub(crate) fn open_slot(&self, slot: usize) -> usize {
        match self.nearest_filler(slot) {
            Some(filler) => {
                self.set_garbage(self.garbage() - SLOT_LEN);
                if filler >= slot {
                    self.move_slots(slot..filler, slot + 1);
                    slot
                } else {
                    self.move_slots(filler + 1..slot, filler);
                    slot - 1
                }
            }
            None => {
                let count = self.len();
                self.move_slots(slot..count, slot + 1);
                self.set_count(count + 1);
                slot
            }
        }
    }

    /// Takes a live slot away, whose record has been released: it becomes a filler if the page has
    /// gaps and there is an entry on its right, else the slots behind it move up.
    pub(crate) fn close_slot(&self, slot: usize) {
        let (first, count) = (self.run_start(slot), self.len());
        let (mut gone, mut fillers) = (first..slot + 1, slot - first);
        if self.has_gaps()
            && let Some(right) = self.live_from(slot + 1)
        {
            if right - first <= RUN_MAX {
                for slot in gone {
                    self.set_slot(slot, filler_word(self.slot(right)));
                }
                self.set_garbage(self.garbage() + SLOT_LEN);
                return;
            }
            fillers += right - (slot + 1);
            gone.end = right;
        }
        self.set_garbage(self.garbage() - fillers * SLOT_LEN);
        self.move_slots(gone.end..count, gone.start);
        self.set_count(count - gone.len());
    }

    /// Makes a live slot, and the fillers before it, lead to another place.
    pub(crate) fn redirect_slot(&self, slot: usize, word: u64) {
        for filler in self.run_start(slot)..slot {
            self.set_slot(filler, filler_word(word));
        }
        self.set_slot(slot, word);
    }

    /// Says whether it may have fillers.
    pub(crate) fn set_has_gaps(&self, gaps: bool) {
        let flag = u64::from(FLAG_GAPS) << FLAGS_SHIFT;
        let others = self.words.word(WORD_IDENTITY) & !flag;
        self.words.set_word(WORD_IDENTITY, others | if gaps { flag } else { 0 });
    }

    /// Moves slots so that the first of them stands at `to`, a place within or beside them.
    fn move_slots(&self, slots: Range<usize>, to: usize) {
        if to > slots.start {
            let by = to - slots.start;
            for slot in slots.rev() {
                self.set_slot(slot + by, self.slot(slot));
            }
        } else {
            let by = slots.start - to;
            for slot in slots {
                self.set_slot(slot - by, self.slot(slot));
            }
        }
    }
}
