//! A window of the log: what many records in a row come to, key by key and in the order of the keys.
//!
//! Nobody is there to see what is between two records (I5). So of several writes of a key only the last
//! one counts; and they can be applied in the order of the keys, in which one visit to a leaf serves all of
//! them that it has, and in which several tasks can have a part of the keys each. What changes more than
//! single keys has its turn between two windows.
//!
//! A window owns what it has of the log, as one run of bytes, so that tasks can share it.

use treering_blink::{Edit, REFERENCE_LEN, Reference, Stored, key_head};

use crate::body::Entry;

/// Writes of single keys; after [`Window::sort`] in order, one for each key.
#[derive(Default)]
pub(crate) struct Window {
    /// For each write the length of its value (u32), the key, and the value.
    bytes: Vec<u8>,
    writes: Vec<Write>,
}

/// A write, whose bytes begin at `at`: the later in the log, the later there.
#[derive(Clone, Copy)]
struct Write {
    tree: u32,
    /// The first bytes of the key, which decide most comparisons.
    head: u64,
    at: usize,
    key_len: u32,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Put,
    /// The value is a reference.
    PutLarge,
    Delete,
}

impl Window {
    /// Whether an entry writes one key, and nothing else.
    pub(crate) fn takes(entry: &Entry<'_>) -> bool {
        matches!(entry, Entry::Put { .. } | Entry::PutLarge { .. } | Entry::Delete { .. })
    }

    /// Adds what an entry writes, if it writes one key.
    pub(crate) fn add(&mut self, entry: &Entry<'_>) {
        let (kind, tree, key, value) = match *entry {
            Entry::Put { tree, key, value } => (Kind::Put, tree, key, value),
            Entry::PutLarge { tree, key, value, .. } => {
                (Kind::PutLarge, tree, key, value.as_slice())
            }
            Entry::Delete { tree, key } => (Kind::Delete, tree, key, [].as_slice()),
            _ => return,
        };
        let (at, head) = (self.bytes.len(), key_head(key));
        // Lengths are u32 in the log, too.
        let (key_len, value_len) = (key.len() as u32, value.len() as u32);
        self.bytes.extend_from_slice(&value_len.to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.writes.push(Write { tree, head, at, key_len, kind });
    }

    /// Puts the writes in the order of trees and keys, and leaves of those of one key the last. Returns
    /// the references that no leaf will get because of that.
    pub(crate) fn sort(&mut self) -> Vec<Reference> {
        let Self { bytes, writes } = self;
        writes.sort_unstable_by(|a, b| {
            let heads = (a.tree, a.head).cmp(&(b.tree, b.head));
            heads.then_with(|| a.key(bytes).cmp(b.key(bytes))).then(a.at.cmp(&b.at))
        });
        let mut unused = Vec::new();
        writes.dedup_by(|later, kept| {
            let same = (later.tree, later.head) == (kept.tree, kept.head)
                && later.key(bytes) == kept.key(bytes);
            if same {
                unused.extend(kept.reference(bytes));
                *kept = *later;
            }
            same
        });
        unused
    }

    /// How many writes there are.
    pub(crate) fn len(&self) -> usize {
        self.writes.len()
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.len() + self.writes.len() * size_of::<Write>()
    }

    /// The tree of a write.
    pub(crate) fn tree(&self, index: usize) -> u32 {
        self.writes[index].tree
    }

    /// The number behind the last write of the tree that write `index` is of.
    pub(crate) fn end_of_tree(&self, index: usize) -> usize {
        let tree = self.tree(index);
        index + self.writes[index..].partition_point(|write| write.tree == tree)
    }

    /// The key of a write.
    pub(crate) fn key(&self, index: usize) -> &[u8] {
        self.writes[index].key(&self.bytes)
    }

    /// Bytes of the key and the value of a write.
    pub(crate) fn size(&self, index: usize) -> usize {
        let write = &self.writes[index];
        write.key_len as usize + write.value(&self.bytes).len()
    }

    /// The reference that a write would give its leaf.
    pub(crate) fn reference(&self, index: usize) -> Option<Reference> {
        self.writes[index].reference(&self.bytes).copied()
    }

    /// A write as an edit with the number `number`.
    pub(crate) fn edit(&self, index: usize, number: usize) -> Edit<'_> {
        let write = &self.writes[index];
        let value = match write.kind {
            Kind::Put => Some(Stored::Inline(write.value(&self.bytes))),
            Kind::PutLarge => write.reference(&self.bytes).map(Stored::Overflow),
            Kind::Delete => None,
        };
        Edit { index: number, key: write.key(&self.bytes), value }
    }
}

impl Write {
    fn key<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[self.at + LEN..self.at + LEN + self.key_len as usize]
    }

    fn value<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let value_at = self.at + LEN + self.key_len as usize;
        let len = bytes[self.at..].first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
        &bytes[value_at..value_at + len as usize]
    }

    fn reference<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8; REFERENCE_LEN]> {
        let is_large = self.kind == Kind::PutLarge;
        is_large.then(|| self.value(bytes).try_into().ok()).flatten()
    }
}

/// Bytes of a value's length.
const LEN: usize = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_left_is_the_last_write_of_each_key_in_order() {
        let keys: [&[u8]; 9] = [
            b"",
            b"\0",
            b"a",
            b"a\0",
            b"prefixed",
            b"prefixed\0",
            b"prefixed1",
            b"prefixed2",
            b"\xff",
        ];
        let (mut window, mut model, mut chance) = (Window::default(), BTreeMap::new(), 1u64);
        for number in 0..500u32 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (tree, key) =
                ((chance >> 40) as u32 % 3, keys[(chance >> 50) as usize % keys.len()]);
            let value = number.to_le_bytes();
            if number % 5 == 0 {
                window.add(&Entry::Delete { tree, key });
                model.insert((tree, key), None);
            } else {
                window.add(&Entry::Put { tree, key, value: &value });
                model.insert((tree, key), Some(value));
            }
        }
        assert!(window.memory() > 500 * 4);
        assert!(window.sort().is_empty());
        let left = (0..window.len()).map(|index| {
            let edit = window.edit(index, 7);
            assert_eq!((edit.index, edit.key), (7, window.key(index)));
            let value = edit.value.map(|value| value.bytes().try_into().unwrap());
            assert_eq!(window.size(index), edit.key.len() + value.map_or(0, |v: [u8; 4]| v.len()));
            ((window.tree(index), edit.key), value)
        });
        assert_eq!(left.collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn references_that_no_leaf_gets_are_named_and_other_entries_are_left_out() {
        let (one, two, three) = ([1; REFERENCE_LEN], [2; REFERENCE_LEN], [3; REFERENCE_LEN]);
        let mut window = Window::default();
        for (key, value) in [(b"a", &one), (b"b", &two), (b"b", &three)] {
            window.add(&Entry::PutLarge { tree: 1, key, value, runs: b"" });
        }
        window.add(&Entry::Delete { tree: 1, key: b"a" });
        let drop = Entry::DropTree { tree: 1, id: 9 };
        assert!(!Window::takes(&drop));
        window.add(&drop);
        let mut unused = window.sort();
        unused.sort_unstable();
        assert_eq!(unused, [one, two]);
        assert_eq!(
            (window.len(), window.reference(0), window.reference(1)),
            (2, None, Some(three))
        );
    }
}
