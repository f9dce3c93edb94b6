//! The bytes of a file, sparse and cheap to copy, and the ranges of it that own space.
//!
//! Bytes are kept in chunks of 4 KiB behind an `Arc`: a snapshot shares all of them, and a write
//! copies only the chunks it touches. A chunk that is not there is all zeros, so that zero-filled
//! files cost nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;

const CHUNK: usize = 4096;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// The bytes of a file; its length is kept by whoever owns it.
#[derive(Clone, Default)]
pub(super) struct Content {
    chunks: BTreeMap<u64, Arc<[u8; CHUNK]>>,
}

impl Content {
    /// Fills `out` with the bytes from `offset` on.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) {
        for (chunk, inside, at) in pieces(offset, out.len()) {
            match self.chunks.get(&chunk) {
                Some(bytes) => out[at].copy_from_slice(&bytes[inside]),
                None => out[at].fill(0),
            }
        }
    }

    /// Replaces the bytes from `offset` on.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (chunk, inside, at) in pieces(offset, bytes.len()) {
            let piece = &bytes[at];
            match self.chunks.entry(chunk) {
                Entry::Occupied(mut there) => {
                    Arc::make_mut(there.get_mut())[inside].copy_from_slice(piece);
                }
                Entry::Vacant(_) if *piece == ZEROS[..piece.len()] => {}
                Entry::Vacant(gap) => {
                    let mut fresh = ZEROS;
                    fresh[inside].copy_from_slice(piece);
                    gap.insert(Arc::new(fresh));
                }
            }
        }
    }

    /// Zeroes everything from `len` on.
    pub(super) fn cut(&mut self, len: u64) {
        let (chunk, inside) = (len / CHUNK as u64, (len % CHUNK as u64) as usize);
        if inside == 0 {
            self.chunks.split_off(&chunk);
        } else {
            self.chunks.split_off(&(chunk + 1));
            if let Some(last) = self.chunks.get_mut(&chunk) {
                Arc::make_mut(last)[inside..].fill(0);
            }
        }
    }

    /// The chunks that are not all zeros: number and bytes, in order.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, &[u8; CHUNK])> {
        self.chunks
            .iter()
            .filter(|(_, bytes)| ***bytes != ZEROS)
            .map(|(number, bytes)| (*number, &**bytes))
    }
}

/// Cuts `len` bytes at `offset` along the chunks: chunk, range inside it, range of the whole.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let position = offset + done as u64;
        let start = (position % CHUNK as u64) as usize;
        let size = (CHUNK - start).min(len - done);
        done += size;
        Some((position / CHUNK as u64, start..start + size, done - size..done))
    })
}

/// A set of byte ranges: the parts of a file that own space on the device.
#[derive(Clone, Default)]
pub(super) struct Ranges {
    // Start to end; ranges neither overlap nor touch.
    ends: BTreeMap<u64, u64>,
}

impl Ranges {
    /// How many bytes of `range` are not in the set.
    pub(super) fn missing(&self, range: Range<u64>) -> u64 {
        let len = range.end.saturating_sub(range.start);
        let covered: u64 = self
            .ends
            .range(..range.end)
            .rev()
            .take_while(|(_, end)| **end > range.start)
            .map(|(start, end)| (*end).min(range.end) - (*start).max(range.start))
            .sum();
        len - covered
    }

    /// Adds `range`.
    pub(super) fn add(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        if start >= end {
            return;
        }
        while let Some((&other_start, &other_end)) = self.ends.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            self.ends.remove(&other_start);
            (start, end) = (start.min(other_start), end.max(other_end));
        }
        self.ends.insert(start, end);
    }

    /// Adds all of another set.
    pub(super) fn add_all(&mut self, other: &Self) {
        other.ends.iter().for_each(|(start, end)| self.add(*start..*end));
    }

    /// Removes everything from `len` on.
    pub(super) fn cut(&mut self, len: u64) {
        self.ends.split_off(&len);
        if let Some(mut last) = self.ends.last_entry() {
            let end = (*last.get()).min(len);
            last.insert(end);
        }
    }

    /// Bytes in the set.
    pub(super) fn total(&self) -> u64 {
        self.ends.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_a_sparse_array_of_bytes() {
        let (mut content, mut model) = (Content::default(), vec![0u8; 20_000]);
        let mut rng = super::super::rng::Rng::new(3);
        for round in 0..500u64 {
            let offset = rng.below(15_000);
            let len = rng.below(5_000);
            if round % 50 == 49 {
                content.cut(offset as u64);
                model[offset..].fill(0);
            } else {
                let bytes = vec![(round % 7) as u8; len];
                content.write(offset as u64, &bytes);
                model[offset..offset + len].copy_from_slice(&bytes);
            }
            let mut all = vec![1; model.len()];
            content.read(0, &mut all);
            assert_eq!(all, model, "round {round}");
        }
    }

    #[test]
    fn zeros_take_no_memory() {
        let mut content = Content::default();
        content.write(0, &vec![0; 1 << 20]);
        assert_eq!(content.chunks.len(), 0);
    }

    #[test]
    fn ranges_join_and_are_cut() {
        let mut ranges = Ranges::default();
        let mut model = [false; 100];
        let mut rng = super::super::rng::Rng::new(5);
        for _ in 0..2_000 {
            let (start, len) = (rng.below(90), rng.below(11));
            let fresh = model[start..start + len].iter().filter(|there| !**there).count();
            assert_eq!(ranges.missing(start as u64..(start + len) as u64), fresh as u64);
            if rng.chance(1, 5) {
                ranges.cut(start as u64);
                model[start..].fill(false);
            } else {
                ranges.add(start as u64..(start + len) as u64);
                model[start..start + len].fill(true);
            }
            assert_eq!(ranges.total(), model.iter().filter(|there| **there).count() as u64);
        }
    }
}
