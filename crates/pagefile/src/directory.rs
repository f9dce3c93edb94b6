//! What the two real disks share: a directory, its open files, and how they may be accessed.
//!
//! Whether the file system takes O_DIRECT, and in which blocks, is found out once, on an unnamed
//! file in the directory itself: nothing of the probe is left behind, and a directory that cannot
//! be written is noticed before anything else happens. Files are never closed while the disk lives,
//! so that an in-flight I/O's file costs one reference count.
//!
//! A directory that is only read is not touched at all: the page file itself is the probe, and every
//! file is opened for reading.
//!
//! A name may be a link to a block device. It has the length that it has: allocating takes it as far
//! as it goes, and cutting does nothing.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use crate::disk::FileId;
use crate::error::FileError;
use crate::io_watch::IoWatch;
use crate::open::PAGES;
use crate::sync_share::SyncShare;
use crate::work::lock;

/// Blocks are at least this many bytes, also where the device would take less.
const BLOCK_MIN: usize = 512;
/// Blocks are at most this many bytes; a device that wants more is accessed through the page cache.
const BLOCK_MAX: usize = 4096;

/// An open directory of files.
pub(crate) struct Directory {
    path: PathBuf,
    handle: File,
    direct: bool,
    read_only: bool,
    block_size: usize,
    /// Held while a file is opened, so that two who open the same name get the same file.
    opening: Mutex<()>,
    /// Never locked over a system call that may take long: every submission reads it.
    files: RwLock<Files>,
    watch: Arc<IoWatch>,
}

/// The open files: a [`FileId`] is an index into `open`.
#[derive(Default)]
pub(crate) struct Files {
    ids: HashMap<String, FileId>,
    open: Vec<Arc<OpenFile>>,
}

pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Whether it was opened with O_DIRECT.
    pub(crate) direct: bool,
    pub(crate) block_size: usize,
    /// The length of a block device; `None` for a file.
    pub(crate) device_len: Option<u64>,
    pub(crate) syncs: SyncShare,
    pub(crate) watch: Arc<IoWatch>,
}

impl Directory {
    /// Opens an existing directory; `direct` is whether O_DIRECT is wanted where it works.
    /// With `read_only`, nothing in it is created or written.
    pub(crate) fn open(
        path: &Path,
        direct: bool,
        read_only: bool,
        watch: IoWatch,
    ) -> Result<Self, FileError> {
        let doing = |what: &str| format!("{what} the database directory {}", path.display());
        let handle = File::open(path).map_err(|error| FileError::io(doing("opening"), error))?;
        let is_dir = handle.metadata().map(|data| data.is_dir());
        if !is_dir.map_err(|error| FileError::io(doing("looking at"), error))? {
            let error = io::Error::from(io::ErrorKind::NotADirectory);
            return Err(FileError::io(doing("opening"), error));
        }
        let access = if read_only {
            probe_reading(path, direct)
                .map_err(|error| FileError::io(doing("opening the page file in"), error))?
        } else {
            probe(path, direct).map_err(|error| {
                FileError::io(doing("creating a file (is it read-only?) in"), error)
            })?
        };
        let (direct, block_size) = match access {
            Access::Direct { block_size } => (true, block_size),
            Access::Buffered { reason } => {
                if direct {
                    tracing::warn!(
                        directory = %path.display(), reason,
                        "no O_DIRECT here: reads and writes go through the page cache"
                    );
                }
                (false, BLOCK_MIN)
            }
        };
        let device_block = device_block(&path.join(PAGES))
            .map_err(|error| FileError::io(doing("looking at the page file in"), error))?;
        let block_size = block_size.max(device_block);
        let path = path.to_path_buf();
        let (opening, files) = (Mutex::default(), RwLock::default());
        let watch = Arc::new(watch);
        Ok(Self { path, handle, direct, read_only, block_size, opening, files, watch })
    }

    pub(crate) fn watch(&self) -> &IoWatch {
        &self.watch
    }

    pub(crate) fn block_size(&self) -> usize {
        self.block_size
    }

    /// "O_DIRECT, blocks of 512 bytes" or "buffered": the end of a back end's description.
    pub(crate) fn access(&self) -> String {
        if self.direct {
            format!("O_DIRECT, blocks of {} bytes", self.block_size)
        } else {
            "buffered".into()
        }
    }

    pub(crate) fn files(&self) -> RwLockReadGuard<'_, Files> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn file(&self, id: FileId) -> Arc<OpenFile> {
        Arc::clone(self.files().get(id))
    }

    pub(crate) fn open_file(&self, name: &str, create: bool) -> io::Result<FileId> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            let message = format!("{name:?} is no name of a file in a database directory");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let _opening = lock(&self.opening);
        if let Some(&id) = self.files().ids.get(name) {
            return Ok(id);
        }
        let path = self.path.join(name);
        let create = create && !self.read_only;
        let (file, direct) = match open_existing(&path, self.direct, self.read_only) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                open_any(OpenOptions::new().create_new(true), &path, self.direct)?
            }
            opened => opened?,
        };
        if create {
            // Also when it exists: whoever created it may have been killed before this line.
            self.handle.sync_all()?;
        }
        let block_size = self.block_size;
        let (device_len, syncs) = (device_len(&file)?, SyncShare::default());
        let watch = Arc::clone(&self.watch);
        let open = OpenFile { file, path, direct, block_size, device_len, syncs, watch };
        let file = Arc::new(open);
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let id = FileId(u32::try_from(files.open.len()).map_err(io::Error::other)?);
        files.open.push(file);
        files.ids.insert(name.to_owned(), id);
        Ok(id)
    }

    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) fn len(&self, id: FileId) -> io::Result<u64> {
        let file = self.file(id);
        match file.device_len {
            Some(len) => Ok(len),
            None => Ok(file.file.metadata()?.len()),
        }
    }

    pub(crate) fn set_len(&self, id: FileId, len: u64) -> io::Result<()> {
        let file = self.file(id);
        match file.device_len {
            Some(_) => file.extend_to(len),
            None => file.file.set_len(len),
        }
    }

    pub(crate) fn has_fixed_len(&self, id: FileId) -> bool {
        self.file(id).device_len.is_some()
    }

    pub(crate) fn describe(&self, id: FileId) -> String {
        self.file(id).path.display().to_string()
    }
}

impl Files {
    pub(crate) fn get(&self, id: FileId) -> &Arc<OpenFile> {
        self.open.get(id.0 as usize).expect("a file id comes from this disk's own `open`")
    }
}

impl OpenFile {
    /// Extends the file to `end` where the file system cannot reserve space. A device has space up
    /// to its end.
    pub(crate) fn extend_to(&self, end: u64) -> io::Result<()> {
        if let Some(len) = self.device_len {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return if end <= len { Ok(()) } else { Err(full) };
        }
        if self.file.metadata()?.len() < end { self.file.set_len(end) } else { Ok(()) }
    }
}

enum Access {
    Direct { block_size: usize },
    Buffered { reason: &'static str },
}

fn open_existing(path: &Path, direct: bool, read_only: bool) -> io::Result<(File, bool)> {
    if read_only {
        let mut options = OpenOptions::new();
        return open_with(options.read(true), path, direct, false);
    }
    open_any(&mut OpenOptions::new(), path, direct)
}

/// Opens for reading and writing, with O_DIRECT if wanted and possible.
fn open_any(options: &mut OpenOptions, path: &Path, direct: bool) -> io::Result<(File, bool)> {
    open_with(options.read(true).write(true), path, direct, true)
}

fn open_with(
    options: &mut OpenOptions,
    path: &Path,
    direct: bool,
    writing: bool,
) -> io::Result<(File, bool)> {
    #[cfg(target_os = "linux")]
    if direct {
        use std::os::unix::fs::OpenOptionsExt;
        match options.clone().custom_flags(libc::O_DIRECT).open(path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                tracing::warn!(file = %path.display(), "no O_DIRECT for this file");
                // A creating open may have left the file behind before it failed.
                let opened = options.clone().create_new(false).create(writing).open(path)?;
                return Ok((opened, false));
            }
            opened => return opened.map(|file| (file, true)),
        }
    }
    let _ = (direct, writing);
    Ok((options.open(path)?, false))
}

#[cfg(target_os = "linux")]
fn probe(path: &Path, direct: bool) -> io::Result<Access> {
    use rustix::io::Errno;
    use std::os::unix::fs::OpenOptionsExt;

    let unnamed = |flags| {
        let flags = libc::O_TMPFILE | flags;
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
    };
    let is = |error: &io::Error, errnos: &[Errno]| {
        errnos.iter().any(|errno| Some(errno.raw_os_error()) == error.raw_os_error())
    };
    let named = |flags| {
        let name = path.join(format!(".probe-{}", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(flags)
            .open(&name);
        // Removed also when the open failed: O_DIRECT is refused after the file was created.
        let _ = std::fs::remove_file(&name);
        file
    };
    let create = |flags| match unnamed(flags) {
        Err(error) if is(&error, &[Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL]) => named(flags),
        opened => opened,
    };

    create(0)?;
    if !direct {
        return Ok(Access::Buffered { reason: "not wanted" });
    }
    let file = match create(libc::O_DIRECT) {
        Ok(file) => file,
        Err(error) if is(&error, &[Errno::INVAL, Errno::OPNOTSUPP]) => {
            return Ok(Access::Buffered { reason: "the file system refuses it" });
        }
        Err(error) => return Err(error),
    };
    Ok(access_to(&file))
}

/// How a file that was opened with O_DIRECT may be accessed.
#[cfg(target_os = "linux")]
fn access_to(file: &File) -> Access {
    use rustix::fs::{AtFlags, StatxFlags, statx};

    let Ok(stat) = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) else {
        return Access::Direct { block_size: BLOCK_MAX };
    };
    if stat.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        // A kernel or a file system that does not tell: the largest block suits all.
        return Access::Direct { block_size: BLOCK_MAX };
    }
    let block = stat.stx_dio_mem_align.max(stat.stx_dio_offset_align) as usize;
    match block {
        0 => Access::Buffered { reason: "the file system does not offer it" },
        1..=BLOCK_MAX => Access::Direct { block_size: block.next_power_of_two().max(BLOCK_MIN) },
        _ => Access::Buffered { reason: "its blocks are larger than 4 KiB" },
    }
}

/// As `probe`, on the page file that is there.
#[cfg(target_os = "linux")]
fn probe_reading(path: &Path, direct: bool) -> io::Result<Access> {
    if !direct {
        return Ok(Access::Buffered { reason: "not wanted" });
    }
    match open_existing(&path.join(PAGES), true, true) {
        Ok((file, true)) => Ok(access_to(&file)),
        Ok((_, false)) => Ok(Access::Buffered { reason: "the file system refuses it" }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Access::Buffered { reason: "there is no page file" })
        }
        Err(error) => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
fn probe_reading(_path: &Path, _direct: bool) -> io::Result<Access> {
    Ok(Access::Buffered { reason: "not known on this system" })
}

/// The length of a block device.
fn device_len(file: &File) -> io::Result<Option<u64>> {
    use std::io::{Seek, SeekFrom};
    use std::os::unix::fs::FileTypeExt;
    if !file.metadata()?.file_type().is_block_device() {
        return Ok(None);
    }
    // Their metadata say that they are empty.
    let mut file = file;
    file.seek(SeekFrom::End(0)).map(Some)
}

/// Bytes of a block of the device at `path`; 0 if it is none.
#[cfg(target_os = "linux")]
fn device_block(path: &Path) -> io::Result<usize> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::metadata(path) {
        Ok(data) if data.file_type().is_block_device() => {
            let device = File::open(path)?;
            Ok(rustix::fs::ioctl_blksszget(&device)? as usize)
        }
        // Whatever is wrong with it shows when it is opened.
        _ => Ok(0),
    }
}

#[cfg(not(target_os = "linux"))]
fn device_block(_path: &Path) -> io::Result<usize> {
    Ok(0)
}

#[cfg(not(target_os = "linux"))]
fn probe(path: &Path, _direct: bool) -> io::Result<Access> {
    let name = path.join(format!(".probe-{}", std::process::id()));
    File::create(&name)?;
    std::fs::remove_file(&name)?;
    Ok(Access::Buffered { reason: "not known on this system" })
}
