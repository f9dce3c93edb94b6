//! How high, how large and how full a tree is, without reading all of it.
//!
//! All inner pages are read, level by level, many at a time. They name all leaves (but for those
//! that a split has just made), so the leaves are counted and not read; how full they are is taken
//! from some of them, spread evenly over the tree.

use std::sync::Arc;

use futures::channel::oneshot;
use treering_blink::{Image, TreeRef};
use treering_bufpool::Read;
use treering_pagefile::PageId;

use crate::engine::Engine;
use crate::error::Error;

/// What [`Engine::outline`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outline {
    /// Levels, that of the leaves included: 1 if the root is the only page.
    pub height: u8,
    /// Pages above the leaves.
    pub inner_pages: u64,
    /// Leaves.
    pub leaves: u64,
    /// Leaves that were looked at; what follows is of these.
    pub leaves_seen: u64,
    /// Their entries.
    pub entries_seen: u64,
    /// Bytes of theirs that are in use.
    pub used_bytes_seen: u64,
    /// Bytes that they have.
    pub bytes_seen: u64,
}

impl Outline {
    /// How full the leaves are, from 0 to 1.
    pub fn fill(&self) -> f64 {
        self.used_bytes_seen as f64 / self.bytes_seen.max(1) as f64
    }

    /// How many entries there are: exactly, if all leaves were looked at and nobody wrote meanwhile.
    pub fn entries(&self) -> u64 {
        let each = u128::from(self.entries_seen) * u128::from(self.leaves);
        (each / u128::from(self.leaves_seen.max(1))) as u64
    }

    /// Whether all leaves were looked at.
    pub fn is_exact(&self) -> bool {
        self.leaves_seen == self.leaves
    }
}

impl Engine {
    /// Looks at a tree and at up to `leaves` of its leaves, at 2 at least.
    ///
    /// # Errors
    /// A page that cannot be read, or that is damaged; [`Error::NoSuchTree`], or when the database is
    /// closed or poisoned.
    pub async fn outline(self: &Arc<Self>, tree: TreeRef, leaves: usize) -> Result<Outline, Error> {
        let (done, outline) = oneshot::channel();
        let engine = Arc::clone(self);
        self.begin(async move {
            // Pages may be split meanwhile, and not be freed.
            let _no_merge = engine.merging.enter_async().await;
            // Who asked may be gone: then nobody wants to know.
            let _ = done.send(engine.look_over(tree, leaves.max(2)).await);
        })?;
        outline.await.unwrap_or(Err(Error::Closed))
    }

    async fn look_over(&self, tree: TreeRef, most: usize) -> Result<Outline, Error> {
        if self.tree_info(tree).is_none() {
            return Err(Error::dropped(tree.id));
        }
        let mut outline = Outline::default();
        let mut level = vec![tree.root];
        let mut sample = Sample::new(most);
        while !level.is_empty() {
            let mut below = Vec::new();
            for pages in level.chunks(self.pages_at_once()) {
                self.pool().fetch_many(pages).await?;
                for &id in pages {
                    let image = self.copy_of(id).await?;
                    let page = image.page();
                    outline.height = outline.height.max(page.level().saturating_add(1));
                    if page.is_leaf() {
                        // The root itself, or one that a parent's level does not fit.
                        sample.push(id);
                        continue;
                    }
                    outline.inner_pages += 1;
                    let children = (0..page.len()).map(|slot| page.child(slot));
                    match page.level() {
                        1 => children.for_each(|child| sample.push(child)),
                        _ => below.extend(children),
                    }
                }
            }
            level = below;
        }
        outline.leaves = sample.count;
        for pages in sample.taken.chunks(self.pages_at_once()) {
            self.pool().fetch_many(pages).await?;
            for &id in pages {
                let image = self.copy_of(id).await?;
                outline.see(&image);
            }
        }
        Ok(outline)
    }

    /// A share of the pool that leaves enough to others.
    fn pages_at_once(&self) -> usize {
        (self.pool().frame_count() / 8).clamp(1, 64)
    }

    /// A copy of a page of a tree whose pages are not being merged.
    pub(crate) async fn copy_of(&self, id: PageId) -> Result<Image, Error> {
        loop {
            self.check()?;
            match self.pool().read_page(id, |words| Image::copy_of(words)) {
                Read::Done(image) => return Ok(image),
                Read::Free => {
                    let what = format!("{id} is linked to and does not exist");
                    return Err(crate::dump::damaged(what));
                }
                Read::Absent => self.pool().fetch(id).await?,
            }
        }
    }
}

impl Outline {
    fn see(&mut self, leaf: &Image) {
        let page = leaf.page();
        self.leaves_seen += 1;
        self.entries_seen += page.live_len() as u64;
        self.bytes_seen += page.page_size() as u64;
        self.used_bytes_seen += page.page_size().saturating_sub(page.free_total()) as u64;
    }
}

/// Every nth of a sequence whose length is not known before, so that there are never more than a
/// given number.
struct Sample {
    most: usize,
    every: u64,
    count: u64,
    taken: Vec<PageId>,
}

impl Sample {
    fn new(most: usize) -> Self {
        Self { most, every: 1, count: 0, taken: Vec::new() }
    }

    fn push(&mut self, id: PageId) {
        if self.count.is_multiple_of(self.every) {
            if self.taken.len() == self.most {
                let mut keep = [true, false].into_iter().cycle();
                self.taken.retain(|_| keep.next().unwrap_or(true));
                self.every *= 2;
            }
            if self.count.is_multiple_of(self.every) {
                self.taken.push(id);
            }
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_evenly_and_not_too_large() {
        for (most, length) in [(2, 1), (2, 2), (2, 3), (8, 8), (8, 9), (8, 100), (7, 1000)] {
            let mut sample = Sample::new(most);
            (0..length).for_each(|id| sample.push(PageId(id)));
            assert_eq!(sample.count, length);
            assert!((1..=most).contains(&sample.taken.len()), "{most} of {length}");
            let at = |id: &PageId| id.0;
            let steps = sample.taken.windows(2).map(|pair| at(&pair[1]) - at(&pair[0]));
            assert!(steps.into_iter().all(|step| step == sample.every));
            assert_eq!(sample.taken[0], PageId(0));
            // None is left out that would still be in the rhythm.
            assert_eq!(sample.taken.len() as u64, length.div_ceil(sample.every));
        }
    }
}
