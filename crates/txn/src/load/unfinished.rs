//! What a load has taken, until the tree has it: whoever drops it gives it back.
//!
//! It goes to an engine task for the commit, and comes back from there if the tree is not empty. So
//! whether the future that waits for the commit is still there does not matter: a load that is
//! committed has nothing to give back, and any other has somebody who does.

use std::sync::Arc;

use treering_blink::TreeRef;
use treering_pagefile::PageId;

use super::entry::LoadEntry;
use super::outgoing::Sent;
use crate::engine::Engine;
use crate::error::Error;

/// Pages and ids of a load that is not committed. Dropping it frees them.
pub(super) struct Unfinished {
    pub(super) engine: Arc<Engine>,
    pub(super) id: u64,
    pub(super) entry: LoadEntry,
    /// What is on its way to disk; nothing when the commit begins.
    pub(super) sent: Sent,
}

/// What a commit came to: a sequence, or nothing but what there was before.
pub(super) type Ended = Result<u64, Unfinished>;

impl Unfinished {
    /// Gives a tree the contents of page `top`, if it is empty. An engine task: it waits for its turn
    /// among the deferred changes, so that no key of the tree is pending at the commit, and nobody
    /// drops the tree meanwhile.
    pub(super) async fn commit(mut self, tree: TreeRef, top: PageId) -> Result<Ended, Error> {
        let engine = Arc::clone(&self.engine);
        engine.checkpoint().await?;
        let _turn = engine.overlays.turn.enter_async().await;
        engine.check_tree(tree)?;
        let unused = self.entry.unused(engine.pool());
        let Some(sequence) = engine.commit_load(tree, self.id, top).await? else {
            return Ok(Err(self));
        };
        self.entry = LoadEntry::new(tree.id);
        engine.loads.forget(self.id);
        for (first, count) in unused {
            engine.pool().return_ids(first, count);
        }
        Ok(Ok(sequence))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.entry.is_empty() {
            let engine = Arc::clone(&self.engine);
            let (id, entry) = (self.id, self.entry.clone());
            let sent = std::mem::take(&mut self.sent);
            // Where the engine has ended, the next opening does it.
            let _ = self.engine.begin(async move {
                sent.landed().await;
                engine.give_back(id, entry).await;
            });
        }
    }
}
