//! Ranges of typed trees.

use std::any::type_name;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::Stream;

use crate::error::Error;
use crate::range::Range;

use super::key::Key;
use super::tree::no_value;
use super::value::Value;

/// A stream of the pairs in a range, decoded. Dropping it has no effect. A pair that cannot be
/// decoded is an error in its place, and the stream goes on behind it.
#[must_use = "streams do nothing unless polled"]
pub struct TypedRange<K, V> {
    range: Range,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Value> TypedRange<K, V> {
    pub(crate) fn new(range: Range) -> Self {
        Self { range, types: PhantomData }
    }

    /// The same range from its other end, in descending order; what was returned so far is
    /// forgotten.
    pub fn rev(self) -> Self {
        Self::new(self.range.rev())
    }
}

impl<K: Key, V: Value> Stream for TypedRange<K, V> {
    type Item = Result<(K, V), Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let pair = ready!(Pin::new(&mut self.range).poll_next(cx));
        Poll::Ready(pair.map(|pair| {
            let (key, value) = pair?;
            let key = K::decode_whole(&key).map_err(|error| {
                let name = type_name::<K>();
                Error::undecodable(format!("the key {key:?} that is stored is no {name}: {error}"))
            })?;
            Ok((key, V::decode(&value).map_err(|error| no_value::<V>(&error))?))
        }))
    }
}
