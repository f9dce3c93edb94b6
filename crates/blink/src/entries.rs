//! The entries of a page taken out of it, to be changed and built into pages again: what a split
//! does between reading the full page and writing the new ones.

use std::ops::Range;

use crate::page::Page;
use crate::words::Words;

/// Sorted entries, keys whole, in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    bytes: Vec<u8>,
    spans: Vec<(Range<usize>, Range<usize>)>,
}

impl Entries {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// All entries of a page in order.
    pub fn of<W: Words>(page: &Page<W>) -> Self {
        let mut entries = Self::new();
        entries.bytes.reserve(page.page_size());
        entries.spans.reserve(page.len() + 1);
        for slot in page.live_slots() {
            let start = entries.bytes.len();
            page.key_into(slot, &mut entries.bytes);
            let middle = entries.bytes.len();
            page.value_into(slot, &mut entries.bytes);
            entries.spans.push((start..middle, middle..entries.bytes.len()));
        }
        entries
    }

    /// Adds the entries of `other` behind these.
    pub fn append(&mut self, other: &Self) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let moved = |span: &Range<usize>| span.start + start..span.end + start;
        self.spans.extend(other.spans.iter().map(|(key, value)| (moved(key), moved(value))));
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

    /// Puts an entry before the one at `index`.
    pub fn insert(&mut self, index: usize, key: &[u8], value: &[u8]) {
        let spans = (self.keep(key), self.keep(value));
        self.spans.insert(index, spans);
    }

    /// Replaces the value at `index`.
    pub fn replace(&mut self, index: usize, value: &[u8]) {
        let span = self.keep(value);
        self.spans[index].1 = span;
    }

    /// Removes the entry at `index`.
    pub fn remove(&mut self, index: usize) {
        self.spans.remove(index);
    }

    /// All entries as [`build`](fn@crate::build) and [`partition`](fn@crate::partition) take them.
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
