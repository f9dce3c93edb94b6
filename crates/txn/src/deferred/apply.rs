//! Applying a deferred change, chunk by chunk, each in one step with its progress.

use treering_blink::{Edit, Stored, TreeRef};
use treering_pagefile::Room;

use crate::attempt::Attempt;
use crate::catalog::CATALOG;
use crate::create_tree::Change;
use crate::engine::Engine;
use crate::error::Error;
use crate::records::Waiting;
use crate::replay_large::retire_values;

/// A key's outcome, to be brought to its page.
pub(crate) struct Outcome<'c> {
    pub(crate) tree: TreeRef,
    pub(crate) key: &'c [u8],
    pub(crate) value: Option<Stored<'c>>,
}

/// A chunk: outcomes in the order of trees and keys, and what the catalog says afterwards.
pub(crate) struct Chunk<'c> {
    pub(crate) outcomes: &'c [Outcome<'c>],
    pub(crate) progress: &'c [Change],
    pub(crate) room: Room,
}

/// What became of a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    Yes,
    /// It touches too many leaves at once.
    TooMany,
}

impl Engine {
    /// Applies a chunk, waiting for whatever that takes. `after` runs in the step, when the pages are
    /// changed.
    pub(crate) async fn apply_chunk(
        &self,
        chunk: &Chunk<'_>,
        after: &(dyn Fn(u64) + Sync),
    ) -> Result<Applied, Error> {
        let mut waiting = Waiting::new(self);
        waiting.shrinks = chunk.room == Room::Shrinking;
        loop {
            waiting.listen();
            match self.try_apply_chunk(chunk, after, &mut waiting) {
                Ok(()) => return Ok(Applied::Yes),
                Err(Attempt::TooLarge) => return Ok(Applied::TooMany),
                Err(Attempt::Failed(error)) => return Err(error),
                Err(lacking) => waiting.wait(lacking).await?,
            }
        }
    }

    fn try_apply_chunk(
        &self,
        chunk: &Chunk<'_>,
        after: &(dyn Fn(u64) + Sync),
        waiting: &mut Waiting<'_>,
    ) -> Result<(), Attempt> {
        let _entered = self.enter().map_err(Attempt::Failed)?;
        let progress = chunk.progress.iter().map(|(key, _)| (CATALOG, key.as_slice()));
        let outcomes = chunk.outcomes.iter().map(|outcome| (outcome.tree, outcome.key));
        let keys = progress.chain(outcomes);
        let leaves = self.forest.latch_leaves(keys, &mut waiting.ways, self.limits.batch_leaves);
        let leaves = leaves.map_err(|error| Attempt::Failed(error.into()))??;
        let progress = chunk
            .progress
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref().map(Stored::Inline)));
        let outcomes = chunk.outcomes.iter().map(|outcome| (outcome.key, outcome.value));
        let edits: Vec<Edit<'_>> = progress
            .chain(outcomes)
            .enumerate()
            .map(|(index, (key, value))| Edit { index, key, value })
            .collect();
        let epoch = self.log.epoch();
        let plan = leaves.plan_in(epoch, &edits, chunk.room)?;
        let Some(entered) = self.log.try_enter(epoch) else { return Err(Attempt::Moved) };
        let retire = |references: &[_]| retire_values(self.pool(), references, epoch);
        let split = plan.commit(epoch, retire);
        after(epoch);
        drop(entered);
        self.forest.post_now(|id| self.catalog.by_id(id), split, &*self.log);
        Ok(())
    }
}
