//! The leaves of a batch, found without latches and then latched in one order (I11).
//!
//! First every key's leaf is found optimistically, which may name pages to fetch. Then the leaves
//! are latched, tree by tree and left to right. A leaf found earlier may have been split by then, so
//! after latching the key has to be between its fences; if it is beyond, the right link leads on,
//! latch by latch. A leaf is latched by its id only when its low fence shows that it lies to the
//! right of those already held: otherwise it is reached from the last one by right links. See
//! `order` for what makes that safe while pages are freed.

use treering_bufpool::{ExclusivePage, PinnedPage, Read};
use treering_latch::planted_bug;
use treering_pagefile::PageId;

use crate::descend::{Live, Target, Way};
use crate::forest::{Blocked, Forest, Step, TreeError, TreeRef};
use crate::order::{look, pin};
use crate::page::{Page, Position};
use crate::stored::Kind;

/// Leaves under their exclusive latches, in I11's order.
pub struct Leaves<'f> {
    pub(crate) forest: &'f Forest,
    pub(crate) pages: Vec<(TreeRef, ExclusivePage<'f>)>,
    /// For each key, the index of its leaf.
    pub(crate) of_key: Vec<usize>,
}

impl Forest {
    /// Latches the leaves of the keys, which are sorted by tree and key: `leaves_max` leaves at most.
    /// `ways` is for these keys, and empty at first. It makes the step, taken again after what was
    /// lacking was fetched, go on where it stopped, so that of each key only one page at a time has
    /// to be in memory; and it never asks for more than about `leaves_max` pages at once, or what
    /// was fetched for some keys might push out what was fetched for others, again and again.
    ///
    /// # Errors
    /// A tree is damaged. Inside: pages are not in memory, or there are too many leaves.
    pub fn latch_leaves<'k>(
        &self,
        keys: impl Iterator<Item = (TreeRef, &'k [u8])> + Clone,
        ways: &mut Vec<Way>,
        leaves_max: usize,
    ) -> Result<Result<Leaves<'_>, Blocked>, TreeError> {
        let mut absent = Vec::new();
        let (mut found, mut last) = (0, None);
        let mut coming = keys.clone().skip(ways.len());
        for (index, (tree, key)) in keys.clone().enumerate() {
            if index == ways.len() {
                self.find_leaves(coming.by_ref().take(AT_ONCE), ways)?;
            }
            let way = &mut ways[index];
            match self.descend(tree, 0, Target::At(key), way, |_| ())? {
                Step::Done((page, ())) => {
                    found += usize::from(last.replace(page) != Some(page));
                    if found > leaves_max {
                        return Ok(Err(Blocked::TooManyLeaves));
                    }
                }
                Step::Fetch(pages) => {
                    absent.extend(pages);
                    absent.dedup();
                    if found + absent.len() > leaves_max {
                        break;
                    }
                }
            }
        }
        if !absent.is_empty() {
            absent.sort_unstable();
            absent.dedup();
            return Ok(Err(Blocked::Fetch(absent)));
        }
        let (pages, of_key) = (Vec::with_capacity(found), Vec::with_capacity(ways.len()));
        let mut leaves = Leaves { forest: self, pages, of_key };
        let mut fences = Fences::default();
        for ((tree, key), way) in keys.zip(ways) {
            let candidate = way.page().unwrap_or(tree.root);
            if let Err(blocked) = leaves.add(tree, key, candidate, &mut fences) {
                return Ok(Err(blocked));
            }
            if leaves.len() > leaves_max {
                return Ok(Err(Blocked::TooManyLeaves));
            }
        }
        Ok(Ok(leaves))
    }

    /// The ways of some keys up to their leaves, as far as the pages above them are in memory. The leaves
    /// of a batch are mostly not in the processor's caches: here it is asked for several of them, and brings
    /// them at the same time, where descent after descent would wait for each.
    fn find_leaves<'k>(
        &self,
        mut keys: impl Iterator<Item = (TreeRef, &'k [u8])>,
        ways: &mut Vec<Way>,
    ) -> Result<(), TreeError> {
        let Some(first) = keys.next() else { return Ok(()) };
        let Some(second) = keys.next() else {
            ways.push(Way::default());
            return Ok(());
        };
        for (tree, key) in [first, second].into_iter().chain(keys) {
            let target = Target::At(key);
            let mut way = Way::default();
            let child = |parent: &Live<'_>| parent.child(target.child_slot(parent));
            match self.descend(tree, 1, target, &mut way, child) {
                Ok(Step::Done((_, leaf))) => {
                    self.pool().will_look(leaf);
                    way = Way::to_leaf(Some(leaf));
                }
                Ok(Step::Fetch(_)) => {}
                // Its root is its leaf.
                Err(TreeError::Shallow { .. }) => way = Way::default(),
                Err(error) => return Err(error),
            }
            ways.push(way);
        }
        Ok(())
    }

    /// Latches the leaf of the first of some keys of one tree, which are sorted, and takes along those
    /// behind it that have the same leaf: [`Leaves::keys`] says how many keys that are. `way` is the
    /// first key's, as in [`Forest::latch_leaves`].
    ///
    /// # Errors
    /// A tree is damaged. Inside: a page is not in memory, or has moved on.
    pub fn latch_leaf<'k>(
        &self,
        tree: TreeRef,
        first: &[u8],
        behind: impl Iterator<Item = &'k [u8]>,
        way: &mut Way,
    ) -> Result<Result<Leaves<'_>, Blocked>, TreeError> {
        let candidate = match self.descend(tree, 0, Target::At(first), way, |_| ())? {
            Step::Done((page, ())) => page,
            Step::Fetch(pages) => return Ok(Err(Blocked::Fetch(pages))),
        };
        let mut leaves = Leaves { forest: self, pages: Vec::new(), of_key: Vec::new() };
        if let Err(blocked) = leaves.add(tree, first, candidate, &mut Fences::default()) {
            return Ok(Err(blocked));
        }
        if let Some((_, leaf)) = leaves.pages.last() {
            let view = Page::new(leaf.words());
            let along = behind.take_while(|key| view.position(key) == Position::Here);
            leaves.of_key.extend(along.map(|_| 0));
        }
        Ok(Ok(leaves))
    }
}

/// Room for the fences of two leaves.
#[derive(Default)]
struct Fences {
    high: Vec<u8>,
    low: Vec<u8>,
}

impl<'f> Leaves<'f> {
    /// Latches the leaf of `key`, which was `candidate` a moment ago.
    fn add(
        &mut self,
        tree: TreeRef,
        key: &[u8],
        candidate: PageId,
        fences: &mut Fences,
    ) -> Result<(), Blocked> {
        let pool = self.forest.pool();
        let last = self.pages.last().filter(|(last_tree, _)| *last_tree == tree);
        let mut next = match last {
            Some((_, last)) => {
                let view = Page::new(last.words());
                match view.position(key) {
                    Position::Before => return Err(Blocked::Moved),
                    Position::Here => {
                        self.of_key.push(self.pages.len() - 1);
                        return Ok(());
                    }
                    Position::Beyond => self.pin_beyond(tree, last, candidate, fences)?,
                }
            }
            None => {
                let pinned = pin(pool, candidate)?;
                // The leaves held are of trees before this one. If none is, nobody can wait for it.
                let meant = |page: &Live<'_>| page.tree() == tree.id;
                if !self.pages.is_empty() && look(pool, candidate, meant) != Some(true) {
                    return Err(Blocked::Moved);
                }
                pinned
            }
        };
        for _ in 0..RIGHT_STEPS_MAX {
            #[cfg_attr(not(treering_planted_bug), expect(unused_mut, reason = "but for canaries"))]
            let mut page = next.write();
            let view = Page::new(page.words());
            if view.tree() != tree.id || !view.is_leaf() {
                return Err(Blocked::Moved);
            }
            let position = match planted_bug!(LeafNotCheckedAgain) {
                true => Position::Here,
                false => view.position(key),
            };
            match position {
                Position::Here => {
                    #[cfg(treering_planted_bug)]
                    if planted_bug!(SecondLeafNotLatched) && !self.pages.is_empty() {
                        page.lose_latch();
                    }
                    self.pages.push((tree, page));
                    self.of_key.push(self.pages.len() - 1);
                    return Ok(());
                }
                Position::Before => return Err(Blocked::Moved),
                Position::Beyond => {
                    if view.unposted() {
                        self.forest.report_unposted(page.page());
                    }
                    next = pin(pool, view.right().ok_or(Blocked::Moved)?)?;
                }
            }
        }
        Err(Blocked::Moved)
    }

    /// Pins a page to the right of `last`, the last leaf held: `candidate` if its low fence shows
    /// that it lies there, else the right sibling, from which right links lead to it, too.
    fn pin_beyond(
        &self,
        tree: TreeRef,
        last: &ExclusivePage<'f>,
        candidate: PageId,
        Fences { high, low }: &mut Fences,
    ) -> Result<PinnedPage<'f>, Blocked> {
        let pool = self.forest.pool();
        let view = Page::new(last.words());
        let right = view.right().ok_or(Blocked::Moved)?;
        high.clear();
        if right != candidate && view.high_into(high) {
            let pinned = pin(pool, candidate)?;
            // One look: it may turn out to lie to the left, where somebody may hold it and wait for
            // `last`, or this batch itself has it.
            let mut look = |words: &[_]| {
                let view = Page::new(words);
                low.clear();
                view.low_into(low);
                view.tree() == tree.id && view.is_leaf()
            };
            let is_leaf = match planted_bug!(BatchWaitsToLook) {
                true if self.pages.iter().any(|(_, held)| held.page() == candidate) => None,
                true => match pool.read_page(candidate, &mut look) {
                    Read::Done(is_leaf) => Some(is_leaf),
                    Read::Absent | Read::Free => None,
                },
                false => pool.glance(candidate, &mut look),
            };
            if is_leaf == Some(true) && low >= high {
                return Ok(pinned);
            }
        }
        pin(pool, right)
    }

    /// Looks up key number `index`: appends what stands under it to `value`, and says whether that
    /// is its value or a [`Reference`](crate::Reference) to it.
    pub fn get(&self, index: usize, key: &[u8], value: &mut Vec<u8>) -> Option<Kind> {
        let (_, page) = &self.pages[self.of_key[index]];
        let view = Page::new(page.words());
        let slot = view.find(key).ok()?;
        view.value_into(slot, value);
        Some(view.kind(slot))
    }

    /// Whether key number `index` is there.
    pub fn contains(&self, index: usize, key: &[u8]) -> bool {
        let (_, page) = &self.pages[self.of_key[index]];
        Page::new(page.words()).find(key).is_ok()
    }

    /// How many keys they were latched for.
    pub fn keys(&self) -> usize {
        self.of_key.len()
    }

    /// How many leaves there are.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
}

/// Right links followed for one key before the step starts over with a descent.
const RIGHT_STEPS_MAX: usize = 64;
/// Leaves that are asked for before they are looked at: more than the processor brings at a time, and
/// few enough to be still there when their turn comes.
const AT_ONCE: usize = 32;
