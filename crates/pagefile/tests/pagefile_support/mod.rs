//! What the tests of the page file share: a disk in memory that can be stepped, cut off, filled up and
//! made to fail, and a small database model that writes real page images.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::executor::block_on;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering_pagefile::{
    AlignedBuf, CheckpointInfo, Disk, Extent, FileError, FileId, Health, IoBuf, Lane, LogPosition,
    MapEntry, Op, Opened, PageFile, PageId, Request, Room, seal, transfer, verify,
};

/// A disk in memory. Requests wait in a queue until `reap` performs them all or, in manual mode, until
/// `step` performs one.
#[derive(Default)]
pub(crate) struct MemDisk {
    state: Mutex<State>,
    block: Option<usize>,
    at_description: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[derive(Default)]
struct State {
    names: Vec<String>,
    files: Vec<MemFile>,
    queue: VecDeque<Request>,
    manual: bool,
    performed: u64,
    fail_at: Option<u64>,
    fail_op: Option<fn(&Op) -> bool>,
    capacity: Option<u64>,
}

#[derive(Default, Clone)]
struct MemFile {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
}

impl MemDisk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn with_block(block: usize) -> Arc<Self> {
        Arc::new(Self { block: Some(block), ..Self::default() })
    }

    pub(crate) fn manual(&self, manual: bool) {
        self.state().manual = manual;
    }

    /// The request with that number, counted from now on, fails, and all after it.
    pub(crate) fn fail_at(&self, number: u64) {
        let mut state = self.state();
        state.fail_at = Some(state.performed + number);
    }

    /// The next request of that kind fails.
    pub(crate) fn fail_next(&self, op: fn(&Op) -> bool) {
        self.state().fail_op = Some(op);
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state();
        (state.fail_at, state.fail_op) = (None, None);
    }

    /// The next time that somebody asks for the name of a file, which is done to say what failed, this
    /// comes first.
    pub(crate) fn at_next_description(&self, event: impl FnOnce() + Send + 'static) {
        *self.at_description.lock().unwrap() = Some(Box::new(event));
    }

    /// No file may become longer than that.
    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    pub(crate) fn performed(&self) -> u64 {
        self.state().performed
    }

    pub(crate) fn queued(&self) -> usize {
        self.state().queue.len()
    }

    /// Performs one queued request, any of them; whether there was one.
    pub(crate) fn step(&self, rng: &mut SmallRng) -> bool {
        let mut state = self.state();
        if state.queue.is_empty() {
            return false;
        }
        let at = rng.random_range(0..state.queue.len());
        let request = state.queue.remove(at).unwrap();
        self.perform(state, request);
        true
    }

    /// A disk as after a power failure: what was synced, and any part of what was not, torn at 512
    /// bytes.
    pub(crate) fn crashed(&self, rng: &mut SmallRng) -> Arc<Self> {
        let state = self.state();
        let files = state.files.iter().map(|file| {
            let mut durable = file.durable.clone();
            for (offset, bytes) in &file.unsynced {
                let keep_all = rng.random_bool(0.3);
                for (at, sector) in bytes.chunks(512).enumerate() {
                    if keep_all || rng.random_bool(0.4) {
                        put(&mut durable, *offset as usize + at * 512, sector);
                    }
                }
            }
            MemFile { now: durable.clone(), durable, unsynced: Vec::new() }
        });
        let files = files.collect();
        let copy = State { names: state.names.clone(), files, ..State::default() };
        Arc::new(Self { state: Mutex::new(copy), block: self.block, ..Self::default() })
    }

    /// A disk with the same contents, all of it durable.
    pub(crate) fn copied(&self) -> Arc<Self> {
        let state = self.state();
        let files = state.files.iter().map(|file| MemFile {
            now: file.now.clone(),
            durable: file.now.clone(),
            unsynced: Vec::new(),
        });
        let files = files.collect();
        let copy = State { names: state.names.clone(), files, ..State::default() };
        Arc::new(Self { state: Mutex::new(copy), block: self.block, ..Self::default() })
    }

    /// Works on the bytes of the page file directly.
    pub(crate) fn edit<R>(&self, change: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut state = self.state();
        if state.files.is_empty() {
            state.names.push("pages".into());
            state.files.push(MemFile::default());
        }
        let file = &mut state.files[0];
        let result = change(&mut file.now);
        file.durable = file.now.clone();
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn perform(&self, mut state: MutexGuard<'_, State>, mut request: Request) {
        let number = state.performed;
        state.performed += 1;
        let by_kind = state.fail_op.is_some_and(|fails| fails(&request.op));
        if by_kind {
            state.fail_op = None;
        }
        let result = if by_kind || state.fail_at.is_some_and(|at| number >= at) {
            Err(io::Error::other("injected failure"))
        } else {
            let capacity = state.capacity.unwrap_or(u64::MAX);
            state.files[request.file.0 as usize].perform(&mut request, capacity)
        };
        drop(state);
        request.done.complete(request.token, request.buf, result);
    }
}

impl MemFile {
    fn perform(&mut self, request: &mut Request, capacity: u64) -> io::Result<()> {
        let (offset, len) = (request.offset as usize, request.buf.len());
        match request.op {
            Op::Read => {
                let there = self.now.get(offset..offset + len);
                let there = there.ok_or(io::ErrorKind::UnexpectedEof)?;
                let IoBuf::Owned(buf) = &mut request.buf else { panic!("owned buffers only") };
                buf.copy_from_slice(there);
            }
            Op::Write | Op::WriteDurable => {
                let IoBuf::Owned(buf) = &request.buf else { panic!("owned buffers only") };
                assert!(offset.is_multiple_of(512) && len.is_multiple_of(512));
                put(&mut self.now, offset, buf);
                if request.op == Op::WriteDurable {
                    put(&mut self.durable, offset, buf);
                } else {
                    self.unsynced.push((request.offset, buf.to_vec()));
                }
            }
            Op::Sync => {
                self.durable = self.now.clone();
                self.unsynced.clear();
            }
            Op::Allocate { len } => {
                let end = request.offset + len;
                // As ext4 does it: what there was is the file's, also if it was not enough.
                let there = self.now.len().max(end.min(capacity) as usize);
                self.now.resize(there, 0);
                if end > capacity {
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
        }
        Ok(())
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = file.len().max(offset + bytes.len());
    file.resize(end, 0);
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Disk for MemDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<FileId> {
        let mut state = self.state();
        let at = state.names.iter().position(|known| known == name);
        let at = match at {
            Some(at) => at,
            None if create => {
                state.names.push(name.into());
                state.files.push(MemFile::default());
                state.files.len() - 1
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(FileId(at as u32))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.clone())
    }

    fn len(&self, file: FileId) -> io::Result<u64> {
        Ok(self.state().files[file.0 as usize].now.len() as u64)
    }

    fn set_len(&self, file: FileId, len: u64) -> io::Result<()> {
        let file = &mut self.state().files[file.0 as usize];
        file.now.resize(len as usize, 0);
        file.durable.resize(len as usize, 0);
        Ok(())
    }

    fn describe(&self, file: FileId) -> String {
        let event = self.at_description.lock().unwrap().take();
        if let Some(event) = event {
            event();
        }
        format!("memory/{}", self.state().names[file.0 as usize])
    }

    fn block_size(&self) -> usize {
        self.block.unwrap_or(512)
    }

    fn backend(&self) -> String {
        "memory, for tests".into()
    }

    fn submit(&self, _lane: Lane, requests: &mut Vec<Request>) {
        self.state().queue.extend(requests.drain(..));
    }

    fn reap(&self) {
        loop {
            let mut state = self.state();
            if state.manual {
                return;
            }
            let Some(request) = state.queue.pop_front() else { return };
            self.perform(state, request);
        }
    }
}

/// Runs a future whose I/O completes in `reap`, which only a submitting future calls.
pub(crate) fn run<F: Future>(disk: &MemDisk, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    block_on(std::future::poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            disk.reap();
            cx.waker().wake_by_ref();
        }
        polled
    }))
}

pub(crate) type Model = BTreeMap<PageId, MapEntry>;

/// A stand-in for the engine: pages that are written and freed at random, with real images.
pub(crate) struct Engine {
    pub(crate) disk: Arc<MemDisk>,
    pub(crate) health: Arc<Health>,
    pub(crate) file: Arc<PageFile>,
    pub(crate) pages: Model,
    pub(crate) epoch: u64,
    pub(crate) rng: SmallRng,
    pub(crate) next_page: u64,
}

impl Engine {
    pub(crate) fn create(disk: Arc<MemDisk>, page_size: usize, seed: u64) -> Self {
        let health = Arc::new(Health::default());
        let file = run(&disk, PageFile::create(disk.clone(), health.clone(), page_size, 7));
        let file = file.unwrap();
        let rng = SmallRng::seed_from_u64(seed);
        Self { disk, health, file, pages: Model::new(), epoch: 1, rng, next_page: 1 }
    }

    pub(crate) fn open(disk: Arc<MemDisk>, seed: u64) -> Result<(Self, Opened), FileError> {
        let health = Arc::new(Health::default());
        let opened = run(&disk, PageFile::open(disk.clone(), health.clone(), None))?;
        let pages: Model = opened.entries.iter().map(|entry| (entry.page, *entry)).collect();
        let engine = Self {
            disk,
            health,
            file: opened.file.clone(),
            epoch: opened.checkpoint.epoch + 1,
            next_page: pages.keys().last().map_or(1, |page| page.0 + 1),
            pages,
            rng: SmallRng::seed_from_u64(seed),
        };
        Ok((engine, opened))
    }

    /// What a checkpoint of the current epoch says.
    pub(crate) fn info(&self) -> CheckpointInfo {
        CheckpointInfo {
            epoch: self.epoch,
            sequence: self.epoch * 100,
            incarnation: 7,
            log: LogPosition { segment: self.epoch * 3, offset: 4096 },
        }
    }

    pub(crate) fn checkpoint(&mut self) -> Result<(), FileError> {
        let info = self.info();
        self.epoch += 1;
        run(&self.disk, self.file.checkpoint(info))
    }

    pub(crate) fn reserve(&self, extents: usize) {
        while !self.file.try_reserve(extents, Room::Growing) {
            run(&self.disk, self.file.grow()).unwrap();
        }
    }

    /// Writes a page that has been reserved for.
    pub(crate) fn write(&mut self, page: PageId) {
        let extent = self.file.take_extent();
        self.write_to(page, extent);
    }

    pub(crate) fn write_to(&mut self, page: PageId, extent: Extent) {
        let stamp = self.file.next_stamp();
        let mut buf = AlignedBuf::zeroed(extent.len as usize);
        buf[16..24].copy_from_slice(&self.rng.random::<u64>().to_le_bytes());
        seal(&mut buf, page, stamp);
        let buf = IoBuf::Owned(buf);
        let file = self.file.file();
        let (sender, receiver) = std::sync::mpsc::channel();
        let done = Arc::new(Sent(sender));
        let request = Request { file, op: Op::Write, offset: extent.offset, buf, done, token: 0 };
        // Page writes go ahead of whatever a manual disk holds back.
        self.disk.perform(self.disk.state(), request);
        receiver.recv().unwrap().unwrap();
        let entry = MapEntry { page, extent, stamp, overflow: page.0.is_multiple_of(3) };
        let previous = self.pages.insert(page, entry).map(|entry| entry.extent);
        self.file.record_written(entry, self.epoch, previous);
        self.next_page = self.next_page.max(page.0 + 1);
    }

    pub(crate) fn free(&mut self, page: PageId) {
        if let Some(entry) = self.pages.remove(&page) {
            self.file.record_freed(page, self.epoch, Some(entry.extent));
        }
    }

    pub(crate) fn any_page(&mut self) -> Option<PageId> {
        let at = self.rng.random_range(0..self.pages.len().max(1));
        self.pages.keys().nth(at).copied()
    }

    /// One random change: mostly writes of old and new pages.
    pub(crate) fn change(&mut self) {
        match self.rng.random_range(0..20) {
            0..8 => {
                self.reserve(1);
                let page = PageId(self.next_page);
                self.write(page);
            }
            8..16 => {
                if let Some(page) = self.any_page() {
                    self.reserve(1);
                    self.write(page);
                }
            }
            16..18 => {
                if let Some(page) = self.any_page() {
                    self.free(page);
                }
            }
            18 => {
                let n = self.rng.random_range(1..20);
                self.reserve(n);
                let mut extents = Vec::new();
                self.file.take_extents(n, &mut extents);
                for extent in extents {
                    self.file.discard_extent(extent);
                }
            }
            _ => {
                self.reserve(3);
                self.file.unreserve(3);
            }
        }
    }

    pub(crate) fn check_space(&self) {
        let live = self.pages.values().map(|entry| (entry.page, entry.extent));
        assert_eq!(self.file.check_space(live), Vec::<String>::new());
    }

    /// Reads every page and verifies it.
    pub(crate) fn check_pages(&self) {
        for entry in self.pages.values() {
            let len = entry.extent.len as usize;
            let buf = IoBuf::Owned(AlignedBuf::zeroed(len));
            let (file, offset) = (self.file.file(), entry.extent.offset);
            let disk: &dyn Disk = &*self.disk;
            let read = transfer(disk, Lane::Foreground, file, Op::Read, offset, buf);
            let (buf, result) = run(&self.disk, read);
            result.unwrap();
            verify(&buf.into_owned().unwrap(), entry.page, entry.stamp)
                .unwrap_or_else(|damage| panic!("{} at {}: {damage}", entry.page, offset));
        }
    }
}

struct Sent(std::sync::mpsc::Sender<io::Result<()>>);

impl treering_pagefile::Completion for Sent {
    fn complete(self: Arc<Self>, _token: u64, _buf: IoBuf, result: io::Result<()>) {
        self.0.send(result).unwrap();
    }
}

pub(crate) fn model_of(opened: &Opened) -> Model {
    opened.entries.iter().map(|entry| (entry.page, *entry)).collect()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The pieces of the map that superblock A names, found by the documented layout alone.
pub(crate) struct Pieces {
    pub(crate) directories: Vec<u64>,
    /// Offset, entries, and 1 for a base or 2 for a delta.
    pub(crate) segments: Vec<(u64, u32, u32)>,
}

pub(crate) fn pieces(disk: &MemDisk) -> Pieces {
    disk.edit(|bytes| {
        let mut pieces = Pieces { directories: Vec::new(), segments: Vec::new() };
        let mut next = u64_at(bytes, 80);
        while next != 0 {
            let at = Extent::unpack(next).offset as usize;
            pieces.directories.push(at as u64);
            assert_eq!(&bytes[at..at + 4], b"TDIR");
            for entry in 0..u32_at(bytes, at + 4) as usize {
                let line = at + 32 * (entry + 1);
                let offset = Extent::unpack(u64_at(bytes, line)).offset;
                pieces.segments.push((offset, u32_at(bytes, line + 8), u32_at(bytes, line + 24)));
            }
            next = u64_at(bytes, at + 16);
        }
        pieces
    })
}
