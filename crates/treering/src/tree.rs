//! One ordered map of a database.

use std::sync::Arc;

use treering_blink::TreeRef;
use treering_txn::{OpKind, Outcome};

use crate::cursor::Cursor;
use crate::database::Database;
use crate::error::Error;
use crate::get::{Get, GetWith};
use crate::range::{KeyRange, Range, bounds_of_prefix};
use crate::value::ValueBytes;
use crate::write::Write;

/// A named, ordered map from keys to values, both byte strings; keys are ordered bytewise, and the
/// empty key is a key. A key has at most a quarter of a page, key and value together about half.
///
/// Clones are handles on the same tree. All operations may run at the same time.
#[derive(Clone)]
pub struct Tree {
    db: Database,
    name: Arc<str>,
    tree: TreeRef,
}

impl Tree {
    pub(crate) fn new(db: Database, name: Arc<str>, tree: TreeRef) -> Self {
        Self { db, name, tree }
    }

    pub(crate) fn id(&self) -> TreeRef {
        self.tree
    }

    pub(crate) fn database(&self) -> &Database {
        &self.db
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of a key. Completes in its first poll when what it needs is in memory.
    ///
    /// What it sees may have been committed, but not be durable yet; [`Database::sync`] waits for
    /// that. Dropping the future has no effect.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`], [`crate::ErrorKind::Damaged`], [`crate::ErrorKind::Closed`],
    /// [`crate::ErrorKind::Poisoned`].
    pub fn get<K: AsRef<[u8]> + Send + Unpin>(&self, key: K) -> Get<'_, K> {
        Get::new(self, key)
    }

    /// What `look` makes of a key's value, without a copy of the value for the caller.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn get_with<K, F, R>(&self, key: K, look: F) -> GetWith<'_, K, F>
    where
        K: AsRef<[u8]> + Send + Unpin,
        F: FnOnce(&[u8]) -> R + Unpin,
    {
        GetWith::new(self, key, look)
    }

    /// The values of many keys, in their order. All pages that are missing are read at once.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<ValueBytes>>, Error> {
        let keys: Vec<Vec<u8>> = keys.into_iter().map(|key| key.as_ref().to_vec()).collect();
        self.get_many_owned(keys).await
    }

    async fn get_many_owned(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<ValueBytes>>, Error> {
        let engine = Arc::clone(&self.db.shared.engine);
        let values = engine.get_many(self.tree, &keys).await?;
        Ok(values.into_iter().map(|value| value.map(ValueBytes::from)).collect())
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn contains<K: AsRef<[u8]> + Send + Unpin>(&self, key: K) -> Result<bool, Error> {
        Ok(self.get_with(key, |_| ()).await?.is_some())
    }

    /// Gives a key a value, whatever was there.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if key or value are too long; [`crate::ErrorKind::Full`],
    /// with nothing changed; those of [`Tree::get`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Write<()> {
        Write::new(self, OpKind::Put, key.as_ref(), value.as_ref(), |_| ())
    }

    /// Gives a key a value and returns the one that was there.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn replace(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Write<Option<ValueBytes>> {
        Write::new(self, OpKind::Put, key.as_ref(), value.as_ref(), old).keeping_old()
    }

    /// Gives a key that is absent a value.
    ///
    /// # Errors
    /// [`crate::ErrorKind::KeyExists`] if it is there, and [`crate::Error::existing`] is its value;
    /// as [`Tree::put`].
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Write<()> {
        Write::new(self, OpKind::Insert, key.as_ref(), value.as_ref(), |_| ())
    }

    /// Gives a key that is there a value.
    ///
    /// # Errors
    /// [`crate::ErrorKind::KeyMissing`] if it is absent; as [`Tree::put`].
    pub fn update(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Write<()> {
        Write::new(self, OpKind::Update, key.as_ref(), value.as_ref(), |_| ())
    }

    /// Takes a key away; says whether it was there.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Write<bool> {
        let existed = |outcome: Outcome| outcome.existed.first().copied().unwrap_or(false);
        Write::new(self, OpKind::Delete, key.as_ref(), b"", existed)
    }

    /// Takes a key away and returns its value.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn take(&self, key: impl AsRef<[u8]>) -> Write<Option<ValueBytes>> {
        Write::new(self, OpKind::Delete, key.as_ref(), b"", old).keeping_old()
    }

    /// The pairs whose keys are in `range`, in order: a stream, and [`Range::next_chunk`] for who
    /// wants many at a time. [`Range::rev`] turns it round.
    ///
    /// It holds nothing between two items: what is changed meanwhile in front of it is seen, and a
    /// key that is there all along is returned exactly once.
    pub fn range(&self, range: impl KeyRange) -> Range {
        Range::new(self.clone(), range.bounds())
    }

    /// The pairs whose keys begin with `prefix`, in order; otherwise as [`Tree::range`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range {
        Range::new(self.clone(), bounds_of_prefix(prefix.as_ref()))
    }

    /// A cursor, which stands nowhere yet: for steps in both directions. Who only goes one way is
    /// quicker with [`Tree::range`].
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.clone())
    }
}

fn old(outcome: Outcome) -> Option<ValueBytes> {
    outcome.old.into_iter().next().flatten().map(ValueBytes::from)
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("name", &self.name).finish_non_exhaustive()
    }
}
