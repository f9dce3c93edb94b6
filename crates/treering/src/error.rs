//! The error of every operation: opaque, with a kind that says what to do next.

use std::fmt;

use treering_pagefile::{FileError, FileErrorKind};
use treering_txn::{Error as Inner, Violation};

/// What went wrong, grouped by what the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A condition: the key exists. Nothing was changed.
    KeyExists,
    /// A condition: the key does not exist. Nothing was changed.
    KeyMissing,
    /// A condition: the key has another value. Nothing was changed.
    ValueDiffers,
    /// A value that was read piece by piece has been overwritten or deleted meanwhile: begin again.
    Replaced,
    /// Correct the input: a key, value, batch or name is too long, or a tree is another database's.
    InvalidInput,
    /// There is no tree of that name, or the tree that this is a handle on has been dropped.
    NoSuchTree,
    /// Correct the options or the path: no database there, another page size, or settings that do
    /// not go together.
    InvalidOptions,
    /// The tree was made with other options or with keys of another type: open it as it was made.
    TreeMismatch,
    /// A key or value that is stored is not what the types of a typed tree say: read it as what it
    /// was written as, or as bytes.
    Undecodable,
    /// Numbers that never repeat are used up: open the database again, or move its contents into a
    /// new one.
    Exhausted,
    /// The database is open for reading only: open it for writing. Nothing was changed.
    ReadOnly,
    /// Another process or handle has the database open: close it there.
    Locked,
    /// Use the version of this library that wrote the database.
    Version,
    /// The disk is full: nothing was changed. Free space, then go on.
    Full,
    /// Bytes on disk are not what was written: run `verify`, restore a backup.
    Damaged,
    /// The operating system failed an I/O.
    Io,
    /// A write failed earlier: reopen the database. What was acknowledged as durable is there.
    Poisoned,
    /// The database was closed: open it again.
    Closed,
}

/// An error of this engine. `Display` says what was being done, to which file, page or key, and
/// what to do next.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    inner: Inner,
}

impl Error {
    /// What to do next.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The position, from 0, of the operation in its batch whose condition did not hold.
    pub fn operation(&self) -> Option<usize> {
        match self.inner {
            Inner::Violated { operation, .. } => Some(operation),
            _ => None,
        }
    }

    /// The value that was there where a condition asked for another one, or for none: after a failed
    /// insert, what it would have overwritten.
    pub fn existing(&self) -> Option<&[u8]> {
        match &self.inner {
            Inner::Violated { there, .. } => there.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        let inner = Inner::File(FileError::new(FileErrorKind::Io, message));
        Self { kind: ErrorKind::InvalidInput, inner }
    }

    pub(crate) fn undecodable(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Undecodable, ..Self::invalid_input(message) }
    }

    pub(crate) fn locked(message: impl Into<String>) -> Self {
        FileError::new(FileErrorKind::Locked, message).into()
    }

    pub(crate) fn full(message: impl Into<String>) -> Self {
        FileError::new(FileErrorKind::Full, message).into()
    }

    pub(crate) fn io(doing: impl Into<String>, source: std::io::Error) -> Self {
        FileError::io(doing, source).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.inner)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source()
    }
}

impl From<Inner> for Error {
    fn from(inner: Inner) -> Self {
        let kind = match &inner {
            Inner::Violated { violation: Violation::KeyExists, .. } => ErrorKind::KeyExists,
            Inner::Violated { violation: Violation::KeyMissing, .. } => ErrorKind::KeyMissing,
            Inner::Violated { .. } => ErrorKind::ValueDiffers,
            Inner::TreeDiffers { .. } => ErrorKind::TreeMismatch,
            Inner::Exhausted { .. } => ErrorKind::Exhausted,
            Inner::Replaced => ErrorKind::Replaced,
            Inner::ReadOnly => ErrorKind::ReadOnly,
            Inner::ReplayTooLarge { .. } => ErrorKind::InvalidOptions,
            Inner::Closed => ErrorKind::Closed,
            Inner::NoSuchTree { .. } => ErrorKind::NoSuchTree,
            Inner::Tree(_) => ErrorKind::Damaged,
            Inner::File(error) => file_kind(error.kind()),
            _ => ErrorKind::InvalidInput,
        };
        Self { kind, inner }
    }
}

impl From<Error> for Inner {
    fn from(error: Error) -> Self {
        error.inner
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Inner::File(error).into()
    }
}

fn file_kind(kind: FileErrorKind) -> ErrorKind {
    match kind {
        FileErrorKind::Damaged => ErrorKind::Damaged,
        FileErrorKind::NotADatabase | FileErrorKind::PageSize => ErrorKind::InvalidOptions,
        FileErrorKind::Version => ErrorKind::Version,
        FileErrorKind::Locked => ErrorKind::Locked,
        FileErrorKind::Full => ErrorKind::Full,
        FileErrorKind::Poisoned => ErrorKind::Poisoned,
        FileErrorKind::Closed => ErrorKind::Closed,
        _ => ErrorKind::Io,
    }
}
