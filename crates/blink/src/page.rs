//! Reading a page: its header, its fences, searching it, copying keys and values out of it.
//!
//! A [`Page`] is a view of words that somebody else may be changing (see [`crate::words`]). Every
//! method here comes to an end, without a panic and within the page, on any bytes whatever. On a
//! page that is not being changed the answers are right; on a mixture they are anything, and the
//! caller, whose version check fails then, throws them away. In particular:
//!
//! * the slot count is clamped to what the page has room for, offsets and lengths to the page;
//! * what a method appends to a vector is at most a page long.
//!
//! Keys given to the searching methods belong to the page: [`Page::position`] said
//! [`Position::Here`]. Other keys get some answer within the page.

use std::cmp::Ordering;
use std::hint::select_unpredictable;
use std::ops::Range;

use treering_pagefile::PageId;

use crate::layout::{
    FLAG_HIGH_INFINITE, FLAG_UNPOSTED, FLAGS_SHIFT, HEADER_LEN, LEVEL_SHIFT, Lengths, SLOT_LEN,
    WORD_COUNTS, WORD_GARBAGE, WORD_HIGH, WORD_IDENTITY, WORD_LOW, WORD_RIGHT, WORD_SLOTS, head_of,
    slot_head, slot_kind, slot_offset, split_halves,
};
use crate::stored::{Kind, REFERENCE_LEN, Reference};
use crate::words::{Words, append, compare, load};

/// A page of the tree, over words that may be shared ([`Words`]).
#[derive(Clone, Copy)]
pub struct Page<W> {
    pub(crate) words: W,
}

/// Where a key stands relative to the fences of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Left of the page.
    Before,
    /// In the page's range, whether it is there or not.
    Here,
    /// Right of the page: follow the right link.
    Beyond,
}

/// A record within a page, clamped to it.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    /// Where it begins, with its lengths.
    pub(crate) at: usize,
    pub(crate) suffix_at: usize,
    pub(crate) value_at: usize,
    pub(crate) lengths: Lengths,
}

/// Bytes of a page, clamped to it.
#[derive(Clone, Copy)]
struct Span {
    at: usize,
    len: usize,
}

impl<W: Words> Page<W> {
    /// A view of a whole page.
    #[inline]
    pub fn new(words: W) -> Self {
        Self { words }
    }

    /// The words it is a view of.
    #[inline]
    pub fn words(&self) -> W {
        self.words
    }

    /// Its size in bytes.
    #[inline]
    pub fn page_size(&self) -> usize {
        self.words.len() * 8
    }

    /// The tree that it belongs to.
    #[inline]
    pub fn tree(&self) -> u32 {
        self.words.word(WORD_IDENTITY) as u32
    }

    /// Its level: 0 for leaves.
    #[inline]
    pub fn level(&self) -> u8 {
        (self.words.word(WORD_IDENTITY) >> LEVEL_SHIFT) as u8
    }

    /// Whether its values are those of the tree, not children.
    #[inline]
    pub fn is_leaf(&self) -> bool {
        self.level() == 0
    }

    /// Whether its right sibling is not yet known to the parent (I3).
    #[inline]
    pub fn unposted(&self) -> bool {
        self.flags() & FLAG_UNPOSTED != 0
    }

    /// Whether it has no high fence: it is the right-most page of its level.
    #[inline]
    pub fn is_high_infinite(&self) -> bool {
        self.flags() & FLAG_HIGH_INFINITE != 0
    }

    /// Its right sibling.
    #[inline]
    pub fn right(&self) -> Option<PageId> {
        let right = PageId(self.words.word(WORD_RIGHT));
        (right != PageId::NONE).then_some(right)
    }

    /// How many slots it has, fillers included; how many entries: [`Page::live_len`].
    #[inline]
    pub fn len(&self) -> usize {
        let (count, _) = split_halves(self.words.word(WORD_COUNTS));
        count.min(self.words.len().saturating_sub(WORD_SLOTS))
    }

    /// Whether it has no slot.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where `key` stands: in the page's range if `low <= key < high`.
    #[inline]
    pub fn position(&self, key: &[u8]) -> Position {
        if self.compare_low(key) == Ordering::Greater {
            Position::Before
        } else if !self.is_high_infinite() && self.compare_high(key) != Ordering::Greater {
            Position::Beyond
        } else {
            Position::Here
        }
    }

    /// Where the greatest key below `key` may stand: in this page if `low < key <= high`.
    #[inline]
    pub fn position_before(&self, key: &[u8]) -> Position {
        if self.compare_low(key) != Ordering::Less {
            Position::Before
        } else if !self.is_high_infinite() && self.compare_high(key) == Ordering::Less {
            Position::Beyond
        } else {
            Position::Here
        }
    }

    /// The live slot that holds `key`, or the slot that it would be inserted at: the first one, live
    /// or not, that leads to a greater key.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.search(key).map(|slot| self.live_from(slot).unwrap_or(slot))
    }

    /// Like [`Page::find`], but the slot that leads to `key` may be a filler: for whoever wants the
    /// entry and not the slot, and for inner pages, which have none.
    #[inline]
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let suffix = key.get(self.prefix_len()..).unwrap_or_default();
        let count = self.len();
        let head = head_of(suffix);
        let first = self.first_slot(0, count, |slot| slot < u64::from(head) << 32);
        // Usually the heads have decided by now, or one comparison does.
        if first >= count || slot_head(self.slot(first)) != head {
            return Err(first);
        }
        match self.compare_suffix(first, suffix) {
            Ordering::Equal => Ok(first),
            Ordering::Greater => Err(first),
            Ordering::Less => self.find_among_equal_heads(first + 1, count, head, suffix),
        }
    }

    /// Goes on in the slots `from..count` when the heads do not tell the keys apart.
    fn find_among_equal_heads(
        &self,
        from: usize,
        count: usize,
        head: u32,
        suffix: &[u8],
    ) -> Result<usize, usize> {
        let mut low = from;
        let mut high = self.first_slot(from, count, |slot| slot_head(slot) <= head);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.compare_suffix(middle, suffix) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// In an inner page: the slot whose child's range holds `key`.
    #[inline]
    pub fn child_slot(&self, key: &[u8]) -> usize {
        self.search(key).unwrap_or_else(|insertion| insertion.saturating_sub(1))
    }

    /// In an inner page: the child of a slot.
    #[inline]
    pub fn child(&self, slot: usize) -> PageId {
        PageId(load(self.words, self.record(slot).value_at))
    }

    /// In an inner page: the child whose range holds `key`.
    #[inline]
    pub fn child_for(&self, key: &[u8]) -> PageId {
        self.child(self.child_slot(key))
    }

    /// In an inner page: the slot of the greatest child whose range starts strictly below `key`,
    /// for which [`Page::position_before`] said [`Position::Here`]. None at the low fence.
    pub fn slot_before(&self, key: &[u8]) -> Option<usize> {
        if self.compare_low(key) != Ordering::Less {
            return None;
        }
        let (Ok(slot) | Err(slot)) = self.search(key);
        slot.checked_sub(1)
    }

    /// The child of [`Page::slot_before`].
    pub fn child_before(&self, key: &[u8]) -> Option<PageId> {
        self.slot_before(key).map(|slot| self.child(slot))
    }

    /// Appends the whole key that a slot leads to. In an inner page slot 0 has the low fence for its key.
    pub fn key_into(&self, slot: usize, out: &mut Vec<u8>) {
        if slot == 0 && !self.is_leaf() {
            return self.low_into(out);
        }
        let prefix = self.prefix();
        append(self.words, prefix.at, prefix.len, out);
        let record = self.record(slot);
        append(self.words, record.suffix_at, record.lengths.suffix, out);
    }

    /// Compares the whole key of a slot with `key`: `Less` if the slot's is less.
    pub fn compare_key(&self, slot: usize, key: &[u8]) -> Ordering {
        if slot == 0 && !self.is_leaf() {
            return self.compare_low(key);
        }
        let prefix = self.prefix();
        let (first, rest) = key.split_at(prefix.len.min(key.len()));
        compare(self.words, prefix.at, prefix.len, first)
            .then_with(|| self.compare_suffix(slot, rest))
    }

    /// How many bytes the value of a slot has.
    #[inline]
    pub fn value_len(&self, slot: usize) -> usize {
        self.record(slot).lengths.value
    }

    /// Appends the value of a slot.
    #[inline]
    pub fn value_into(&self, slot: usize, out: &mut Vec<u8>) {
        let record = self.record(slot);
        append(self.words, record.value_at, record.lengths.value, out);
    }

    /// How the value of a slot is stored.
    #[inline]
    pub fn kind(&self, slot: usize) -> Kind {
        Kind::of_code(slot_kind(self.slot(slot)))
    }

    /// The reference of a slot whose value is in overflow pages; `None` if the slot is of another
    /// kind, or its value no reference.
    pub fn reference(&self, slot: usize) -> Option<Reference> {
        if self.kind(slot) != Kind::Overflow {
            return None;
        }
        let mut bytes = Vec::with_capacity(REFERENCE_LEN);
        self.value_into(slot, &mut bytes);
        bytes.try_into().ok()
    }

    /// Appends the low fence: the least key that the page may hold.
    pub fn low_into(&self, out: &mut Vec<u8>) {
        let low = self.span(WORD_LOW);
        append(self.words, low.at, low.len, out);
    }

    /// Appends the high fence, which is greater than every key that the page may hold; appends
    /// nothing and answers false if there is none.
    pub fn high_into(&self, out: &mut Vec<u8>) -> bool {
        let finite = !self.is_high_infinite();
        if finite {
            let high = self.span(WORD_HIGH);
            append(self.words, high.at, high.len, out);
        }
        finite
    }

    /// How many bytes all keys of the page have in common, which are stored once.
    #[inline]
    pub fn prefix_len(&self) -> usize {
        self.prefix().len
    }

    /// The bytes of the page that are the prefix of all its keys.
    pub(crate) fn prefix_span(&self) -> Range<usize> {
        let Span { at, len } = self.prefix();
        at..at + len
    }

    /// Bytes between the slots and the heap: what can be used without compacting.
    #[inline]
    pub fn free_contiguous(&self) -> usize {
        self.heap_start().saturating_sub(HEADER_LEN + self.len() * SLOT_LEN)
    }

    /// Bytes that are free, those within the heap and of fillers included: what can be used once the
    /// page is made anew.
    #[inline]
    pub fn free_total(&self) -> usize {
        self.free_contiguous() + self.garbage()
    }

    /// Bytes that the entries take: live slots and records, without header, fences and garbage.
    pub fn live_bytes(&self) -> usize {
        self.fences_start().saturating_sub(HEADER_LEN + self.free_total())
    }

    /// Whether less than a third of the room for entries is used, so that the page should borrow from
    /// a sibling or merge with it (Perst's limit).
    pub fn is_underfull(&self) -> bool {
        3 * self.live_bytes() < self.fences_start().saturating_sub(HEADER_LEN)
    }

    /// Where the fences begin that stand at the end of the heap.
    pub(crate) fn fences_start(&self) -> usize {
        let fences = self.span(WORD_LOW).len + self.span(WORD_HIGH).len;
        self.page_size().saturating_sub(fences)
    }

    #[inline]
    pub(crate) fn flags(&self) -> u8 {
        (self.words.word(WORD_IDENTITY) >> FLAGS_SHIFT) as u8
    }

    #[inline]
    pub(crate) fn heap_start(&self) -> usize {
        split_halves(self.words.word(WORD_COUNTS)).1.min(self.page_size())
    }

    #[inline]
    pub(crate) fn garbage(&self) -> usize {
        split_halves(self.words.word(WORD_GARBAGE)).0.min(self.page_size())
    }

    /// The word of a slot.
    #[inline]
    pub(crate) fn slot(&self, slot: usize) -> u64 {
        self.words.word(WORD_SLOTS.saturating_add(slot))
    }

    /// The record of a slot.
    #[inline]
    pub(crate) fn record(&self, slot: usize) -> Record {
        let at = slot_offset(self.slot(slot));
        let mut lengths = Lengths::decode(load(self.words, at));
        let size = self.page_size();
        let suffix_at = (at + lengths.header).min(size);
        lengths.suffix = lengths.suffix.min(size - suffix_at);
        let value_at = suffix_at + lengths.suffix;
        lengths.value = lengths.value.min(size - value_at);
        Record { at, suffix_at, value_at, lengths }
    }

    /// The first slot of `from..to` for which `below` does not hold, by halving without branches:
    /// the outcome of each step is a coin toss that no predictor gets right.
    #[inline]
    fn first_slot(&self, from: usize, to: usize, below: impl Fn(u64) -> bool) -> usize {
        let (mut base, mut size) = (from, to.saturating_sub(from));
        if size == 0 {
            return from;
        }
        while size > 1 {
            let half = size / 2;
            let middle = base + half;
            base = select_unpredictable(below(self.slot(middle)), middle, base);
            size -= half;
        }
        base + usize::from(below(self.slot(base)))
    }

    #[inline]
    fn compare_suffix(&self, slot: usize, suffix: &[u8]) -> Ordering {
        let record = self.record(slot);
        compare(self.words, record.suffix_at, record.lengths.suffix, suffix)
    }

    #[inline]
    fn compare_low(&self, key: &[u8]) -> Ordering {
        let low = self.span(WORD_LOW);
        compare(self.words, low.at, low.len, key)
    }

    #[inline]
    fn compare_high(&self, key: &[u8]) -> Ordering {
        let high = self.span(WORD_HIGH);
        compare(self.words, high.at, high.len, key)
    }

    /// The common prefix: the first bytes of the low fence.
    #[inline]
    fn prefix(&self) -> Span {
        let low = self.span(WORD_LOW);
        let (_, len) = split_halves(self.words.word(WORD_GARBAGE));
        Span { at: low.at, len: len.min(low.len) }
    }

    /// The bytes that a header word of offset and length refers to.
    #[inline]
    fn span(&self, word: usize) -> Span {
        let (at, len) = split_halves(self.words.word(word));
        let size = self.page_size();
        let at = at.min(size);
        Span { at, len: len.min(size - at) }
    }
}
