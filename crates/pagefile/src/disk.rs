//! The seam to storage: a directory of files, and requests that complete once.
//!
//! # Protocol
//! 1. A caller that holds no latch's queue place and no mutex calls [`Disk::submit`]. The requests
//!    now belong to the disk: buffers, file and the right to be completed. `submit` pushes them and
//!    enters the kernel itself; it never runs a completion.
//! 2. The disk performs each request whole (a short transfer is continued, `ECANCELED`, `EINTR` and
//!    `EAGAIN` are submitted again) and then calls [`Completion::complete`] exactly once, on
//!    whatever thread found out: a caller of [`Disk::reap`], a poller, a reaper thread.
//! 3. A completion may lock short mutexes, wake wakers and submit further requests. It never waits
//!    for a latch, and it is never called from inside `submit`.
//!
//! Nobody has to poll anything for step 2 to happen: a future that is never polled again delays
//! neither its own I/O nor anybody else's (I1).

use std::any::Any;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use futures::channel::oneshot;

use crate::buf::{AlignedBuf, IoBuf};
use crate::counters::DiskCounters;

/// An open file of a [`Disk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fills the buffer from the file; bytes beyond the end of the file are an `UnexpectedEof`.
    Read,
    /// Writes the buffer to the file; it may be lost in a crash until a later [`Op::Sync`] completes.
    Write,
    /// Writes the buffer, and completes when it is durable (as with `RWF_DSYNC`).
    WriteDurable,
    /// Makes all writes that completed before its submission durable (as `fdatasync`).
    Sync,
    /// Reserves space up to `offset + len` bytes, extending the file (as `fallocate`). `ENOSPC` is
    /// reported here rather than by a later write.
    Allocate {
        /// Bytes to reserve from the request's offset.
        len: u64,
    },
}

/// Which way a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits: the calling thread submits, and the quickest path completes.
    Foreground,
    /// Write-back, checkpoints, syncs and allocations: done by the engine's own I/O thread.
    Background,
}

/// One I/O, handed over to a [`Disk`].
pub struct Request {
    /// The file.
    pub file: FileId,
    /// What to do.
    pub op: Op,
    /// Where in the file, in bytes. A multiple of [`Disk::block_size`] for reads and writes.
    pub offset: u64,
    /// The bytes, whose length is a multiple of [`Disk::block_size`].
    pub buf: IoBuf,
    /// Who is told.
    pub done: Arc<dyn Completion>,
    /// Given back to `done`, which uses it as it likes.
    pub token: u64,
}

/// Is told of the end of a request.
pub trait Completion: Send + Sync {
    /// Called exactly once for each request, with its token and its buffer. After an error the
    /// contents of a read buffer are unspecified.
    fn complete(self: Arc<Self>, token: u64, buf: IoBuf, result: io::Result<()>);
}

/// A directory of files. Everything the engine knows of the outside, but for [`crate::Runtime`].
///
/// The methods that are not `submit` or `reap` may block: they are called while a database is
/// opened or closed and by engine tasks, never while a user's operation is polled.
pub trait Disk: Send + Sync + 'static {
    /// Opens `name`, creating it (empty, and durable in its directory) if `create` is set and it is
    /// missing. Opening the same name again gives the same id.
    fn open(&self, name: &str, create: bool) -> io::Result<FileId>;

    /// The names of the files that exist.
    fn names(&self) -> io::Result<Vec<String>>;

    /// The length of a file in bytes.
    fn len(&self, file: FileId) -> io::Result<u64>;

    /// Cuts or extends the file to `len` bytes; extended bytes read as zero. One that has a fixed
    /// length keeps that.
    fn set_len(&self, file: FileId, len: u64) -> io::Result<()>;

    /// Whether the file is a block device, whose length is given and whose bytes may be anything.
    fn has_fixed_len(&self, _file: FileId) -> bool {
        false
    }

    /// The name under which an error should mention the file: a path where there is one.
    fn describe(&self, file: FileId) -> String;

    /// Offsets and lengths of reads and writes are multiples of this: 512 to 4096 bytes.
    fn block_size(&self) -> usize;

    /// The back end in use and why, in a few words, for people.
    fn backend(&self) -> String;

    /// Takes over all requests in the vector, leaving it empty (its allocation can be used again),
    /// and starts them in order. More requests than the device takes at once wait inside.
    fn submit(&self, lane: Lane, requests: &mut Vec<Request>);

    /// Runs the completions of requests that have already finished, if nobody else is just doing
    /// so. Called by futures when they are polled, while they hold nothing.
    fn reap(&self);

    /// Totals of what was done so far; all zero where nobody counts.
    fn counters(&self) -> DiskCounters {
        DiskCounters::default()
    }

    /// Offers memory that many reads will go to, once, before its first use; a back end may
    /// register it with the kernel, which pins it, and then keeps `owner` until it is dropped.
    /// Failure is not an error.
    ///
    /// # Safety
    /// `memory` must be valid for `len` bytes as long as `owner` lives.
    unsafe fn register(
        &self,
        _memory: NonNull<u8>,
        _len: usize,
        _owner: Arc<dyn Any + Send + Sync>,
    ) {
    }
}

/// One request as a future: resolves to the buffer and the result. Dropping it abandons the result
/// only; the I/O goes on and its buffer is freed when it has ended.
pub async fn transfer(
    disk: &dyn Disk,
    lane: Lane,
    file: FileId,
    op: Op,
    offset: u64,
    buf: IoBuf,
) -> (IoBuf, io::Result<()>) {
    let (sender, receiver) = oneshot::channel();
    let done = Arc::new(Oneshot(std::sync::Mutex::new(Some(sender))));
    disk.submit(lane, &mut vec![Request { file, op, offset, buf, done, token: 0 }]);
    disk.reap();
    receiver.await.unwrap_or_else(|_| {
        (IoBuf::None, Err(io::Error::other("the disk was dropped with the request in flight")))
    })
}

/// Makes everything written to `file` so far durable.
pub async fn sync_file(disk: &dyn Disk, file: FileId) -> io::Result<()> {
    transfer(disk, Lane::Background, file, Op::Sync, 0, IoBuf::None).await.1
}

type Finished = (IoBuf, io::Result<()>);

struct Oneshot(std::sync::Mutex<Option<oneshot::Sender<Finished>>>);

impl Completion for Oneshot {
    fn complete(self: Arc<Self>, _token: u64, buf: IoBuf, result: io::Result<()>) {
        let sender = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(sender) = sender {
            // The receiver may be gone: then nobody wants the result, and the buffer is freed here.
            let _ = sender.send((buf, result));
        }
    }
}

impl dyn Disk {
    /// Reads `len` bytes at `offset` into a new buffer.
    pub async fn read(&self, file: FileId, offset: u64, len: usize) -> io::Result<AlignedBuf> {
        let buf = IoBuf::Owned(AlignedBuf::zeroed(len));
        let (buf, result) = transfer(self, Lane::Foreground, file, Op::Read, offset, buf).await;
        result?;
        buf.into_owned().ok_or_else(|| io::Error::other("a read gave its buffer away"))
    }

    /// Writes `buf` at `offset` in the background, durable when `op` says so.
    pub async fn write(
        &self,
        file: FileId,
        op: Op,
        offset: u64,
        buf: AlignedBuf,
    ) -> io::Result<()> {
        transfer(self, Lane::Background, file, op, offset, IoBuf::Owned(buf)).await.1
    }
}
