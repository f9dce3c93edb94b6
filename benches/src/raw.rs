//! What the disk does without an engine, for the rows that ratios are to.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use treering_pagefile::{
    AlignedBuf, Disk, DiskOptions, IoBuf, Lane, Op, open_directory, sync_file, transfer,
};

/// Bytes of a read or write.
const PIECE: u64 = 1 << 20;

/// What ended a measurement.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Writes about so many bytes to a new file in `folder`, in direct writes of 1 MiB, `at_once` in
/// flight, and syncs it. The file is gone afterwards.
///
/// # Errors
/// Those of the disk.
pub async fn write(folder: &Path, bytes: u64, at_once: u64) -> Result<Duration, Failure> {
    let home = folder.join("raw");
    std::fs::create_dir_all(&home)?;
    let disk: Arc<dyn Disk> = open_directory(&home, &DiskOptions::default())?;
    let file = disk.open("raw", true)?;
    let begun = Instant::now();
    let writer = async |number: u64| {
        let mut buf = AlignedBuf::zeroed(PIECE as usize);
        buf.fill(number as u8 + 1);
        let mut offset = number * PIECE;
        while offset < bytes {
            let (back, written) =
                transfer(&*disk, Lane::Background, file, Op::Write, offset, IoBuf::Owned(buf))
                    .await;
            written?;
            buf = back.into_owned().ok_or("the buffer did not come back")?;
            offset += at_once * PIECE;
        }
        Ok::<(), Failure>(())
    };
    try_join_all((0..at_once).map(writer)).await?;
    sync_file(&*disk, file).await?;
    let took = begun.elapsed();
    drop(disk);
    std::fs::remove_dir_all(&home)?;
    Ok(took)
}

/// Reads the file `name` in `folder` from its start to its end in direct reads of 1 MiB, `at_once` in
/// flight. Returns how many bytes it read.
///
/// # Errors
/// Those of the disk.
pub async fn read(folder: &Path, name: &str, at_once: u64) -> Result<(u64, Duration), Failure> {
    let disk = open_directory(folder, &DiskOptions::default())?;
    let file = disk.open(name, false)?;
    let pieces = disk.len(file)? / PIECE;
    let begun = Instant::now();
    let reader = async |number: u64| {
        for piece in (number..pieces).step_by(at_once as usize) {
            let buf = IoBuf::Owned(AlignedBuf::zeroed(PIECE as usize));
            transfer(&*disk, Lane::Foreground, file, Op::Read, piece * PIECE, buf).await.1?;
        }
        Ok::<(), Failure>(())
    };
    try_join_all((0..at_once).map(reader)).await?;
    Ok((pieces * PIECE, begun.elapsed()))
}
