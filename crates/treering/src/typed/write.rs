//! A typed write that has not been awaited yet.

use std::future::IntoFuture;

use futures::future::BoxFuture;
use treering_txn::Durability;

use crate::error::Error;
use crate::write::Write;

/// A write of one key: await it, or say first how durable it has to be. What dropping it means is as
/// for [`Write`], which this is, unless the value could not be encoded.
#[must_use = "a write does nothing unless it is awaited"]
pub struct TypedWrite<T>(Result<Write<T>, Error>);

impl<T> TypedWrite<T> {
    pub(crate) fn new(write: Result<Write<T>, Error>) -> Self {
        Self(write)
    }

    /// What this write waits for, other than what the database's options say.
    pub fn durability(self, durability: Durability) -> Self {
        Self(self.0.map(|write| write.durability(durability)))
    }
}

impl<T: 'static> IntoFuture for TypedWrite<T> {
    type Output = Result<T, Error>;
    type IntoFuture = BoxFuture<'static, Result<T, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        let write = self.0.map(IntoFuture::into_future);
        Box::pin(async move { write?.await })
    }
}
