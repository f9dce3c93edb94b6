//! Requests on the real disks: what is written is read back, whole or with an error, in any number.

mod disk_support;

use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;

use disk_support::{
    BLOCK, assert_block, block, collector, each, expect_reads, filled, reads, request,
};
use futures::executor::block_on;
use treering_pagefile::{AlignedBuf, IoBuf, Lane, Op, sync_file, transfer};

const LEN: u64 = BLOCK as u64;

#[test]
fn what_is_written_is_read_back_at_any_offset() {
    each(|_, disk| {
        let file = disk.open("pages", true).unwrap();
        for at in [0, 1, 7, 1000, 1 << 20] {
            let (op, lane) = match at % 3 {
                0 => (Op::Write, Lane::Background),
                1 => (Op::WriteDurable, Lane::Foreground),
                _ => (Op::Write, Lane::Foreground),
            };
            let buf = IoBuf::Owned(block(at, 1));
            block_on(transfer(&*disk, lane, file, op, at * LEN, buf)).1.unwrap();
            assert_block(&block_on(disk.read(file, at * LEN, BLOCK)).unwrap(), at, 1);
        }
        assert_eq!(disk.len(file).unwrap(), ((1 << 20) + 1) * LEN);
        let hole = block_on(disk.read(file, 500 * LEN, BLOCK)).unwrap();
        assert!(hole.iter().all(|&byte| byte == 0));
        // One large transfer over many blocks.
        let large = block_on(disk.read(file, 0, 1001 * BLOCK)).unwrap();
        assert_block(&large[1000 * BLOCK..], 1000, 1);
    });
}

#[test]
fn smallest_blocks_work() {
    each(|_, disk| {
        let size = disk.block_size();
        assert!((512..=4096).contains(&size) && size.is_power_of_two());
        let file = disk.open("small", true).unwrap();
        let mut buf = AlignedBuf::zeroed(size);
        buf.fill(7);
        block_on(disk.write(file, Op::Write, 3 * size as u64, buf)).unwrap();
        let read = block_on(disk.read(file, 3 * size as u64, size)).unwrap();
        assert!(read.iter().all(|&byte| byte == 7));
    });
}

#[test]
fn a_read_beyond_the_end_is_an_unexpected_eof() {
    each(|variant, disk| {
        let file = filled(&disk, "pages", 2);
        for (offset, len) in [(2 * LEN, BLOCK), (LEN, 2 * BLOCK), (100 * LEN, BLOCK)] {
            let error = block_on(disk.read(file, offset, len)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{}: {error}", variant.name);
        }
        // The end lies within a block.
        disk.set_len(file, LEN + 1000).unwrap();
        let error = block_on(disk.read(file, LEN, BLOCK)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{}: {error}", variant.name);
        assert_block(&block_on(disk.read(file, 0, BLOCK)).unwrap(), 0, 0);
    });
}

#[test]
fn a_batch_larger_than_every_queue_completes() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 512);
        for lane in [Lane::Foreground, Lane::Background] {
            let (done, ended) = collector();
            let mut requests = reads(file, 3000, 512, &done);
            disk.submit(lane, &mut requests);
            assert!(requests.is_empty() && requests.capacity() >= 3000);
            expect_reads(&ended, 3000);
        }
    });
}

#[test]
fn a_thousand_single_requests_in_flight_complete() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 256);
        let (done, ended) = collector();
        for one in reads(file, 1000, 256, &done) {
            disk.submit(Lane::Foreground, &mut vec![one]);
        }
        disk.reap();
        expect_reads(&ended, 1000);
    });
}

#[test]
fn reads_writes_syncs_and_allocations_mix_in_a_batch() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 64);
        let (done, ended) = collector();
        let mut requests = reads(file, 100, 64, &done);
        for number in 0..50 {
            let offset = (64 + number) * LEN;
            let buf = IoBuf::Owned(block(64 + number, 2));
            requests.push(request(file, Op::WriteDurable, offset, buf, &done, 1000));
            requests.push(request(file, Op::Sync, 0, IoBuf::None, &done, 1000));
        }
        let room = Op::Allocate { len: 1 << 20 };
        requests.push(request(file, room, 1 << 20, IoBuf::None, &done, 1000));
        let count = requests.len();
        disk.submit(Lane::Foreground, &mut requests);
        for _ in 0..count {
            let (at, buf, result) = ended.recv().unwrap();
            result.unwrap();
            if at < 64 {
                assert_block(&buf.into_owned().unwrap(), at, 0);
            }
        }
        assert_eq!(disk.len(file).unwrap(), 2 << 20);
        for at in 64..114 {
            assert_block(&block_on(disk.read(file, at * LEN, BLOCK)).unwrap(), at, 2);
        }
    });
}

#[test]
fn concurrent_syncs_share_an_fdatasync() {
    each(|variant, disk| {
        let file = filled(&disk, "pages", 4);
        let other = filled(&disk, "other", 4);
        block_on(sync_file(&*disk, file)).unwrap();
        let before = disk.counters();
        let (done, ended) = collector();
        // Handed over together: the first starts, the other ninety-nine share the one after it.
        let sync = |file| request(file, Op::Sync, 0, IoBuf::None, &done, 0);
        disk.submit(Lane::Background, &mut (0..100).map(|_| sync(file)).collect());
        for _ in 0..100 {
            ended.recv().unwrap().2.unwrap();
        }
        let after = disk.counters();
        assert_eq!(after.syncs_asked - before.syncs_asked, 100);
        assert_eq!(after.syncs_done - before.syncs_done, 2, "{}", variant.name);
        // Another file's sync is its own.
        disk.submit(Lane::Background, &mut vec![sync(file), sync(other)]);
        for _ in 0..2 {
            ended.recv().unwrap().2.unwrap();
        }
        assert_eq!(disk.counters().syncs_done - after.syncs_done, 2);
    });
}

#[test]
fn eight_threads_do_not_mix_up_their_blocks() {
    each(|_, disk| {
        let file = disk.open("pages", true).unwrap();
        thread::scope(|scope| {
            for number in 0..8 {
                let disk = Arc::clone(&disk);
                scope.spawn(move || {
                    for round in 0..150 {
                        let at = number * 1000 + round % 40;
                        let lane = if round % 5 == 0 { Lane::Background } else { Lane::Foreground };
                        let buf = IoBuf::Owned(block(at, round));
                        let written = transfer(&*disk, lane, file, Op::Write, at * LEN, buf);
                        block_on(written).1.unwrap();
                        let read = block_on(disk.read(file, at * LEN, BLOCK)).unwrap();
                        assert_block(&read, at, round);
                        if round % 50 == 0 {
                            block_on(sync_file(&*disk, file)).unwrap();
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn registered_memory_is_read_into() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 64);
        let memory = Arc::new(AlignedBuf::zeroed(64 * BLOCK));
        let start = std::ptr::NonNull::new(memory.as_ptr().cast_mut()).unwrap();
        // SAFETY: the buffer is valid as long as its owner lives.
        unsafe { disk.register(start, memory.len(), Arc::clone(&memory) as _) };
        let (done, ended) = collector();
        let mut requests = (0..64)
            .map(|at| {
                // SAFETY: each I/O has a block of its own, and nobody looks before it has ended.
                let buf = unsafe {
                    let owner = Arc::clone(&memory) as Arc<dyn std::any::Any + Send + Sync>;
                    IoBuf::shared(start.add(at * BLOCK), BLOCK, owner)
                };
                let offset = at as u64 * LEN;
                request(file, Op::Read, offset, buf, &done, at as u64)
            })
            .collect();
        disk.submit(Lane::Foreground, &mut requests);
        for _ in 0..64 {
            ended.recv().unwrap().2.unwrap();
        }
        drop(disk);
        for at in 0..64 {
            // SAFETY: all I/O has ended. Read through the pointer that the I/O wrote through.
            let bytes =
                unsafe { std::slice::from_raw_parts(start.add(at * BLOCK).as_ptr(), BLOCK) };
            assert_block(bytes, at as u64, 0);
        }
    });
}

#[test]
fn a_completion_that_panics_takes_nobody_with_it() {
    struct Panics;
    impl treering_pagefile::Completion for Panics {
        fn complete(self: Arc<Self>, _: u64, _: IoBuf, _: std::io::Result<()>) {
            panic!("this panic is part of the test");
        }
    }
    each(|_, disk| {
        let file = filled(&disk, "pages", 64);
        let (done, ended) = collector();
        let mut requests = reads(file, 100, 64, &done);
        for request in requests.iter_mut().step_by(10) {
            request.done = Arc::new(Panics);
        }
        disk.submit(Lane::Background, &mut requests);
        expect_reads(&ended, 90);
    });
}
