//! A disk in memory whose requests end one by one, when a test says so.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use treering_pagefile::{AlignedBuf, Disk, FileId, IoBuf, Lane, Op, Request};

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
        let buf = buf.map_or(original, IoBuf::Owned);
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
    ) -> (Option<AlignedBuf>, io::Result<()>) {
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
                let mut buf = AlignedBuf::zeroed(len);
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

fn shared_bytes(buf: &IoBuf) -> &[u8] {
    match buf {
        IoBuf::Owned(buf) => buf,
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
