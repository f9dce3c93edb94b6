//! Private images of pages, and building a compact one from sorted entries.

use std::cell::Cell;

use crate::gap::Gap;
use crate::layout::{
    CHILD_LEN, FLAG_HIGH_INFINITE, FLAGS_SHIFT, HEADER_LEN, LEVEL_SHIFT, Lengths, SLOT_LEN,
    WORD_COUNTS, WORD_GARBAGE, WORD_HIGH, WORD_IDENTITY, WORD_LOW, WORD_SLOTS, filler_word, halves,
    head_of, is_page_size, slot_word,
};
use crate::page::Page;
use crate::words::{Words, WordsMut, common_prefix_len, copy_page};

/// Words at the start of a page that belong to the page file.
const SEAL_WORDS: usize = treering_pagefile::PAGE_HEADER_LEN / 8;

/// A page in private memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Image(Box<[u64]>);

impl Image {
    /// A page of zeros, which is no valid page yet. `page_size` in bytes.
    pub fn zeroed(page_size: usize) -> Self {
        Self(vec![0; page_size / 8].into())
    }

    /// A copy of a page. What was copied optimistically must be validated before it is believed.
    pub fn copy_of<W: Words>(words: W) -> Self {
        let mut image = Self::zeroed(words.len() * 8);
        copy_page(words, &mut image.0);
        image
    }

    /// To be read.
    #[inline]
    pub fn page(&self) -> Page<&[u64]> {
        Page::new(&self.0)
    }

    /// To be changed.
    #[inline]
    pub fn edit(&mut self) -> Page<&[Cell<u64>]> {
        Page::new(Cell::from_mut(&mut self.0[..]).as_slice_of_cells())
    }

    /// Its words.
    pub fn words(&self) -> &[u64] {
        &self.0
    }

    /// Its words, to be overwritten.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        let page: &mut [u8] = bytemuck::cast_slice_mut(&mut self.0);
        page[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Its bytes, as they stand on disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Writes it over a page of the same size, all but the seal, which belongs to the page file.
    pub fn write_to<W: WordsMut>(&self, words: W) {
        debug_assert_eq!(words.len(), self.0.len());
        words.set_words(SEAL_WORDS, &self.0[SEAL_WORDS..]);
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let page = self.page();
        f.debug_struct("Image")
            .field("page_size", &page.page_size())
            .field("tree", &page.tree())
            .field("level", &page.level())
            .field("slots", &page.len())
            .finish_non_exhaustive()
    }
}

/// What a page is, apart from its entries and its right link.
#[derive(Clone, Copy, Debug)]
pub struct PageSpec<'a> {
    /// Bytes a page: a power of two from 2^9 to 2^24.
    pub page_size: usize,
    /// The tree.
    pub tree: u32,
    /// 0 for a leaf.
    pub level: u8,
    /// The least key that the page may hold: `""` for the left-most of a level.
    pub low: &'a [u8],
    /// Greater than every key that the page may hold; none for the right-most of a level.
    pub high: Option<&'a [u8]>,
    /// How densely fillers are spread over it, if it is a leaf that has room for them.
    pub gap: Gap,
}

impl PageSpec<'_> {
    /// How many bytes all keys between the fences have in common.
    pub(crate) fn prefix_len(&self) -> usize {
        self.high.map_or(0, |high| common_prefix_len(self.low, high))
    }

    /// What is stored of the key of slot `index`.
    fn suffix<'k>(&self, index: usize, key: &'k [u8], prefix_len: usize) -> &'k [u8] {
        if self.level > 0 && index == 0 { &[] } else { &key[prefix_len..] }
    }

    /// The gap that a page with `entries`, of `used` bytes without fillers, really gets. Fillers take
    /// half of the free bytes at most: without room for records nothing would ever use them, and
    /// the page would have to be made anew just to be rid of them.
    fn gap_of(&self, entries: usize, used: usize) -> Gap {
        let room = self.page_size.saturating_sub(used) / 2;
        let fits = self.gap.fillers(entries) * SLOT_LEN <= room;
        if self.level == 0 && fits { self.gap } else { Gap::NONE }
    }

    /// How many bytes of a page the fences and `entries` take without fillers, the header included.
    pub(crate) fn encoded_len(&self, entries: &[(&[u8], &[u8])]) -> usize {
        let prefix_len = self.prefix_len();
        let records = entries.iter().enumerate().map(|(index, (key, value))| {
            let suffix = self.suffix(index, key, prefix_len);
            SLOT_LEN + Lengths::new(suffix.len(), value.len()).record()
        });
        let fences = self.low.len() + self.high.map_or(0, <[u8]>::len);
        HEADER_LEN + fences + records.sum::<usize>()
    }
}

/// Builds a compact page without right link and with the flag `UNPOSTED` clear; the seal is zero.
/// None if the entries do not fit without fillers; with fillers if there is room for them.
///
/// `entries` are in key order, their keys between the fences, within
/// [`max_key_len`](crate::max_key_len) and [`max_record_len`](crate::max_record_len). In an inner
/// page the first key is the low fence and each value is a page id in eight little-endian bytes.
pub fn build(spec: &PageSpec<'_>, entries: &[(&[u8], &[u8])]) -> Option<Image> {
    debug_assert!(is_page_size(spec.page_size));
    debug_assert!(spec.high.is_none_or(|high| spec.low < high));
    debug_assert!(entries.windows(2).all(|pair| pair[0].0 < pair[1].0));
    debug_assert!(entries.first().is_none_or(|(key, _)| spec.low <= *key));
    debug_assert!(entries.last().is_none_or(|(key, _)| spec.high.is_none_or(|high| *key < high)));
    debug_assert!(
        spec.level == 0
            || entries.first().is_some_and(|(key, _)| *key == spec.low)
                && entries.iter().all(|(_, child)| child.len() == CHILD_LEN)
    );

    let used = spec.encoded_len(entries);
    if used > spec.page_size {
        return None;
    }
    let gap = spec.gap_of(entries.len(), used);
    let prefix_len = spec.prefix_len();
    let high = spec.high.unwrap_or_default();
    let flags = if spec.high.is_none() { FLAG_HIGH_INFINITE } else { 0 };
    let identity = u64::from(spec.tree)
        | u64::from(spec.level) << LEVEL_SHIFT
        | u64::from(flags) << FLAGS_SHIFT;
    let low_at = spec.page_size - spec.low.len();
    let high_at = low_at - high.len();

    // As bytes of private memory, which are copied faster than by words.
    let mut image = Image::zeroed(spec.page_size);
    image.put(low_at, spec.low);
    image.put(high_at, high);
    let (mut slot, mut at) = (0, high_at);
    for (index, (key, value)) in entries.iter().enumerate() {
        let suffix = spec.suffix(index, key, prefix_len);
        let lengths = Lengths::new(suffix.len(), value.len());
        at -= lengths.record();
        let suffix_at = at + lengths.header;
        image.put(at, &lengths.encode()[..lengths.header]);
        image.put(suffix_at, suffix);
        image.put(suffix_at + suffix.len(), value);
        let word = slot_word(head_of(suffix), at);
        if gap.before(index) {
            image.0[WORD_SLOTS + slot] = filler_word(word);
            slot += 1;
        }
        image.0[WORD_SLOTS + slot] = word;
        slot += 1;
    }
    let fillers = slot - entries.len();
    for (index, word) in [
        (WORD_IDENTITY, identity),
        (WORD_COUNTS, halves(slot, at)),
        (WORD_GARBAGE, halves(fillers * SLOT_LEN, prefix_len)),
        (WORD_LOW, halves(low_at, spec.low.len())),
        (WORD_HIGH, halves(high_at, high.len())),
    ] {
        image.0[index] = word;
    }
    image.edit().set_has_gaps(fillers > 0);
    Some(image)
}
