//! A write that has not been awaited yet.

use std::future::IntoFuture;
use std::sync::Arc;

use futures::future::BoxFuture;
use treering_txn::{Batch, Durability, Error as Inner, OpKind, Outcome};

use crate::database::Database;
use crate::error::Error;
use crate::tree::Tree;

/// A write of one key: await it, or say first how durable it has to be.
///
/// Nothing happens before the first poll. Dropping the future later means that the write has not
/// happened, if it was not applied yet, or that it stands; nobody waits for it to be polled.
#[must_use = "a write does nothing unless it is awaited"]
pub struct Write<T> {
    db: Database,
    batch: Batch,
    durability: Durability,
    result: Box<Conclude<T>>,
}

/// What becomes of the outcome. Without captures, it takes no allocation.
type Conclude<T> = dyn FnOnce(Result<Outcome, Inner>) -> Result<T, Error> + Send + Sync;

impl<T> Write<T> {
    pub(crate) fn new(
        tree: &Tree,
        kind: OpKind,
        key: &[u8],
        value: &[u8],
        result: impl FnOnce(Outcome) -> T + Send + Sync + 'static,
    ) -> Self {
        let mut batch = Batch::new();
        batch.push(tree.id(), kind, key, value);
        Self::of_batch(tree, batch, move |outcome| Ok(result(outcome?)))
    }

    pub(crate) fn of_batch(
        tree: &Tree,
        batch: Batch,
        result: impl FnOnce(Result<Outcome, Inner>) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Self {
        let db = tree.database().clone();
        let durability = db.shared.durability;
        Self { db, batch, durability, result: Box::new(result) }
    }

    pub(crate) fn keeping_old(mut self) -> Self {
        self.batch.keep_old();
        self
    }

    /// The same write with what `then` makes of its result.
    pub(crate) fn and_then<U: 'static>(self, then: fn(T) -> Result<U, Error>) -> Write<U>
    where
        T: 'static,
    {
        let Self { db, batch, durability, result } = self;
        Write { db, batch, durability, result: Box::new(move |outcome| then(result(outcome)?)) }
    }

    /// What this write waits for, other than what the database's options say.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

impl<T: 'static> IntoFuture for Write<T> {
    type Output = Result<T, Error>;
    type IntoFuture = BoxFuture<'static, Result<T, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { db, batch, durability, result } = self;
        Box::pin(async move {
            // The handle is kept until the write is settled: the engine does not end before.
            let engine = Arc::clone(&db.shared.engine);
            let timer = db.shared.watch.commit_begins();
            let outcome = engine.commit(batch, durability).await;
            db.shared.watch.commit_ends(&timer);
            result(outcome)
        })
    }
}
