//! What each slot of a page file is used for.

use crate::file::PageFile;
use crate::page::{Extent, PageId};
use crate::space::Geometry;

/// What a slot of the page file, one page long, is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotUse {
    /// Nothing.
    Free,
    /// A page of a tree.
    Page(PageId),
    /// A page of a large value.
    Value(PageId),
    /// A part of the page map.
    Map,
    /// What was there is replaced; free after the next checkpoints.
    Pending,
    /// In use for something that the map does not know yet: being written, or held by a backup.
    Taken,
}

impl PageFile {
    /// Where the first slot begins, in bytes.
    pub fn data_start(&self) -> u64 {
        self.geometry.data_start
    }

    /// What the slots are used for. `live` are the pages that exist, where each is, and whether it is a
    /// large value's; where they change meanwhile, the answer is of before or after.
    pub fn slots(&self, live: impl Iterator<Item = (PageId, Extent, bool)>) -> Vec<SlotUse> {
        let (space, metadata, pending, _) = self.ledger().snapshot();
        let geometry: &Geometry = &self.geometry;
        let used = (0..space.slots()).map(|slot| match space.is_used(slot) {
            true => SlotUse::Taken,
            false => SlotUse::Free,
        });
        let mut slots: Vec<SlotUse> = used.collect();
        let mut set = |start: usize, len: usize, what: SlotUse| {
            // A file that has been cut since has fewer of them.
            let end = (start + len).min(slots.len());
            slots[start.min(end)..end].fill(what);
        };
        for run in pending.into_iter().filter_map(|extent| geometry.run_of(extent)) {
            set(run.start, run.len, SlotUse::Pending);
        }
        for run in metadata {
            set(run.start, run.len, SlotUse::Map);
        }
        for (page, extent, large) in live {
            if let Some(run) = geometry.run_of(extent) {
                let what = if large { SlotUse::Value(page) } else { SlotUse::Page(page) };
                set(run.start, run.len, what);
            }
        }
        slots
    }
}
