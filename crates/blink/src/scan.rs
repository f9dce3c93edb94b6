//! Scans: one leaf's worth of pairs at a time, copied, with nothing held between two steps.
//!
//! A chunk ends at a fence, and the next one begins there, by a descent of its own. So whatever
//! splits or merges happen in between, a key that was there all along is neither skipped nor
//! returned twice: fences are positions in the order of keys, not in pages.

use crate::ahead::ReadAhead;
use crate::descend::{Target, Way};
use crate::forest::{Forest, Step, TreeError, TreeRef};
use crate::page::Page;
use crate::stored::Kind;
use crate::words::{Words, copy_page};

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
    /// of one moment. (A torn page could name the same bytes again and again.)
    leaf: Vec<u64>,
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
    /// The pairs, rising, whose value is a reference.
    overflow: Vec<usize>,
}

impl Chunk {
    /// How many pairs it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Pair `index`: key and value.
    pub fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let &(key_end, end) = self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].1);
        Some((&self.bytes[start..key_end], &self.bytes[key_end..end]))
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
        self.ends.truncate(len);
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
        std::mem::swap(&mut self.leaf, &mut corrected.leaf);
        *self = corrected;
    }

    fn push(&mut self, key: &[u8], value: &[u8], kind: Kind) {
        if kind == Kind::Overflow {
            self.overflow.push(self.ends.len());
        }
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.overflow.clear();
    }

    /// Takes the pairs of `slots` out of the leaf's copy.
    fn take(&mut self, slots: impl Iterator<Item = usize>) {
        let leaf = Page::new(self.leaf.as_slice());
        for slot in slots.filter(|&slot| !leaf.is_filler(slot)) {
            leaf.key_into(slot, &mut self.bytes);
            let key_end = self.bytes.len();
            leaf.value_into(slot, &mut self.bytes);
            if leaf.kind(slot) == Kind::Overflow {
                self.overflow.push(self.ends.len());
            }
            self.ends.push((key_end, self.bytes.len()));
        }
    }

    fn fill_forward(&mut self, from: &From) -> Option<From> {
        let leaf = Page::new(self.leaf.as_slice());
        let first = forward_start(&leaf, from);
        let mut high = Vec::new();
        let next = leaf.high_into(&mut high).then_some(From::At(high));
        let end = leaf.len();
        self.take(first..end);
        next
    }

    fn fill_backward(&mut self, from: &From) -> Option<From> {
        let leaf = Page::new(self.leaf.as_slice());
        let end = backward_end(&leaf, from);
        let mut low = Vec::new();
        leaf.low_into(&mut low);
        self.take((0..end).rev());
        (!low.is_empty()).then_some(From::Past(low))
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
        self.read_ahead(*tree, *direction, from, ahead);
        chunk.leaf.resize(self.pool().page_size() / 8, 0);
        let step = self.descend(*tree, 0, target(*direction, from), way, |leaf| {
            copy_page(leaf.words(), &mut chunk.leaf);
        })?;
        Ok(match step {
            Step::Done(_) => {
                *next = match direction {
                    Direction::Forward => chunk.fill_forward(from),
                    Direction::Backward => chunk.fill_backward(from),
                };
                *way = Way::default();
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
