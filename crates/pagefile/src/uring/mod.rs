//! The io_uring disk: who submits, who waits, who watches.
//!
//! # Rings
//! * **Tokio lanes**, about one a core. A thread inside a Tokio runtime uses one of them, the same
//!   for all its life. It pushes its requests and enters the kernel itself, in the poll that asks.
//! * **The foreign lane**, for all other threads: executors of other makes, bare `block_on`, the
//!   engine's own.
//! * **The background ring**, which belongs to the I/O thread `treering-io` alone: write-back, syncs,
//!   allocations, and everything that is not O_DIRECT. A buffered read on a lane would fail with
//!   `EFAULT` if the thread that submitted it ended first, and Tokio's threads do end.
//!
//! # Who runs completions
//! 1. Whoever submits or polls: [`Disk::reap`] looks at this thread's lane, if nobody else is just
//!    doing so.
//! 2. The lane's *waiter*. For a Tokio lane that is a task on the runtime that submitted first,
//!    which lets Tokio's reactor wait for the ring ([`poller`]). When that task goes away with its
//!    runtime, or cannot be (no I/O driver), the I/O thread becomes the waiter, as it is for the
//!    foreign lane from the start. The next thread of a Tokio runtime takes the lane back.
//! 3. The I/O thread again, as the *watch* ([`watch`]): a completion that has been there for a tick
//!    without anybody reaping is reaped by it. So a runtime that is alive but stands still delays
//!    nobody for more than some milliseconds (I1).
//!
//! # Who wakes the I/O thread
//! It sleeps in `io_uring_enter` on its own ring, which also polls an eventfd and the rings that it
//! waits for. Only three things need a write to the eventfd: background requests, when it sleeps; a
//! Tokio lane that becomes busy when it sleeps *without a tick*; and changes of state (a waiter
//! gone, a ring that did not take its entries, closing). A loop with one read in flight at a time
//! keeps the tick going and so pays for one write at its beginning, not for one a read.

mod fixed;
mod operations;
mod poller;
mod ring;
mod watch;

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};

use futures::task::AtomicWaker;
use rustix::process::{Resource, getrlimit};
use tokio::runtime::Handle;

use self::ring::{Reap, Ring};
use crate::backend::{DiskOptions, Refused};
use crate::counters::{Counters, DiskCounters};
use crate::directory::Directory;
use crate::disk::{Disk, FileId, Lane, Op, Request};
use crate::sync_share::{self, Backend};
use crate::work::{Work, in_completion, lock};

const LANES_DEFAULT_MAX: usize = 32;
const LANES_MAX: usize = 64;

pub(crate) struct UringDisk {
    shared: Arc<Shared>,
    backend: Arc<dyn Backend>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What submitters, pollers and the I/O thread share.
struct Shared {
    directory: Directory,
    counters: Counters,
    /// The Tokio lanes, and the foreign lane as the last.
    lanes: Vec<LaneRing>,
    /// Requests on their way to the background ring.
    inbox: Mutex<Vec<Work>>,
    /// What the I/O thread is doing: one of the constants below.
    watch: AtomicU8,
    /// Whether the eventfd has been written and not been read since.
    kicked: AtomicBool,
    event: OwnedFd,
    closing: AtomicBool,
    /// Whether Tokio's reactors may wait for rings at all.
    reactor: bool,
    /// The memory registered with the lanes.
    registered: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// Runtimes whose reactor cannot: built without an I/O driver.
    without_io: Mutex<Vec<tokio::runtime::Id>>,
}

/// The I/O thread runs, and will look at everything before it sleeps.
const AWAKE: u8 = 0;
/// It sleeps, but no longer than a tick.
const TICKING: u8 = 1;
/// It sleeps until something happens.
const IDLE: u8 = 2;

struct LaneRing {
    ring: Ring,
    /// Who waits for it: [`WATCH`] or [`POLLER`].
    waiter: AtomicU8,
    /// The poller task, to be told that the disk closes.
    poller: AtomicWaker,
}

/// The I/O thread waits for the lane's completions.
const WATCH: u8 = 0;
/// A task on a Tokio runtime does.
const POLLER: u8 = 1;

impl UringDisk {
    /// Sets up the rings and starts the I/O thread. Gives the directory back if that fails.
    pub(crate) fn new(directory: Directory, options: &DiskOptions) -> Result<Self, Refused> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        // What a reader has under way changes no file: nobody need wait for it.
        let held = options.lock.as_ref().filter(|_| !options.read_only);
        let held = held.map(|lock| lock.as_raw_fd());
        let lanes = options.lanes.unwrap_or(cores.min(LANES_DEFAULT_MAX)).clamp(1, LANES_MAX);
        let rings = (0..=lanes).map(|_| Ring::lane(held)).collect::<io::Result<Vec<_>>>();
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let event = rustix::event::eventfd(0, flags);
        let (rings, event) = match (rings, event) {
            (Ok(rings), Ok(event)) => (rings, event),
            (Err(error), _) => return Err(Box::new((directory, error))),
            (_, Err(errno)) => return Err(Box::new((directory, errno.into()))),
        };
        let shared = Shared {
            directory,
            counters: Counters::default(),
            lanes: rings.into_iter().map(LaneRing::new).collect(),
            inbox: Mutex::default(),
            watch: AtomicU8::new(AWAKE),
            kicked: AtomicBool::new(false),
            event,
            closing: AtomicBool::new(false),
            reactor: options.tokio_reactor,
            registered: OnceLock::new(),
            without_io: Mutex::default(),
        };
        let (shared, thread) = start(shared, held)?;
        let backend = Arc::clone(&shared) as Arc<dyn Backend>;
        Ok(Self { shared, backend, thread: Mutex::new(Some(thread)) })
    }
}

/// Starts the I/O thread, which makes its own ring: a ring with a single issuer belongs to the
/// thread that made it.
fn start(shared: Shared, held: Option<RawFd>) -> Result<(Arc<Shared>, JoinHandle<()>), Refused> {
    let (outcome, ready) = mpsc::channel();
    let (hand_over, receive) = mpsc::channel::<Arc<Shared>>();
    let thread = thread::Builder::new().name("treering-io".into()).spawn(move || {
        let ring = match Ring::single_issuer(held) {
            Ok(ring) => ring,
            Err(error) => return drop(outcome.send(Err(error))),
        };
        // Not sent: the one who started this thread is gone, and so is the work.
        let _ = outcome.send(Ok(()));
        if let Ok(shared) = receive.recv() {
            watch::Watch::new(shared, ring).run();
        }
    });
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => return Err(Box::new((shared.directory, error))),
    };
    match ready.recv() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(Box::new((shared.directory, error))),
        Err(_) => {
            return Err(Box::new((shared.directory, io::Error::other("the I/O thread ended"))));
        }
    }
    let shared = Arc::new(shared);
    // The thread has said that it is about to receive.
    let _ = hand_over.send(Arc::clone(&shared));
    Ok((shared, thread))
}

impl Disk for UringDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<FileId> {
        self.shared.directory.open_file(name, create)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.shared.directory.names()
    }

    fn len(&self, file: FileId) -> io::Result<u64> {
        self.shared.directory.len(file)
    }

    fn set_len(&self, file: FileId, len: u64) -> io::Result<()> {
        self.shared.directory.set_len(file, len)
    }

    fn has_fixed_len(&self, file: FileId) -> bool {
        self.shared.directory.has_fixed_len(file)
    }

    fn describe(&self, file: FileId) -> String {
        self.shared.directory.describe(file)
    }

    fn block_size(&self) -> usize {
        self.shared.directory.block_size()
    }

    fn backend(&self) -> String {
        let lanes = self.shared.lanes.len() - 1;
        format!("io_uring, {lanes} lanes, {}", self.shared.directory.access())
    }

    fn counters(&self) -> DiskCounters {
        self.shared.counters.read(self.shared.directory.watch())
    }

    fn submit(&self, lane: Lane, requests: &mut Vec<Request>) {
        Counters::add(&self.shared.counters.requests, requests.len());
        let mut background = Vec::new();
        match lane {
            Lane::Foreground => self.shared.submit(requests, &mut background),
            Lane::Background => {
                let files = self.shared.directory.files();
                let works = requests.drain(..).map(|request| {
                    let file = Arc::clone(files.get(request.file));
                    Work::new(request, file)
                });
                background.extend(works);
            }
        }
        if background.is_empty() {
            return;
        }
        let works = background.into_iter().filter_map(|work| match work.op {
            Op::Sync => sync_share::admit(&self.backend, work),
            _ => Some(work),
        });
        lock(&self.shared.inbox).extend(works);
        self.shared.wake_for_inbox();
    }

    fn reap(&self) {
        // A completion that wakes and polls a task inline would otherwise recurse.
        if in_completion() {
            return;
        }
        if let Some(index) = self.shared.last_lane() {
            self.shared.reap_lane(index, Reap::IfFree);
        }
    }

    unsafe fn register(&self, memory: NonNull<u8>, len: usize, owner: Arc<dyn Any + Send + Sync>) {
        // A privileged process may lock as much as it likes, and would have the whole region made
        // resident here. The limit says what the administrator means to be locked.
        let limit = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
        if len as u64 > limit || self.shared.registered.set(owner).is_err() {
            tracing::debug!(len, limit, "no registered buffers: more than RLIMIT_MEMLOCK");
            return;
        }
        let mut like: Option<&Ring> = None;
        // The lanes only: write-back goes from staging buffers, and a ring with a single issuer
        // takes registrations from that issuer alone.
        for lane in &self.shared.lanes {
            // SAFETY: the owner is kept until the rings are gone, and keeps the memory valid.
            match unsafe { lane.ring.register(memory.as_ptr(), len, like) } {
                Ok(()) => like = Some(&lane.ring),
                Err(error) => {
                    tracing::debug!(%error, len, "no registered buffers: going on without");
                    return;
                }
            }
        }
        tracing::debug!(len, "buffers registered");
    }
}

impl Drop for UringDisk {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        for lane in &self.shared.lanes {
            lane.poller.wake();
        }
        self.shared.kick();
        let thread = lock(&self.thread).take();
        // A completion that drops the disk is itself in flight: the thread would wait for it.
        if let Some(thread) = thread
            && !in_completion()
        {
            // A thread that panicked has said so; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Backend for Shared {
    fn start(&self, work: Work) {
        lock(&self.inbox).push(work);
        self.wake_for_inbox();
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Shared {
    /// Starts what may go on a lane; leaves the rest in `background`.
    fn submit(self: &Arc<Self>, requests: &mut Vec<Request>, background: &mut Vec<Work>) {
        let tokio = in_tokio();
        let index = self.pick_lane(tokio);
        let lane = &self.lanes[index];
        let count = {
            let files = self.directory.files();
            lane.ring.submit(requests.drain(..).filter_map(|request| {
                let file = Arc::clone(files.get(request.file));
                let work = Work::new(request, file);
                let on_lane =
                    work.file.direct && matches!(work.op, Op::Read | Op::Write | Op::WriteDurable);
                if on_lane {
                    return Some(work);
                }
                background.push(work);
                None
            }))
        };
        if count == 0 {
            return;
        }
        if tokio {
            self.ensure_poller(index);
        }
        if lane.ring.is_stuck() {
            self.kick();
        } else if lane.waiter.load(Ordering::SeqCst) == POLLER
            && self.watch.load(Ordering::SeqCst) == IDLE
        {
            // `in_flight` was raised before this look at `watch`; the thread sets IDLE before it
            // looks at `in_flight`. One of the two sees the other.
            self.kick();
        }
    }

    /// Runs what has finished on a lane.
    fn reap_lane(&self, index: usize, how: Reap) -> usize {
        let ring = &self.lanes[index].ring;
        if ring.in_flight() == 0 {
            return 0;
        }
        let reaped = ring.reap(how, &mut Vec::new());
        if self.closing.load(Ordering::SeqCst) || ring.is_stuck() {
            self.kick();
        }
        reaped
    }

    /// Wakes the I/O thread if it sleeps; called after something was put into the inbox. The thread
    /// looks into the inbox once more, under its lock, after it has announced that it sleeps.
    fn wake_for_inbox(&self) {
        if self.watch.load(Ordering::SeqCst) != AWAKE {
            self.kick();
        }
    }

    /// Makes the I/O thread look at everything.
    fn kick(&self) {
        if !self.kicked.swap(true, Ordering::SeqCst) {
            // Fails only if the counter overflows, which takes 2^64 writes without a read.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    fn foreign(&self) -> usize {
        self.lanes.len() - 1
    }

    fn pick_lane(&self, tokio: bool) -> usize {
        LAST_IN_TOKIO.set(Some(tokio));
        if tokio { thread_number() % self.foreign() } else { self.foreign() }
    }

    /// The lane that this thread last submitted to.
    fn last_lane(&self) -> Option<usize> {
        let tokio = LAST_IN_TOKIO.get()?;
        Some(if tokio { thread_number() % self.foreign() } else { self.foreign() })
    }
}

impl LaneRing {
    fn new(ring: Ring) -> Self {
        Self { ring, waiter: AtomicU8::new(WATCH), poller: AtomicWaker::new() }
    }
}

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    static LAST_IN_TOKIO: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Threads are numbered as they first submit, so that few threads get different lanes.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NUMBER.get().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        NUMBER.set(Some(number));
        number
    })
}

/// Whether this thread is inside a Tokio runtime. The handle costs a shared reference count, so
/// threads that are just running a task are recognised without it.
fn in_tokio() -> bool {
    tokio::task::try_id().is_some() || Handle::try_current().is_ok()
}
