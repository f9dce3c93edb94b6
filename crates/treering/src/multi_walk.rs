//! Ways through a tree with duplicates: streams, and a cursor. Each is the one of an ordinary tree,
//! with the stored keys taken apart.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::poll_fn;
use futures::stream::Stream;
use treering_pagefile::{FileError, FileErrorKind};
use treering_txn::duplicates;

use crate::cursor::Cursor;
use crate::error::Error;
use crate::range::Range;
use crate::value::{KeyBytes, ValueBytes};

/// A stream of keys, sequences and values; see [`crate::MultiTree::range`]. Dropping it has no
/// effect; between two items it holds nothing but a copy of some of them.
#[must_use = "streams do nothing unless polled"]
pub struct MultiRange {
    stored: Range,
}

impl MultiRange {
    pub(crate) fn new(stored: Range) -> Self {
        Self { stored }
    }

    pub(crate) fn into_stored(self) -> Range {
        self.stored
    }

    /// The same range from its other end, in descending order of keys and of sequences; what was
    /// returned so far is forgotten.
    pub fn rev(self) -> Self {
        Self { stored: self.stored.rev() }
    }
}

impl Stream for MultiRange {
    type Item = Result<(KeyBytes, u64, ValueBytes), Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.stored).poll_next(cx).map(|item| {
            Some(item?.and_then(|(stored, value)| {
                let mut key = Vec::new();
                let sequence = split(&stored, &mut key)?;
                Ok((KeyBytes::from(key), sequence, value))
            }))
        })
    }
}

/// A stream of the values of one key with their sequences; see [`crate::MultiTree::get_all`].
#[must_use = "streams do nothing unless polled"]
pub struct Values {
    range: MultiRange,
}

impl Values {
    pub(crate) fn new(range: MultiRange) -> Self {
        Self { range }
    }

    /// The same values, the last one first; what was returned so far is forgotten.
    pub fn rev(self) -> Self {
        Self { range: self.range.rev() }
    }

    pub(crate) async fn try_next(&mut self) -> Result<Option<(u64, ValueBytes)>, Error> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await.transpose()
    }
}

impl Stream for Values {
    type Item = Result<(u64, ValueBytes), Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = Pin::new(&mut self.range).poll_next(cx);
        item.map_ok(|(_, sequence, value)| (sequence, value))
    }
}

/// Walks through a tree with duplicates in both directions, one duplicate at a time; otherwise as
/// [`Cursor`], of which it also has the ends.
#[derive(Debug)]
pub struct MultiCursor {
    stored: Cursor,
    /// The key and sequence it stands on.
    key: Vec<u8>,
    sequence: u64,
}

impl MultiCursor {
    pub(crate) fn new(stored: Cursor) -> Self {
        Self { stored, key: Vec::new(), sequence: 0 }
    }

    /// What it stands on: key, sequence and value.
    pub fn entry(&self) -> Option<(&[u8], u64, &[u8])> {
        self.stored.value().map(|value| (self.key.as_slice(), self.sequence, value))
    }

    /// Goes to the first duplicate of the first key at or after `key`; says whether there is one.
    ///
    /// # Errors
    /// As [`crate::Tree::get`], like all steps.
    pub async fn seek(&mut self, key: impl AsRef<[u8]> + Send) -> Result<bool, Error> {
        let head = duplicates::head(key.as_ref());
        drop(key);
        let found = self.stored.seek(head).await?;
        self.arrive(found)
    }

    /// Goes to the last duplicate of the last key at or before `key`; says whether there is one.
    ///
    /// # Errors
    /// As [`crate::Tree::get`], like all steps.
    pub async fn seek_for_prev(&mut self, key: impl AsRef<[u8]> + Send) -> Result<bool, Error> {
        let tail = duplicates::tail(key.as_ref());
        drop(key);
        let found = self.stored.seek_for_prev(tail).await?;
        self.arrive(found)
    }

    /// Goes to the first duplicate of the first key; false if the tree is empty.
    ///
    /// # Errors
    /// As [`crate::Tree::get`], like all steps.
    pub async fn first(&mut self) -> Result<bool, Error> {
        let found = self.stored.first().await?;
        self.arrive(found)
    }

    /// Goes to the last duplicate of the last key; false if the tree is empty.
    ///
    /// # Errors
    /// As [`crate::Tree::get`], like all steps.
    pub async fn last(&mut self) -> Result<bool, Error> {
        let found = self.stored.last().await?;
        self.arrive(found)
    }

    /// Goes to the next duplicate, or to the first of the next key; says whether there is one.
    ///
    /// # Errors
    /// As [`crate::Tree::get`], like all steps.
    pub async fn next(&mut self) -> Result<bool, Error> {
        let found = self.stored.next().await?;
        self.arrive(found)
    }

    /// Goes to the duplicate before, or to the last of the key before; says whether there is one.
    ///
    /// # Errors
    /// As [`crate::Tree::get`], like all steps.
    pub async fn prev(&mut self) -> Result<bool, Error> {
        let found = self.stored.prev().await?;
        self.arrive(found)
    }

    /// Takes apart where the step has led. There is no await between the step and this.
    fn arrive(&mut self, found: bool) -> Result<bool, Error> {
        if let Some(stored) = self.stored.key() {
            self.sequence = split(stored, &mut self.key)?;
        }
        Ok(found)
    }
}

fn split(stored: &[u8], key: &mut Vec<u8>) -> Result<u64, Error> {
    duplicates::split(stored, key).ok_or_else(|| {
        let message = format!(
            "\"{}\" is no key of a tree with duplicates: something else has written into it; \
             restore it from a backup",
            stored.escape_ascii()
        );
        FileError::new(FileErrorKind::Damaged, message).into()
    })
}
