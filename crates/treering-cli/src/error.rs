//! How a command ends, and the exit code that says so.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

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
    #[error("{}", in_words(.0))]
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

/// What the engine says, and what to do about it where that does not say so itself.
fn in_words(error: &treering::Error) -> String {
    let said = error.to_string();
    match cure(error.kind(), cause(error), &said) {
        Some(cure) => format!("{said}; {cure}"),
        None => said,
    }
}

fn cure(kind: ErrorKind, cause: Option<io::ErrorKind>, said: &str) -> Option<&'static str> {
    let cure = match kind {
        ErrorKind::Version => {
            "use the release that wrote it: `treering dump` with that one, `treering restore` with \
             this one"
        }
        ErrorKind::Damaged if !said.contains("backup") => {
            "`treering verify` says what is damaged, if it can be opened; what is, comes from a backup"
        }
        ErrorKind::Io => match cause? {
            // Refused by a rule, or there is none of it, as in a sandbox.
            io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
                if said.contains("io_uring") =>
            {
                "`--io auto` uses threads where this system refuses io_uring"
            }
            io::ErrorKind::PermissionDenied => {
                "run this as the user who owns the folder, or give this one the right to read and \
                 write all that is in it"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "the database is opened for writing, so copy it to where one can write"
            }
            io::ErrorKind::OutOfMemory => "ask for less: --cache, or a limit of this system",
            io::ErrorKind::NotFound => {
                "something has removed a part of the database: restore a backup"
            }
            _ => "the system's own log may say more; the database is as it was",
        },
        _ => return None,
    };
    Some(cure)
}

/// What the operating system said, if it was that.
fn cause(error: &treering::Error) -> Option<io::ErrorKind> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let shared = error.downcast_ref::<Arc<io::Error>>().map(|error| error.kind());
        if let Some(kind) = shared.or(error.downcast_ref().map(io::Error::kind)) {
            return Some(kind);
        }
        next = error.source();
    }
    None
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Fine => ExitCode::SUCCESS,
            Verdict::Wrong => ExitCode::from(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_cure_and_what_has_one_already_gets_no_second() {
        let of_io = |cause, said: &str| cure(ErrorKind::Io, Some(cause), said).unwrap();
        let causes = [
            (io::ErrorKind::PermissionDenied, "opening db", "run this as the user"),
            (io::ErrorKind::PermissionDenied, "setting up io_uring", "--io auto"),
            (io::ErrorKind::Unsupported, "setting up io_uring", "--io auto"),
            (io::ErrorKind::ReadOnlyFilesystem, "opening db", "copy it"),
            (io::ErrorKind::OutOfMemory, "reserving memory", "--cache"),
            (io::ErrorKind::NotFound, "opening db/log-00", "restore a backup"),
            (io::ErrorKind::Other, "reading db/pages", "the system's own log"),
        ];
        for (cause, said, words) in causes {
            assert!(of_io(cause, said).contains(words), "{cause:?}");
        }
        assert_eq!(cure(ErrorKind::Io, None, "an error of nobody"), None);
        assert!(cure(ErrorKind::Version, None, "version 9").is_some_and(|c| c.contains("dump")));
        let damaged = |said| cure(ErrorKind::Damaged, None, said);
        assert!(damaged("the log is damaged").is_some_and(|cure| cure.contains("verify")));
        assert_eq!(damaged("page 1 is damaged; restore it from a backup"), None);
        // These say what to do themselves.
        for kind in [ErrorKind::Full, ErrorKind::Locked, ErrorKind::InvalidOptions] {
            assert_eq!(cure(kind, None, "said"), None);
        }
    }
}
