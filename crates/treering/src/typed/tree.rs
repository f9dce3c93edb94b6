//! A tree whose keys and values are types.

use std::any::type_name;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use crate::database::Database;
use crate::error::Error;
use crate::range::Bounds;
use crate::tree::Tree;
use crate::value::ValueBytes;
use treering_txn::TreeOptions;

use super::error::DecodeError;
use super::key::{self, Key};
use super::range::TypedRange;
use super::value::{self, Value, View};
use super::write::TypedWrite;

/// A named map from `K` to `V`, ordered as `K` is. What holds for [`Tree`] holds for it: what its
/// futures do when they are dropped, which errors there are, that all operations may run at the same
/// time. Beside those errors there is [`crate::ErrorKind::Undecodable`], when bytes that are
/// stored are not those of the type.
///
/// Keys and values are given as the types' borrowed forms: `&str` for `String`, tuples of borrowed
/// forms for tuples. Of an owned one, [`Key::as_borrowed`] is that form.
pub struct TypedTree<K, V> {
    tree: Tree,
    types: PhantomData<fn() -> (K, V)>,
}

impl Database {
    /// The tree of that name with keys and values of these types, durably made if there is none. The
    /// name and the version of the key type are stored with it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::TreeMismatch`] if the tree was made with another key type, or another
    /// version of it, or without one; otherwise as [`Database::tree`].
    pub async fn typed<K: Key, V: Value>(
        &self,
        name: impl AsRef<str>,
    ) -> Result<TypedTree<K, V>, Error> {
        let options = TreeOptions::new().key_type(K::type_name(), K::VERSION);
        let tree = self.tree_with(name, options).await?;
        Ok(TypedTree { tree, types: PhantomData })
    }
}

impl<K: Key, V: Value> TypedTree<K, V> {
    /// The name.
    pub fn name(&self) -> &str {
        self.tree.name()
    }

    /// The tree below, with the bytes that are stored.
    pub fn bytes(&self) -> &Tree {
        &self.tree
    }

    /// The value of a key. Completes in its first poll when what it needs is in memory.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn get<'t>(
        &'t self,
        key: K::Borrowed<'_>,
    ) -> impl Future<Output = Result<Option<V>, Error>> + Send + use<'t, K, V> {
        let looked = self.tree.get_with(key::stored::<K>(key), V::decode);
        async move { looked.await?.transpose().map_err(|error| no_value::<V>(&error)) }
    }

    /// What `look` makes of a key's value where it is, without a copy of its own.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn get_with<'t, F, R>(
        &'t self,
        key: K::Borrowed<'_>,
        look: F,
    ) -> impl Future<Output = Result<Option<R>, Error>> + Send + use<'t, F, K, R, V>
    where
        V: View,
        F: FnOnce(&V::Viewed) -> R + Send + Unpin,
    {
        let look = move |bytes: &[u8]| V::view(bytes, look);
        let looked = self.tree.get_with(key::stored::<K>(key), look);
        async move { looked.await?.transpose().map_err(|error| no_value::<V>(&error)) }
    }

    /// The values of many keys, in their order. All pages that are missing are read at once.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn get_many<'t, 'k, I>(
        &'t self,
        keys: I,
    ) -> impl Future<Output = Result<Vec<Option<V>>, Error>> + Send + use<'t, 'k, I, K, V>
    where
        I: IntoIterator<Item = K::Borrowed<'k>>,
    {
        let keys: Vec<_> = keys.into_iter().map(key::stored::<K>).collect();
        async move {
            let values = self.tree.get_many(keys).await?;
            values.into_iter().map(decode_old::<V>).collect()
        }
    }

    /// Whether a key is there. Its value is not decoded.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn contains<'t>(
        &'t self,
        key: K::Borrowed<'_>,
    ) -> impl Future<Output = Result<bool, Error>> + Send + use<'t, K, V> {
        self.tree.contains(key::stored::<K>(key))
    }

    /// Gives a key a value, whatever was there.
    ///
    /// # Errors
    /// As [`Tree::put`], and [`crate::ErrorKind::InvalidInput`] if the value cannot be encoded.
    pub fn put(&self, key: K::Borrowed<'_>, value: V::Borrowed<'_>) -> TypedWrite<()> {
        TypedWrite::new(self.encoded(key, value, |key, value| self.tree.put(key, value)))
    }

    /// Gives a key a value and returns the one that was there.
    ///
    /// # Errors
    /// As [`TypedTree::put`].
    pub fn replace(&self, key: K::Borrowed<'_>, value: V::Borrowed<'_>) -> TypedWrite<Option<V>> {
        let write = self.encoded(key, value, |key, value| self.tree.replace(key, value));
        TypedWrite::new(write.map(|write| write.and_then(decode_old::<V>)))
    }

    /// Gives a key that is absent a value.
    ///
    /// # Errors
    /// [`crate::ErrorKind::KeyExists`] if it is there; as [`TypedTree::put`].
    pub fn insert(&self, key: K::Borrowed<'_>, value: V::Borrowed<'_>) -> TypedWrite<()> {
        TypedWrite::new(self.encoded(key, value, |key, value| self.tree.insert(key, value)))
    }

    /// Gives a key that is there a value.
    ///
    /// # Errors
    /// [`crate::ErrorKind::KeyMissing`] if it is absent; as [`TypedTree::put`].
    pub fn update(&self, key: K::Borrowed<'_>, value: V::Borrowed<'_>) -> TypedWrite<()> {
        TypedWrite::new(self.encoded(key, value, |key, value| self.tree.update(key, value)))
    }

    /// Takes a key away; says whether it was there.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn delete(&self, key: K::Borrowed<'_>) -> TypedWrite<bool> {
        TypedWrite::new(Ok(self.tree.delete(key::stored::<K>(key))))
    }

    /// Takes a key away and returns its value. It is gone even if its value turns out not to be
    /// decodable.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn take(&self, key: K::Borrowed<'_>) -> TypedWrite<Option<V>> {
        TypedWrite::new(Ok(self.tree.take(key::stored::<K>(key)).and_then(decode_old::<V>)))
    }

    /// Gives a key the value `new`, or takes it away if that is `None`, if its value is encoded as
    /// `expected` is, or if it is absent and that is `None`. Otherwise nothing is changed, and the
    /// result is an `Err` of what is there instead.
    ///
    /// # Errors
    /// As [`TypedTree::put`].
    pub fn compare_and_swap(
        &self,
        key: K::Borrowed<'_>,
        expected: Option<V::Borrowed<'_>>,
        new: Option<V::Borrowed<'_>>,
    ) -> TypedWrite<Result<(), Option<V>>> {
        let encode = |value: V::Borrowed<'_>| value::stored::<V>(value);
        let encoded = expected
            .map(encode)
            .transpose()
            .and_then(|expected| Ok((expected, new.map(encode).transpose()?)));
        let write = encoded.map_err(|error| unencodable::<V>(&error)).map(|(expected, new)| {
            let key = key::stored::<K>(key);
            self.tree.compare_and_swap(key, expected.as_deref(), new.as_deref()).and_then(
                |swapped| match swapped {
                    Ok(()) => Ok(Ok(())),
                    Err(there) => Ok(Err(decode_old::<V>(there)?)),
                },
            )
        });
        TypedWrite::new(write)
    }

    /// The value of a key, which is `value` from now on if it was absent; and whether it was.
    ///
    /// # Errors
    /// As [`TypedTree::put`].
    pub fn get_or_insert(
        &self,
        key: K::Borrowed<'_>,
        value: V::Borrowed<'_>,
    ) -> TypedWrite<(V, bool)> {
        let write = self.encoded(key, value, |key, value| self.tree.get_or_insert(key, value));
        TypedWrite::new(
            write.map(|write| {
                write.and_then(|(there, inserted)| Ok((decode::<V>(&there)?, inserted)))
            }),
        )
    }

    /// The pairs whose keys are in `range`, in order: a stream. [`TypedRange::rev`] turns it round.
    /// It sees what [`Tree::range`] would see.
    pub fn range<'k>(&self, range: impl RangeBounds<K::Borrowed<'k>>) -> TypedRange<K, V> {
        TypedRange::new(self.tree.range(stored_bounds::<K>(&range)))
    }

    /// Takes all keys in `range` away, at once for whoever reads, and all or nothing after a crash. What
    /// dropping the future means, and when the space comes back, is said at [`Tree::delete_range`].
    ///
    /// # Errors
    /// As [`Tree::delete_range`].
    pub fn delete_range<'t, 'k, R>(
        &'t self,
        range: R,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<'t, 'k, R, K, V>
    where
        R: RangeBounds<K::Borrowed<'k>>,
    {
        self.tree.delete_range(stored_bounds::<K>(&range))
    }

    fn encoded<W>(
        &self,
        key: K::Borrowed<'_>,
        value: V::Borrowed<'_>,
        write: impl FnOnce(Vec<u8>, Vec<u8>) -> W,
    ) -> Result<W, Error> {
        let value = value::stored::<V>(value).map_err(|error| unencodable::<V>(&error))?;
        Ok(write(key::stored::<K>(key), value))
    }
}

/// Bounds of keys as bounds of what is stored.
fn stored_bounds<'k, K: Key>(range: &impl RangeBounds<K::Borrowed<'k>>) -> Bounds {
    let stored = |key: &K::Borrowed<'k>| key::stored::<K>(key.clone());
    (range.start_bound().map(stored), range.end_bound().map(stored))
}

fn decode_old<V: Value>(value: Option<ValueBytes>) -> Result<Option<V>, Error> {
    value.map(|bytes| decode(&bytes)).transpose()
}

fn decode<V: Value>(bytes: &[u8]) -> Result<V, Error> {
    V::decode(bytes).map_err(|error| no_value::<V>(&error))
}

pub(crate) fn no_value<V>(error: &DecodeError) -> Error {
    let name = type_name::<V>();
    Error::undecodable(format!("a value that is stored is no {name}: {error}"))
}

pub(crate) fn unencodable<V>(error: &super::EncodeError) -> Error {
    Error::invalid_input(format!("a {} cannot be encoded: {error}", type_name::<V>()))
}

impl<K, V> Clone for TypedTree<K, V> {
    fn clone(&self) -> Self {
        Self { tree: self.tree.clone(), types: PhantomData }
    }
}

impl<K, V> std::fmt::Debug for TypedTree<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TypedTree").field("name", &self.tree.name()).finish_non_exhaustive()
    }
}
