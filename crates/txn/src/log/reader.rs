//! Reading the log back after a crash.
//!
//! A reader stands at the place where the next group is expected. Sequences have no gaps, so the
//! group there must begin with the sequence after the last one read. There are four cases:
//!
//! * A sound group with that sequence is there: it is read.
//! * It is not, but the next segment begins with it: the group did not fit into the rest of this
//!   segment, and the log goes on there.
//! * Neither, and no sound group with a later sequence lies behind this place, in this segment or a
//!   later one: this is the end. What may lie here is the one group that was on its way at the crash.
//! * Neither, but such a group exists: as there is only one group on its way at any time, the one
//!   expected here was durable once. The log is damaged, and says where (I7).
//!
//! What cannot be told from a torn write is decay in the very last group.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use treering_pagefile::{AlignedBuf, Disk, FileError, FileErrorKind, FileId, LogPosition};

use super::KeptSegment;
use super::files::{damaged, file_len, first_block, log_files};
use super::format::{
    BLOCK, FirstBlock, GROUP_HEADER, GroupFound, GroupHeader, RECORD_HEADER, file_name, intact,
    padded, split_record,
};

/// Bytes of one read.
const READ: usize = 1 << 20;

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its sequence.
    pub sequence: u64,
    /// What was appended.
    pub body: Vec<u8>,
}

/// Reads the records of one incarnation of the database, in order.
pub struct LogReader {
    disk: Arc<dyn Disk>,
    incarnation: u64,
    /// The segments of this incarnation from the one that the superblock names on.
    segments: BTreeMap<u64, SegmentFile>,
    last_segment: u64,
    /// Where it began to read.
    from: LogPosition,
    /// Where the next group is expected.
    place: LogPosition,
    /// Records up to this sequence are not wanted.
    after_sequence: u64,
    /// The sequence with which the next group begins; not known before the first one.
    expected: Option<u64>,
    window: Window,
    /// The rest of the current group, in the window, and the sequence of its next record.
    rest: Range<usize>,
    sequence: u64,
    ended: bool,
}

#[derive(Clone, Copy)]
struct SegmentFile {
    slot: u32,
    file: FileId,
    size: u64,
}

/// The part of a segment that is in memory.
#[derive(Default)]
struct Window {
    segment: u64,
    offset: u64,
    bytes: Option<AlignedBuf>,
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader")
            .field("incarnation", &self.incarnation)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl LogReader {
    /// Begins to read at `from`, which the superblock names together with `incarnation` and the last
    /// sequence that its checkpoint holds, `after_sequence`.
    ///
    /// # Errors
    /// `Damaged` when the segment of `from` is not there or not whole, `Version` when a segment is of
    /// another format, or the error of a read.
    pub async fn open(
        disk: Arc<dyn Disk>,
        incarnation: u64,
        from: LogPosition,
        after_sequence: u64,
    ) -> Result<LogReader, FileError> {
        let mut segments = BTreeMap::new();
        let mut last_segment = from.segment;
        for (slot, file) in log_files(&*disk)? {
            let header = match first_block(&*disk, file).await? {
                FirstBlock::Segment(header) => header,
                FirstBlock::Version(version) => {
                    let name = disk.describe(file);
                    let message = format!("{name} has version {version} of the log's format");
                    return Err(FileError::new(FileErrorKind::Version, message));
                }
                FirstBlock::Nothing => continue,
            };
            last_segment = last_segment.max(header.number);
            if header.incarnation != incarnation || header.number < from.segment {
                continue;
            }
            let len = file_len(&*disk, file)?;
            if len < header.size {
                let what = format!("the file ends here, its segment has {} bytes", header.size);
                return Err(damaged(&*disk, file, len, &what));
            }
            let found = SegmentFile { slot, file, size: header.size };
            if segments.insert(header.number, found).is_some() {
                let what = format!("another file also holds segment {}", header.number);
                return Err(damaged(&*disk, file, 0, &what));
            }
        }
        let Some(first) = segments.get(&from.segment) else {
            let message = format!(
                "the log is damaged: segment {}, where the records after the last checkpoint begin, \
                 is in none of the files {}, {}, ...",
                from.segment,
                file_name(0),
                file_name(1),
            );
            return Err(FileError::new(FileErrorKind::Damaged, message));
        };
        let block = BLOCK as u64;
        if from.offset < block || from.offset > first.size || !from.offset.is_multiple_of(block) {
            let what = "the superblock names this as the place of a group";
            return Err(damaged(&*disk, first.file, from.offset, what));
        }
        Ok(LogReader {
            disk,
            incarnation,
            segments,
            last_segment,
            from,
            place: from,
            after_sequence,
            expected: None,
            window: Window::default(),
            rest: 0..0,
            sequence: 0,
            ended: false,
        })
    }

    /// The next record, in order and without a gap; `None` at the end of the log. Dropping the
    /// future is harmless: the next call reads on.
    ///
    /// # Errors
    /// `Damaged` when something that was durable cannot be read, naming file and offset; or the
    /// error of a read.
    pub async fn next(&mut self) -> Result<Option<Record>, FileError> {
        let next = self.next_in_place().await?;
        Ok(next.map(|(sequence, body)| Record { sequence, body: body.to_vec() }))
    }

    /// As [`LogReader::next`], without a copy: the record's sequence and its body.
    ///
    /// # Errors
    /// As [`LogReader::next`].
    pub async fn next_in_place(&mut self) -> Result<Option<(u64, &[u8])>, FileError> {
        let (sequence, body) = loop {
            if self.rest.is_empty() {
                if self.ended || !self.next_group().await? {
                    return Ok(None);
                }
            } else if let Some(found) = self.next_in_group()? {
                break found;
            }
        };
        let bytes = self.window.bytes.as_deref().unwrap_or_default();
        Ok(Some((sequence, &bytes[body])))
    }

    /// How many bytes of log lie before the next group: from where it began to be read.
    pub fn bytes_read(&self) -> u64 {
        let whole = self.segments.range(self.from.segment..self.place.segment);
        let whole: u64 = whole.map(|(_, segment)| segment.size).sum();
        (whole + self.place.offset).saturating_sub(self.from.offset)
    }

    /// How many there are at most: all segments from there on may be full.
    pub fn bytes_at_most(&self) -> u64 {
        let all: u64 = self.segments.values().map(|segment| segment.size).sum();
        all.saturating_sub(self.from.offset)
    }

    /// The highest number of any segment that exists, of whatever incarnation. A new log begins
    /// beyond it.
    pub fn last_segment(&self) -> u64 {
        self.last_segment
    }

    /// The segments that hold what this reader reads, for [`super::LogStart::keep`]. To be called at
    /// the end of the log; before it, this also names segments that turn out to be unused.
    pub fn segments_in_use(&self) -> Vec<KeptSegment> {
        let last = if self.ended { self.place.segment } else { u64::MAX };
        let used = self.segments.range(..=last);
        used.map(|(&number, at)| KeptSegment { number, slot: at.slot, size: at.size }).collect()
    }

    /// Takes one record off the current group: its sequence, and where in the window its body is.
    /// `None` if it is not wanted.
    fn next_in_group(&mut self) -> Result<Option<(u64, Range<usize>)>, FileError> {
        let bytes = self.window.bytes.as_deref().unwrap_or_default();
        let Some((body, _)) = split_record(&bytes[self.rest.clone()]) else {
            let offset = self.window.offset + self.rest.start as u64;
            return Err(self.damage(self.place.segment, offset, "a record is cut off"));
        };
        let sequence = self.sequence;
        let body = self.rest.start + RECORD_HEADER..self.rest.start + RECORD_HEADER + body.len();
        self.rest.start = body.end;
        self.sequence += 1;
        if self.rest.is_empty() && self.expected != Some(self.sequence) {
            let offset = self.window.offset + self.rest.start as u64;
            return Err(self.damage(self.place.segment, offset, "a group lacks records"));
        }
        Ok((sequence > self.after_sequence).then_some((sequence, body)))
    }

    /// Moves on to the next group; `false` at the end of the log.
    async fn next_group(&mut self) -> Result<bool, FileError> {
        if let Some(group) = self.load(self.place).await? {
            let place = self.place;
            self.accept(place, group)?;
            return Ok(true);
        }
        let next = LogPosition { segment: self.place.segment + 1, offset: BLOCK as u64 };
        if let Some(group) = self.load(next).await?
            && group.first_sequence <= self.expected_sequence()
        {
            self.accept(next, group)?;
            return Ok(true);
        }
        self.check_the_end().await?;
        self.ended = true;
        Ok(false)
    }

    fn expected_sequence(&self) -> u64 {
        self.expected.unwrap_or(self.after_sequence + 1)
    }

    /// Goes into a sound group.
    fn accept(&mut self, at: LogPosition, group: GroupFound) -> Result<(), FileError> {
        let first = group.first_sequence;
        // The first group may begin before the checkpoint's cut, all others follow one another.
        let follows = match self.expected {
            None => first <= self.after_sequence + 1,
            Some(expected) => first == expected,
        };
        if !follows {
            let expected = self.expected_sequence();
            let what = format!("a group begins with record {first}, record {expected} is missing");
            return Err(self.damage(at.segment, at.offset, &what));
        }
        let start = (at.offset - self.window.offset) as usize;
        self.rest = start + GROUP_HEADER..start + group.len;
        self.sequence = first;
        self.expected = Some(group.last_sequence + 1);
        let offset = at.offset + padded(group.len) as u64;
        self.place = LogPosition { segment: at.segment, offset };
        Ok(())
    }

    /// Makes sure that nothing sound lies behind the place where the next group is missing.
    async fn check_the_end(&mut self) -> Result<(), FileError> {
        let missing = self.place;
        let later: Vec<_> =
            self.segments.range(missing.segment..).map(|(&n, f)| (n, f.size)).collect();
        for (segment, size) in later {
            let mut at = LogPosition { segment, offset: BLOCK as u64 };
            if segment == missing.segment {
                at.offset = missing.offset;
            }
            while at.offset < size {
                if let Some(group) = self.load(at).await?
                    && group.last_sequence >= self.expected_sequence()
                {
                    let what = format!(
                        "the group with record {} is missing or torn, yet records {} to {} follow \
                         at offset {} of segment {segment}",
                        self.expected_sequence(),
                        group.first_sequence,
                        group.last_sequence,
                        at.offset,
                    );
                    return Err(self.damage(missing.segment, missing.offset, &what));
                }
                at.offset += BLOCK as u64;
            }
        }
        Ok(())
    }

    /// The group at this place, if a sound one is there; it is in the window then.
    async fn load(&mut self, at: LogPosition) -> Result<Option<GroupFound>, FileError> {
        let Some(&segment) = self.segments.get(&at.segment) else { return Ok(None) };
        if at.offset + BLOCK as u64 > segment.size {
            return Ok(None);
        }
        let start = self.need(at, segment, BLOCK).await?;
        let header = self.window.bytes.as_deref().unwrap_or_default();
        let header = &header[start..start + BLOCK];
        let found = GroupHeader::find(header, self.incarnation, at.segment, at.offset);
        let Some(group) = found else { return Ok(None) };
        if at.offset + padded(group.len) as u64 > segment.size {
            return Ok(None);
        }
        let start = self.need(at, segment, padded(group.len)).await?;
        let bytes = self.window.bytes.as_deref().unwrap_or_default();
        Ok(intact(&bytes[start..start + group.len], self.incarnation).then_some(group))
    }

    /// Brings `len` bytes at `at` into the window, and as many behind them as one read takes.
    /// Returns where in the window they are.
    async fn need(
        &mut self,
        at: LogPosition,
        segment: SegmentFile,
        len: usize,
    ) -> Result<usize, FileError> {
        let have = self.window.bytes.as_deref().map_or(0, <[u8]>::len) as u64;
        let inside = self.window.segment == at.segment
            && at.offset >= self.window.offset
            && at.offset + len as u64 <= self.window.offset + have;
        if !inside {
            let left = segment.size - at.offset;
            let take = (len.max(READ) as u64).min(left) as usize;
            let read = self.disk.read(segment.file, at.offset, take).await;
            let bytes = read.map_err(|error| {
                let name = self.disk.describe(segment.file);
                FileError::io(format!("cannot read {name} at offset {}", at.offset), error)
            })?;
            self.window = Window { segment: at.segment, offset: at.offset, bytes: Some(bytes) };
        }
        Ok((at.offset - self.window.offset) as usize)
    }

    fn damage(&self, segment: u64, offset: u64, what: &str) -> FileError {
        match self.segments.get(&segment) {
            Some(at) => damaged(&*self.disk, at.file, offset, what),
            None => FileError::new(FileErrorKind::Damaged, format!("the log is damaged: {what}")),
        }
    }
}
