//! The two superblocks: where everything else is found.
//!
//! # Protocol
//! * Both copies hold the same; each names one checkpoint. A checkpoint writes A, durably, then B,
//!   durably, and only then may anything that the checkpoint before it refers to be used again. So
//!   either copy alone opens a checkpoint whose extents are untouched, whenever the power fails.
//! * Opening takes the newest valid copy and, before it returns, writes both anew, the older or
//!   damaged one first. So between checkpoints both copies are equal, and a copy that is a checkpoint
//!   behind never outlives the opening that saw it.
//! * A copy is one sector of 512 bytes (the rest of its 4 KiB is zero), which a device writes whole.
//!
//! # A copy, byte by byte (little-endian)
//!
//! | bytes | |
//! |---|---|
//! | 0..16 | `treering-pages\r\n`; while a database is being created, `treering-create\n` in copy A |
//! | 16..20 | format version, 1 |
//! | 20..24 | CRC-32C of the bytes 0..512, with zero in these four |
//! | 24..28 | page size in bytes, a power of two, 2^9 to 2^24 |
//! | 28..32 | next write stamp |
//! | 32..40 | generation: one more with each time the superblocks are written |
//! | 40..48 | incarnation of the log |
//! | 48..56 | epoch of the checkpoint |
//! | 56..64 | sequence: everything up to it is in the checkpoint |
//! | 64..72 | log segment from which recovery replays |
//! | 72..80 | offset in that segment |
//! | 80..88 | first block of the map's directory, packed ([`Extent::pack`]); 0: the map is empty |
//! | 88..92 | directory entries in that block |
//! | 92..96 | CRC-32C of that block |
//! | 96..512 | zero |
//!
//! Magic, version and checksum keep their places in all versions of the format.
//!
//! # Creation
//! [`crate::PageFile::create`] first makes copy A the *birth mark*: the same bytes with the other
//! magic. The first checkpoint replaces it. So a file whose copy A is the birth mark and whose copy B
//! is blank (or a file of at most 4 KiB of zeros, from before the mark was durable) is a creation
//! that was interrupted and holds nothing; a long file with two blank copies is damage, not that.

use std::io;

use bytemuck::{Pod, Zeroable};

use crate::buf::{AlignedBuf, IoBuf};
use crate::disk::{Disk, FileId, Lane, Op, transfer};
use crate::error::FileError;
use crate::map::DirectoryRef;
use crate::page::Extent;

/// The version of the format, of all that is in the page file.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Bytes at the start of the file that belong to the superblocks.
pub(crate) const AREA_LEN: u64 = 32 << 10;

/// Bytes that are read and written for one copy: a multiple of every device's block.
pub(crate) const COPY_LEN: usize = 4096;

/// Where the copies are, in bytes.
pub(crate) const OFFSETS: [u64; 2] = [0, 16 << 10];

/// What the copies are called in messages.
pub(crate) const NAMES: [&str; 2] = ["A", "B"];

const MAGIC: [u8; 16] = *b"treering-pages\r\n";
const BIRTH_MARK: [u8; 16] = *b"treering-create\n";
const SECTOR: usize = 512;

/// Numbers that count up from 1 stay far below this, and so may be counted on without a look.
const COUNTED_MAX: u64 = 1 << 62;

/// Where the redo log starts after a checkpoint; opaque to the page file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogPosition {
    /// The number of the log segment.
    pub segment: u64,
    /// Where in the segment, in bytes.
    pub offset: u64,
}

/// What a checkpoint says beside the pages themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// The epoch that the checkpoint ends: it holds the page images of all epochs up to this one.
    pub epoch: u64,
    /// The last commit sequence whose effects are in the checkpoint, all of them (I5).
    pub sequence: u64,
    /// The log's incarnation, which changes with every recovery.
    pub incarnation: u64,
    /// From where on the log has to be replayed after the checkpoint.
    pub log: LogPosition,
}

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) page_size: usize,
    pub(crate) next_stamp: u32,
    pub(crate) generation: u64,
    pub(crate) checkpoint: CheckpointInfo,
    pub(crate) directory: DirectoryRef,
}

/// What was found where a copy belongs.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Valid(Superblock),
    /// Nothing but zeros, or not there because the file is shorter.
    Blank,
    /// A creation had begun.
    BirthMark,
    /// Sound, but of another format version.
    Version(u32),
    /// Bytes that do not begin like a superblock.
    Foreign,
    /// Begins like one, and is not what was written; or could not be read.
    Damaged(String),
}

/// The fixed bytes, in the byte order of the disk.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    magic: [u8; 16],
    version: u32,
    crc: u32,
    page_size: u32,
    next_stamp: u32,
    generation: u64,
    incarnation: u64,
    epoch: u64,
    sequence: u64,
    log_segment: u64,
    log_offset: u64,
    directory: u64,
    directory_count: u32,
    directory_crc: u32,
}

const RAW_LEN: usize = size_of::<Raw>();
const CRC_AT: usize = 20;

impl Superblock {
    /// The bytes of one copy.
    pub(crate) fn encode(&self) -> AlignedBuf {
        self.encode_as(MAGIC)
    }

    /// The bytes of copy A while the database is being created.
    pub(crate) fn encode_birth_mark(&self) -> AlignedBuf {
        self.encode_as(BIRTH_MARK)
    }

    fn encode_as(&self, magic: [u8; 16]) -> AlignedBuf {
        let raw = Raw {
            magic,
            version: FORMAT_VERSION.to_le(),
            crc: 0,
            page_size: (self.page_size as u32).to_le(),
            next_stamp: self.next_stamp.to_le(),
            generation: self.generation.to_le(),
            incarnation: self.checkpoint.incarnation.to_le(),
            epoch: self.checkpoint.epoch.to_le(),
            sequence: self.checkpoint.sequence.to_le(),
            log_segment: self.checkpoint.log.segment.to_le(),
            log_offset: self.checkpoint.log.offset.to_le(),
            directory: self.directory.extent.map_or(0, Extent::pack).to_le(),
            directory_count: self.directory.count.to_le(),
            directory_crc: self.directory.crc.to_le(),
        };
        let mut buf = AlignedBuf::zeroed(COPY_LEN);
        buf[..RAW_LEN].copy_from_slice(bytemuck::bytes_of(&raw));
        let crc = sector_crc(&buf);
        buf[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        buf
    }
}

impl Found {
    /// Judges the bytes of one copy.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Found::Blank;
        }
        let raw: Raw = bytemuck::pod_read_unaligned(&bytes[..RAW_LEN]);
        if raw.magic != MAGIC && raw.magic != BIRTH_MARK {
            return Found::Foreign;
        }
        if u32::from_le(raw.crc) != sector_crc(bytes) {
            return Found::Damaged("its checksum does not fit its bytes".into());
        }
        let version = u32::from_le(raw.version);
        if version != FORMAT_VERSION {
            return Found::Version(version);
        }
        if raw.magic == BIRTH_MARK {
            return Found::BirthMark;
        }
        let page_size = u32::from_le(raw.page_size) as usize;
        if !is_page_size(page_size) {
            return Found::Damaged(format!("it names an impossible page size, {page_size}"));
        }
        let counted = [raw.generation, raw.epoch, raw.sequence, raw.log_segment].map(u64::from_le);
        if counted.iter().any(|number| *number >= COUNTED_MAX) {
            return Found::Damaged("it holds a number that nothing counts up to".into());
        }
        let packed = u64::from_le(raw.directory);
        Found::Valid(Superblock {
            page_size,
            next_stamp: u32::from_le(raw.next_stamp),
            generation: u64::from_le(raw.generation),
            checkpoint: CheckpointInfo {
                epoch: u64::from_le(raw.epoch),
                sequence: u64::from_le(raw.sequence),
                incarnation: u64::from_le(raw.incarnation),
                log: LogPosition {
                    segment: u64::from_le(raw.log_segment),
                    offset: u64::from_le(raw.log_offset),
                },
            },
            directory: DirectoryRef {
                extent: (packed != 0).then(|| Extent::unpack(packed)),
                count: u32::from_le(raw.directory_count),
                crc: u32::from_le(raw.directory_crc),
            },
        })
    }

    pub(crate) fn valid(&self) -> Option<&Superblock> {
        match self {
            Found::Valid(superblock) => Some(superblock),
            _ => None,
        }
    }

    /// What is wrong with it, for a message; `None` if it is valid.
    pub(crate) fn complaint(&self) -> Option<String> {
        Some(match self {
            Found::Valid(_) => return None,
            Found::Blank => "it is blank".into(),
            Found::BirthMark => "it still holds the mark of a creation that had begun".into(),
            Found::Version(version) => format!("it is of format version {version}"),
            Found::Foreign => "it does not begin like a superblock".into(),
            Found::Damaged(why) => why.clone(),
        })
    }
}

/// Whether a page may have `size` bytes.
pub(crate) fn is_page_size(size: usize) -> bool {
    size.is_power_of_two() && (1 << 9..=1 << 24).contains(&size)
}

/// Reads both copies of a file of `len` bytes. What cannot be read counts as damaged.
pub(crate) async fn read_copies(disk: &dyn Disk, file: FileId, len: u64) -> [Found; 2] {
    let (a, b) = futures::join!(
        read_copy(disk, file, len, OFFSETS[0]),
        read_copy(disk, file, len, OFFSETS[1]),
    );
    [a, b]
}

/// A file may end within a copy: while it is being created, or because it is none of ours.
async fn read_copy(disk: &dyn Disk, file: FileId, len: u64, offset: u64) -> Found {
    let there = len.saturating_sub(offset).min(COPY_LEN as u64) as usize;
    let whole_blocks = there - there % disk.block_size();
    if whole_blocks < there {
        return Found::Foreign;
    }
    if there == 0 {
        return Found::Blank;
    }
    let buf = IoBuf::Owned(AlignedBuf::zeroed(there));
    let (buf, result) = transfer(disk, Lane::Foreground, file, Op::Read, offset, buf).await;
    if let Err(error) = result {
        return Found::Damaged(format!("it cannot be read: {error}"));
    }
    let Some(read) = buf.into_owned() else {
        return Found::Damaged("its buffer was lost".into());
    };
    let mut bytes = [0; COPY_LEN];
    bytes[..there].copy_from_slice(&read);
    Found::decode(&bytes)
}

/// Writes one copy (0 is A, 1 is B), durably.
pub(crate) async fn write_copy(
    disk: &dyn Disk,
    file: FileId,
    copy: usize,
    bytes: AlignedBuf,
) -> Result<(), FileError> {
    let written: io::Result<()> = disk.write(file, Op::WriteDurable, OFFSETS[copy], bytes).await;
    written.map_err(|error| {
        FileError::io(
            format!(
                "writing superblock {} at offset {} of {}",
                NAMES[copy],
                OFFSETS[copy],
                disk.describe(file)
            ),
            error,
        )
    })
}

fn sector_crc(bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&bytes[..CRC_AT]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &bytes[CRC_AT + 4..SECTOR])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock {
            page_size: 4096,
            next_stamp: 77,
            generation: 5,
            checkpoint: CheckpointInfo {
                epoch: 3,
                sequence: 1 << 40,
                incarnation: 9,
                log: LogPosition { segment: 12, offset: 8192 },
            },
            directory: DirectoryRef {
                extent: Some(Extent { offset: 65536, len: 4096 }),
                count: 4,
                crc: 0xdead_beef,
            },
        }
    }

    #[test]
    fn a_copy_survives_the_disk_and_any_changed_byte_is_found() {
        let mut bytes = sample().encode();
        assert_eq!(Found::decode(&bytes).valid(), Some(&sample()));
        for at in 0..SECTOR {
            bytes[at] ^= 0x10;
            let found = Found::decode(&bytes);
            let foreign = matches!(found, Found::Foreign);
            assert!(foreign == (at < 16) && found.complaint().is_some(), "byte {at}: {found:?}");
            bytes[at] ^= 0x10;
        }
    }

    #[test]
    fn zeros_marks_and_other_versions_are_told_apart() {
        assert!(matches!(Found::decode(&[0; COPY_LEN]), Found::Blank));
        assert!(matches!(Found::decode(&sample().encode_birth_mark()), Found::BirthMark));
        let mut bytes = sample().encode();
        bytes[16] = 2;
        assert!(matches!(Found::decode(&bytes), Found::Damaged(_)));
        let crc = sector_crc(&bytes);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(Found::decode(&bytes), Found::Version(2)));
    }

    /// The checksum fits, but counting on from there would overflow.
    #[test]
    fn numbers_that_nothing_counts_up_to_are_damage() {
        let spoil: [fn(&mut Superblock); 4] = [
            |superblock| superblock.generation = u64::MAX,
            |superblock| superblock.checkpoint.epoch = u64::MAX,
            |superblock| superblock.checkpoint.sequence = u64::MAX,
            |superblock| superblock.checkpoint.log.segment = u64::MAX,
        ];
        for spoil in spoil {
            let mut superblock = sample();
            spoil(&mut superblock);
            assert!(matches!(Found::decode(&superblock.encode()), Found::Damaged(_)));
        }
    }

    /// The last number that is counted on from is the one before the bound.
    #[test]
    fn what_is_counted_stays_below_a_bound() {
        let mut superblock = sample();
        superblock.generation = COUNTED_MAX - 1;
        assert!(Found::decode(&superblock.encode()).valid().is_some());
        superblock.generation = COUNTED_MAX;
        assert!(Found::decode(&superblock.encode()).valid().is_none());
    }

    #[test]
    fn each_copy_says_what_is_wrong_with_it() {
        assert_eq!(Found::Valid(sample()).complaint(), None);
        for (found, word) in [
            (Found::Blank, "blank"),
            (Found::BirthMark, "creation"),
            (Found::Version(7), "version 7"),
            (Found::Foreign, "superblock"),
            (Found::Damaged("torn".into()), "torn"),
        ] {
            let complaint = found.complaint().expect("something is wrong");
            assert!(complaint.contains(word), "{complaint}");
        }
    }

    #[test]
    fn pages_have_512_bytes_to_16_mib() {
        let sizes: Vec<usize> =
            (0..40).map(|bits| 1 << bits).filter(|size| is_page_size(*size)).collect();
        assert_eq!((sizes[0], sizes[sizes.len() - 1], sizes.len()), (512, 16 << 20, 16));
        assert!(!is_page_size(513) && !is_page_size(0));
    }

    #[test]
    fn a_file_that_ends_within_a_block_is_none_of_ours() {
        let sim = crate::sim::Sim::new(1);
        let disk = sim.disk();
        let file = disk.open("pages", true).unwrap();
        for (len, a_is) in [(0, "blank"), (512, "blank"), (700, "superblock"), (4096, "blank")] {
            disk.set_len(file, len).unwrap();
            let [a, b] = sim.run(read_copies(&*disk, file, len)).unwrap();
            assert!(a.complaint().expect("nothing is there").contains(a_is), "{len}: {a:?}");
            assert!(matches!(b, Found::Blank));
        }
    }

    /// The layout is the format: these bytes may never change for version 1.
    #[test]
    fn the_bytes_are_the_documented_ones() {
        let bytes = sample().encode();
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(&bytes[..16], b"treering-pages\r\n");
        assert_eq!((word(16) as u32, word(24)), (1, 77 << 32 | 4096));
        assert_eq!([word(32), word(40), word(48), word(56)], [5, 9, 3, 1 << 40]);
        assert_eq!([word(64), word(72), word(80)], [12, 8192, 128 << 16 | 8]);
        assert_eq!(word(88), 0xdead_beef << 32 | 4);
    }
}
