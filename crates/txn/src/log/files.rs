//! The files of the log: which there are, what their first blocks say, and making segments of them.
//!
//! Nothing here knows which file is in use; the book of that is in `segment.rs`.

use std::io;

use treering_pagefile::{
    AlignedBuf, Disk, FileError, FileErrorKind, FileId, IoBuf, Lane, Op, sync_file, transfer,
};

use super::format::{BLOCK, FirstBlock, SegmentHeader, file_name, slot_of};
use super::segment::Plan;

/// Zeros are written in pieces of this many bytes, so that they delay nobody's commit for long.
const ZEROS: usize = 1 << 20;

/// The files of the log that exist, by slot.
pub(super) fn log_files(disk: &dyn Disk) -> Result<Vec<(u32, FileId)>, FileError> {
    let names = disk.names().map_err(|e| FileError::io("cannot list the files of the log", e))?;
    let mut slots: Vec<u32> = names.iter().filter_map(|name| slot_of(name)).collect();
    slots.sort_unstable();
    slots.into_iter().map(|slot| Ok((slot, open(disk, slot, false)?))).collect()
}

pub(super) fn open(disk: &dyn Disk, slot: u32, create: bool) -> Result<FileId, FileError> {
    let name = file_name(slot);
    disk.open(&name, create).map_err(|e| FileError::io(format!("cannot open log file {name}"), e))
}

pub(super) fn file_len(disk: &dyn Disk, file: FileId) -> Result<u64, FileError> {
    disk.len(file).map_err(|e| doing(disk, "cannot find the length of", file, e))
}

/// Reads the first block of a file of the log.
pub(super) async fn first_block(disk: &dyn Disk, file: FileId) -> Result<FirstBlock, FileError> {
    if file_len(disk, file)? < BLOCK as u64 {
        return Ok(FirstBlock::Nothing);
    }
    let block = disk.read(file, 0, BLOCK).await;
    if block.is_err() && file_len(disk, file)? < BLOCK as u64 {
        // The background has just given the file up; `verify` reads the log of a live engine.
        return Ok(FirstBlock::Nothing);
    }
    let block = block.map_err(|e| doing(disk, "cannot read the first block of", file, e))?;
    Ok(SegmentHeader::decode(&block))
}

/// Makes it no segment any more, durably.
pub(super) async fn wipe(disk: &dyn Disk, file: FileId) -> Result<(), FileError> {
    let written = disk.write(file, Op::WriteDurable, 0, AlignedBuf::zeroed(BLOCK)).await;
    written.map_err(|e| doing(disk, "cannot write the first block of", file, e))
}

/// Carries out a plan: when it returns a file, that file is the segment, durably. `None` when
/// `wanted` said no in between.
///
/// # Errors
/// [`FileErrorKind::Full`] when there is no space for another file; then nothing has happened. Any
/// other error is a failed write. So is a first block that is refused for lack of space, which cannot be
/// on a disk that keeps what it reserves: it may be there all the same, and if another file became the
/// same segment, nobody could tell which of the two it is.
pub(super) async fn prepare(
    disk: &dyn Disk,
    incarnation: u64,
    plan: Plan,
    wanted: impl Fn() -> bool,
) -> Result<Option<FileId>, FileError> {
    let file = match plan.file {
        Some(file) => file,
        None => open(disk, plan.slot, true)?,
    };
    if !plan.formatted && !fill_with_zeros(disk, file, plan.size, wanted).await? {
        return Ok(None);
    }
    let header = SegmentHeader { incarnation, number: plan.number, size: plan.size };
    let written = disk.write(file, Op::WriteDurable, 0, header.encode()).await;
    written
        .map_err(|e| doing(disk, "cannot write the first block of", file, io::Error::other(e)))?;
    Ok(Some(file))
}

async fn fill_with_zeros(
    disk: &dyn Disk,
    file: FileId,
    size: u64,
    wanted: impl Fn() -> bool,
) -> Result<bool, FileError> {
    reserve(disk, file, size).await?;
    let mut zeros = AlignedBuf::zeroed(ZEROS.min(size as usize));
    let mut offset = 0;
    while offset < size {
        if !wanted() {
            return Ok(false);
        }
        let left = (size - offset) as usize;
        if left < zeros.len() {
            zeros = AlignedBuf::zeroed(left);
        }
        let len = zeros.len();
        let buf = IoBuf::Owned(zeros);
        let (buf, written) = transfer(disk, Lane::Background, file, Op::Write, offset, buf).await;
        written.map_err(|e| doing(disk, "cannot fill with zeros:", file, e))?;
        let lost = || io::Error::other("a write gave its buffer away");
        zeros = buf.into_owned().ok_or_else(|| doing(disk, "cannot fill", file, lost()))?;
        offset += len as u64;
    }
    let synced = sync_file(disk, file).await;
    synced.map_err(|e| doing(disk, "cannot sync", file, e))?;
    Ok(true)
}

/// Makes the file `size` bytes long, with space on the disk for all of them.
pub(super) async fn reserve(disk: &dyn Disk, file: FileId, size: u64) -> Result<(), FileError> {
    let len = file_len(disk, file)?;
    if len == size {
        // Reserved before: nothing else makes it so long. To ask again could only lose it.
        return Ok(());
    }
    if len > size {
        shrink(disk, file, size)?;
    }
    let allocate = Op::Allocate { len: size };
    let (_, allocated) = transfer(disk, Lane::Background, file, allocate, 0, IoBuf::None).await;
    if let Err(error) = allocated {
        // Whatever part of it was reserved is given back to those who need it more.
        let error = doing(disk, "cannot reserve space for", file, error);
        shrink(disk, file, 0)?;
        return Err(error);
    }
    Ok(())
}

/// Cuts a file of the log.
pub(super) fn shrink(disk: &dyn Disk, file: FileId, len: u64) -> Result<(), FileError> {
    disk.set_len(file, len).map_err(|e| doing(disk, "cannot shorten", file, e))
}

fn doing(disk: &dyn Disk, what: &str, file: FileId, error: io::Error) -> FileError {
    FileError::io(format!("{what} log file {}", disk.describe(file)), error)
}

/// Damage to the log, at `offset` of `file` (I7).
pub(super) fn damaged(disk: &dyn Disk, file: FileId, offset: u64, what: &str) -> FileError {
    let name = disk.describe(file);
    let message = format!("the log is damaged in {name} at offset {offset}: {what}");
    FileError::new(FileErrorKind::Damaged, message)
}
