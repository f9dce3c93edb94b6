//! Operations on typed trees in a batch.

use crate::batch::Batch;

use super::key::{self, Key};
use super::tree::{TypedTree, unencodable};
use super::value::{self, Value};

/// A [`Batch`] as seen by one typed tree: what is added here is added to the batch. A value that
/// cannot be encoded makes the whole batch fail with [`crate::ErrorKind::InvalidInput`].
pub struct TypedBatch<'b, K, V> {
    batch: &'b mut Batch,
    tree: &'b TypedTree<K, V>,
}

impl Batch {
    /// Adds operations on a typed tree: `batch.typed(&tree).put(key, value).delete(other)`.
    pub fn typed<'b, K: Key, V: Value>(
        &'b mut self,
        tree: &'b TypedTree<K, V>,
    ) -> TypedBatch<'b, K, V> {
        TypedBatch { batch: self, tree }
    }
}

impl<K: Key, V: Value> TypedBatch<'_, K, V> {
    /// As [`Batch::put`].
    pub fn put(&mut self, key: K::Borrowed<'_>, value: V::Borrowed<'_>) -> &mut Self {
        self.with_value(key, value, Batch::put)
    }

    /// As [`Batch::insert`].
    pub fn insert(&mut self, key: K::Borrowed<'_>, value: V::Borrowed<'_>) -> &mut Self {
        self.with_value(key, value, Batch::insert)
    }

    /// As [`Batch::update`].
    pub fn update(&mut self, key: K::Borrowed<'_>, value: V::Borrowed<'_>) -> &mut Self {
        self.with_value(key, value, Batch::update)
    }

    /// As [`Batch::delete`].
    pub fn delete(&mut self, key: K::Borrowed<'_>) -> &mut Self {
        self.batch.delete(self.tree.bytes(), key::stored::<K>(key));
        self
    }

    /// As [`Batch::require_absent`].
    pub fn require_absent(&mut self, key: K::Borrowed<'_>) -> &mut Self {
        self.batch.require_absent(self.tree.bytes(), key::stored::<K>(key));
        self
    }

    /// As [`Batch::require_present`].
    pub fn require_present(&mut self, key: K::Borrowed<'_>) -> &mut Self {
        self.batch.require_present(self.tree.bytes(), key::stored::<K>(key));
        self
    }

    /// As [`Batch::require_value`]: the value's encoding has to be the same.
    pub fn require_value(&mut self, key: K::Borrowed<'_>, value: V::Borrowed<'_>) -> &mut Self {
        self.with_value(key, value, Batch::require_value)
    }

    fn with_value(
        &mut self,
        key: K::Borrowed<'_>,
        value: V::Borrowed<'_>,
        add: for<'a> fn(&'a mut Batch, &crate::Tree, Vec<u8>, Vec<u8>) -> &'a mut Batch,
    ) -> &mut Self {
        match value::stored::<V>(value) {
            Ok(value) => drop(add(self.batch, self.tree.bytes(), key::stored::<K>(key), value)),
            Err(error) => self.batch.fail(unencodable::<V>(&error)),
        }
        self
    }
}
