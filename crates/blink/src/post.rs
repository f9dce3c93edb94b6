//! Fence posting: the parent is told of a split.
//!
//! A split leaves the new page reachable by its left sibling's right link alone, and a flag on the
//! left page. Posting latches the left page and then the parent (I11: leaves up, left to right),
//! puts the separator into the parent, and clears the flag: one synchronous step in one epoch, so
//! that a checkpoint has both or neither. It is done by the splitter in the same poll when the
//! parent is in memory, and else by an engine task; who crosses a flagged link reports it, which is
//! also how splits are found whose posting a crash prevented.

use treering_bufpool::Read;
use treering_latch::planted_bug;
use treering_pagefile::{PageId, Room};

use crate::apply::{Edit, Edited, Rebuilt, Reserved, rebuild, record_room};
use crate::descend::{Live, Target, Way};
use crate::forest::{Blocked, Forest, Step, TreeError, TreeRef};
use crate::order::{latch_meant, pin};
use crate::page::{Page, Position};
use crate::stored::Stored;

/// Lets changes of structure into an epoch; the log does.
pub trait Epochs {
    /// Says, while it lives, that pages are being changed in the epoch.
    type Entered<'e>
    where
        Self: 'e;

    /// The epoch that a change would be in now.
    fn current(&self) -> u64;

    /// Enters `epoch` if it is still the current one.
    fn try_enter(&self, epoch: u64) -> Option<Self::Entered<'_>>;
}

enum Flagged {
    Yes { level: u8, right: PageId },
    No,
}

impl Forest {
    /// Posts each of `lefts`, and whatever splits that leads to further up. What cannot be done
    /// just now is reported, so that an engine task does it.
    pub fn post_now<E: Epochs>(
        &self,
        trees: impl Fn(u32) -> Option<TreeRef>,
        mut lefts: Vec<PageId>,
        epochs: &E,
    ) {
        while let Some(left) = lefts.pop() {
            match self.post(&trees, left, epochs) {
                Ok(Ok(more)) => lefts.extend(more),
                Ok(Err(_)) | Err(_) => self.report_unposted(left),
            }
        }
    }

    /// Tells the parent of `left` about its right sibling, if it has not been told. Returns the
    /// pages further up that have to be posted then. `trees` knows the trees by their numbers; a
    /// page of a tree that it does not know is left alone.
    ///
    /// # Errors
    /// A tree is damaged. Inside: something is lacking just now, and nothing was changed.
    pub fn post<E: Epochs>(
        &self,
        trees: impl Fn(u32) -> Option<TreeRef>,
        left: PageId,
        epochs: &E,
    ) -> Result<Result<Vec<PageId>, Blocked>, TreeError> {
        let mut separator = Vec::new();
        let looked = self.pool().read_page(left, |words| {
            let page = Page::new(words);
            separator.clear();
            let flagged = page.high_into(&mut separator) && page.unposted();
            match page.right().filter(|_| flagged) {
                Some(right) => (page.tree(), Flagged::Yes { level: page.level(), right }),
                None => (page.tree(), Flagged::No),
            }
        });
        let (tree, level, right) = match looked {
            Read::Done((tree, Flagged::Yes { level, right })) => (tree, level, right),
            Read::Done((_, Flagged::No)) | Read::Free => return Ok(Ok(Vec::new())),
            Read::Absent => return Ok(Err(Blocked::Fetch(vec![left]))),
        };
        let Some(tree) = trees(tree) else {
            return Ok(Ok(Vec::new()));
        };
        let (target, mut way) = (Target::At(&separator), Way::default());
        let parent = match self.descend(tree, level + 1, target, &mut way, |_| ()) {
            Ok(Step::Done((parent, ()))) => parent,
            Ok(Step::Fetch(pages)) => return Ok(Err(Blocked::Fetch(pages))),
            // The page has become a root, or is none any more: look again.
            Err(TreeError::Shallow { .. }) => return Ok(Err(Blocked::Moved)),
            Err(error) => return Err(error),
        };
        Ok(self.post_latched(tree, left, right, &separator, parent, epochs))
    }

    /// Whether the parent level has `child`, of `level` and with the low fence `low`, in its place.
    ///
    /// # Errors
    /// The tree is damaged.
    pub fn parent_knows(
        &self,
        tree: TreeRef,
        level: u8,
        low: &[u8],
        child: PageId,
    ) -> Result<Step<bool>, TreeError> {
        let knows = |page: &Live<'_>| page.child_for(low) == child;
        let (target, mut way) = (Target::At(low), Way::default());
        match self.descend(tree, level + 1, target, &mut way, knows) {
            Ok(Step::Done((_, knows))) => Ok(Step::Done(knows)),
            Ok(Step::Fetch(pages)) => Ok(Step::Fetch(pages)),
            Err(TreeError::Shallow { .. }) => Ok(Step::Done(false)),
            Err(error) => Err(error),
        }
    }

    fn post_latched<E: Epochs>(
        &self,
        tree: TreeRef,
        left: PageId,
        right: PageId,
        separator: &[u8],
        parent: PageId,
        epochs: &E,
    ) -> Result<Vec<PageId>, Blocked> {
        let pool = self.pool();
        let left_page = pin(pool, left)?.write();
        let left_view = Page::new(left_page.words());
        let mut high = Vec::new();
        if !left_view.unposted() {
            return Ok(Vec::new());
        }
        let found = left_view.high_into(&mut high);
        let moved = !found || high != separator || left_view.right() != Some(right);
        if moved && !planted_bug!(PostedWithoutFence) {
            return Err(Blocked::Moved);
        }
        if left_view.tree() != tree.id {
            return Err(Blocked::Moved);
        }
        let level = left_view.level() + 1;
        let above = |page: &Live<'_>| page.tree() == tree.id && page.level() == level;
        let parent_page = latch_meant(pool, parent, above)?;
        let view = Page::new(parent_page.words());
        if !above(&view) || view.position(separator) != Position::Here {
            return Err(Blocked::Moved);
        }

        let epoch = epochs.current();
        let mut reserved = Reserved::none(pool);
        reserved.prepare(&left_page, epoch, Room::Shrinking)?;
        let child = right.0.to_le_bytes();
        let mut rebuilt: Option<Rebuilt<'_>> = None;
        let known = view.child_for(separator) == right;
        let in_place =
            known || record_room(separator, &child, view.prefix_len()) <= view.free_contiguous();
        if !known {
            // A parent that begins behind the separator, or has it for another child, is damaged: it is left
            // as it is.
            if !matches!(view.find(separator), Err(1..)) {
                return Ok(Vec::new());
            }
            reserved.prepare(&parent_page, epoch, Room::Shrinking)?;
        }
        if !in_place {
            let edit = Edit { index: 0, key: separator, value: Some(Stored::Inline(&child)) };
            let edited = Edited::new(&parent_page, &[edit]);
            // A page whose right sibling is not posted cannot be merged: so that space can come back,
            // the parent may grow into what is kept for that (I13).
            rebuilt = Some(rebuild(self, tree, &parent_page, &edited, Room::Shrinking)?);
        }

        let entered = epochs.try_enter(epoch).ok_or(Blocked::Moved)?;
        let mut unposted = Vec::new();
        if let Some(rebuilt) = rebuilt {
            unposted = rebuilt.commit(&parent_page, epoch);
        } else if !known {
            let slot = view.find(separator).unwrap_or_else(|insertion| insertion);
            let inserted = view.insert(slot, separator, &child);
            assert!(inserted, "a separator that was planned to fit in place did not");
        }
        if !known {
            parent_page.changed(epoch);
        }
        left_view.set_unposted(false);
        left_page.changed(epoch);
        reserved.used();
        drop((left_page, parent_page));
        drop(entered);
        Ok(unposted)
    }
}
