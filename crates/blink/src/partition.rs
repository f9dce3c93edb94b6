//! Distributing entries that do not fit one page over several: where a split cuts.
//!
//! As few pages as possible come first: two whenever any cut gives two pages that fit, found by
//! trying every cut with the sizes that the pages will really have, since a cut decides how long
//! the fence and how long the common prefix of both sides are. When there is no such cut, pages are
//! filled from the left, each as far as it goes, to count them.
//!
//! Among the cuts that need no more pages [`Policy::Balanced`] takes one where the bytes balance;
//! of those within about a tenth of the best balance, one with the shortest separator, since
//! separators are what inner pages are made of. [`Policy::Ascending`] takes the right-most cut:
//! ascending inserts leave full pages behind. [`Policy::Filled`] only does the latter, page by page.
//!
//! Fillers (see [`crate::gap`]) never make more pages: all of this is measured without them, and
//! each page then gets them if it has the room, which pages that were filled up have not. After an
//! ascending split no page gets any: nothing will be inserted there but at the end.
//!
//! The separator between two leaves is the shortest `s` with `last left key < s <= first right key`:
//! the first bytes of the right key, up to and including the one in which it differs from the left.
//! Between inner pages it is the first key of the right page.

use std::ops::Range;

use crate::build::{Image, PageSpec, build};
use crate::gap::Gap;
use crate::layout::{HEADER_LEN, SLOT_LEN, max_key_len, max_record_len, varint_len};
use crate::words::common_prefix_len;

/// Where to cut, when several cuts give the same number of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Where the bytes balance.
    Balanced,
    /// As far right as possible, for inserts in ascending order at the right edge.
    Ascending,
    /// Each page is filled as far as it goes, whatever that leaves for the last: for many pages at
    /// once. Takes one look at each cut, where the others take several.
    Filled,
}

/// One of the pages that entries were distributed over.
#[derive(Clone, Debug)]
pub struct Part {
    /// The page, without right link, its flag `UNPOSTED` clear.
    pub image: Image,
    /// Its low fence: the separator to the page on its left, or the low fence of the whole.
    pub low: Vec<u8>,
}

/// Distributes `entries` over as few pages as possible, left to right. The fences of the parts chain
/// from `spec.low` to `spec.high`. For what is required of entries see [`build`](fn@build).
///
/// # Panics
/// If an entry is larger than the limits for the page size.
pub fn partition(spec: &PageSpec<'_>, entries: &[(&[u8], &[u8])], policy: Policy) -> Vec<Part> {
    let (max_key, max_record) = (max_key_len(spec.page_size), max_record_len(spec.page_size));
    debug_assert!(spec.low.len() <= max_key && spec.high.is_none_or(|high| high.len() <= max_key));
    debug_assert!(entries.iter().all(|(key, value)| {
        key.len() <= max_key && (spec.level > 0 || key.len() + value.len() <= max_record)
    }));
    let gap = if policy == Policy::Balanced { spec.gap } else { Gap::NONE };
    let cutter = Cutter::new(&PageSpec { gap, ..*spec }, entries);
    let bounds = cutter.bounds(policy);
    let part = |bounds: &[usize]| {
        let part = cutter.spec(bounds[0], bounds[1]);
        let image = build(&part, &entries[bounds[0]..bounds[1]])
            .expect("a part was measured, or is one entry, which fits if it is within the limits");
        Part { image, low: part.low.to_vec() }
    };
    bounds.windows(2).map(part).collect()
}

/// Entries with what it takes to know the size of a page of any run of them.
struct Cutter<'a> {
    spec: PageSpec<'a>,
    entries: &'a [(&'a [u8], &'a [u8])],
    /// At index `i`: the sums over the entries before `i`.
    sums: Vec<Sums>,
    /// At index `i`: the length of the separator between the entries `i - 1` and `i`.
    separators: Vec<usize>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    /// Slots, whole keys, values, and the lengths of values.
    bytes: usize,
    /// The lengths of whole keys, as records have them.
    key_lengths: usize,
}

/// Bounds on the size of a page. They differ if taking the prefix off a key may have shortened the
/// encoding of its length.
struct Size {
    least: usize,
    most: usize,
    /// What of it is the high fence.
    high: usize,
}

/// A way to end the first page.
struct Cut {
    at: usize,
    /// By how many bytes the page and those behind it differ in size.
    imbalance: usize,
}

impl<'a> Cutter<'a> {
    fn new(spec: &PageSpec<'a>, entries: &'a [(&'a [u8], &'a [u8])]) -> Self {
        let mut sum = Sums::default();
        let mut sums = Vec::with_capacity(entries.len() + 1);
        sums.push(sum);
        for (key, value) in entries {
            sum.bytes += SLOT_LEN + key.len() + varint_len(value.len()) + value.len();
            sum.key_lengths += varint_len(key.len());
            sums.push(sum);
        }
        let mut separators = vec![0; entries.len()];
        for (index, pair) in entries.windows(2).enumerate() {
            let (left, right) = (pair[0].0, pair[1].0);
            separators[index + 1] =
                if spec.level > 0 { right.len() } else { common_prefix_len(left, right) + 1 };
        }
        Self { spec: *spec, entries, sums, separators }
    }

    /// Where the pages begin, and at last the number of entries.
    fn bounds(&self, policy: Policy) -> Vec<usize> {
        let mut bounds = vec![0];
        let mut from = 0;
        if policy == Policy::Filled && !self.entries.is_empty() {
            while from < self.entries.len() {
                from = self.filled(from);
                bounds.push(from);
            }
            return bounds;
        }
        let mut pages = self.pages_needed(from);
        while pages > 1 {
            from = self.cut(from, pages, policy);
            bounds.push(from);
            pages = (pages - 1).min(self.pages_needed(from));
        }
        bounds.push(self.entries.len());
        bounds
    }

    /// Where the first of `pages` pages ends if they begin at `from`.
    fn cut(&self, from: usize, pages: usize, policy: Policy) -> usize {
        let end = self.entries.len();
        if pages == 2 && policy == Policy::Balanced {
            // A split, nearly always. If bytes balance where entries do, no other cut is measured.
            let tolerated = self.size(from, end).most / 10;
            let near = self.near_middle(from).filter_map(|at| self.cut_in_two(from, at));
            let near = near.filter(|cut| cut.imbalance <= tolerated);
            if let Some(cut) = near.min_by_key(|cut| (self.separators[cut.at], cut.imbalance)) {
                return cut.at;
            }
        }
        let cuts = self.fitting(from).filter(|(cut, _)| *cut < end);
        let cuts = cuts.filter_map(|(at, left)| {
            let right = self.size(at, end);
            let fits = pages > 2 || self.fits_size(at, end, &right);
            fits.then(|| Cut { at, imbalance: left.most.abs_diff(right.most / (pages - 1)) })
        });
        let cuts: Vec<usize> = match policy {
            Policy::Ascending | Policy::Filled => {
                let mut cuts: Vec<usize> = cuts.map(|cut| cut.at).collect();
                cuts.reverse();
                cuts
            }
            Policy::Balanced => self.balanced(from, cuts.collect(), pages),
        };
        let rest_fits = |cut: &usize| pages == 2 || self.pages_filled(*cut) < pages;
        cuts.into_iter().find(rest_fits).unwrap_or(from + 1)
    }

    /// Cuts in the order of preference, if bytes are to balance.
    fn balanced(&self, from: usize, mut cuts: Vec<Cut>, pages: usize) -> Vec<usize> {
        let best = cuts.iter().map(|cut| cut.imbalance).min().unwrap_or(0);
        let tolerated = best + self.size(from, self.entries.len()).most / pages / 5;
        cuts.sort_unstable_by_key(|cut| match cut.imbalance {
            near if near <= tolerated => (0, self.separators[cut.at], near),
            far => (1, far, 0),
        });
        cuts.into_iter().map(|cut| cut.at).collect()
    }

    /// The cuts with about as many bytes of entries before as behind them.
    fn near_middle(&self, from: usize) -> Range<usize> {
        let (begin, end) = (self.sums[from].bytes, self.sums[self.entries.len()].bytes);
        let share = |percent: usize| begin + (end - begin) * percent / 100;
        let at_least = |bytes: usize| self.sums.partition_point(|sums| sums.bytes < bytes);
        let range = at_least(share(43))..at_least(share(57));
        range.start.max(from + 1)..range.end.min(self.entries.len())
    }

    /// The cut at `at`, if both pages fit.
    fn cut_in_two(&self, from: usize, at: usize) -> Option<Cut> {
        let end = self.entries.len();
        let (left, right) = (self.size(from, at), self.size(at, end));
        let fits = self.fits_size(from, at, &left) && self.fits_size(at, end, &right);
        fits.then(|| Cut { at, imbalance: left.most.abs_diff(right.most) })
    }

    /// How many pages the entries from `from` on take: exact up to two.
    fn pages_needed(&self, from: usize) -> usize {
        let end = self.entries.len();
        if self.fits(from, end) {
            1
        } else if self.fitting(from).any(|(cut, _)| self.fits(cut, end)) {
            2
        } else {
            self.pages_filled(from)
        }
    }

    /// How many pages they take if each is filled as far as it goes.
    fn pages_filled(&self, mut from: usize) -> usize {
        let mut pages = 0;
        while from < self.entries.len() {
            from = self.filled(from);
            pages += 1;
        }
        pages
    }

    /// Where a page ends that begins at `from` and is filled as far as it goes.
    fn filled(&self, from: usize) -> usize {
        self.fitting(from).last().map_or(from + 1, |(to, _)| to)
    }

    /// All ends of a page that begins at `from`, and its size. Not always without gaps: a page may
    /// fit only up to a short separator.
    fn fitting(&self, from: usize) -> impl Iterator<Item = (usize, Size)> {
        (from + 1..=self.entries.len())
            .map(move |to| (to, self.size(from, to)))
            // Without its high fence a page only grows: prefixes shrink to the right.
            .take_while(|(_, size)| size.least - size.high <= self.spec.page_size)
            .filter(move |(to, size)| self.fits_size(from, *to, size))
    }

    fn fits(&self, from: usize, to: usize) -> bool {
        self.fits_size(from, to, &self.size(from, to))
    }

    fn fits_size(&self, from: usize, to: usize, size: &Size) -> bool {
        let page_size = self.spec.page_size;
        size.most <= page_size
            || size.least <= page_size
                && self.spec(from, to).encoded_len(&self.entries[from..to]) <= page_size
    }

    fn size(&self, from: usize, to: usize) -> Size {
        let spec = self.spec(from, to);
        let (first, last) = (self.sums[from], self.sums[to]);
        let count = to - from;
        let high = spec.high.map_or(0, <[u8]>::len);
        let mut bytes = HEADER_LEN + spec.low.len() + high + last.bytes - first.bytes;
        bytes -= count * spec.prefix_len();
        let mut lengths = last.key_lengths - first.key_lengths;
        if self.spec.level > 0 && from < to {
            // The first key is not stored.
            let key = self.entries[from].0;
            bytes -= key.len() - spec.prefix_len();
            lengths -= varint_len(key.len()) - 1;
        }
        Size { least: bytes + count, most: bytes + lengths, high }
    }

    /// The page that holds the entries `from..to`.
    fn spec(&self, from: usize, to: usize) -> PageSpec<'a> {
        let separator = |index: usize| &self.entries[index].0[..self.separators[index]];
        let low = if from == 0 { self.spec.low } else { separator(from) };
        let high = if to == self.entries.len() { self.spec.high } else { Some(separator(to)) };
        PageSpec { low, high, ..self.spec }
    }
}
