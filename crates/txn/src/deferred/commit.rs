//! The step in which a deferred change becomes a fact.

use treering_bufpool::Written;
use treering_pagefile::Room;

use crate::attempt::Attempt;
use crate::body::{Entry, encode};
use crate::catalog::CATALOG;
use crate::create_tree::{Change, as_edits};
use crate::engine::Engine;
use crate::error::Error;
use crate::overlay::Overlay;
use crate::records::Waiting;

/// What belongs to the step.
pub(crate) struct Commit<'c> {
    pub(crate) record: Entry<'c>,
    /// What the catalog says afterwards, in the order of keys.
    pub(crate) entries: &'c [Change],
    /// Large values that the record names.
    pub(crate) values: Vec<Written>,
    /// What readers see from then on.
    pub(crate) overlay: Option<&'c Overlay>,
}

impl Engine {
    /// Commits a deferred change, waiting for whatever that takes; returns its sequence.
    pub(crate) async fn commit_deferred(&self, mut commit: Commit<'_>) -> Result<u64, Error> {
        let mut waiting = Waiting::new(self);
        waiting.shrinks = true;
        loop {
            waiting.listen();
            match self.try_commit_deferred(&mut commit, &mut waiting) {
                Ok(sequence) => return Ok(sequence),
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::TooLarge) => {
                    let what = "its body lies in too many pieces of the file; compact the database";
                    return Err(Error::BatchTooLarge { what: what.into() });
                }
                Err(lacking) => waiting.wait(lacking).await?,
            }
        }
    }

    fn try_commit_deferred(
        &self,
        commit: &mut Commit<'_>,
        waiting: &mut Waiting<'_>,
    ) -> Result<u64, Attempt> {
        let _entered = self.enter().map_err(Attempt::Failed)?;
        let mut body = Vec::new();
        encode(commit.record, &mut body);
        let edits = as_edits(commit.entries);
        let keys = edits.iter().map(|edit| (CATALOG, edit.key));
        let leaves = self.forest.latch_leaves(keys, &mut waiting.ways, self.limits.batch_leaves);
        let leaves = leaves.map_err(|error| Attempt::Failed(error.into()))??;
        let epoch = self.log.epoch();
        // Ranges are deleted, and trees dropped, on a full disk, too (I13).
        let plan = leaves.plan_in(epoch, &edits, Room::Shrinking)?;
        let applying = self.log.try_append(epoch, &body)?;
        let sequence = applying.sequence();
        for value in commit.values.drain(..) {
            self.pool().publish_value(value, epoch);
        }
        let split = plan.commit(epoch, |_| {});
        if let Some(overlay) = commit.overlay {
            overlay.show();
        }
        drop(applying);
        self.forest.post_now(|id| self.catalog.by_id(id), split, &*self.log);
        Ok(sequence)
    }
}
