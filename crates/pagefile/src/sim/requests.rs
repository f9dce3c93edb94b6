//! What is behind the lock of a [`SimDisk`](super::SimDisk), and how one request takes effect.
//!
//! A request has its effect at the moment of its completion, in one step, with two exceptions that
//! make reads and writes in flight together come out sector by sector:
//!
//! * when a write completes, a read in flight beside it keeps the old bytes of some sectors;
//! * when a read completes, it gets the new bytes of some sectors of the writes in flight beside it.

use std::io;
use std::ops::Range;

use super::SECTOR;
use super::disk::SimDiskOptions;
use super::faults::{FaultPoint, Faults};
use super::file::{Change, SimFile};
use super::lies::{Conduct, Lie, flip};
use super::rng::Rng;
use super::trace::{Trace, TraceEvent};
use crate::buf::IoBuf;
use crate::disk::{FileId, Op, Request};

pub(super) struct State {
    pub(super) files: Vec<SimFile>,
    pub(super) options: SimDiskOptions,
    pub(super) pending: Vec<Pending>,
    /// Writes that were in flight when the power went off.
    pub(super) late: Vec<(FileId, Change)>,
    pub(super) power: Power,
    pub(super) rng: Rng,
    /// The order of the next change that takes effect.
    order: u64,
    pub(super) submitted: u64,
    pub(super) writes_submitted: u64,
    pub(super) completed: u64,
    pub(super) stop_at: Option<u64>,
    pub(super) stop_after: Option<u64>,
    pub(super) faults: Faults,
    pub(super) conduct: Conduct,
    pub(super) trace: Trace,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    /// The machine has died, but the program does not know: requests queue up for ever.
    Dead,
    /// After a crash: requests are dropped.
    Off,
}

pub(super) struct Pending {
    pub(super) index: u64,
    pub(super) request: Request,
    /// Mostly passed over while there are others.
    slow: bool,
    /// Passed over as long as there is anything else to do.
    pub(super) stalled: bool,
    /// A part of the transfer is done.
    begun: bool,
    /// For a sync: it covers changes of a lower order.
    covers: u64,
    /// For a read: sectors, by offset in the file, as they were before a write beside it.
    early: Vec<(u64, [u8; SECTOR])>,
}

impl State {
    pub(super) fn new(seed: u64, options: SimDiskOptions, files: Vec<SimFile>) -> Self {
        Self {
            files,
            options,
            pending: Vec::new(),
            late: Vec::new(),
            power: Power::On,
            rng: Rng::new(seed),
            order: 0,
            submitted: 0,
            writes_submitted: 0,
            completed: 0,
            stop_at: None,
            stop_after: None,
            faults: Faults::default(),
            conduct: Conduct::default(),
            trace: Trace::default(),
        }
    }

    /// Takes over a request. If it is the one at which the machine dies, it does.
    pub(super) fn queue(&mut self, request: Request) {
        let index = self.submitted;
        self.submitted += 1;
        self.writes_submitted += u64::from(matches!(request.op, Op::Write | Op::WriteDurable));
        if self.stop_at.is_some_and(|stop| stop <= index) {
            self.power = Power::Dead;
        }
        let slow = self.rng.chance(1, 32);
        let stalled = self.conduct.stalls(&mut self.rng);
        let (covers, early) = (self.order + 1, Vec::new());
        self.pending.push(Pending { index, request, slow, stalled, begun: false, covers, early });
    }

    /// Takes out the next request to complete.
    pub(super) fn pick(&mut self) -> Option<Pending> {
        if self.power != Power::On || self.pending.is_empty() {
            return None;
        }
        let count = self.pending.len();
        let mut chosen = self.rng.below(count);
        if self.pending[chosen].slow && !self.rng.chance(1, 16) {
            chosen = self.rng.below(count);
        }
        if self.pending[chosen].stalled && !self.rng.chance(1, 64) {
            chosen = self.pending.iter().position(|pending| !pending.stalled)?;
        }
        Some(self.pending.swap_remove(chosen))
    }

    /// Lets one of the requests that stand still go on.
    pub(super) fn release_stalled(&mut self) {
        let mut pending = self.pending.iter_mut();
        if let Some(stalled) = pending.find(|pending| pending.stalled) {
            stalled.stalled = false;
        }
    }

    /// Does a part of a transfer, by chance: the rest is still to come.
    pub(super) fn begin(&mut self, pending: &mut Pending) -> bool {
        let Request { file, op, offset, .. } = pending.request;
        let transfers = matches!(op, Op::Read | Op::Write | Op::WriteDurable);
        if pending.begun || !transfers || self.file(file).is_err() {
            return false;
        }
        let len = pending.request.buf.len();
        let Some(cut) = self.conduct.cut(len, self.options.block_size, &mut self.rng) else {
            return false;
        };
        pending.begun = true;
        let file = file.0 as usize;
        if op == Op::Read {
            let there = self.files[file].len;
            for at in (offset..offset + cut as u64).step_by(SECTOR) {
                let seen = pending.early.iter().any(|(seen, _)| *seen == at);
                if at < there && !seen {
                    let mut now = [0; SECTOR];
                    self.files[file].visible.read(at, &mut now);
                    pending.early.push((at, now));
                }
            }
        } else if self.make_room(file, &(offset..offset + cut as u64)).is_ok() {
            let order = self.next_order();
            let bytes = bytes_of(&pending.request.buf)[..cut].to_vec();
            self.files[file].write(order, offset, &bytes);
        }
        true
    }

    pub(super) fn perform(&mut self, pending: &mut Pending) -> io::Result<()> {
        let Request { file, op, offset, .. } = pending.request;
        let len = match op {
            Op::Allocate { len } => len,
            _ => pending.request.buf.len() as u64,
        };
        let point = FaultPoint { index: pending.index, op, file, offset, len };
        let result = self.check(&point).and_then(|()| {
            let fault = self.faults.strike(&point);
            let lie = if fault.is_none() { self.conduct.lie(&point) } else { None };
            match op {
                Op::Read => self.read(pending, fault, lie),
                Op::Write | Op::WriteDurable if lie == Some(Lie::Lost) => Ok(()),
                Op::Write | Op::WriteDurable => self.write(pending, fault, lie),
                Op::Sync => self.sync(file, pending.covers, fault, lie),
                Op::Allocate { .. } => self.allocate(file, offset..offset + len, fault),
            }
        });
        self.completed += 1;
        if self.stop_after.is_some_and(|stop| stop <= self.completed) {
            self.power = Power::Dead;
        }
        self.trace.add(TraceEvent {
            index: pending.index,
            op,
            file,
            offset,
            len,
            crc: crc32c::crc32c(bytes_of(&pending.request.buf)),
            outcome: result.as_ref().map_or_else(|error| Err(error.kind()), |()| Ok(())),
        });
        result
    }

    /// Refuses what a kernel would refuse.
    fn check(&self, point: &FaultPoint) -> io::Result<()> {
        let FaultPoint { op, file, offset, len, .. } = *point;
        let invalid = |what: &str| {
            let message = format!("{op:?} of {len} bytes at {offset} of file {}: {what}", file.0);
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        };
        if file.0 as usize >= self.files.len() {
            return invalid("no such file");
        }
        if offset.checked_add(len).is_none_or(|end| end > i64::MAX as u64) {
            return invalid("beyond the end of any file");
        }
        if matches!(op, Op::Read | Op::Write | Op::WriteDurable) {
            let block = self.options.block_size as u64;
            if !offset.is_multiple_of(block) || !len.is_multiple_of(block) || len == 0 {
                return invalid("not made of whole blocks");
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        pending: &mut Pending,
        fault: Option<io::Error>,
        lie: Option<Lie>,
    ) -> io::Result<()> {
        let Request { file, offset, .. } = pending.request;
        let mut bytes = vec![0; pending.request.buf.len()];
        if let Some(Lie::Misdirected { offset }) = lie {
            let result = self.files[file.0 as usize].read(offset, &mut bytes);
            fill(&mut pending.request.buf, &bytes);
            return result;
        }
        let result = self.files[file.0 as usize].read(offset, &mut bytes);
        for (at, sector) in &pending.early {
            let start = (at - offset) as usize;
            bytes[start..start + SECTOR].copy_from_slice(sector);
        }
        let len = self.files[file.0 as usize].len;
        for beside in &self.pending {
            for at in beside.sectors_beside(&pending.request) {
                if at < len && self.rng.chance(1, 2) {
                    let from = (at - beside.request.offset) as usize;
                    let to = (at - offset) as usize;
                    let new = &bytes_of(&beside.request.buf)[from..from + SECTOR];
                    bytes[to..to + SECTOR].copy_from_slice(new);
                }
            }
        }
        if let Some(error) = fault {
            // The contents of the buffer are unspecified now; make sure that nobody relies on them.
            for sector in bytes.chunks_mut(SECTOR) {
                if self.rng.chance(1, 2) {
                    sector.fill(self.rng.next() as u8);
                }
            }
            fill(&mut pending.request.buf, &bytes);
            return Err(error);
        }
        if let Some(Lie::FlippedBit { bit }) = lie {
            flip(&mut bytes, bit);
        }
        fill(&mut pending.request.buf, &bytes);
        result
    }

    fn write(
        &mut self,
        pending: &mut Pending,
        fault: Option<io::Error>,
        lie: Option<Lie>,
    ) -> io::Result<()> {
        let Request { file, op, offset, buf, .. } = &pending.request;
        let file = file.0 as usize;
        let offset = match lie {
            Some(Lie::Misdirected { offset }) => offset,
            _ => *offset,
        };
        let range = offset..offset + buf.len() as u64;
        if let Err(full) = self.make_room(file, &range) {
            if let Some(end) = self.part(file, &range) {
                let order = self.next_order();
                let bytes = &bytes_of(buf)[..(end - offset) as usize];
                self.files[file].write(order, offset, bytes);
            }
            return Err(full);
        }
        for beside in &mut self.pending {
            if beside.request.op != Op::Read {
                continue;
            }
            for at in pending.sectors_beside(&beside.request) {
                let seen = beside.early.iter().any(|(seen, _)| *seen == at);
                if !seen && self.rng.chance(1, 2) {
                    let mut old = [0; SECTOR];
                    self.files[file].visible.read(at, &mut old);
                    beside.early.push((at, old));
                }
            }
        }
        let order = self.next_order();
        let mut bytes = std::borrow::Cow::Borrowed(bytes_of(buf));
        if let Some(Lie::FlippedBit { bit }) = lie {
            flip(bytes.to_mut(), bit);
        }
        let bytes = bytes.as_ref();
        match fault {
            Some(error) => {
                self.files[file].write_some(order, offset, bytes, &mut self.rng);
                return Err(error);
            }
            None if *op == Op::WriteDurable && lie != Some(Lie::Volatile) => {
                self.files[file].write_durable(offset, bytes);
            }
            None => self.files[file].write(order, offset, bytes),
        }
        Ok(())
    }

    fn sync(
        &mut self,
        file: FileId,
        covers: u64,
        fault: Option<io::Error>,
        lie: Option<Lie>,
    ) -> io::Result<()> {
        let file = &mut self.files[file.0 as usize];
        match fault {
            Some(error) => {
                file.forsake(covers);
                Err(error)
            }
            None if lie == Some(Lie::Volatile) => {
                file.forsake(covers);
                Ok(())
            }
            None => {
                file.sync(covers);
                Ok(())
            }
        }
    }

    fn allocate(
        &mut self,
        file: FileId,
        range: Range<u64>,
        fault: Option<io::Error>,
    ) -> io::Result<()> {
        let file = file.0 as usize;
        let refused = fault.map_or_else(|| self.make_room(file, &range), Err);
        match &refused {
            Ok(()) => self.files[file].allocate(range.start, range.end),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                if let Some(end) = self.part(file, &range) {
                    self.files[file].allocate(range.start, end);
                }
            }
            Err(_) => {}
        }
        refused
    }

    pub(super) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    pub(super) fn file(&self, file: FileId) -> io::Result<&SimFile> {
        self.files.get(file.0 as usize).ok_or_else(no_such_file)
    }

    /// What the requests in flight would change, in order of submission.
    pub(super) fn changes_in_flight(&self) -> Vec<(FileId, Change)> {
        let mut pending: Vec<&Pending> = self.pending.iter().collect();
        pending.sort_by_key(|pending| pending.index);
        let change = |pending: &Pending| {
            let Request { file, op, offset, buf, .. } = &pending.request;
            if self.file(*file).is_err() {
                return None;
            }
            match op {
                Op::Read | Op::Sync => None,
                Op::Write | Op::WriteDurable => Some((*file, Change::data(*offset, bytes_of(buf)))),
                Op::Allocate { len } => Some((*file, Change::Extend(offset.saturating_add(*len)))),
            }
        };
        pending.into_iter().filter_map(change).collect()
    }
}

impl Pending {
    /// If this is a write: the sectors, by offset in the file, that `read` has in common with it.
    fn sectors_beside(&self, read: &Request) -> impl Iterator<Item = u64> + use<> {
        let write = &self.request;
        let writes = matches!(write.op, Op::Write | Op::WriteDurable) && write.file == read.file;
        let end = |request: &Request| request.offset.saturating_add(request.buf.len() as u64);
        let common = write.offset.max(read.offset)..end(write).min(end(read));
        let common = if writes { common } else { 0..0 };
        common.step_by(SECTOR)
    }
}

fn no_such_file() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file on the simulated disk")
}

/// The bytes that a write in flight lends to the disk.
fn bytes_of(buf: &IoBuf) -> &[u8] {
    // SAFETY: the disk owns the request from submission to completion, and nobody writes the buffer
    // in that time (I12, the contract of `IoBuf::shared`): it is valid for its length. Without
    // bytes the pointer is dangling, aligned, and not null.
    unsafe { std::slice::from_raw_parts(buf.as_ptr(), buf.len()) }
}

/// Puts what was read into the buffer of a read in flight.
fn fill(buf: &mut IoBuf, bytes: &[u8]) {
    assert_eq!(buf.len(), bytes.len(), "a read fills its buffer");
    // SAFETY: as in `bytes_of`, and between submission and completion the disk may write the
    // buffer. `bytes` is memory of its own.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buf.as_ptr(), bytes.len()) }
}
