//! What an operation can come to other than success.

use std::sync::Arc;

use treering_blink::TreeError;
use treering_pagefile::{FileError, FileErrorKind};

/// Why an operation of a batch could not be done. The whole batch is left undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// Insert, or a precondition that the key is absent: the key is there.
    KeyExists,
    /// Update, or a precondition that the key is present: the key is not there.
    KeyMissing,
    /// A precondition on the value: the key is there with another one.
    ValueDiffers,
}

/// An error of the transaction layer. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The condition of one operation does not hold; nothing was changed.
    #[error("operation {operation}: the key \"{}\" {}; nothing was changed", shown(.key), describe(*.violation))]
    Violated {
        /// The position of the operation in the batch, from 0.
        operation: usize,
        /// Its key.
        key: Box<[u8]>,
        /// What does not hold.
        violation: Violation,
        /// The value that is there instead, if one is.
        there: Option<Arc<[u8]>>,
    },
    /// A key is longer than pages of this size can hold.
    #[error("a key of {len} bytes is too long: this database takes at most {max}")]
    KeyTooLong {
        /// Bytes of the key.
        len: usize,
        /// Bytes that are possible.
        max: usize,
    },
    /// A key, with the sequence that a tree with duplicates stores it with, is longer than pages of
    /// this size can hold.
    #[error(
        "a key that takes {len} bytes is too long: this database stores at most {max}, and in a tree \
         with duplicates a key takes {} bytes more than it has, and one more for each zero byte",
        crate::duplicates::OVERHEAD
    )]
    DuplicateKeyTooLong {
        /// Bytes as it would be stored.
        len: usize,
        /// Bytes that are possible.
        max: usize,
    },
    /// A value is longer than any may be.
    #[error("a value of {len} bytes is too long: the longest has {max}")]
    ValueTooLong {
        /// Bytes of the value.
        len: usize,
        /// Bytes that are possible.
        max: usize,
    },
    /// A value that is read piece by piece was overwritten or deleted meanwhile.
    #[error("the value was replaced while it was being read; begin again")]
    Replaced,
    /// A value that is written piece by piece cannot be committed.
    #[error("the value cannot be written: {0}")]
    Stream(&'static str),
    /// A batch that cannot be applied in one step.
    #[error("the batch is too large: {what}; commit it in smaller batches or enlarge the cache")]
    BatchTooLarge {
        /// Which limit it passes.
        what: String,
    },
    /// A tree's name is empty or too long.
    #[error("a tree's name has 1 to {max} bytes, not {len}")]
    TreeName {
        /// Bytes of the name.
        len: usize,
        /// Bytes that are possible.
        max: usize,
    },
    /// The name of a tree's key type is empty, or too long beside the tree's own.
    #[error("the name of this tree's key type may have 1 to {max} bytes, not {len}")]
    KeyTypeName {
        /// Bytes of the name.
        len: usize,
        /// Bytes that are possible.
        max: usize,
    },
    /// A tree was made with other options than it is opened with.
    #[error("the tree {tree:?} cannot be opened like this: {what}")]
    TreeDiffers {
        /// Its name.
        tree: String,
        /// What is stored, and what was asked.
        what: String,
    },
    /// There is no tree of that name.
    #[error("there is no tree {tree}")]
    NoSuchTree {
        /// The name, in quotes, or, of one that was dropped, its number.
        tree: String,
    },
    /// There is a tree of that name already.
    #[error("there is a tree {tree:?} already")]
    TreeExists {
        /// The name.
        tree: String,
    },
    /// A database gives numbers that never repeat, and has given all of a kind.
    #[error("the {what} are used up: open the database again, or move its contents into a new one")]
    Exhausted {
        /// Which numbers.
        what: &'static str,
    },
    /// The database is open for reading only.
    #[error("the database is open for reading only, and nothing was changed: open it for writing")]
    ReadOnly,
    /// What is in the log does not fit into the cache of an engine that may not write.
    #[error(
        "the log behind the last checkpoint changes too many pages for reading only with a cache of \
         {frames} pages: open the database once for writing, or with a larger cache"
    )]
    ReplayTooLarge {
        /// Pages in the cache.
        frames: usize,
    },
    /// The database has been closed.
    #[error("the database is closed: open it again")]
    Closed,
    /// The tree's pages do not lead to the key.
    #[error(transparent)]
    Tree(TreeError),
    /// The disk, the page file or the log.
    #[error(transparent)]
    File(FileError),
}

fn describe(violation: Violation) -> &'static str {
    match violation {
        Violation::KeyExists => "exists already",
        Violation::KeyMissing => "does not exist",
        Violation::ValueDiffers => "has another value",
    }
}

/// The start of a key, readable.
fn shown(key: &[u8]) -> String {
    const SHOWN_MAX: usize = 64;
    let start = &key[..key.len().min(SHOWN_MAX)];
    let more = if key.len() > SHOWN_MAX { ".." } else { "" };
    format!("{}{more}", start.escape_ascii())
}

impl Error {
    /// The kind of a file error; `None` for errors that are not the disk's.
    pub fn file_kind(&self) -> Option<FileErrorKind> {
        match self {
            Error::File(error) => Some(error.kind()),
            _ => None,
        }
    }

    /// Whether the disk is full, which nothing has changed for.
    pub(crate) fn is_full(&self) -> bool {
        self.file_kind() == Some(FileErrorKind::Full)
    }

    /// Of a handle whose tree is gone. The name may be another tree's by now.
    pub(crate) fn dropped(tree: u32) -> Self {
        Error::NoSuchTree { tree: format!("number {tree} any more: it has been dropped") }
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Error::File(error)
    }
}

impl From<TreeError> for Error {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::File(error) => Error::File(error),
            TreeError::Gone { tree } => Error::dropped(tree),
            lost => Error::Tree(lost),
        }
    }
}
