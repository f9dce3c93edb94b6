//! Bulk load: sorted input becomes full pages, from the bottom up, and a tree all at once.
//!
//! The contents of a load into an empty tree are not logged. Its pages are built in private memory and
//! written under ids that were taken before, so that each can link to its right sibling although that
//! one is not built yet. They go to disk in batches, out of place, many in a row and past the frames of
//! the pool (`outgoing`), and are known to it as pages on disk when they are written. No other page leads
//! to them until the last step.
//!
//! 1. *Blocks*: ids are taken in blocks, each four times as long as the one before. Before the first
//!    page of a block is published, the catalog gets to know the block (`LoadEntry`): changed without a record, like the structure of a tree, in an epoch that is not after that page's. So
//!    every checkpoint that has pages of a load also has the entry that names their ids.
//! 2. *Pages*: leaves, and above them level by level, each page filled as far as it goes. Large
//!    values go to overflow pages and are published in the step that publishes their leaf. A batch
//!    is written before it is published, so the checkpoint of that epoch, which syncs the file
//!    before it names any page, has the pages whole.
//! 3. *Checkpoint*: all of it is durable then, and reachable by nobody.
//! 4. *Commit*, one step: the tree's root, which still has to be an empty leaf, takes over the contents of
//!    the top page ([`treering_blink::Graft`]); the entry leaves the catalog; the log gets a record
//!    that says so. Replaying that record repeats just this step: the pages are in the checkpoint.
//!    This is an engine task's, which waits for its turn among the deferred changes: while keys of the
//!    tree are pending its pages do not show what it has.
//!
//! A load that does not get that far is given back, by an engine task or by the next recovery: pages,
//! values, and at last the entry and the ids. The ids of the pages that go are kept from everybody
//! until the entry is gone, since a recovery would free whatever has them. A recovery looks for
//! the pages before it replays anything, as the replay may use ids of a block that had no page yet.
//!
//! Between two steps nothing is held that anybody waits for (I1): no pin, no latch, no frame, and space
//! only for pages whose write has begun, which an engine task brings to an end. So it does not matter who
//! drives a [`Load`], nor for how long it stands still.

mod batches;
mod commit;
mod entry;
mod free;
mod level;
mod outgoing;
mod read_back;
mod replay;
mod unfinished;

use std::collections::VecDeque;
use std::sync::Arc;

use futures::channel::oneshot;
use treering_blink::{Image, Step, Stored, TreeRef};
use treering_bufpool::Written;
use treering_pagefile::PageId;
use unfinished::Unfinished;

pub use batches::Batches;
pub(crate) use entry::{LoadEntry, Loads, parse_load_key};
use level::Level;
use outgoing::{Gathered, Sent};
pub use read_back::{LoadedLeaf, ReadBack};

use crate::engine::Engine;
use crate::error::Error;
use crate::large::VALUE_MAX;

/// A tree in the making, for a tree that is empty. Dropping it gives everything back.
pub struct Load {
    engine: Arc<Engine>,
    tree: TreeRef,
    /// What was taken for it; nothing from the commit on.
    unfinished: Option<Unfinished>,
    /// Ids of the last block that are taken.
    used: u64,
    /// From the leaves up.
    levels: Vec<Level>,
    /// The last key, once there is one.
    last: Option<Vec<u8>>,
    /// The values of entries that are in no page yet, in their order.
    values: VecDeque<Written>,
    gathered: Gathered,
    first_leaf: Option<PageId>,
    state: State,
}

/// Why a load's [`Unfinished`] is expected.
const UNTIL_COMMIT: &str = "it is there until the commit";

/// How far a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Building,
    Built { top: PageId },
    Committed,
}

/// What the end of a load came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The tree has its keys, as of the commit with this sequence.
    Committed {
        /// The sequence: what to wait for ([`Engine::settle`]).
        sequence: u64,
    },
    /// Somebody else has put keys into the tree meanwhile, and nothing was changed. What was built can
    /// still be read ([`Load::read_back`]).
    NotEmpty,
}

impl Engine {
    /// Begins to load a tree; whatever it has by then, it has to be empty at the end.
    ///
    /// # Errors
    /// [`Error::NoSuchTree`], [`Error::ReadOnly`]; when the engine is closed or poisoned.
    pub fn load(self: &Arc<Self>, tree: TreeRef) -> Result<Load, Error> {
        self.check_writable()?;
        self.check_tree(tree)?;
        let (id, entry) = (self.next_unique()?, LoadEntry::new(tree.id));
        Ok(Load {
            engine: Arc::clone(self),
            tree,
            unfinished: Some(Unfinished {
                engine: Arc::clone(self),
                id,
                entry,
                sent: Sent::default(),
            }),
            used: 0,
            levels: Vec::new(),
            last: None,
            values: VecDeque::new(),
            gathered: Gathered::new(self.pool()),
            first_leaf: None,
            state: State::Building,
        })
    }

    /// Whether a tree is empty, and has no more pages than one, so that it can be loaded.
    ///
    /// # Errors
    /// A read that fails; what poisoned the engine.
    pub async fn is_bare(&self, tree: TreeRef) -> Result<bool, Error> {
        loop {
            self.check()?;
            match self.forest.is_bare(tree) {
                Ok(Step::Done(bare)) => return Ok(bare),
                Ok(Step::Fetch(pages)) => self.pool().fetch_many(&pages).await?,
                Err(_) => return Ok(false),
            }
        }
    }
}

impl Load {
    /// Adds a key, which is greater than all before.
    ///
    /// After an error the load can only be dropped; the same holds if the future is dropped.
    ///
    /// # Errors
    /// Key or value are too long; a full disk; what poisoned the engine.
    ///
    /// # Panics
    /// If the key is not greater than the one before.
    pub async fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let ascending = self.last.as_ref().is_none_or(|last| last.as_slice() < key);
        assert!(ascending, "the keys of a load ascend");
        assert_eq!(self.state, State::Building, "a load that is built takes no more keys");
        let (max_key, max_value) = (self.engine.limits.max_key, VALUE_MAX as usize);
        if key.len() > max_key {
            return Err(Error::KeyTooLong { len: key.len(), max: max_key });
        }
        if value.len() > max_value {
            return Err(Error::ValueTooLong { len: value.len(), max: max_value });
        }
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        if self.engine.is_large(key, value) {
            let written = self.engine.write_value(self.tree.id, value).await?;
            let reference = written.value().to_bytes();
            self.values.push_back(written);
            self.add(0, key, Stored::Overflow(&reference));
        } else {
            self.add(0, key, Stored::Inline(value));
        }
        self.publish_full().await
    }

    fn add(&mut self, level: usize, key: &[u8], value: Stored<'_>) {
        if level == self.levels.len() {
            let spec = (self.engine.pool().page_size(), self.tree.id);
            self.levels.push(Level::new(spec, level as u8));
        }
        self.levels[level].add(key, value);
    }

    /// Publishes the pages that are full, on all levels.
    async fn publish_full(&mut self) -> Result<(), Error> {
        let mut level = 0;
        while level < self.levels.len() && self.levels[level].may_have_full_pages() {
            for (image, low) in self.levels[level].take_full_pages() {
                self.publish(level, image, &low, false).await?;
            }
            level += 1;
        }
        Ok(())
    }

    /// Publishes what is left, up to one page on top; afterwards no keys can be added.
    ///
    /// # Errors
    /// As [`Load::push`].
    pub async fn build(&mut self) -> Result<(), Error> {
        if self.state != State::Building {
            return Ok(());
        }
        let (mut level, mut top) = (0, None);
        while level < self.levels.len() {
            let mut pages = self.levels[level].take_rest().into_iter().peekable();
            while let Some((image, low)) = pages.next() {
                let id = self.publish(level, image, &low, pages.peek().is_none()).await?;
                if pages.peek().is_none() && self.levels[level].pages == 1 {
                    top = Some(id);
                    self.levels.truncate(level + 1);
                }
            }
            level += 1;
        }
        self.flush().await?;
        if let Some(top) = top {
            self.state = State::Built { top };
        }
        Ok(())
    }

    /// Sends off a page, the next of its level; whether it is the last, it says. Returns its id.
    async fn publish(
        &mut self,
        level: usize,
        mut image: Image,
        low: &[u8],
        is_last: bool,
    ) -> Result<PageId, Error> {
        let id = match self.levels[level].next.take() {
            Some(id) => id,
            None => self.take_id().await?,
        };
        let right = if is_last { None } else { Some(self.take_id().await?) };
        image.edit().set_right(right);
        let count = match self.values.is_empty() || level > 0 {
            true => 0,
            false => level::references(&image).len(),
        };
        let page_size = self.engine.pool().page_size();
        let ids = self.values.iter().take(count).map(Written::value);
        let ids = ids.map(|value| (value.first, value.pages(page_size)));
        let load = self.unfinished.as_ref().expect(UNTIL_COMMIT).id;
        self.engine.loads.note_values(load, ids);
        self.gathered.add(id, &image, self.values.drain(..count));
        if self.gathered.is_full() {
            self.send().await?;
        }
        let built = &mut self.levels[level];
        built.next = right;
        built.pages += 1;
        if level == 0 {
            self.first_leaf.get_or_insert(id);
        }
        self.add(level + 1, low, Stored::Inline(&id.0.to_le_bytes()));
        Ok(id)
    }

    /// An id that is in a block which the catalog knows.
    async fn take_id(&mut self) -> Result<PageId, Error> {
        let used = self.used;
        let Unfinished { engine, id, entry, .. } = self.unfinished();
        let block = match entry.last_block() {
            Some((first, count)) if used < count => first,
            _ => {
                let first = entry.take_block(engine.pool())?;
                engine.loads.note(*id, entry);
                engine.write_load_entry(*id, Some(entry)).await?;
                self.used = 0;
                first
            }
        };
        self.used += 1;
        Ok(PageId(block.0 + self.used - 1))
    }

    fn unfinished(&mut self) -> &mut Unfinished {
        self.unfinished.as_mut().expect(UNTIL_COMMIT)
    }

    /// Pages that have been built.
    pub fn pages(&self) -> u64 {
        self.levels.iter().map(|level| level.pages).sum()
    }

    /// Builds what is left and gives the tree all its keys, if it is empty.
    ///
    /// Dropping the future leaves the tree as it was, or loaded; after an error the load can only be dropped,
    /// and the tree is as it was unless the engine has been poisoned or closed.
    ///
    /// # Errors
    /// As [`Load::push`].
    ///
    /// # Panics
    /// If it is called again after its future was dropped.
    pub async fn finish(&mut self) -> Result<Finished, Error> {
        self.build().await?;
        let State::Built { top } = self.state else {
            return Ok(Finished::Committed { sequence: self.engine.log.last_sequence() });
        };
        let unfinished = self.unfinished.take().expect("a load is finished once");
        let (done, ended) = oneshot::channel();
        let tree = self.tree;
        // If the future is gone, so is what the task sends, which gives it back if need be.
        self.engine.begin(async move { drop(done.send(unfinished.commit(tree, top).await)) })?;
        match ended.await.unwrap_or_else(|_| Err(self.engine.ended()))? {
            Ok(sequence) => {
                self.state = State::Committed;
                Ok(Finished::Committed { sequence })
            }
            Err(unfinished) => {
                self.unfinished = Some(unfinished);
                Ok(Finished::NotEmpty)
            }
        }
    }
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load")
            .field("tree", &self.tree.id)
            .field("pages", &self.pages())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
