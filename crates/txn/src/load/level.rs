//! One level of a tree that is built from the left to the right: entries come in, full pages go out.
//!
//! How much fits into a page is known only when its right fence is, since keys are stored without
//! what the fences have in common. So entries are gathered for some pages, and cut by the same rules
//! as a split's ([`treering_blink::Entries::partition`]). The last page of such a cut is no page yet:
//! its entries stay. If hardly any stay, the page before it might have taken more, so more is gathered
//! first.

use treering_blink::{Entries, Gap, Image, PageSpec, Policy, Reference, Stored};
use treering_pagefile::PageId;

/// A page and its low fence.
pub(super) type Built = (Image, Vec<u8>);

pub(super) struct Level {
    page_size: usize,
    tree: u32,
    level: u8,
    entries: Entries,
    /// Bytes of the entries, about as they would take in a page.
    bytes: usize,
    /// Bytes from which on pages are cut.
    wanted: usize,
    /// The low fence of the page that comes next.
    low: Vec<u8>,
    /// The id of the page that comes next, if one to its left links to it.
    pub(super) next: Option<PageId>,
    /// Pages so far.
    pub(super) pages: u64,
}

/// Pages whose bytes are gathered before they are cut, and how many that may become.
const PAGES: usize = 12;
const PAGES_MAX: usize = 48;
/// What an entry takes beside key and value, about.
const OVERHEAD: usize = 10;

impl Level {
    pub(super) fn new((page_size, tree): (usize, u32), level: u8) -> Self {
        Self {
            page_size,
            tree,
            level,
            entries: Entries::new(),
            bytes: 0,
            wanted: PAGES * page_size,
            low: Vec::new(),
            next: None,
            pages: 0,
        }
    }

    pub(super) fn add(&mut self, key: &[u8], value: Stored<'_>) {
        self.bytes += key.len() + value.bytes().len() + OVERHEAD;
        self.entries.insert_stored(self.entries.len(), key, value);
    }

    pub(super) fn may_have_full_pages(&self) -> bool {
        self.bytes >= self.wanted
    }

    /// The pages that are full; their entries are gone from here.
    pub(super) fn take_full_pages(&mut self) -> Vec<Built> {
        let mut parts = self.cut();
        let Some((last, low)) = parts.pop() else { return parts };
        let kept = last.page().live_len();
        let hardly_any = kept < 2 && self.wanted < PAGES_MAX * self.page_size;
        if hardly_any || parts.is_empty() {
            self.wanted *= 2;
            return Vec::new();
        }
        let old = std::mem::take(&mut self.entries);
        let from = old.len() - kept;
        (self.bytes, self.low) = (0, low);
        for at in from..old.len() {
            match &old.reference(at) {
                Some(reference) => self.add(old.key(at), Stored::Overflow(reference)),
                None => self.add(old.key(at), Stored::Inline(old.value(at))),
            }
        }
        parts
    }

    /// All that is left.
    pub(super) fn take_rest(&mut self) -> Vec<Built> {
        let parts = if self.entries.is_empty() { Vec::new() } else { self.cut() };
        (self.entries, self.bytes) = (Entries::new(), 0);
        parts
    }

    fn cut(&self) -> Vec<Built> {
        let spec = PageSpec {
            page_size: self.page_size,
            tree: self.tree,
            level: self.level,
            low: &self.low,
            high: None,
            gap: Gap::NONE,
        };
        let parts = self.entries.partition(&spec, Policy::Filled);
        parts.into_iter().map(|part| (part.image, part.low)).collect()
    }
}

/// The references to large values in a leaf, in the order of their keys.
pub(super) fn references(leaf: &Image) -> Vec<Reference> {
    let leaf = leaf.page();
    leaf.live_slots().filter_map(|slot| leaf.reference(slot)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Builds the leaves of `keys`, and checks fences, contents and how full they are.
    fn leaves(keys: &[Vec<u8>], value: &[u8], page_size: usize) -> Vec<Built> {
        let mut level = Level::new((page_size, 1), 0);
        let mut pages = Vec::new();
        for key in keys {
            level.add(key, Stored::Inline(value));
            if level.may_have_full_pages() {
                pages.extend(level.take_full_pages());
            }
        }
        pages.extend(level.take_rest());
        let mut found = Vec::new();
        let mut fence = Vec::new();
        for (image, low) in &pages {
            let page = image.page();
            assert_eq!(low, &fence);
            fence.clear();
            page.high_into(&mut fence);
            let entries = Entries::of(&page);
            found.extend((0..entries.len()).map(|at| entries.key(at).to_vec()));
        }
        assert!(found == keys, "{} keys became {}", keys.len(), found.len());
        pages
    }

    #[test]
    fn pages_are_full_whatever_their_keys_have_in_common() {
        let plain: Vec<_> = (0..3000u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let long = |n: u32| [vec![b'p'; 90], n.to_be_bytes().to_vec()].concat();
        let long: Vec<_> = (0..3000).map(long).collect();
        for keys in [&plain, &long] {
            let pages = leaves(keys, b"12345678", 512);
            // The last page has no high fence, so nothing of its keys is left out, and it takes few of
            // them; what it cannot take is all that the page before it has.
            for (image, _) in &pages[..pages.len() - 2] {
                let free = image.page().free_total();
                assert!(free * 10 <= 512, "{free} bytes of a page are free");
            }
        }
    }

    #[test]
    fn entries_of_half_a_page_are_built_too() {
        let keys: Vec<_> = (0..100u32).map(|n| n.to_be_bytes().to_vec()).collect();
        assert!(leaves(&keys, &[7; 172], 512).len() <= 50);
    }
}
