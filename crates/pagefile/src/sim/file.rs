//! A file in two states: what reads see, and what a power loss leaves.
//!
//! * The *durable* state is what is there after a crash at the very least.
//! * The *volatile* changes, in the order in which they took effect, are what separates it from
//!   the visible state. A crash keeps any subset of their sectors.
//!
//! Whenever a change becomes durable, the same sectors are struck from all volatile changes before
//! it: a crash must not bring back what was overwritten durably.

use std::io;
use std::ops::Range;

use super::SECTOR;
use super::content::{Content, Ranges};
use super::rng::Rng;

/// One change that can be lost.
#[derive(Clone)]
pub(super) enum Change {
    /// Bytes written; `struck` sectors are not part of it (any longer), none if it is empty.
    Data { offset: u64, bytes: Vec<u8>, struck: Vec<bool> },
    /// Cut or extended to a length.
    SetLen(u64),
    /// Extended to a length at least: an allocation that was in flight. A file system may do it in
    /// several steps, so it comes in two halves, of which the first is there or both are.
    Extend(u64),
}

impl Change {
    pub(super) fn data(offset: u64, bytes: &[u8]) -> Self {
        Change::Data { offset, bytes: bytes.to_vec(), struck: Vec::new() }
    }

    /// In how many parts it can be lost.
    pub(super) fn sectors(&self) -> usize {
        match self {
            Change::Data { bytes, .. } => bytes.len().div_ceil(SECTOR),
            Change::SetLen(_) => 1,
            Change::Extend(_) => 2,
        }
    }

    /// Strikes the sectors that `len` bytes at `from` cover.
    fn strike(&mut self, from: u64, len: usize) {
        let Change::Data { offset, bytes, struck } = self else { return };
        let end = (from + len as u64).min(*offset + bytes.len() as u64);
        let start = from.max(*offset);
        if start >= end {
            return;
        }
        struck.resize(bytes.len().div_ceil(SECTOR), false);
        let first = (start - *offset) as usize / SECTOR;
        let last = ((end - *offset) as usize).div_ceil(SECTOR);
        struck[first..last].fill(true);
    }

    /// Strikes everything from `len` of the file on.
    fn cut(&mut self, len: u64) {
        if let Change::Data { offset, bytes, struck } = self {
            let left = len.saturating_sub(*offset).min(bytes.len() as u64) as usize;
            bytes.truncate(left);
            struck.truncate(left.div_ceil(SECTOR));
        }
    }

    fn is_spent(&self) -> bool {
        match self {
            Change::Data { bytes, struck, .. } => {
                bytes.is_empty() || (!struck.is_empty() && struck.iter().all(|sector| *sector))
            }
            Change::SetLen(_) | Change::Extend(_) => false,
        }
    }

    /// Applies all of the change.
    fn apply_all(&self, content: &mut Content, len: &mut u64) {
        match self {
            Change::Data { offset, bytes, struck } if struck.is_empty() => {
                content.write(*offset, bytes);
                *len = (*len).max(offset + bytes.len() as u64);
            }
            _ => self.apply(content, len, |_| true),
        }
    }

    /// Applies those sectors of the change that `keep` wants.
    pub(super) fn apply(
        &self,
        content: &mut Content,
        len: &mut u64,
        mut keep: impl FnMut(usize) -> bool,
    ) {
        match self {
            Change::Data { offset, bytes, struck } => {
                for (sector, piece) in bytes.chunks(SECTOR).enumerate() {
                    if struck.get(sector).is_none_or(|struck| !struck) && keep(sector) {
                        let at = offset + (sector * SECTOR) as u64;
                        content.write(at, piece);
                        *len = (*len).max(at + piece.len() as u64);
                    }
                }
            }
            Change::SetLen(to) => {
                if keep(0) {
                    content.cut(*to);
                    *len = *to;
                }
            }
            Change::Extend(to) => {
                let more = to.saturating_sub(*len);
                *len += match [keep(0), keep(1)] {
                    [true, true] => more,
                    [false, false] => 0,
                    _ => more / 2 / SECTOR as u64 * SECTOR as u64,
                };
            }
        }
    }
}

/// A change that took effect and is not durable.
pub(super) struct Volatile {
    /// Counted over the whole disk, in the order in which changes took effect.
    pub(super) order: u64,
    pub(super) change: Change,
    /// A failed sync marked it clean: no later sync writes it.
    pub(super) forsaken: bool,
}

pub(super) struct SimFile {
    pub(super) name: String,
    pub(super) visible: Content,
    pub(super) len: u64,
    pub(super) durable: Content,
    pub(super) durable_len: u64,
    /// In ascending order.
    pub(super) volatile: Vec<Volatile>,
    /// What owns space now.
    pub(super) allocated: Ranges,
    /// And what does after a crash, at the most: a length that is lost gives no space away.
    pub(super) durable_allocated: Ranges,
}

impl SimFile {
    pub(super) fn new(name: &str, content: Content, len: u64, allocated: Ranges) -> Self {
        Self {
            name: name.to_owned(),
            visible: content.clone(),
            len,
            durable: content,
            durable_len: len,
            volatile: Vec::new(),
            durable_allocated: allocated.clone(),
            allocated,
        }
    }

    /// Reads what is there; `UnexpectedEof` if that is less than `out`.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.visible.read(offset, out);
        if offset + out.len() as u64 <= self.len {
            return Ok(());
        }
        let message = format!(
            "read of {} bytes at {offset} of '{}', which has {} bytes",
            out.len(),
            self.name,
            self.len
        );
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
    }

    /// A completed `Write`.
    pub(super) fn write(&mut self, order: u64, offset: u64, bytes: &[u8]) {
        self.show(offset, bytes);
        self.volatile.push(Volatile {
            order,
            change: Change::data(offset, bytes),
            forsaken: false,
        });
    }

    /// A failed write: each sector was written or not, and none is durable.
    pub(super) fn write_some(&mut self, order: u64, offset: u64, bytes: &[u8], rng: &mut Rng) {
        for (sector, piece) in bytes.chunks(SECTOR).enumerate() {
            if rng.chance(1, 2) {
                self.write(order, offset + (sector * SECTOR) as u64, piece);
            }
        }
    }

    /// A completed `WriteDurable`.
    pub(super) fn write_durable(&mut self, offset: u64, bytes: &[u8]) {
        self.flush_lengths();
        self.show(offset, bytes);
        for earlier in &mut self.volatile {
            earlier.change.strike(offset, bytes.len());
        }
        self.volatile.retain(|left| !left.change.is_spent());
        self.durable.write(offset, bytes);
        self.durable_len = self.durable_len.max(offset + bytes.len() as u64);
    }

    fn show(&mut self, offset: u64, bytes: &[u8]) {
        self.visible.write(offset, bytes);
        self.len = self.len.max(offset + bytes.len() as u64);
        self.take_space(offset..offset + bytes.len() as u64);
    }

    fn take_space(&mut self, range: Range<u64>) {
        self.allocated.add(range.clone());
        self.durable_allocated.add(range);
    }

    /// A completed `Sync` that covers what took effect before `covers`.
    pub(super) fn sync(&mut self, covers: u64) {
        self.flush(|volatile| volatile.order < covers && !volatile.forsaken);
    }

    /// A failed `Sync`.
    pub(super) fn forsake(&mut self, covers: u64) {
        for volatile in self.volatile.iter_mut().filter(|volatile| volatile.order < covers) {
            volatile.forsaken = true;
        }
    }

    /// A completed `Allocate`.
    pub(super) fn allocate(&mut self, offset: u64, end: u64) {
        self.flush_lengths();
        self.take_space(offset..end);
        self.len = self.len.max(end);
        self.durable_len = self.durable_len.max(end);
    }

    pub(super) fn set_len(&mut self, order: u64, len: u64) {
        if len < self.len {
            self.visible.cut(len);
            self.allocated.cut(len);
        }
        self.len = len;
        let change = Change::SetLen(len);
        self.volatile.push(Volatile { order, change, forsaken: false });
    }

    /// Lengths are metadata: whatever makes one of them durable takes all before it along.
    fn flush_lengths(&mut self) {
        self.flush(|volatile| matches!(volatile.change, Change::SetLen(_)));
    }

    /// Makes the chosen changes durable, in order.
    fn flush(&mut self, chosen: impl Fn(&Volatile) -> bool) {
        if !self.volatile.iter().any(&chosen) {
            return;
        }
        let mut left: Vec<Volatile> = Vec::new();
        for volatile in std::mem::take(&mut self.volatile) {
            if !chosen(&volatile) {
                left.push(volatile);
                continue;
            }
            for earlier in &mut left {
                match &volatile.change {
                    Change::Data { offset, bytes, .. } => {
                        earlier.change.strike(*offset, bytes.len());
                    }
                    Change::SetLen(len) => earlier.change.cut(*len),
                    Change::Extend(_) => {}
                }
            }
            if let Change::SetLen(len) = &volatile.change {
                self.durable_allocated.cut(*len);
                self.durable_allocated.add_all(&self.allocated);
            }
            volatile.change.apply_all(&mut self.durable, &mut self.durable_len);
        }
        left.retain(|volatile| !volatile.change.is_spent());
        self.volatile = left;
    }
}
