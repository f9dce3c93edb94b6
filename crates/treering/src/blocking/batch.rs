//! Batches, for threads.

use super::tree::Tree;
use super::wait;
use crate::Durability;
use crate::error::Error;

/// Operations on one or more trees of a database: as [`crate::Batch`], but for [`Batch::commit`], which
/// blocks. Operations are added by value, so that a batch can be written as one expression.
#[must_use = "a batch does nothing unless it is committed"]
pub struct Batch {
    batch: crate::Batch,
    durability: Option<Durability>,
}

impl Batch {
    pub(super) fn new(db: &crate::Database) -> Self {
        Self { batch: db.batch(), durability: None }
    }

    /// What the commit waits for, other than what the database's options say.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Gives a key a value, whatever was there.
    pub fn put(mut self, tree: &Tree, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.batch.put(tree.as_async(), key, value);
        self
    }

    /// Gives a key a value; the batch fails with [`crate::ErrorKind::KeyExists`] if it is there.
    pub fn insert(mut self, tree: &Tree, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.batch.insert(tree.as_async(), key, value);
        self
    }

    /// Gives a key a value; the batch fails with [`crate::ErrorKind::KeyMissing`] if it is absent.
    pub fn update(mut self, tree: &Tree, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.batch.update(tree.as_async(), key, value);
        self
    }

    /// Takes a key away; nothing happens if it is not there.
    pub fn delete(mut self, tree: &Tree, key: impl AsRef<[u8]>) -> Self {
        self.batch.delete(tree.as_async(), key);
        self
    }

    /// The batch fails with [`crate::ErrorKind::KeyExists`] if the key is there.
    pub fn require_absent(mut self, tree: &Tree, key: impl AsRef<[u8]>) -> Self {
        self.batch.require_absent(tree.as_async(), key);
        self
    }

    /// The batch fails with [`crate::ErrorKind::KeyMissing`] if the key is absent.
    pub fn require_present(mut self, tree: &Tree, key: impl AsRef<[u8]>) -> Self {
        self.batch.require_present(tree.as_async(), key);
        self
    }

    /// The batch fails with [`crate::ErrorKind::KeyMissing`] or [`crate::ErrorKind::ValueDiffers`]
    /// unless the key has this value.
    pub fn require_value(
        mut self,
        tree: &Tree,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Self {
        self.batch.require_value(tree.as_async(), key, value);
        self
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Applies all operations or none, and blocks until the commit is as durable as was asked for.
    ///
    /// # Errors
    /// As [`crate::Batch::commit`].
    pub fn commit(self) -> Result<(), Error> {
        let commit = self.batch.commit();
        wait(match self.durability {
            Some(durability) => commit.durability(durability),
            None => commit,
        })
    }
}
