//! The last step of a load, in which the tree gets its contents; and the end of a page that no tree got.

use treering_blink::{Blocked, Edit, Image, TreeRef, Way};
use treering_bufpool::Refusal;
use treering_pagefile::PageId;

use super::entry::load_key;
use crate::attempt::Attempt;
use crate::body::{Entry, encode};
use crate::catalog::CATALOG;
use crate::create_tree::nothing_replaced;
use crate::engine::Engine;
use crate::error::Error;
use crate::records::Waiting;

impl Engine {
    /// Gives a tree the contents of page `top`, and takes the load's entry out of the catalog.
    /// Returns the sequence; `None` if the tree is not empty, and nothing has changed then.
    pub(super) async fn commit_load(
        &self,
        tree: TreeRef,
        id: u64,
        top: PageId,
    ) -> Result<Option<u64>, Error> {
        let (key, mut body) = (load_key(id), Vec::new());
        encode(Entry::Load { tree: tree.id, id, top }, &mut body);
        let mut waiting = Waiting::new(self);
        loop {
            waiting.listen();
            match self.try_commit_load(tree, top, &key, &body, &mut waiting.ways) {
                Ok(sequence) => return Ok(sequence),
                Err(Attempt::Failed(error)) => return Err(error),
                // Not pinned: a page that is to be freed must not be.
                Err(Attempt::Absent(pages)) => self.pool().fetch_many(&pages).await?,
                Err(lacking) => waiting.wait(lacking).await?,
            }
        }
    }

    fn try_commit_load(
        &self,
        tree: TreeRef,
        top: PageId,
        key: &[u8],
        body: &[u8],
        ways: &mut Vec<Way>,
    ) -> Result<Option<u64>, Attempt> {
        let _entered = self.enter().map_err(Attempt::Failed)?;
        let leaves = self.forest.latch_leaves(std::iter::once((CATALOG, key)), ways, 1);
        let leaves = leaves.map_err(|error| Attempt::Failed(error.into()))??;
        let epoch = self.log.epoch();
        let edits = [Edit { index: 0, key, value: None }];
        let plan = leaves.plan(epoch, &edits)?;
        // The catalog is tree 0: its leaf comes first (I11).
        let Some(graft) = self.forest.plan_graft(tree, top, epoch)? else { return Ok(None) };
        let applying = self.log.try_append(epoch, body)?;
        let sequence = applying.sequence();
        let split = plan.commit(epoch, nothing_replaced);
        graft.commit(epoch);
        drop(applying);
        self.forest.post_now(|id| self.catalog.by_id(id), split, &*self.log);
        Ok(Some(sequence))
    }

    /// Frees a page as of the current epoch, and the values that it refers to.
    pub(super) async fn free_built(&self, page: PageId) -> Result<(), Error> {
        let mut waiting = Waiting::new(self);
        loop {
            waiting.listen();
            match self.try_free_built(page) {
                Ok(()) => return Ok(()),
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::Absent(pages)) => self.pool().fetch_many(&pages).await?,
                Err(lacking) => waiting.wait(lacking).await?,
            }
        }
    }

    fn try_free_built(&self, page: PageId) -> Result<(), Attempt> {
        let _entered = self.enter().map_err(Attempt::Failed)?;
        let absent = || Attempt::Absent(vec![page]);
        let latched = self.pool().try_pin(page).ok_or_else(absent)?.write();
        let contents = Image::copy_of(latched.words());
        let epoch = self.log.epoch();
        let refused = |refusal: Refusal| Attempt::from(Blocked::from(refusal));
        let doomed = latched.doom(epoch).map_err(refused)?;
        let Some(entered) = self.log.try_enter(epoch) else { return Err(Attempt::Moved) };
        super::free::retire_values_of(self.pool(), &contents, epoch);
        doomed.free(epoch);
        drop(entered);
        Ok(())
    }
}
