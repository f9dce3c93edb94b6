//! Recovery of deferred changes.
//!
//! What the checkpoint's catalog has is finished before the log behind it is replayed; what the log
//! has is applied as a whole when its turn comes. Both happen in the replay's epoch, with nobody else
//! there, so no overlay is needed. Dropped trees are left to the engine: nothing depends on them.

use treering_blink::{Chunk as Leaf, Direction, Edit, From, Reference, Scan, Step, Stored};
use treering_bufpool::ValueRef;

use super::Deferred;
use super::body_value::BodyReader;
use crate::body::Entry;
use crate::catalog::tree_key;
use crate::error::Error;
use crate::replay::Replay;
use crate::replay_large::adopt_value;

impl Replay {
    /// Finishes what the checkpoint found under way.
    pub(crate) async fn finish_deferred(&self) -> Result<(), Error> {
        for (id, entry, to) in self.catalog.deferred() {
            match entry {
                Deferred::Batch { body, done } => self.apply_body(&body, done, false).await?,
                Deferred::Range { tree, from } => {
                    self.clear_range(tree, &from, to.as_deref()).await?;
                }
                Deferred::Drop { .. } => continue,
            }
            let changes = [(Deferred::key(id), None), (Deferred::to_key(id), None)];
            self.change_catalog(&changes).await?;
            self.catalog.forget_deferred(id);
        }
        Ok(())
    }

    /// Applies a big batch of the log.
    pub(crate) async fn big_batch(&self, body: &Reference) -> Result<(), Error> {
        self.apply_body(body, 0, true).await
    }

    /// Applies the outcomes of a body from number `done` on. `adopting`: the large values that it names
    /// are not in the page map yet.
    async fn apply_body(&self, body: &Reference, done: u64, adopting: bool) -> Result<(), Error> {
        let pool = self.forest.pool();
        let mut reader = BodyReader::new(body)?;
        let mut number = 0;
        while let Some(entry) = reader.next(pool).await? {
            let skipped = number < done;
            number += 1;
            if skipped {
                continue;
            }
            match entry {
                Entry::Put { tree, key, value } => {
                    self.edit(tree, key, Some(Stored::Inline(value))).await?;
                }
                Entry::Delete { tree, key } => self.edit(tree, key, None).await?,
                Entry::PutLarge { tree, key, value, runs } => {
                    if adopting {
                        adopt_value(pool, value, runs, self.epoch)?;
                    }
                    self.edit(tree, key, Some(Stored::Overflow(value))).await?;
                }
                _ => {}
            }
        }
        if let Some(value) = ValueRef::from_bytes(body) {
            pool.retire_value(value, self.epoch);
        }
        Ok(())
    }

    /// Takes all keys of a range away.
    pub(crate) async fn clear_range(
        &self,
        tree: u32,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<(), Error> {
        let Some(tree) = self.catalog.by_id(tree) else { return Ok(()) };
        let mut scan = Scan::new(tree, Direction::Forward, From::At(from.to_vec()));
        let mut leaf = Leaf::default();
        while scan.next().is_some() {
            match self.forest.scan(&mut scan, &mut leaf)? {
                Step::Fetch(pages) => self.forest.pool().fetch_many(&pages).await?,
                Step::Done(()) => {
                    let inside = |key: &&[u8]| to.is_none_or(|to| *key < to);
                    let keys: Vec<_> = leaf.iter().map(|(key, _)| key.to_vec()).collect();
                    let all = keys.len();
                    let keys: Vec<_> =
                        keys.into_iter().take_while(|key| inside(&key.as_slice())).collect();
                    let edits: Vec<_> = keys
                        .iter()
                        .enumerate()
                        .map(|(index, key)| Edit { index, key, value: None })
                        .collect();
                    if !edits.is_empty() {
                        self.edit_all(tree, &edits).await?;
                    }
                    if keys.len() < all {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Repeats the dropping of a tree; the engine frees its pages later.
    pub(crate) async fn drop_tree(&self, tree: u32, id: u64) -> Result<(), Error> {
        let Some(info) = self.catalog.info(tree) else { return Ok(()) };
        let entry = Deferred::Drop { tree, root: info.tree.root };
        let changes = [(tree_key(&info.name), None), (Deferred::key(id), Some(entry.encode()))];
        self.change_catalog(&changes).await?;
        self.catalog.begin_drop(id, tree);
        Ok(())
    }
}
