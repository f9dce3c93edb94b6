//! Scans: one leaf's worth of pairs at a time, copied, with nothing held between two steps.
//!
//! A chunk ends at a fence, and the next one begins there, by a descent of its own. So whatever
//! splits or merges happen in between, a key that was there all along is neither skipped nor
//! returned twice: fences are positions in the order of keys, not in pages.

use treering_pagefile::PageId;

use crate::descend::{Live, Target, Way};
use crate::forest::{Forest, Step, TreeError, TreeRef};
use crate::page::Page;
use crate::words::copy_page;

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
#[derive(Debug, Default)]
pub struct Chunk {
    /// The leaf as it was: copied optimistically first, and taken apart when the copy is known to be
    /// of one moment. (A torn page could name the same bytes again and again.)
    leaf: Vec<u64>,
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
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

    /// All pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Keeps the first `len` pairs.
    pub fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Takes the pairs of `slots` out of the leaf's copy.
    fn take(&mut self, slots: impl Iterator<Item = usize>) {
        let leaf = Page::new(self.leaf.as_slice());
        for slot in slots {
            leaf.key_into(slot, &mut self.bytes);
            let key_end = self.bytes.len();
            leaf.value_into(slot, &mut self.bytes);
            self.ends.push((key_end, self.bytes.len()));
        }
    }

    fn fill_forward(&mut self, from: &From) -> Option<From> {
        let leaf = Page::new(self.leaf.as_slice());
        let first = match from {
            From::At(key) => leaf.find(key).unwrap_or_else(|insertion| insertion),
            From::Past(key) => leaf.find(key).map_or_else(|insertion| insertion, |slot| slot + 1),
            From::End => 0,
        };
        let mut high = Vec::new();
        let next = leaf.high_into(&mut high).then_some(From::At(high));
        let end = leaf.len();
        self.take(first..end);
        next
    }

    fn fill_backward(&mut self, from: &From) -> Option<From> {
        let leaf = Page::new(self.leaf.as_slice());
        let end = match from {
            From::At(key) => leaf.find(key).map_or_else(|insertion| insertion, |slot| slot + 1),
            From::Past(key) => leaf.find(key).unwrap_or_else(|insertion| insertion),
            From::End => leaf.len(),
        };
        let mut low = Vec::new();
        leaf.low_into(&mut low);
        self.take((0..end).rev());
        (!low.is_empty()).then_some(From::Past(low))
    }
}

/// Leaves asked for ahead of a scan, at most.
const READ_AHEAD: usize = 16;

impl Forest {
    /// Fills `chunk` with the pairs of the leaf where the scan stands and says where it goes on;
    /// `None`: nowhere. The chunk may be empty although the scan goes on.
    ///
    /// With `read_ahead`, leaves that come next are asked for when this one is not in memory: a
    /// share of the pool at most. `way` is where the last look for this chunk ended.
    ///
    /// # Errors
    /// When the tree is damaged.
    pub fn scan(
        &self,
        tree: TreeRef,
        direction: Direction,
        from: &From,
        read_ahead: bool,
        way: &mut Way,
        chunk: &mut Chunk,
    ) -> Result<Step<Option<From>>, TreeError> {
        chunk.clear();
        if direction == Direction::Backward && matches!(from, From::Past(key) if key.is_empty()) {
            return Ok(Step::Done(None));
        }
        let target = target(direction, from);
        chunk.leaf.resize(self.pool().page_size() / 8, 0);
        let step = self.descend(tree, 0, target, way, |leaf| {
            copy_page(leaf.words(), &mut chunk.leaf);
        })?;
        Ok(match step {
            Step::Done(_) => Step::Done(match direction {
                Direction::Forward => chunk.fill_forward(from),
                Direction::Backward => chunk.fill_backward(from),
            }),
            Step::Fetch(pages) => {
                // Above a page that is not the root there are inner pages.
                if read_ahead && !pages.contains(&tree.root) {
                    self.read_ahead(tree, direction, target)?;
                }
                Step::Fetch(pages)
            }
        })
    }

    /// Asks for the leaves that come after the one of `target`, as far as their parent, which has to
    /// be in memory, knows them.
    fn read_ahead(
        &self,
        tree: TreeRef,
        direction: Direction,
        target: Target<'_>,
    ) -> Result<(), TreeError> {
        let most = READ_AHEAD.min(self.pool().frame_count() / 8);
        let step = self.descend(tree, 1, target, &mut Way::default(), |parent| {
            neighbours(parent, target.child_slot(parent), direction, most)
        });
        match step {
            Ok(Step::Done((_, ahead))) => self.pool().prefetch(&ahead),
            // The root has become a leaf.
            Ok(Step::Fetch(_)) | Err(TreeError::Shallow { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn target(direction: Direction, from: &From) -> Target<'_> {
    match (direction, from) {
        (Direction::Forward, From::At(key) | From::Past(key))
        | (Direction::Backward, From::At(key)) => Target::At(key),
        (Direction::Forward, From::End) => Target::At(b""),
        (Direction::Backward, From::Past(key)) => Target::Below(key),
        (Direction::Backward, From::End) => Target::Last,
    }
}

fn neighbours(page: &Live<'_>, slot: usize, direction: Direction, most: usize) -> Vec<PageId> {
    match direction {
        Direction::Forward => {
            let end = page.len().min(slot + 1 + most);
            (slot + 1..end).map(|slot| page.child(slot)).collect()
        }
        Direction::Backward => {
            let start = slot.saturating_sub(most);
            (start..slot).rev().map(|slot| page.child(slot)).collect()
        }
    }
}
