//! From the root to a page, one page at a time, holding nothing (I1, I3).
//!
//! Each page is looked at optimistically, on its own. Between two looks anything may have happened
//! to the next page, so it has to show that the key belongs there: same tree, the level expected,
//! and the key between its fences. A key beyond the high fence means that the page was split: the
//! right link leads on (Lehman and Yao 1981). Anything else means that the page has another life by
//! now: begin again at the root.

use std::sync::atomic::AtomicU64;

use treering_bufpool::Read;
use treering_latch::planted_bug;
use treering_pagefile::PageId;

use crate::forest::{Forest, Step, TreeError, TreeRef};
use crate::page::{Page, Position};
use crate::stored::Kind;

/// A page whose words are looked at optimistically.
pub(crate) type Live<'w> = Page<&'w [AtomicU64]>;

/// Where a descent is going.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'k> {
    /// The page whose range holds the key.
    At(&'k [u8]),
    /// The page that may hold the greatest key below this one.
    Below(&'k [u8]),
    /// The right-most page.
    Last,
}

impl Target<'_> {
    fn position(self, page: &Live<'_>) -> Position {
        match self {
            Target::At(key) => page.position(key),
            Target::Below(key) => page.position_before(key),
            Target::Last if page.is_high_infinite() => Position::Here,
            Target::Last => Position::Beyond,
        }
    }

    /// Whether it is in this page.
    pub(crate) fn is_here(self, page: &Live<'_>) -> bool {
        self.position(page) == Position::Here
    }

    pub(crate) fn child_slot(self, page: &Live<'_>) -> usize {
        match self {
            Target::At(key) => page.child_slot(key),
            Target::Below(key) => page.slot_before(key).unwrap_or(0),
            Target::Last => page.len().saturating_sub(1),
        }
    }
}

/// How far down a descent has come: the page where it goes on, and its level. What a page has given
/// up since to a split is to its right; if the page has been freed or has given its left end away,
/// its fences show that, and the descent begins again. So it may go on there however long ago that
/// was; and the pages above need not be in memory any more. Without it a descent needs its whole path
/// in memory at one moment, which in a small pool under load may never come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way(Option<(PageId, u8)>);

impl Way {
    /// To a page of that level which is taken to be the one; if it turns out not to be, the descent
    /// begins at the root, and so without a page.
    pub(crate) fn to(page: Option<PageId>, level: u8) -> Self {
        Self(page.map(|page| (page, level)))
    }

    /// The leaf, if it leads to one.
    pub(crate) fn leaf(self) -> Option<PageId> {
        self.0.and_then(|(page, level)| (level == 0).then_some(page))
    }

    /// The page where the descent goes on, if it is not the root.
    pub fn page(self) -> Option<PageId> {
        self.0.map(|(page, _)| page)
    }
}

enum Look<R> {
    Found(R),
    Down(PageId, u8),
    Right(PageId, bool),
    /// Its level is below the one that is looked for.
    Below,
    /// It is another tree's.
    Foreign,
    Lost,
}

/// More looks than any sound tree needs, however many splits go on meanwhile. Fuzzing has small trees,
/// and forges links that go in circles.
const LOOKS_MAX: usize = if cfg!(fuzzing) { 2_000 } else { 100_000 };

impl Forest {
    /// Goes to the page of `level` that `target` names and returns its id and what `look` made of
    /// it. `look` may run several times, and on torn pages: only what it returns in the end is
    /// validated. (What it leaves behind is not: after a torn look the page may be gone.) `way` is
    /// for this target only; it leads to the page that was found, or that has to be fetched.
    pub(crate) fn descend<R>(
        &self,
        tree: TreeRef,
        level: u8,
        target: Target<'_>,
        way: &mut Way,
        mut look: impl FnMut(&Live<'_>) -> R,
    ) -> Result<Step<(PageId, R)>, TreeError> {
        let (mut page, mut expected) = match way.0 {
            Some((page, level)) => (page, Some(level)),
            None => (tree.root, None),
        };
        for _ in 0..LOOKS_MAX {
            let read = self.pool().read_page(page, |words| {
                let view = Page::new(words);
                let here = view.level();
                if view.tree() != tree.id {
                    return Look::Foreign;
                }
                if expected.is_some_and(|level| level != here) {
                    return Look::Lost;
                }
                let position = match planted_bug!(FenceNotChecked) && page != tree.root {
                    true => Position::Here,
                    false => target.position(&view),
                };
                match position {
                    Position::Before => Look::Lost,
                    Position::Beyond => match view.right() {
                        Some(right) => Look::Right(right, view.unposted()),
                        None => Look::Lost,
                    },
                    Position::Here if here == level => Look::Found(look(&view)),
                    Position::Here if here < level => Look::Below,
                    Position::Here => Look::Down(view.child(target.child_slot(&view)), here),
                }
            });
            match read {
                Read::Done(Look::Found(found)) => {
                    way.0 = Some((page, level));
                    return Ok(Step::Done((page, found)));
                }
                Read::Done(Look::Down(child, here)) => {
                    expected = Some(here.saturating_sub(1));
                    page = child;
                }
                Read::Done(Look::Right(right, unposted)) => {
                    if unposted {
                        self.report_unposted(page);
                    }
                    page = right;
                }
                Read::Absent => {
                    way.0 = expected.map(|level| (page, level));
                    return Ok(Step::Fetch(vec![page]));
                }
                Read::Done(Look::Below) if page == tree.root => {
                    return Err(TreeError::Shallow { tree: tree.id, level });
                }
                Read::Done(Look::Foreign) | Read::Free if page == tree.root => {
                    return Err(TreeError::Gone { tree: tree.id });
                }
                Read::Done(Look::Lost | Look::Below | Look::Foreign) | Read::Free => {
                    expected = None;
                    page = tree.root;
                }
            }
        }
        Err(TreeError::Lost { tree: tree.id, root: tree.root })
    }

    /// Looks a key up: appends what stands under it to `value`, which is cleared first, and says
    /// whether that is its value or a [`Reference`](crate::Reference) to it. `way` is where the last
    /// look at this key ended.
    ///
    /// # Errors
    /// When the tree is damaged.
    pub fn get(
        &self,
        tree: TreeRef,
        key: &[u8],
        way: &mut Way,
        value: &mut Vec<u8>,
    ) -> Result<Step<Option<Kind>>, TreeError> {
        let step = self.descend(tree, 0, Target::At(key), way, |leaf| {
            value.clear();
            let slot = leaf.search(key).ok()?;
            leaf.value_into(slot, value);
            Some(leaf.kind(slot))
        })?;
        Ok(match step {
            Step::Done((_, found)) => Step::Done(found),
            Step::Fetch(pages) => Step::Fetch(pages),
        })
    }
}
