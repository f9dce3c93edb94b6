//! What goes wrong below the tree, in a form that many waiters can share.

use std::io;
use std::sync::{Arc, OnceLock};

use event_listener::{Event, EventListener};

/// What a caller can do about a [`FileError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileErrorKind {
    /// The operating system refused or failed an I/O.
    Io,
    /// Bytes on disk are not what was written (I7).
    Damaged,
    /// What was opened is no treering database.
    NotADatabase,
    /// A database of another format version.
    Version,
    /// The page size asked for is not the database's.
    PageSize,
    /// Another process or handle has the database open.
    Locked,
    /// There is no room for growth; deletes, checkpoints and a larger disk help (I13).
    Full,
    /// The engine was closed while this was under way.
    Closed,
    /// An earlier write or sync failed; the database has to be reopened (I8).
    Poisoned,
}

/// An error of the page file, the log or the disk under them. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct FileError {
    kind: FileErrorKind,
    message: String,
    #[source]
    source: Option<Arc<io::Error>>,
}

impl FileError {
    /// An error that is not an I/O error of the operating system. The message says what was being
    /// done, to which file, page or offset, and what to do next.
    pub fn new(kind: FileErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// An I/O error; `doing` says what was being done to which file and offset.
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let kind = if full { FileErrorKind::Full } else { FileErrorKind::Io };
        let doing = doing.into();
        let message = match kind {
            FileErrorKind::Full => format!(
                "{doing}: the disk is full ({source}); make room on it, or delete something, then \
                 try again"
            ),
            _ => format!("{doing}: {source}"),
        };
        Self { kind, message, source: Some(Arc::new(source)) }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> FileErrorKind {
        self.kind
    }
}

/// Whether the engine may go on (I8): the first failed write or sync of the log or of a checkpoint
/// is kept here, and every later call answers with it.
#[derive(Debug, Default)]
pub struct Health {
    poison: OnceLock<FileError>,
    poisoned: Event,
    is_of_a_copy: bool,
}

impl Health {
    /// The health of a copy in the making. What fails there ends the copy, and not the database that is
    /// copied: the error is told as it was, and nobody is told to reopen anything.
    pub fn of_a_copy() -> Self {
        Self { is_of_a_copy: true, ..Self::default() }
    }

    /// Keeps `error` if it is the first; returns the error that poisoned the engine.
    pub fn poison(&self, error: FileError) -> FileError {
        let first = self.poison.get_or_init(|| {
            if self.is_of_a_copy {
                return error;
            }
            tracing::error!(%error, "the engine is poisoned: reopen the database");
            FileError {
                kind: FileErrorKind::Poisoned,
                message: format!(
                    "the database stopped after a failure ({error}); reopen it: everything \
                     acknowledged as durable will be there"
                ),
                source: error.source,
            }
        });
        self.poisoned.notify(usize::MAX);
        first.clone()
    }

    /// Is woken when the engine is poisoned. Listen first, then [`Health::check`].
    pub fn listen(&self) -> EventListener {
        self.poisoned.listen()
    }

    /// The error that poisoned the engine, if one did.
    pub fn check(&self) -> Result<(), FileError> {
        self.poison.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}
