//! The log as recovery reads it: segments in files, groups in segments, records in groups, and behind
//! them the groups of earlier lives and of segments that the files held before.
//!
//! The log is made by hand, from groups of the sizes that the input names. If it was only damaged, a
//! reader gives the records of the groups in front of the first one that was hit, and then an error
//! or the end; the end only if every group from there on was hit, since those cannot be told from groups
//! that a crash tore. If checksums were made to fit, the reader comes to an end.

use std::ops::Range;
use std::sync::OnceLock;

use treering_pagefile::sim::SimImage;
use treering_pagefile::{FileError, FileErrorKind, LogPosition};
use treering_txn::{LogReader, Record};

use crate::format::{BLOCK, Segment, reseal_log};
use crate::input::{Input, damage};
use crate::machine::{disk, machine, run};

const INCARNATION: u64 = 0x1234_5678_9abc;
const FIRST_SEGMENT: u64 = 7;
const FIRST_SEQUENCE: u64 = 1000;
/// Bytes of a segment.
const SIZE: usize = 8 * BLOCK;
const FILES: usize = 3;

/// A log that was damaged, or forged.
pub fn log(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let mut made = Made::any(&mut input);
    let written = made.files.clone();
    for (file, before) in written.iter().enumerate() {
        damage(&mut input, &mut made.files[file], 3);
        if how & 1 != 0 && input.flag() {
            made.forged |= made.files[file] != *before;
            made.reseal(file);
        }
        if how & 2 != 0 && input.byte().is_multiple_of(8) {
            made.files[file].truncate(usize::from(input.u16()) % (SIZE + 1));
        }
    }
    made.strike(&written);
    let mut from = LogPosition { segment: FIRST_SEGMENT, offset: BLOCK as u64 };
    let mut after = FIRST_SEQUENCE - 1 + u64::from(input.byte() % 4);
    let mut incarnation = INCARNATION;
    if how & 4 != 0 {
        from.segment = input.number(from.segment);
        from.offset = input.number(from.offset);
        after = input.number(after);
        incarnation = input.number(incarnation);
        made.forged = true;
    }
    let (records, end) = made.read(incarnation, from, after);
    if !made.forged {
        made.check(after, &records, end);
    }
}

/// A log that was made by hand.
struct Made {
    files: Vec<Vec<u8>>,
    groups: Vec<Group>,
    /// Its checksums fit what may be nonsense.
    forged: bool,
}

/// A group of the log as it was made.
struct Group {
    file: usize,
    /// Where in the file, without padding.
    place: Range<usize>,
    first: u64,
    records: Vec<Vec<u8>>,
    /// It, or the header of its segment, was damaged.
    hit: bool,
}

impl Made {
    fn any(input: &mut Input<'_>) -> Self {
        // First what the files held before.
        let files: Vec<_> = (0..FILES).map(|_| held_before(input.byte() % 3)).collect();
        let mut made = Self { files, groups: Vec::new(), forged: false };
        let segments = 1 + input.below(FILES);
        let mut sequence = FIRST_SEQUENCE;
        for file in 0..segments {
            sequence = made.fill(file, sequence, input, file + 1 < segments);
        }
        made
    }

    /// Puts the next segment into a file: groups up to where the next one does not fit any more, or
    /// somewhere before. Returns the sequence behind the last record.
    fn fill(&mut self, file: usize, first: u64, input: &mut Input<'_>, full: bool) -> u64 {
        let segment = segment(file);
        self.files[file][..BLOCK].copy_from_slice(&segment.first_block());
        let (mut at, mut sequence) = (BLOCK, first);
        let groups = if full { usize::MAX } else { input.below(8) };
        for _ in 0..groups {
            let mut records: Vec<Vec<u8>> = Vec::new();
            for _ in 0..1 + input.below(4) {
                let len = usize::from(input.byte()) * 16;
                records.push(vec![sequence as u8; len]);
            }
            let group = segment.group(at as u64, sequence, &records);
            if at + group.len().next_multiple_of(BLOCK) > SIZE {
                break;
            }
            let place = at..at + group.len();
            self.files[file][place.clone()].copy_from_slice(&group);
            at += group.len().next_multiple_of(BLOCK);
            self.files[file][place.end..at].fill(0);
            let first = sequence;
            sequence += records.len() as u64;
            self.groups.push(Group { file, place, first, records, hit: false });
        }
        sequence
    }

    /// Marks the groups that are not as they were written, or in a segment whose first block is not.
    fn strike(&mut self, written: &[Vec<u8>]) {
        for group in &mut self.groups {
            let same = |place: Range<usize>| {
                self.files[group.file].get(place.clone()) == written[group.file].get(place)
            };
            group.hit = !same(0..BLOCK) || !same(group.place.clone());
        }
    }

    /// Makes the checksums in a file fit: of its first block, and of every group where one was.
    fn reseal(&mut self, file: usize) {
        let incarnation = crate::format::u64_at(&self.files[file], 16);
        reseal_log(&mut self.files[file][..BLOCK], incarnation);
        for group in self.groups.iter().filter(|group| group.file == file) {
            let at = group.place.start;
            let body = crate::format::u32_at(&self.files[file], at + 48) as usize;
            let end = at.saturating_add(64).saturating_add(body).min(SIZE);
            let incarnation = crate::format::u64_at(&self.files[file], at + 8);
            reseal_log(&mut self.files[file][at..end], incarnation);
        }
    }

    fn read(
        &self,
        incarnation: u64,
        from: LogPosition,
        after: u64,
    ) -> (Vec<Record>, Result<(), FileError>) {
        let mut image = SimImage::default();
        for (number, file) in self.files.iter().enumerate() {
            image.insert(&format!("log-{number:02}"), file);
        }
        let sim = machine(&image);
        let mut records = Vec::new();
        let end = run(&sim, async {
            let mut reader = LogReader::open(disk(&sim), incarnation, from, after).await?;
            while let Some(record) = reader.next().await? {
                records.push(record);
            }
            assert!(reader.segments_in_use().len() <= FILES);
            assert!(self.forged || reader.last_segment() < FIRST_SEGMENT + FILES as u64);
            Ok(())
        });
        (records, end)
    }

    /// What was read of a log that was damaged and not forged.
    fn check(&self, after: u64, records: &[Record], end: Result<(), FileError>) {
        // Nobody misses records that the checkpoint has.
        let last = |group: &&Group| group.first + group.records.len() as u64 - 1;
        let groups = || self.groups.iter().filter(move |group| last(group) > after);
        let written = groups().take_while(|group| !group.hit);
        let written = written.flat_map(|group| (group.first..).zip(&group.records));
        let wanted = written.filter(|(sequence, _)| *sequence > after);
        let read = records.iter().map(|record| (record.sequence, &record.body));
        match end {
            Ok(()) => {
                let mut behind = groups().skip_while(|group| !group.hit);
                assert!(behind.all(|group| group.hit), "damage was taken for the end of the log");
                assert!(wanted.eq(read), "the log has what was written");
            }
            Err(error) => {
                let kinds = [FileErrorKind::Damaged, FileErrorKind::Version, FileErrorKind::Io];
                assert!(kinds.contains(&error.kind()), "{error}");
                let cut = self.files.iter().any(|file| file.len() < SIZE);
                let hit = self.groups.iter().any(|group| group.hit) || self.groups.is_empty();
                assert!(hit || cut, "{error}");
                assert!(wanted.zip(read).all(|(wanted, read)| wanted == read));
            }
        }
    }
}

/// A file of an earlier segment of this life, or of an earlier life, or of none.
fn held_before(kind: u8) -> Vec<u8> {
    static MADE: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let size = SIZE as u64;
        let earlier = Segment { incarnation: INCARNATION, number: 2, size };
        let other = Segment { incarnation: 99, number: FIRST_SEGMENT, size };
        [full_of_groups(earlier), full_of_groups(other), vec![0; SIZE]]
    });
    made[usize::from(kind)].clone()
}

fn full_of_groups(segment: Segment) -> Vec<u8> {
    let mut file = vec![0; SIZE];
    file[..BLOCK].copy_from_slice(&segment.first_block());
    for block in 1..SIZE / BLOCK {
        let first = FIRST_SEQUENCE - 3 + 2 * block as u64;
        let group = segment.group((block * BLOCK) as u64, first, &[vec![7; 9], vec![8; 40]]);
        file[block * BLOCK..][..group.len()].copy_from_slice(&group);
    }
    file
}

fn segment(file: usize) -> Segment {
    let number = FIRST_SEGMENT + file as u64;
    Segment { incarnation: INCARNATION, number, size: SIZE as u64 }
}
