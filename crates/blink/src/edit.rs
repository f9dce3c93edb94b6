//! Changing a page in place: entries, right link, flags.
//!
//! Whoever calls this holds the page's exclusive latch, or owns the memory. Optimistic readers may
//! look on; the latch's version tells them to throw away what they saw.
//!
//! The accounts that are kept exact, and that [`check`](fn@crate::check) verifies:
//!
//! * the heap is `heap start..page size`; the fences stand at its end and never move;
//! * every byte of the heap belongs to a fence, to the record of one live slot, or to the garbage;
//!   beside those the garbage counts the slots that are fillers (see [`crate::gap`]);
//! * slots end at or below the heap start.

use treering_pagefile::PageId;

use crate::build::Image;
use crate::layout::{
    CHILD_LEN, FLAG_UNPOSTED, FLAGS_SHIFT, Lengths, SLOT_LEN, WORD_COUNTS, WORD_GARBAGE,
    WORD_IDENTITY, WORD_RIGHT, WORD_SLOTS, filler_word, halves, head_of, slot_head, slot_kind,
    slot_word, with_kind,
};
use crate::page::{Page, Position, Record};
use crate::stored::Kind;
use crate::words::{Words, WordsMut, append, store};

impl<W: Words> Page<W> {
    /// Whether an entry can be inserted as the page is. Lengths in bytes.
    pub fn fits_insert(&self, key_len: usize, value_len: usize) -> bool {
        self.insert_cost(key_len, value_len) <= self.free_contiguous()
    }

    /// Whether an entry can be inserted once the page is compacted.
    pub fn fits_insert_compacted(&self, key_len: usize, value_len: usize) -> bool {
        self.insert_cost(key_len, value_len) <= self.free_total()
    }

    /// Whether the value of a slot can be replaced by one of `value_len` bytes as the page is.
    pub fn fits_replace(&self, slot: usize, value_len: usize) -> bool {
        self.replace_room(slot, value_len) <= self.free_contiguous()
    }

    /// Whether the value of a slot can be replaced once the page is compacted.
    pub fn fits_replace_compacted(&self, slot: usize, value_len: usize) -> bool {
        let (old, new) = self.replace_cost(slot, value_len);
        new <= old + self.free_total()
    }

    /// Contiguous bytes that replacing the value of a slot takes: none if the record does not grow.
    pub(crate) fn replace_room(&self, slot: usize, value_len: usize) -> usize {
        let (old, new) = self.replace_cost(slot, value_len);
        if new <= old { 0 } else { new }
    }

    fn insert_cost(&self, key_len: usize, value_len: usize) -> usize {
        SLOT_LEN + Lengths::new(key_len.saturating_sub(self.prefix_len()), value_len).record()
    }

    /// Bytes of a slot's record as it is, and with a value of `value_len` bytes.
    fn replace_cost(&self, slot: usize, value_len: usize) -> (usize, usize) {
        let lengths = self.record(slot).lengths;
        (lengths.record(), Lengths::new(lengths.suffix, value_len).record())
    }
}

impl<W: WordsMut> Page<W> {
    /// Inserts an entry at `slot`, which [`Page::find`] gave. False, and nothing is changed, if
    /// there is not enough contiguous space.
    #[must_use]
    pub fn insert(&self, slot: usize, key: &[u8], value: &[u8]) -> bool {
        debug_assert_eq!(self.position(key), Position::Here);
        debug_assert!(self.is_leaf() || (slot > 0 && value.len() == CHILD_LEN));
        debug_assert!(slot == 0 || self.compare_key(slot - 1, key).is_lt());
        debug_assert!(slot == self.len() || self.compare_key(slot, key).is_gt());
        if !self.fits_insert(key.len(), value.len()) {
            return false;
        }
        let suffix = &key[self.prefix_len()..];
        let at = self.push_record(suffix, value);
        let opened = self.open_slot(slot);
        self.set_slot(opened, slot_word(head_of(suffix), at));
        true
    }

    /// Like [`Page::insert`], compacting the page when that makes the room, and taking its fillers
    /// away when only that does. False, and nothing is changed, if the page has to be split.
    #[must_use]
    pub fn insert_or_compact(&self, slot: usize, key: &[u8], value: &[u8]) -> bool {
        if self.fits_insert(key.len(), value.len()) {
            return self.insert(slot, key, value);
        }
        if !self.fits_insert_compacted(key.len(), value.len()) {
            return false;
        }
        let fillers = (self.len() - self.live_len()) * SLOT_LEN;
        let cost = self.insert_cost(key.len(), value.len());
        self.pack(cost + fillers <= self.free_total());
        self.insert(self.slot_for(key), key, value)
    }

    /// Removes the entry of a live slot; not slot 0 of an inner page, which always has one. Other
    /// entries may then be at other slots.
    pub fn remove(&self, slot: usize) {
        debug_assert!(slot < self.len() && (self.is_leaf() || slot > 0) && !self.is_filler(slot));
        self.release(self.record(slot));
        self.close_slot(slot);
    }

    /// Replaces the value of a live slot: where it is if the record does not grow, else by a new
    /// record. False, and nothing is changed, if there is not enough contiguous space for that.
    #[must_use]
    pub fn replace_value(&self, slot: usize, value: &[u8]) -> bool {
        debug_assert!(slot < self.len() && (self.is_leaf() || value.len() == CHILD_LEN));
        debug_assert!(!self.is_filler(slot));
        let old = self.record(slot);
        let new = Lengths::new(old.lengths.suffix, value.len());
        if new == old.lengths {
            store(self.words, old.value_at, value);
            return true;
        }
        if new.record() > old.lengths.record() && new.record() > self.free_contiguous() {
            return false;
        }
        let mut suffix = Vec::with_capacity(new.suffix);
        append(self.words, old.suffix_at, old.lengths.suffix, &mut suffix);
        if new.record() <= old.lengths.record() {
            self.write_record(old.at, new, &suffix, value);
            self.set_garbage(self.garbage() + old.lengths.record() - new.record());
        } else {
            let at = self.push_record(&suffix, value);
            self.release(old);
            self.redirect_slot(slot, slot_word(slot_head(self.slot(slot)), at));
        }
        true
    }

    /// Like [`Page::replace_value`], compacting the page when that makes the room. False, and
    /// nothing is changed, if the page has to be split.
    #[must_use]
    pub fn replace_or_compact(&self, slot: usize, value: &[u8]) -> bool {
        if self.replace_value(slot, value) {
            return true;
        }
        if !self.fits_replace_compacted(slot, value.len()) {
            return false;
        }
        // Without the old record, so that its bytes count too. No slot 0 of an inner page comes
        // here: all its values have the same length.
        let mut key = Vec::new();
        self.key_into(slot, &mut key);
        self.remove(slot);
        self.insert_or_compact(self.slot_for(&key), &key, value)
    }

    /// Says how the value of a live slot is stored. Inserting and replacing make the slot one of an
    /// ordinary value, or leave it what it was: whoever does either says afterwards what it is.
    pub fn set_kind(&self, slot: usize, kind: Kind) {
        debug_assert!(slot < self.len() && (self.is_leaf() || kind == Kind::Inline));
        debug_assert!(!self.is_filler(slot));
        self.set_slot(slot, with_kind(self.slot(slot), kind.code()));
    }

    /// Moves the records together, so that all free bytes are contiguous, but for the fillers, which
    /// stay where they are.
    pub fn compact(&self) {
        self.pack(true);
    }

    /// Moves the records together, with or without the fillers.
    fn pack(&self, keep_fillers: bool) {
        let old = Image::copy_of(self.words);
        let old = old.page();
        let mut at = self.fences_start();
        let (mut slot, mut fillers, mut begun) = (0, 0, 0);
        let mut bytes = Vec::new();
        for old_slot in 0..old.len() {
            if old.is_filler(old_slot) {
                begun += usize::from(keep_fillers);
                continue;
            }
            let record = old.record(old_slot);
            bytes.clear();
            append(old.words(), record.at, record.lengths.record(), &mut bytes);
            at -= bytes.len();
            store(self.words, at, &bytes);
            let old_word = old.slot(old_slot);
            let word = with_kind(slot_word(slot_head(old_word), at), slot_kind(old_word));
            for filler in slot..slot + begun {
                self.set_slot(filler, filler_word(word));
            }
            self.set_slot(slot + begun, word);
            (slot, fillers, begun) = (slot + begun + 1, fillers + begun, 0);
        }
        self.set_heap_start(at);
        self.set_garbage(fillers * SLOT_LEN);
        self.set_count(slot);
        self.set_has_gaps(keep_fillers && old.has_gaps());
    }

    /// Where a key that is not there would be inserted.
    fn slot_for(&self, key: &[u8]) -> usize {
        self.search(key).unwrap_or_else(|insertion| insertion)
    }

    /// Sets the right link.
    pub fn set_right(&self, right: Option<PageId>) {
        self.words.set_word(WORD_RIGHT, right.unwrap_or(PageId::NONE).0);
    }

    /// Says whether the right sibling is not yet known to the parent (I3).
    pub fn set_unposted(&self, unposted: bool) {
        let flag = u64::from(FLAG_UNPOSTED) << FLAGS_SHIFT;
        let others = self.words.word(WORD_IDENTITY) & !flag;
        self.words.set_word(WORD_IDENTITY, others | if unposted { flag } else { 0 });
    }

    /// Writes a record below all others and answers where. The caller has checked the space.
    pub(crate) fn push_record(&self, suffix: &[u8], value: &[u8]) -> usize {
        let lengths = Lengths::new(suffix.len(), value.len());
        let at = self.heap_start() - lengths.record();
        self.write_record(at, lengths, suffix, value);
        self.set_heap_start(at);
        at
    }

    pub(crate) fn set_slot(&self, slot: usize, word: u64) {
        self.words.set_word(WORD_SLOTS + slot, word);
    }

    pub(crate) fn set_count(&self, count: usize) {
        if count == 0 {
            // Nothing but the fences is left: forget the garbage.
            self.words.set_word(WORD_COUNTS, halves(0, self.fences_start()));
            self.set_garbage(0);
        } else {
            self.words.set_word(WORD_COUNTS, halves(count, self.heap_start()));
        }
    }

    fn write_record(&self, at: usize, lengths: Lengths, suffix: &[u8], value: &[u8]) {
        store(self.words, at, &lengths.encode()[..lengths.header]);
        store(self.words, at + lengths.header, suffix);
        store(self.words, at + lengths.header + suffix.len(), value);
    }

    /// Gives the bytes of a record back: to the free space if they border on it, else as garbage.
    fn release(&self, record: Record) {
        let len = record.lengths.record();
        if record.at == self.heap_start() {
            self.set_heap_start(record.at + len);
        } else {
            self.set_garbage(self.garbage() + len);
        }
    }

    fn set_heap_start(&self, heap_start: usize) {
        let count = self.words.word(WORD_COUNTS) as u32 as usize;
        self.words.set_word(WORD_COUNTS, halves(count, heap_start));
    }

    pub(crate) fn set_garbage(&self, garbage: usize) {
        let prefix_len = (self.words.word(WORD_GARBAGE) >> 32) as usize;
        self.words.set_word(WORD_GARBAGE, halves(garbage, prefix_len));
    }
}
