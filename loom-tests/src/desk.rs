//! A disk in memory for models of the real pool and the real log: loom decides when its requests end.
//!
//! While a model sets things up, requests end when somebody reaps. [`Desk::begin`] ends that: from then
//! on they end in the threads that wait for something ([`Desk::drive`]), each on its own and in their
//! order, at a moment of loom's choice. A thread that waits while nobody made a request is a deadlock,
//! which loom reports.
//!
//! What a request moves, loom does not see; the queue it does. For reads into frames of a pool there
//! is a word of loom's beside each frame ([`Desk::beside`]), which a read stores to as it stores to the
//! frame, without any order of its own. So a reader of that word sees what a reader of the frame might.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard as StdGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::atomic::Ordering::{Relaxed, Release};
use loom::sync::atomic::{AtomicU64, fence};
use loom::sync::{Condvar, Mutex};
use treering_pagefile::{Disk, FileId, IoBuf, Lane, Op, Request};

/// The disk.
pub struct Desk {
    files: StdMutex<Vec<(String, Vec<u8>)>>,
    queue: Mutex<Queue>,
    changed: Condvar,
    opened: AtomicBool,
    moment: AtomicU64,
    watch: StdMutex<Option<Watch>>,
    frames: StdMutex<(usize, usize)>,
    beside: Vec<AtomicU64>,
    counts: StdMutex<Counts>,
    images: StdMutex<Vec<(u64, u64)>>,
    memory: StdMutex<Option<Weak<dyn Any + Send + Sync>>>,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    open: bool,
}

type Watch = Box<dyn Fn(&Request) + Send>;

/// What was performed since the model began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads.
    pub reads: usize,
    /// Writes.
    pub writes: usize,
}

/// Which word of a page has its value: the first behind the header.
pub const VALUE: usize = 2;
/// Length of the pages of a model, in bytes.
pub const PAGE: usize = 512;

impl Desk {
    /// An empty disk, with words beside so many frames.
    pub fn new(frames: usize) -> Arc<Self> {
        Arc::new(Self {
            files: StdMutex::default(),
            queue: Mutex::default(),
            changed: Condvar::new(),
            opened: AtomicBool::new(false),
            moment: AtomicU64::new(0),
            watch: StdMutex::default(),
            frames: StdMutex::default(),
            beside: (0..frames).map(|_| AtomicU64::new(0)).collect(),
            counts: StdMutex::default(),
            images: StdMutex::default(),
            memory: StdMutex::default(),
        })
    }

    /// From now on requests end in [`Desk::drive`] and [`Desk::serve`] only.
    pub fn begin(&self) {
        let mut queue = self.lock();
        assert!(queue.requests.is_empty(), "something is under way");
        queue.open = true;
        self.opened.store(true, SeqCst);
        *self.counts() = Counts::default();
    }

    /// [`Desk::begin`], and `watch` is called whenever a request is performed, just before its bytes move.
    pub fn begin_watched(&self, watch: impl Fn(&Request) + Send + 'static) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(watch));
        self.begin();
    }

    /// A future's end. While it waits, this thread performs requests, whoever made them.
    pub fn drive<T>(self: &Arc<Self>, future: impl Future<Output = T>) -> T {
        let alarm = Arc::new(Alarm { desk: Arc::clone(self), rung: AtomicBool::new(true) });
        let waker = Waker::from(Arc::clone(&alarm));
        // Not dropped when loom has found a deadlock: it may touch loom, and that is over then.
        let mut future = ManuallyDrop::new(Box::pin(future));
        loop {
            if alarm.rung.swap(false, SeqCst)
                && let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                drop(ManuallyDrop::into_inner(future));
                return outcome;
            }
            let mut queue = self.lock();
            let request = loop {
                if alarm.rung.load(SeqCst) {
                    break None;
                }
                if let Some(request) = queue.requests.pop_front() {
                    break Some(request);
                }
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            request.into_iter().for_each(|request| self.end(request));
        }
    }

    /// Performs what there is to perform; whether there was anything.
    pub fn serve(&self) -> bool {
        let mut any = false;
        loop {
            let request = self.lock().requests.pop_front();
            let Some(request) = request else { return any };
            self.end(request);
            any = true;
        }
    }

    /// A moment at which a thread does something that loom does not see, such as dropping a future:
    /// before the end of a request, or within it, or after.
    pub fn moment(&self) {
        self.moment.fetch_add(1, Relaxed);
    }

    /// What has been performed.
    pub fn counted(&self) -> Counts {
        *self.counts()
    }

    /// The word of loom's beside the frame that begins at `start`.
    pub fn beside(&self, start: *const u8) -> &AtomicU64 {
        &self.beside[self.frame_at(start).expect("it is a frame")]
    }

    /// Puts bytes into a file.
    pub fn put(&self, file: FileId, offset: u64, bytes: &[u8]) {
        let start = offset as usize;
        let file = &mut self.files()[file.0 as usize].1;
        file.resize(file.len().max(start + bytes.len()), 0);
        file[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Bytes of a file.
    pub fn get(&self, file: FileId, offset: u64, len: usize) -> Vec<u8> {
        let start = offset as usize;
        self.files()[file.0 as usize].1[start..start + len].to_vec()
    }

    /// Whether `bytes` are anywhere in a file.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let files = self.files();
        files.iter().any(|(_, file)| file.windows(bytes.len()).any(|found| found == bytes))
    }

    /// The images of pages that have been written, in order: page and value.
    pub fn images(&self) -> Vec<(u64, u64)> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_image(&self, bytes: &[u8]) {
        let word =
            |at: usize| bytes[at * 8..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        assert_eq!(word(VALUE), word(VALUE + 1), "a torn image was written");
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.push((word(1), word(VALUE)));
    }

    fn queue_is_open(&self) -> bool {
        self.opened.load(SeqCst)
    }

    fn frame_at(&self, start: *const u8) -> Option<usize> {
        let (base, len) = *self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (start as usize).checked_sub(base).filter(|at| *at < len)?;
        Some(at / PAGE)
    }

    fn end(&self, request: Request) {
        self.moment();
        let result = self.perform(&request);
        let Request { done, token, buf, .. } = request;
        self.moment();
        done.complete(token, buf, result);
        self.moment();
    }

    fn perform(&self, request: &Request) -> io::Result<()> {
        let (start, len, at) = (request.offset as usize, request.buf.len(), request.buf.as_ptr());
        let index = request.file.0 as usize;
        if let Some(watch) = &*self.watch.lock().unwrap_or_else(PoisonError::into_inner) {
            watch(request);
        }
        match request.op {
            Op::Read => {
                let files = self.files();
                let bytes = files[index].1.get(start..start + len);
                let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?.to_vec();
                drop(files);
                self.counts().reads += 1;
                if self.frame_at(at).is_some() {
                    let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                    let alive = memory.as_ref().is_some_and(|memory| memory.strong_count() > 0);
                    assert!(alive, "a read goes to memory that has been freed");
                }
                // SAFETY: the request owns its buffer, which has `len` bytes (I12).
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, len) };
                // What entering the kernel is at least: who sees the bytes sees what was done before.
                fence(Release);
                if matches!(request.buf, IoBuf::Shared(_)) && self.frame_at(at).is_some() {
                    let value = bytes[VALUE * 8..].first_chunk().expect("pages are longer");
                    self.beside(at).store(u64::from_le_bytes(*value), Relaxed);
                }
            }
            Op::Write | Op::WriteDurable => {
                // SAFETY: as above, and nobody writes to it meanwhile.
                let bytes = unsafe { std::slice::from_raw_parts(at, len) };
                if len == PAGE && self.queue_is_open() {
                    self.note_image(bytes);
                }
                self.put(request.file, request.offset, bytes);
                self.counts().writes += 1;
            }
            Op::Sync => {}
            Op::Allocate { len } => {
                let file = &mut self.files()[index].1;
                file.resize(file.len().max(start + len as usize), 0);
            }
        }
        Ok(())
    }

    fn lock(&self) -> loom::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> StdGuard<'_, Vec<(String, Vec<u8>)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> StdGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes a thread in [`Desk::drive`]. Loom does not see the bell, but the mutex around it.
struct Alarm {
    desk: Arc<Desk>,
    rung: AtomicBool,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let queue = self.desk.lock();
        self.rung.store(true, SeqCst);
        drop(queue);
        self.desk.changed.notify_all();
    }
}

impl Disk for Desk {
    fn open(&self, name: &str, create: bool) -> io::Result<FileId> {
        let mut files = self.files();
        let known = files.iter().position(|(known, _)| known == name);
        if known.is_none() && create {
            files.push((name.to_owned(), Vec::new()));
        }
        let at = known.or(create.then(|| files.len() - 1)).ok_or(io::ErrorKind::NotFound)?;
        Ok(FileId(at as u32))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files().iter().map(|(name, _)| name.clone()).collect())
    }

    fn len(&self, file: FileId) -> io::Result<u64> {
        Ok(self.files()[file.0 as usize].1.len() as u64)
    }

    fn set_len(&self, file: FileId, len: u64) -> io::Result<()> {
        self.files()[file.0 as usize].1.resize(len as usize, 0);
        Ok(())
    }

    fn describe(&self, file: FileId) -> String {
        self.files()[file.0 as usize].0.clone()
    }

    fn block_size(&self) -> usize {
        PAGE
    }

    fn backend(&self) -> String {
        "a model".into()
    }

    fn submit(&self, _: Lane, requests: &mut Vec<Request>) {
        self.lock().requests.extend(requests.drain(..));
        self.changed.notify_all();
    }

    fn reap(&self) {
        loop {
            let mut queue = self.lock();
            if queue.open {
                return;
            }
            let Some(request) = queue.requests.pop_front() else { return };
            drop(queue);
            self.end(request);
        }
    }

    unsafe fn register(&self, memory: NonNull<u8>, len: usize, owner: Arc<dyn Any + Send + Sync>) {
        let mut known = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(Arc::downgrade(&owner));
        drop(known);
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        *frames = (memory.as_ptr() as usize, len);
    }
}
