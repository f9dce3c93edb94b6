//! Loads and recovery.
//!
//! The checkpoint's catalog names the loads that were under way. Their pages are looked up before
//! anything is replayed. If the log has the record of a load, its commit is repeated; what is not
//! committed at the end of the log is freed.

use std::collections::BTreeMap;

use treering_blink::{Blocked, Image, Page, TreeRef};
use treering_bufpool::Read;
use treering_pagefile::PageId;

use super::entry::load_key;
use super::free::retire_values_of;
use super::read_back::lost_page;
use crate::error::Error;
use crate::read_only::check_cache;
use crate::replay::Replay;
use crate::replay_catalog::unknown_tree;

/// The pages of the loads that the checkpoint found under way, by the loads' numbers.
pub(crate) type BuiltPages = BTreeMap<u64, Vec<PageId>>;

impl Replay {
    /// Looks up the pages of loads; before anything is replayed.
    pub(crate) fn built_pages(&self) -> BuiltPages {
        let pool = self.forest.pool();
        let loads = self.loads.list().into_iter();
        loads.map(|(id, entry)| (id, entry.pages(pool))).collect()
    }

    /// Repeats the commit of a load.
    ///
    /// The tree has no key at this point of the log, but it may have more pages than its root here, as a
    /// replay does not merge: they go.
    pub(crate) async fn commit_load(&self, tree: u32, id: u64, top: PageId) -> Result<(), Error> {
        if self.catalog.was_dropped(tree) {
            // What it built is freed with that of the loads that were not committed.
            return Ok(());
        }
        let tree = self.catalog.by_id(tree).ok_or_else(|| unknown_tree(tree))?;
        let old = self.pages_below(tree).await?;
        let mut written = false;
        loop {
            check_cache(self.forest.pool())?;
            let relief = self.forest.pool().relief();
            match self.try_graft(tree, top) {
                Ok(()) => break,
                Err(blocked) => {
                    self.applier().wait_for(blocked, relief, &mut written).await?;
                }
            }
        }
        for page in old {
            self.free_page(page).await?;
        }
        self.forget_load(id).await
    }

    fn try_graft(&self, tree: TreeRef, top: PageId) -> Result<(), Blocked> {
        self.forest.plan_regraft(tree, top, self.epoch)?.commit(self.epoch);
        Ok(())
    }

    /// Frees what the loads that the log did not commit have built.
    pub(crate) async fn free_loads(&self, mut built: BuiltPages) -> Result<(), Error> {
        for (id, _) in self.loads.list() {
            for page in built.remove(&id).unwrap_or_default() {
                self.free_page(page).await?;
            }
            self.forget_load(id).await?;
        }
        Ok(())
    }

    async fn forget_load(&self, id: u64) -> Result<(), Error> {
        self.change_catalog(&[(load_key(id), None)]).await?;
        self.loads.forget(id);
        Ok(())
    }

    /// All pages of a tree but its root: each level from its left-most page along the right links.
    async fn pages_below(&self, tree: TreeRef) -> Result<Vec<PageId>, Error> {
        let mut below = Vec::new();
        let mut first = self.links(tree.root).await?.first_child;
        while let Some(left_most) = first {
            let links = self.links(left_most).await?;
            below.push(left_most);
            let mut next = links.right;
            while let Some(page) = next {
                below.push(page);
                next = self.links(page).await?.right;
            }
            first = links.first_child;
        }
        Ok(below)
    }

    async fn links(&self, page: PageId) -> Result<Links, Error> {
        let pool = self.forest.pool();
        loop {
            let look = |words: &[_]| {
                let page = Page::new(words);
                let first_child = (!page.is_leaf() && !page.is_empty()).then(|| page.child(0));
                Links { first_child, right: page.right() }
            };
            match pool.read_page(page, look) {
                Read::Done(links) => return Ok(links),
                Read::Absent => pool.fetch(page).await?,
                Read::Free => return Err(lost_page(page).into()),
            }
        }
    }

    /// Frees a page that nothing leads to, and the values that it refers to.
    async fn free_page(&self, page: PageId) -> Result<(), Error> {
        let mut written = false;
        loop {
            let pool = self.forest.pool();
            check_cache(pool)?;
            if !pool.exists(page) {
                // Two loads cannot have built it, whatever the catalog says.
                return Err(lost_page(page).into());
            }
            let relief = pool.relief();
            match self.try_free(page) {
                Ok(()) => return Ok(()),
                Err(blocked) => {
                    self.applier().wait_for(blocked, relief, &mut written).await?;
                }
            }
        }
    }

    fn try_free(&self, page: PageId) -> Result<(), Blocked> {
        let pool = self.forest.pool();
        let pinned = pool.try_pin(page).ok_or_else(|| Blocked::Fetch(vec![page]))?;
        let latched = pinned.write();
        let contents = Image::copy_of(latched.words());
        let doomed = latched.doom(self.epoch)?;
        retire_values_of(pool, &contents, self.epoch);
        doomed.free(self.epoch);
        Ok(())
    }
}

/// Where a page leads.
struct Links {
    first_child: Option<PageId>,
    right: Option<PageId>,
}
