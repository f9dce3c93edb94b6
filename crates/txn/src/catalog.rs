//! The catalog: which trees there are.
//!
//! It is a tree itself, number 0, whose root is page 1. The first byte of a key says what it is.
//! All numbers are little-endian:
//!
//! | key | value |
//! |---|---|
//! | 0, `n` | u32: the number that the next tree will get, so that none is ever used again |
//! | 0, `o` | u64: how often the database has been opened ([`crate::Engine::next_unique`]) |
//! | 2, u64 big-endian, `0` or `1` | what is still to be done of a deferred change ([`Deferred`]) |
//! | 2, u64 big-endian, `L` | the ids of a bulk load under way (see the module `load`) |
//! | 1, the name of a tree | u8: 1, version of this value; u32: the tree's number; u64: its root page; then its options ([`TreeOptions`]) |
//!
//! All of it is also in memory, and stays there: a look at it never waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use treering_blink::TreeRef;
use treering_latch::sync::atomic::{AtomicBool, Ordering};
use treering_latch::sync::{Mutex, MutexGuard};
use treering_pagefile::{FileError, FileErrorKind, PageId};

use crate::deferred::{DEFERRED, Deferred, parse_key};
use crate::error::Error;
use crate::tree_options::TreeOptions;

/// The tree that names all others.
pub(crate) const CATALOG: TreeRef = TreeRef::new(0, PageId(1));

/// The first byte of a key.
const COUNTER: u8 = 0;
const TREE: u8 = 1;

/// The key under which the next tree's number stands.
pub(crate) const NEXT_KEY: &[u8] = &[COUNTER, b'n'];
/// The key under which the number of openings stands.
pub(crate) const OPENINGS_KEY: &[u8] = &[COUNTER, b'o'];

/// The version of a tree's value.
const TREE_VERSION: u8 = 1;
/// Bytes of a tree's value in front of its options.
const TREE_HEADER: usize = 13;

/// A tree of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeInfo {
    /// Its name.
    pub name: Arc<[u8]>,
    /// Its number and its root.
    pub tree: TreeRef,
    /// What it was made with.
    pub options: Arc<TreeOptions>,
}

/// The catalog in memory.
#[derive(Default)]
pub(crate) struct Catalog {
    trees: Mutex<Trees>,
    /// A tree has been dropped in this life, so a handle may be one on a tree that is gone.
    any_dropped: AtomicBool,
}

#[derive(Default)]
struct Trees {
    by_name: BTreeMap<Arc<[u8]>, u32>,
    by_id: BTreeMap<u32, TreeInfo>,
    next: u32,
    openings: u64,
    /// Trees that are dropped, and whose pages are not all free yet.
    dropping: BTreeMap<u32, TreeRef>,
    /// By its number; and the end of a range, if it is one.
    deferred: BTreeMap<u64, (Option<Deferred>, Option<Vec<u8>>)>,
}

impl Catalog {
    pub(crate) fn find(&self, name: &[u8]) -> Option<TreeInfo> {
        let trees = self.lock();
        trees.by_name.get(name).and_then(|id| trees.by_id.get(id)).cloned()
    }

    /// The tree with a number; the catalog itself included, and trees whose pages are being freed.
    pub(crate) fn by_id(&self, id: u32) -> Option<TreeRef> {
        if id == CATALOG.id {
            return Some(CATALOG);
        }
        let trees = self.lock();
        let tree = trees.by_id.get(&id).map(|info| info.tree);
        tree.or_else(|| trees.dropping.get(&id).copied())
    }

    /// Whether a tree that there was is not there any more.
    #[inline]
    pub(crate) fn is_gone(&self, id: u32) -> bool {
        self.any_dropped.load(Ordering::Acquire)
            && id != CATALOG.id
            && !self.lock().by_id.contains_key(&id)
    }

    /// Whether a number was a tree's once: no other will have it.
    pub(crate) fn was_dropped(&self, id: u32) -> bool {
        let trees = self.lock();
        id < trees.next && !trees.by_id.contains_key(&id)
    }

    /// Takes a tree out; its pages are freed as deferred change `change`.
    pub(crate) fn begin_drop(&self, change: u64, id: u32) {
        let mut trees = self.lock();
        self.any_dropped.store(true, Ordering::Release);
        if let Some(info) = trees.remove(id) {
            let root = info.tree.root;
            trees.dropping.insert(id, info.tree);
            trees.deferred.insert(change, (Some(Deferred::Drop { tree: id, root }), None));
        }
    }

    /// It was not dropped after all.
    pub(crate) fn undo_drop(&self, change: u64, info: TreeInfo) {
        let mut trees = self.lock();
        trees.dropping.remove(&info.tree.id);
        trees.deferred.remove(&change);
        trees.add(info);
    }

    /// Nothing of a dropped tree is left.
    pub(crate) fn end_drop(&self, change: u64) {
        let mut trees = self.lock();
        if let Some((Some(Deferred::Drop { tree, .. }), _)) = trees.deferred.remove(&change) {
            trees.dropping.remove(&tree);
        }
    }

    /// The drops under way, by the numbers of the changes.
    pub(crate) fn drops(&self) -> Vec<(u64, TreeRef)> {
        let trees = self.lock();
        let drops = trees.deferred.iter().filter_map(|(&id, (entry, _))| match entry {
            Some(Deferred::Drop { tree, root }) => Some((id, TreeRef::new(*tree, *root))),
            _ => None,
        });
        drops.collect()
    }

    /// The deferred changes that the checkpoint found under way.
    pub(crate) fn deferred(&self) -> Vec<(u64, Deferred, Option<Vec<u8>>)> {
        let trees = self.lock();
        let changes = trees.deferred.iter();
        changes.filter_map(|(&id, (entry, to))| Some((id, entry.clone()?, to.clone()))).collect()
    }

    pub(crate) fn forget_deferred(&self, id: u64) {
        self.lock().deferred.remove(&id);
    }

    /// What is known of the tree with a number, which is not the catalog.
    pub(crate) fn info(&self, id: u32) -> Option<TreeInfo> {
        self.lock().by_id.get(&id).cloned()
    }

    /// All trees, by name.
    pub(crate) fn list(&self) -> Vec<TreeInfo> {
        let trees = self.lock();
        trees.by_name.values().filter_map(|id| trees.by_id.get(id)).cloned().collect()
    }

    pub(crate) fn add(&self, name: &[u8], tree: TreeRef, options: TreeOptions) {
        let tree = TreeRef { gap: options.gap.of_leaves(), ..tree };
        let options = Arc::new(options);
        self.lock().add(TreeInfo { name: name.into(), tree, options });
    }

    /// Gives a tree another name, which no tree has.
    pub(crate) fn rename(&self, id: u32, name: &[u8]) {
        let mut trees = self.lock();
        if let Some(info) = trees.remove(id) {
            trees.add(TreeInfo { name: name.into(), ..info });
        }
    }

    /// The number that the next tree gets: at least 1.
    pub(crate) fn next_id(&self) -> u32 {
        self.lock().next.max(1)
    }

    /// How often the database has been opened, this time included once it is counted.
    pub(crate) fn openings(&self) -> u64 {
        self.lock().openings
    }

    pub(crate) fn set_openings(&self, openings: u64) {
        self.lock().openings = openings;
    }

    /// Takes in an entry that was read from disk.
    pub(crate) fn load(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        match key {
            NEXT_KEY => {
                let next = value.try_into().map(u32::from_le_bytes).map_err(|_| damaged())?;
                let mut trees = self.lock();
                trees.next = trees.next.max(next);
            }
            OPENINGS_KEY => {
                let openings = value.try_into().map(u64::from_le_bytes).map_err(|_| damaged())?;
                self.set_openings(openings);
            }
            [TREE, name @ ..] if !name.is_empty() => {
                let (tree, options) = decode_tree(value)?;
                self.add(name, tree, options);
            }
            [DEFERRED, ..] => {
                let (id, is_end) = parse_key(key).ok_or_else(damaged)?;
                let mut trees = self.lock();
                if is_end {
                    trees.deferred.entry(id).or_default().1 = Some(value.to_vec());
                } else {
                    let entry = Deferred::decode(value).ok_or_else(damaged)?;
                    if let Deferred::Drop { tree, root } = entry {
                        if tree == CATALOG.id {
                            return Err(damaged());
                        }
                        trees.dropping.insert(tree, TreeRef::new(tree, root));
                    }
                    trees.deferred.entry(id).or_default().0 = Some(entry);
                }
            }
            [] | [TREE] => return Err(damaged()),
            _ => return Err(unknown(format!("an entry of kind {}", key[0]))),
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Trees> {
        self.trees.lock()
    }
}

impl Trees {
    fn add(&mut self, info: TreeInfo) {
        self.next = self.next.max(info.tree.id + 1);
        self.by_name.insert(Arc::clone(&info.name), info.tree.id);
        self.by_id.insert(info.tree.id, info);
    }

    fn remove(&mut self, id: u32) -> Option<TreeInfo> {
        let info = self.by_id.remove(&id)?;
        self.by_name.remove(&info.name);
        Some(info)
    }
}

/// The key of a tree's entry.
pub(crate) fn tree_key(name: &[u8]) -> Vec<u8> {
    [&[TREE], name].concat()
}

/// Bytes that the options of a tree with a name may have in its entry.
pub(crate) fn options_room(name: &[u8], max_record: usize) -> usize {
    max_record.saturating_sub(1 + name.len() + TREE_HEADER)
}

/// The value of a tree's entry.
pub(crate) fn encode_tree(tree: TreeRef, options: &TreeOptions) -> Vec<u8> {
    let mut value = Vec::with_capacity(TREE_HEADER + options.encoded_len());
    value.push(TREE_VERSION);
    value.extend_from_slice(&tree.id.to_le_bytes());
    value.extend_from_slice(&tree.root.0.to_le_bytes());
    options.encode(&mut value);
    value
}

/// The inverse of [`encode_tree`].
fn decode_tree(value: &[u8]) -> Result<(TreeRef, TreeOptions), Error> {
    let (&version, rest) = value.split_first().ok_or_else(damaged)?;
    if version != TREE_VERSION {
        return Err(unknown(format!("a tree of version {version}")));
    }
    let (id, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
    let (root, options) = rest.split_first_chunk().ok_or_else(damaged)?;
    let (id, root) = (u32::from_le_bytes(*id), PageId(u64::from_le_bytes(*root)));
    let options = TreeOptions::decode(options).ok_or_else(damaged)?;
    // The last number is never given, as the next one has to be one.
    if id == CATALOG.id || id == u32::MAX {
        return Err(damaged());
    }
    Ok((TreeRef { id, root, gap: options.gap.of_leaves() }, options))
}

fn damaged() -> Error {
    Error::File(FileError::new(
        FileErrorKind::Damaged,
        "the catalog of trees has an entry that is none; restore the database from a backup",
    ))
}

fn unknown(what: String) -> Error {
    Error::File(FileError::new(
        FileErrorKind::Version,
        format!(
            "the catalog of trees has {what}, which this version does not know; open the database \
             with the version that wrote it"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_is_what_was_encoded_and_anything_else_is_an_error() {
        let catalog = Catalog::default();
        let tree = TreeRef::new(7, PageId(99));
        let options = TreeOptions::new().duplicates(true).key_type("u64", 3);
        let value = encode_tree(tree, &options);
        catalog.load(&tree_key(b"users"), &value).unwrap();
        let found = catalog.find(b"users").unwrap();
        assert_eq!((found.tree, &*found.options), (tree, &options));
        assert_eq!((catalog.by_id(7), catalog.next_id()), (Some(tree), 8));
        catalog.load(NEXT_KEY, &12u32.to_le_bytes()).unwrap();
        catalog.load(OPENINGS_KEY, &4u64.to_le_bytes()).unwrap();
        assert_eq!((catalog.next_id(), catalog.openings()), (12, 4));

        let kind = |key: &[u8], value: &[u8]| catalog.load(key, value).unwrap_err().file_kind();
        let (damaged, version) = (Some(FileErrorKind::Damaged), Some(FileErrorKind::Version));
        assert_eq!(kind(b"", b""), damaged);
        assert_eq!(kind(&[TREE], &value), damaged);
        assert_eq!(kind(NEXT_KEY, b"1"), damaged);
        assert_eq!(kind(b"\xf0job", b""), version);
        assert_eq!(kind(&[COUNTER, b'x'], b""), version);
        for len in 0..value.len() {
            assert_eq!(kind(&tree_key(b"users"), &value[..len]), damaged, "{len} bytes");
        }
        let newer = [&[TREE_VERSION + 1], &value[1..]].concat();
        assert_eq!(kind(&tree_key(b"users"), &newer), version);
    }

    #[test]
    fn a_renamed_tree_is_found_under_its_new_name_only() {
        let catalog = Catalog::default();
        let tree = TreeRef::new(1, PageId(2));
        catalog.add(b"old", tree, TreeOptions::new());
        catalog.rename(1, b"new");
        assert_eq!(catalog.find(b"old"), None);
        assert_eq!(catalog.find(b"new").unwrap().tree, tree);
        assert_eq!(&*catalog.info(1).unwrap().name, b"new");
        assert_eq!(catalog.list().len(), 1);
    }
}
