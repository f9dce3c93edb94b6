//! A machine for tests of the log: a disk in memory whose requests end one by one when a test says so,
//! and a runtime that polls only what was woken. A lost wake-up is a test that stops with "stuck".

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

mod disk;
mod runtime;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use treering_pagefile::{FileError, Health, Lane, LogPosition, Runtime};
use treering_txn::{AppendError, Log, LogOptions, LogReader, LogStart, Record};

pub use disk::MemoryDisk;
pub use runtime::{Flag, ManualRuntime, Task};

pub const BLOCK: usize = 4096;

/// One machine.
pub struct World {
    pub disk: Arc<MemoryDisk>,
    pub runtime: Arc<ManualRuntime>,
    pub health: Arc<Health>,
}

impl World {
    pub fn new() -> Self {
        Self::on(Arc::default())
    }

    pub fn on(disk: Arc<MemoryDisk>) -> Self {
        Self { disk, runtime: Arc::default(), health: Arc::default() }
    }

    /// Power is cut and comes back: requests that have not ended are gone.
    pub fn reboot(&self) -> World {
        World::on(self.disk.copy())
    }

    /// Polls `future`, the tasks and the disk until `future` ends. Time stands still.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&flag));
        let mut future: Pin<&mut _> = pin!(future);
        loop {
            if flag.take()
                && let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return value;
            }
            let moved = self.runtime.turn() || self.disk.step_any();
            assert!(moved || flag.0.load(Ordering::SeqCst), "stuck: nothing will wake the future");
        }
    }

    /// Lets tasks and disk come to rest.
    pub fn settle(&self) {
        while self.runtime.turn() || self.disk.step_any() {}
    }

    /// Lets tasks and the background lane come to rest; groups stay on their way.
    pub fn settle_background(&self) {
        while self.runtime.turn() || self.disk.step(Lane::Background) {}
    }

    pub fn create(&self, options: LogOptions, start: LogStart) -> (Arc<Log>, LogPosition) {
        self.try_create(options, start).unwrap()
    }

    pub fn try_create(
        &self,
        options: LogOptions,
        start: LogStart,
    ) -> Result<(Arc<Log>, LogPosition), FileError> {
        let (disk, runtime) = (self.disk.clone(), self.runtime.clone());
        self.run(Log::create(disk, runtime, self.health.clone(), options, start))
    }

    /// A new log whose background runs.
    pub fn start(&self, options: LogOptions) -> (Arc<Log>, LogPosition) {
        let (log, position) = self.create(options, fresh());
        self.run_log(&log);
        self.settle();
        (log, position)
    }

    /// Starts the background of a log.
    pub fn run_log(&self, log: &Arc<Log>) {
        self.runtime.spawn(Box::pin(log.clone().run()));
    }

    pub fn reader(&self, incarnation: u64, from: LogPosition, after: u64) -> LogReader {
        self.try_reader(incarnation, from, after).unwrap()
    }

    pub fn try_reader(
        &self,
        incarnation: u64,
        from: LogPosition,
        after: u64,
    ) -> Result<LogReader, FileError> {
        self.run(LogReader::open(self.disk.clone(), incarnation, from, after))
    }

    pub fn read_all(&self, reader: &mut LogReader) -> Result<Vec<Record>, FileError> {
        self.run(async {
            let mut records = Vec::new();
            while let Some(record) = reader.next().await? {
                records.push(record);
            }
            Ok(records)
        })
    }

    /// Everything that a log of incarnation 1 holds from `from` on, after a reboot.
    pub fn recover(&self, from: LogPosition, after: u64) -> Result<Vec<Record>, FileError> {
        let world = self.reboot();
        let mut reader = world.try_reader(1, from, after)?;
        world.read_all(&mut reader)
    }

    /// Appends, and waits until it is durable.
    pub fn commit(&self, log: &Arc<Log>, body: &[u8]) -> u64 {
        let sequence = self.append(log, body);
        self.run(log.wait_durable(sequence)).unwrap();
        sequence
    }

    /// Appends as soon as there is room.
    pub fn append(&self, log: &Arc<Log>, body: &[u8]) -> u64 {
        loop {
            match log.try_append(log.epoch(), body) {
                Ok(applying) => return applying.sequence(),
                Err(AppendError::NoRoom) => self.run(log.wait_room()),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

pub fn fresh() -> LogStart {
    LogStart { incarnation: 1, first_segment: 1, last_sequence: 0, epoch: 1, keep: Vec::new() }
}

pub fn options(segment_blocks: u64, max_segments: usize, buffer_blocks: usize) -> LogOptions {
    LogOptions {
        segment_size: segment_blocks * BLOCK as u64,
        max_segments,
        buffer_size: buffer_blocks * BLOCK,
        flush_delay: Duration::from_millis(10),
    }
}

/// A body that says which record it is, of `len` bytes or a little more.
pub fn body(sequence: u64, len: usize) -> Vec<u8> {
    let mut body = sequence.to_le_bytes().to_vec();
    body.resize(len.max(8), sequence as u8);
    body
}

/// Asserts that these are the records from `first` to `last`, made by [`body`].
pub fn assert_run(records: &[Record], first: u64, last: u64) {
    let sequences: Vec<u64> = records.iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, (first..=last).collect::<Vec<_>>());
    for Record { sequence, body: found } in records {
        assert_eq!(*found, body(*sequence, found.len()), "record {sequence}");
    }
}
