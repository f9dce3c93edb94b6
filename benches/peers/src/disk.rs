//! The disk itself: what one small durable write takes, without an engine.

use std::fs::OpenOptions;
use std::io::IoSlice;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::{ReadWriteFlags, pwritev2};

use crate::engine::Result;
use crate::measure::{Measured, Unit};
use crate::rows::Task;

/// Its name among the engines' figures.
pub const DISK: &str = "disk";

/// The row that it has.
pub const RAW: &str = "one 4 KiB durable write after the other: p50";

const BLOCK: usize = 4096;
const BLOCKS: u64 = 4096;

/// Memory that direct I/O takes.
#[repr(align(4096))]
struct Block([u8; BLOCK]);

/// Writes 4 KiB after 4 KiB with direct I/O over blocks that were written before, each durable when it
/// returns (`RWF_DSYNC`).
pub fn run(task: &Task) -> Result<()> {
    std::fs::create_dir_all(&task.folder)?;
    let path = task.folder.join("raw");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.custom_flags(OFlags::DIRECT.bits() as i32).open(&path)?;
    let block = Block([7; BLOCK]);
    for at in 0..BLOCKS {
        file.write_all_at(&block.0, at * BLOCK as u64)?;
    }
    file.sync_all()?;
    let until = Instant::now() + Duration::from_secs_f64(task.seconds);
    let mut times = Vec::new();
    while Instant::now() < until {
        let offset = times.len() as u64 % BLOCKS * BLOCK as u64;
        let began = Instant::now();
        let written = pwritev2(&file, &[IoSlice::new(&block.0)], offset, ReadWriteFlags::DSYNC)?;
        times.push(began.elapsed());
        if written != BLOCK {
            return Err(format!("a write of {BLOCK} bytes wrote {written}").into());
        }
    }
    std::fs::remove_file(path)?;
    times.sort_unstable();
    let p50 = times.get(times.len() / 2).ok_or("there was no time for a write")?;
    let value = p50.as_secs_f64() * 1e6;
    let by = "1 thread".into();
    let measured = Measured { row: RAW.into(), unit: Unit::Micros, value, by };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
