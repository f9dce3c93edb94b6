//! The bytes of the log.
//!
//! The log is a set of files `log-00`, `log-01`, ... of one fixed size. A file holds one *segment*
//! at a time; segments are numbered from 1 over the whole life of the database and a number is
//! never used again. All integers are little-endian, everything starts on a block of 4096 bytes,
//! and every checksum is a CRC-32C that begins with the CRC-32C of the incarnation's eight bytes,
//! so that what an earlier life of the database wrote never passes for the present one.
//!
//! The first block of a segment, written and made durable before anything else in it:
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | checksum of the bytes 4..4096 |
//! | 4..8 | `TRLS` |
//! | 8..12 | version of the format: 1 |
//! | 12..16 | zero |
//! | 16..24 | incarnation of the database |
//! | 24..32 | number of the segment |
//! | 32..40 | size of the segment in bytes, this block included |
//! | 40..4096 | zero |
//!
//! Then groups, one write each, one behind the other, each padded with zeros to whole blocks (an
//! acknowledged block is never written again):
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | checksum of the bytes 4.. to the end of the body |
//! | 4..8 | `TRLG` |
//! | 8..16 | incarnation of the database |
//! | 16..24 | number of the segment |
//! | 24..32 | offset of this group in the segment |
//! | 32..40 | sequence of the first record |
//! | 40..48 | sequence of the last record |
//! | 48..52 | length of the body in bytes |
//! | 52..56 | number of records |
//! | 56..64 | zero |
//! | 64.. | the body: the records |
//!
//! A record's sequence is its place in the group: sequences have no gaps.
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | length of the record's body, which may be 0 |
//! | 4.. | the body |
//!
//! Behind the last group of a segment lies whatever was there before: zeros, or groups of the
//! segment that the file held earlier, which tell themselves apart by their segment number. A group
//! that does not fit into the rest of a segment is the first one of the next segment.

use treering_pagefile::AlignedBuf;

/// The unit of everything in the log, in bytes: O_DIRECT takes it on any device with blocks of up to
/// 4 KiB.
pub(super) const BLOCK: usize = 4096;
/// Bytes before the body of a group.
pub(super) const GROUP_HEADER: usize = 64;
/// Bytes before the body of a record.
pub(super) const RECORD_HEADER: usize = 4;

const SEGMENT_MAGIC: [u8; 4] = *b"TRLS";
const GROUP_MAGIC: [u8; 4] = *b"TRLG";
const VERSION: u32 = 1;

/// `len` rounded up to whole blocks.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(BLOCK)
}

/// The name of the file in slot `slot`.
pub(super) fn file_name(slot: u32) -> String {
    format!("log-{slot:02}")
}

/// The slot whose file has this name, if it is a file of the log.
pub(super) fn slot_of(name: &str) -> Option<u32> {
    let slot = name.strip_prefix("log-")?.parse().ok()?;
    (file_name(slot) == name).then_some(slot)
}

fn checksum(incarnation: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&incarnation.to_le_bytes()), bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// What the first block of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) incarnation: u64,
    pub(super) number: u64,
    pub(super) size: u64,
}

/// What the first block of a file of the log turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstBlock {
    /// A segment, of whatever incarnation.
    Segment(SegmentHeader),
    /// A segment in a format that this version does not know.
    Version(u32),
    /// No segment: never completely prepared, or damaged.
    Nothing,
}

impl SegmentHeader {
    /// The block to write.
    pub(super) fn encode(&self) -> AlignedBuf {
        let mut block = AlignedBuf::zeroed(BLOCK);
        block[4..8].copy_from_slice(&SEGMENT_MAGIC);
        block[8..12].copy_from_slice(&VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.incarnation.to_le_bytes());
        block[24..32].copy_from_slice(&self.number.to_le_bytes());
        block[32..40].copy_from_slice(&self.size.to_le_bytes());
        let crc = checksum(self.incarnation, &block[4..]);
        block[0..4].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// The inverse of [`SegmentHeader::encode`]; `block` has [`BLOCK`] bytes.
    pub(super) fn decode(block: &[u8]) -> FirstBlock {
        let incarnation = u64_at(block, 16);
        if block[4..8] != SEGMENT_MAGIC || u32_at(block, 0) != checksum(incarnation, &block[4..]) {
            return FirstBlock::Nothing;
        }
        match u32_at(block, 8) {
            VERSION => FirstBlock::Segment(Self {
                incarnation,
                number: u64_at(block, 24),
                size: u64_at(block, 32),
            }),
            other => FirstBlock::Version(other),
        }
    }
}

/// What the header of a group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) incarnation: u64,
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
}

/// A group header as read: its identity fits its place, its checksum has not been looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupFound {
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
    /// Header and body, without padding.
    pub(super) len: usize,
}

impl GroupHeader {
    /// Fills in the header of `group`, which is header and body without padding.
    pub(super) fn seal(&self, group: &mut [u8]) {
        let body = group.len() - GROUP_HEADER;
        let count = self.last_sequence + 1 - self.first_sequence;
        group[4..8].copy_from_slice(&GROUP_MAGIC);
        group[8..16].copy_from_slice(&self.incarnation.to_le_bytes());
        group[16..24].copy_from_slice(&self.segment.to_le_bytes());
        group[24..32].copy_from_slice(&self.offset.to_le_bytes());
        group[32..40].copy_from_slice(&self.first_sequence.to_le_bytes());
        group[40..48].copy_from_slice(&self.last_sequence.to_le_bytes());
        group[48..52].copy_from_slice(&(body as u32).to_le_bytes());
        group[52..56].copy_from_slice(&(count as u32).to_le_bytes());
        group[56..64].fill(0);
        let crc = checksum(self.incarnation, &group[4..]);
        group[0..4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the header of a group that lies at `offset` of segment `segment` in the incarnation
    /// `incarnation`; `None` if these bytes are anything else.
    pub(super) fn find(
        bytes: &[u8],
        incarnation: u64,
        segment: u64,
        offset: u64,
    ) -> Option<GroupFound> {
        let identity = bytes[4..8] == GROUP_MAGIC
            && u64_at(bytes, 8) == incarnation
            && u64_at(bytes, 16) == segment
            && u64_at(bytes, 24) == offset;
        if !identity {
            return None;
        }
        let found = GroupFound {
            first_sequence: u64_at(bytes, 32),
            last_sequence: u64_at(bytes, 40),
            len: GROUP_HEADER + u32_at(bytes, 48) as usize,
        };
        let count = found.last_sequence.wrapping_sub(found.first_sequence).wrapping_add(1);
        (count > 0 && count == u64::from(u32_at(bytes, 52))).then_some(found)
    }
}

/// Whether the checksum of `group` (header and body without padding) fits.
pub(super) fn intact(group: &[u8], incarnation: u64) -> bool {
    u32_at(group, 0) == checksum(incarnation, &group[4..])
}

/// Appends one record to a group.
pub(super) fn push_record(group: &mut Vec<u8>, body: &[u8]) {
    group.extend_from_slice(&(body.len() as u32).to_le_bytes());
    group.extend_from_slice(body);
}

/// The body of the record at the start of `rest`, and what follows it; `None` if `rest` ends
/// before the record does.
pub(super) fn split_record(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = rest.split_at_checked(RECORD_HEADER)?;
    rest.split_at_checked(u32_at(header, 0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_and_slots_are_inverse_and_strangers_are_left_alone() {
        for slot in [0, 7, 99, 100] {
            assert_eq!(slot_of(&file_name(slot)), Some(slot));
        }
        for name in ["log-", "log-1", "log-001", "log-+1", "log-xx", "pages", "log"] {
            assert_eq!(slot_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_segment_header_survives_and_any_changed_byte_is_found() {
        let header = SegmentHeader { incarnation: 3, number: 9, size: 1 << 20 };
        let mut block = header.encode();
        assert_eq!(SegmentHeader::decode(&block), FirstBlock::Segment(header));
        for at in 0..BLOCK {
            block[at] ^= 0x40;
            assert_eq!(SegmentHeader::decode(&block), FirstBlock::Nothing, "byte {at}");
            block[at] ^= 0x40;
        }
        block[8] = 2;
        let crc = checksum(3, &block[4..]);
        block[0..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), FirstBlock::Version(2));
    }

    #[test]
    fn a_group_is_found_only_at_its_place_and_in_its_incarnation() {
        let mut group = vec![0xffu8; GROUP_HEADER];
        push_record(&mut group, b"one");
        push_record(&mut group, b"");
        let (first_sequence, last_sequence) = (7, 8);
        let header =
            GroupHeader { incarnation: 5, segment: 2, offset: 8192, first_sequence, last_sequence };
        header.seal(&mut group);
        let found = GroupHeader::find(&group, 5, 2, 8192).unwrap();
        assert_eq!(found, GroupFound { first_sequence, last_sequence, len: group.len() });
        assert!(intact(&group, 5) && !intact(&group, 6));
        assert_eq!(GroupHeader::find(&group, 6, 2, 8192), None);
        assert_eq!(GroupHeader::find(&group, 5, 3, 8192), None);
        assert_eq!(GroupHeader::find(&group, 5, 2, 4096), None);

        let (one, rest) = split_record(&group[GROUP_HEADER..]).unwrap();
        assert_eq!(one, b"one");
        assert_eq!(split_record(rest), Some((&b""[..], &b""[..])));
        assert_eq!(split_record(&rest[1..]), None);
        assert_eq!(split_record(&group[GROUP_HEADER..GROUP_HEADER + 6]), None);
    }

    #[test]
    fn a_group_without_records_or_with_another_number_of_them_is_none() {
        let (incarnation, segment, offset) = (5, 2, 8192);
        let found = |first_sequence, last_sequence, count: u32| {
            let mut group = vec![0u8; GROUP_HEADER];
            GroupHeader {
                incarnation,
                segment,
                offset,
                first_sequence,
                last_sequence: first_sequence,
            }
            .seal(&mut group);
            group[40..48].copy_from_slice(&u64::to_le_bytes(last_sequence));
            group[52..56].copy_from_slice(&count.to_le_bytes());
            GroupHeader::find(&group, incarnation, segment, offset).is_some()
        };
        assert!(found(7, 7, 1) && found(7, 9, 3));
        assert!(!found(7, 6, 0), "a group has records");
        assert!(!found(7, 9, 2) && !found(7, 9, 4) && !found(9, 7, u32::MAX));
    }
}
