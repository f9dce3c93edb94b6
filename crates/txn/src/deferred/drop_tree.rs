//! Dropping a tree: its name is gone at once, its pages go behind that.
//!
//! From the moment of the record on nobody finds the tree, and whoever still has a handle is told that
//! it is gone. A write that had begun before may end after it; nobody can tell. The catalog keeps an
//! entry until the last page is free: then all keys are taken away chunk by chunk, which also frees
//! the pages of large values, the leaves merge, and what is left of the tree, an empty root, is freed
//! with the entry in one step. After a crash the engine goes on with it.

use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;
use futures::channel::oneshot;
use treering_blink::{Blocked, Direction, Edit, From, Nearest, Page, Step, TreeRef};
use treering_bufpool::Read;
use treering_latch::sync::atomic::{AtomicU64, Ordering};
use treering_pagefile::Room;

use super::Deferred;
use super::commit::Commit;
use crate::attempt::Attempt;
use crate::body::Entry;
use crate::catalog::{CATALOG, tree_key};
use crate::engine::Engine;
use crate::error::Error;
use crate::records::Waiting;

/// What those hear who wait for the pages of dropped trees.
#[derive(Default)]
pub(crate) struct Drops {
    /// A tree's pages are all free, or could not be freed this time.
    tried: Event,
    failures: AtomicU64,
}

impl Engine {
    /// Drops a tree, durably. Its space comes back behind that.
    ///
    /// Dropping the future may leave the tree dropped or not.
    ///
    /// # Errors
    /// [`Error::NoSuchTree`]; a full disk; what poisoned the engine.
    pub async fn drop_tree(self: &Arc<Self>, name: &[u8]) -> Result<(), Error> {
        self.check_writable()?;
        let (done, sequence) = oneshot::channel();
        let (engine, name) = (Arc::clone(self), name.to_vec());
        self.begin(async move {
            let committed = engine.commit_drop(&name).await;
            let dropped = match committed {
                Ok((id, tree, sequence)) => {
                    // The future may be gone: so is the tree.
                    let _ = done.send(Ok(sequence));
                    (id, tree)
                }
                Err(error) => return drop(done.send(Err(error))),
            };
            engine.free_tree(dropped.0, dropped.1).await;
        })?;
        let sequence = sequence.await.unwrap_or_else(|_| Err(self.ended()))?;
        Ok(self.log.wait_durable(sequence).await?)
    }

    async fn commit_drop(&self, name: &[u8]) -> Result<(u64, TreeRef, u64), Error> {
        // No other deferred change is about this tree then, and nobody makes one of its name.
        let _turn = self.overlays.turn.enter_async().await;
        let _one_at_a_time = self.records.catalog.enter_async().await;
        let shown = || format!("{:?}", String::from_utf8_lossy(name));
        let info = self.catalog.find(name).ok_or_else(|| Error::NoSuchTree { tree: shown() })?;
        let tree = info.tree;
        let id = self.next_unique()?;
        let entry = Deferred::Drop { tree: tree.id, root: tree.root };
        self.catalog.begin_drop(id, tree.id);
        let commit = Commit {
            record: Entry::DropTree { tree: tree.id, id },
            entries: &[(tree_key(name), None), (Deferred::key(id), Some(entry.encode()))],
            values: Vec::new(),
            overlay: None,
        };
        let committed = self.commit_deferred(commit).await;
        if committed.is_err() {
            self.catalog.undo_drop(id, info);
            self.drops.tried.notify(usize::MAX);
        }
        Ok((id, tree, committed?))
    }

    /// Goes on with the drops that the last life did not end.
    pub(crate) fn resume_drops(self: &Arc<Self>) {
        for (id, tree) in self.catalog.drops() {
            let engine = Arc::clone(self);
            self.spawn(async move { engine.free_tree(id, tree).await });
        }
    }

    /// Frees all pages of a tree that is dropped, one tree after the other: each holds pins while it
    /// waits for pages, and all of them together might hold every frame (I10).
    async fn free_tree(&self, id: u64, tree: TreeRef) {
        loop {
            let one_at_a_time = self.overlays.freeing.enter_async().await;
            let tried = self.try_free_tree(id, tree).await;
            drop(one_at_a_time);
            // What keeps a page from being merged may be that the disk is too full to tell its parent of it.
            let file = self.pool().file();
            let tried = match tried {
                Ok(false) if file.wants_growth() => {
                    file.grow().await.map(|()| false).map_err(Error::from)
                }
                tried => tried,
            };
            if let Err(error) = &tried {
                self.drops.failures.fetch_add(1, Ordering::SeqCst);
                if self.check().is_ok() {
                    tracing::warn!(%error, tree = tree.id, "not all pages are free yet");
                }
            }
            self.drops.tried.notify(usize::MAX);
            if matches!(tried, Ok(true)) || self.check().is_err() {
                return;
            }
            self.runtime.sleep(PAUSE).await;
        }
    }

    /// Waits until the pages of the trees dropped so far are free, or for some reason cannot be.
    pub(crate) async fn wait_for_drops(&self) -> Result<(), Error> {
        let failures = self.drops.failures.load(Ordering::SeqCst);
        loop {
            let tried = self.drops.tried.listen();
            self.check()?;
            let failed = self.drops.failures.load(Ordering::SeqCst) != failures;
            if failed || self.catalog.drops().is_empty() {
                return Ok(());
            }
            tried.await;
        }
    }

    /// True when nothing of the tree is left.
    async fn try_free_tree(&self, id: u64, tree: TreeRef) -> Result<bool, Error> {
        self.clear_range(tree, b"", None, &|_| Vec::new(), &|_| {}).await?;
        self.report_first_leaf(tree).await?;
        self.tidy().await?;
        let _no_merge = self.merging.enter_async().await;
        let mut waiting = Waiting::new(self);
        waiting.shrinks = true;
        loop {
            waiting.listen();
            match self.try_free_root(id, tree, &mut waiting) {
                Ok(freed) => {
                    if freed {
                        self.catalog.end_drop(id);
                    }
                    return Ok(freed);
                }
                Err(Attempt::Failed(error)) => return Err(error),
                // Not as others wait for a page: that pins it, and a pinned page is not freed.
                Err(Attempt::Absent(pages)) if pages == [tree.root] => {
                    self.pool().fetch_many(&pages).await?;
                }
                Err(lacking) => waiting.wait(lacking).await?,
            }
        }
    }

    /// A leaf that nobody has reported: after a crash, or because it was empty all along.
    async fn report_first_leaf(&self, tree: TreeRef) -> Result<(), Error> {
        let mut search = Nearest::new(tree);
        search.aim(Direction::Forward, From::End);
        loop {
            match self.forest.nearest(&mut search)? {
                Step::Done(_) => {
                    if let Some(leaf) = search.page() {
                        self.forest.report_underfull(leaf);
                    }
                    self.forest.report_underfull(tree.root);
                    return Ok(());
                }
                Step::Fetch(pages) => self.pool().fetch_many(&pages).await?,
            }
        }
    }

    fn try_free_root(
        &self,
        id: u64,
        tree: TreeRef,
        waiting: &mut Waiting<'_>,
    ) -> Result<bool, Attempt> {
        let _entered = self.enter().map_err(Attempt::Failed)?;
        let pool = self.pool();
        match pool.read_page(tree.root, |words| Page::new(words).tree()) {
            Read::Absent => return Err(Attempt::Absent(vec![tree.root])),
            // A damaged entry may name a page of the catalog, which is latched below.
            Read::Done(owner) if owner != tree.id => return Ok(false),
            Read::Done(_) | Read::Free => {}
        }
        let key = Deferred::key(id);
        let keys = std::iter::once((CATALOG, key.as_slice()));
        let leaves = self.forest.latch_leaves(keys, &mut waiting.ways, self.limits.batch_leaves);
        let leaves = leaves.map_err(|error| Attempt::Failed(error.into()))??;
        // The catalog is tree 0: its leaf comes first (I11).
        let pinned = pool.try_pin(tree.root).ok_or_else(|| Attempt::Absent(vec![tree.root]))?;
        let root = pinned.write();
        let view = Page::new(root.words());
        if view.tree() != tree.id || !view.is_leaf() || view.live_len() > 0 {
            return Ok(false);
        }
        let epoch = self.log.epoch();
        let edits = [Edit { index: 0, key: &key, value: None }];
        let plan = leaves.plan_in(epoch, &edits, Room::Shrinking)?;
        let doomed = root.doom(epoch).map_err(|refusal| Attempt::from(Blocked::from(refusal)))?;
        let Some(entered) = self.log.try_enter(epoch) else { return Err(Attempt::Moved) };
        let split = plan.commit(epoch, |_| {});
        doomed.free(epoch);
        drop(entered);
        self.forest.post_now(|id| self.catalog.by_id(id), split, &*self.log);
        Ok(true)
    }
}

/// How long to wait before looking again at what is left of a tree.
const PAUSE: Duration = Duration::from_millis(10);
