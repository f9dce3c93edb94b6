//! Which file holds which segment, and getting the next one ready.
//!
//! A *slot* is a file; a *segment* is what a slot holds for a while. A slot is filled with zeros
//! once, in the background, and then recycled: only its first block is written anew, so that no
//! write of a group changes a file's metadata or meets an extent that was never written.
//!
//! 1. [`Segments::plan`] says what to prepare: two segments ahead of the current one, as far as the
//!    allowed number goes.
//! 2. [`prepare`] does the I/O: zeros and a sync for a slot that is not formatted, then the first
//!    block, durable. Until then the segment does not exist: a crash leaves the slot as it was or
//!    without a valid first block.
//! 3. [`Segments::prepared`] puts it ahead, and [`Segments::place`] moves on to the first one ahead
//!    when a group does not fit into the rest of the current one. The last one ahead is left alone:
//!    it is the reserve.
//! 4. [`Segments::release_before`] gives slots back when a checkpoint no longer needs them.
//!
//! The reserve is there for the next opening, which may not overwrite what the superblock needs, and
//! so could not begin its log on a disk that is full (I13). For the same reason a new database has
//! the space for three segments reserved before it exists.
//!
//! A record is only taken in when [`Segments::fits`] says that its group has a place on disk that
//! exists already. So whatever was taken in can be written, and a checkpoint that waits for it never
//! waits for a segment that only this checkpoint would release.

use std::collections::{BTreeMap, VecDeque};

use treering_pagefile::{Disk, FileError, FileErrorKind, FileId, LogPosition};

use super::files::{file_len, first_block, log_files, open, prepare, reserve, wipe};
use super::format::{BLOCK, FirstBlock};

/// How many segments are prepared ahead of the current one, the reserve included.
const AHEAD: usize = 2;
/// The fewest segments that a log works with.
pub(super) const FEWEST: usize = 1 + AHEAD;

/// A segment of an earlier life that the superblock still in force needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSegment {
    pub(super) number: u64,
    pub(super) slot: u32,
    pub(super) size: u64,
}

impl KeptSegment {
    /// The number of the segment.
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// The book of slots and segments; under the log's mutex.
pub(super) struct Segments {
    size: u64,
    /// How many segments of this life may be in use at once.
    limit: usize,
    slots: BTreeMap<u32, Slot>,
    kept: Vec<KeptSegment>,
    /// The segments of this life, oldest first. The last one takes the groups; never empty.
    live: VecDeque<Segment>,
    /// Where in the current segment the next group goes.
    offset: u64,
    /// Prepared segments that follow; the last one is the reserve.
    ahead: VecDeque<Segment>,
    preparing: bool,
    /// There was no space for another file; until a release, only files that are there are used.
    starved: bool,
}

struct Slot {
    file: FileId,
    /// Every block of it has been written, up to the size of a segment.
    formatted: bool,
    in_use: bool,
}

#[derive(Clone, Copy)]
struct Segment {
    number: u64,
    slot: u32,
    file: FileId,
    /// Of its first group; 0 before it has one, and in the first segment of a life.
    first_sequence: u64,
}

/// What the background has to do.
pub(super) enum Job {
    /// See [`prepare`].
    Prepare(Plan),
    /// Cut the file of a slot that is no longer wanted to nothing.
    Shrink(FileId),
}

/// One segment to prepare.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) slot: u32,
    pub(super) file: Option<FileId>,
    pub(super) formatted: bool,
    pub(super) size: u64,
}

impl Segments {
    /// Looks at the files that are there and leaves those in `kept` alone. What other lives left
    /// behind is recycled where its size fits.
    ///
    /// A first block of this very `incarnation` can only come from an opening that did not get as
    /// far as a superblock; it is made invalid here, so that no number exists twice.
    pub(super) async fn survey(
        disk: &dyn Disk,
        incarnation: u64,
        size: u64,
        limit: usize,
        kept: Vec<KeptSegment>,
    ) -> Result<Self, FileError> {
        let mut slots = BTreeMap::new();
        for (slot, file) in log_files(disk)? {
            let in_use = kept.iter().any(|segment| segment.slot == slot);
            let mut formatted = false;
            if !in_use && let FirstBlock::Segment(header) = first_block(disk, file).await? {
                if header.incarnation == incarnation {
                    wipe(disk, file).await?;
                } else {
                    formatted = header.size == size && file_len(disk, file)? == size;
                }
            }
            slots.insert(slot, Slot { file, formatted, in_use });
        }
        Ok(Self {
            size,
            limit,
            slots,
            kept,
            live: VecDeque::new(),
            offset: BLOCK as u64,
            ahead: VecDeque::new(),
            preparing: false,
            starved: false,
        })
    }

    /// The segments of a log that has none.
    pub(super) fn none(size: u64) -> Self {
        Self {
            size,
            limit: 0,
            slots: BTreeMap::new(),
            kept: Vec::new(),
            live: VecDeque::new(),
            offset: 0,
            ahead: VecDeque::new(),
            preparing: false,
            starved: true,
        }
    }

    /// Prepares the first segment of this life, number `number`.
    ///
    /// When nothing is kept, so that no release will give slots back, this also reserves the space
    /// for the [`FEWEST`] segments.
    pub(super) async fn begin(
        &mut self,
        disk: &dyn Disk,
        incarnation: u64,
        number: u64,
    ) -> Result<(), FileError> {
        let free = "a slot is free: there are more numbers than slots";
        let slot = self.choose().expect(free);
        let mut plan = self.plan_number(number, slot);
        let mut prepared = prepare(disk, incarnation, plan, || true).await;
        if let Err(error) = &prepared
            && error.kind() == FileErrorKind::Full
        {
            // The reserve of the earlier life may lie in a file beyond the limit.
            self.given_up(true);
            if let Some(slot) = self.choose() {
                plan = self.plan_number(number, slot);
                prepared = prepare(disk, incarnation, plan, || true).await;
            }
        }
        let file = prepared?.expect("a preparation that is always wanted is not given up");
        let segment = self.take_in(plan, file);
        self.live.push_back(segment);
        if self.kept.is_empty() {
            self.reserve_the_fewest(disk).await?;
        }
        Ok(())
    }

    async fn reserve_the_fewest(&mut self, disk: &dyn Disk) -> Result<(), FileError> {
        for slot in 0..FEWEST as u32 {
            // What is in use is formatted, too, as nothing is kept.
            if self.slots.get(&slot).is_some_and(|state| state.formatted) {
                continue;
            }
            let file = open(disk, slot, true)?;
            reserve(disk, file, self.size).await?;
            self.slots.insert(slot, Slot { file, formatted: false, in_use: false });
        }
        Ok(())
    }

    /// What there is to do in the background now, if anything.
    pub(super) fn plan(&mut self) -> Option<Job> {
        if self.preparing {
            return None;
        }
        if self.ahead.len() < AHEAD
            && self.live.len() + self.ahead.len() < self.limit
            && let Some(last) = self.ahead.back().or(self.live.back())
            && let Some(slot) = self.choose()
        {
            let number = last.number + 1;
            return Some(Job::Prepare(self.plan_number(number, slot)));
        }
        // Files beyond the limit exist when an earlier life's segments had to be kept beside ours.
        let (&number, last) = self.slots.last_key_value()?;
        if self.starved || last.in_use || (number as usize) < self.limit {
            return None;
        }
        let file = last.file;
        self.slots.remove(&number);
        Some(Job::Shrink(file))
    }

    /// The slot for one more segment, lowest numbers first, so that those beyond the limit come
    /// free; without space for another file, only what is formatted.
    fn choose(&self) -> Option<u32> {
        let limit = self.limit as u32;
        let is_formatted =
            |(&slot, state): (&u32, &Slot)| (state.formatted && !state.in_use).then_some(slot);
        let formatted = self.slots.iter().find_map(is_formatted);
        let any = (0..).find(|slot| self.slots.get(slot).is_none_or(|state| !state.in_use));
        let any = any.filter(|_| !self.starved);
        formatted
            .filter(|&slot| slot < limit)
            .or(any.filter(|&slot| slot < limit))
            .or(formatted)
            .or(any)
    }

    fn plan_number(&mut self, number: u64, slot: u32) -> Plan {
        self.preparing = true;
        let state = self.slots.get(&slot);
        Plan {
            number,
            slot,
            file: state.map(|state| state.file),
            formatted: state.is_some_and(|state| state.formatted),
            size: self.size,
        }
    }

    fn take_in(&mut self, plan: Plan, file: FileId) -> Segment {
        self.preparing = false;
        self.slots.insert(plan.slot, Slot { file, formatted: true, in_use: true });
        Segment { number: plan.number, slot: plan.slot, file, first_sequence: 0 }
    }

    /// The plan was carried out.
    pub(super) fn prepared(&mut self, plan: Plan, file: FileId) {
        let segment = self.take_in(plan, file);
        self.ahead.push_back(segment);
    }

    /// The plan was not carried out; `starved` if for lack of space.
    pub(super) fn given_up(&mut self, starved: bool) {
        self.preparing = false;
        self.starved = starved;
    }

    /// There was no space for a segment that is needed, and a checkpoint would give nothing back.
    pub(super) fn is_stuck(&self) -> bool {
        self.starved && self.live.len() == 1 && self.kept.is_empty() && !self.may_move_on()
    }

    /// Whether a group of `len` bytes, padding included, has a place.
    pub(super) fn fits(&self, len: usize) -> bool {
        len as u64 <= self.size - self.offset || self.may_move_on()
    }

    fn may_move_on(&self) -> bool {
        self.ahead.len() >= AHEAD
    }

    /// Gives a group its place: the file and the position. `None` if it has none, which `fits`
    /// rules out.
    pub(super) fn place(
        &mut self,
        len: usize,
        first_sequence: u64,
    ) -> Option<(FileId, LogPosition)> {
        if len as u64 > self.size - self.offset {
            if !self.may_move_on() {
                return None;
            }
            let mut next = self.ahead.pop_front()?;
            next.first_sequence = first_sequence;
            self.live.push_back(next);
            self.offset = BLOCK as u64;
        }
        let current = self.live.back()?;
        let position = LogPosition { segment: current.number, offset: self.offset };
        self.offset += len as u64;
        Some((current.file, position))
    }

    /// Where the next group goes, unless it does not fit there.
    pub(super) fn end(&self) -> LogPosition {
        let segment = self.live.back().map_or(0, |current| current.number);
        LogPosition { segment, offset: self.offset }
    }

    /// The start of the newest segment whose first record is not beyond `sequence`.
    pub(super) fn start_of(&self, sequence: u64) -> LogPosition {
        let found = self.live.iter().rev().find(|segment| segment.first_sequence <= sequence);
        let segment = found.or(self.live.front()).map_or(0, |segment| segment.number);
        LogPosition { segment, offset: BLOCK as u64 }
    }

    /// Gives back the slots of segments that lie wholly before `position`.
    pub(super) fn release_before(&mut self, position: LogPosition) {
        self.starved = false;
        while self.live.len() > 1
            && let Some(oldest) = self.live.front()
            && oldest.number < position.segment
        {
            if let Some(slot) = self.slots.get_mut(&oldest.slot) {
                slot.in_use = false;
            }
            self.live.pop_front();
        }
        let (slots, size) = (&mut self.slots, self.size);
        self.kept.retain(|segment| {
            let needed = segment.number >= position.segment;
            if !needed && let Some(slot) = slots.get_mut(&segment.slot) {
                slot.in_use = false;
                slot.formatted = segment.size == size;
            }
            needed
        });
    }

    /// Bytes from the start of the oldest segment in use to the end of the log.
    pub(super) fn used(&self) -> u64 {
        (self.live.len() as u64).saturating_sub(1) * self.size + self.offset
    }

    /// Bytes the segments may come to, without the reserve.
    pub(super) fn capacity(&self) -> u64 {
        let there = self.live.len() + self.ahead.len();
        let segments = if self.starved { there } else { self.limit };
        (segments.saturating_sub(1).max(1)) as u64 * self.size
    }

    /// Segments of an earlier life that are still needed.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Segments of this life in use.
    pub(super) fn in_use(&self) -> usize {
        self.live.len()
    }
}

#[cfg(test)]
mod tests;
