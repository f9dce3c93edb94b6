//! What the tests of the simulation share.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is to panic")]

use std::io;

use treering_pagefile::sim::{Sim, SimDisk};
use treering_pagefile::{AlignedBuf, Disk, FileId, IoBuf, Lane, Op, transfer};

/// `len` bytes of `byte`.
pub(crate) fn filled(byte: u8, len: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(len);
    buf.fill(byte);
    buf
}

/// One request to its end.
pub(crate) async fn io(
    disk: &SimDisk,
    file: FileId,
    op: Op,
    offset: u64,
    buf: IoBuf,
) -> io::Result<()> {
    transfer(disk, Lane::Background, file, op, offset, buf).await.1
}

/// Writes `len` bytes of `byte`.
pub(crate) async fn put(
    disk: &SimDisk,
    file: FileId,
    op: Op,
    offset: u64,
    byte: u8,
    len: usize,
) -> io::Result<()> {
    io(disk, file, op, offset, IoBuf::Owned(filled(byte, len))).await
}

pub(crate) async fn sync(disk: &SimDisk, file: FileId) -> io::Result<()> {
    io(disk, file, Op::Sync, 0, IoBuf::None).await
}

pub(crate) async fn allocate(
    disk: &SimDisk,
    file: FileId,
    offset: u64,
    len: u64,
) -> io::Result<()> {
    io(disk, file, Op::Allocate { len }, offset, IoBuf::None).await
}

pub(crate) async fn get(
    disk: &SimDisk,
    file: FileId,
    offset: u64,
    len: usize,
) -> io::Result<Vec<u8>> {
    (disk as &dyn Disk).read(file, offset, len).await.map(|buf| buf.to_vec())
}

/// A machine whose disk has one file, `f`, of zeros, durable.
pub(crate) fn with_file(seed: u64, len: u64) -> (Sim, FileId) {
    let sim = Sim::new(seed);
    let disk = sim.disk();
    let file = disk.open("f", true).unwrap();
    sim.run(allocate(&disk, file, 0, len)).unwrap().unwrap();
    (sim, file)
}
