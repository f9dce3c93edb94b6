//! The redo log, which is also the sequencer of all changes.
//!
//! What it guarantees:
//!
//! * **I5** The log's order is the order of sequences, and the order of conflicting changes: a
//!   change draws its sequence, under one short mutex, while it holds its latches. A checkpoint's
//!   [`Log::flip`] under the same mutex is an exact cut: every record up to its sequence belongs to
//!   the closed epoch or an earlier one, every record after it to a later one.
//! * **I6** What [`Log::wait_durable`] acknowledged is found by [`LogReader`] after any crash; what
//!   it finds is a prefix of what was appended.
//! * **I7** Every group carries its checksum and its own place. A bad group with a good one behind
//!   it is damage, never the end of the log.
//! * **I8** The first failed write poisons the engine; nothing is written or acknowledged after it.
//! * **I2, I10** A future here is registered to be woken and owns nothing. Groups are moved on by
//!   the completions of writes, segments by the engine's task in [`Log::run`].
//! * **I9** Two buffers for groups, one group on its way, a bounded number of segments. Load beyond
//!   it gets [`AppendError::NoRoom`] and waits.
//!
//! # The way of a record
//! 1. [`Log::try_append`], under the mutex: the epoch is checked, the next sequence drawn, the
//!    caller counted as an applier of the epoch, the body copied to the *filling* group. The caller
//!    changes its pages and drops [`Applying`].
//! 2. Somebody wants it durable ([`Log::request_flush`], [`Log::wait_durable`], or the background, within
//!    the flush delay of a [`Log::flush_soon`] or at once after a [`Log::flush_ahead`]). If no group is
//!    on its way, the filling group is *sealed* under the mutex: it gets its place in the log, and the
//!    other buffer begins to fill. Outside the mutex the sealer computes the checksum and submits the
//!    write. If a group is on its way, the wish is noted and nothing else.
//! 3. The completion of the write, on whatever thread it runs, moves the durable sequence, seals and
//!    submits the next group if anybody wished for it, and wakes those who waited for this one.
//!
//! So whoever commits while a group is on its way shares the next write with everybody else who
//! does, and a task that is dropped or never polled again delays nobody.
//!
//! The bytes on disk are described in `format.rs`, segments and their recycling in `segment.rs`.

mod append;
mod background;
mod files;
mod format;
mod group;
mod reader;
mod segment;
mod wait;

use std::sync::{Arc, Weak};
use std::time::Duration;

use event_listener::{Event, EventListener};
use treering_latch::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use treering_latch::sync::{Mutex, MutexGuard};
use treering_pagefile::{Disk, FileError, Health, LogPosition, Runtime};

use format::{BLOCK, GROUP_HEADER, RECORD_HEADER, padded, slot_of};
use group::State;
use segment::{FEWEST, Segments};

pub use append::{AppendError, Applying, Flip};
pub use reader::{LogReader, Record};
pub use segment::KeptSegment;
pub use wait::WaitDurable;

/// The sizes and times of a log. Sizes are rounded up to whole blocks of 4096 bytes and to the
/// least that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of a segment; at least one group and a block. A change takes effect segment by segment
    /// after the next opening.
    pub segment_size: u64,
    /// How many segments there may be, at least 3: one of them is the reserve of the next opening.
    /// When all others are full, appends wait for a checkpoint. While a recovered database still
    /// needs the segments of its earlier life, they come on top.
    pub max_segments: usize,
    /// Bytes of the largest group, header included, below 2 GiB. There are two buffers of this size,
    /// and a write on its way may have a third.
    pub buffer_size: usize,
    /// How long a record may stay in memory after [`Log::flush_soon`].
    pub flush_delay: Duration,
}

impl Default for LogOptions {
    /// Eight segments of 64 MiB, groups of up to 1 MiB, and 10 milliseconds.
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            max_segments: 8,
            buffer_size: 1 << 20,
            flush_delay: Duration::from_millis(10),
        }
    }
}

impl LogOptions {
    fn rounded(self) -> Self {
        let buffer_size = padded(self.buffer_size.clamp(2 * BLOCK, (1 << 31) - BLOCK));
        let least = (buffer_size + BLOCK) as u64;
        Self {
            segment_size: self.segment_size.next_multiple_of(BLOCK as u64).max(least),
            max_segments: self.max_segments.max(FEWEST),
            buffer_size,
            flush_delay: self.flush_delay,
        }
    }
}

/// Where a log begins: from the superblock and the recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStart {
    /// The number of this life of the database. No earlier life may have appended a record with it,
    /// not even one whose superblock was never written: draw it at random.
    pub incarnation: u64,
    /// Number of the first segment: beyond every one that [`LogReader::last_segment`] knows of, 1 in
    /// a new database.
    pub first_segment: u64,
    /// The last sequence that is already in the checkpoint; the first record gets the next one.
    pub last_sequence: u64,
    /// The epoch to begin with.
    pub epoch: u64,
    /// Segments that the superblock still in force needs ([`LogReader::segments_in_use`]): left
    /// alone until [`Log::release_before`] a position of this life.
    pub keep: Vec<KeptSegment>,
}

/// How full the log is, and what it did so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogUsage {
    /// Bytes from the start of the oldest segment in use to the end of the log.
    pub used: u64,
    /// Bytes that may be used: fewer than the options say while the disk has no space for more.
    pub capacity: u64,
    /// Segments in use.
    pub segments: usize,
    /// Segments of an earlier life that the superblock in force needs, beside them.
    pub segments_kept: usize,
    /// Writes since the log was opened.
    pub groups_written: u64,
    /// Bytes of these writes, headers and padding included.
    pub bytes_written: u64,
    /// Records in these writes.
    pub records_written: u64,
}

impl LogUsage {
    /// Whether it is time for a checkpoint: more than half of the log is used, and there is
    /// something that a checkpoint could release.
    pub fn is_pressing(&self) -> bool {
        self.used > self.capacity / 2 && (self.segments > 1 || self.segments_kept > 0)
    }
}

/// The log of an open database. See the module's page for what it guarantees.
pub struct Log {
    disk: Arc<dyn Disk>,
    runtime: Arc<dyn Runtime>,
    health: Arc<Health>,
    options: LogOptions,
    incarnation: u64,
    /// The log itself, for the completions of its writes.
    me: Weak<Log>,

    /// These three change under `state` only and are read anywhere.
    epoch: AtomicU64,
    last_sequence: AtomicU64,
    durable_sequence: AtomicU64,
    /// Appliers of the even and of the odd epochs.
    appliers: [AtomicU64; 2],
    state: Mutex<State>,

    /// Room may have come back.
    room: Event,
    /// The last applier of a closed epoch has finished.
    quiet: Event,
    /// A write has ended, well or badly.
    landed: Event,
    /// More than half of the log is used.
    pressure: Event,
    /// There is something to prepare.
    work: Event,
    /// The background is idle and there is something to flush soon, or it is to stop.
    dirty: Event,
    stopping: AtomicBool,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("epoch", &self.epoch())
            .field("last_sequence", &self.last_sequence())
            .field("durable_sequence", &self.durable_sequence())
            .finish_non_exhaustive()
    }
}

/// Whether a file of this name is one of the log's.
pub(crate) fn is_log_file(name: &str) -> bool {
    slot_of(name).is_some()
}

impl Log {
    /// Begins a log: the first segment is there and durable when this resolves, and the position of
    /// the first record is returned, for the superblock. [`Log::run`] prepares the segments after it.
    ///
    /// Nothing that an older superblock needs is overwritten as long as `start.keep` names it.
    ///
    /// # Errors
    /// When the first segment cannot be made. `Full` when there is no space for it, or for three
    /// segments in a new database.
    pub async fn create(
        disk: Arc<dyn Disk>,
        runtime: Arc<dyn Runtime>,
        health: Arc<Health>,
        options: LogOptions,
        start: LogStart,
    ) -> Result<(Arc<Log>, LogPosition), FileError> {
        let options = options.rounded();
        let incarnation = start.incarnation;
        let (size, limit) = (options.segment_size, options.max_segments);
        let mut segments =
            Segments::survey(&*disk, incarnation, size, limit, start.keep.clone()).await?;
        segments.begin(&*disk, incarnation, start.first_segment).await?;
        let position = segments.end();
        let log = Self::assemble(disk, runtime, health, options, start, segments);
        Ok((log, position))
    }

    /// The log of an engine that writes nothing: it knows its sequence and its epoch, and there are no
    /// files. Nothing may be appended to it.
    pub(crate) fn nowhere(
        disk: Arc<dyn Disk>,
        runtime: Arc<dyn Runtime>,
        health: Arc<Health>,
        options: LogOptions,
        start: LogStart,
    ) -> Arc<Log> {
        let options = LogOptions { buffer_size: 0, ..options }.rounded();
        let segments = Segments::none(options.segment_size);
        Self::assemble(disk, runtime, health, options, start, segments)
    }

    fn assemble(
        disk: Arc<dyn Disk>,
        runtime: Arc<dyn Runtime>,
        health: Arc<Health>,
        options: LogOptions,
        start: LogStart,
        segments: Segments,
    ) -> Arc<Log> {
        Arc::new_cyclic(|me| Log {
            disk,
            runtime,
            health,
            options,
            incarnation: start.incarnation,
            me: me.clone(),
            epoch: AtomicU64::new(start.epoch),
            last_sequence: AtomicU64::new(start.last_sequence),
            durable_sequence: AtomicU64::new(start.last_sequence),
            appliers: [AtomicU64::new(0), AtomicU64::new(0)],
            state: Mutex::new(State::new(segments, options.buffer_size)),
            room: Event::new(),
            quiet: Event::new(),
            landed: Event::new(),
            pressure: Event::new(),
            work: Event::new(),
            dirty: Event::new(),
            stopping: AtomicBool::new(false),
        })
    }

    /// The current epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The sequence of the last record appended.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence.load(Ordering::Acquire)
    }

    /// The sequence of the last record that is durable, with all before it.
    pub fn durable_sequence(&self) -> u64 {
        self.durable_sequence.load(Ordering::Acquire)
    }

    /// The longest body that [`Log::try_append`] takes, in bytes.
    pub fn max_body(&self) -> usize {
        self.options.buffer_size - GROUP_HEADER - RECORD_HEADER
    }

    /// Where the record after `sequence` is or will be: the start of its group, for the superblock.
    /// Resolves when `sequence` is durable. Dropping it changes nothing.
    ///
    /// For a sequence that is many groups back, this is the start of its segment: the reader then
    /// skips a little more.
    ///
    /// # Errors
    /// When `sequence` cannot become durable because the engine is poisoned.
    pub async fn position_after(&self, sequence: u64) -> Result<LogPosition, FileError> {
        self.arc().wait_durable(sequence).await?;
        Ok(self.lock().position_after(sequence))
    }

    /// Gives back all segments that lie wholly before `position`, which the superblock in force must
    /// name. The background prepares them anew.
    pub fn release_before(&self, position: LogPosition) {
        self.lock().segments.release_before(position);
        self.work.notify(usize::MAX);
    }

    /// How full the log is, and what it did so far.
    pub fn usage(&self) -> LogUsage {
        self.lock().usage()
    }

    /// Is notified when it is time for a checkpoint. Listen first, then look at
    /// [`LogUsage::is_pressing`], then wait.
    pub fn pressure(&self) -> EventListener {
        self.pressure.listen()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn arc(&self) -> Arc<Log> {
        self.me.upgrade().expect("a log lives in an Arc, and `self` borrows it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_to_blocks_and_to_what_works() {
        let rounded = |segment_size, max_segments, buffer_size| {
            let options =
                LogOptions { segment_size, max_segments, buffer_size, ..LogOptions::default() };
            let rounded = options.rounded();
            (rounded.segment_size / BLOCK as u64, rounded.max_segments, rounded.buffer_size / BLOCK)
        };
        assert_eq!(rounded(0, 0, 0), (3, 3, 2));
        assert_eq!(rounded(5 * BLOCK as u64 + 1, 7, 3 * BLOCK - 1), (6, 7, 3));
        let blocks = (2 << 30) / BLOCK;
        assert_eq!(rounded(0, 0, usize::MAX), (blocks as u64, 3, blocks - 1), "below 2 GiB");
    }

    #[test]
    fn a_log_presses_when_more_than_half_is_used_and_a_checkpoint_would_help() {
        let pressing = |used, segments, segments_kept| {
            let (groups_written, bytes_written, records_written) = (0, 0, 0);
            let capacity = 100;
            LogUsage {
                used,
                capacity,
                segments,
                segments_kept,
                groups_written,
                bytes_written,
                records_written,
            }
            .is_pressing()
        };
        assert!(pressing(51, 2, 0) && pressing(51, 1, 1));
        assert!(!pressing(50, 2, 1), "half of it is not more than half");
        assert!(!pressing(90, 1, 0), "nothing could be released");
    }
}
