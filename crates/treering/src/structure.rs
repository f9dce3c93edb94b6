//! The pages of a tree, for people who want to see how it is built.

use treering_txn::{Layout, Outline, PageShape};

use crate::database::Database;
use crate::error::Error;

/// The pages of a tree, level by level from its root, each level from left to right. Dropping it ends
/// the walk through the tree.
///
/// Pages are not merged while the walk goes on, which never waits for its reader: what has not been
/// read yet is in memory.
#[derive(Debug)]
pub struct Structure {
    pages: treering_txn::Structure,
    /// The engine does not end before.
    _db: Database,
}

impl Structure {
    /// The next page; `None` behind the last. Dropping the future loses no page.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Damaged`] names the page that is; [`crate::ErrorKind::Io`],
    /// [`crate::ErrorKind::Closed`], [`crate::ErrorKind::Poisoned`]; [`crate::ErrorKind::NoSuchTree`]
    /// if the tree was dropped before the walk began. The walk ends with it.
    pub async fn next(&mut self) -> Result<Option<PageShape>, Error> {
        Ok(self.pages.next().await?)
    }
}

impl Database {
    /// What each page-sized slot of the page file is used for. Writes a checkpoint first, unless the
    /// database is open for reading only. Writers that go on meanwhile may make slots appear as what
    /// they were a moment ago. Takes 16 bytes of memory a slot.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Poisoned`], [`crate::ErrorKind::Closed`].
    pub async fn layout(&self) -> Result<Layout, Error> {
        Ok(self.shared.engine.layout().await?)
    }

    /// How high, how large and how full the tree of that name is, if there is one. All its inner pages
    /// are read, and up to `leaves` of its leaves, evenly spread; pages are not merged meanwhile.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Damaged`] names the page that is; [`crate::ErrorKind::Io`],
    /// [`crate::ErrorKind::Closed`], [`crate::ErrorKind::Poisoned`].
    pub async fn outline(
        &self,
        name: impl AsRef<str>,
        leaves: usize,
    ) -> Result<Option<Outline>, Error> {
        let engine = &self.shared.engine;
        engine.check()?;
        let Some(tree) = engine.find_tree(name.as_ref().as_bytes()) else { return Ok(None) };
        match engine.outline(tree, leaves).await {
            Err(treering_txn::Error::NoSuchTree { .. }) => Ok(None),
            outline => Ok(Some(outline?)),
        }
    }

    /// Begins to walk through the pages of the tree of that name, if there is one, whatever it was
    /// made with. Each page is shown as it is when the walk comes to it.
    ///
    /// # Errors
    /// When the database is closed or poisoned.
    pub fn structure(&self, name: impl AsRef<str>) -> Result<Option<Structure>, Error> {
        let engine = &self.shared.engine;
        engine.check()?;
        let Some(tree) = engine.find_tree(name.as_ref().as_bytes()) else { return Ok(None) };
        Ok(Some(Structure { pages: engine.structure(tree)?, _db: self.clone() }))
    }
}
