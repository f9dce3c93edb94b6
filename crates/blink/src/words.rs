//! Page memory as 64-bit words, and the byte operations of pages on top of them.
//!
//! Pages are read *optimistically*: while one thread reads, another may write, and the reader finds
//! out afterwards, from the version of the page's latch, that what it read was a mixture. To make
//! that sound, shared page memory is `[AtomicU64]`, every access is one relaxed load or store of a
//! whole word, and never of another size. What follows from it for all code that reads a page:
//!
//! * it is written over [`Words`], so that shared memory and private copies take the same path;
//! * it must come to an end, without a panic, on **any** bytes: a word out of range reads as 0, and
//!   lengths and counts are clamped to the page before they are used.
//!
//! Page memory is the kernel's as well, so its atomics are `std`'s in every build; each access is a
//! [`step`], at which a run under a scheduler of its own may switch to another thread.
//!
//! Byte `n` of a page is bits `8 * (n % 8)..` of word `n / 8`: the words are little-endian.

use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use treering_latch::sync::step;

/// The words of a page, to be read.
pub trait Words: Copy {
    /// How many words there are: the page size in bytes over 8.
    fn len(self) -> usize;

    /// Word `index`; 0 when there is no such word.
    fn word(self, index: usize) -> u64;

    /// Whether there is no word at all.
    fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Copies the first `out.len()` words to `out`; what is not there becomes 0.
    fn copy_to(self, out: &mut [u64]) {
        for (index, word) in out.iter_mut().enumerate() {
            *word = self.word(index);
        }
    }
}

/// The words of a page, to be changed by whoever holds its exclusive latch or owns the memory.
pub trait WordsMut: Words {
    /// Sets word `index`; does nothing when there is no such word.
    fn set_word(self, index: usize, value: u64);

    /// Sets the words from `index` on to those of `from`, as far as there are any.
    fn set_words(self, index: usize, from: &[u64]) {
        for (index, word) in (index..).zip(from) {
            self.set_word(index, *word);
        }
    }
}

impl Words for &[AtomicU64] {
    #[inline]
    fn len(self) -> usize {
        <[AtomicU64]>::len(self)
    }

    #[inline]
    fn word(self, index: usize) -> u64 {
        step();
        self.get(index).map_or(0, |word| word.load(Relaxed))
    }

    fn copy_to(self, out: &mut [u64]) {
        let there = out.len().min(Words::len(self));
        for (to, from) in out.iter_mut().zip(self) {
            step();
            *to = from.load(Relaxed);
        }
        out[there..].fill(0);
    }
}

impl WordsMut for &[AtomicU64] {
    #[inline]
    fn set_word(self, index: usize, value: u64) {
        if let Some(word) = self.get(index) {
            step();
            word.store(value, Relaxed);
        }
    }

    fn set_words(self, index: usize, from: &[u64]) {
        for (to, from) in self.iter().skip(index).zip(from) {
            step();
            to.store(*from, Relaxed);
        }
    }
}

impl Words for &[Cell<u64>] {
    #[inline]
    fn len(self) -> usize {
        <[Cell<u64>]>::len(self)
    }

    #[inline]
    fn word(self, index: usize) -> u64 {
        self.get(index).map_or(0, Cell::get)
    }
}

impl WordsMut for &[Cell<u64>] {
    #[inline]
    fn set_word(self, index: usize, value: u64) {
        if let Some(word) = self.get(index) {
            word.set(value);
        }
    }
}

impl Words for &[u64] {
    #[inline]
    fn len(self) -> usize {
        <[u64]>::len(self)
    }

    #[inline]
    fn word(self, index: usize) -> u64 {
        self.get(index).copied().unwrap_or(0)
    }

    fn copy_to(self, out: &mut [u64]) {
        let there = out.len().min(Words::len(self));
        out[..there].copy_from_slice(&self[..there]);
        out[there..].fill(0);
    }
}

// The kernel reads and writes the words as bytes.
const _: () = assert!(cfg!(target_endian = "little"), "pages are little-endian");

/// The bytes of a private copy.
#[inline]
pub(crate) fn bytes_of(words: &[u64]) -> &[u8] {
    bytemuck::cast_slice(words)
}

/// Copies a page, word by word, into `out`: the way to take a private copy that is then validated.
pub fn copy_page<W: Words>(words: W, out: &mut [u64]) {
    words.copy_to(out);
}

/// The eight bytes from byte `at` on; bytes past the end are 0.
#[inline]
pub(crate) fn load<W: Words>(words: W, at: usize) -> u64 {
    join(words.word(at / 8), words.word(at / 8 + 1), at)
}

/// The eight bytes that begin at byte `at % 8` of the first of two neighbouring words.
#[inline]
fn join(first: u64, second: u64, at: usize) -> u64 {
    let shift = (at % 8 * 8) as u32;
    // In two steps, since a shift by 64 is none.
    first >> shift | (second << 1) << (63 - shift)
}

/// Compares `len` bytes of the page from `at` on with `other`.
#[inline]
pub(crate) fn compare<W: Words>(words: W, at: usize, len: usize, other: &[u8]) -> Ordering {
    let (chunks, rest) = other[..len.min(other.len())].as_chunks::<8>();
    let mut at = at;
    for chunk in chunks {
        let (ours, theirs) = (load(words, at), u64::from_le_bytes(*chunk));
        if ours != theirs {
            return ours.swap_bytes().cmp(&theirs.swap_bytes());
        }
        at += 8;
    }
    if !rest.is_empty() {
        let ours = load(words, at) & low_bytes(rest.len());
        let theirs = short_word(rest);
        if ours != theirs {
            return ours.swap_bytes().cmp(&theirs.swap_bytes());
        }
    }
    len.cmp(&other.len())
}

/// Appends `len` bytes of the page from `at` on to `out`.
#[inline]
pub(crate) fn append<W: Words>(words: W, at: usize, len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + len, 0);
    let (chunks, rest) = out[start..].as_chunks_mut::<8>();
    let mut index = at / 8;
    let mut current = words.word(index);
    for chunk in chunks {
        index += 1;
        let next = words.word(index);
        *chunk = join(current, next, at).to_le_bytes();
        current = next;
    }
    if !rest.is_empty() {
        let bytes = join(current, words.word(index + 1), at).to_le_bytes();
        rest.copy_from_slice(&bytes[..rest.len()]);
    }
}

/// Writes `bytes` to the page from byte `at` on.
#[inline]
pub(crate) fn store<W: WordsMut>(words: W, at: usize, bytes: &[u8]) {
    let (first, bytes) = bytes.split_at(bytes.len().min(at.wrapping_neg() % 8));
    splice(words, at, first);
    let mut at = at + first.len();
    let (chunks, last) = bytes.as_chunks::<8>();
    for chunk in chunks {
        words.set_word(at / 8, u64::from_le_bytes(*chunk));
        at += 8;
    }
    splice(words, at, last);
}

/// Writes fewer than eight bytes that lie within one word.
#[inline]
fn splice<W: WordsMut>(words: W, at: usize, bytes: &[u8]) {
    if !bytes.is_empty() {
        let shift = at % 8 * 8;
        let kept = words.word(at / 8) & !(low_bytes(bytes.len()) << shift);
        words.set_word(at / 8, kept | short_word(bytes) << shift);
    }
}

/// A mask of the first `len` bytes of a word, `len` below 8.
#[inline]
fn low_bytes(len: usize) -> u64 {
    (1 << (len * 8)) - 1
}

/// Fewer than eight bytes as the first bytes of a word, in two or three loads instead of a loop.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let shift = (bytes.len() - 4) * 8;
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << shift
    } else if let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) {
        let middle = bytes.len() / 2;
        u64::from(first)
            | u64::from(bytes[middle]) << (middle * 8)
            | u64::from(last) << ((bytes.len() - 1) * 8)
    } else {
        0
    }
}

/// The first eight bytes of a key as a number, zeros behind a shorter one: of two keys with different heads,
/// the lesser has the lesser head. Who sorts many keys has it beside each, and seldom looks at the keys
/// themselves, which lie anywhere in memory.
#[inline]
pub fn key_head(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(bytes)
        }
    }
}

/// The length of the longest common prefix of two byte strings.
#[inline]
pub(crate) fn common_prefix_len(a: &[u8], b: &[u8]) -> usize {
    let (a_chunks, _) = a.as_chunks::<8>();
    let (b_chunks, _) = b.as_chunks::<8>();
    let equal = a_chunks.iter().zip(b_chunks).take_while(|(a, b)| a == b).count() * 8;
    equal + a[equal..].iter().zip(&b[equal..]).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every alignment and every length, against plain slices of bytes.
    #[test]
    fn byte_operations_agree_with_slices() {
        let count: u64 = if cfg!(miri) { 3 } else { 8 };
        let words: Vec<u64> = (0..count).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let bytes = bytes_of(&words);
        for at in 0..=bytes.len() {
            for len in 0..=bytes.len() - at {
                let slice = &bytes[at..at + len];
                let mut out = b"kept".to_vec();
                append(&words[..], at, len, &mut out);
                assert_eq!((&out[..4], &out[4..]), (&b"kept"[..], slice));

                assert_eq!(compare(&words[..], at, len, slice), Ordering::Equal);
                for changed in 0..len {
                    let mut other = slice.to_vec();
                    other[changed] ^= 0x80;
                    assert_eq!(compare(&words[..], at, len, &other), slice.cmp(&other[..]));
                    assert_eq!(common_prefix_len(slice, &other), changed);
                }
                let longer = [slice, &[0]].concat();
                assert_eq!(compare(&words[..], at, len, &longer), Ordering::Less);
                if len > 0 {
                    let shorter = &slice[..len - 1];
                    assert_eq!(compare(&words[..], at, len, shorter), Ordering::Greater);
                }

                let mut target = vec![u64::MAX; words.len()];
                store(Cell::from_mut(&mut target[..]).as_slice_of_cells(), at, slice);
                let mut expected = vec![0xff; bytes.len()];
                expected[at..at + len].copy_from_slice(slice);
                assert_eq!(bytes_of(&target), expected);
            }
        }
    }

    #[test]
    fn runs_of_words_are_set_up_to_the_end_of_the_page() {
        let shared: Vec<AtomicU64> = (1..=4).map(AtomicU64::new).collect();
        (&shared[..]).set_words(1, &[7, 8]);
        (&shared[..]).set_words(3, &[9, 10]);
        let mut copy = [0; 4];
        copy_page(&shared[..], &mut copy);
        assert_eq!(copy, [1, 7, 8, 9]);
        let mut owned = [1, 2, 3, 4];
        let cells = Cell::from_mut(&mut owned[..]).as_slice_of_cells();
        cells.set_words(1, &[7, 8]);
        cells.set_words(3, &[9, 10]);
        assert_eq!(owned, copy);
    }

    #[test]
    fn words_out_of_range_are_zero_and_writes_there_do_nothing() {
        let shared: Vec<AtomicU64> = (1..=4).map(AtomicU64::new).collect();
        let shared = &shared[..];
        shared.set_word(4, 7);
        assert_eq!((shared.word(3), shared.word(4), shared.word(usize::MAX)), (4, 0, 0));
        let mut copy = [9; 6];
        copy_page(shared, &mut copy);
        assert_eq!(copy, [1, 2, 3, 4, 0, 0]);
        assert_eq!(load(shared, 31), 0);
        let mut out = Vec::new();
        append(shared, 24, 16, &mut out);
        assert_eq!(out, bytes_of(&[4, 0]));
    }
}
