//! Checking large values while they come and go.
//!
//! Each reference in a leaf has to lead to pages that are there, sound, and of this value. A value
//! that is replaced meanwhile may lose its pages: so what cannot be read counts only if its key still
//! has the same reference.
//!
//! At the end every page that existed at the beginning has to have been reached, or not to exist any
//! more, or to be of a value that is no leaf's at the beginning or at the end: still being made, or
//! retired. For that ids must not change hands, so those of values that go are kept from being used
//! again as long as the check runs.

use treering_blink::{Kind, Page, TreeRef, Words};
use treering_bufpool::ValueRef;
use treering_pagefile::PageId;

use crate::error::Error;
use crate::job::lost_value;
use crate::read::Found;
use crate::verify::Verifier;

/// Bytes of a value that are read at once.
const PART: u64 = 4 << 20;

/// A key and what its leaf has for a reference.
pub(crate) type Large = (Vec<u8>, Vec<u8>);

/// The keys of a leaf whose values are not in it.
pub(crate) fn large_values<W: Words>(leaf: &Page<W>) -> Vec<Large> {
    let slots = (0..leaf.len()).filter(|slot| leaf.kind(*slot) == Kind::Overflow);
    slots
        .map(|slot| {
            let (mut key, mut reference) = (Vec::new(), Vec::new());
            leaf.key_into(slot, &mut key);
            leaf.value_into(slot, &mut reference);
            (key, reference)
        })
        .collect()
}

impl Verifier<'_> {
    /// Reads a value and checks all its pages.
    pub(crate) async fn check_value(
        &mut self,
        place: &str,
        tree: TreeRef,
        (key, reference): Large,
    ) -> Result<(), Error> {
        let Some(value) = ValueRef::from_bytes(&reference) else {
            self.problem(format!("{place}: {}", lost_value(&reference)));
            return Ok(());
        };
        let pool = self.engine.pool();
        let pages = value.pages(pool.page_size());
        for id in (value.first.0..value.first.0 + pages).map(PageId) {
            if !self.reached.insert(id) {
                self.problem(format!("{place}: {id}, of a large value, is reached twice"));
                return Ok(());
            }
        }
        let (mut at, mut bytes) = (0, Vec::new());
        let mut failed = None;
        while at < value.len && failed.is_none() {
            self.engine.health.check()?;
            let end = value.len.min(at + PART);
            bytes.clear();
            match pool.read_value(tree.id, value, at..end, &mut bytes).await {
                Ok(true) => at = end,
                Ok(false) => failed = Some(lost_value(&reference)),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            None => {
                self.report.large_values += 1;
                self.report.pages += pages;
            }
            Some(error) => {
                let now = self.engine.find(tree, &key).await?;
                if matches!(now, Some(Found::Large(same)) if same == value) {
                    self.problem(format!("{place}, key \"{}\": {error}", key.escape_ascii()));
                }
            }
        }
        Ok(())
    }

    /// Of pages that were there and were not reached, those that should have been.
    pub(crate) fn lost(&self, pages: &[PageId], unattached: &[(PageId, u64)]) -> Vec<PageId> {
        let pool = self.engine.pool();
        let now = pool.unattached_values();
        let mut values = unattached.to_vec();
        values.extend(now);
        values.sort_unstable();
        // Two with the same ids are one value. So the last that begins before a page decides.
        let is_unattached = |page: PageId| {
            let behind = values.partition_point(|(first, _)| *first <= page);
            let before = behind.checked_sub(1).map(|at| values[at]);
            before.is_some_and(|(first, count)| page.0 < first.0 + count)
        };
        let loading = joined(self.loading.clone());
        let is_loading = |page: PageId| {
            let behind = loading.partition_point(|(first, _)| *first <= page.0);
            behind.checked_sub(1).is_some_and(|at| page.0 < loading[at].1)
        };
        let unreached = pages.iter().filter(|page| !self.reached.contains(page));
        let lost = unreached.filter(|page| !is_unattached(**page) && !is_loading(**page));
        lost.filter(|page| pool.exists(**page)).copied().collect()
    }
}

/// Runs of ids, first and number, as first and end, sorted, those that overlap as one.
fn joined(mut runs: Vec<(PageId, u64)>) -> Vec<(u64, u64)> {
    runs.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (PageId(first), count) in runs {
        match joined.last_mut() {
            Some((_, end)) if first <= *end => *end = (*end).max(first + count),
            _ => joined.push((first, first + count)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_overlap_are_joined() {
        let runs = [(10, 5), (1, 2), (12, 8), (3, 1), (30, 1)];
        let runs = runs.map(|(first, count)| (PageId(first), count)).to_vec();
        assert_eq!(joined(runs), [(1, 4), (10, 20), (30, 31)]);
    }
}
