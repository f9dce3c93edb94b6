//! The nearest entry in a direction: what a cursor steps by.
//!
//! A cursor knows nothing but a key. Each step looks for the nearest entry past that key as the tree
//! is then, so it does not matter what became of the key, of its page, or of any page, since the step
//! before. Only that one entry is copied.
//!
//! A leaf that has no entry in that direction leads on by its fence, as in a scan: the search goes on
//! from there, and a key that is there all along is never passed over. Between two looks nothing is
//! held (I1).
//!
//! A step usually ends in the leaf where the last one did. So a search may begin with that leaf as a
//! hint, which is followed only if one look shows that the key still belongs there: a leaf that was
//! split again and again since then is not walked away from link by link.

use treering_bufpool::Read;
use treering_pagefile::PageId;

use crate::descend::{Target, Way};
use crate::forest::{Forest, Step, TreeError, TreeRef};
use crate::page::Page;
use crate::scan::{Direction, From, backward_end, forward_start, target};
use crate::stored::Kind;

/// A search for the nearest entry, and, when it has ended, the entry.
#[derive(Debug)]
pub struct Nearest {
    tree: TreeRef,
    direction: Direction,
    from: From,
    way: Way,
    /// The way is where an earlier search ended.
    hint: bool,
    key: Vec<u8>,
    value: Vec<u8>,
    kind: Kind,
}

impl Nearest {
    /// Looks for nothing yet.
    pub fn new(tree: TreeRef) -> Self {
        Self {
            tree,
            direction: Direction::Forward,
            from: From::End,
            way: Way::default(),
            hint: false,
            key: Vec::new(),
            value: Vec::new(),
            kind: Kind::Inline,
        }
    }

    /// Looks from here in this direction next.
    pub fn aim(&mut self, direction: Direction, from: From) {
        self.direction = direction;
        self.from = from;
        self.way = Way::default();
        self.hint = false;
    }

    /// Looks next for what comes after the entry that `other` has found.
    pub fn aim_past(&mut self, direction: Direction, other: &Nearest) {
        let mut key = match std::mem::replace(&mut self.from, From::End) {
            From::At(key) | From::Past(key) => key,
            From::End => Vec::new(),
        };
        key.clear();
        key.extend_from_slice(&other.key);
        self.aim(direction, From::Past(key));
        self.way = other.way;
        self.hint = true;
    }

    /// The tree that it looks in.
    pub fn tree(&self) -> TreeRef {
        self.tree
    }

    /// The key that was found.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Its value, or the reference to it.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Which of the two it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it looks from, and in which direction. It goes on as the search does.
    pub fn aimed(&self) -> (Direction, &From) {
        (self.direction, &self.from)
    }

    /// The page where it found the entry, or where it ended.
    pub fn page(&self) -> Option<PageId> {
        self.way.page()
    }

    /// Says what the search has found.
    pub fn set_found(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.key = key;
        self.set_value(value);
    }

    /// Puts the value in the place of the reference to it.
    pub fn set_value(&mut self, value: Vec<u8>) {
        self.value = value;
        self.kind = Kind::Inline;
    }
}

/// What a leaf has of an entry that is looked for.
enum Look {
    Found,
    /// Nothing: go on past the fence, which is in the key's place.
    Fence,
    /// Nothing, and nothing comes after it.
    End,
}

impl Forest {
    /// Looks for the nearest entry and says whether there is one; what is to be fetched may be
    /// fetched without holding anything, and the search then goes on where it stopped.
    ///
    /// # Errors
    /// When the tree is damaged.
    pub fn nearest(&self, search: &mut Nearest) -> Result<Step<bool>, TreeError> {
        if std::mem::take(&mut search.hint) && !self.is_still_right(search) {
            search.way = Way::default();
        }
        loop {
            let Nearest { tree, direction, from, way, key, value, kind, .. } = search;
            if *direction == Direction::Backward
                && matches!(from, From::Past(key) if key.is_empty())
            {
                return Ok(Step::Done(false));
            }
            let step = self.descend(*tree, 0, target(*direction, from), way, |leaf| {
                key.clear();
                value.clear();
                let slot = match direction {
                    Direction::Forward => leaf.live_from(forward_start(leaf, from)),
                    // What stands just before a key may be a filler that leads to it again.
                    Direction::Backward => leaf.live_before(backward_end(leaf, from)),
                };
                if let Some(slot) = slot {
                    leaf.key_into(slot, key);
                    leaf.value_into(slot, value);
                    *kind = leaf.kind(slot);
                    return Look::Found;
                }
                let goes_on = match direction {
                    Direction::Forward => leaf.high_into(key),
                    Direction::Backward => {
                        leaf.low_into(key);
                        !key.is_empty()
                    }
                };
                if goes_on { Look::Fence } else { Look::End }
            })?;
            match step {
                Step::Fetch(pages) => return Ok(Step::Fetch(pages)),
                Step::Done((_, Look::Found)) => return Ok(Step::Done(true)),
                Step::Done((_, Look::End)) => return Ok(Step::Done(false)),
                Step::Done((_, Look::Fence)) => {
                    let fence = std::mem::take(key);
                    match direction {
                        // The way stays: the next leaf is one link to the right.
                        Direction::Forward => *from = From::At(fence),
                        Direction::Backward => {
                            *from = From::Past(fence);
                            *way = Way::default();
                        }
                    }
                }
            }
        }
    }

    /// Whether the page where an earlier search ended is the one to look at now.
    fn is_still_right(&self, search: &Nearest) -> bool {
        let Some(page) = search.way.page() else { return false };
        let target: Target<'_> = target(search.direction, &search.from);
        let look = self.pool().read_page(page, |words| {
            let view = Page::new(words);
            view.tree() == search.tree.id && view.is_leaf() && target.is_here(&view)
        });
        matches!(look, Read::Done(true))
    }
}
