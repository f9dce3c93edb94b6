//! Deferred changes: decided by one log record, and brought to the pages behind it.
//!
//! A batch may be larger than the cache, and a range may have more keys than one step can take away.
//! Such a change is an engine task's:
//!
//! 1. What the log record cannot hold, the outcomes of a big batch, is written to overflow pages as
//!    one large value, its *body*, and synced.
//! 2. The keys are *claimed* by an overlay: their writers wait. If the batch has conditions, they are
//!    checked now, in the order of the keys.
//! 3. *Commit*: in one step the log gets the record, the catalog an entry that says what is to be done
//!    ([`Deferred`]), and the overlay holds. From here on the change stands (I6), and readers see it.
//! 4. It is *applied* chunk by chunk. Each chunk changes its pages and the entry's progress in one
//!    step and one epoch, without a log record. With the last chunk the entry goes, and the body.
//!
//! So any checkpoint has the change whole: what is applied in its pages, what is not in the catalog's
//! entry. Nothing waits for a deferred change but writers of its keys and the next deferred change.
//! After a crash, recovery first finishes what the checkpoint's catalog has, and then, when it comes
//! to the record of another one in the log, applies that as a whole (I5): nobody has written a pending
//! key before it was applied, so the order of the log is the order of conflicting changes here, too.
//!
//! The dropping of a tree is deferred as well; see `drop_tree`.

mod apply;
mod big_batch;
mod body_value;
mod commit;
mod delete_range;
mod drop_tree;
mod replay;

use treering_blink::REFERENCE_LEN;
use treering_blink::Reference;
use treering_pagefile::PageId;

pub(crate) use big_batch::pause;
pub(crate) use body_value::body_references;
pub(crate) use drop_tree::Drops;

/// The first byte of the keys of these entries in the catalog.
pub(crate) const DEFERRED: u8 = 2;

/// What is still to be done of a deferred change, as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deferred {
    /// The outcomes of the body from this one on.
    Batch { body: Reference, done: u64 },
    /// All keys of the tree from here up to another ([`Deferred::to_key`]) are to go.
    Range { tree: u32, from: Vec<u8> },
    /// All pages of the tree are to go.
    Drop { tree: u32, root: PageId },
}

const BATCH: u8 = 1;
const RANGE: u8 = 2;
const DROP: u8 = 3;

impl Deferred {
    /// The key of the entry of change `id`.
    pub(crate) fn key(id: u64) -> Vec<u8> {
        [&[DEFERRED][..], &id.to_be_bytes(), b"0"].concat()
    }

    /// The key under which the end of a range stands: beside the rest, since both ends of a range may
    /// be as long as a key can be. Nothing stands there if the range has no end.
    pub(crate) fn to_key(id: u64) -> Vec<u8> {
        [&[DEFERRED][..], &id.to_be_bytes(), b"1"].concat()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        match self {
            Deferred::Batch { body, done } => {
                value.push(BATCH);
                value.extend_from_slice(body);
                value.extend_from_slice(&done.to_le_bytes());
            }
            Deferred::Range { tree, from } => {
                value.push(RANGE);
                value.extend_from_slice(&tree.to_le_bytes());
                value.extend_from_slice(from);
            }
            Deferred::Drop { tree, root } => {
                value.push(DROP);
                value.extend_from_slice(&tree.to_le_bytes());
                value.extend_from_slice(&root.0.to_le_bytes());
            }
        }
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let (&kind, rest) = value.split_first()?;
        match kind {
            BATCH => {
                let (body, done) = rest.split_first_chunk::<REFERENCE_LEN>()?;
                let done = u64::from_le_bytes(done.try_into().ok()?);
                Some(Deferred::Batch { body: *body, done })
            }
            RANGE => {
                let (tree, from) = rest.split_first_chunk()?;
                Some(Deferred::Range { tree: u32::from_le_bytes(*tree), from: from.to_vec() })
            }
            DROP => {
                let (tree, root) = rest.split_first_chunk()?;
                let root = PageId(u64::from_le_bytes(root.try_into().ok()?));
                Some(Deferred::Drop { tree: u32::from_le_bytes(*tree), root })
            }
            _ => None,
        }
    }
}

/// The change whose entry, or end of a range, has this key in the catalog, and which of the two.
pub(crate) fn parse_key(key: &[u8]) -> Option<(u64, bool)> {
    let (id, which) = key.strip_prefix(&[DEFERRED])?.split_first_chunk()?;
    let is_end = match which {
        b"0" => false,
        b"1" => true,
        _ => return None,
    };
    Some((u64::from_be_bytes(*id), is_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_encoding_and_cut_ones_are_none() {
        for entry in [
            Deferred::Batch { body: [7; REFERENCE_LEN], done: 1 << 40 },
            Deferred::Range { tree: 9, from: b"from".to_vec() },
            Deferred::Range { tree: 9, from: Vec::new() },
            Deferred::Drop { tree: 3, root: PageId(77) },
        ] {
            let value = entry.encode();
            assert_eq!(Deferred::decode(&value), Some(entry));
            assert_eq!(Deferred::decode(&value[..4]), None);
        }
        assert_eq!(Deferred::decode(&[9, 0, 0, 0, 0]), None);
        assert_eq!(parse_key(&Deferred::key(5)), Some((5, false)));
        assert_eq!(parse_key(&Deferred::to_key(u64::MAX)), Some((u64::MAX, true)));
        assert_eq!(parse_key(&[DEFERRED, 1]), None);
    }
}
