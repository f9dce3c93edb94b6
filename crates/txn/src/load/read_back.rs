//! Reading what a load has built, in order: when it turns out that it cannot become the tree.

use treering_blink::{Entries, Page};
use treering_bufpool::{Read, ValueRef};
use treering_pagefile::{FileError, FileErrorKind, PageId};

use super::Load;
use crate::error::Error;
use crate::job::lost_value;

/// How far the reading has come.
#[derive(Clone, Copy, Debug)]
pub struct ReadBack {
    next: Option<PageId>,
}

/// One leaf of what was built.
#[derive(Debug)]
pub struct LoadedLeaf(Entries);

impl Load {
    /// Begins to read the keys that were added; after [`Load::build`].
    pub fn read_back(&self) -> ReadBack {
        ReadBack { next: self.first_leaf }
    }

    /// The next leaf; `None` at the end.
    ///
    /// # Errors
    /// A read that fails.
    pub async fn next_leaf(&self, at: &mut ReadBack) -> Result<Option<LoadedLeaf>, Error> {
        let Some(id) = at.next else { return Ok(None) };
        let pool = self.engine.pool();
        loop {
            self.engine.check()?;
            let look = |words: &[_]| (Entries::of(&Page::new(words)), Page::new(words).right());
            match pool.read_page(id, look) {
                Read::Done((entries, right)) => {
                    at.next = right;
                    return Ok(Some(LoadedLeaf(entries)));
                }
                Read::Absent => pool.fetch(id).await?,
                Read::Free => return Err(lost_page(id).into()),
            }
        }
    }

    /// The value at an index of a leaf, read from its own pages if it is a large one.
    ///
    /// # Errors
    /// A read that fails.
    pub async fn value(&self, leaf: &LoadedLeaf, index: usize) -> Result<Vec<u8>, Error> {
        let Some(reference) = leaf.0.reference(index) else {
            return Ok(leaf.0.value(index).to_vec());
        };
        let lost = || Error::from(lost_value(&reference));
        let value = ValueRef::from_bytes(&reference).ok_or_else(lost)?;
        let (pool, mut bytes) = (self.engine.pool(), Vec::new());
        if !pool.read_value(self.tree.id, value, 0..value.len, &mut bytes).await? {
            return Err(lost());
        }
        Ok(bytes)
    }
}

impl LoadedLeaf {
    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key at an index below [`LoadedLeaf::len`].
    pub fn key(&self, index: usize) -> &[u8] {
        self.0.key(index)
    }
}

/// A page leads to one that does not exist.
pub(super) fn lost_page(page: PageId) -> FileError {
    let what = format!("{page} is linked to and does not exist; run verify, restore a backup");
    FileError::new(FileErrorKind::Damaged, what)
}
