//! One ordered map of a database, for threads.

use std::ops::RangeBounds;

use super::range::Range;
use super::wait;
use crate::Durability;
use crate::error::Error;
use crate::load::LoadReport;
use crate::range::KeyRange;
use crate::value::ValueBytes;
use crate::write::Write;

/// A named, ordered map from keys to values whose calls block: what a key and a value may be, and what
/// each operation means, is said at [`crate::Tree`].
///
/// Clones are handles on the same tree. All operations may run at the same time, on any threads.
#[derive(Clone, Debug)]
pub struct Tree {
    tree: crate::Tree,
    /// What this handle's writes wait for; `None` for what the database's options say.
    durability: Option<Durability>,
}

impl From<crate::Tree> for Tree {
    fn from(tree: crate::Tree) -> Self {
        Self { tree, durability: None }
    }
}

impl Tree {
    /// The async handle.
    pub fn as_async(&self) -> &crate::Tree {
        &self.tree
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.tree.name()
    }

    /// A handle on the same tree whose writes of single keys wait for `durability`, other than what the
    /// database's options say. (A [`super::Batch`] has its own, and [`Tree::delete_range`] and
    /// [`Tree::load`] do as their async ones.)
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self { tree: self.tree.clone(), durability: Some(durability) }
    }

    fn write<T: 'static>(&self, write: Write<T>) -> Result<T, Error> {
        wait(match self.durability {
            Some(durability) => write.durability(durability),
            None => write,
        })
    }

    /// The value of a key. Blocks for one read at a time, where a page is not in memory.
    ///
    /// # Errors
    /// As [`crate::Tree::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueBytes>, Error> {
        wait(self.tree.get(key.as_ref()))
    }

    /// What `look` makes of a key's value, without a copy of the value for the caller. `look` must not
    /// call a function that blocks like this one.
    ///
    /// # Errors
    /// As [`crate::Tree::get`].
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        look: impl FnOnce(&[u8]) -> R + Unpin,
    ) -> Result<Option<R>, Error> {
        wait(self.tree.get_with(key.as_ref(), look))
    }

    /// The values of many keys, in their order. All pages that are missing are read at once.
    ///
    /// # Errors
    /// As [`crate::Tree::get`].
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<ValueBytes>>, Error> {
        wait(self.tree.get_many(keys))
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// As [`crate::Tree::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        wait(self.tree.contains(key))
    }

    /// How many bytes the value of a key has; a large value is not read for that.
    ///
    /// # Errors
    /// As [`crate::Tree::get`].
    pub fn value_len(&self, key: impl AsRef<[u8]>) -> Result<Option<u64>, Error> {
        wait(self.tree.value_len(key))
    }

    /// A part of a key's value: the bytes in `range`, as far as there are any.
    ///
    /// # Errors
    /// As [`crate::Tree::get`].
    pub fn get_range(
        &self,
        key: impl AsRef<[u8]>,
        range: impl RangeBounds<u64>,
    ) -> Result<Option<ValueBytes>, Error> {
        wait(self.tree.get_range(key, range))
    }

    /// Gives a key a value, whatever was there.
    ///
    /// # Errors
    /// As [`crate::Tree::put`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.write(self.tree.put(key, value))
    }

    /// Gives a key a value and returns the one that was there.
    ///
    /// # Errors
    /// As [`crate::Tree::put`].
    pub fn replace(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Option<ValueBytes>, Error> {
        self.write(self.tree.replace(key, value))
    }

    /// Gives a key that is absent a value.
    ///
    /// # Errors
    /// [`crate::ErrorKind::KeyExists`] if it is there; as [`crate::Tree::put`].
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.write(self.tree.insert(key, value))
    }

    /// Gives a key that is there a value.
    ///
    /// # Errors
    /// [`crate::ErrorKind::KeyMissing`] if it is absent; as [`crate::Tree::put`].
    pub fn update(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.write(self.tree.update(key, value))
    }

    /// Takes a key away; says whether it was there.
    ///
    /// # Errors
    /// As [`crate::Tree::put`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.write(self.tree.delete(key))
    }

    /// Takes a key away and returns its value.
    ///
    /// # Errors
    /// As [`crate::Tree::put`].
    pub fn take(&self, key: impl AsRef<[u8]>) -> Result<Option<ValueBytes>, Error> {
        self.write(self.tree.take(key))
    }

    /// Gives a key the value `new` if its value is `expected`, `None` standing for an absent key; see
    /// [`crate::Tree::compare_and_swap`]. The inner `Err` is what is there instead.
    ///
    /// # Errors
    /// As [`crate::Tree::put`].
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), Option<ValueBytes>>, Error> {
        self.write(self.tree.compare_and_swap(key, expected, new))
    }

    /// The value of a key, which is `value` from now on if it was absent; and whether it was.
    ///
    /// # Errors
    /// As [`crate::Tree::put`].
    pub fn get_or_insert(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(ValueBytes, bool), Error> {
        self.write(self.tree.get_or_insert(key, value))
    }

    /// Makes of a key's value what `change` makes of it, and returns the value that was there; see
    /// [`crate::Tree::modify`]. `change` must not call a function that blocks like this one.
    ///
    /// # Errors
    /// As [`crate::Tree::put`].
    pub fn modify<V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        change: impl FnMut(Option<&[u8]>) -> Option<V> + Send,
    ) -> Result<Option<ValueBytes>, Error> {
        let modify = self.tree.modify(key, change);
        wait(match self.durability {
            Some(durability) => modify.durability(durability),
            None => modify,
        })
    }

    /// Takes all keys in `range` away: at once for whoever reads, and all or nothing after a crash.
    ///
    /// # Errors
    /// As [`crate::Tree::delete_range`].
    pub fn delete_range(&self, range: impl KeyRange) -> Result<(), Error> {
        wait(self.tree.delete_range(range))
    }

    /// Puts many pairs into the tree, in any order, faster than any batches: see
    /// [`crate::Tree::load`]. Blocks until all of them are there, durably.
    ///
    /// # Errors
    /// As [`crate::Loader::finish`].
    pub fn load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<LoadReport, Error> {
        let mut loader = self.tree.load();
        for (key, value) in pairs {
            wait(loader.put(key, value))?;
        }
        wait(loader.finish())
    }

    /// The pairs whose keys are in `range`, in order. Does not block; going through it does.
    pub fn range(&self, range: impl KeyRange) -> Range {
        Range::new(self.tree.range(range))
    }

    /// The pairs whose keys begin with `prefix`, in order; otherwise as [`Tree::range`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range {
        Range::new(self.tree.prefix(prefix))
    }
}
