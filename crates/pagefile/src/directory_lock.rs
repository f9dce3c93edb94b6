//! One holder per directory, across processes: a `flock` on the file `lock`.
//!
//! The kernel releases the lock when the holder's file is closed, also by a crash, so the file
//! itself stays and says nothing; what it holds is the name for the other one's error message.
//!
//! After a kill the rings hold it on until their last request has ended ([`crate::DiskOptions::lock`]).
//! Whoever opens the database and finds it held in the name of a process that is no more waits for that.
//!
//! Whoever only reads shares the lock with others who do, and leaves the file as it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{FileError, FileErrorKind};
use crate::runtime::Runtime;

const LOCK_FILE: &str = "lock";
/// How long a dead process's last requests may take: a disk that needs longer is not answering.
const LATE_IO_MAX: Duration = Duration::from_secs(30);

/// Holds a directory until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
    shared: bool,
}

/// Why somebody does not get the lock.
enum Refused {
    /// Somebody has it for writing: by the name in the lock file.
    Held(String),
    /// Others read, and the name in the lock file, if there is one, is of somebody who was killed.
    Shared,
    Failed(FileError),
}

impl DirectoryLock {
    /// Takes the lock of the directory `path` and leaves `pid NNN (program)` in its lock file.
    ///
    /// # Errors
    /// [`FileErrorKind::Locked`], naming the holder, when another process or another handle of this
    /// one has it; [`FileErrorKind::Io`] when the lock file cannot be written.
    pub fn acquire(path: &Path) -> Result<Self, FileError> {
        Self::try_acquire(path).map_err(|refused| refused.into_error(path))
    }

    /// Shares the lock of the directory `path` with others who read, writing nothing.
    ///
    /// # Errors
    /// [`FileErrorKind::Locked`], naming the holder, when somebody has it for writing;
    /// [`FileErrorKind::Io`] when there is no lock file, or it cannot be read.
    pub fn share(path: &Path) -> Result<Self, FileError> {
        Self::try_share(path).map_err(|refused| refused.into_error(path))
    }

    /// [`DirectoryLock::acquire`], or [`DirectoryLock::share`] for somebody who only reads. If the one
    /// who has it was killed, waits for the kernel to end what that one had under way.
    ///
    /// # Errors
    /// As those two. Dropping the future leaves things as they were.
    pub async fn acquire_after_the_dead(
        path: &Path,
        read_only: bool,
        runtime: &dyn Runtime,
    ) -> Result<Self, FileError> {
        let begin = runtime.now();
        loop {
            let attempt = if read_only { Self::try_share(path) } else { Self::try_acquire(path) };
            match attempt {
                // Nothing tells when it is over but the lock; and waiting in `flock` would have no
                // end if the name is wrong, that of a process in another container, say.
                Err(Refused::Held(holder))
                    if runtime.now() - begin < LATE_IO_MAX && is_gone(&holder) =>
                {
                    runtime.sleep(Duration::from_millis(1)).await;
                }
                outcome => return outcome.map_err(|refused| refused.into_error(path)),
            }
        }
    }

    fn try_acquire(path: &Path) -> Result<Self, Refused> {
        let lock_path = path.join(LOCK_FILE);
        let failed = |what: &str, error| {
            let doing = format!("{what} the lock file {}", lock_path.display());
            Refused::Failed(FileError::io(doing, error))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| failed("opening", error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(match flock(&file, FlockOperation::NonBlockingLockShared) {
                    Ok(()) => Refused::Shared,
                    Err(_) => Refused::Held(holder(&mut file)),
                });
            }
            Err(errno) => return Err(failed("locking", errno.into())),
        }
        name_holder(&mut file, &me())
            .map_err(|error| failed("writing the holder's name to", error))?;
        Ok(Self { file, shared: false })
    }

    fn try_share(path: &Path) -> Result<Self, Refused> {
        let lock_path = path.join(LOCK_FILE);
        let doing = |what: &str| format!("{what} the lock file {}", lock_path.display());
        let mut file = File::open(&lock_path).map_err(|error| {
            let hint = "(opening the database for writing makes one)";
            Refused::Failed(FileError::io(format!("{} {hint}", doing("opening")), error))
        })?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Self { file, shared: true }),
            Err(Errno::WOULDBLOCK) => Err(Refused::Held(holder(&mut file))),
            Err(errno) => Err(Refused::Failed(FileError::io(doing("locking"), errno.into()))),
        }
    }
}

impl Refused {
    fn into_error(self, path: &Path) -> FileError {
        let holder = match self {
            Self::Held(holder) => holder,
            Self::Shared => "somebody who reads it".into(),
            Self::Failed(error) => return error,
        };
        let path = path.display();
        let message =
            format!("the database directory {path} is in use by {holder}: close it there first");
        FileError::new(FileErrorKind::Locked, message)
    }
}

impl AsRawFd for DirectoryLock {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Whether the process of that name has ended, as far as can be seen from here.
fn is_gone(holder: &str) -> bool {
    let pid = holder.strip_prefix("pid ").and_then(|rest| rest.split(' ').next());
    let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { return false };
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return Path::new("/proc/self/stat").exists();
    };
    // Behind the program's name, which may hold anything: the state; Z has ended, and nobody has
    // asked for its exit status yet.
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
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
    if file.rewind().is_err() {
        return "another process".into();
    }
    // A holder that has just taken the lock may not have written its name yet.
    match file.take(256).read_to_string(&mut name) {
        Ok(_) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => "another process".into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::mem::ManuallyDrop;
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::process::{Child, Command, Stdio};
    use std::sync::{Arc, Mutex, PoisonError};

    use futures::executor::block_on;
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;
    use crate::{DiskOptions, EngineThread, IoBackend, open_directory};

    /// A child has all descriptors of this process, locks included, until it becomes another program.
    static BEARING: Mutex<()> = Mutex::new(());

    fn child() -> Child {
        let _alone = BEARING.lock().unwrap_or_else(PoisonError::into_inner);
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    fn named(process: &Child) -> String {
        format!("pid {} (cat)", process.id())
    }

    #[test]
    fn only_a_process_that_has_ended_is_gone() {
        assert!(!is_gone(&me()));
        assert!(!is_gone("another process"));
        let mut process = child();
        assert!(!is_gone(&named(&process)));
        process.kill().unwrap();
        let id = rustix::process::Pid::from_child(&process);
        waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert!(is_gone(&named(&process)));
        process.wait().unwrap();
        assert!(is_gone(&named(&process)));
    }

    /// The descriptors of a killed process are closed before its last requests have ended.
    #[test]
    fn rings_hold_the_lock_without_a_descriptor() {
        let here = tempfile::tempdir().unwrap();
        let lock = Arc::new(DirectoryLock::acquire(here.path()).unwrap());
        let options = DiskOptions {
            io: IoBackend::Uring,
            lock: Some(Arc::clone(&lock)),
            ..DiskOptions::default()
        };
        let Ok(disk) = open_directory(here.path(), &options) else {
            return eprintln!("skipped: no io_uring here");
        };
        drop(options);
        let mut lock = ManuallyDrop::new(Arc::into_inner(lock).unwrap());
        // In the name of somebody who has ended.
        let mut process = child();
        process.kill().unwrap();
        process.wait().unwrap();
        name_holder(&mut lock.file, &named(&process)).unwrap();
        // SAFETY: the lock is not used again, nor dropped.
        drop(unsafe { OwnedFd::from_raw_fd(lock.as_raw_fd()) });

        let other = File::open(here.path().join(LOCK_FILE)).unwrap();
        let outcome = flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(outcome, Err(Errno::WOULDBLOCK));
        drop(other);
        drop(disk);
        // The kernel lets go of the rings' files a moment later.
        let runtime = EngineThread::start().unwrap();
        let next = DirectoryLock::acquire_after_the_dead(here.path(), false, &runtime);
        block_on(next).unwrap();
    }

    /// The lock file of a killed writer keeps its name, also while others read. A writer waited for that
    /// one's last requests then, for half a minute, before it said what it knew at once.
    #[test]
    fn who_was_killed_is_not_waited_for_while_others_read() {
        let here = tempfile::tempdir().unwrap();
        let mut process = child();
        process.kill().unwrap();
        process.wait().unwrap();
        fs::write(here.path().join(LOCK_FILE), named(&process)).unwrap();
        let reader = DirectoryLock::share(here.path()).unwrap();
        let next = DirectoryLock::acquire_after_the_dead(here.path(), false, &NoTime);
        let error = block_on(next).unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::Locked);
        assert!(error.to_string().contains("somebody who reads it"), "{error}");
        drop(reader);
        let next = DirectoryLock::acquire_after_the_dead(here.path(), false, &NoTime);
        block_on(next).unwrap();
    }

    /// Nothing that a reader has under way changes a file. But its rings held the lock for a moment after
    /// its death, and a writer who came just then was told that somebody reads.
    #[test]
    fn a_readers_rings_do_not_hold_the_lock() {
        let _no_child = BEARING.lock().unwrap_or_else(PoisonError::into_inner);
        let here = tempfile::tempdir().unwrap();
        drop(DirectoryLock::acquire(here.path()).unwrap());
        let lock = Arc::new(DirectoryLock::share(here.path()).unwrap());
        let options = DiskOptions {
            io: IoBackend::Uring,
            read_only: true,
            lock: Some(Arc::clone(&lock)),
            ..DiskOptions::default()
        };
        let Ok(_disk) = open_directory(here.path(), &options) else {
            return eprintln!("skipped: no io_uring here");
        };
        drop(options);
        let lock = ManuallyDrop::new(Arc::into_inner(lock).unwrap());
        // SAFETY: the lock is not used again, nor dropped.
        drop(unsafe { OwnedFd::from_raw_fd(lock.as_raw_fd()) });
        DirectoryLock::acquire(here.path()).unwrap();
    }

    /// Nobody may wait here.
    struct NoTime;

    impl Runtime for NoTime {
        fn spawn(&self, _task: crate::runtime::Spawn) {
            unreachable!("nothing is begun");
        }

        fn now(&self) -> Duration {
            Duration::ZERO
        }

        fn sleep(&self, _delay: Duration) -> futures::future::BoxFuture<'static, ()> {
            panic!("waits for somebody who is not there");
        }
    }
}
