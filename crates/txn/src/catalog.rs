//! The catalog: which trees there are.
//!
//! It is a tree itself, number 0, whose root is page 1. Under each tree's name stands its number
//! (u32) and its root page (u64); under the empty name, which no tree can have, stands the number
//! that the next tree will get, so that none is ever used again. All of it is also in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use treering_blink::TreeRef;
use treering_pagefile::PageId;

/// The tree that names all others.
pub(crate) const CATALOG: TreeRef = TreeRef { id: 0, root: PageId(1) };

/// The key under which the next tree's number stands.
pub(crate) const NEXT_KEY: &[u8] = b"";

/// The catalog in memory.
#[derive(Default)]
pub(crate) struct Catalog {
    trees: Mutex<Trees>,
}

#[derive(Default)]
struct Trees {
    by_name: BTreeMap<Vec<u8>, TreeRef>,
    roots: BTreeMap<u32, PageId>,
    next: u32,
}

impl Catalog {
    pub(crate) fn find(&self, name: &[u8]) -> Option<TreeRef> {
        self.lock().by_name.get(name).copied()
    }

    /// The tree with a number; the catalog itself included.
    pub(crate) fn by_id(&self, id: u32) -> Option<TreeRef> {
        if id == CATALOG.id {
            return Some(CATALOG);
        }
        self.lock().roots.get(&id).map(|&root| TreeRef { id, root })
    }

    pub(crate) fn list(&self) -> Vec<(Vec<u8>, TreeRef)> {
        self.lock().by_name.iter().map(|(name, &tree)| (name.clone(), tree)).collect()
    }

    pub(crate) fn add(&self, name: &[u8], tree: TreeRef) {
        let mut trees = self.lock();
        trees.by_name.insert(name.to_vec(), tree);
        trees.roots.insert(tree.id, tree.root);
        trees.next = trees.next.max(tree.id + 1);
    }

    /// The number that the next tree gets: at least 1.
    pub(crate) fn next_id(&self) -> u32 {
        self.lock().next.max(1)
    }

    pub(crate) fn set_next_id(&self, next: u32) {
        let mut trees = self.lock();
        trees.next = trees.next.max(next);
    }

    fn lock(&self) -> MutexGuard<'_, Trees> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tree's entry as its value in the catalog.
pub(crate) fn encode_tree(tree: TreeRef) -> [u8; 12] {
    let mut value = [0; 12];
    value[..4].copy_from_slice(&tree.id.to_le_bytes());
    value[4..].copy_from_slice(&tree.root.0.to_le_bytes());
    value
}

/// The inverse of [`encode_tree`].
pub(crate) fn decode_tree(value: &[u8]) -> Option<TreeRef> {
    let (id, root) = value.split_first_chunk::<4>()?;
    let root = u64::from_le_bytes(root.try_into().ok()?);
    Some(TreeRef { id: u32::from_le_bytes(*id), root: PageId(root) })
}
