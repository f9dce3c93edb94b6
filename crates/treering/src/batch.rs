//! Batches: operations that are applied together or not at all.

use std::future::IntoFuture;
use std::sync::Arc;

use futures::future::BoxFuture;
use treering_txn::{Batch as Inner, Durability, OpKind, Outcome, duplicates};

use crate::database::Database;
use crate::error::Error;
use crate::multi::MultiTree;
use crate::tree::Tree;

/// Operations on one or more trees of a database. Nothing happens before [`Batch::commit`] is
/// awaited. Operations on one key are applied in the order in which they were added, and each sees
/// what those before it did.
pub struct Batch {
    db: Database,
    inner: Inner,
    foreign: Option<String>,
    /// Why it cannot be committed.
    failed: Option<Error>,
}

impl Batch {
    pub(crate) fn new(db: Database) -> Self {
        Self { db, inner: Inner::new(), foreign: None, failed: None }
    }

    /// Gives a key a value, whatever was there.
    pub fn put(
        &mut self,
        tree: &Tree,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(tree, OpKind::Put, key.as_ref(), value.as_ref())
    }

    /// Gives a key a value; the batch fails with [`crate::ErrorKind::KeyExists`] if it is there.
    pub fn insert(
        &mut self,
        tree: &Tree,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(tree, OpKind::Insert, key.as_ref(), value.as_ref())
    }

    /// Gives a key a value; the batch fails with [`crate::ErrorKind::KeyMissing`] if it is absent.
    pub fn update(
        &mut self,
        tree: &Tree,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(tree, OpKind::Update, key.as_ref(), value.as_ref())
    }

    /// Adds a value to a key of a tree with duplicates. [`Commit::sequences`] says which sequence it
    /// got.
    pub fn insert_dup(
        &mut self,
        tree: &MultiTree,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(tree.stored(), OpKind::InsertDup, key.as_ref(), value.as_ref())
    }

    /// Takes one duplicate away; nothing happens if it is not there.
    pub fn delete_dup(
        &mut self,
        tree: &MultiTree,
        key: impl AsRef<[u8]>,
        sequence: u64,
    ) -> &mut Self {
        let stored = duplicates::stored(key.as_ref(), sequence);
        self.push(tree.stored(), OpKind::Delete, &stored, b"")
    }

    /// Takes a key away; nothing happens if it is not there.
    pub fn delete(&mut self, tree: &Tree, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(tree, OpKind::Delete, key.as_ref(), b"")
    }

    /// The batch fails with [`crate::ErrorKind::KeyExists`] if the key is there.
    pub fn require_absent(&mut self, tree: &Tree, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(tree, OpKind::RequireAbsent, key.as_ref(), b"")
    }

    /// The batch fails with [`crate::ErrorKind::KeyMissing`] if the key is absent.
    pub fn require_present(&mut self, tree: &Tree, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(tree, OpKind::RequirePresent, key.as_ref(), b"")
    }

    /// The batch fails with [`crate::ErrorKind::KeyMissing`] or
    /// [`crate::ErrorKind::ValueDiffers`] unless the key has this value. With a put behind it, that
    /// is compare-and-swap.
    pub fn require_value(
        &mut self,
        tree: &Tree,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.push(tree, OpKind::RequireValue, key.as_ref(), value.as_ref())
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Applies all operations or none. Costs one record of the log, whatever their number, unless they
    /// are more than [`crate::Options::log_buffer`] or an eighth of the cache can take: then they are
    /// written to the page file first. Dropping the future means what it means for any [`crate::Write`].
    ///
    /// # Errors
    /// A condition that does not hold, whose operation [`Error::operation`] names; a batch that is
    /// too large; those of any write.
    pub fn commit(self) -> Commit {
        let durability = self.db.shared.durability;
        Commit { batch: self, durability }
    }

    /// Lets the commit fail, for the first reason that there is.
    pub(crate) fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    fn push(&mut self, tree: &Tree, kind: OpKind, key: &[u8], value: &[u8]) -> &mut Self {
        if !Arc::ptr_eq(&tree.database().shared, &self.db.shared) {
            self.foreign = Some(tree.name().to_owned());
        }
        self.inner.push(tree.id(), kind, key, value);
        self
    }
}

/// A batch about to be committed: await it, or say first how durable it has to be. What dropping it
/// means is as for [`crate::Write`].
#[must_use = "a batch does nothing unless its commit is awaited"]
pub struct Commit {
    batch: Batch,
    durability: Durability,
}

impl Commit {
    /// What this commit waits for, other than what the database's options say.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Has the commit return the sequences of the duplicates that it inserted, in the order of the
    /// batch.
    pub fn sequences(self) -> CommitSequences {
        CommitSequences(self)
    }

    async fn run(self) -> Result<Outcome, Error> {
        let Self { batch: Batch { db, inner, foreign, failed }, durability } = self;
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(tree) = foreign {
            return Err(Error::invalid_input(format!(
                "the tree {tree:?} in the batch is of another database: batches cannot span two"
            )));
        }
        let engine = Arc::clone(&db.shared.engine);
        let timer = db.shared.watch.commit_begins();
        let outcome = engine.commit(inner, durability).await;
        db.shared.watch.commit_ends(&timer);
        Ok(outcome?)
    }
}

impl IntoFuture for Commit {
    type Output = Result<(), Error>;
    type IntoFuture = BoxFuture<'static, Result<(), Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.run().await.map(drop) })
    }
}

/// A [`Commit`] that returns the sequences of the duplicates that it inserted.
#[must_use = "a batch does nothing unless its commit is awaited"]
pub struct CommitSequences(Commit);

impl IntoFuture for CommitSequences {
    type Output = Result<Vec<u64>, Error>;
    type IntoFuture = BoxFuture<'static, Result<Vec<u64>, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { Ok(self.0.run().await?.duplicates) })
    }
}
