//! One ring, used by many threads: submission, operations in flight, completion.
//!
//! # Protocol
//! Three mutexes, none of them held while a completion runs:
//!
//! * `submission` guards the submission queue and is held over `io_uring_enter`, so that whoever
//!   pushes has also entered the kernel when it lets go: no future depends on an SQE that nobody
//!   has submitted.
//! * `operations` guards the slab of what is in flight and the queue of what waits for room. It is
//!   taken inside `submission`, briefly, and by reapers.
//! * `completion` guards the completion queue, only while entries are copied out of it.
//!
//! An operation is in the slab from before its SQE is pushed until its CQE has been taken out, and
//! owns buffer and file for so long (I12). Operations in the slab never outnumber the entries of
//! the completion queue, so it cannot overflow. Room comes back when a CQE is taken out, and whoever
//! takes it out pushes what was waiting: nobody's progress needs a future to be polled (I1).

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use io_uring::{IoUring, Probe, cqueue, opcode, types};

use super::fixed::{Fixed, FixedFiles};
use super::operations::{Operations, POLL};
use crate::work::{self, Finished, Work, lock};

const SUBMISSION_ENTRIES: u32 = 256;
const COMPLETION_ENTRIES: u32 = 512;
/// Completion entries kept for polls: more than there are rings to watch.
const POLLS_MAX: usize = 72;
/// CQEs taken out under the lock at once.
const REAP_BATCH: usize = 64;

pub(super) struct Ring {
    ring: IoUring,
    submission: Mutex<Submission>,
    completion: Mutex<()>,
    operations: Mutex<Operations>,
    /// Operations allowed in the slab.
    limit: usize,
    /// Requests accepted whose completion has not returned yet, those that wait included.
    in_flight: AtomicUsize,
    /// Requests ever accepted.
    accepted: AtomicU64,
    /// CQEs ever taken out.
    reaped: AtomicU64,
    /// The kernel refused to take SQEs for the moment; somebody has to pump again.
    stuck: AtomicBool,
}

struct Submission {
    fixed: Fixed,
    files: FixedFiles,
}

/// How to take the completion side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reap {
    /// Leave it if somebody else has it: that one may miss what comes in just now, but there is
    /// still the poller.
    IfFree,
    /// Whoever is responsible for the ring waits for its turn.
    Now,
}

impl Ring {
    /// A ring that any thread may submit to, and that holds the file `held`: default flags. With COOP_TASKRUN the completions of a
    /// thread that is busy in user space would come milliseconds late.
    pub(super) fn lane(held: Option<RawFd>) -> io::Result<Self> {
        let ring = IoUring::builder().setup_cqsize(COMPLETION_ENTRIES).build(SUBMISSION_ENTRIES)?;
        check(&ring)?;
        Ok(Self::new(ring, held))
    }

    /// A ring for the calling thread alone.
    pub(super) fn single_issuer(held: Option<RawFd>) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES);
        match ring {
            Ok(ring) => Ok(Self::new(ring, held)),
            // Kernels before 6.1 do not know these flags.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Self::lane(held),
            Err(error) => Err(error),
        }
    }

    fn new(ring: IoUring, held: Option<RawFd>) -> Self {
        let limit = ring.params().cq_entries() as usize - POLLS_MAX;
        let submission =
            Submission { fixed: Fixed::default(), files: FixedFiles::new(&ring, held) };
        Self {
            ring,
            submission: Mutex::new(submission),
            completion: Mutex::default(),
            operations: Mutex::default(),
            limit,
            in_flight: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            reaped: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
        }
    }

    /// Takes over works and hands them to the kernel, in order. Runs no completion. Returns how
    /// many there were.
    pub(super) fn submit(&self, works: impl Iterator<Item = Work>) -> usize {
        let mut submission = lock(&self.submission);
        let count = self.accept(works);
        if count > 0 {
            self.pump_locked(&mut submission, true);
        }
        count
    }

    /// As [`Ring::submit`], but leaves entering the kernel to the next [`Ring::wait`], except where
    /// the queue overflows.
    pub(super) fn push(&self, works: impl Iterator<Item = Work>) {
        let mut submission = lock(&self.submission);
        if self.accept(works) > 0 {
            self.pump_locked(&mut submission, false);
        }
    }

    fn accept(&self, works: impl Iterator<Item = Work>) -> usize {
        let mut operations = lock(&self.operations);
        let count = operations.enqueue(works);
        // Before the submission lock is released, so before any of them can complete.
        self.in_flight.fetch_add(count, Ordering::SeqCst);
        self.accepted.fetch_add(count as u64, Ordering::Relaxed);
        count
    }

    /// Hands over whatever can be handed over.
    pub(super) fn pump(&self) {
        self.pump_locked(&mut lock(&self.submission), true);
    }

    fn pump_locked(&self, submission: &mut MutexGuard<'_, Submission>, enter_at_end: bool) {
        loop {
            let more = self.fill(submission);
            if (more || enter_at_end) && !self.enter() {
                break;
            }
            if !more {
                break;
            }
        }
    }

    /// Moves works into the submission queue. Returns whether it is full with more to come.
    fn fill(&self, submission: &mut MutexGuard<'_, Submission>) -> bool {
        // SAFETY: `submission` is locked, and nobody makes a submission queue without it.
        let mut queue = unsafe { self.ring.submission_shared() };
        let mut operations = lock(&self.operations);
        while !queue.is_full() {
            let Some(key) = operations.next(self.limit) else { return false };
            let Submission { fixed, files } = &mut **submission;
            let index_of = |file| files.index_of(&self.ring, file);
            let Some(entry) = operations.entry(key, fixed, index_of) else { continue };
            // SAFETY: the slab owns buffer and file until this entry's CQE has been taken out
            // (I12), whatever becomes of the future that asked for it.
            unsafe { queue.push(&entry) }.expect("the submission queue was found not full");
        }
        operations.has_next(self.limit)
    }

    /// Makes the kernel take everything in the submission queue. False when it refuses for now.
    /// Called with `submission` locked.
    fn enter(&self) -> bool {
        loop {
            // SAFETY: the caller has locked `submission`; the queue is gone at the end of the line.
            if unsafe { self.ring.submission_shared() }.is_empty() {
                self.stuck.store(false, Ordering::SeqCst);
                return true;
            }
            match self.ring.submit() {
                // It stops early after an entry that it found fault with; that one has its CQE.
                Ok(taken) if taken > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                refused => {
                    // EAGAIN and EBUSY: no memory for requests just now. The entries stay where
                    // they are, and the watch enters again.
                    if let Err(error) = refused
                        && !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY))
                    {
                        tracing::error!(%error, "io_uring takes no requests; trying again");
                    }
                    self.stuck.store(true, Ordering::SeqCst);
                    return false;
                }
            }
        }
    }

    /// Runs the completions of everything that has finished; returns how many CQEs there were. Tags
    /// of polls that fired go to `fired`.
    pub(super) fn reap(&self, how: Reap, fired: &mut Vec<u64>) -> usize {
        let mut total = 0;
        loop {
            let mut entries = [const { MaybeUninit::uninit() }; REAP_BATCH];
            let Some(entries) = self.take_out(how, &mut entries) else { return total };
            if entries.is_empty() {
                return total;
            }
            total += entries.len();
            self.reaped.fetch_add(entries.len() as u64, Ordering::Relaxed);
            self.settle(entries, fired);
            if entries.len() < REAP_BATCH && how == Reap::IfFree {
                return total;
            }
        }
    }

    fn take_out<'a>(
        &self,
        how: Reap,
        entries: &'a mut [MaybeUninit<cqueue::Entry>],
    ) -> Option<&'a [cqueue::Entry]> {
        let _completion = match how {
            Reap::Now => lock(&self.completion),
            Reap::IfFree => match self.completion.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            },
        };
        // SAFETY: `completion` is locked, and nobody makes a completion queue without it.
        let mut queue = unsafe { self.ring.completion_shared() };
        Some(queue.fill(entries))
    }

    /// Ends or continues the operations of some CQEs, and fills the room that this makes.
    fn settle(&self, entries: &[cqueue::Entry], fired: &mut Vec<u64>) {
        let mut finished = Scratch::take();
        let waiting = {
            let mut operations = lock(&self.operations);
            for entry in entries {
                if entry.user_data() & POLL != 0 {
                    fired.push(entry.user_data() & !POLL);
                } else {
                    finished.0.extend(operations.settle(entry));
                }
            }
            operations.has_next(self.limit)
        };
        if waiting {
            self.pump();
        }
        let count = finished.0.len();
        work::run(finished.0.drain(..));
        self.in_flight.fetch_sub(count, Ordering::SeqCst);
    }

    /// Whether there are CQEs that nobody has taken out.
    pub(super) fn has_completions(&self) -> bool {
        let _completion = lock(&self.completion);
        // SAFETY: `completion` is locked, and nobody makes a completion queue without it.
        !unsafe { self.ring.completion_shared() }.is_empty()
    }

    /// Waits for readability of `fd`, once: [`Ring::reap`] then says `tag`. Only for a ring's own
    /// thread, which enters the kernel with the next [`Ring::wait`].
    pub(super) fn poll_once(&self, fd: RawFd, tag: u64) -> bool {
        let submission = lock(&self.submission);
        let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN as u32).build();
        for _attempt in 0..2 {
            // SAFETY: `submission` is locked, and nobody makes a submission queue without it.
            let mut queue = unsafe { self.ring.submission_shared() };
            // SAFETY: a poll refers to no memory of ours.
            if unsafe { queue.push(&entry.clone().user_data(POLL | tag)) }.is_ok() {
                return true;
            }
            drop(queue);
            self.enter();
        }
        drop(submission);
        false
    }

    /// Enters the kernel with everything that was pushed and waits until there is a CQE, or for
    /// `timeout`. Only for a ring's own thread.
    pub(super) fn wait(&self, timeout: Option<Duration>) {
        let timeout = timeout.map(types::Timespec::from);
        let mut args = types::SubmitArgs::new();
        if let Some(timeout) = &timeout {
            args = args.timespec(timeout);
        }
        let entered = self.ring.submitter().submit_with_args(1, &args);
        match entered {
            Ok(_) => self.stuck.store(false, Ordering::SeqCst),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR) => self.stuck.store(false, Ordering::SeqCst),
                // The kernel wants completions taken out, or has no memory just now. It gives no
                // event to wait for, so this yields for a moment.
                _ => {
                    self.stuck.store(true, Ordering::SeqCst);
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            },
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn reaped(&self) -> u64 {
        self.reaped.load(Ordering::Relaxed)
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::SeqCst)
    }

    /// Registers memory with this ring, sharing the registration of `like` where the kernel can.
    ///
    /// # Safety
    /// The memory must stay valid as long as requests refer to it.
    pub(super) unsafe fn register(
        &self,
        memory: *mut u8,
        len: usize,
        like: Option<&Ring>,
    ) -> io::Result<()> {
        let mut submission = lock(&self.submission);
        let like = like.map(|ring| ring.ring.as_raw_fd());
        // SAFETY: passed on to the caller.
        submission.fixed = unsafe { Fixed::register(&self.ring, memory, len, like) }?;
        Ok(())
    }

    /// Gives registered memory back to the kernel's accounting.
    pub(super) fn unregister(&self) {
        let mut submission = lock(&self.submission);
        if std::mem::take(&mut submission.fixed).is_registered() {
            // The ring is about to be closed, which does the same.
            let _ = self.ring.submitter().unregister_buffers();
        }
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// Whether the kernel's io_uring has what is used here: that of Linux 5.11 and later.
fn check(ring: &IoUring) -> io::Result<()> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let codes = [
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::ReadFixed::CODE,
        opcode::WriteFixed::CODE,
        opcode::Fsync::CODE,
        opcode::Fallocate::CODE,
        opcode::PollAdd::CODE,
    ];
    let complete = codes.iter().all(|&code| probe.is_supported(code))
        && ring.params().is_feature_ext_arg()
        && ring.params().is_feature_nodrop();
    if complete {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring of a kernel before 5.11"))
    }
}

thread_local! {
    static SCRATCH: Cell<Vec<Finished>> = const { Cell::new(Vec::new()) };
}

/// A vector that keeps its allocation from one reaping of a thread to the next.
struct Scratch(Vec<Finished>);

impl Scratch {
    fn take() -> Self {
        Self(SCRATCH.try_with(Cell::take).unwrap_or_default())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where the thread is ending, the vector just goes.
        let _ = SCRATCH.try_with(|scratch| scratch.set(std::mem::take(&mut self.0)));
    }
}

/// A ring whose kernel side is done with everything may be dropped; anything else would free
/// buffers that the kernel may still write to (I12).
impl Drop for Ring {
    fn drop(&mut self) {
        let operations = self.operations.get_mut().unwrap_or_else(PoisonError::into_inner);
        let count = operations.in_kernel();
        if count > 0 {
            // Not reached: the I/O thread goes last, and it goes when nothing is in flight. Leaking
            // is the one thing that is safe all the same.
            tracing::error!(count, "a ring was dropped with I/O in flight");
            std::mem::forget(std::mem::take(operations));
        }
    }
}
