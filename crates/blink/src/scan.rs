//! Scans: one leaf's worth of pairs at a time, copied, with nothing held between two steps.
//!
//! A chunk ends at a fence, and the next one begins there, by a descent of its own. So whatever
//! splits or merges happen in between, a key that was there all along is neither skipped nor
//! returned twice: fences are positions in the order of keys, not in pages. Forward, the descent
//! begins at the right link, which is nearly always its end, too.

use treering_pagefile::PageId;

use crate::ahead::ReadAhead;
use crate::descend::{Target, Way};
use crate::forest::{Forest, Step, TreeError, TreeRef};
use crate::layout::{KIND_FILLER, KIND_OVERFLOW, slot_kind};
use crate::page::{Page, Record};
use crate::stored::Kind;
use crate::words::{Words, bytes_of, copy_page};

/// Where a scan goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// Forward: at the least key that is not below this one. Backward: at the greatest not above.
    At(Vec<u8>),
    /// Forward: at the least key above this one. Backward: at the greatest below.
    Past(Vec<u8>),
    /// At the end where scans of this direction begin.
    End,
}

impl From {
    /// An empty vector, of the one that it has.
    fn into_buffer(self) -> Vec<u8> {
        match self {
            From::At(mut key) | From::Past(mut key) => {
                key.clear();
                key
            }
            From::End => Vec::new(),
        }
    }
}

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// In ascending order of keys.
    Forward,
    /// In descending order of keys.
    Backward,
}

/// Pairs that were in one leaf at one moment, in the order of the scan.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// The leaf as it was: copied optimistically first, and taken apart when the copy is known to be
    /// of one moment. (A torn page could name the same bytes again and again.) Values stay in it.
    leaf: Vec<u64>,
    /// The keys, one behind the other: a leaf has them without their prefix.
    keys: Vec<u8>,
    pairs: Vec<Pair>,
    /// The pairs, rising, whose value is a reference.
    overflow: Vec<usize>,
    /// Values that the leaf does not have ([`Chunk::correct`]).
    others: Vec<u8>,
}

/// Where a key ends in `keys`, and where its value is: in the leaf, or beyond its end in `others`.
#[derive(Clone, Copy, Debug)]
struct Pair {
    key_end: usize,
    value_at: usize,
    value_len: usize,
}

impl Chunk {
    /// How many pairs it has.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Pair `index`: key and value.
    #[inline]
    pub fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let pair = self.pairs.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.pairs[before].key_end);
        let key = &self.keys[start..pair.key_end];
        let leaf = bytes_of(&self.leaf);
        let value = match pair.value_at.checked_sub(leaf.len()) {
            None => &leaf[pair.value_at..],
            Some(at) => &self.others[at..],
        };
        Some((key, &value[..pair.value_len]))
    }

    /// How the value of pair `index` is stored: what [`Chunk::get`] gives is the value itself or a
    /// [`Reference`](crate::Reference) to it.
    pub fn kind(&self, index: usize) -> Kind {
        match self.overflow.binary_search(&index) {
            Ok(_) => Kind::Overflow,
            Err(_) => Kind::Inline,
        }
    }

    /// The first pair from `index` on whose value is a reference.
    pub fn next_overflow(&self, index: usize) -> Option<usize> {
        let next = self.overflow.partition_point(|pair| *pair < index);
        self.overflow.get(next).copied().filter(|pair| *pair < self.len())
    }

    /// All pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Keeps the first `len` pairs.
    pub fn truncate(&mut self, len: usize) {
        self.pairs.truncate(len);
    }

    /// Keeps the pairs before the first whose key is not `inside`: as are all that follow it.
    pub fn truncate_at(&mut self, inside: impl Fn(&[u8]) -> bool) {
        let is_inside = |index| self.get(index).is_some_and(|(key, _)| inside(key));
        if self.len().checked_sub(1).is_none_or(is_inside) {
            return;
        }
        let (mut low, mut high) = (0, self.len() - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match is_inside(middle) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        self.truncate(low);
    }

    /// Makes the pairs say what is known better than the pages: takes out those whose keys are
    /// `known`, and puts in `pairs`, in ascending order of keys. For a scan in this direction.
    pub fn correct(
        &mut self,
        direction: Direction,
        known: impl Fn(&[u8]) -> bool,
        pairs: &[(&[u8], &[u8])],
    ) {
        let mut corrected = Self::default();
        let mut pairs = pairs.iter().peekable();
        let mut reversed = pairs.clone().rev().peekable();
        for index in 0..self.len() {
            let Some((key, value)) = self.get(index) else { continue };
            let comes_first = |pair: &&(&[u8], &[u8])| match direction {
                Direction::Forward => pair.0 < key,
                Direction::Backward => pair.0 > key,
            };
            let next = || match direction {
                Direction::Forward => pairs.next_if(|pair| comes_first(pair)),
                Direction::Backward => reversed.next_if(|pair| comes_first(pair)),
            };
            std::iter::from_fn(next).for_each(|pair| corrected.push(pair.0, pair.1, Kind::Inline));
            if !known(key) {
                corrected.push(key, value, self.kind(index));
            }
        }
        match direction {
            Direction::Forward => pairs.for_each(|p| corrected.push(p.0, p.1, Kind::Inline)),
            Direction::Backward => reversed.for_each(|p| corrected.push(p.0, p.1, Kind::Inline)),
        }
        // Nothing in it is referred to any more.
        self.leaf.clear();
        corrected.leaf = std::mem::take(&mut self.leaf);
        *self = corrected;
    }

    fn push(&mut self, key: &[u8], value: &[u8], kind: Kind) {
        if kind == Kind::Overflow {
            self.overflow.push(self.pairs.len());
        }
        self.keys.extend_from_slice(key);
        let value_at = self.leaf.len() * 8 + self.others.len();
        self.others.extend_from_slice(value);
        self.pairs.push(Pair { key_end: self.keys.len(), value_at, value_len: value.len() });
    }

    /// Bytes of memory that it has, used or not.
    pub fn memory(&self) -> usize {
        let words = self.leaf.capacity() + self.overflow.capacity();
        let pairs = self.pairs.capacity() * size_of::<Pair>();
        words * 8 + pairs + self.keys.capacity() + self.others.capacity()
    }

    /// Takes all pairs out; the memory stays.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.pairs.clear();
        self.overflow.clear();
        self.others.clear();
    }

    /// Takes the pairs of `slots` out of the leaf's copy.
    fn take(&mut self, slots: impl Iterator<Item = usize>) {
        let Self { leaf, keys, pairs, overflow, .. } = self;
        let (leaf, bytes) = (Page::new(leaf.as_slice()), bytes_of(leaf));
        let prefix = leaf.prefix_span();
        let prefix = &bytes[prefix.start..prefix.end];
        for slot in slots {
            match slot_kind(leaf.slot(slot)) {
                KIND_FILLER => continue,
                KIND_OVERFLOW => overflow.push(pairs.len()),
                _ => {}
            }
            let Record { suffix_at, value_at, lengths, .. } = leaf.record(slot);
            keys.extend_from_slice(prefix);
            keys.extend_from_slice(&bytes[suffix_at..suffix_at + lengths.suffix]);
            pairs.push(Pair { key_end: keys.len(), value_at, value_len: lengths.value });
        }
    }

    /// Takes the pairs from `from` on; where the scan goes on.
    fn fill_forward(&mut self, from: From) -> Option<From> {
        let leaf = Page::new(self.leaf.as_slice());
        let slots = forward_start(&leaf, &from)..leaf.len();
        let mut high = from.into_buffer();
        let next = leaf.high_into(&mut high).then_some(From::At(high));
        self.take(slots);
        next
    }

    fn fill_backward(&mut self, from: From) -> Option<From> {
        let leaf = Page::new(self.leaf.as_slice());
        let slots = 0..backward_end(&leaf, &from);
        let mut low = from.into_buffer();
        leaf.low_into(&mut low);
        self.take(slots.rev());
        (!low.is_empty()).then_some(From::Past(low))
    }

    /// The leaf on the right of the one that was copied.
    fn right(&self) -> Option<PageId> {
        Page::new(self.leaf.as_slice()).right()
    }
}

/// The first slot of a leaf that a forward scan from `from` returns.
pub(crate) fn forward_start<W: Words>(leaf: &Page<W>, from: &From) -> usize {
    match from {
        From::At(key) => leaf.find(key).unwrap_or_else(|insertion| insertion),
        From::Past(key) => leaf.find(key).map_or_else(|insertion| insertion, |slot| slot + 1),
        From::End => 0,
    }
}

/// The slot behind the first one that a backward scan from `from` returns.
pub(crate) fn backward_end<W: Words>(leaf: &Page<W>, from: &From) -> usize {
    match from {
        From::At(key) => leaf.find(key).map_or_else(|insertion| insertion, |slot| slot + 1),
        From::Past(key) => leaf.find(key).unwrap_or_else(|insertion| insertion),
        From::End => leaf.len(),
    }
}

/// A scan: where it goes on, and how far ahead of it leaves have been asked for.
#[derive(Clone, Debug)]
pub struct Scan {
    tree: TreeRef,
    direction: Direction,
    /// `None`: nowhere.
    next: Option<From>,
    /// Where the last look for the next leaf ended.
    way: Way,
    ahead: ReadAhead,
}

impl Scan {
    /// A scan that begins at `from`.
    pub fn new(tree: TreeRef, direction: Direction, from: From) -> Self {
        let way = Way::default();
        Self { tree, direction, next: Some(from), way, ahead: ReadAhead::until(None) }
    }

    /// Says that nothing will be wanted beyond `key`, for the read-ahead. Call it first.
    pub fn until(mut self, key: Vec<u8>) -> Self {
        self.ahead = ReadAhead::until(Some(key));
        self
    }

    /// The tree, and the direction.
    pub fn way(&self) -> (TreeRef, Direction) {
        (self.tree, self.direction)
    }

    /// Where it goes on; `None`: nowhere, everything has been returned.
    pub fn next(&self) -> Option<&From> {
        self.next.as_ref()
    }

    /// Ends it.
    pub fn end(&mut self) {
        self.next = None;
    }
}

impl Forest {
    /// Fills `chunk` with the pairs of the leaf where the scan stands, and moves the scan on. The
    /// chunk may be empty although the scan goes on.
    ///
    /// # Errors
    /// When the tree is damaged.
    pub fn scan(&self, scan: &mut Scan, chunk: &mut Chunk) -> Result<Step<()>, TreeError> {
        chunk.clear();
        let Scan { tree, direction, next, way, ahead } = scan;
        let Some(from) = &next else { return Ok(Step::Done(())) };
        if *direction == Direction::Backward && matches!(from, From::Past(key) if key.is_empty()) {
            *next = None;
            return Ok(Step::Done(()));
        }
        let beside = way.page().is_some_and(|page| self.pool().is_resident(page));
        if !(beside && ahead.is_idle()) {
            self.read_ahead(*tree, *direction, from, ahead);
        }
        chunk.leaf.resize(self.pool().page_size() / 8, 0);
        let step = self.descend(*tree, 0, target(*direction, from), way, |leaf| {
            copy_page(leaf.words(), &mut chunk.leaf);
        })?;
        Ok(match step {
            Step::Done(_) => {
                let from = next.take().expect("it was there");
                (*next, *way) = match direction {
                    // What is on the right now was so when the leaf was copied, and if that is no
                    // more so, the fences there show it.
                    Direction::Forward => (chunk.fill_forward(from), Way::to(chunk.right(), 0)),
                    Direction::Backward => (chunk.fill_backward(from), Way::default()),
                };
                ahead.advance();
                Step::Done(())
            }
            Step::Fetch(pages) => {
                self.read_ahead_missed(&pages, ahead);
                Step::Fetch(pages)
            }
        })
    }
}

pub(crate) fn target(direction: Direction, from: &From) -> Target<'_> {
    match (direction, from) {
        (Direction::Forward, From::At(key) | From::Past(key))
        | (Direction::Backward, From::At(key)) => Target::At(key),
        (Direction::Forward, From::End) => Target::At(b""),
        (Direction::Backward, From::Past(key)) => Target::Below(key),
        (Direction::Backward, From::End) => Target::Last,
    }
}
