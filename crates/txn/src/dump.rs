//! The structure of a tree, page by page, for people: what `treering dump --structure` prints.
//!
//! The tree is walked level by level along its right links, as in `verify`, on copies of its pages.
//! The walk is a task of the engine's, since pages must not be merged under it. What it finds goes
//! into a queue without an end, so it never waits for who reads (I1): a reader who is slow costs
//! memory, one who is gone ends the walk.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use treering_blink::{Image, Kind, TreeRef};
use treering_pagefile::{FileError, FileErrorKind, PageId};

use crate::catalog::CATALOG;
use crate::engine::Engine;
use crate::error::Error;

/// What a page of a tree looks like, apart from its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageShape {
    /// The page.
    pub id: PageId,
    /// 0 for a leaf.
    pub level: u8,
    /// The least key that it may hold.
    pub low: Vec<u8>,
    /// Greater than every key that it may hold; none for the right-most page of a level.
    pub high: Option<Vec<u8>>,
    /// Slots, those of fillers included.
    pub slots: usize,
    /// Entries: slots that are no fillers.
    pub live: usize,
    /// Entries whose values are in overflow pages.
    pub large: usize,
    /// Bytes of the page that are in use, header and fences included.
    pub used: usize,
    /// Bytes of the page.
    pub size: usize,
    /// The next page of its level.
    pub right: Option<PageId>,
    /// The parent does not know the right sibling yet.
    pub unposted: bool,
    /// There may be fillers among the slots.
    pub gaps: bool,
    /// In an inner page, the child of each slot.
    pub children: Vec<PageId>,
}

impl PageShape {
    fn of(id: PageId, image: &Image) -> Self {
        let page = image.page();
        let (mut low, mut high) = (Vec::new(), Vec::new());
        page.low_into(&mut low);
        let bounded = page.high_into(&mut high);
        let children = match page.is_leaf() {
            true => Vec::new(),
            false => (0..page.len()).map(|slot| page.child(slot)).collect(),
        };
        Self {
            id,
            level: page.level(),
            low,
            high: bounded.then_some(high),
            slots: page.len(),
            live: page.live_len(),
            large: page.live_slots().filter(|slot| page.kind(*slot) == Kind::Overflow).count(),
            used: page.page_size().saturating_sub(page.free_total()),
            size: page.page_size(),
            right: page.right(),
            unposted: page.unposted(),
            gaps: page.has_gaps(),
            children,
        }
    }
}

/// One line: `page 7 ["a", "m") 12 slots 80 % -> page 9 unposted children 3 4 5`.
impl fmt::Display for PageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [\"{}\", ", self.id, self.low.escape_ascii())?;
        match &self.high {
            Some(high) => write!(f, "\"{}\")", high.escape_ascii())?,
            None => write!(f, "..)")?,
        }
        write!(f, " {} slots", self.slots)?;
        if self.live != self.slots {
            write!(f, " ({} live)", self.live)?;
        }
        if self.large > 0 {
            write!(f, " ({} large)", self.large)?;
        }
        write!(f, " {} %", self.used * 100 / self.size.max(1))?;
        if let Some(right) = self.right {
            write!(f, " -> {right}")?;
        }
        if self.unposted {
            write!(f, " unposted")?;
        }
        if self.gaps {
            write!(f, " gaps")?;
        }
        if !self.children.is_empty() {
            write!(f, " children")?;
        }
        self.children.iter().try_for_each(|child| write!(f, " {}", child.0))
    }
}

/// The pages of a tree: the root first, then each level from left to right. Dropping it ends the
/// walk.
#[derive(Debug)]
pub struct Structure {
    pages: UnboundedReceiver<Result<PageShape, Error>>,
}

impl Structure {
    /// The next page; `None` behind the last. Dropping the future loses no page.
    ///
    /// # Errors
    /// A page that cannot be read, or that is damaged; [`Error::NoSuchTree`] if the tree was dropped
    /// before the walk began. The walk ends with it.
    pub async fn next(&mut self) -> Result<Option<PageShape>, Error> {
        self.pages.next().await.transpose()
    }
}

impl Engine {
    /// Begins to walk through a tree's pages. Writes go on meanwhile: each page is shown as it is
    /// when the walk comes to it. Pages are not merged before the walk is over.
    ///
    /// # Errors
    /// When the database is closed or poisoned.
    pub fn structure(self: &Arc<Self>, tree: TreeRef) -> Result<Structure, Error> {
        self.check()?;
        let (sender, pages) = mpsc::unbounded();
        let engine = Arc::clone(self);
        self.begin(async move {
            let _no_merge = engine.merging.enter_async().await;
            if let Err(error) = engine.walk_structure(tree, &sender).await {
                // Who asked may be gone: then nobody wants to know.
                let _ = sender.unbounded_send(Err(error));
            }
        })?;
        Ok(Structure { pages })
    }

    async fn walk_structure(
        &self,
        tree: TreeRef,
        sender: &UnboundedSender<Result<PageShape, Error>>,
    ) -> Result<(), Error> {
        // A tree that is dropped keeps its pages as long as none are merged, so this is asked once.
        if tree.id != CATALOG.id && self.tree_info(tree).is_none() {
            return Err(Error::dropped(tree.id));
        }
        let mut seen = HashSet::new();
        let mut first = Some(tree.root);
        while let Some(start) = first.take() {
            let mut next = Some(start);
            while let Some(id) = next {
                if !seen.insert(id) {
                    let what = format!("{id} is reached twice in its tree: `verify` says more");
                    return Err(damaged(what));
                }
                let shape = PageShape::of(id, &self.copy_of(id).await?);
                first = first.or(shape.children.first().copied());
                next = shape.right;
                if sender.unbounded_send(Ok(shape)).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn damaged(what: String) -> Error {
    FileError::new(FileErrorKind::Damaged, what).into()
}
