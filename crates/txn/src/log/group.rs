//! The life of a group: filling, sealed, on its way, durable.
//!
//! At most one group is on its way. [`State::seal`] is the only way into that state, and the
//! completion of its write the only way out; both happen under the mutex, and what they leave to be
//! done (computing a checksum, submitting, waking) is done after it. Nothing but the completion
//! starts a group that was wished for while another one was on its way, and nobody else is needed
//! for it: a wish is a number in [`State::wanted`].

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use treering_latch::planted_bug;
use treering_pagefile::{
    AlignedBuf, Completion, FileError, FileId, IoBuf, Lane, LogPosition, Op, Request,
};

use super::format::{GROUP_HEADER, GroupHeader, padded};
use super::segment::Segments;
use super::wait::Waiters;
use super::{Log, LogUsage};

/// How many of the latest groups [`Log::position_after`] finds exactly.
const REMEMBERED: usize = 1024;

/// What the log's mutex protects.
pub(super) struct State {
    pub(super) segments: Segments,
    /// Header (not yet filled in) and records of the filling group.
    pub(super) filling: Vec<u8>,
    /// Records in it.
    pub(super) count: u64,
    /// The sequence of the first of them.
    pub(super) first_sequence: u64,
    /// When the filling group is to be written at the latest, though nobody waits for it.
    pub(super) soon: Option<Duration>,
    /// The buffer that fills next, while no sealed group is being copied out of it.
    spare: Option<Vec<u8>>,
    /// The buffer of the last write, for the next one of the same length.
    written: Option<AlignedBuf>,
    pub(super) on_its_way: Option<OnItsWay>,
    /// Somebody wants everything up to this sequence to be durable.
    pub(super) wanted: u64,
    pub(super) waiters: Waiters,
    /// The last groups that were sealed: first and last sequence, and where.
    recent: VecDeque<(u64, u64, LogPosition)>,
    /// The background waits to be told of the next wish for soon.
    pub(super) idle: bool,
    pub(super) poisoned: Option<FileError>,
    groups_written: u64,
    bytes_written: u64,
    records_written: u64,
}

/// The group that is being written.
#[derive(Clone, Copy)]
pub(super) struct OnItsWay {
    pub(super) last_sequence: u64,
    records: u64,
    bytes: u64,
    file: FileId,
    offset: u64,
}

/// A group that has its place and is to be submitted by whoever got it, outside the mutex.
#[must_use = "no other group can start until this one is launched"]
pub(super) struct Sealed {
    bytes: Vec<u8>,
    buf: Option<AlignedBuf>,
    header: GroupHeader,
    file: FileId,
    pressing: bool,
}

impl State {
    pub(super) fn new(segments: Segments, buffer_size: usize) -> Self {
        Self {
            segments,
            filling: empty_group(buffer_size),
            count: 0,
            first_sequence: 0,
            soon: None,
            spare: Some(empty_group(buffer_size)),
            written: None,
            on_its_way: None,
            wanted: 0,
            waiters: Waiters::new(),
            recent: VecDeque::with_capacity(REMEMBERED),
            idle: false,
            poisoned: None,
            groups_written: 0,
            bytes_written: 0,
            records_written: 0,
        }
    }

    /// Takes the filling group out to be written, if somebody wants it and no other group is on its
    /// way. Room comes back with it.
    fn seal(&mut self, incarnation: u64) -> Option<Sealed> {
        let wanted = self.count > 0 && self.wanted >= self.first_sequence;
        if !wanted || self.on_its_way.is_some() || self.poisoned.is_some() {
            return None;
        }
        let spare = self.spare.take()?;
        let (first_sequence, records) = (self.first_sequence, self.count);
        let last_sequence = first_sequence + records - 1;
        let bytes = padded(self.filling.len());
        let (file, position) = self
            .segments
            .place(bytes, first_sequence)
            .expect("records are taken in only while their group has a place");
        let LogPosition { segment, offset } = position;
        self.on_its_way =
            Some(OnItsWay { last_sequence, records, bytes: bytes as u64, file, offset });
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((first_sequence, last_sequence, position));
        self.waiters.group_sealed();
        (self.count, self.soon) = (0, None);
        Some(Sealed {
            bytes: std::mem::replace(&mut self.filling, spare),
            buf: self.written.take().filter(|buf| buf.len() == bytes),
            header: GroupHeader { incarnation, segment, offset, first_sequence, last_sequence },
            file,
            pressing: self.usage().is_pressing(),
        })
    }

    pub(super) fn position_after(&self, sequence: u64) -> LogPosition {
        let next = sequence + 1;
        match (self.recent.front(), self.recent.back()) {
            (_, Some(&(_, last, _))) if next > last => self.segments.end(),
            (Some(&(first, ..)), _) if next >= first => {
                let at = self.recent.partition_point(|&(first, ..)| first <= next);
                self.recent[at - 1].2
            }
            // Too long ago; or no group has been sealed, and this is where the first one goes.
            _ => self.segments.start_of(next),
        }
    }

    pub(super) fn usage(&self) -> LogUsage {
        LogUsage {
            used: self.segments.used(),
            capacity: self.segments.capacity(),
            segments: self.segments.in_use(),
            segments_kept: self.segments.kept(),
            groups_written: self.groups_written,
            bytes_written: self.bytes_written,
            records_written: self.records_written,
        }
    }
}

fn empty_group(buffer_size: usize) -> Vec<u8> {
    let mut group = Vec::with_capacity(buffer_size);
    group.resize(GROUP_HEADER, 0);
    group
}

impl Log {
    /// Asks for everything up to `sequence` to become durable. If no group is on its way, the
    /// filling one is submitted here; else the completion of the one that is will submit it. Call it
    /// while holding no latch and no mutex.
    pub fn request_flush(&self, sequence: u64) {
        if sequence <= self.durable_sequence() {
            return;
        }
        let sealed = self.want(&mut self.lock(), sequence);
        self.launch(sealed);
    }

    /// Asks for `sequence` to become durable within the flush delay, though nobody waits for it:
    /// the background sees to it. Cheap, and does no I/O.
    pub fn flush_soon(&self, sequence: u64) {
        if sequence <= self.durable_sequence() {
            return;
        }
        let mut state = self.lock();
        let filling = state.count > 0 && sequence >= state.first_sequence;
        if !filling || state.soon.is_some() {
            return;
        }
        state.soon = Some(self.runtime.now().saturating_add(self.options.flush_delay));
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.dirty.notify(usize::MAX);
        }
    }

    /// Has everything up to `sequence` written at once, by the background or the completion of the group on
    /// its way: for who has just appended much, will wait for it, and has its pages to change first,
    /// under latches. Cheap, and does no I/O.
    pub fn flush_ahead(&self, sequence: u64) {
        let mut state = self.lock();
        if state.on_its_way.is_some() {
            state.wanted = state.wanted.max(sequence);
            return;
        }
        state.soon = Some(Duration::ZERO);
        state.idle = false;
        drop(state);
        self.dirty.notify(usize::MAX);
    }

    /// Notes the wish, and seals the filling group if it can start now.
    pub(super) fn want(&self, state: &mut State, sequence: u64) -> Option<Sealed> {
        let sequence = sequence.min(self.last_sequence());
        state.wanted = state.wanted.max(sequence);
        state.seal(self.incarnation)
    }

    /// Submits a sealed group.
    pub(super) fn launch(&self, sealed: Option<Sealed>) {
        let Some(Sealed { mut bytes, buf, header, file, pressing }) = sealed else { return };
        header.seal(&mut bytes);
        let len = bytes.len();
        let mut buf = buf.unwrap_or_else(|| AlignedBuf::zeroed(padded(len)));
        buf[..len].copy_from_slice(&bytes);
        buf[len..].fill(0);
        bytes.truncate(GROUP_HEADER);
        self.lock().spare = Some(bytes);

        self.disk.submit(
            Lane::Foreground,
            &mut vec![Request {
                file,
                op: Op::WriteDurable,
                offset: header.offset,
                buf: IoBuf::Owned(buf),
                done: self.arc(),
                token: 0,
            }],
        );
        self.room.notify(usize::MAX);
        if header.offset == super::BLOCK as u64 {
            self.work.notify(usize::MAX);
        }
        if pressing {
            self.pressure.notify(usize::MAX);
        }
    }

    /// A write of the log has failed (I8): nobody waits for room or durability any longer, and the
    /// background ends. Records that are durable already are still acknowledged.
    pub(super) fn poison(&self, error: FileError) {
        let error = self.health.poison(error);
        let mut state = self.lock();
        state.poisoned.get_or_insert(error);
        let woken = state.waiters.take_all();
        drop(state);
        woken.into_iter().for_each(|mut list| list.wake());
        for event in [&self.room, &self.work, &self.dirty, &self.pressure] {
            event.notify(usize::MAX);
        }
    }
}

impl Log {
    /// Refuses all appends and waits with `error` from now on, and resolves when nothing is on its
    /// way to the disk any more. Without [`Log::wait_durable`] before it, what is in the buffer is
    /// lost as in a crash.
    pub async fn close(&self, error: FileError) {
        let woken = {
            let mut state = self.lock();
            state.poisoned.get_or_insert(error);
            state.waiters.take_all()
        };
        woken.into_iter().for_each(|mut list| list.wake());
        self.room.notify(usize::MAX);
        loop {
            let landed = self.landed.listen();
            if self.lock().on_its_way.is_none() {
                return;
            }
            landed.await;
        }
    }
}

impl Completion for Log {
    /// The write of the group on its way has ended.
    fn complete(self: Arc<Self>, _token: u64, buf: IoBuf, result: io::Result<()>) {
        let mut state = self.lock();
        let Some(group) = state.on_its_way.take() else { return };
        if let Err(error) = result {
            drop(state);
            self.landed.notify(usize::MAX);
            let name = self.disk.describe(group.file);
            let doing = format!("cannot write {name} at offset {}", group.offset);
            self.poison(FileError::io(doing, error));
            return;
        }
        state.groups_written += 1;
        state.bytes_written += group.bytes;
        state.records_written += group.records;
        state.written = buf.into_owned();
        self.durable_sequence.store(group.last_sequence, Ordering::Release);
        let mut woken = state.waiters.take_durable();
        let mut sealed = None;
        if !planted_bug!(NextGroupForgotten) {
            sealed = state.seal(self.incarnation);
        }
        drop(state);

        // The device first, the waiters second: they are many.
        self.launch(sealed);
        self.landed.notify(usize::MAX);
        woken.wake();
        self.lock().waiters.reuse(woken);
    }
}
