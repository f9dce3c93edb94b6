//! Ranges as iterators.

use futures::TryStreamExt;

use super::wait;
use crate::error::Error;
use crate::range::Chunk;
use crate::value::{KeyBytes, ValueBytes};

/// The pairs in a range, in order: an iterator, and [`Range::next_chunk`] for who wants many at a
/// time. Blocks where it comes to pages that are not in memory; it reads ahead as [`crate::Range`]
/// does, and sees what that one sees. After an error it ends.
#[must_use = "iterators do nothing unless consumed"]
pub struct Range {
    range: crate::Range,
}

impl Range {
    pub(super) fn new(range: crate::Range) -> Self {
        Self { range }
    }

    /// The same range from its other end, in descending order; what was returned so far is forgotten.
    pub fn rev(self) -> Self {
        Self::new(self.range.rev())
    }

    /// The pairs of the next leaf that has any; `None` at the end: the quick way through a range, as
    /// [`crate::Range::next_chunk`].
    ///
    /// # Errors
    /// As [`crate::Tree::get`]. Called again it goes on from the same place.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>, Error> {
        wait(self.range.next_chunk())
    }
}

impl Iterator for Range {
    type Item = Result<(KeyBytes, ValueBytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        wait(self.range.try_next()).transpose()
    }
}
