//! What the catalog knows of a load: its tree and the ids that its pages may have.
//!
//! One entry a load, under the key 2, the load's number as u64 big-endian, `L`. Its value, little-endian:
//! u32, the tree's number; then for each block u64, its first id. Block number n has 64 * 4^n ids, so
//! the entry stays far smaller than the smallest page's records.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use treering_blink::{Edit, Stored};
use treering_bufpool::Pool;
use treering_latch::sync::{Mutex, MutexGuard};
use treering_pagefile::{PageId, Room};

use crate::attempt::Attempt;
use crate::catalog::CATALOG;
use crate::create_tree::nothing_replaced;
use crate::engine::Engine;
use crate::error::Error;
use crate::records::Waiting;

/// The first byte of the keys of changes that are under way.
const UNDER_WAY: u8 = 2;
/// The last byte of the key, if the change is a load.
const LOAD_MARK: u8 = b'L';
/// Ids of the first block.
const FIRST_BLOCK: u64 = 64;
/// Blocks of a load: 2^37 ids.
const BLOCKS_MAX: usize = 16;

/// A load, as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoadEntry {
    tree: u32,
    /// The first ids of its blocks.
    blocks: Vec<PageId>,
}

impl LoadEntry {
    pub(super) fn new(tree: u32) -> Self {
        Self { tree, blocks: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Takes the ids of another block; returns the first.
    pub(super) fn take_block(&mut self, pool: &Pool) -> Result<PageId, Error> {
        if self.blocks.len() == BLOCKS_MAX {
            return Err(Error::Exhausted { what: "page numbers of one bulk load" });
        }
        let first = pool.take_ids(block_len(self.blocks.len()));
        self.blocks.push(first);
        Ok(first)
    }

    /// First id and number of ids of the block that was taken last.
    pub(super) fn last_block(&self) -> Option<(PageId, u64)> {
        self.blocks().last()
    }

    /// First id and number of ids of each block.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (PageId, u64)> {
        self.blocks.iter().enumerate().map(|(number, first)| (*first, block_len(number)))
    }

    /// The pages that it has.
    pub(super) fn pages(&self, pool: &Pool) -> Vec<PageId> {
        self.blocks().flat_map(|(first, count)| pool.pages_among(first, count)).collect()
    }

    /// The ids that no page of it has: runs of them, first and number.
    pub(super) fn unused(&self, pool: &Pool) -> Vec<(PageId, u64)> {
        let mut unused = Vec::new();
        for (first, count) in self.blocks() {
            let (mut from, end) = (first.0, first.0 + count);
            for page in pool.pages_among(first, count) {
                unused.push((PageId(from), page.0 - from));
                from = page.0 + 1;
            }
            unused.push((PageId(from), end - from));
        }
        unused.retain(|(_, count)| *count > 0);
        unused
    }

    fn encode(&self) -> Vec<u8> {
        let firsts = self.blocks.iter().flat_map(|first| first.0.to_le_bytes());
        self.tree.to_le_bytes().into_iter().chain(firsts).collect()
    }

    /// The inverse of what is stored; `None` for anything else.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let (tree, rest) = value.split_first_chunk()?;
        let (firsts, cut) = rest.as_chunks::<8>();
        let blocks: Vec<_> =
            firsts.iter().map(|first| PageId(u64::from_le_bytes(*first))).collect();
        let fits = |(number, first): (usize, &PageId)| {
            first.0 > 0 && first.0.checked_add(block_len(number)).is_some()
        };
        let sound = cut.is_empty() && blocks.len() <= BLOCKS_MAX;
        (sound && blocks.iter().enumerate().all(fits))
            .then_some(Self { tree: u32::from_le_bytes(*tree), blocks })
    }
}

fn block_len(number: usize) -> u64 {
    FIRST_BLOCK << (2 * number)
}

/// The key of a load's entry in the catalog.
pub(super) fn load_key(id: u64) -> Vec<u8> {
    [&[UNDER_WAY][..], &id.to_be_bytes(), &[LOAD_MARK]].concat()
}

/// The load whose key this is.
pub(crate) fn parse_load_key(key: &[u8]) -> Option<u64> {
    let (id, mark) = key.strip_prefix(&[UNDER_WAY])?.split_first_chunk()?;
    (mark == [LOAD_MARK]).then_some(u64::from_be_bytes(*id))
}

/// The loads under way: their pages are in no tree.
#[derive(Default)]
pub(crate) struct Loads(Mutex<BTreeMap<u64, UnderWay>>);

struct UnderWay {
    entry: LoadEntry,
    /// The pages of its large values: first and number.
    values: Vec<(PageId, u64)>,
}

impl Loads {
    /// Takes in a load, or what has become of it.
    pub(crate) fn note(&self, id: u64, entry: &LoadEntry) {
        let entry = entry.clone();
        match self.lock().entry(id) {
            Slot::Occupied(mut there) => there.get_mut().entry = entry,
            Slot::Vacant(slot) => drop(slot.insert(UnderWay { entry, values: Vec::new() })),
        }
    }

    /// Takes in large values of a load, before they are published.
    pub(super) fn note_values(&self, id: u64, values: impl Iterator<Item = (PageId, u64)>) {
        if let Some(load) = self.lock().get_mut(&id) {
            load.values.extend(values);
        }
    }

    pub(crate) fn forget(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<(u64, LoadEntry)> {
        self.lock().iter().map(|(id, load)| (*id, load.entry.clone())).collect()
    }

    /// The ids that pages of all of them may have: first and number.
    pub(crate) fn ids(&self) -> Vec<(PageId, u64)> {
        let loads = self.lock();
        loads.values().flat_map(|load| load.entry.blocks().chain(load.values.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, UnderWay>> {
        self.0.lock()
    }
}

impl Engine {
    /// Gives a load its entry in the catalog, another one, or none.
    pub(super) async fn write_load_entry(
        &self,
        id: u64,
        entry: Option<&LoadEntry>,
    ) -> Result<(), Error> {
        let (key, value) = (load_key(id), entry.map(LoadEntry::encode));
        let edit = Edit { index: 0, key: &key, value: value.as_deref().map(Stored::Inline) };
        let mut waiting = Waiting::new(self);
        loop {
            waiting.listen();
            match self.try_write_load_entry(edit, &mut waiting) {
                Ok(()) => return Ok(()),
                Err(Attempt::Failed(error)) => return Err(error),
                // Not pinned: whoever drives a load may stand still.
                Err(Attempt::Absent(pages)) => self.pool().fetch_many(&pages).await?,
                Err(lacking) => waiting.wait(lacking).await?,
            }
        }
    }

    fn try_write_load_entry(
        &self,
        edit: Edit<'_>,
        waiting: &mut Waiting<'_>,
    ) -> Result<(), Attempt> {
        let _entered = self.enter().map_err(Attempt::Failed)?;
        let keys = std::iter::once((CATALOG, edit.key));
        let leaves = self.forest.latch_leaves(keys, &mut waiting.ways, 1);
        let leaves = leaves.map_err(|error| Attempt::Failed(error.into()))??;
        let epoch = self.log.epoch();
        // A load that has filled the disk can be given back (I13).
        let room = if edit.value.is_some() { Room::Growing } else { Room::Shrinking };
        let edits = [edit];
        let plan = leaves.plan_in(epoch, &edits, room)?;
        let Some(entered) = self.log.try_enter(epoch) else { return Err(Attempt::Moved) };
        let split = plan.commit(epoch, nothing_replaced);
        drop(entered);
        self.forest.post_now(|id| self.catalog.by_id(id), split, &*self.log);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_encoding_and_anything_else_is_none() {
        let entry = LoadEntry { tree: 7, blocks: vec![PageId(100), PageId(1 << 40)] };
        let value = entry.encode();
        assert_eq!(LoadEntry::decode(&value), Some(entry.clone()));
        assert_eq!(LoadEntry::decode(&value[..value.len() - 1]), None);
        assert_eq!(LoadEntry::decode(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "page 0");
        assert_eq!(LoadEntry::decode(&[255; 12]), None, "a block that does not end");
        let blocks: Vec<_> = entry.blocks().collect();
        assert_eq!(blocks, [(PageId(100), 64), (PageId(1 << 40), 256)]);
        assert_eq!(parse_load_key(&load_key(77)), Some(77));
        let key = load_key(77);
        assert_eq!(parse_load_key(&key[..9]), None);
        assert_eq!(parse_load_key(&[&key[..9], b"0"].concat()), None);
    }
}
