//! Changing leaves: planned completely, then done without anything that could fail (I2).
//!
//! [`Leaves::plan`] takes everything that the change needs by `try`: each leaf is prepared for the
//! epoch (an image that a checkpoint still needs is captured, room for the next one reserved), and
//! where the new contents do not fit in place, the leaf's new image is built in private memory, and its new
//! right siblings in frames of their own, which nobody can reach yet. The caller then appends its log
//! record. [`Plan::commit`] writes the leaf and makes its siblings known.
//!
//! A split leaves a right link behind and the flag that says that the parent does not know it yet
//! (I3). A root keeps its page: its contents move to new pages, and it becomes their parent.

use treering_bufpool::{ExclusivePage, NewPage, Pool};
use treering_pagefile::{PageId, Room};

use crate::build::{PageSpec, build};
use crate::entries::Entries;
use crate::forest::{Blocked, Forest, TreeRef};
use crate::gap::Gap;
use crate::layout::{Lengths, SLOT_LEN};
use crate::leaves::Leaves;
use crate::page::Page;
use crate::partition::{Part, Policy, partition};
use crate::spare::Kept;
use crate::stored::{Kind, Reference, Stored};
use crate::words::{Words, WordsMut};

/// The decided outcome for one key.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'e> {
    /// The number of the key among those that the leaves were latched for.
    pub index: usize,
    /// The key.
    pub key: &'e [u8],
    /// Its value from now on; `None` takes away a key that is there.
    pub value: Option<Stored<'e>>,
}

/// A change that has everything it needs. Dropping it gives everything back.
pub struct Plan<'f, 'e> {
    changes: Vec<Change<'f, 'e>>,
    leaves: Leaves<'f>,
    reserved: Reserved<'f>,
}

struct Change<'f, 'e> {
    leaf: usize,
    how: How<'f, 'e>,
}

enum How<'f, 'e> {
    InPlace(&'e [Edit<'e>]),
    Rebuild(Rebuilt<'f>),
}

/// Extents reserved for pages that will become dirty.
pub(crate) struct Reserved<'f> {
    pool: &'f Pool,
    count: usize,
}

impl<'f> Reserved<'f> {
    pub(crate) fn none(pool: &'f Pool) -> Self {
        Self { pool, count: 0 }
    }

    pub(crate) fn prepare(
        &mut self,
        page: &ExclusivePage<'_>,
        epoch: u64,
        room: Room,
    ) -> Result<(), Blocked> {
        self.count += usize::from(page.prepare(epoch, room)?);
        Ok(())
    }

    /// The pages are dirty now: what was reserved is theirs.
    pub(crate) fn used(mut self) {
        self.count = 0;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.pool.unreserve(self.count);
    }
}

impl<'f> Leaves<'f> {
    /// Plans the edits, which are in the order of their keys, one at most for each key.
    ///
    /// # Errors
    /// A resource is lacking just now; the leaves are released.
    pub fn plan<'e>(self, epoch: u64, edits: &'e [Edit<'e>]) -> Result<Plan<'f, 'e>, Blocked> {
        // Deletes work on a full disk, too (I13).
        let deletes = edits.iter().all(|edit| edit.value.is_none());
        self.plan_in(epoch, edits, if deletes { Room::Shrinking } else { Room::Growing })
    }

    /// As [`Leaves::plan`], with room for what `room` says.
    ///
    /// # Errors
    /// As [`Leaves::plan`].
    pub fn plan_in<'e>(
        self,
        epoch: u64,
        edits: &'e [Edit<'e>],
        room: Room,
    ) -> Result<Plan<'f, 'e>, Blocked> {
        let pool: &'f Pool = self.forest.pool();
        let mut reserved = Reserved::none(pool);
        let mut changes = Vec::new();
        for edits in edits.chunk_by(|a, b| self.of_key[a.index] == self.of_key[b.index]) {
            let leaf = self.of_key[edits[0].index];
            let (tree, page) = &self.pages[leaf];
            reserved.prepare(page, epoch, room)?;
            let how = if fits_in_place(&Page::new(page.words()), edits) {
                How::InPlace(edits)
            } else {
                let edited = Edited::new(page, edits);
                How::Rebuild(rebuild(self.forest, *tree, page, &edited, room)?)
            };
            changes.push(Change { leaf, how });
        }
        Ok(Plan { changes, leaves: self, reserved })
    }
}

/// Whether all edits fit into the leaf one after the other, without moving what is there. A full page
/// still has room for a value that takes the place of one no shorter.
fn fits_in_place<W: Words>(page: &Page<W>, edits: &[Edit<'_>]) -> bool {
    let as_new = |edit: &Edit<'_>| {
        let value = edit.value?;
        Some(record_room(edit.key, value.bytes(), page.prefix_len()))
    };
    let beyond_old = |edit: &Edit<'_>| {
        let (value, room) = (edit.value?, as_new(edit)?);
        Some(page.find(edit.key).map_or(room, |slot| page.replace_room(slot, value.bytes().len())))
    };
    let free = page.free_contiguous();
    // Mostly the first sum says yes, which takes no search.
    edits.iter().filter_map(as_new).sum::<usize>() <= free
        || edits.iter().filter_map(beyond_old).sum::<usize>() <= free
}

impl<'f, 'e> Plan<'f, 'e> {
    /// Changes the leaves, and releases each as soon as it is changed; returns the pages whose new right
    /// sibling the parent has to be told of.
    ///
    /// All leaves are held before the first is released, and none is latched afterwards. So whoever
    /// saw the change of one finds the others changed, or latched until they are: batches over the
    /// same leaves, and who looks at several, see whole batches only, and the next batch need not
    /// wait for this one's end (two-phase locking: Eswaran et al. 1976).
    ///
    /// `replaced` is given the references that were overwritten or taken away, leaf by leaf and while
    /// it is still latched: the values that they refer to are nobody's from now on.
    pub fn commit(self, epoch: u64, mut replaced: impl FnMut(&[Reference])) -> Vec<PageId> {
        let Self { changes, leaves: Leaves { forest, pages, .. }, reserved } = self;
        let mut changes = changes.into_iter().peekable();
        let mut unposted = Vec::new();
        let mut references = Vec::new();
        for (leaf, (tree, page)) in pages.into_iter().enumerate() {
            // There are leaves that were looked at only.
            let Some(change) = changes.next_if(|change| change.leaf == leaf) else { continue };
            let shrank = match change.how {
                How::InPlace(edits) => {
                    edit_in_place(&Page::new(page.words()), edits, &mut references)
                }
                How::Rebuild(mut rebuilt) => {
                    references.append(&mut rebuilt.replaced);
                    unposted.extend(rebuilt.commit(&page, epoch));
                    false
                }
            };
            page.changed(epoch);
            if shrank && page.page() != tree.root && Page::new(page.words()).is_underfull() {
                forest.report_underfull(page.page());
            }
            if !references.is_empty() {
                replaced(&references);
                references.clear();
            }
        }
        debug_assert!(changes.next().is_none(), "changes are in the order of their leaves");
        reserved.used();
        unposted
    }
}

/// The most bytes that an entry takes in a page whose keys share `prefix_len` bytes.
pub(crate) fn record_room(key: &[u8], value: &[u8], prefix_len: usize) -> usize {
    SLOT_LEN + Lengths::new(key.len() - prefix_len, value.len()).record()
}

/// Makes the edits; whether one of them made the page's contents less. References that they replace
/// are added to `replaced`.
fn edit_in_place<W: WordsMut>(
    view: &Page<W>,
    edits: &[Edit<'_>],
    replaced: &mut Vec<Reference>,
) -> bool {
    let mut shrank = false;
    for edit in edits {
        let found = view.find(edit.key);
        if let Ok(slot) = found {
            replaced.extend(view.reference(slot));
        }
        let done = match (found, edit.value) {
            (Ok(slot), Some(value)) => {
                shrank |= value.bytes().len() < view.value_len(slot);
                view.replace_value(slot, value.bytes())
            }
            (Err(slot), Some(value)) => view.insert(slot, edit.key, value.bytes()),
            (Ok(slot), None) => {
                shrank = true;
                view.remove(slot);
                true
            }
            (Err(_), None) => true,
        };
        assert!(done, "an edit that was planned to fit in place did not");
        // An insert may have moved slots, and made this one that of an ordinary value.
        let slot = match (found, edit.value.map(Stored::kind)) {
            (Ok(slot), Some(kind)) if view.kind(slot) != kind => Some((slot, kind)),
            (Err(_), Some(Kind::Overflow)) => view.find(edit.key).ok().zip(Some(Kind::Overflow)),
            _ => None,
        };
        if let Some((slot, kind)) = slot {
            view.set_kind(slot, kind);
        }
    }
    shrank
}

/// What a page holds after edits.
pub(crate) struct Edited {
    entries: Entries,
    /// Whether nothing was put in but behind all that was there.
    appended: bool,
    /// References that the edits have replaced.
    replaced: Vec<Reference>,
}

impl Edited {
    pub(crate) fn new(page: &ExclusivePage<'_>, edits: &[Edit<'_>]) -> Self {
        let mut entries = Entries::of(&Page::new(page.words()));
        let mut appended = true;
        let mut replaced = Vec::new();
        for edit in edits {
            let found = entries.find(edit.key);
            if let Ok(at) = found {
                replaced.extend(entries.reference(at));
            }
            match (found, edit.value) {
                (Ok(at), Some(value)) => {
                    appended = false;
                    entries.replace_stored(at, value);
                }
                (Err(at), Some(value)) => {
                    appended &= at == entries.len();
                    entries.insert_stored(at, edit.key, value);
                }
                (Ok(at), None) => entries.remove(at),
                (Err(_), None) => {}
            }
        }
        Self { entries, appended, replaced }
    }
}

/// The new contents of a page, and of the pages split off from it.
pub(crate) struct Rebuilt<'f> {
    own: Kept<'f>,
    /// Written, but not published.
    new: Vec<NewPage<'f>>,
    /// The pages whose right link will be flagged.
    unposted: Vec<PageId>,
    /// References that are in none of them any more.
    replaced: Vec<Reference>,
}

/// Builds the pages that `entries` need in the place of `page`.
pub(crate) fn rebuild<'f>(
    forest: &'f Forest,
    tree: TreeRef,
    page: &ExclusivePage<'_>,
    edited: &Edited,
    room: Room,
) -> Result<Rebuilt<'f>, Blocked> {
    let pool: &'f Pool = forest.pool();
    let view = Page::new(page.words());
    let (mut low, mut high) = (Vec::new(), Vec::new());
    view.low_into(&mut low);
    let finite = view.high_into(&mut high);
    let spec = PageSpec {
        page_size: pool.page_size(),
        tree: tree.id,
        level: view.level(),
        low: &low,
        high: finite.then_some(&high),
        gap: gap_for(tree, &view, &edited.entries),
    };
    let appending = edited.appended && !finite;
    let policy = if appending { Policy::Ascending } else { Policy::Balanced };
    let mut parts = edited.entries.partition(&spec, policy);
    let replaced = edited.replaced.clone();
    let old_link = (view.right(), view.unposted());
    if parts.len() > 1 && page.page() == tree.root {
        return grow_root(forest, &spec, parts, replaced, room);
    }
    let mut new = Vec::new();
    for _ in 1..parts.len() {
        new.push(pool.try_new_page(room)?);
    }
    let links = new.iter().map(|page| (Some(page.id()), true)).collect();
    link(&mut parts, links, old_link);
    let lefts = std::iter::once(page.page()).chain(new.iter().map(NewPage::id));
    // The last part has the link to the old right sibling, which may not be posted either.
    let unposted = lefts.take(new.len() + usize::from(old_link.1)).collect();
    let (own, right) = parts.split_first().expect("a page's entries make at least one page");
    write_new(&new, right);
    Ok(Rebuilt { own: forest.spares.keep(&own.image), new, unposted, replaced })
}

/// How densely fillers are spread over the leaves that take over `entries` from `page`, or from it
/// and its sibling.
pub(crate) fn gap_for<W: Words>(tree: TreeRef, page: &Page<W>, entries: &Entries) -> Gap {
    let record_len = entries.average_len().saturating_sub(page.prefix_len());
    tree.gap.unwrap_or_else(|| Gap::automatic(page.page_size(), record_len))
}

/// The root keeps its page: all that it held moves to new pages, and it becomes their parent, at as
/// high a level as it takes to have room for their separators.
fn grow_root<'f>(
    forest: &'f Forest,
    spec: &PageSpec<'_>,
    mut parts: Vec<Part>,
    replaced: Vec<Reference>,
    room: Room,
) -> Result<Rebuilt<'f>, Blocked> {
    let mut new = Vec::new();
    let mut level = spec.level;
    loop {
        let mut children = Vec::new();
        for _ in &parts {
            children.push(forest.pool().try_new_page(room)?);
        }
        let links = children.iter().skip(1).map(|page| (Some(page.id()), false)).collect();
        link(&mut parts, links, (None, false));
        let ids: Vec<[u8; 8]> = children.iter().map(|page| page.id().0.to_le_bytes()).collect();
        let separators = parts.iter().map(|part| part.low.as_slice());
        let entries: Vec<(&[u8], &[u8])> =
            separators.zip(ids.iter().map(<[u8; 8]>::as_slice)).collect();
        level += 1;
        let spec = PageSpec { level, low: b"", high: None, ..*spec };
        let built = build(&spec, &entries);
        let above =
            if built.is_none() { partition(&spec, &entries, Policy::Balanced) } else { Vec::new() };
        write_new(&children, &parts);
        new.extend(children);
        if let Some(own) = built {
            let own = forest.spares.keep(&own);
            return Ok(Rebuilt { own, new, unposted: Vec::new(), replaced });
        }
        parts = above;
    }
}

/// Sets right links and flags: those between the parts, and on the last one what was there before.
fn link(parts: &mut [Part], mut links: Vec<(Option<PageId>, bool)>, old: (Option<PageId>, bool)) {
    links.push(old);
    for (part, (right, unposted)) in parts.iter_mut().zip(links) {
        let page = part.image.edit();
        page.set_right(right);
        page.set_unposted(unposted);
    }
}

/// Writes new pages, which nobody can reach.
fn write_new(new: &[NewPage<'_>], parts: &[Part]) {
    for (page, part) in new.iter().zip(parts) {
        part.image.write_to(page.words());
    }
}

impl Rebuilt<'_> {
    /// Makes the new pages known, then writes the old one, whose exclusive latch the caller holds.
    pub(crate) fn commit(self, page: &ExclusivePage<'_>, epoch: u64) -> Vec<PageId> {
        for new in self.new {
            new.publish(epoch);
        }
        self.own.write_to(page.words());
        self.unposted
    }
}

#[cfg(test)]
mod tests;
