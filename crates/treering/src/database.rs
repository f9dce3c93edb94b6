//! An open database.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use treering_pagefile::{DirectoryLock, DiskOptions, open_directory};
use treering_txn::{
    BackedUp, BackupTarget, Compacted, Durability, Engine, EngineStats, Recovery, Report, TreeInfo,
    TreeOptions,
};

use crate::batch::Batch;
use crate::error::Error;
use crate::folder;
use crate::multi::MultiTree;
use crate::options::Options;
use crate::registry::Entry;
use crate::tree::Tree;
use crate::watch::Watch;

/// A handle on an open database. Clones are handles on the same one; trees and streams are, too.
/// When the last is dropped, the engine ends on its own thread, as if after a crash but for
/// buffered commits, which it still writes; [`Database::close`] does so in order.
#[derive(Clone)]
pub struct Database {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) durability: Durability,
    /// Where temporary files go.
    pub(crate) scratch: Arc<Path>,
    /// Bytes that one bulk load may gather.
    pub(crate) load_memory: usize,
    pub(crate) entry: Arc<Entry>,
    pub(crate) watch: Watch,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.entry.end();
        self.engine.stop();
    }
}

impl Database {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Opens or makes the database in the folder `path` with the default [`Options`].
    ///
    /// # Errors
    /// As [`Options::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Options::new().open(path).await
    }

    /// The tree of that name, durably made if there is none. One that is there costs a look into memory,
    /// and no I/O. Its keys are plain bytes, each there once at most. A name has at least one byte, and at most one less than a quarter of a page.
    ///
    /// Dropping the future may leave the tree made or not.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for the name; [`crate::ErrorKind::TreeMismatch`] if the
    /// tree was made with other options or a key type; those of a write.
    pub async fn tree(&self, name: impl AsRef<str>) -> Result<Tree, Error> {
        self.tree_with(name, TreeOptions::new()).await
    }

    /// The tree of that name, durably made with these options if there is none; as [`Database::tree`]
    /// otherwise.
    ///
    /// # Errors
    /// As [`Database::tree`].
    pub async fn tree_with(
        &self,
        name: impl AsRef<str>,
        options: TreeOptions,
    ) -> Result<Tree, Error> {
        let name = name.as_ref();
        let tree = self.shared.engine.tree_with(name.as_bytes(), &options).await?;
        Ok(Tree::new(self.clone(), name.into(), tree))
    }

    /// The tree with duplicates of that name, durably made if there is none; as [`Database::tree`]
    /// otherwise.
    ///
    /// # Errors
    /// As [`Database::tree`].
    pub async fn multi_tree(&self, name: impl AsRef<str>) -> Result<MultiTree, Error> {
        self.multi_tree_with(name, TreeOptions::new()).await
    }

    /// The tree of that name, durably made with these options, and with duplicates, if there is none;
    /// as [`Database::tree`] otherwise.
    ///
    /// # Errors
    /// As [`Database::tree`].
    pub async fn multi_tree_with(
        &self,
        name: impl AsRef<str>,
        options: TreeOptions,
    ) -> Result<MultiTree, Error> {
        Ok(MultiTree::new(self.tree_with(name, options.duplicates(true)).await?))
    }

    /// The tree of that name, if there is one: a look into memory, which also says whether the
    /// database goes on.
    ///
    /// # Errors
    /// When the database is closed or poisoned; [`crate::ErrorKind::TreeMismatch`].
    pub fn find_tree(&self, name: impl AsRef<str>) -> Result<Option<Tree>, Error> {
        self.shared.engine.check()?;
        let name = name.as_ref();
        let tree = self.shared.engine.existing_tree(name.as_bytes(), &TreeOptions::new())?;
        Ok(tree.map(|tree| Tree::new(self.clone(), name.into(), tree)))
    }

    /// The tree of that name, if there is one, whatever it was made with: its keys and values as the
    /// bytes that are stored. For tools. Who writes through it has to write what the tree's options
    /// promise to others: keys of its type ([`Database::trees`] says which).
    ///
    /// # Errors
    /// When the database is closed or poisoned.
    pub fn raw_tree(&self, name: impl AsRef<str>) -> Result<Option<Tree>, Error> {
        self.shared.engine.check()?;
        let name = name.as_ref();
        let tree = self.shared.engine.find_tree(name.as_bytes());
        Ok(tree.map(|tree| Tree::new(self.clone(), name.into(), tree)))
    }

    /// Drops a tree, durably: its name is free at once, and handles on it answer with
    /// [`crate::ErrorKind::NoSuchTree`] from now on. Its space comes back by and by.
    ///
    /// Dropping the future may leave the tree dropped or not.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoSuchTree`]; those of a write.
    pub async fn drop_tree(&self, name: impl AsRef<str>) -> Result<(), Error> {
        Ok(self.shared.engine.drop_tree(name.as_ref().as_bytes()).await?)
    }

    /// Gives a tree another name, durably. It stays the same tree: handles go on working, under the
    /// name that they were opened with.
    ///
    /// Dropping the future may leave the tree renamed or not.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoSuchTree`]; [`crate::ErrorKind::InvalidInput`] if there is a tree of the
    /// new name, or if that is empty or too long; those of a write.
    pub async fn rename_tree(
        &self,
        old: impl AsRef<str>,
        new: impl AsRef<str>,
    ) -> Result<(), Error> {
        let (old, new) = (old.as_ref().as_bytes(), new.as_ref().as_bytes());
        Ok(self.shared.engine.rename(old, new).await?)
    }

    /// The names of all trees, sorted.
    pub fn tree_names(&self) -> Vec<String> {
        self.trees().into_iter().map(|(name, _)| name).collect()
    }

    /// The names of all trees, sorted, and what each was made with.
    pub fn trees(&self) -> Vec<(String, TreeOptions)> {
        let trees = self.shared.engine.trees();
        let shown = |info: TreeInfo| {
            (String::from_utf8_lossy(&info.name).into_owned(), TreeOptions::clone(&info.options))
        };
        trees.into_iter().map(shown).collect()
    }

    /// A batch: operations, across trees, that are applied together or not at all. Costs nothing before
    /// it is committed.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// Resolves when all commits that were acknowledged before the call are durable: at once if they
    /// are, else with the next group of the log. Dropping the future does not keep them from becoming so.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Poisoned`], [`crate::ErrorKind::Closed`].
    pub async fn sync(&self) -> Result<(), Error> {
        Ok(self.shared.engine.sync().await?)
    }

    /// Writes a checkpoint: everything committed so far is in the page file, and the log behind it
    /// is free. Reads and writes go on meanwhile. Checkpoints are written by themselves, too, when
    /// half of the log is used.
    ///
    /// Dropping the future does not stop the checkpoint.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Poisoned`], [`crate::ErrorKind::Closed`].
    pub async fn checkpoint(&self) -> Result<(), Error> {
        Ok(self.shared.engine.checkpoint().await?)
    }

    /// Resolves when the pages that deletes have left underfull so far are merged with their
    /// neighbours, which the engine does by itself and nobody has to wait for.
    ///
    /// Dropping the future changes nothing.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Poisoned`], [`crate::ErrorKind::Closed`].
    pub async fn tidy(&self) -> Result<(), Error> {
        Ok(self.shared.engine.tidy().await?)
    }

    /// Makes the page file as short as it gets: merges pages, moves them to the front, and cuts the
    /// file. Reads and writes go on meanwhile. Costs a read and a write of each page that is moved, and
    /// some checkpoints.
    ///
    /// Dropping the future does not stop it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`], [`crate::ErrorKind::Damaged`], [`crate::ErrorKind::Poisoned`],
    /// [`crate::ErrorKind::Closed`].
    pub async fn compact(&self) -> Result<Compacted, Error> {
        Ok(self.shared.engine.compact().await?)
    }

    /// Copies the database to the folder `path`, which is new or empty, while reads and writes go on.
    /// The copy is a database of its own: it has everything that was committed before the call, and
    /// of what was committed meanwhile all up to one commit, whose sequence is in the answer. Every
    /// page is verified on the way.
    ///
    /// Until the backup is whole, `path` holds no database, so an interrupted one cannot be taken for
    /// a backup; the next one may go to the same folder.
    ///
    /// Meanwhile, the pages that it copies keep their place in the file when they are replaced, so the
    /// file may grow by as much as there is. If the disk is full, the backup fails, and no write does.
    ///
    /// Dropping the future does not stop the backup; closing the database does.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if `path` lies in the database's own folder;
    /// [`crate::ErrorKind::InvalidOptions`] or [`crate::ErrorKind::Locked`] for what is there;
    /// [`crate::ErrorKind::Full`], [`crate::ErrorKind::Io`] for either disk;
    /// [`crate::ErrorKind::Damaged`], naming the page; [`crate::ErrorKind::Poisoned`],
    /// [`crate::ErrorKind::Closed`].
    pub async fn backup(&self, path: impl AsRef<Path>) -> Result<BackedUp, Error> {
        let path = path.as_ref().to_path_buf();
        let own = self.shared.scratch.parent().map(std::path::absolute).and_then(Result::ok);
        if let (Some(own), Ok(path)) = (own, std::path::absolute(&path))
            && path.starts_with(&own)
        {
            let (path, own) = (path.display(), own.display());
            let message = format!("backing up to {path}: it lies in {own}, the database itself");
            return Err(Error::invalid_input(message));
        }
        let backed_up = self.shared.engine.backup(move || Ok(backup_target(&path)?)).await;
        Ok(backed_up?)
    }

    /// Checks everything: each page's checksum, order and fences, each link, each parent's
    /// separators, that every page is reached once, that the space map fits, and the log. Writes go
    /// on meanwhile. Writes a checkpoint first, and then goes through all pages, as they are in the cache or
    /// on disk; of those in the cache it reads what is on disk beneath them besides.
    ///
    /// Dropping the future does not stop it.
    ///
    /// # Errors
    /// What keeps it from checking. What is wrong with the database is in the report.
    pub async fn verify(&self) -> Result<Report, Error> {
        Ok(self.shared.engine.verify().await?)
    }

    /// Numbers as they are now: space, cache, log, disk, checkpoints. Never waits. It looks at the
    /// header of every frame of the cache, so ask once a second, not with each request.
    pub fn stats(&self) -> EngineStats {
        let mut stats = self.shared.engine.stats();
        stats.lookups = self.shared.watch.lookups();
        stats
    }

    /// How the disk is reached, in a few words for people: `io_uring, 8 lanes, O_DIRECT, blocks of 512
    /// bytes`, or what it was that the system allows.
    pub fn backend(&self) -> String {
        self.shared.engine.pool().file().disk().backend()
    }

    /// What opening the database found and did.
    pub fn recovery(&self) -> &Recovery {
        self.shared.engine.recovery()
    }

    /// The engine beneath, for simulations.
    #[doc(hidden)]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }

    /// Writes a checkpoint and ends the engine. Operations under way end first or are refused, and
    /// all handles answer with [`crate::ErrorKind::Closed`] from now on.
    ///
    /// Dropping the future leaves the database closing.
    ///
    /// # Errors
    /// What kept the checkpoint from being written. The database is closed all the same, and
    /// durable commits are in the log.
    pub async fn close(&self) -> Result<(), Error> {
        self.shared.entry.end();
        Ok(self.shared.engine.close().await?)
    }
}

/// On the engine's thread: the folder that a backup goes to.
fn backup_target(path: &Path) -> Result<BackupTarget, Error> {
    folder::prepare(path, true)?;
    let lock = Arc::new(DirectoryLock::acquire(path)?);
    let options =
        DiskOptions { lanes: Some(1), lock: Some(Arc::clone(&lock)), ..DiskOptions::default() };
    let disk = open_directory(path, &options)?;
    let entropy = RandomState::new().hash_one(path);
    Ok(BackupTarget { disk, entropy, keep: Box::new(lock) })
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("trees", &self.tree_names()).finish_non_exhaustive()
    }
}
