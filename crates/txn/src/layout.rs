//! What the page file is used for, slot by slot: for people who want to see it.

use treering_pagefile::SlotUse;

use crate::engine::Engine;
use crate::error::Error;

/// The page file as it is at one moment, in slots of one page.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Layout {
    /// Bytes of a slot, and of a page.
    pub page_size: usize,
    /// Where the first slot begins: the superblocks lie before it.
    pub data_start: u64,
    /// What each slot is used for.
    pub slots: Vec<SlotUse>,
}

impl Engine {
    /// What the slots of the page file are used for. Writes a checkpoint first, unless the database is
    /// open for reading only, so that what was changed has its place; writers that go on meanwhile may
    /// make some slots appear as what they have just been. It costs 16 bytes of memory a
    /// slot.
    ///
    /// # Errors
    /// Those of a checkpoint.
    pub async fn layout(&self) -> Result<Layout, Error> {
        if !self.read_only {
            self.checkpoint().await?;
        }
        let file = self.pool().file();
        Ok(Layout {
            page_size: file.page_size(),
            data_start: file.data_start(),
            slots: file.slots(self.pool().extents_and_kinds()),
        })
    }
}
