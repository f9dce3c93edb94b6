//! The portable disk: a few threads with `pread` and `pwrite`, for kernels, containers and systems
//! without io_uring.
//!
//! Threads are started when there is more to do than threads to do it, and end with the disk, after
//! the last request. Requests somebody waits for go first, but every fourth pick looks at the
//! background first, so that reads cannot starve a checkpoint.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::backend::DiskOptions;
use crate::counters::{Counters, DiskCounters};
use crate::directory::Directory;
use crate::disk::{Disk, FileId, Lane, Op, Request};
use crate::sync_share::{self, Backend};
use crate::work::{self, Step, Work, in_completion, lock};

const THREADS_MIN: usize = 4;
const THREADS_MAX: usize = 16;

pub(crate) struct ThreadDisk {
    pool: Arc<Pool>,
    backend: Arc<dyn Backend>,
}

struct Pool {
    directory: Directory,
    counters: Counters,
    threads_max: usize,
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    foreground: VecDeque<Work>,
    background: VecDeque<Work>,
    picks: u64,
    idle: usize,
    threads: Vec<JoinHandle<()>>,
    closing: bool,
}

impl ThreadDisk {
    /// Starts the first thread, so that there is always one to take a request.
    pub(crate) fn new(directory: Directory, options: &DiskOptions) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads_max = options.threads.unwrap_or(4 * cores).clamp(THREADS_MIN, THREADS_MAX);
        let pool = Arc::new(Pool {
            directory,
            counters: Counters::default(),
            threads_max,
            queue: Mutex::default(),
            more: Condvar::new(),
        });
        pool.start_thread(&mut lock(&pool.queue))?;
        let backend = Arc::clone(&pool) as Arc<dyn Backend>;
        Ok(Self { pool, backend })
    }
}

impl Disk for ThreadDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<FileId> {
        self.pool.directory.open_file(name, create)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.pool.directory.names()
    }

    fn len(&self, file: FileId) -> io::Result<u64> {
        self.pool.directory.len(file)
    }

    fn set_len(&self, file: FileId, len: u64) -> io::Result<()> {
        self.pool.directory.set_len(file, len)
    }

    fn has_fixed_len(&self, file: FileId) -> bool {
        self.pool.directory.has_fixed_len(file)
    }

    fn describe(&self, file: FileId) -> String {
        self.pool.directory.describe(file)
    }

    fn block_size(&self) -> usize {
        self.pool.directory.block_size()
    }

    fn backend(&self) -> String {
        format!("up to {} threads, {}", self.pool.threads_max, self.pool.directory.access())
    }

    fn counters(&self) -> DiskCounters {
        self.pool.counters.read(self.pool.directory.watch())
    }

    fn submit(&self, lane: Lane, requests: &mut Vec<Request>) {
        Counters::add(&self.pool.counters.requests, requests.len());
        let files = self.pool.directory.files();
        let works = requests.drain(..).filter_map(|request| {
            let file = Arc::clone(files.get(request.file));
            let work = Work::new(request, file);
            match work.op {
                Op::Sync => sync_share::admit(&self.backend, work),
                _ => Some(work),
            }
        });
        self.pool.enqueue(lane, works);
    }

    fn reap(&self) {}
}

impl Drop for ThreadDisk {
    fn drop(&mut self) {
        let mut queue = lock(&self.pool.queue);
        queue.closing = true;
        let threads = std::mem::take(&mut queue.threads);
        drop(queue);
        self.pool.more.notify_all();
        // A completion that drops the disk is itself something that the threads still have to end.
        if !in_completion() {
            for thread in threads {
                // A thread that panicked has said so; there is nothing to add.
                let _ = thread.join();
            }
        }
    }
}

impl Backend for Pool {
    fn start(&self, work: Work) {
        lock(&self.queue).background.push_back(work);
        self.more.notify_one();
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Pool {
    fn enqueue(self: &Arc<Self>, lane: Lane, works: impl Iterator<Item = Work>) {
        let mut queue = lock(&self.queue);
        match lane {
            Lane::Foreground => queue.foreground.extend(works),
            Lane::Background => queue.background.extend(works),
        }
        let waiting = queue.foreground.len() + queue.background.len();
        let mut missing = waiting.saturating_sub(queue.idle);
        while missing > 0 && queue.threads.len() < self.threads_max {
            missing -= 1;
            if let Err(error) = self.start_thread(&mut queue) {
                tracing::warn!(%error, threads = queue.threads.len(), "no more I/O threads");
                break;
            }
        }
        let idle = queue.idle;
        drop(queue);
        for _ in 0..waiting.min(idle) {
            self.more.notify_one();
        }
    }

    fn start_thread(self: &Arc<Self>, queue: &mut Queue) -> io::Result<()> {
        let pool = Arc::clone(self);
        let name = format!("treering-io-{}", queue.threads.len());
        let thread = thread::Builder::new().name(name).spawn(move || {
            while let Some(mut work) = pool.next() {
                let result = perform(&mut work);
                work::run(std::iter::once(work.end(result)));
            }
        })?;
        queue.threads.push(thread);
        Ok(())
    }

    fn next(&self) -> Option<Work> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(work) = queue.pick() {
                return Some(work);
            }
            if queue.closing {
                return None;
            }
            queue.idle += 1;
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

impl Queue {
    fn pick(&mut self) -> Option<Work> {
        self.picks += 1;
        if self.picks.is_multiple_of(4)
            && let Some(work) = self.background.pop_front()
        {
            return Some(work);
        }
        self.foreground.pop_front().or_else(|| self.background.pop_front())
    }
}

/// Performs a work to its end, in this thread.
fn perform(work: &mut Work) -> io::Result<()> {
    loop {
        let returned = match work.op {
            Op::Read | Op::Write | Op::WriteDurable => transfer(work),
            Op::Sync => work.file.file.sync_data().map(|()| 0),
            Op::Allocate { len } => allocate(work, len),
        };
        if let Step::Over(result) = work.step(returned) {
            return result;
        }
    }
}

/// One `pread` or `pwrite`. The plain system calls and not std's, which take slices: the bytes of a
/// shared buffer may be looked at by optimistic readers meanwhile, and a `&mut` would forbid that.
fn transfer(work: &Work) -> io::Result<usize> {
    let (ptr, len, offset) = work.rest();
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let fd = work.file.file.as_raw_fd();
    let moved = match work.op {
        // SAFETY: the work owns its buffer, of which `ptr` has `len` bytes left, until it has ended
        // (I12), and whoever made the buffer promised that reads may write to it.
        Op::Read => unsafe { libc::pread(fd, ptr.cast(), len, offset) },
        // SAFETY: as above; nobody writes the bytes meanwhile.
        Op::Write => unsafe { libc::pwrite(fd, ptr.cast_const().cast(), len, offset) },
        _ => return write_durable(work, ptr, len, offset),
    };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// A write that is durable when it returns: one system call where the kernel knows how.
fn write_durable(work: &Work, ptr: *mut u8, len: usize, offset: libc::off_t) -> io::Result<usize> {
    let fd = work.file.file.as_raw_fd();
    #[cfg(target_os = "linux")]
    {
        let part = libc::iovec { iov_base: ptr.cast(), iov_len: len };
        // SAFETY: as in `transfer`; the one iovec lives to the end of the call.
        let moved = unsafe { libc::pwritev2(fd, &part, 1, offset, libc::RWF_DSYNC) };
        if let Ok(moved) = usize::try_from(moved) {
            return Ok(moved);
        }
        let error = io::Error::last_os_error();
        if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) {
            return Err(error);
        }
    }
    // SAFETY: as in `transfer`.
    let moved = unsafe { libc::pwrite(fd, ptr.cast_const().cast(), len, offset) };
    let moved = usize::try_from(moved).map_err(|_| io::Error::last_os_error())?;
    work.file.file.sync_data()?;
    Ok(moved)
}

#[cfg(target_os = "linux")]
fn allocate(work: &Work, len: u64) -> io::Result<usize> {
    use rustix::fs::{FallocateFlags, fallocate};
    fallocate(&work.file.file, FallocateFlags::empty(), work.offset(), len)?;
    Ok(0)
}

#[cfg(not(target_os = "linux"))]
fn allocate(work: &Work, len: u64) -> io::Result<usize> {
    work.file.extend_to(work.offset() + len)?;
    Ok(0)
}
