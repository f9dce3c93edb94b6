//! Opening a real disk: which back end, and why.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::directory::Directory;
use crate::directory_lock::DirectoryLock;
use crate::disk::Disk;
use crate::error::FileError;
use crate::io_watch::{IoObserver, IoWatch};
use crate::threads::ThreadDisk;

/// Which back end performs the I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IoBackend {
    /// io_uring where the kernel allows it, else threads.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// A pool of threads with `pread` and `pwrite`: works everywhere.
    Threads,
}

/// What a request takes before it is slow, unless [`DiskOptions::slow_io`] says otherwise: longer than
/// any healthy device needs, also with a full queue.
pub const SLOW_IO: Duration = Duration::from_secs(1);

/// How to open a directory as a [`Disk`].
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// The back end.
    pub io: IoBackend,
    /// Rings for the threads of Tokio runtimes: 1 to 64; by default one for each core, at most 32.
    pub lanes: Option<usize>,
    /// Most threads of [`IoBackend::Threads`]: 4 to 16; by default four for each core.
    pub threads: Option<usize>,
    /// Whether O_DIRECT is used where the file system offers it (default). Without it everything
    /// goes through the page cache, and through the background ring.
    pub direct: bool,
    /// Whether Tokio's own reactor may wait for completions (default), which saves a thread hop a
    /// request. A Tokio runtime built without its I/O driver cannot, which shows as a caught panic
    /// in Tokio, once a runtime; a program built with `panic = "abort"` that uses such a runtime
    /// has to turn this off.
    pub tokio_reactor: bool,
    /// Whether files are only read: none is created, and all are opened as such. Writes fail.
    pub read_only: bool,
    /// The lock of the directory. The kernel then holds it, too, until the last request has ended:
    /// what a killed process has under way may reach the files after its death, and with io_uring
    /// also after its descriptors are closed. (Linux 5.19; before, and for who only reads, only the
    /// process holds it.)
    pub lock: Option<Arc<DirectoryLock>>,
    /// A request that takes at least this long is reported by a `tracing` event `slow I/O`, though
    /// not more than one a second: 1 s by default.
    pub slow_io: Duration,
    /// Who is told of all requests that have ended.
    pub observer: Option<Arc<dyn IoObserver>>,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            io: IoBackend::Auto,
            lanes: None,
            threads: None,
            direct: true,
            tokio_reactor: true,
            read_only: false,
            lock: None,
            slow_io: SLOW_IO,
            observer: None,
        }
    }
}

/// Opens the existing directory `path`; a `tracing` event says which back end was picked and why.
///
/// Dropping the disk blocks until everything in flight has ended and its threads are gone (unless
/// it is dropped by a completion: then they end by themselves). So it must not be dropped with a
/// mutex held that a completion takes.
///
/// # Errors
/// When the directory is missing or cannot be written, when threads or rings are refused, and when
/// io_uring was asked for and the kernel does not allow it.
pub fn open_directory(path: &Path, options: &DiskOptions) -> Result<Arc<dyn Disk>, FileError> {
    let watch = IoWatch::new(options.slow_io, options.observer.clone());
    let directory = Directory::open(path, options.direct, options.read_only, watch)?;
    let (disk, why): (Arc<dyn Disk>, String) = match options.io {
        IoBackend::Threads => (threads(directory, options)?, "as asked for".into()),
        IoBackend::Uring => match ring(directory, options) {
            Ok(disk) => (disk, "as asked for".into()),
            Err(refused) => {
                let doing = "setting up io_uring (the threads back end may work)";
                return Err(FileError::io(doing, refused.1));
            }
        },
        IoBackend::Auto => match ring(directory, options) {
            Ok(disk) => (disk, "the kernel allows it".into()),
            Err(refused) => {
                let (directory, error) = *refused;
                tracing::warn!(
                    directory = %path.display(), %error,
                    "no io_uring: threads do the I/O"
                );
                (threads(directory, options)?, format!("no io_uring: {error}"))
            }
        },
    };
    tracing::info!(directory = %path.display(), backend = disk.backend(), why, "opened");
    Ok(disk)
}

fn threads(directory: Directory, options: &DiskOptions) -> Result<Arc<dyn Disk>, FileError> {
    match ThreadDisk::new(directory, options) {
        Ok(disk) => Ok(Arc::new(disk)),
        Err(error) => Err(FileError::io("starting an I/O thread", error)),
    }
}

/// Gives the directory back if the kernel refuses.
pub(crate) type Refused = Box<(Directory, std::io::Error)>;

#[cfg(target_os = "linux")]
fn ring(directory: Directory, options: &DiskOptions) -> Result<Arc<dyn Disk>, Refused> {
    Ok(Arc::new(crate::uring::UringDisk::new(directory, options)?))
}

#[cfg(not(target_os = "linux"))]
fn ring(directory: Directory, _options: &DiskOptions) -> Result<Arc<dyn Disk>, Refused> {
    Err(Box::new((directory, std::io::Error::other("this system has none"))))
}
