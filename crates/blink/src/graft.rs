//! Grafting: an empty tree gets all its pages at once.
//!
//! Somebody has built a whole tree of pages that nobody can reach, with one page on top. The tree's
//! root, so far an empty leaf, takes over the contents of that page, its level included, and the page
//! is freed: one step, like the growing of a root the other way round. Readers find the tree empty
//! before and full after; a descent that looked at the empty root finds its version moved.
//!
//! The root is latched before the top page. Nobody who holds the latch of a page that cannot be
//! reached waits for another one, so that is as good as the order of levels (I11).

use treering_bufpool::{DoomedPage, ExclusivePage, Pool, Read};
use treering_pagefile::{PageId, Room};

use crate::apply::Reserved;
use crate::build::Image;
use crate::forest::{Blocked, Forest, Step, TreeRef};
use crate::order::{latch_meant, pin};
use crate::page::Page;
use crate::words::Words;

/// A graft that has everything it needs. Dropping it gives everything back.
pub struct Graft<'p> {
    root: ExclusivePage<'p>,
    contents: Image,
    top: DoomedPage<'p>,
    reserved: Reserved<'p>,
}

impl Forest {
    /// Whether the tree is a single leaf without keys.
    ///
    /// # Errors
    /// The root is gone.
    pub fn is_bare(&self, tree: TreeRef) -> Result<Step<bool>, Blocked> {
        match self.pool().read_page(tree.root, |words| is_bare(tree, &Page::new(words))) {
            Read::Done(bare) => Ok(Step::Done(bare)),
            Read::Absent => Ok(Step::Fetch(vec![tree.root])),
            Read::Free => Err(Blocked::Moved),
        }
    }

    /// Latches what the graft of `top` concerns and takes what it needs, for `epoch`. `None` if the
    /// tree is not a single leaf without keys.
    ///
    /// # Errors
    /// Something is lacking just now; nothing is held.
    pub fn plan_graft(
        &self,
        tree: TreeRef,
        top: PageId,
        epoch: u64,
    ) -> Result<Option<Graft<'_>>, Blocked> {
        let root = latch_meant(self.pool(), tree.root, |page| page.tree() == tree.id)?;
        if !is_bare(tree, &Page::new(root.words())) {
            return Ok(None);
        }
        self.plan_graft_over(root, top, epoch).map(Some)
    }

    /// As [`Forest::plan_graft`], whatever the tree has; the caller frees the pages below the root.
    ///
    /// # Errors
    /// Something is lacking just now; nothing is held.
    pub fn plan_regraft(
        &self,
        tree: TreeRef,
        top: PageId,
        epoch: u64,
    ) -> Result<Graft<'_>, Blocked> {
        let root = latch_meant(self.pool(), tree.root, |page| page.tree() == tree.id)?;
        self.plan_graft_over(root, top, epoch)
    }

    fn plan_graft_over<'p>(
        &'p self,
        root: ExclusivePage<'p>,
        top: PageId,
        epoch: u64,
    ) -> Result<Graft<'p>, Blocked> {
        let pool: &Pool = self.pool();
        let mut reserved = Reserved::none(pool);
        reserved.prepare(&root, epoch, Room::Growing)?;
        let top = pin(pool, top)?.write();
        let contents = Image::copy_of(top.words());
        let top = top.doom(epoch)?;
        Ok(Graft { root, contents, top, reserved })
    }
}

impl Graft<'_> {
    /// Does it, in the epoch that it was planned for.
    pub fn commit(self, epoch: u64) {
        let Self { root, contents, top, reserved } = self;
        contents.write_to(root.words());
        root.changed(epoch);
        reserved.used();
        drop(root);
        top.free(epoch);
    }
}

fn is_bare<W: Words>(tree: TreeRef, root: &Page<W>) -> bool {
    root.tree() == tree.id && root.is_leaf() && root.live_len() == 0 && root.right().is_none()
}
