//! The body of a log record: decided outcomes, key by key (I5).
//!
//! A record is a sequence of entries; replaying them in order, in the order of the log, gives the
//! same contents again, whatever pages they land on. Little-endian:
//!
//! | entry | bytes |
//! |---|---|
//! | put | 1, tree u32, key length u32, value length u32, key, value |
//! | delete | 2, tree u32, key length u32, key |
//! | create tree | 3, tree u32, name length u32, options length u32, name, options |
//! | rename tree | 4, tree u32, name length u32, the new name |
//! | delete range | 5, tree u32, length u32, length u32 or 2^32 - 1 for no end, first key, key behind the last |
//! | drop tree | 6, tree u32, 0 u32, number of the deferred change u64 |
//! | big batch | 7, 0 u32, run count u32, reference, runs |
//! | put large | 8, tree u32, key length u32, run count u32, key, reference, runs |
//! | load | 12, tree u32, 16 as u32, the load's number u64, its top page u64 |
//!
//! A *put large* is a put of a value that is in overflow pages already when the record is appended. The
//! reference is what the leaf gets (first page u64, length u64, version u64); each run of pages that
//! lie one behind the other is offset in the page file u64, number of pages u32, stamp of the first u32.
//! Replay writes none of these pages, so nothing may overwrite them as long as it may come to this
//! record: see the header of `overflow` in the buffer pool.

use treering_blink::{REFERENCE_LEN, Reference};
use treering_bufpool::PageRun;
use treering_pagefile::PageId;

/// One entry of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'b> {
    Put {
        tree: u32,
        key: &'b [u8],
        value: &'b [u8],
    },
    Delete {
        tree: u32,
        key: &'b [u8],
    },
    CreateTree {
        tree: u32,
        name: &'b [u8],
        options: &'b [u8],
    },
    RenameTree {
        tree: u32,
        name: &'b [u8],
    },
    /// All keys from one up to another, or to the end, are gone.
    DeleteRange {
        tree: u32,
        from: &'b [u8],
        to: Option<&'b [u8]>,
    },
    DropTree {
        tree: u32,
        id: u64,
    },
    /// The outcomes are entries in a large value.
    BigBatch {
        body: &'b Reference,
        runs: &'b [u8],
    },
    /// The tree, which was empty, has what the page `top` leads to: see the module `load`.
    Load {
        tree: u32,
        id: u64,
        top: PageId,
    },
    /// The runs as [`encode_runs`] makes them.
    PutLarge {
        tree: u32,
        key: &'b [u8],
        value: &'b Reference,
        runs: &'b [u8],
    },
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const CREATE_TREE: u8 = 3;
const RENAME_TREE: u8 = 4;
const DELETE_RANGE: u8 = 5;
const DROP_TREE: u8 = 6;
const BIG_BATCH: u8 = 7;
const PUT_LARGE: u8 = 8;
const LOAD: u8 = 12;

/// In the place of a length: there is nothing.
const NOTHING: u32 = u32::MAX;

/// Bytes that an entry has beside keys, values and names, at most.
pub(crate) const ENTRY_OVERHEAD: usize = 13;

pub(crate) fn encode(entry: Entry<'_>, out: &mut Vec<u8>) {
    // Lengths are bounded by the page size, far below 2^32.
    let len = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes();
    match entry {
        Entry::Put { tree, key, value } => {
            out.reserve(ENTRY_OVERHEAD + key.len() + value.len());
            out.push(PUT);
            out.extend_from_slice(&tree.to_le_bytes());
            out.extend_from_slice(&len(key));
            out.extend_from_slice(&len(value));
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        Entry::Delete { tree, key } => {
            out.push(DELETE);
            out.extend_from_slice(&tree.to_le_bytes());
            out.extend_from_slice(&len(key));
            out.extend_from_slice(key);
        }
        Entry::CreateTree { tree, name, options } => {
            out.push(CREATE_TREE);
            out.extend_from_slice(&tree.to_le_bytes());
            out.extend_from_slice(&len(name));
            out.extend_from_slice(&len(options));
            out.extend_from_slice(name);
            out.extend_from_slice(options);
        }
        Entry::RenameTree { tree, name } => {
            out.push(RENAME_TREE);
            out.extend_from_slice(&tree.to_le_bytes());
            out.extend_from_slice(&len(name));
            out.extend_from_slice(name);
        }
        Entry::DeleteRange { tree, from, to } => {
            out.push(DELETE_RANGE);
            out.extend_from_slice(&tree.to_le_bytes());
            out.extend_from_slice(&len(from));
            out.extend_from_slice(&to.map_or(NOTHING.to_le_bytes(), len));
            out.extend_from_slice(from);
            out.extend_from_slice(to.unwrap_or_default());
        }
        Entry::DropTree { tree, id } => {
            out.push(DROP_TREE);
            out.extend_from_slice(&tree.to_le_bytes());
            out.extend_from_slice(&0u32.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        Entry::BigBatch { body, runs } => {
            out.push(BIG_BATCH);
            out.extend_from_slice(&0u32.to_le_bytes());
            out.extend_from_slice(&((runs.len() / RUN_LEN) as u32).to_le_bytes());
            out.extend_from_slice(body);
            out.extend_from_slice(runs);
        }
        Entry::Load { tree, id, top } => {
            out.push(LOAD);
            out.extend_from_slice(&tree.to_le_bytes());
            out.extend_from_slice(&(LOAD_LEN as u32).to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&top.0.to_le_bytes());
        }
        Entry::PutLarge { tree, key, value, runs } => {
            out.push(PUT_LARGE);
            out.extend_from_slice(&tree.to_le_bytes());
            out.extend_from_slice(&len(key));
            out.extend_from_slice(&((runs.len() / RUN_LEN) as u32).to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value);
            out.extend_from_slice(runs);
        }
    }
}

/// Bytes that the record of a load has behind its own length.
const LOAD_LEN: usize = 16;

/// Bytes of a run.
const RUN_LEN: usize = 16;

/// Runs as a record has them.
pub(crate) fn encode_runs(runs: &[PageRun]) -> Vec<u8> {
    let mut out = Vec::with_capacity(runs.len() * RUN_LEN);
    for run in runs {
        out.extend_from_slice(&run.offset.to_le_bytes());
        out.extend_from_slice(&run.count.to_le_bytes());
        out.extend_from_slice(&run.stamp.to_le_bytes());
    }
    out
}

/// The inverse of [`encode_runs`].
pub(crate) fn decode_runs(bytes: &[u8]) -> Vec<PageRun> {
    let (runs, _) = bytes.as_chunks::<RUN_LEN>();
    let run = |bytes: &[u8; RUN_LEN]| {
        let number = u128::from_le_bytes(*bytes);
        PageRun {
            offset: number as u64,
            count: (number >> 64) as u32,
            stamp: (number >> 96) as u32,
        }
    };
    runs.iter().map(run).collect()
}

/// The entries of a record's body, in order; at last `None` if it is not one (its checksum was right,
/// so that is a bug or another version's).
pub(crate) fn decode(body: &[u8]) -> impl Iterator<Item = Option<Entry<'_>>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let first = decode_first(rest);
        rest = first.map_or(&[], |(_, len)| &rest[len..]);
        Some(first.map(|(entry, _)| entry))
    })
}

/// The entry at the start of `bytes`, and its length; `None` if there is no whole one.
pub(crate) fn decode_first(bytes: &[u8]) -> Option<(Entry<'_>, usize)> {
    let mut rest = bytes;
    let kind = take(&mut rest, 1)?[0];
    let tree = number(&mut rest)?;
    let first = number(&mut rest)? as usize;
    let entry = match kind {
        PUT => {
            let second = number(&mut rest)? as usize;
            let (key, value) = (take(&mut rest, first)?, take(&mut rest, second)?);
            Entry::Put { tree, key, value }
        }
        DELETE => Entry::Delete { tree, key: take(&mut rest, first)? },
        CREATE_TREE => {
            let second = number(&mut rest)? as usize;
            let (name, options) = (take(&mut rest, first)?, take(&mut rest, second)?);
            Entry::CreateTree { tree, name, options }
        }
        RENAME_TREE => Entry::RenameTree { tree, name: take(&mut rest, first)? },
        DELETE_RANGE => {
            let second = number(&mut rest)?;
            let from = take(&mut rest, first)?;
            let to = match second {
                NOTHING => None,
                len => Some(take(&mut rest, len as usize)?),
            };
            Entry::DeleteRange { tree, from, to }
        }
        DROP_TREE => {
            let id = u64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?);
            Entry::DropTree { tree, id }
        }
        BIG_BATCH => {
            let body = take(&mut rest, REFERENCE_LEN)?.try_into().ok()?;
            Entry::BigBatch { body, runs: take(&mut rest, first.checked_mul(RUN_LEN)?)? }
        }
        PUT_LARGE => {
            let runs = (number(&mut rest)? as usize).checked_mul(RUN_LEN)?;
            let key = take(&mut rest, first)?;
            let value = take(&mut rest, REFERENCE_LEN)?.try_into().ok()?;
            Entry::PutLarge { tree, key, value, runs: take(&mut rest, runs)? }
        }
        LOAD if first == LOAD_LEN => {
            let (id, top) = take(&mut rest, LOAD_LEN)?.split_first_chunk()?;
            let top = PageId(u64::from_le_bytes(top.try_into().ok()?));
            Entry::Load { tree, id: u64::from_le_bytes(*id), top }
        }
        _ => return None,
    };
    Some((entry, bytes.len() - rest.len()))
}

fn take<'b>(rest: &mut &'b [u8], len: usize) -> Option<&'b [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let bytes = take(rest, 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_encoding_and_no_prefix_of_one_is_taken_for_one() {
        let runs = [
            PageRun { offset: 32 << 10, count: 7, stamp: u32::MAX },
            PageRun { offset: 1 << 50, count: u32::MAX, stamp: 3 },
        ];
        let encoded = encode_runs(&runs);
        assert_eq!(decode_runs(&encoded), runs);
        let entries = [
            Entry::PutLarge { tree: 3, key: b"large", value: &[9; REFERENCE_LEN], runs: &encoded },
            Entry::Put { tree: 7, key: b"", value: b"v" },
            Entry::Delete { tree: u32::MAX, key: b"key" },
            Entry::CreateTree { tree: 1, name: b"users", options: b"xy" },
            Entry::RenameTree { tree: 1, name: b"people" },
            Entry::DeleteRange { tree: 2, from: b"a", to: Some(b"b") },
            Entry::DeleteRange { tree: 2, from: b"", to: None },
            Entry::DropTree { tree: 4, id: 1 << 40 },
            Entry::BigBatch { body: &[8; REFERENCE_LEN], runs: &encoded },
            Entry::Load { tree: 9, id: 1 << 50, top: PageId(77) },
            Entry::Put { tree: 0, key: b"k", value: b"" },
        ];
        let mut body = Vec::new();
        let mut ends = vec![0];
        for entry in entries {
            encode(entry, &mut body);
            ends.push(body.len());
        }
        let decode = |body| super::decode(body).collect::<Option<Vec<_>>>();
        assert_eq!(decode(&body).unwrap(), entries);
        for len in 0..body.len() {
            assert_eq!(decode(&body[..len]).is_some(), ends.contains(&len), "{len} bytes");
        }
        assert_eq!(decode(&[99, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        let mut load = Vec::new();
        encode(Entry::Load { tree: 9, id: 1, top: PageId(2) }, &mut load);
        load[5] += 1;
        assert_eq!(decode(&load), None, "a load of another length");
    }
}
