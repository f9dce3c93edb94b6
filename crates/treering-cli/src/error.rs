//! How a command ends, and the exit code that says so.

use std::io;
use std::process::ExitCode;

use treering::ErrorKind;

/// What a command that ran to its end found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// Something is missing or damaged; the command has said what.
    Wrong,
}

/// Why a command did not run to its end: one sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Wrong(String),
    #[error("{0}")]
    UsedWrongly(String),
    #[error(transparent)]
    Database(#[from] treering::Error),
    /// Standard output was closed by its reader, who has seen enough.
    #[error("nobody reads the output")]
    NobodyReads,
}

impl Failure {
    pub(crate) fn wrong(what: impl Into<String>) -> Self {
        Self::Wrong(what.into())
    }

    pub(crate) fn used_wrongly(what: impl Into<String>) -> Self {
        Self::UsedWrongly(what.into())
    }

    /// A failure to write to standard output.
    pub(crate) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Wrong(format!("writing to standard output: {error}")),
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        let used_wrongly = match self {
            Self::UsedWrongly(_) => true,
            // Nothing was done, and another command line, or another time, would do.
            Self::Database(error) => matches!(
                error.kind(),
                ErrorKind::InvalidInput
                    | ErrorKind::InvalidOptions
                    | ErrorKind::Locked
                    | ErrorKind::NoSuchTree
                    | ErrorKind::Version
            ),
            Self::Wrong(_) | Self::NobodyReads => false,
        };
        ExitCode::from(if used_wrongly { 2 } else { 1 })
    }
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Fine => ExitCode::SUCCESS,
            Verdict::Wrong => ExitCode::from(1),
        }
    }
}
