//! Overflow pages: values that are too large for a leaf.
//!
//! A value of `len` bytes takes `ceil(len / (P - 32))` pages with ids in a row, so that the first id,
//! the length and a version are a reference to all of it ([`ValueRef`]). Each is an ordinary page of
//! the page file, with an extent, a write stamp and a line in the page map of its own; only that line
//! and the table's word say that it is one of these, and that no frame will ever hold it. They are written
//! and read by I/Os of up to 256 KiB, where their extents lie side by side.
//!
//! | bytes of an overflow page | |
//! |---|---|
//! | 0..16 | the page file's seal |
//! | 16..20 | tree id |
//! | 20 | level: 0xff, which no page of a tree has |
//! | 21..24 | 0 |
//! | 24..32 | version |
//! | 32.. | the value's bytes; behind its end zeros |
//!
//! # The life of a value
//! 1. *Made* ([`ValueMaker`]): ids and extents are taken, the pages written, and the table's words set
//!    as their writes are sent off. Nobody can have a reference yet. Whatever goes wrong up to here,
//!    all of it is given back, at once: no log and no page refers to it. The caller syncs the file.
//! 2. *Published* ([`Pool::publish_value`]): in the step, and so the epoch, in which a leaf gets the
//!    reference and the log a record with the same.
//! 3. *Retired* ([`Pool::retire_value`]): in the step in which the last reference goes. The words and
//!    the pages stay: whoever read the reference before may still read the value.
//! 4. *Settled* ([`Pool::settle_values`]): by the checkpoint, when its epoch has no appliers any more.
//!    Only now does the page file learn of the pages of the values published in that epoch (until
//!    then their extents are *taken*), and that those of the values retired in it are gone.
//! 5. When that checkpoint is durable, the extents of the retired pages are free, never before (the
//!    log behind the checkpoint before may name them, and replay does not write them again), and
//!    their ids are, too ([`Pool::release_value_ids`]).
//!
//! So publishing and retiring cost the same for a value of a gigabyte as for one of a page, and what
//! takes time for each page is done by the engine's tasks, with no latch held.
//!
//! # Whose page is it?
//! A version is never used twice, and every page carries its value's. A reader whose reference is
//! old finds the word free, or a page with another version, and is told that the value has *moved*:
//! it has to look its key up again. If the key still has the same reference, that is damage.
//!
//! A recovery repeats published values from the log: [`Pool::claim_value`] before anything else is
//! replayed, so that neither their extents nor their ids go to anybody else, and
//! [`Pool::adopt_value`] when their record's turn comes.

mod make;
mod read;
mod relocate;
mod settle;

use std::collections::BTreeMap;
use std::sync::Arc;

use treering_latch::sync::atomic::{AtomicU64, Ordering};
use treering_latch::sync::{Mutex, MutexGuard};
use treering_pagefile::{Extent, PAGE_HEADER_LEN, PageId};

use crate::pool::{Pool, lock};
use crate::runs::PageRun;
use crate::table::Place;

pub use make::{ValueMaker, Written};
pub use relocate::Copies;

/// Bytes of an overflow page before the value's bytes.
const HEADER_LEN: usize = 32;
/// What stands in the place of a tree page's level.
const LEVEL: u8 = 0xff;
/// Bytes of one I/O, at most, or one page if that is more.
const IO_BYTES: usize = 256 << 10;

/// Where a value in overflow pages is, as its leaf says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueRef {
    /// Its first page; the others follow with rising ids.
    pub first: PageId,
    /// Bytes of the value: at least 1.
    pub len: u64,
    /// What its pages carry, and the pages of no other value ever.
    pub version: u64,
}

impl ValueRef {
    /// As it stands in a leaf and in the log.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (to, number) in bytes.chunks_exact_mut(8).zip([self.first.0, self.len, self.version]) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The inverse of [`ValueRef::to_bytes`]; `None` for bytes that cannot be a reference.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 24] = bytes.try_into().ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let [first, len, version] = [words[0], words[1], words[2]].map(u64::from_le_bytes);
        let sound = first > 0 && (1..=MOST).contains(&len) && first < MOST;
        sound.then_some(Self { first: PageId(first), len, version })
    }

    /// How many pages of `page_size` bytes it takes.
    pub fn pages(self, page_size: usize) -> u64 {
        self.len.div_ceil(payload(page_size) as u64)
    }
}

/// No id or length that is in use comes near this; what arithmetic makes of both stays far from
/// overflowing.
const MOST: u64 = 1 << 48;

/// Bytes of a value that one page holds.
fn payload(page_size: usize) -> usize {
    page_size - HEADER_LEN
}

/// The values about which something is still to be done.
#[derive(Default)]
pub(crate) struct Values {
    state: Mutex<State>,
    /// Odd while pages are settled.
    settlings: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Ids, first and number, of the values that are being made.
    making: BTreeMap<u64, u64>,
    /// Those published in epochs that are not settled.
    published: Vec<Published>,
    /// Ids of those retired in such epochs.
    retired: Vec<Retired>,
    /// Pages of trees that were freed in such epochs: their words say so already.
    freed: Vec<(u64, PageId)>,
    /// Ids that are free when the checkpoint being written is durable.
    settled: Vec<(PageId, u64)>,
    /// Ids that could be used again but for somebody who does not want that just now.
    kept: Vec<(PageId, u64)>,
    keepers: usize,
}

struct Published {
    epoch: u64,
    first: PageId,
    runs: Arc<[PageRun]>,
}

struct Retired {
    epoch: u64,
    first: PageId,
    count: u64,
}

/// As long as it lives, ids of values that go are not used for others.
pub struct IdsKept(Arc<Pool>);

impl Drop for IdsKept {
    fn drop(&mut self) {
        let mut state = self.0.values.lock();
        state.keepers -= 1;
        if state.keepers == 0 {
            for (first, count) in std::mem::take(&mut state.kept) {
                self.0.table.return_ids(first, count);
            }
        }
    }
}

impl Values {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Pool {
    /// Says that a leaf has the reference of a value that was made, as of `epoch`. In the step that
    /// put it there, while nothing that comes after can have seen it.
    pub fn publish_value(&self, value: Written, epoch: u64) {
        let (first, runs) = value.into_published();
        let mut state = self.values.lock();
        state.making.remove(&first.0);
        state.published.push(Published { epoch, first, runs });
    }

    /// Says that no leaf has the reference any more, as of `epoch`. In the step that took it away.
    pub fn retire_value(&self, value: ValueRef, epoch: u64) {
        let count = value.pages(self.page_size());
        self.values.lock().retired.push(Retired { epoch, first: value.first, count });
    }

    /// A page of a tree is gone as of `epoch`; its id may be used again after that checkpoint.
    pub(crate) fn retire_id(&self, page: PageId, epoch: u64) {
        self.values.lock().freed.push((epoch, page));
    }

    /// For a recovery, before anything is replayed: takes ids and extents of a value that the log
    /// publishes. False if some of them are somebody else's, or are not as many as they should be.
    pub fn claim_value(&self, value: ValueRef, runs: &[PageRun]) -> bool {
        let pages = value.pages(self.page_size());
        runs.iter().map(|run| u64::from(run.count)).sum::<u64>() == pages
            && self.table.claim_ids(value.first, pages)
            && runs.iter().all(|run| self.file.claim_extents(run.offset, run.count))
    }

    /// For a recovery: publishes a value that was claimed.
    pub fn adopt_value(&self, value: ValueRef, runs: Vec<PageRun>, epoch: u64) {
        let mut page = value.first;
        for (extent, stamp) in runs.iter().flat_map(|run| run.pages(self.page_size())) {
            self.set_overflow(page, extent, stamp);
            page.0 += 1;
        }
        let (first, runs) = (value.first, runs.into());
        self.values.lock().published.push(Published { epoch, first, runs });
    }

    /// Ids, first and number, of values that no leaf refers to, or perhaps not yet: being made, or
    /// retired and not settled.
    pub fn unattached_values(&self) -> Vec<(PageId, u64)> {
        let state = self.values.lock();
        let making = state.making.iter().map(|(first, count)| (PageId(*first), *count));
        let retired = state.retired.iter().map(|value| (value.first, value.count));
        making.chain(retired).collect()
    }

    /// Whether an id names a page.
    pub fn exists(&self, page: PageId) -> bool {
        self.table.place(page) != Place::Free
    }

    /// Keeps the ids of values that go from being used for others, as long as the answer lives.
    pub fn keep_ids(self: &Arc<Self>) -> IdsKept {
        self.values.lock().keepers += 1;
        IdsKept(Arc::clone(self))
    }

    /// Counts up whenever extents of values begin to be settled and when that has ended: odd in
    /// between, when the pages and the space map do not fit one another.
    pub fn settlings(&self) -> u64 {
        self.values.settlings.load(Ordering::SeqCst)
    }

    /// Makes a page of an overflow value known; its id was free.
    fn set_overflow(&self, page: PageId, extent: Extent, stamp: u32) {
        // Before the word says so: whoever sees the word finds its stamp.
        self.table.set_stamp(page, stamp);
        let set = self.table.change(page, Place::Free, Place::Overflow(extent));
        assert!(set, "{page} was not free");
    }

    /// Moves a page of an overflow value to another extent.
    fn move_overflow(&self, page: PageId, before: Extent, after: Extent, stamp: u32) {
        // Whoever sees the one without the other finds that the page does not fit, and looks again.
        self.table.set_stamp(page, stamp);
        let moved = self.table.change(page, Place::Overflow(before), Place::Overflow(after));
        assert!(moved, "{page} was moved by nobody else");
    }

    /// Where a page of an overflow value is, and its stamp.
    fn overflow_page(&self, page: PageId) -> Option<(Extent, u32)> {
        match self.table.place(page) {
            Place::Overflow(extent) => Some((extent, self.table.stamp(page))),
            _ => None,
        }
    }
}

/// Writes all of a page's header but the seal.
fn write_header(page: &mut [u8], tree: u32, version: u64) {
    page[PAGE_HEADER_LEN..20].copy_from_slice(&tree.to_le_bytes());
    page[20] = LEVEL;
    page[21..24].fill(0);
    page[24..HEADER_LEN].copy_from_slice(&version.to_le_bytes());
}

/// Whether a page's header is that of a value's page.
fn has_header(page: &[u8], tree: u32, version: u64) -> bool {
    let mut expected = [0; HEADER_LEN];
    write_header(&mut expected, tree, version);
    page[PAGE_HEADER_LEN..HEADER_LEN] == expected[PAGE_HEADER_LEN..]
}
