//! Page ids that are taken before there are pages: whoever builds pages in a row knows what each will
//! link to before that one is built.
//!
//! Ids are taken in runs. Each is used once ([`crate::PageBatch::push`]), or given back with
//! [`Pool::return_ids`] when nothing durable speaks of the run as a run any more: from then on
//! an id may be anybody's.

use treering_pagefile::PageId;

use crate::pool::Pool;
use crate::table::Place;

impl Pool {
    /// Takes `count` ids in a row, at least one, and returns the first.
    pub fn take_ids(&self, count: u64) -> PageId {
        self.table.take_ids(count)
    }

    /// Gives back ids that were taken and never used, `count` in a row.
    pub fn return_ids(&self, first: PageId, count: u64) {
        if count > 0 {
            self.table.return_ids(first, count);
        }
    }

    /// Of `count` ids from `first` on, those of pages that are neither free nor a value's.
    pub fn pages_among(&self, first: PageId, count: u64) -> Vec<PageId> {
        let end = first.0.saturating_add(count).min(self.table.bound());
        let ids = (first.0..end).map(PageId);
        ids.filter(|id| !matches!(self.table.place(*id), Place::Free | Place::Overflow(_)))
            .collect()
    }
}
