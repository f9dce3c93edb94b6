//! One ordered map of a database.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use treering_blink::TreeRef;
use treering_txn::{OpKind, Outcome};

use crate::cursor::Cursor;
use crate::database::Database;
use crate::error::Error;
use crate::get::{Get, GetWith};
use crate::load::Loader;
use crate::range::{KeyRange, Range, bounds_of_prefix};
use crate::value::ValueBytes;
use crate::value_stream::{ValueReader, ValueWriter};
use crate::write::Write;

/// A named, ordered map from keys to values, both byte strings; keys are ordered bytewise, and the
/// empty key is a key. A key has at most a quarter of a page, a value at most 1 GiB.
///
/// A value that fits into about half of a page beside its key is kept in the page of its key. A longer
/// one is *large*: it has pages of its own, written before the commit and read when it is asked for,
/// past the cache.
///
/// Clones are handles on the same tree. All operations may run at the same time.
///
/// # What dropping a future means
/// Of a read: nothing, but that a page which is on its way still arrives in the cache. Of a write: it
/// has not happened, or it stands, wholly ([`Write`]). Nobody else notices either.
///
/// # What it costs
/// Each operation descends from the root to the leaf of its key, page by page, without a latch: when
/// all of them are in the cache, that is done in the first poll, and no read waits for a writer but for
/// the instant in which that one changes the page. A page that is not in the cache is one read from disk;
/// inner pages are few, so with a cache of any size it is the leaf only. A write adds one record to the
/// log, and waits for what its durability says.
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

    /// What `look` makes of a key's value, without a copy of the value for the caller. It is called
    /// once, in the poll that finds the value; it should be short, like anything in a poll. Otherwise
    /// as [`Tree::get`].
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

    /// The values of many keys, in their order. All pages that are missing are read at once, so a
    /// hundred keys take about as long as one. Each is looked up at a moment of its own. Dropping the
    /// future has no effect.
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

    /// Whether a key is there. Costs what [`Tree::get`] costs, but for the value: a large one is not
    /// read. Dropping the future has no effect.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        Ok(self.value_len(key).await?.is_some())
    }

    /// How many bytes the value of a key has; a large value is not read for that. Dropping the future
    /// has no effect.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn value_len(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, Error> {
        let engine = Arc::clone(&self.db.shared.engine);
        Ok(engine.value_len(self.tree, key.as_ref()).await?)
    }

    /// A part of a key's value: the bytes in `range`, as far as there are any. Of a large value only
    /// the pages that hold them are read. Dropping the future has no effect.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn get_range(
        &self,
        key: impl AsRef<[u8]>,
        range: impl RangeBounds<u64>,
    ) -> Result<Option<ValueBytes>, Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let engine = Arc::clone(&self.db.shared.engine);
        let part = engine.get_range(self.tree, key.as_ref(), start..end).await?;
        Ok(part.map(ValueBytes::from))
    }

    /// A key's value as a stream of parts, for values that are not to be in memory as a whole; `None`
    /// if the key is not there. The stream begins to read when it is polled. Dropping the future, or the
    /// stream, has no effect.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn read_stream(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueReader>, Error> {
        let reader = self.db.shared.engine.read_stream(self.tree, key.as_ref()).await?;
        Ok(reader.map(|reader| ValueReader::new(reader, self.db.clone())))
    }

    /// Begins to write a key's value in pieces, up to 1 GiB in all, of which only some are in memory at
    /// a time. The value is the key's when [`ValueWriter::commit`] returns, and nothing is before.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if the key is too long; [`crate::ErrorKind::Closed`],
    /// [`crate::ErrorKind::Poisoned`].
    pub fn write_stream(&self, key: impl AsRef<[u8]>) -> Result<ValueWriter, Error> {
        let writer = self.db.shared.engine.write_stream(self.tree, key.as_ref())?;
        Ok(ValueWriter::new(writer, self.db.clone()))
    }

    /// Gives a key a value, whatever was there.
    ///
    /// Key and value are copied here; nothing else happens before the first poll. Dropping the future
    /// later means that it has not happened, or that it stands ([`Write`]).
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

    /// Takes all keys in `range` away: at once for whoever reads, and all or nothing after a crash,
    /// however many they are. The space comes back by and by; until a key has been dealt with, its
    /// writers wait.
    ///
    /// Dropping the future before its first poll means that nothing happened; afterwards the range is
    /// deleted or not, as a whole.
    ///
    /// # Errors
    /// Those of [`Tree::delete`].
    pub async fn delete_range(&self, range: impl KeyRange) -> Result<(), Error> {
        let (low, high) = range.bounds();
        self.delete_bounds(low, high).await
    }

    async fn delete_bounds(&self, low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> Result<(), Error> {
        // Nothing is between a key and the same key with a zero byte behind it.
        let behind = |mut key: Vec<u8>| {
            key.push(0);
            key
        };
        let from = match low {
            Bound::Included(key) => key,
            Bound::Excluded(key) => behind(key),
            Bound::Unbounded => Vec::new(),
        };
        let to = match high {
            Bound::Included(key) => Some(behind(key)),
            Bound::Excluded(key) => Some(key),
            Bound::Unbounded => None,
        };
        let shared = &self.db.shared;
        Ok(shared.engine.delete_range(self.tree, from, to, shared.durability).await?)
    }

    /// Begins a bulk load: many keys, in any order, faster than any batches. Into an empty tree they come
    /// all at once, with the pages full. Costs a thread while it runs, and up to
    /// [`crate::Options::load_memory`]; keys that do not ascend are sorted in temporary files beyond that.
    /// Dropping it means that nothing is loaded.
    pub fn load(&self) -> Loader {
        Loader::new(self.clone())
    }

    /// The pairs whose keys are in `range`, in order: a stream, and [`Range::next_chunk`] for who
    /// wants many at a time. [`Range::rev`] turns it round.
    ///
    /// It holds nothing between two items: what is changed meanwhile in front of it is seen, and a
    /// key that is there all along is returned exactly once. Dropping it has no effect. It costs one look
    /// at each leaf, a copy of that leaf's pairs, and, where leaves are not in the cache, reads that are
    /// asked for ahead of it.
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
