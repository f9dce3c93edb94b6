//! An open database, for threads.

use std::path::Path;

use super::batch::Batch;
use super::tree::Tree;
use super::wait;
use crate::error::Error;
use crate::options::Options;
use crate::{BackedUp, Compacted, Recovery, Report, Stats, TreeOptions};

/// A handle on an open database whose calls block. Clones, and the async handle within, are handles
/// on the same one; what dropping the last of them means is said at [`crate::Database`].
#[derive(Clone, Debug)]
pub struct Database {
    db: crate::Database,
}

impl From<crate::Database> for Database {
    fn from(db: crate::Database) -> Self {
        Self { db }
    }
}

impl Database {
    /// Opens or makes the database in the folder `path` with the default [`Options`]. Blocks while
    /// the log is replayed, if it was not closed.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(Options::new(), path)
    }

    /// Opens or makes the database in the folder `path`; otherwise as [`Database::open`].
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_with(options: Options, path: impl AsRef<Path>) -> Result<Self, Error> {
        wait(options.open(path)).map(Self::from)
    }

    /// The async handle.
    pub fn as_async(&self) -> &crate::Database {
        &self.db
    }

    /// The tree of that name, durably made if there is none. Blocks only if it has to be made.
    ///
    /// # Errors
    /// As [`crate::Database::tree`].
    pub fn tree(&self, name: impl AsRef<str>) -> Result<Tree, Error> {
        wait(self.db.tree(name)).map(Tree::from)
    }

    /// The tree of that name, durably made with these options if there is none; otherwise as
    /// [`Database::tree`].
    ///
    /// # Errors
    /// As [`crate::Database::tree`].
    pub fn tree_with(&self, name: impl AsRef<str>, options: TreeOptions) -> Result<Tree, Error> {
        wait(self.db.tree_with(name, options)).map(Tree::from)
    }

    /// The tree of that name, if there is one. Does not block.
    ///
    /// # Errors
    /// As [`crate::Database::find_tree`].
    pub fn find_tree(&self, name: impl AsRef<str>) -> Result<Option<Tree>, Error> {
        Ok(self.db.find_tree(name)?.map(Tree::from))
    }

    /// Drops a tree; blocks until that is durable, not until its space is free.
    ///
    /// # Errors
    /// As [`crate::Database::drop_tree`].
    pub fn drop_tree(&self, name: impl AsRef<str>) -> Result<(), Error> {
        wait(self.db.drop_tree(name))
    }

    /// Gives a tree another name; blocks until that is durable.
    ///
    /// # Errors
    /// As [`crate::Database::rename_tree`].
    pub fn rename_tree(&self, old: impl AsRef<str>, new: impl AsRef<str>) -> Result<(), Error> {
        wait(self.db.rename_tree(old, new))
    }

    /// The names of all trees, sorted. Does not block.
    pub fn tree_names(&self) -> Vec<String> {
        self.db.tree_names()
    }

    /// A batch: operations, across trees, that are applied together or not at all.
    pub fn batch(&self) -> Batch {
        Batch::new(&self.db)
    }

    /// Blocks until all commits that were acknowledged before the call are durable.
    ///
    /// # Errors
    /// As [`crate::Database::sync`].
    pub fn sync(&self) -> Result<(), Error> {
        wait(self.db.sync())
    }

    /// Writes a checkpoint, and blocks until it is on disk.
    ///
    /// # Errors
    /// As [`crate::Database::checkpoint`].
    pub fn checkpoint(&self) -> Result<(), Error> {
        wait(self.db.checkpoint())
    }

    /// Blocks until the pages that deletes have left underfull so far are merged.
    ///
    /// # Errors
    /// As [`crate::Database::tidy`].
    pub fn tidy(&self) -> Result<(), Error> {
        wait(self.db.tidy())
    }

    /// Makes the page file as short as it gets, and blocks until that is done.
    ///
    /// # Errors
    /// As [`crate::Database::compact`].
    pub fn compact(&self) -> Result<Compacted, Error> {
        wait(self.db.compact())
    }

    /// Copies the database to a new or empty folder, and blocks until the copy is whole. Other threads
    /// go on reading and writing.
    ///
    /// # Errors
    /// As [`crate::Database::backup`].
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<BackedUp, Error> {
        wait(self.db.backup(path))
    }

    /// Checks everything on disk; blocks for as long as reading all of it takes.
    ///
    /// # Errors
    /// As [`crate::Database::verify`].
    pub fn verify(&self) -> Result<Report, Error> {
        wait(self.db.verify())
    }

    /// Numbers as they are now. Does not block.
    pub fn stats(&self) -> Stats {
        self.db.stats()
    }

    /// How the disk is reached, in a few words for people. Does not block.
    pub fn backend(&self) -> String {
        self.db.backend()
    }

    /// What opening the database found and did. Does not block.
    pub fn recovery(&self) -> &Recovery {
        self.db.recovery()
    }

    /// Writes a checkpoint, ends the engine, and blocks until it has ended.
    ///
    /// # Errors
    /// As [`crate::Database::close`].
    pub fn close(&self) -> Result<(), Error> {
        wait(self.db.close())
    }
}
