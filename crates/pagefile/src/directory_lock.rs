//! One holder per directory, across processes: a `flock` on the file `lock`.
//!
//! The kernel releases the lock when the holder's file is closed, also by a crash, so the file
//! itself stays and says nothing; what it holds is only the name for the other one's error message.
//!
//! Whoever only reads shares the lock with others who do, and leaves the file as it is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{FileError, FileErrorKind};

const LOCK_FILE: &str = "lock";

/// Holds a directory until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
    shared: bool,
}

impl DirectoryLock {
    /// Takes the lock of the directory `path` and leaves `pid NNN (program)` in its lock file.
    ///
    /// # Errors
    /// [`FileErrorKind::Locked`], naming the holder, when another process or another handle of this
    /// one has it; [`FileErrorKind::Io`] when the lock file cannot be written.
    pub fn acquire(path: &Path) -> Result<Self, FileError> {
        let lock_path = path.join(LOCK_FILE);
        let doing = |what: &str| format!("{what} the lock file {}", lock_path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| FileError::io(doing("opening"), error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                // A name in it may be that of somebody who was killed.
                let holder = match flock(&file, FlockOperation::NonBlockingLockShared) {
                    Ok(()) => "somebody who reads it".into(),
                    Err(_) => holder(&mut file),
                };
                return Err(locked(path, &holder));
            }
            Err(errno) => return Err(FileError::io(doing("locking"), errno.into())),
        }
        name_holder(&mut file, &me())
            .map_err(|error| FileError::io(doing("writing the holder's name to"), error))?;
        Ok(Self { file, shared: false })
    }

    /// Shares the lock of the directory `path` with others who read, writing nothing.
    ///
    /// # Errors
    /// [`FileErrorKind::Locked`], naming the holder, when somebody has it for writing;
    /// [`FileErrorKind::Io`] when there is no lock file, or it cannot be read.
    pub fn share(path: &Path) -> Result<Self, FileError> {
        let lock_path = path.join(LOCK_FILE);
        let doing = |what: &str| format!("{what} the lock file {}", lock_path.display());
        let mut file = File::open(&lock_path).map_err(|error| {
            let hint = "(opening the database for writing makes one)";
            FileError::io(format!("{} {hint}", doing("opening")), error)
        })?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Self { file, shared: true }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(locked(path, &holder(&mut file))),
            Err(errno) => Err(FileError::io(doing("locking"), errno.into())),
        }
    }
}

fn locked(path: &Path, holder: &str) -> FileError {
    let path = path.display();
    let message =
        format!("the database directory {path} is in use by {holder}: close it there first");
    FileError::new(FileErrorKind::Locked, message)
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        if !self.shared {
            // For people who look at the file.
            let _ = self.file.set_len(0);
        }
        // Closing the descriptor would do, but for a child process that is just being started and
        // holds a copy of it until its `exec`: with that the lock would stay for a moment longer.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn me() -> String {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(Path::file_name);
    let program = program.map_or("unknown program".into(), |name| name.to_string_lossy());
    format!("pid {} ({program})", std::process::id())
}

fn name_holder(file: &mut File, name: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{name}")
}

fn holder(file: &mut File) -> String {
    let mut name = String::new();
    // A holder that has just taken the lock may not have written its name yet.
    match file.take(256).read_to_string(&mut name) {
        Ok(_) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => "another process".into(),
    }
}
