//! Writes that depend on what is there: compare-and-swap, insert unless present, read-modify-write.
//!
//! All of them are batches of one key with a condition, decided under the latch of its leaf. One that
//! changes nothing because its condition does not hold is a result like any other, not an error, and
//! as reliable: under [`Durability::Durable`] it is reported when what it saw is durable.

use std::future::IntoFuture;
use std::sync::Arc;

use futures::future::BoxFuture;
use treering_blink::TreeRef;
use treering_txn::{Batch, Durability, Error as Inner, OpKind, Violation};

use crate::error::Error;
use crate::tree::Tree;
use crate::value::ValueBytes;
use crate::write::Write;

impl Tree {
    /// Gives a key the value `new`, or takes it away if that is `None`, if its value is `expected`,
    /// or if it is absent and that is `None`. Otherwise nothing is changed, and the result is an
    /// `Err` of what is there instead. Costs what a put costs; dropping the future means what it means
    /// for any [`Write`].
    ///
    /// ```
    /// # async fn example(tree: treering::Tree) -> Result<(), treering::Error> {
    /// match tree.compare_and_swap("state", Some(b"new"), Some(b"taken")).await? {
    ///     Ok(()) => println!("ours"),
    ///     Err(actual) => println!("somebody was faster: {actual:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Write<Result<(), Option<ValueBytes>>> {
        let batch = swap(self.id(), key.as_ref(), expected, new);
        Write::of_batch(self, batch, |outcome| match outcome {
            Ok(_) => Ok(Ok(())),
            Err(error) => Ok(Err(instead(error)?)),
        })
    }

    /// The value of a key, which is `value` from now on if it was absent; and whether it was. Costs what
    /// a put costs, also when the key is there: under [`Durability::Durable`] the answer waits until what
    /// it says is on disk. Dropping the future means what it means for any [`Write`].
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn get_or_insert(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Write<(ValueBytes, bool)> {
        let (key, value) = (key.as_ref(), value.as_ref().to_vec());
        let mut batch = Batch::new();
        batch.push(self.id(), OpKind::Insert, key, &value);
        Write::of_batch(self, batch, move |outcome| match outcome {
            Ok(_) => Ok((value.into(), true)),
            Err(Inner::Violated {
                violation: Violation::KeyExists, there: Some(there), ..
            }) => Ok((there.to_vec().into(), false)),
            Err(error) => Err(error.into()),
        })
    }

    /// Makes of a key's value what `change` makes of it, `None` standing for an absent key before
    /// and after, and returns the value that was there. `change` may be called again and again,
    /// when others change the key at the same time; what it returned last is what was written, in
    /// the place of what it was last shown. Costs a get and a put, and both again for each time that
    /// somebody else was faster. Dropping the future means what it means for any [`Write`].
    ///
    /// ```
    /// # async fn example(tree: treering::Tree) -> Result<(), treering::Error> {
    /// tree.modify("visits", |old| {
    ///     let old = old.and_then(|old| old.try_into().ok()).map_or(0, u64::from_le_bytes);
    ///     Some((old + 1).to_le_bytes())
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Tree::put`].
    pub fn modify<F, V>(&self, key: impl AsRef<[u8]>, change: F) -> Modify<'_, F>
    where
        F: FnMut(Option<&[u8]>) -> Option<V> + Send,
        V: AsRef<[u8]>,
    {
        let durability = self.database().shared.durability;
        Modify { tree: self, key: key.as_ref().to_vec(), change, durability }
    }
}

/// A read-modify-write that has not been awaited yet: await it, or say first how durable it has to
/// be. What dropping its future means is as for [`Write`].
#[must_use = "a modification does nothing unless it is awaited"]
pub struct Modify<'t, F> {
    tree: &'t Tree,
    key: Vec<u8>,
    change: F,
    durability: Durability,
}

impl<F> Modify<'_, F> {
    /// What it waits for in the end, other than what the database's options say.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

impl<'t, F, V> IntoFuture for Modify<'t, F>
where
    F: FnMut(Option<&[u8]>) -> Option<V> + Send + 't,
    V: AsRef<[u8]>,
{
    type Output = Result<Option<ValueBytes>, Error>;
    type IntoFuture = BoxFuture<'t, Result<Option<ValueBytes>, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { tree, key, mut change, durability } = self;
        let db = tree.database().clone();
        Box::pin(async move {
            let engine = Arc::clone(&db.shared.engine);
            let timer = db.shared.watch.commit_begins();
            let mut seen = tree.get(key.as_slice()).await?;
            loop {
                let batch = {
                    let new = change(seen.as_deref());
                    let new = new.as_ref().map(AsRef::as_ref);
                    swap(tree.id(), &key, seen.as_deref(), new)
                };
                // Only the last one has to be durable: it comes after all that the others saw.
                match engine.commit(batch, Durability::None).await {
                    Ok(outcome) => {
                        let settled = engine.settle(outcome.sequence, durability).await;
                        db.shared.watch.commit_ends(&timer);
                        settled?;
                        return Ok(seen);
                    }
                    Err(error) => seen = instead(error)?,
                }
            }
        })
    }
}

/// The batch of a compare-and-swap.
fn swap(tree: TreeRef, key: &[u8], expected: Option<&[u8]>, new: Option<&[u8]>) -> Batch {
    let mut batch = Batch::new();
    match expected {
        Some(value) => batch.push(tree, OpKind::RequireValue, key, value),
        None => batch.push(tree, OpKind::RequireAbsent, key, b""),
    }
    match new {
        Some(value) => batch.push(tree, OpKind::Put, key, value),
        None if expected.is_some() => batch.push(tree, OpKind::Delete, key, b""),
        None => {}
    }
    batch
}

/// What is there instead of what a condition asked for; other errors stay errors.
fn instead(error: Inner) -> Result<Option<ValueBytes>, Error> {
    match error {
        Inner::Violated { there, .. } => Ok(there.map(|there| there.to_vec().into())),
        error => Err(error.into()),
    }
}
