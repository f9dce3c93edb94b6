//! What all trees of one page file share, and what a tree is known by.

use std::collections::BTreeSet;
use std::sync::Arc;

use event_listener::{Event, EventListener};
use treering_bufpool::{Pool, Refusal};
use treering_latch::sync::Mutex;
use treering_pagefile::{FileError, PageId};

use crate::gap::Gap;
use crate::spare::Spares;

/// A tree: its number, which its pages carry, and its root page, which stays while the tree grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreeRef {
    /// Never used again for another tree.
    pub id: u32,
    /// The page where every descent begins.
    pub root: PageId,
    /// How densely fillers are spread over its leaves; `None` for what suits their size.
    pub gap: Option<Gap>,
}

impl TreeRef {
    /// A tree whose leaves have the fillers that suit their size.
    pub const fn new(id: u32, root: PageId) -> Self {
        Self { id, root, gap: None }
    }
}

/// What a synchronous step on a tree came to.
#[derive(Debug)]
pub enum Step<T> {
    /// It is done.
    Done(T),
    /// These pages are not in memory: fetch them, owning nothing meanwhile, and take the step again.
    Fetch(Vec<PageId>),
}

/// Why a change cannot be made just now. Nothing was changed, and nothing is held.
#[derive(Debug)]
pub enum Blocked {
    /// These pages are not in memory.
    Fetch(Vec<PageId>),
    /// A resource is used up for the moment.
    Refused(Refusal),
    /// A page or the epoch has moved on in between: take the step again.
    Moved,
    /// More leaves are involved than the caller allows in one step.
    TooManyLeaves,
}

impl From<Refusal> for Blocked {
    fn from(refusal: Refusal) -> Self {
        Blocked::Refused(refusal)
    }
}

/// A tree is not what it should be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// No descent reaches the key: links or fences are damaged.
    #[error("tree {tree}: no way from its root {root} to the key; run verify, restore a backup")]
    Lost {
        /// The tree's number.
        tree: u32,
        /// Its root.
        root: PageId,
    },
    /// The tree's root is not there: it has been dropped.
    #[error("tree {tree} has been dropped")]
    Gone {
        /// The tree's number.
        tree: u32,
    },
    /// The tree has no such level (any more).
    #[error("tree {tree} has no level {level}; look again")]
    Shallow {
        /// The tree's number.
        tree: u32,
        /// The level.
        level: u8,
    },
    /// The page file failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The trees of one pool.
pub struct Forest {
    pool: Arc<Pool>,
    unposted: Reports,
    underfull: Reports,
    pub(crate) spares: Spares,
}

/// Pages that an engine task should look at.
struct Reports {
    pages: Mutex<BTreeSet<PageId>>,
    reported: Event,
    /// A report beyond so many is dropped.
    most: usize,
}

/// How many splits may wait to be posted. If a report is dropped, the flag stays in the page and
/// whoever crosses the link reports it again.
const UNPOSTED_MAX: usize = 1024;
/// How many pages may wait to be merged: 32 bytes each. If a report is dropped, the next delete in
/// the page makes another, and compaction looks everywhere.
const UNDERFULL_MAX: usize = 1 << 20;

impl Reports {
    fn new(most: usize) -> Self {
        Self { pages: Mutex::default(), reported: Event::new(), most }
    }

    fn add(&self, page: PageId) {
        let mut pages = self.pages.lock();
        if pages.len() < self.most && pages.insert(page) {
            drop(pages);
            self.reported.notify(usize::MAX);
        }
    }

    fn take(&self) -> Option<PageId> {
        self.pages.lock().pop_first()
    }
}

impl Forest {
    /// The trees in `pool`.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            unposted: Reports::new(UNPOSTED_MAX),
            underfull: Reports::new(UNDERFULL_MAX),
            spares: Spares::default(),
        }
    }

    /// The pool under the trees.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Notes that the parent of `left` has to be told of its right sibling.
    pub fn report_unposted(&self, left: PageId) {
        self.unposted.add(left);
    }

    /// Takes a page that was reported, for [`Forest::post`].
    pub fn take_unposted(&self) -> Option<PageId> {
        self.unposted.take()
    }

    /// Is woken when a split is reported.
    pub fn unposted_reported(&self) -> EventListener {
        self.unposted.reported.listen()
    }

    /// Notes that a page should borrow from a sibling or merge with it.
    pub fn report_underfull(&self, page: PageId) {
        self.underfull.add(page);
    }

    /// Takes a page that was reported, for [`Forest::merge`].
    pub fn take_underfull(&self) -> Option<PageId> {
        self.underfull.take()
    }

    /// Whether a reported page waits to be merged.
    pub fn has_underfull(&self) -> bool {
        !self.underfull.pages.lock().is_empty()
    }

    /// Is woken when an underfull page is reported.
    pub fn underfull_reported(&self) -> EventListener {
        self.underfull.reported.listen()
    }
}
