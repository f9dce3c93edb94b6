//! The entries of a page taken out of it, to be changed and built into pages again: what a split
//! does between reading the full page and writing the new ones.

use std::ops::Range;

use crate::build::{Image, PageSpec, build};
use crate::page::Page;
use crate::partition::{Part, Policy, partition};
use crate::stored::{Kind, Reference, Stored};
use crate::words::{Words, bytes_of};

/// Sorted entries, keys whole, in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    bytes: Vec<u8>,
    spans: Vec<(Range<usize>, Range<usize>)>,
    /// How the value of each entry is stored.
    kinds: Vec<Kind>,
}

impl Entries {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// All entries of a page in order. The page is copied as it stands, word by word, and its values
    /// stay where they are in that copy: a split goes over some twenty of them, or two hundred.
    pub fn of<W: Words>(page: &Page<W>) -> Self {
        let image = Image::copy_of(page.words());
        let page = image.page();
        let (count, prefix) = (page.len(), page.prefix_span());
        let mut entries = Self {
            bytes: Vec::with_capacity(page.page_size() * 3 / 2),
            spans: Vec::with_capacity(count + 1),
            kinds: Vec::with_capacity(count + 1),
        };
        entries.bytes.extend_from_slice(bytes_of(image.words()));
        for slot in page.live_slots() {
            let record = page.record(slot);
            let value = record.value_at..record.value_at + record.lengths.value;
            let suffix = record.suffix_at..record.suffix_at + record.lengths.suffix;
            let is_low_fence = slot == 0 && !page.is_leaf();
            let key = if prefix.is_empty() && !is_low_fence {
                suffix
            } else {
                let start = entries.bytes.len();
                if is_low_fence {
                    page.low_into(&mut entries.bytes);
                } else {
                    entries.bytes.extend_from_within(prefix.clone());
                    entries.bytes.extend_from_within(suffix);
                }
                start..entries.bytes.len()
            };
            entries.spans.push((key, value));
            entries.kinds.push(page.kind(slot));
        }
        entries
    }

    /// Adds the entries of `other` behind these.
    pub fn append(&mut self, other: &Self) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let moved = |span: &Range<usize>| span.start + start..span.end + start;
        self.spans.extend(other.spans.iter().map(|(key, value)| (moved(key), moved(value))));
        self.kinds.extend_from_slice(&other.kinds);
    }

    /// How many bytes a key with its value takes on average; 0 if there is no entry.
    pub fn average_len(&self) -> usize {
        let lens = self.spans.iter().map(|(key, value)| key.len() + value.len());
        lens.sum::<usize>().checked_div(self.len()).unwrap_or(0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The key at an index.
    ///
    /// # Panics
    /// If there is no such entry, as all methods with an index.
    pub fn key(&self, index: usize) -> &[u8] {
        &self.bytes[self.spans[index].0.clone()]
    }

    /// The value at an index.
    pub fn value(&self, index: usize) -> &[u8] {
        &self.bytes[self.spans[index].1.clone()]
    }

    /// Where `key` is, or where it would be inserted.
    pub fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.spans.binary_search_by(|(span, _)| self.bytes[span.clone()].cmp(key))
    }

    /// How the value at an index is stored.
    pub fn kind(&self, index: usize) -> Kind {
        self.kinds[index]
    }

    /// The reference at an index, if the value there is in overflow pages.
    pub fn reference(&self, index: usize) -> Option<Reference> {
        match self.kind(index) {
            Kind::Inline => None,
            Kind::Overflow => self.value(index).try_into().ok(),
        }
    }

    /// Puts an entry before the one at `index`.
    pub fn insert(&mut self, index: usize, key: &[u8], value: &[u8]) {
        self.insert_stored(index, key, Stored::Inline(value));
    }

    /// As [`Entries::insert`], for a value that may be stored elsewhere.
    pub fn insert_stored(&mut self, index: usize, key: &[u8], value: Stored<'_>) {
        let spans = (self.keep(key), self.keep(value.bytes()));
        self.spans.insert(index, spans);
        self.kinds.insert(index, value.kind());
    }

    /// Replaces the value at `index`.
    pub fn replace(&mut self, index: usize, value: &[u8]) {
        self.replace_stored(index, Stored::Inline(value));
    }

    /// As [`Entries::replace`], for a value that may be stored elsewhere.
    pub fn replace_stored(&mut self, index: usize, value: Stored<'_>) {
        let span = self.keep(value.bytes());
        self.spans[index].1 = span;
        self.kinds[index] = value.kind();
    }

    /// Removes the entry at `index`.
    pub fn remove(&mut self, index: usize) {
        self.spans.remove(index);
        self.kinds.remove(index);
    }

    /// Distributes the entries over pages, as [`partition`](fn@crate::partition) does, and says in
    /// each slot how its value is stored. Without the latter, references would become values: pages
    /// are built from entries by this method.
    pub fn partition(&self, spec: &PageSpec<'_>, policy: Policy) -> Vec<Part> {
        let mut parts = partition(spec, &self.slices(), policy);
        self.mark(parts.iter_mut().map(|part| &mut part.image));
        parts
    }

    /// One page with all entries, as [`build`](fn@crate::build) makes it and with the kinds as in
    /// [`Entries::partition`]; `None` if they do not fit.
    pub fn build(&self, spec: &PageSpec<'_>) -> Option<Image> {
        let mut image = build(spec, &self.slices())?;
        self.mark(std::iter::once(&mut image));
        Some(image)
    }

    /// Says in the slots of pages, which have all entries in order, how values are stored.
    fn mark<'i>(&self, images: impl Iterator<Item = &'i mut Image>) {
        if self.kinds.iter().all(|kind| *kind == Kind::Inline) {
            return;
        }
        let mut kinds = self.kinds.iter();
        for image in images {
            let page = image.edit();
            for slot in page.live_slots() {
                page.set_kind(slot, *kinds.next().expect("the pages have all entries, in order"));
            }
        }
    }

    /// All entries as [`build`](fn@crate::build) and [`partition`](fn@crate::partition) take them,
    /// which does not tell how their values are stored.
    pub fn slices(&self) -> Vec<(&[u8], &[u8])> {
        let slice = |span: &Range<usize>| &self.bytes[span.clone()];
        self.spans.iter().map(|(key, value)| (slice(key), slice(value))).collect()
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}
