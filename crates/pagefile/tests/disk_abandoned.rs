//! I/O whose caller has gone: its future, its thread, its disk. The buffer stays with the I/O (I12),
//! every completion runs, and nothing waits for ever.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod disk_support;

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Waker};
use std::thread;

use disk_support::{
    BLOCK, assert_block, block, collector, each, expect_reads, filled, reads, request, variants,
};
use futures::executor::block_on;
use treering_pagefile::{AlignedBuf, Completion, Disk, IoBuf, Lane, Op, Request};

const LEN: u64 = BLOCK as u64;

/// If a dropped future freed its buffer, the next allocation of that size would get the same memory
/// and find another block in it.
#[test]
fn dropping_a_future_leaves_the_buffer_with_the_kernel() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 64);
        let mut guards: Vec<AlignedBuf> = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        for number in 0..3000u64 {
            {
                let mut read = pin!(disk.read(file, number % 64 * LEN, BLOCK));
                let _ = read.as_mut().poll(&mut cx);
            }
            let mut guard = AlignedBuf::zeroed(BLOCK);
            guard.fill(0x55);
            guards.push(guard);
            if guards.len() == 100 {
                assert!(guards.drain(..).all(|buf| buf.iter().all(|&byte| byte == 0x55)));
            }
        }
        drop(disk);
        assert!(guards.iter().all(|buf| buf.iter().all(|&byte| byte == 0x55)));
    });
}

#[test]
fn a_write_whose_future_was_dropped_is_still_performed() {
    for variant in variants() {
        let here = tempfile::tempdir().unwrap();
        let disk = variant.open(here.path());
        let file = disk.open("pages", true).unwrap();
        for at in 0..500 {
            let write = disk.write(file, Op::Write, at * LEN, block(at, 3));
            let mut write = pin!(write);
            let _ = write.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        drop(disk);
        let disk = variant.open(here.path());
        let file = disk.open("pages", false).unwrap();
        for at in 0..500 {
            assert_block(&block_on(disk.read(file, at * LEN, BLOCK)).unwrap(), at, 3);
        }
    }
}

#[test]
fn dropping_the_disk_waits_for_everything_in_flight() {
    each(|variant, disk| {
        let file = disk.open("pages", true).unwrap();
        let (done, ended) = collector();
        for lane in [Lane::Foreground, Lane::Background] {
            let mut writes: Vec<Request> = (0..1000)
                .map(|at| {
                    let buf = IoBuf::Owned(block(at, 0));
                    request(file, Op::Write, at * LEN, buf, &done, at)
                })
                .collect();
            writes.push(request(file, Op::Sync, 0, IoBuf::None, &done, 0));
            writes.push(request(file, Op::Sync, 0, IoBuf::None, &done, 0));
            disk.submit(lane, &mut writes);
        }
        drop(disk);
        let results: Vec<_> = ended.try_iter().collect();
        assert_eq!(results.len(), 2004, "{}", variant.name);
        assert!(results.iter().all(|(_, _, result)| result.is_ok()));
    });
}

/// The last handle of a disk, in the hands of a completion.
struct Last {
    disk: Mutex<Option<Arc<dyn Disk>>>,
    dropped: mpsc::Sender<()>,
}

impl Completion for Last {
    fn complete(self: Arc<Self>, _: u64, _: IoBuf, result: std::io::Result<()>) {
        result.unwrap();
        let disk = self.disk.lock().unwrap().take();
        drop(disk);
        self.dropped.send(()).unwrap();
    }
}

#[test]
fn a_completion_may_drop_the_last_handle_of_its_disk() {
    for lane in [Lane::Foreground, Lane::Background] {
        each(|_, disk| {
            let file = filled(&disk, "pages", 64);
            let (done, ended) = collector();
            let (dropped, was_dropped) = mpsc::channel();
            let weak = Arc::downgrade(&disk);
            let mut requests = reads(file, 100, 64, &done);
            let last = Arc::new(Last { disk: Mutex::new(None), dropped });
            requests[50].done = Arc::clone(&last) as Arc<dyn Completion>;
            // The completion may come before this thread has let go of the disk, so it gets its
            // handle under its lock.
            let mut handle = last.disk.lock().unwrap();
            disk.submit(lane, &mut requests);
            *handle = Some(disk);
            drop(handle);
            was_dropped.recv().unwrap();
            expect_reads(&ended, 99);
            assert!(weak.upgrade().is_none());
        });
    }
}

#[test]
fn threads_may_end_with_their_io_in_flight() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 128);
        let (done, ended) = collector();
        for _ in 0..20 {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        disk.submit(Lane::Foreground, &mut reads(file, 30, 128, &done));
                    });
                }
            });
        }
        expect_reads(&ended, 20 * 4 * 30);
        // Writes that extend the file may go through a kernel worker of the thread that ends.
        let (done, ended) = collector();
        thread::scope(|scope| {
            for number in 0..10 {
                let (disk, done) = (&disk, &done);
                scope.spawn(move || {
                    let mut writes = (0..20)
                        .map(|at| {
                            let at = 128 + number * 20 + at;
                            let buf = IoBuf::Owned(block(at, 0));
                            request(file, Op::Write, at * LEN, buf, done, at)
                        })
                        .collect();
                    disk.submit(Lane::Foreground, &mut writes);
                });
            }
        });
        for _ in 0..200 {
            ended.recv().unwrap().2.unwrap();
        }
        for at in 128..328 {
            assert_block(&block_on(disk.read(file, at * LEN, BLOCK)).unwrap(), at, 0);
        }
    });
}
