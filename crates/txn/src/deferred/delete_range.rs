//! Taking away all keys of a range.

use std::sync::Arc;

use futures::channel::oneshot;
use treering_blink::{Chunk as Leaf, Direction, From, Scan, Step, TreeRef};
use treering_pagefile::Room;

use super::Deferred;
use super::apply::{Applied, Chunk, Outcome};
use super::commit::Commit;
use crate::body::Entry;
use crate::create_tree::Change;
use crate::engine::{Durability, Engine};
use crate::error::Error;
use crate::overlay::{Overlay, What};

impl Engine {
    /// Takes away all keys of a tree from `from` up to `to`, exclusive, or to the end: at once for
    /// whoever reads, and all or nothing after a crash. The space comes back behind it.
    ///
    /// Dropping the future before its first poll means that nothing happened; afterwards the engine
    /// alone decides.
    ///
    /// # Errors
    /// A tree that is not there any more; a full disk; what poisoned the engine.
    pub async fn delete_range(
        self: &Arc<Self>,
        tree: TreeRef,
        from: Vec<u8>,
        to: Option<Vec<u8>>,
        durability: Durability,
    ) -> Result<(), Error> {
        self.check_writable()?;
        let longest = self.limits.max_key + 1;
        let (from, to) = (shortened(from, longest), to.map(|to| shortened(to, longest)));
        if to.as_ref().is_some_and(|to| *to <= from) {
            return Ok(());
        }
        let (done, sequence) = oneshot::channel();
        let engine = Arc::clone(self);
        self.begin(async move {
            let turn = engine.overlays.turn.enter_async().await;
            let committed = engine.commit_range(tree, &from, to.as_deref()).await;
            let (id, overlay, sequence) = match committed {
                Ok(committed) => committed,
                Err(error) => {
                    engine.overlays.clear();
                    return drop(done.send(Err(error)));
                }
            };
            // The future may be gone: the keys are gone all the same.
            let _ = done.send(Ok(sequence));
            let apply = || engine.apply_range(id, tree, to.as_deref(), &overlay);
            engine.keep_applying(apply).await;
            drop(turn);
        })?;
        let sequence = sequence.await.unwrap_or_else(|_| Err(self.ended()))?;
        self.settle(sequence, durability).await
    }

    async fn commit_range(
        &self,
        tree: TreeRef,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<(u64, Arc<Overlay>, u64), Error> {
        self.check_tree(tree)?;
        let id = self.next_unique()?;
        let what = What::Gone { tree: tree.id, to: to.map(<[u8]>::to_vec) };
        let overlay = Arc::new(Overlay::new(what, (tree.id, from)));
        self.overlays.set(Arc::clone(&overlay));
        self.door.attempts.ended().await;
        let entry = Deferred::Range { tree: tree.id, from: from.to_vec() };
        let mut entries = vec![(Deferred::key(id), Some(entry.encode()))];
        entries.extend(to.map(|to| (Deferred::to_key(id), Some(to.to_vec()))));
        let commit = Commit {
            record: Entry::DeleteRange { tree: tree.id, from, to },
            entries: &entries,
            values: Vec::new(),
            overlay: Some(&overlay),
        };
        let sequence = self.commit_deferred(commit).await?;
        Ok((id, overlay, sequence))
    }

    async fn apply_range(
        &self,
        id: u64,
        tree: TreeRef,
        to: Option<&[u8]>,
        overlay: &Overlay,
    ) -> Result<(), Error> {
        // Where it is after an attempt that failed. What is before that is others' again.
        let (_, from) = overlay.place();
        let progress = |next: Option<&[u8]>| {
            let entry = next.map(|next| Deferred::Range { tree: tree.id, from: next.to_vec() });
            let done = entry.is_none();
            let mut changes = vec![(Deferred::key(id), entry.map(|entry| entry.encode()))];
            if done && to.is_some() {
                changes.push((Deferred::to_key(id), None));
            }
            changes
        };
        let passed = |next: Option<&[u8]>| {
            match next {
                Some(next) => overlay.advance(tree.id, next),
                None => overlay.advance(u32::MAX, b""),
            }
            self.overlays.notify_moved();
        };
        self.clear_range(tree, &from, to, &progress, &passed).await?;
        self.overlays.clear();
        Ok(())
    }

    /// Takes keys away chunk by chunk. `progress` is what the catalog says when everything before a
    /// key is gone, or everything; `passed` is told when that is so.
    pub(super) async fn clear_range(
        &self,
        tree: TreeRef,
        from: &[u8],
        to: Option<&[u8]>,
        progress: &(dyn Fn(Option<&[u8]>) -> Vec<Change> + Sync),
        passed: &(dyn Fn(Option<&[u8]>) + Sync),
    ) -> Result<(), Error> {
        let start = From::At(from.to_vec());
        let mut scan = Scan::new(tree, Direction::Forward, start);
        if let Some(to) = to {
            scan = scan.until(to.to_vec());
        }
        let mut leaf = Leaf::default();
        while scan.next().is_some() {
            self.check()?;
            match self.forest.scan(&mut scan, &mut leaf)? {
                Step::Fetch(pages) => {
                    self.pool().fetch_many(&pages).await?;
                    continue;
                }
                Step::Done(()) => {}
            }
            let inside = |key: &&[u8]| to.is_none_or(|to| *key < to);
            let keys: Vec<&[u8]> = leaf.iter().map(|(key, _)| key).take_while(inside).collect();
            let next = match scan.next() {
                Some(From::At(key) | From::Past(key)) => Some(key.clone()),
                Some(From::End) | None => None,
            };
            let next = next.filter(|next| to.is_none_or(|to| next.as_slice() < to));
            if keys.is_empty() && next.is_some() {
                continue;
            }
            self.clear_keys(tree, &keys, next.as_deref(), progress, passed).await?;
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Takes these keys away, in one step or, if they are not in one leaf any more, in several. That
    /// everything is gone is a step of its own: the entries of a range may lie in two leaves, and no
    /// more than two may be changed at once in the smallest pool.
    async fn clear_keys(
        &self,
        tree: TreeRef,
        mut keys: &[&[u8]],
        next: Option<&[u8]>,
        progress: &(dyn Fn(Option<&[u8]>) -> Vec<Change> + Sync),
        passed: &(dyn Fn(Option<&[u8]>) + Sync),
    ) -> Result<(), Error> {
        let mut most = keys.len();
        loop {
            let (now, later) = keys.split_at(most.min(keys.len()));
            let done_with = match later.first() {
                None if next.is_none() => now.last().copied(),
                first => first.copied().or(next),
            };
            let owned: Vec<Vec<u8>> = now.iter().map(|key| key.to_vec()).collect();
            let outcomes: Vec<_> =
                owned.iter().map(|key| Outcome { tree, key, value: None }).collect();
            let changes = progress(done_with);
            if outcomes.is_empty() && changes.is_empty() {
                return Ok(());
            }
            let chunk = Chunk { outcomes: &outcomes, progress: &changes, room: Room::Shrinking };
            match self.apply_chunk(&chunk, &|_| passed(done_with)).await? {
                Applied::TooMany => most = (now.len() / 2).max(1),
                Applied::Yes if !later.is_empty() || next.is_none() && !now.is_empty() => {
                    keys = later;
                }
                Applied::Yes => return Ok(()),
            }
        }
    }
}

/// A bound that is not longer than it takes, so that it has a place in the catalog. Keys are shorter
/// than `longest` bytes: behind one of them is nothing before it goes on with a zero byte.
fn shortened(mut bound: Vec<u8>, longest: usize) -> Vec<u8> {
    if bound.len() > longest {
        bound.truncate(longest - 1);
        bound.push(0);
    }
    bound
}
