//! Making the page file longer, in the background.
//!
//! # Protocol
//! One growth runs at a time; whoever asks meanwhile shares its outcome. It is moved on by
//! completions alone (I10), so that a caller that is dropped or never polled again holds up nobody:
//! 1. [`Op::Allocate`] reserves the next step of the file. If the disk is full, a quarter of the step
//!    is tried, and so on; when not even the smallest fits, the growth ends with an error of kind
//!    [`FileErrorKind::Full`](crate::FileErrorKind::Full), and nothing else has changed: what a failed
//!    allocation took nevertheless is given back.
//! 2. [`Op::Sync`] makes the length durable: a reservation is a promise that also holds when the log
//!    is replayed after a crash (I13). A sync that fails may have lost page writes that completed
//!    earlier, and poisons the engine (I8).
//! 3. The new slots are free.
//!
//! A growth that nobody waits for yet ([`PageFile::grow_ahead`]) goes the same way. If the disk is full
//! it leaves what is left of it to those who need it, and is not tried again before somebody did.

use std::io;
use std::sync::{Arc, Weak};

use event_listener::Event;
use treering_latch::sync::Mutex;
use treering_latch::sync::atomic::{AtomicBool, Ordering};

use crate::buf::IoBuf;
use crate::disk::{Completion, Lane, Op, Request};
use crate::error::{FileError, FileErrorKind};
use crate::file::{PageFile, lock};
use crate::ledger::{Ledger, Room};

/// A step is at least this many slots, or about this many bytes if that is more.
const STEP_SLOTS_MIN: usize = 16;
const STEP_BYTES: usize = 1 << 20;
/// With small pages, so many slots are a step.
const STEP_SLOTS_SMALL: usize = 256;
/// A step is an eighth of the file, and no more than this many bytes.
const STEP_BYTES_MAX: usize = 1 << 30;

/// The growth that runs, or how the last one ended.
#[derive(Default)]
pub(crate) struct Growth {
    state: Mutex<State>,
    /// A reservation has left less than a file should have: a hint.
    pub(crate) short: AtomicBool,
    ended: Event,
}

struct State {
    running: bool,
    /// Nobody has asked for it yet.
    ahead: bool,
    /// Slots to add.
    step: usize,
    /// How many growths have ended, and how the last one did.
    rounds: u64,
    last: Result<(), FileError>,
}

impl Default for State {
    fn default() -> Self {
        Self { running: false, ahead: false, step: 0, rounds: 0, last: Ok(()) }
    }
}

impl PageFile {
    /// Whether the room for reservations is so short that the file should grow before somebody has
    /// to wait: less than a sixteenth of the file. Stays true while the disk is full, so whoever
    /// grows the file on this advice should pause after an error of kind `Full`.
    pub fn wants_growth(&self) -> bool {
        is_short(&self.ledger())
    }

    /// Makes the file longer by one step: about 1 MiB or an eighth of the file, less if the disk has
    /// no more. Callers at the same time share one step. Dropping the future abandons the result
    /// only: the step goes on.
    ///
    /// # Errors
    /// Kind `Full` if the disk is full: an ordinary error, after which everything works on. Kind `Io`
    /// if the allocation failed otherwise. Kind `Poisoned` if the length could not be synced.
    pub async fn grow(&self) -> Result<(), FileError> {
        self.health.check()?;
        if self.read_only {
            let step = self.step();
            let mut ledger = self.ledger();
            let slots = ledger.slots() + step;
            ledger.grow(slots);
            return Ok(());
        }
        let (round, start) = {
            let mut state = lock(&self.growth.state);
            let start = !state.running;
            state.running = true;
            state.ahead = false;
            if start {
                state.step = self.step();
            }
            (state.rounds + 1, start)
        };
        if start {
            self.allocate();
        }
        loop {
            self.disk.reap();
            let listener = self.growth.ended.listen();
            {
                let state = lock(&self.growth.state);
                if state.rounds >= round {
                    return state.last.clone();
                }
            }
            listener.await;
        }
    }

    /// Begins to make the file longer if the room for reservations is getting short, so that a change
    /// need not begin anew after a growth that it had to wait for. Small files do without, and so do
    /// files whose last growth failed and those that are being compacted. Waits for nothing.
    pub fn grow_ahead(&self) {
        if !self.growth.short.load(Ordering::Relaxed)
            || self.read_only
            || self.compacting.load(Ordering::Relaxed)
        {
            return;
        }
        {
            let mut state = lock(&self.growth.state);
            if state.running || state.last.is_err() {
                return;
            }
            let smallest = self.smallest_step();
            let step = self.step();
            if step <= smallest || !self.wants_growth() {
                self.growth.short.store(false, Ordering::Relaxed);
                return;
            }
            (state.running, state.ahead, state.step) = (true, true, step);
        }
        self.allocate();
    }

    /// Begins or ends compacting: while it lasts, extents are taken as near to the start of the file
    /// as possible, and the next checkpoints write the page map as a whole.
    pub fn set_compacting(&self, compacting: bool) {
        self.ledger().set_lowest_first(compacting);
        self.compacting.store(compacting, Ordering::Release);
    }

    /// Where the file would end, in bytes, if what is in it were moved together. Pages beyond it are
    /// worth moving.
    pub fn least_len(&self) -> u64 {
        let slots = self.ledger().least_slots();
        self.geometry.end_of(slots)
    }

    /// Cuts off what is free at the end of the file, but for the room that is reserved or set aside.
    /// Returns by how many bytes it is shorter. Blocks for a system call: for engine tasks.
    ///
    /// # Errors
    /// When the file cannot be cut; it is as long as it was then, and everything works on.
    pub async fn shrink(&self) -> Result<u64, FileError> {
        self.health.check()?;
        // As a growth, so that there is none meanwhile.
        loop {
            let listener = self.growth.ended.listen();
            let running = std::mem::replace(&mut lock(&self.growth.state).running, true);
            if !running {
                break;
            }
            listener.await;
        }
        let before = self.ledger().slots();
        let cut = self.ledger().cut();
        let result = match cut {
            None => Ok(0),
            Some(slots) => match self.disk.set_len(self.file, self.geometry.end_of(slots)) {
                Ok(()) => Ok(((before - slots) * self.page_size()) as u64),
                Err(source) => {
                    self.ledger().grow(before);
                    Err(FileError::io(format!("shortening {}", self.name()), source))
                }
            },
        };
        self.end(Ok(()));
        result
    }

    fn step(&self) -> usize {
        let smallest = self.smallest_step();
        let largest = (STEP_BYTES_MAX / self.page_size()).max(smallest);
        (self.ledger().slots() / 8).clamp(smallest, largest)
    }

    fn smallest_step(&self) -> usize {
        (STEP_BYTES / self.page_size()).clamp(STEP_SLOTS_MIN, STEP_SLOTS_SMALL)
    }

    /// Submits the allocation of the present step.
    fn allocate(&self) {
        let step = lock(&self.growth.state).step;
        let offset = self.geometry.end_of(self.ledger().slots());
        self.submit(Op::Allocate { len: (step * self.page_size()) as u64 }, offset, ALLOCATED);
    }

    fn submit(&self, op: Op, offset: u64, token: u64) {
        let done = Arc::new(Step(self.this.clone()));
        let request = Request { file: self.file, op, offset, buf: IoBuf::None, done, token };
        self.disk.submit(Lane::Background, &mut vec![request]);
    }

    fn allocated(&self, result: io::Result<()>) {
        let Err(error) = result else { return self.submit(Op::Sync, 0, SYNCED) };
        self.cut_back();
        let name = self.name();
        // Under one lock with the end: whoever comes to wait is seen here, or begins a growth anew.
        let smaller = {
            let mut state = lock(&self.growth.state);
            let doing = format!("growing {name} by {} bytes", state.step * self.page_size());
            let error = FileError::io(doing, error);
            let smaller =
                error.kind() == FileErrorKind::Full && state.step > STEP_SLOTS_MIN && !state.ahead;
            match smaller {
                true => state.step = (state.step / 4).max(STEP_SLOTS_MIN),
                false => state.end(Err(error)),
            }
            smaller
        };
        if smaller {
            self.allocate();
        } else {
            self.growth.ended.notify(usize::MAX);
        }
    }

    /// Gives back what an allocation that failed has taken: some file systems find out on the way that
    /// there is no room for all of it, and leave the file with the rest of the disk.
    fn cut_back(&self) {
        let end = self.geometry.end_of(self.ledger().slots());
        if self.disk.len(self.file).is_ok_and(|len| len > end)
            && !self.disk.has_fixed_len(self.file)
            && let Err(error) = self.disk.set_len(self.file, end)
        {
            tracing::warn!(%error, file = self.name(), "cannot give room back to the disk");
        }
    }

    fn synced(&self, result: io::Result<()>) {
        let result = match result {
            Ok(()) => {
                let step = lock(&self.growth.state).step;
                let mut ledger = self.ledger();
                let slots = ledger.slots() + step;
                ledger.grow(slots);
                Ok(())
            }
            Err(error) => {
                let error = FileError::io(format!("syncing {} after growth", self.name()), error);
                Err(self.health.poison(error))
            }
        };
        self.end(result);
    }

    fn end(&self, result: Result<(), FileError>) {
        lock(&self.growth.state).end(result);
        self.growth.ended.notify(usize::MAX);
    }
}

impl State {
    fn end(&mut self, result: Result<(), FileError>) {
        self.running = false;
        self.rounds += 1;
        self.last = result;
    }
}

const ALLOCATED: u64 = 0;
const SYNCED: u64 = 1;

/// Whether less than a sixteenth of the file is left for reservations.
pub(crate) fn is_short(ledger: &Ledger) -> bool {
    !ledger.has_room_for((ledger.slots() / 16).max(STEP_SLOTS_MIN / 2), Room::Growing)
}

/// Told of the end of a step. Weak, so that a growth in flight does not keep the file, and with it
/// the disk, alive until the disk's own thread would have to drop it.
struct Step(Weak<PageFile>);

impl Completion for Step {
    fn complete(self: Arc<Self>, token: u64, _buf: IoBuf, result: io::Result<()>) {
        let Some(file) = self.0.upgrade() else { return };
        match token {
            ALLOCATED => file.allocated(result),
            _ => file.synced(result),
        }
    }
}
