//! A request on its way through a back end: how it is continued, and how its end is told.
//!
//! A [`Work`] owns everything its I/O touches (I12): buffer, open file and completion. A system
//! call that moved only a part leaves a `Work` that continues from there, so that a request is
//! performed whole or ends with an error.
//!
//! Completions run through [`run`] only: on a stack that holds no lock of the disk, and never one
//! inside another (a completion that wakes a task inline must not end up reaping again).

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buf::IoBuf;
use crate::directory::OpenFile;
use crate::disk::{Completion, Op, Request};

/// How often in a row an I/O may come back having moved nothing before that is an error.
const FRUITLESS_MAX: u16 = 1000;

/// Most bytes in one system call: below the kernel's limit of 2 GiB less a page.
const TRANSFER_MAX: usize = 1 << 30;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Work {
    pub(crate) file: Arc<OpenFile>,
    pub(crate) op: Op,
    offset: u64,
    pub(crate) buf: IoBuf,
    pub(crate) done: Arc<dyn Completion>,
    pub(crate) token: u64,
    moved: usize,
    fruitless: u16,
    /// When it was handed over, by the watch of its file. None for a sync that rides on another.
    begun: Option<u64>,
}

/// What to do after a system call.
pub(crate) enum Step {
    /// Submit what is left.
    Again,
    /// It is over.
    Over(io::Result<()>),
}

impl Work {
    pub(crate) fn new(request: Request, file: Arc<OpenFile>) -> Self {
        let Request { file: _, op, offset, buf, done, token } = request;
        let begun = (op != Op::Sync).then(|| file.watch.now());
        Self { file, op, offset, buf, done, token, moved: 0, fruitless: 0, begun }
    }

    /// A sync of `file` on behalf of others.
    pub(crate) fn sync(file: Arc<OpenFile>, done: Arc<dyn Completion>) -> Self {
        let (op, buf) = (Op::Sync, IoBuf::None);
        let begun = Some(file.watch.now());
        Self { file, op, offset: 0, buf, done, token: 0, moved: 0, fruitless: 0, begun }
    }

    /// Where the part that is still to be moved lies: in memory, its length, in the file.
    pub(crate) fn rest(&self) -> (*mut u8, usize, u64) {
        let len = (self.buf.len() - self.moved).min(TRANSFER_MAX);
        (self.buf.as_ptr().wrapping_add(self.moved), len, self.offset + self.moved as u64)
    }

    /// Where an allocation begins and where it ends.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes in what a system call returned.
    pub(crate) fn step(&mut self, returned: io::Result<usize>) -> Step {
        match returned {
            Ok(moved) => match self.op {
                Op::Read | Op::Write | Op::WriteDurable => self.advance(moved),
                Op::Sync | Op::Allocate { .. } => Step::Over(Ok(())),
            },
            Err(error) if is_transient(&error) => self.again(error),
            Err(error) => match self.op {
                // Devices refuse it in several ways.
                Op::Allocate { len }
                    if is_unsupported(&error) || self.file.device_len.is_some() =>
                {
                    Step::Over(self.file.extend_to(self.offset + len))
                }
                _ => Step::Over(Err(error)),
            },
        }
    }

    fn advance(&mut self, moved: usize) -> Step {
        let before = self.moved;
        self.moved += moved;
        if self.moved == self.buf.len() {
            return Step::Over(Ok(()));
        }
        let reading = self.op == Op::Read;
        let odd = if self.file.direct { self.moved % self.file.block_size } else { 0 };
        if reading && (moved == 0 || odd != 0) {
            // A direct read stops between blocks only where the file ends.
            return Step::Over(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file ends after {} of {} bytes", self.moved, self.buf.len()),
            )));
        }
        self.moved -= odd;
        if self.moved > before {
            self.fruitless = 0;
            return Step::Again;
        }
        self.again(io::Error::from(io::ErrorKind::WriteZero))
    }

    fn again(&mut self, error: io::Error) -> Step {
        self.fruitless += 1;
        if self.fruitless > FRUITLESS_MAX { Step::Over(Err(error)) } else { Step::Again }
    }

    pub(crate) fn end(self, result: io::Result<()>) -> Finished {
        Finished { work: self, result }
    }
}

/// Errors of the way and not of the I/O. `ECANCELED` and `EFAULT` are what a ring answers when the
/// thread that submitted has ended: our buffers are always mapped, and the next submitter lives.
fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let Some(code) = error.raw_os_error() else { return false };
    [Errno::INTR, Errno::AGAIN, Errno::CANCELED, Errno::FAULT]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
}

fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let Some(code) = error.raw_os_error() else { return false };
    [Errno::OPNOTSUPP, Errno::NOSYS].iter().any(|errno| errno.raw_os_error() == code)
}

/// A copy of a result that several are waiting for.
pub(crate) fn share(result: &io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => Err(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        }),
    }
}

/// A request that has ended and whose completion has not run yet.
pub(crate) struct Finished {
    work: Work,
    result: io::Result<()>,
}

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is just running completions.
pub(crate) fn in_completion() -> bool {
    RUNNING.get()
}

/// Runs completions, one after the other. Called with no lock held.
pub(crate) fn run(finished: impl Iterator<Item = Finished>) {
    let _running = Running(RUNNING.replace(true));
    for Finished { work, result } in finished {
        if let Some(begun) = work.begun {
            let Work { file, op, offset, buf, .. } = &work;
            file.watch.ended(&file.path, *op, *offset, buf.len(), begun);
        }
        let Work { file, buf, done, token, .. } = work;
        // The others' completions must run whatever this one does.
        if catch_unwind(AssertUnwindSafe(|| done.complete(token, buf, result))).is_err() {
            tracing::error!(file = %file.path.display(), "a completion panicked");
        }
    }
}

struct Running(bool);

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}
