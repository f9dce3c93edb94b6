//! What a checkpoint does about values: their pages come into the page map, or leave it.

use std::sync::atomic::Ordering;

use treering_pagefile::{MapEntry, PageId, yield_now};

use super::{Published, Retired};
use crate::pool::Pool;
use crate::table::Place;

/// Pages that are dealt with before others get a turn.
const AT_ONCE: u64 = 4096;

impl Pool {
    /// Tells the page file of the pages of all values that were published or retired in epochs up
    /// to `epoch`, which is closed and has no appliers any more. By the checkpoint, before it closes
    /// the epoch's entries.
    pub async fn settle_values(&self, epoch: u64) {
        let (published, retired) = {
            let mut state = self.values.lock();
            let freed: Vec<_> = state.freed.extract_if(.., |(of, _)| *of <= epoch).collect();
            state.settled.extend(freed.into_iter().map(|(_, page)| (page, 1)));
            let published: Vec<_> =
                state.published.extract_if(.., |value| value.epoch <= epoch).collect();
            // They stay unattached until their words are free.
            let retired = state.retired.iter().filter(|value| value.epoch <= epoch);
            let retired = retired.map(|value| (value.first, value.count)).collect::<Vec<_>>();
            (published, retired)
        };
        if published.is_empty() && retired.is_empty() {
            return;
        }
        self.values.settlings.fetch_add(1, Ordering::SeqCst);
        for value in published {
            self.record_published(&value, epoch).await;
        }
        for &(first, count) in &retired {
            self.record_retired(first, count, epoch).await;
        }
        self.values.settlings.fetch_add(1, Ordering::SeqCst);
        let mut state = self.values.lock();
        state.retired.retain(|Retired { epoch: of, .. }| *of > epoch);
        state.settled.extend(retired);
    }

    /// After the checkpoint that followed [`Pool::settle_values`] is durable: the ids of the values
    /// that were retired are free.
    pub fn release_value_ids(&self) {
        let mut state = self.values.lock();
        let settled = std::mem::take(&mut state.settled);
        if state.keepers > 0 {
            state.kept.extend(settled);
            return;
        }
        for (first, count) in settled {
            self.table.return_ids(first, count);
        }
    }

    async fn record_published(&self, value: &Published, epoch: u64) {
        let mut page = value.first;
        for (extent, stamp) in value.runs.iter().flat_map(|run| run.pages(self.page_size())) {
            self.file.record_written(MapEntry { page, extent, stamp, overflow: true }, epoch, None);
            page.0 += 1;
            if page.0.is_multiple_of(AT_ONCE) {
                yield_now().await;
            }
        }
    }

    async fn record_retired(&self, first: PageId, count: u64, epoch: u64) {
        for page in (first.0..first.0 + count).map(PageId) {
            let place = self.table.place(page);
            match place {
                Place::Overflow(extent) if self.table.change(page, place, Place::Free) => {
                    self.file.record_freed_later(page, epoch, extent);
                }
                // A leaf's reference named a page that is none of a value.
                _ => tracing::error!(%page, "a page of a large value is not where it should be"),
            }
            if page.0.is_multiple_of(AT_ONCE) {
                yield_now().await;
            }
        }
    }
}
