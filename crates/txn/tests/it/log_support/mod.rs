//! A disk in memory whose requests end one by one when a test says so, and a runtime that polls only
//! what was woken: a lost wake-up is a test that stops with "stuck".

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use treering_pagefile::{
    Disk, FileError, FileId, Health, Lane, LogPosition, Op, Request, Runtime, Spawn,
};
use treering_txn::{AppendError, Log, LogOptions, LogReader, LogStart, Record};

pub const BLOCK: usize = 4096;

#[derive(Default)]
pub struct MemoryDisk {
    inner: Mutex<Inner>,
    arrived: Condvar,
}

#[derive(Default)]
struct Inner {
    files: Vec<(String, Vec<u8>)>,
    queue: VecDeque<(Lane, Request)>,
    fail_next_group: bool,
    fail_next_read: bool,
    reads: usize,
    space: Option<u64>,
    /// Offset and length of every write of a group.
    groups: Vec<(FileId, u64, usize)>,
    /// Writes that were not of a group, and how many bytes they had.
    background: Vec<(FileId, u64, usize)>,
}

impl MemoryDisk {
    /// Ends the oldest request of `lane`; `false` if there is none.
    pub fn step(&self, lane: Lane) -> bool {
        let mut inner = self.inner.lock().unwrap();
        let Some(at) = inner.queue.iter().position(|(l, _)| *l == lane) else { return false };
        let (_, request) = inner.queue.remove(at).unwrap();
        let (buf, result) = inner.perform(lane, &request, request.op);
        drop(inner);
        let Request { done, token, buf: original, .. } = request;
        let buf = buf.map_or(original, treering_pagefile::IoBuf::Owned);
        done.complete(token, buf, result);
        true
    }

    pub fn step_any(&self) -> bool {
        self.step(Lane::Foreground) || self.step(Lane::Background)
    }

    /// Ends requests until `over` is set: for a thread of its own.
    pub fn serve(&self, over: &AtomicBool) {
        loop {
            while self.step_any() {}
            let inner = self.inner.lock().unwrap();
            if over.load(Ordering::SeqCst) && inner.queue.is_empty() {
                return;
            }
            drop(
                self.arrived.wait_while(inner, |inner| {
                    inner.queue.is_empty() && !over.load(Ordering::SeqCst)
                }),
            );
        }
    }

    pub fn wake_server(&self) {
        drop(self.inner.lock().unwrap());
        self.arrived.notify_all();
    }

    pub fn queued(&self, lane: Lane) -> usize {
        self.inner.lock().unwrap().queue.iter().filter(|(l, _)| *l == lane).count()
    }

    pub fn groups(&self) -> Vec<(FileId, u64, usize)> {
        self.inner.lock().unwrap().groups.clone()
    }

    pub fn background_bytes(&self) -> usize {
        self.inner.lock().unwrap().background.iter().map(|(.., len)| len).sum()
    }

    pub fn fail_next_group(&self) {
        self.inner.lock().unwrap().fail_next_group = true;
    }

    pub fn fail_next_read(&self) {
        self.inner.lock().unwrap().fail_next_read = true;
    }

    /// How many reads there were.
    pub fn reads(&self) -> usize {
        self.inner.lock().unwrap().reads
    }

    /// How many bytes all files together may have.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.inner.lock().unwrap().space = bytes;
    }

    /// The disk as it would be after a power cut now.
    pub fn copy(&self) -> Arc<MemoryDisk> {
        let files = self.inner.lock().unwrap().files.clone();
        Arc::new(MemoryDisk {
            inner: Mutex::new(Inner { files, ..Inner::default() }),
            arrived: Condvar::new(),
        })
    }

    pub fn edit<T>(&self, file: FileId, edit: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        edit(&mut self.inner.lock().unwrap().files[file.0 as usize].1)
    }

    pub fn file_sizes(&self) -> Vec<(String, usize)> {
        let inner = self.inner.lock().unwrap();
        inner.files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect()
    }
}

impl Inner {
    fn perform(
        &mut self,
        lane: Lane,
        request: &Request,
        op: Op,
    ) -> (Option<treering_pagefile::AlignedBuf>, io::Result<()>) {
        let (start, len) = (request.offset as usize, request.buf.len());
        assert!(start.is_multiple_of(512) && len.is_multiple_of(512));
        let total: usize = self.files.iter().map(|(_, bytes)| bytes.len()).sum();
        let space = self.space;
        let bytes = &mut self.files[request.file.0 as usize].1;
        match op {
            Op::Read => {
                self.reads += 1;
                if std::mem::take(&mut self.fail_next_read) {
                    return (None, Err(io::Error::other("planted failure")));
                }
                let Some(part) = bytes.get(start..start + len) else {
                    return (None, Err(io::ErrorKind::UnexpectedEof.into()));
                };
                let mut buf = treering_pagefile::AlignedBuf::zeroed(len);
                buf.copy_from_slice(part);
                (Some(buf), Ok(()))
            }
            Op::Write | Op::WriteDurable => {
                if lane == Lane::Foreground {
                    self.groups.push((request.file, request.offset, len));
                    if std::mem::take(&mut self.fail_next_group) {
                        return (None, Err(io::Error::other("planted failure")));
                    }
                } else {
                    self.background.push((request.file, request.offset, len));
                }
                assert!(start + len <= bytes.len(), "a write of the log extends no file");
                bytes[start..start + len].copy_from_slice(shared_bytes(&request.buf));
                (None, Ok(()))
            }
            Op::Sync => (None, Ok(())),
            Op::Allocate { len } => {
                let end = start + len as usize;
                let grown = end.saturating_sub(bytes.len());
                if space.is_some_and(|space| (total + grown) as u64 > space) {
                    return (None, Err(io::ErrorKind::StorageFull.into()));
                }
                if grown > 0 {
                    // What was never written reads as anything but zeros.
                    bytes.resize(end, 0xa5);
                }
                (None, Ok(()))
            }
        }
    }
}

fn shared_bytes(buf: &treering_pagefile::IoBuf) -> &[u8] {
    match buf {
        treering_pagefile::IoBuf::Owned(buf) => buf,
        _ => panic!("the log writes from buffers of its own"),
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<FileId> {
        let mut inner = self.inner.lock().unwrap();
        let known = inner.files.iter().position(|(n, _)| n == name);
        let at = match known {
            Some(at) => at,
            None if create => {
                inner.files.push((name.to_owned(), Vec::new()));
                inner.files.len() - 1
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(FileId(at as u32))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.inner.lock().unwrap().files.iter().map(|(n, _)| n.clone()).collect())
    }

    fn len(&self, file: FileId) -> io::Result<u64> {
        Ok(self.edit(file, |bytes| bytes.len() as u64))
    }

    fn set_len(&self, file: FileId, len: u64) -> io::Result<()> {
        self.edit(file, |bytes| bytes.resize(len as usize, 0));
        Ok(())
    }

    fn describe(&self, file: FileId) -> String {
        self.inner.lock().unwrap().files[file.0 as usize].0.clone()
    }

    fn block_size(&self) -> usize {
        512
    }

    fn backend(&self) -> String {
        "memory".into()
    }

    fn submit(&self, lane: Lane, requests: &mut Vec<Request>) {
        let mut inner = self.inner.lock().unwrap();
        inner.queue.extend(requests.drain(..).map(|request| (lane, request)));
        drop(inner);
        self.arrived.notify_all();
    }

    fn reap(&self) {}
}

/// A waker that remembers whether it was woken.
#[derive(Default)]
pub struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Flag {
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

/// A future and whether it was woken.
pub struct Task<T> {
    pub flag: Arc<Flag>,
    pub future: BoxFuture<'static, T>,
}

impl<T> Task<T> {
    pub fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self { flag: Arc::new(Flag::default()), future: Box::pin(future) }
    }

    pub fn poll(&mut self) -> Poll<T> {
        let waker = Waker::from(Arc::clone(&self.flag));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

#[derive(Default)]
pub struct ManualRuntime {
    tasks: Mutex<Vec<Task<()>>>,
    clock: Arc<Mutex<Clock>>,
}

#[derive(Default)]
struct Clock {
    now: Duration,
    timers: Vec<(Duration, Waker)>,
}

impl Runtime for ManualRuntime {
    fn spawn(&self, future: Spawn) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.tasks.lock().unwrap().push(Task { flag, future });
    }

    fn now(&self) -> Duration {
        self.clock.lock().unwrap().now
    }

    fn sleep(&self, delay: Duration) -> BoxFuture<'static, ()> {
        let clock = Arc::clone(&self.clock);
        let at = self.now() + delay;
        Box::pin(std::future::poll_fn(move |cx| {
            let mut clock = clock.lock().unwrap();
            if clock.now >= at {
                return Poll::Ready(());
            }
            clock.timers.push((at, cx.waker().clone()));
            Poll::Pending
        }))
    }
}

impl ManualRuntime {
    /// Polls every task that was woken; whether there was one.
    fn turn(&self) -> bool {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        let mut any = false;
        let mut left = Vec::new();
        for mut task in tasks {
            if task.flag.take() {
                any = true;
                if task.poll().is_ready() {
                    continue;
                }
            }
            left.push(task);
        }
        self.tasks.lock().unwrap().extend(left);
        any
    }

    pub fn tasks(&self) -> usize {
        self.tasks.lock().unwrap().len()
    }

    /// How many timers are set.
    pub fn timers(&self) -> usize {
        self.clock.lock().unwrap().timers.len()
    }

    pub fn advance(&self, time: Duration) {
        let mut clock = self.clock.lock().unwrap();
        clock.now += time;
        let now = clock.now;
        let (due, later) = std::mem::take(&mut clock.timers).into_iter().partition(|t| t.0 <= now);
        clock.timers = later;
        drop(clock);
        let due: Vec<(Duration, Waker)> = due;
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

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
