//! A block device in the place of the page file: a link to it, made once, before the database is.
//!
//! Somebody else's data on a device is lost as soon as the first superblock is written, and no file
//! system protects it. So a device has to be blank at its start, where everybody keeps what names a
//! disk's contents, or the caller has to say that it may be overwritten; and it must not be in use.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, symlink};
use std::path::Path;

use crate::error::Error;
use crate::folder::{PAGES, refusal};

/// So many bytes at the start have to be zero.
const BLANK: usize = 1 << 20;

/// Sees to it that the page file of the database in `folder` is `device`; if there is no page file
/// yet, and `create` allows it, by a link.
///
/// # Errors
/// [`crate::ErrorKind::InvalidOptions`] if the pages are elsewhere, if `device` is none, or is not
/// blank and `overwrite` is not set; [`crate::ErrorKind::Io`] if it is in use or cannot be written.
pub(crate) fn link(
    folder: &Path,
    device: &Path,
    create: bool,
    overwrite: bool,
) -> Result<(), Error> {
    let (pages, name) = (folder.join(PAGES), device.display());
    let looking = |source| Error::io(format!("looking at {name}"), source);
    let target = fs::canonicalize(device).map_err(looking)?;
    if fs::symlink_metadata(&pages).is_ok() {
        if fs::canonicalize(&pages).is_ok_and(|there| there == target) {
            return Ok(());
        }
        return Err(refusal(format!("the pages of {} are not on {name}", folder.display())));
    }
    if !fs::metadata(&target).map_err(looking)?.file_type().is_block_device() {
        return Err(refusal(format!("{name} is no block device")));
    }
    if !create {
        return Err(refusal(format!("there is no database in {}", folder.display())));
    }
    blank(&target, overwrite)?;
    let linking = |source| Error::io(format!("linking {} to {name}", pages.display()), source);
    symlink(&target, &pages).map_err(linking)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(linking)
}

/// Makes sure that the start of the device is blank.
fn blank(device: &Path, overwrite: bool) -> Result<(), Error> {
    let name = device.display();
    let io = |what: &str, source| Error::io(format!("{what} {name}"), source);
    // Exclusively: the kernel refuses that for a device that is mounted.
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(O_EXCL);
    let mut file = options.open(device).map_err(|source| io("opening", source))?;
    let mut start = Vec::with_capacity(BLANK);
    let read = (&mut file).take(BLANK as u64).read_to_end(&mut start);
    read.map_err(|source| io("reading the start of", source))?;
    if start.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    if !overwrite {
        return Err(refusal(format!(
            "{name} is not blank: zero its first MiB, or say that it may be overwritten"
        )));
    }
    start.fill(0);
    let written = file.rewind().and_then(|()| file.write_all(&start));
    written.and_then(|()| file.sync_all()).map_err(|source| io("clearing the start of", source))
}

const O_EXCL: i32 = rustix::fs::OFlags::EXCL.bits() as i32;
