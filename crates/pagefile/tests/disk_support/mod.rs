//! What the tests of the real disks share: every test runs on each back end that this machine has.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};

use treering_pagefile::{
    AlignedBuf, Completion, Disk, DiskOptions, FileId, IoBackend, IoBuf, Lane, Op, Request,
    open_directory,
};

/// A back end under test: its name, and how to open it.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) options: DiskOptions,
}

impl Variant {
    pub(crate) fn open(&self, path: &Path) -> Arc<dyn Disk> {
        open_directory(path, &self.options).unwrap()
    }

    pub(crate) fn is_uring(&self) -> bool {
        self.options.io == IoBackend::Uring
    }
}

/// All back ends; io_uring only where the kernel allows it.
pub(crate) fn variants() -> Vec<Variant> {
    let options = DiskOptions::default;
    let uring = || DiskOptions { io: IoBackend::Uring, lanes: Some(2), ..options() };
    let all = vec![
        Variant { name: "io_uring", options: uring() },
        Variant { name: "io_uring, one lane", options: DiskOptions { lanes: Some(1), ..uring() } },
        Variant { name: "io_uring, buffered", options: DiskOptions { direct: false, ..uring() } },
        Variant {
            name: "io_uring, no reactor",
            options: DiskOptions { tokio_reactor: false, ..uring() },
        },
        Variant { name: "threads", options: DiskOptions { io: IoBackend::Threads, ..options() } },
    ];
    let here = tempfile::tempdir().unwrap();
    let allowed = open_directory(here.path(), &uring()).is_ok();
    if !allowed {
        eprintln!("this kernel does not allow io_uring: only the threads are tested");
    }
    all.into_iter().filter(|variant| allowed || !variant.is_uring()).collect()
}

/// Runs `test` with a fresh directory and disk for each back end.
pub(crate) fn each(test: impl Fn(&Variant, Arc<dyn Disk>)) {
    for variant in variants() {
        eprintln!("-- {}", variant.name);
        let here = tempfile::tempdir().unwrap();
        test(&variant, variant.open(here.path()));
    }
}

/// The block that every test reads and writes.
pub(crate) const BLOCK: usize = 4096;

/// What block `at` holds, in version `version`.
pub(crate) fn pattern(at: u64, version: u64) -> [u8; 8] {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ version).to_le_bytes()
}

pub(crate) fn block(at: u64, version: u64) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(BLOCK);
    for word in buf.chunks_exact_mut(8) {
        word.copy_from_slice(&pattern(at, version));
    }
    buf
}

pub(crate) fn assert_block(bytes: &[u8], at: u64, version: u64) {
    let expected = pattern(at, version);
    assert!(bytes.chunks_exact(8).all(|word| word == expected), "block {at} is another one");
}

/// A file of `blocks` blocks, written through the disk.
pub(crate) fn filled(disk: &Arc<dyn Disk>, name: &str, blocks: u64) -> FileId {
    let file = disk.open(name, true).unwrap();
    let (done, ended) = collector();
    let mut requests = (0..blocks)
        .map(|at| {
            let buf = IoBuf::Owned(block(at, 0));
            request(file, Op::Write, at * BLOCK as u64, buf, &done, at)
        })
        .collect();
    disk.submit(Lane::Background, &mut requests);
    assert!(requests.is_empty());
    for _ in 0..blocks {
        ended.recv().unwrap().2.unwrap();
    }
    file
}

pub(crate) type Ended = (u64, IoBuf, io::Result<()>);

/// A completion that hands everything to a channel.
pub(crate) struct Collector(mpsc::Sender<Ended>);

impl Completion for Collector {
    fn complete(self: Arc<Self>, token: u64, buf: IoBuf, result: io::Result<()>) {
        // A test that is no longer interested has dropped its end.
        let _ = self.0.send((token, buf, result));
    }
}

pub(crate) fn collector() -> (Arc<Collector>, mpsc::Receiver<Ended>) {
    let (sender, receiver) = mpsc::channel();
    (Arc::new(Collector(sender)), receiver)
}

pub(crate) fn request(
    file: FileId,
    op: Op,
    offset: u64,
    buf: IoBuf,
    done: &Arc<Collector>,
    token: u64,
) -> Request {
    Request { file, op, offset, buf, done: Arc::clone(done) as Arc<dyn Completion>, token }
}

/// Reads of `count` blocks out of `blocks`, in a scattered order; the token is the block.
pub(crate) fn reads(file: FileId, count: u64, blocks: u64, done: &Arc<Collector>) -> Vec<Request> {
    let step = 7919;
    (0..count)
        .map(|number| {
            let at = number * step % blocks;
            let buf = IoBuf::Owned(AlignedBuf::zeroed(BLOCK));
            request(file, Op::Read, at * BLOCK as u64, buf, done, at)
        })
        .collect()
}

/// Waits for `count` reads and checks each against version 0 of its block.
pub(crate) fn expect_reads(ended: &mpsc::Receiver<Ended>, count: u64) {
    for _ in 0..count {
        let (at, buf, result) = ended.recv().unwrap();
        result.unwrap();
        assert_block(&buf.into_owned().unwrap(), at, 0);
    }
}
