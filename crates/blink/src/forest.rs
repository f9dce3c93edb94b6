//! What all trees of one page file share, and what a tree is known by.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use event_listener::{Event, EventListener};
use treering_bufpool::{Pool, Refusal};
use treering_pagefile::{FileError, PageId};

/// A tree: its number, which its pages carry, and its root page, which stays while the tree grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreeRef {
    /// Never used again for another tree.
    pub id: u32,
    /// The page where every descent begins.
    pub root: PageId,
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
    /// The page file failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The trees of one pool.
pub struct Forest {
    pool: Arc<Pool>,
    unposted: Mutex<BTreeSet<PageId>>,
    reported: Event,
}

/// How many splits may wait to be posted. A report beyond it is dropped: the flag stays in the page
/// and whoever crosses the link reports it again.
const UNPOSTED_MAX: usize = 1024;

impl Forest {
    /// The trees in `pool`.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { pool, unposted: Mutex::default(), reported: Event::new() }
    }

    /// The pool under the trees.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Notes that the parent of `left` has to be told of its right sibling.
    pub fn report_unposted(&self, left: PageId) {
        let mut unposted = self.unposted.lock().unwrap_or_else(PoisonError::into_inner);
        if unposted.len() < UNPOSTED_MAX && unposted.insert(left) {
            drop(unposted);
            self.reported.notify(usize::MAX);
        }
    }

    /// Takes a page that was reported, for [`Forest::post`].
    pub fn take_unposted(&self) -> Option<PageId> {
        let mut unposted = self.unposted.lock().unwrap_or_else(PoisonError::into_inner);
        unposted.pop_first()
    }

    /// Is woken when a page is reported.
    pub fn unposted_reported(&self) -> EventListener {
        self.reported.listen()
    }
}
