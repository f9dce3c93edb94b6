//! Underfull pages: they borrow from a sibling or merge with it, and the tree gets lower (seed rows
//! T13, T14, P5, P6, J4).
//!
//! One step concerns two neighbouring pages with the same parent, and that parent. All three are
//! latched, left page, right page, parent (I11), and changed in one synchronous step and one epoch:
//!
//! * *Merge*, if one page can take all entries with some room to spare: the left page takes over the
//!   entries, the high fence and the right link of the right one, whose separator leaves the parent
//!   and which is freed. Who comes to it by an old link finds it free, or another page by its
//!   fences, and descends again.
//! * *Borrow* otherwise: the entries are divided evenly. The separator between the two may be longer
//!   than the old one, so the parent may have to split in the same step.
//!
//! A page whose split its parent does not know yet is left alone. A root with a single child takes
//! over the child's contents and keeps its page id: the tree is one level lower.
//!
//! Engine tasks do this; no write waits for it. Whoever makes a page underfull reports it.

use treering_bufpool::{DoomedPage, ExclusivePage, Pool, Read};
use treering_pagefile::{PageId, Room};

use crate::apply::{Edit, Edited, Rebuilt, Reserved, gap_for, rebuild, record_room};
use crate::build::{Image, PageSpec};
use crate::descend::{Live, Target, Way};
use crate::entries::Entries;
use crate::forest::{Blocked, Forest, Step, TreeError, TreeRef};
use crate::order::{latch_meant, pin};
use crate::page::Page;
use crate::partition::Policy;
use crate::post::Epochs;
use crate::stored::Stored;

/// What a look at a reported page says is to be done.
enum Needed {
    Nothing,
    /// It is a root with one child.
    Collapse {
        child: PageId,
    },
    /// It is underfull.
    Sibling {
        level: u8,
    },
}

/// Two neighbours and their parent, by their ids.
#[derive(Clone, Copy)]
struct Family {
    left: PageId,
    right: PageId,
    parent: PageId,
}

/// What the parent says of a page.
enum Place {
    /// It does not know it, but this page, to whose right it is.
    Unknown { left: PageId },
    /// It is the only child.
    Alone,
    /// It has one of these siblings at least.
    Beside { left: Option<PageId>, right: Option<PageId> },
}

/// The sibling that a page merges with.
enum Side {
    Left(PageId),
    Right(PageId),
}

/// The pages that a step leaves to be looked at.
#[derive(Debug, Default)]
pub struct Merged {
    /// Whether pages were changed.
    pub changed: bool,
    /// Pages that may be underfull now, in the order in which to look at them.
    pub next: Vec<PageId>,
    /// Pages whose new right sibling their parent has to be told of.
    pub unposted: Vec<PageId>,
}

impl Forest {
    /// Looks at a page that was reported as underfull and does one step about it, if there is one.
    /// `trees` knows the trees by their numbers; a page of another tree is left alone.
    ///
    /// # Errors
    /// A tree is damaged. Inside: something is lacking just now, and nothing was changed.
    pub fn merge<E: Epochs>(
        &self,
        trees: impl Fn(u32) -> Option<TreeRef>,
        page: PageId,
        epochs: &E,
    ) -> Result<Result<Merged, Blocked>, TreeError> {
        let mut low = Vec::new();
        let looked = self.pool().read_page(page, |words| {
            let view = Page::new(words);
            low.clear();
            view.low_into(&mut low);
            (view.tree(), needed(&trees, page, &view))
        });
        let (tree, needed) = match looked {
            Read::Done((tree, needed)) => (tree, needed),
            Read::Free => return Ok(Ok(Merged::default())),
            Read::Absent => return Ok(Err(Blocked::Fetch(vec![page]))),
        };
        let Some(tree) = trees(tree) else { return Ok(Ok(Merged::default())) };
        match needed {
            Needed::Nothing => Ok(Ok(Merged::default())),
            Needed::Collapse { child } => Ok(self.collapse(tree, child, epochs)),
            Needed::Sibling { level } => self.merge_with_sibling(tree, page, level, &low, epochs),
        }
    }

    fn merge_with_sibling<E: Epochs>(
        &self,
        tree: TreeRef,
        page: PageId,
        level: u8,
        low: &[u8],
        epochs: &E,
    ) -> Result<Result<Merged, Blocked>, TreeError> {
        let (target, mut way) = (Target::At(low), Way::default());
        let look = |parent: &Live<'_>| place_of(parent, low, page);
        let (parent, place) = match self.descend(tree, level + 1, target, &mut way, look) {
            Ok(Step::Done(found)) => found,
            Ok(Step::Fetch(pages)) => return Ok(Err(Blocked::Fetch(pages))),
            Err(TreeError::Shallow { .. }) => return Ok(Ok(Merged::default())),
            Err(error) => return Err(error),
        };
        Ok(match place {
            // It was split off, and the parent has to be told first. Perhaps that was tried and given
            // up, and nobody else may ever come along to report it.
            Place::Unknown { left } => {
                self.report_unposted(left);
                Err(Blocked::Moved)
            }
            // First the parent has to find a sibling of its own, or, as a root, to take the child's
            // place.
            Place::Alone => Ok(Merged { next: vec![parent, page], ..Merged::default() }),
            Place::Beside { left, right } => {
                let (left, right) = match self.emptier(left, right) {
                    Ok(Side::Left(left)) => (left, page),
                    Ok(Side::Right(right)) => (page, right),
                    Err(blocked) => return Ok(Err(blocked)),
                };
                self.merge_latched(tree, level, Family { left, right, parent }, epochs)
            }
        })
    }

    /// The one of two siblings with less in it: so that pages merge rather than borrow.
    fn emptier(&self, left: Option<PageId>, right: Option<PageId>) -> Result<Side, Blocked> {
        let (left, right) = match (left, right) {
            (Some(left), Some(right)) => (left, right),
            (Some(left), None) => return Ok(Side::Left(left)),
            (None, Some(right)) => return Ok(Side::Right(right)),
            (None, None) => return Err(Blocked::Moved),
        };
        let bytes = |page| match self.pool().read_page(page, |words| Page::new(words).live_bytes())
        {
            Read::Done(bytes) => Ok(bytes),
            Read::Absent => Err(Blocked::Fetch(vec![page])),
            Read::Free => Err(Blocked::Moved),
        };
        Ok(if bytes(left)? < bytes(right)? { Side::Left(left) } else { Side::Right(right) })
    }

    fn merge_latched<E: Epochs>(
        &self,
        tree: TreeRef,
        level: u8,
        family: Family,
        epochs: &E,
    ) -> Result<Merged, Blocked> {
        let pool = self.pool();
        let Family { left, right, parent } = family;
        let is_of = |page: &Live<'_>, level: u8| page.tree() == tree.id && page.level() == level;
        let left_page = pin(pool, left)?.write();
        let left_view = Page::new(left_page.words());
        let neighbours = is_of(&left_view, level) && left_view.right() == Some(right);
        if !neighbours || left_view.unposted() {
            self.report_if_unposted(&left_page);
            return Err(Blocked::Moved);
        }
        let right_page = pin(pool, right)?.write();
        let right_view = Page::new(right_page.words());
        if !is_of(&right_view, level) || right_view.unposted() {
            self.report_if_unposted(&right_page);
            return Err(Blocked::Moved);
        }
        let parent_page = latch_meant(pool, parent, |page| is_of(page, level + 1))?;
        let parent_view = Page::new(parent_page.words());
        let (mut low, mut middle) = (Vec::new(), Vec::new());
        left_view.low_into(&mut low);
        right_view.low_into(&mut middle);
        let knows = is_of(&parent_view, level + 1)
            && parent_view.child_for(&low) == left
            && parent_view.find(&middle).is_ok_and(|slot| parent_view.child(slot) == right);
        let underfull = left_view.is_underfull() || right_view.is_underfull();
        if !knows {
            return Err(Blocked::Moved);
        }
        if !underfull {
            return Ok(Merged::default());
        }
        let latched = Latched { tree, left: left_page, right: right_page, parent: parent_page };
        latched.merge_or_borrow(self, &low, &middle, epochs)
    }

    /// First its parent has to be told of its right sibling.
    fn report_if_unposted(&self, page: &ExclusivePage<'_>) {
        if Page::new(page.words()).unposted() {
            self.report_unposted(page.page());
        }
    }

    /// The only child of a root takes the root's place: its contents move up, and it is freed.
    fn collapse<E: Epochs>(
        &self,
        tree: TreeRef,
        child: PageId,
        epochs: &E,
    ) -> Result<Merged, Blocked> {
        let pool = self.pool();
        let child_page = pin(pool, child)?.write();
        let child_view = Page::new(child_page.words());
        let level = child_view.level();
        let is_root = |page: &Live<'_>| page.tree() == tree.id && page.level() == level + 1;
        if child_view.tree() != tree.id || child_view.right().is_some() {
            return Ok(Merged::default());
        }
        let root_page = latch_meant(pool, tree.root, is_root)?;
        let root_view = Page::new(root_page.words());
        if !is_root(&root_view) || root_view.len() != 1 || root_view.child(0) != child {
            return Ok(Merged::default());
        }
        let epoch = epochs.current();
        let mut reserved = Reserved::none(pool);
        reserved.prepare(&root_page, epoch, Room::Shrinking)?;
        let image = Image::copy_of(child_view.words());
        let doomed = child_page.doom(epoch)?;
        let entered = epochs.try_enter(epoch).ok_or(Blocked::Moved)?;
        image.write_to(root_page.words());
        root_page.changed(epoch);
        doomed.free(epoch);
        reserved.used();
        drop((root_page, entered));
        // The root may again have a single child.
        Ok(Merged { changed: true, next: vec![tree.root], ..Merged::default() })
    }
}

fn needed(trees: impl Fn(u32) -> Option<TreeRef>, page: PageId, view: &Live<'_>) -> Needed {
    let is_root = trees(view.tree()).is_some_and(|tree| tree.root == page);
    let level = view.level();
    if is_root && level > 0 && view.len() == 1 {
        Needed::Collapse { child: view.child(0) }
    } else if !is_root && view.is_underfull() {
        Needed::Sibling { level }
    } else {
        Needed::Nothing
    }
}

/// What `parent` says of `page`, whose low fence is `low`.
fn place_of(parent: &Live<'_>, low: &[u8], page: PageId) -> Place {
    let slot = parent.child_slot(low);
    let sibling = |slot: usize| (slot < parent.len()).then(|| parent.child(slot));
    let (left, right) = (slot.checked_sub(1).and_then(sibling), sibling(slot + 1));
    if parent.child(slot) != page {
        Place::Unknown { left: parent.child(slot) }
    } else if left.is_none() && right.is_none() {
        Place::Alone
    } else {
        Place::Beside { left, right }
    }
}

/// The three pages of a step, under their latches.
struct Latched<'p> {
    tree: TreeRef,
    left: ExclusivePage<'p>,
    right: ExclusivePage<'p>,
    parent: ExclusivePage<'p>,
}

/// What becomes of the parent.
enum Parent<'p> {
    /// The old separator goes, and the new one, if any, fits in place.
    InPlace,
    Rebuild(Rebuilt<'p>),
}

/// What becomes of the right page.
enum Right<'p> {
    Freed(DoomedPage<'p>),
    Kept(ExclusivePage<'p>, Image),
}

impl<'p> Latched<'p> {
    /// `low` and `middle` are the low fences of both pages.
    fn merge_or_borrow<E: Epochs>(
        self,
        forest: &'p Forest,
        low: &[u8],
        middle: &[u8],
        epochs: &E,
    ) -> Result<Merged, Blocked> {
        let pool: &'p Pool = forest.pool();
        let (left_view, right_view) = (Page::new(self.left.words()), Page::new(self.right.words()));
        let (right_id, right_link) = (self.right.page(), right_view.right());
        let mut entries = Entries::of(&left_view);
        entries.append(&Entries::of(&right_view));
        let mut high = Vec::new();
        let finite = right_view.high_into(&mut high);
        let spec = PageSpec {
            page_size: pool.page_size(),
            tree: self.tree.id,
            level: left_view.level(),
            low,
            high: finite.then_some(&high),
            gap: gap_for(self.tree, &left_view, &entries),
        };
        let slices = entries.slices();
        // A page that is full again at once would be split by the next insert.
        let spare = spec.page_size / SPARE_SHARE;
        let merged = (spec.encoded_len(&slices) + spare <= spec.page_size)
            .then(|| entries.build(&spec))
            .flatten();
        let (mut left_image, borrowed) = match merged {
            Some(image) => (image, None),
            None => {
                let mut parts = entries.partition(&spec, Policy::Balanced);
                // One: no sooner said than there is room. Three: fences are longer now.
                if parts.len() != 2 || parts[1].low == middle {
                    return Ok(Merged::default());
                }
                let right = parts.pop().expect("there are two");
                (parts.swap_remove(0).image, Some(right))
            }
        };
        left_image.edit().set_right(if borrowed.is_some() { Some(right_id) } else { right_link });

        let epoch = epochs.current();
        let mut reserved = Reserved::none(pool);
        let Self { tree, left, right, parent } = self;
        reserved.prepare(&left, epoch, Room::Shrinking)?;
        reserved.prepare(&parent, epoch, Room::Shrinking)?;
        let separator = borrowed.as_ref().map(|part| part.low.clone());
        let plan = plan_parent(forest, tree, &parent, middle, separator.as_deref(), right_id)?;
        let right = match borrowed {
            None => Right::Freed(right.doom(epoch)?),
            Some(mut part) => {
                reserved.prepare(&right, epoch, Room::Shrinking)?;
                part.image.edit().set_right(right_link);
                Right::Kept(right, part.image)
            }
        };

        let entered = epochs.try_enter(epoch).ok_or(Blocked::Moved)?;
        left_image.write_to(left.words());
        left.changed(epoch);
        match right {
            Right::Freed(doomed) => doomed.free(epoch),
            Right::Kept(page, image) => {
                image.write_to(page.words());
                page.changed(epoch);
            }
        }
        let unposted = match plan {
            Parent::InPlace => {
                edit_parent(&parent, middle, separator.as_deref(), right_id);
                Vec::new()
            }
            Parent::Rebuild(rebuilt) => rebuilt.commit(&parent, epoch),
        };
        parent.changed(epoch);
        reserved.used();
        let mut next = Vec::new();
        if Page::new(left.words()).is_underfull() {
            next.push(left.page());
        }
        let above = Page::new(parent.words());
        if above.is_underfull() || above.len() == 1 {
            next.push(parent.page());
        }
        drop((left, parent));
        drop(entered);
        Ok(Merged { changed: true, next, unposted })
    }
}

/// Plans the parent's change: separator `old` goes; `new`, if there is one, leads to `right`.
fn plan_parent<'p>(
    forest: &'p Forest,
    tree: TreeRef,
    parent: &ExclusivePage<'_>,
    old: &[u8],
    new: Option<&[u8]>,
    right: PageId,
) -> Result<Parent<'p>, Blocked> {
    let Some(new) = new else { return Ok(Parent::InPlace) };
    let view = Page::new(parent.words());
    let child = right.0.to_le_bytes();
    if record_room(new, &child, view.prefix_len()) <= view.free_contiguous() {
        return Ok(Parent::InPlace);
    }
    let mut edits = [
        Edit { index: 0, key: old, value: None },
        Edit { index: 0, key: new, value: Some(Stored::Inline(&child)) },
    ];
    edits.sort_by(|a, b| a.key.cmp(b.key));
    let edited = Edited::new(parent, &edits);
    Ok(Parent::Rebuild(rebuild(forest, tree, parent, &edited, Room::Shrinking)?))
}

fn edit_parent(parent: &ExclusivePage<'_>, old: &[u8], new: Option<&[u8]>, right: PageId) {
    let view = Page::new(parent.words());
    let slot = view.find(old).expect("the parent knows the right page");
    view.remove(slot);
    if let Some(new) = new {
        let slot = view.find(new).expect_err("a separator between two others is new");
        let inserted = view.insert(slot, new, &right.0.to_le_bytes());
        assert!(inserted, "a separator that was planned to fit in place did not");
    }
}

/// A merged page has at least this share of its bytes to spare.
const SPARE_SHARE: usize = 8;
