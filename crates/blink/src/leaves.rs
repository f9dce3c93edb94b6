//! The leaves of a batch, found without latches and then latched in one order (I11).
//!
//! First every key's leaf is found optimistically, which may name pages to fetch: its parent says
//! which page it is, and nobody looks into it yet, so that whoever has it latched is waited for once,
//! and late. Then the leaves are latched, tree by tree and left to right. A leaf found earlier may
//! have been split by then, so after latching the key has to be between its fences; if it is beyond,
//! the right link leads on, latch by latch; if that leads nowhere, the leaf is looked for once more, page
//! by page and without latches. A leaf is latched by its id only when its low fence shows
//! that it lies to the right of those already held: otherwise it is reached from the last one by
//! right links. See `order` for what makes that safe while pages are freed.
//!
//! Somebody else may be in a leaf whose fence is to be looked at, a batch of a thousand keys for a
//! millisecond. Waiting for a latch that is not known to lie to the right is forbidden with others
//! in hand, so after a moment they are all released, the writer is waited for, and latching begins
//! again.

use treering_bufpool::{ExclusivePage, PinnedPage, Pool, Read};
use treering_latch::planted_bug;
use treering_latch::sync::hint;
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
        let mut found = self.find_leaves(keys.clone(), ways, usize::MAX, leaves_max)?;
        for _ in 0..TRIES_MAX {
            let count = match found {
                Ok(count) => count,
                Err(blocked) => return Ok(Err(blocked)),
            };
            match self.latch_found(keys.clone(), ways, (count, leaves_max)) {
                Ok(leaves) => return Ok(Ok(leaves)),
                Err((_, Stop::Blocked(blocked))) => return Ok(Err(blocked)),
                // With nothing in hand, and so below.
                Err((_, Stop::Busy(page))) => {
                    drop(self.pool().try_pin(page).map(PinnedPage::read));
                    found = Ok(count);
                }
                Err((index, Stop::Astray)) => {
                    found = self.find_leaves(keys.clone(), ways, index, leaves_max)?;
                }
            }
        }
        Ok(Err(Blocked::Moved))
    }

    /// The ways of the keys to their leaves, and how many leaves that are. For the keys from number
    /// `looked_into` on, the leaves are looked into.
    fn find_leaves<'k>(
        &self,
        keys: impl Iterator<Item = (TreeRef, &'k [u8])>,
        ways: &mut Vec<Way>,
        looked_into: usize,
        leaves_max: usize,
    ) -> Result<Result<usize, Blocked>, TreeError> {
        let mut absent = Vec::new();
        let (mut count, mut last) = (0, None);
        for (index, (tree, key)) in keys.enumerate() {
            if index == ways.len() {
                ways.push(Way::default());
            }
            let way = &mut ways[index];
            let step = match index < looked_into {
                true => self.find_leaf(tree, key, way)?,
                false => self.look_for_leaf(tree, key, way)?,
            };
            match step {
                Step::Done(page) => {
                    count += usize::from(last.replace(page) != Some(page));
                    if count > leaves_max {
                        return Ok(Err(Blocked::TooManyLeaves));
                    }
                }
                Step::Fetch(pages) => {
                    absent.extend(pages);
                    absent.dedup();
                    if count + absent.len() > leaves_max {
                        break;
                    }
                }
            }
        }
        if absent.is_empty() {
            return Ok(Ok(count));
        }
        absent.sort_unstable();
        absent.dedup();
        Ok(Err(Blocked::Fetch(absent)))
    }

    /// The page that is the leaf of a key as its parent has it, when it is in memory.
    fn find_leaf(
        &self,
        tree: TreeRef,
        key: &[u8],
        way: &mut Way,
    ) -> Result<Step<PageId>, TreeError> {
        let target = Target::At(key);
        let leaf = match way.leaf() {
            Some(leaf) => leaf,
            None => {
                let child = |parent: &Live<'_>| parent.child(target.child_slot(parent));
                match self.descend(tree, 1, target, way, child) {
                    Ok(Step::Done((_, leaf))) => leaf,
                    Ok(Step::Fetch(pages)) => return Ok(Step::Fetch(pages)),
                    // Its root is its leaf.
                    Err(TreeError::Shallow { .. }) => tree.root,
                    Err(error) => return Err(error),
                }
            }
        };
        *way = Way::to(Some(leaf), 0);
        match self.pool().find_page(leaf) {
            Read::Done(()) => Ok(Step::Done(leaf)),
            Read::Absent => Ok(Step::Fetch(vec![leaf])),
            Read::Free => self.look_for_leaf(tree, key, way),
        }
    }

    /// The leaf of a key, which is looked into, and so is every page on the way there. The parent may be
    /// wrong about it: splits may follow one another that it has not been told of, more than are worth
    /// latching one by one; or the tree is damaged, which shows only here.
    fn look_for_leaf(
        &self,
        tree: TreeRef,
        key: &[u8],
        way: &mut Way,
    ) -> Result<Step<PageId>, TreeError> {
        Ok(match self.descend(tree, 0, Target::At(key), way, |_| ())? {
            Step::Done((leaf, ())) => Step::Done(leaf),
            Step::Fetch(pages) => Step::Fetch(pages),
        })
    }

    /// Latches the leaves that the ways lead to, of which there were `count` a moment ago. If it cannot be
    /// done, says for which key.
    fn latch_found<'k>(
        &self,
        keys: impl Iterator<Item = (TreeRef, &'k [u8])>,
        ways: &mut [Way],
        (count, leaves_max): (usize, usize),
    ) -> Result<Leaves<'_>, (usize, Stop)> {
        let (pages, of_key) = (Vec::with_capacity(count), Vec::with_capacity(ways.len()));
        let mut leaves = Leaves { forest: self, pages, of_key };
        let mut fences = Fences::default();
        // The leaves of a batch are mostly not in the processor's caches: asked for several of them, it
        // brings them at the same time.
        let expect =
            |way: &Way| way.leaf().into_iter().for_each(|leaf| self.pool().will_look(leaf));
        ways.iter().take(AHEAD).for_each(expect);
        for (index, (tree, key)) in keys.enumerate() {
            ways.get(index + AHEAD).into_iter().for_each(expect);
            let added = leaves.add(tree, key, &mut ways[index], &mut fences);
            added.map_err(|stop| (index, stop))?;
            if leaves.len() > leaves_max {
                return Err((index, Blocked::TooManyLeaves.into()));
            }
        }
        Ok(leaves)
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
        if let Step::Fetch(pages) = self.descend(tree, 0, Target::At(first), way, |_| ())? {
            return Ok(Err(Blocked::Fetch(pages)));
        }
        let mut leaves = Leaves { forest: self, pages: Vec::new(), of_key: Vec::new() };
        match leaves.add(tree, first, way, &mut Fences::default()) {
            Ok(()) => {}
            Err(Stop::Blocked(blocked)) => return Ok(Err(blocked)),
            Err(Stop::Astray) => return Ok(Err(Blocked::Moved)),
            Err(Stop::Busy(_)) => unreachable!("without a latch in hand every other is waited for"),
        }
        if let Some((_, leaf)) = leaves.pages.last() {
            let view = Page::new(leaf.words());
            let along = behind.take_while(|key| view.position(key) == Position::Here);
            leaves.of_key.extend(along.map(|_| 0));
        }
        Ok(Ok(leaves))
    }
}

/// Why a leaf could not be latched.
enum Stop {
    Blocked(Blocked),
    /// Somebody is in this page, and it is not known that waiting for it is in order.
    Busy(PageId),
    /// The way did not lead to the leaf.
    Astray,
}

impl From<Blocked> for Stop {
    fn from(blocked: Blocked) -> Self {
        Stop::Blocked(blocked)
    }
}

/// Room for the fences of two leaves.
#[derive(Default)]
struct Fences {
    high: Vec<u8>,
    low: Vec<u8>,
}

impl<'f> Leaves<'f> {
    /// Latches the leaf of `key`, which was the one that `way` leads to a moment ago. Where right links
    /// are followed, `way` is, too: the next try may find the pages to the left gone from memory.
    fn add(
        &mut self,
        tree: TreeRef,
        key: &[u8],
        way: &mut Way,
        fences: &mut Fences,
    ) -> Result<(), Stop> {
        let pool = self.forest.pool();
        let candidate = way.leaf().unwrap_or(tree.root);
        let last = self.pages.last().filter(|(last_tree, _)| *last_tree == tree);
        let mut next = match last {
            Some((_, last)) => {
                let view = Page::new(last.words());
                match view.position(key) {
                    Position::Before => return Err(Stop::Astray),
                    Position::Here => {
                        self.of_key.push(self.pages.len() - 1);
                        return Ok(());
                    }
                    Position::Beyond => self.pin_beyond(tree, last, way, fences)?,
                }
            }
            None => {
                let pinned = pin(pool, candidate)?;
                // The leaves held are of trees before this one. If none is, nobody can wait for it.
                let meant = |page: &Live<'_>| page.tree() == tree.id;
                if !self.pages.is_empty() {
                    match look(pool, candidate, meant) {
                        Some(true) => {}
                        None if !self.holds(candidate) => return Err(Stop::Busy(candidate)),
                        Some(false) | None => return Err(Stop::Astray),
                    }
                }
                pinned
            }
        };
        for _ in 0..RIGHT_STEPS_MAX {
            #[cfg_attr(not(treering_planted_bug), expect(unused_mut, reason = "but for canaries"))]
            let mut page = next.write();
            let view = Page::new(page.words());
            if view.tree() != tree.id || !view.is_leaf() {
                return Err(Stop::Astray);
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
                Position::Before => return Err(Stop::Astray),
                Position::Beyond => {
                    if view.unposted() {
                        self.forest.report_unposted(page.page());
                    }
                    next = pin_right(pool, &view, way)?;
                }
            }
        }
        Err(Stop::Astray)
    }

    fn holds(&self, page: PageId) -> bool {
        self.pages.iter().any(|(_, held)| held.page() == page)
    }

    /// Pins a page to the right of `last`, the last leaf held: that which `way` leads to if its low fence
    /// shows that it lies there, else the right sibling, from which right links lead to it, too.
    fn pin_beyond(
        &self,
        tree: TreeRef,
        last: &ExclusivePage<'f>,
        way: &mut Way,
        Fences { high, low }: &mut Fences,
    ) -> Result<PinnedPage<'f>, Stop> {
        let pool = self.forest.pool();
        let view = Page::new(last.words());
        high.clear();
        if let Some(candidate) = way.leaf()
            && view.right() != Some(candidate)
            && view.high_into(high)
        {
            let pinned = pin(pool, candidate)?;
            // It may turn out to lie to the left, where somebody may hold it and wait for `last`.
            let mut look = |words: &[_]| {
                let view = Page::new(words);
                low.clear();
                view.low_into(low);
                view.tree() == tree.id && view.is_leaf()
            };
            let mut is_leaf = None;
            for _ in 0..GLANCES_MAX {
                is_leaf = match planted_bug!(BatchWaitsToLook) && !self.holds(candidate) {
                    true => match pool.read_page(candidate, &mut look) {
                        Read::Done(is_leaf) => Some(is_leaf),
                        Read::Absent | Read::Free => None,
                    },
                    false => pool.glance(candidate, &mut look),
                };
                if is_leaf.is_some() {
                    break;
                }
                hint::spin_loop();
            }
            match is_leaf {
                Some(true) if low >= high => return Ok(pinned),
                None if !self.holds(candidate) => return Err(Stop::Busy(candidate)),
                Some(_) | None => {}
            }
        }
        pin_right(pool, &view, way)
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

/// Pins the right sibling of a page that a key is beyond.
fn pin_right<'f>(pool: &'f Pool, page: &Live<'_>, way: &mut Way) -> Result<PinnedPage<'f>, Stop> {
    let right = page.right().ok_or(Stop::Astray)?;
    *way = Way::to(Some(right), 0);
    Ok(pin(pool, right)?)
}

/// Right links followed for one key, latch by latch, before its leaf is looked for without latches.
const RIGHT_STEPS_MAX: usize = 64;
/// Looks at a page that somebody is in, before everything is released to wait for it: some microseconds,
/// in which a batch that is just being made changes the next few of its leaves.
const GLANCES_MAX: usize = if cfg!(any(treering_loom, treering_shuttle)) { 1 } else { 256 };
/// Times that everything is released, to wait for a page or to look for a leaf, before the caller is told
/// to begin again.
const TRIES_MAX: usize = 64;
/// Leaves that are asked for before they are looked at: more than the processor brings at a time, and
/// few enough to be still there when their turn comes.
const AHEAD: usize = 16;
