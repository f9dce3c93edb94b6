//! Trees in which a key may be there several times.
//!
//! The duplicates of a key are told apart by a sequence, which the engine hands out: it never repeats
//! in the life of the database, whatever crashes, and grows, so that the order of the sequences is the
//! order in which the values came. Below, such a tree is an ordinary one whose stored keys are key and
//! sequence together ([`treering_txn::duplicates`]): all that is said of a [`Tree`] holds for it, too.

use std::ops::Bound;
use std::sync::Arc;

use treering_blink::{Direction, From, Nearest};
use treering_txn::{Batch, Durability, Error as Inner, OpKind, Outcome, duplicates};

use crate::database::Database;
use crate::error::Error;
use crate::multi_walk::{MultiCursor, MultiRange, Values};
use crate::range::{Bounds, KeyRange};
use crate::tree::Tree;
use crate::value::ValueBytes;
use crate::write::Write;

/// A named, ordered map from keys to one or more values each, in the order in which they were
/// inserted.
///
/// A key has 10 bytes less than in a [`Tree`], and one less for each zero byte in it.
///
/// Clones are handles on the same tree. All operations may run at the same time. What dropping a future
/// means, and what operations cost, is as for a [`Tree`] unless they say otherwise.
#[derive(Clone, Debug)]
pub struct MultiTree {
    tree: Tree,
}

impl MultiTree {
    pub(crate) fn new(tree: Tree) -> Self {
        Self { tree }
    }

    /// The tree with its keys as they are stored.
    pub(crate) fn stored(&self) -> &Tree {
        &self.tree
    }

    fn database(&self) -> &Database {
        self.tree.database()
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.tree.name()
    }

    /// Adds a value to a key, behind those that it has, and returns its sequence. Of two inserts of
    /// which one began when the other had returned, the later has the greater sequence.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn insert_dup(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Write<u64> {
        let sequence = |outcome: Outcome| outcome.duplicates.first().copied().unwrap_or(0);
        Write::new(&self.tree, OpKind::InsertDup, key.as_ref(), value.as_ref(), sequence)
    }

    /// The first value of a key. Completes in its first poll when what it needs is in memory.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn get(&self, key: impl AsRef<[u8]> + Send) -> Result<Option<ValueBytes>, Error> {
        let head = duplicates::head(key.as_ref());
        drop(key);
        let engine = &self.database().shared.engine;
        let mut search = Nearest::new(self.tree.id());
        search.aim(Direction::Forward, From::At(head.clone()));
        let found = match engine.nearest_now(&mut search)? {
            Some(found) => found,
            None => {
                let (ended, found) = Arc::clone(engine).nearest(search).await?;
                search = ended;
                found
            }
        };
        let is_its = found && search.key().starts_with(&head);
        Ok(is_its.then(|| search.value().to_vec().into()))
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub async fn contains(&self, key: impl AsRef<[u8]> + Send) -> Result<bool, Error> {
        Ok(self.get(key).await?.is_some())
    }

    /// All values of a key with their sequences, in the order in which they were inserted: a stream.
    /// What is changed meanwhile in front of it is seen, as in [`Tree::range`].
    pub fn get_all(&self, key: impl AsRef<[u8]>) -> Values {
        Values::new(self.range_of_one(key.as_ref()))
    }

    fn range_of_one(&self, key: &[u8]) -> MultiRange {
        let bounds =
            (Bound::Included(duplicates::head(key)), Bound::Excluded(duplicates::tail(key)));
        MultiRange::new(self.tree.range(bounds))
    }

    /// Takes one duplicate away; says whether it was there.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn delete_dup(&self, key: impl AsRef<[u8]>, sequence: u64) -> Write<bool> {
        self.tree.delete(duplicates::stored(key.as_ref(), sequence))
    }

    /// Takes one duplicate away and returns its value.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn take_dup(&self, key: impl AsRef<[u8]>, sequence: u64) -> Write<Option<ValueBytes>> {
        self.tree.take(duplicates::stored(key.as_ref(), sequence))
    }

    /// Takes away the first duplicate of a key that has this value, and returns its sequence. `None`:
    /// there was none, as far as a reader that goes through the duplicates can say. Costs that way
    /// through them.
    ///
    /// Dropping the future leaves that duplicate there or gone.
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub async fn delete_value(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Option<u64>, Error> {
        let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
        self.delete_owned_value(key, value).await
    }

    async fn delete_owned_value(&self, key: Vec<u8>, value: Vec<u8>) -> Result<Option<u64>, Error> {
        let mut values = self.get_all(&key);
        while let Some((sequence, found)) = values.try_next().await? {
            if *found != *value {
                continue;
            }
            // What was read may have changed by now. If it has, the next one is the first: a
            // sequence does not come back.
            let stored = duplicates::stored(&key, sequence);
            if self.tree.compare_and_swap(stored, Some(&value), None).await?.is_ok() {
                return Ok(Some(sequence));
            }
        }
        Ok(None)
    }

    /// Takes all duplicates of a key away; says how many there were. Those of one page go together;
    /// when there are more, others may see some of them gone and some not. What is inserted meanwhile
    /// may stay.
    ///
    /// Dropping the future leaves some of them there.
    ///
    /// # Errors
    /// As [`Tree::put`]; some may be gone then.
    pub async fn delete_all(&self, key: impl AsRef<[u8]>) -> Result<u64, Error> {
        let key = key.as_ref().to_vec();
        self.delete_all_owned(key).await
    }

    async fn delete_all_owned(&self, key: Vec<u8>) -> Result<u64, Error> {
        let shared = &self.database().shared;
        let mut range = self.range_of_one(&key).into_stored();
        let (mut count, mut last) = (0, None);
        while let Some(chunk) = range.next_chunk().await? {
            let keys: Vec<&[u8]> = chunk.iter().map(|(stored, _)| stored).collect();
            let mut lots = vec![keys.as_slice()];
            while let Some(lot) = lots.pop() {
                let mut batch = Batch::new();
                for stored in lot {
                    batch.push(self.tree.id(), OpKind::Delete, stored, b"");
                }
                match shared.engine.commit(batch, Durability::None).await {
                    Ok(outcome) => {
                        count += outcome.existed.iter().filter(|&&existed| existed).count() as u64;
                        last = last.max(Some(outcome.sequence));
                    }
                    // They were in one leaf, and are in more of them by now than one step may touch.
                    Err(Inner::BatchTooLarge { .. }) if lot.len() > 1 => {
                        let (left, right) = lot.split_at(lot.len() / 2);
                        lots.extend([right, left]);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // The last one is durable only together with all before it.
        if let Some(sequence) = last {
            shared.engine.settle(sequence, shared.durability).await?;
        }
        Ok(count)
    }

    /// All duplicates of the keys in `range`, in the order of the keys and then of their sequences:
    /// a stream. [`MultiRange::rev`] turns it round. Otherwise as [`Tree::range`].
    pub fn range(&self, range: impl KeyRange) -> MultiRange {
        MultiRange::new(self.tree.range(stored_bounds(range.bounds())))
    }

    /// All duplicates of the keys that begin with `prefix`; otherwise as [`MultiTree::range`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> MultiRange {
        MultiRange::new(self.tree.prefix(duplicates::escaped(prefix.as_ref())))
    }

    /// A cursor over all duplicates, which stands nowhere yet.
    pub fn cursor(&self) -> MultiCursor {
        MultiCursor::new(self.tree.cursor())
    }
}

/// Bounds of keys as bounds of what is stored.
fn stored_bounds((start, end): Bounds) -> Bounds {
    let start = match start {
        Bound::Included(key) => Bound::Included(duplicates::head(&key)),
        Bound::Excluded(key) => Bound::Included(duplicates::tail(&key)),
        Bound::Unbounded => Bound::Unbounded,
    };
    let end = match end {
        Bound::Included(key) => Bound::Excluded(duplicates::tail(&key)),
        Bound::Excluded(key) => Bound::Excluded(duplicates::head(&key)),
        Bound::Unbounded => Bound::Unbounded,
    };
    (start, end)
}
