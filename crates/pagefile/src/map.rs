//! The page map on disk: which extent holds which page.
//!
//! The map is a *base*, which names every page, and *deltas*, one for each checkpoint since, which
//! name the pages that were written or freed. Both are cut into *segments*, each a run of slots with
//! its entries packed from the start. A *directory* lists the segments in the order in which they
//! apply: a later entry of a page wins. When the deltas would pass a quarter of the base, the
//! checkpoint writes a new base instead.
//!
//! No piece needs its slots in one run, so that no fragmentation can keep a checkpoint from being
//! written; with free space in long runs, a segment is 256 KiB.
//!
//! Identity and soundness of every piece are known before it is read: the superblock holds the place,
//! size and checksum of the directory's first block, each block those of the next, and the directory
//! those of the segments (I7).
//!
//! # An entry, 20 bytes (all numbers are little-endian)
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | page id |
//! | 8..16 | extent, packed ([`Extent::pack`]), with bit 63 set if it is a page of an overflow value; 0 in a delta: the page was freed |
//! | 16..20 | write stamp of the page's image; 0 for a freed page |
//!
//! A slot of a segment holds page size / 20 entries on average: a segment of n slots has room for n
//! times that, and the entries follow one another without gaps. The rest is zero.
//!
//! # A directory block, 32 bytes and 32 for each entry
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | `TDIR` |
//! | 4..8 | entries in this block |
//! | 8..16 | generation of the checkpoint that wrote it |
//! | 16..24 | the next block's extent, packed; 0: this is the last |
//! | 24..28 | entries in the next block |
//! | 28..32 | CRC-32C of the next block |
//! | 32.. | the entries |
//!
//! # A directory entry, 32 bytes
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | the segment's extent, packed |
//! | 8..12 | map entries in it |
//! | 12..16 | CRC-32C of those entries |
//! | 16..24 | generation of the checkpoint that wrote it |
//! | 24..28 | 1: of the base, 2: of a delta |
//! | 28..32 | zero |
//!
//! Checksums cover the header and the entries, not the rest of the slots.

use crate::buf::AlignedBuf;
use crate::page::{Extent, PageId};
use crate::space::{Geometry, Run};

/// Bytes of an entry of a segment.
pub(crate) const ENTRY_LEN: usize = 20;
/// Bytes of a directory block's header, and of one entry in it.
pub(crate) const DIRECTORY_ENTRY_LEN: usize = 32;
/// Segments and directory blocks are no longer than this, or than one slot.
const PIECE_LEN_MAX: usize = 256 << 10;
/// More delta segments than this make the directory too long to be written with each checkpoint.
const DELTA_SEGMENTS_MAX: usize = 1024;

const DIRECTORY_MAGIC: [u8; 4] = *b"TDIR";

/// In a packed extent of a line: the page is one of an overflow value.
const OVERFLOW: u64 = 1 << 63;

/// The extent of a line.
pub(crate) fn pack_extent(extent: Extent, overflow: bool) -> u64 {
    extent.pack() | if overflow { OVERFLOW } else { 0 }
}

/// The inverse of [`pack_extent`].
pub(crate) fn unpack_extent(packed: u64) -> (Extent, bool) {
    (Extent::unpack(packed & !OVERFLOW), packed & OVERFLOW != 0)
}

/// One page's line in the map. `extent` is packed by [`pack_extent`]; 0 says that the page was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) page: PageId,
    pub(crate) extent: u64,
    pub(crate) stamp: u32,
}

/// What a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Base,
    Delta,
}

/// A segment as the directory describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) kind: Kind,
    pub(crate) run: Run,
    pub(crate) count: u32,
    pub(crate) crc: u32,
    pub(crate) generation: u64,
}

/// Where a directory block is, how many entries it has, and its checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirectoryRef {
    pub(crate) extent: Option<Extent>,
    pub(crate) count: u32,
    pub(crate) crc: u32,
}

/// The pieces that make up one version of the map on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) segments: Vec<Segment>,
    pub(crate) directory: Vec<Run>,
    pub(crate) head: DirectoryRef,
}

impl Layout {
    /// Slots of the base's segments, or of the deltas'.
    pub(crate) fn slots_of(&self, kind: Kind) -> usize {
        self.segments.iter().filter(|s| s.kind == kind).map(|s| s.run.len).sum()
    }

    /// All slots that the map takes.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> {
        self.segments.iter().map(|segment| segment.run).chain(self.directory.iter().copied())
    }

    /// Whether `slots` more slots of deltas are too many, so that a new base is due.
    pub(crate) fn wants_base(&self, slots: usize) -> bool {
        let deltas = self.segments.iter().filter(|s| s.kind == Kind::Delta).count();
        self.slots_of(Kind::Delta) + slots > self.slots_of(Kind::Base) / 4
            || deltas + slots > DELTA_SEGMENTS_MAX
    }
}

/// How many slots the pieces of a map take, given the page size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    page_size: usize,
}

impl Sizes {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        Self { page_size: geometry.page_size }
    }

    /// The longest run of slots for one piece.
    pub(crate) fn piece_slots_max(self) -> usize {
        (PIECE_LEN_MAX / self.page_size).max(1)
    }

    /// Entries for which a segment of `slots` slots has room.
    pub(crate) fn lines_in(self, slots: usize) -> usize {
        slots * (self.page_size / ENTRY_LEN)
    }

    /// Slots for `lines` entries, however they are cut into segments.
    pub(crate) fn slots_for(self, lines: usize) -> usize {
        lines.div_ceil(self.lines_in(1))
    }

    /// Segments that a directory block of `slots` slots can list.
    pub(crate) fn segments_in(self, slots: usize) -> usize {
        slots * (self.page_size / DIRECTORY_ENTRY_LEN - 1)
    }

    /// Slots for a directory of `segments` segments, however it is cut into blocks.
    pub(crate) fn directory_slots(self, segments: usize) -> usize {
        segments.div_ceil(self.segments_in(1))
    }

    /// The most slots that the map takes at any time, the moment of a checkpoint included at which
    /// the old pieces and the new ones both exist, while it names at most `pages` pages and its
    /// present base has `base_slots` slots.
    ///
    /// With b the greater of the present base and a base of `pages` entries: the deltas take at most
    /// b/4 (else a base is written), so that there are at most b + b/4 segments and a directory of
    /// d slots for them. That is what exists; a checkpoint writes at most another base and another
    /// directory before the old ones are released. Together 2b + b/4 + 2d. Neither fewer pages nor
    /// any sequence of checkpoints makes it more: see [`crate::ledger`] for what follows from that.
    pub(crate) fn ceiling(self, pages: usize, base_slots: usize) -> usize {
        let base = self.slots_for(pages).max(base_slots).max(1);
        let deltas = base / 4;
        2 * base + deltas + 2 * self.directory_slots(base + deltas)
    }
}

/// What the map says as of the last checkpoint, in memory: 12 bytes for each page id up to the
/// greatest, so that a base can be written without asking anybody.
#[derive(Debug, Default)]
pub(crate) struct Image {
    extents: Vec<u64>,
    stamps: Vec<u32>,
    live: usize,
}

impl Image {
    /// Takes over one line; a later one wins. `Err` if there is no memory for its page id.
    pub(crate) fn apply(&mut self, line: Line) -> Result<(), std::collections::TryReserveError> {
        let at = usize::try_from(line.page.0).unwrap_or(usize::MAX);
        if at >= self.extents.len() {
            if line.extent == 0 {
                return Ok(());
            }
            let more = (at - self.extents.len()).saturating_add(1);
            self.extents.try_reserve(more)?;
            self.stamps.try_reserve(more)?;
            self.extents.resize(at + 1, 0);
            self.stamps.resize(at + 1, 0);
        }
        self.live -= usize::from(self.extents[at] != 0);
        self.live += usize::from(line.extent != 0);
        self.extents[at] = line.extent;
        self.stamps[at] = line.stamp;
        Ok(())
    }

    /// How many pages there are.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Every page, by rising id.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line> {
        let pairs = self.extents.iter().zip(&self.stamps).enumerate();
        pairs.filter(|(_, (extent, _))| **extent != 0).map(|(at, (extent, stamp))| Line {
            page: PageId(at as u64),
            extent: *extent,
            stamp: *stamp,
        })
    }
}

/// Encodes up to as many of `lines` as fit into `run`, padded with zeros to whole blocks.
pub(crate) fn encode_segment(
    geometry: &Geometry,
    block: usize,
    kind: Kind,
    generation: u64,
    run: Run,
    lines: &mut (dyn Iterator<Item = Line> + Send),
) -> (Segment, AlignedBuf) {
    let most = Sizes::new(geometry).lines_in(run.len);
    let mut buf = AlignedBuf::zeroed(run.len * geometry.page_size);
    let mut len = 0;
    for line in lines.take(most) {
        let bytes = &mut buf[len..len + ENTRY_LEN];
        bytes[..8].copy_from_slice(&line.page.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&line.extent.to_le_bytes());
        bytes[16..].copy_from_slice(&line.stamp.to_le_bytes());
        len += ENTRY_LEN;
    }
    let count = (len / ENTRY_LEN) as u32;
    let crc = crc32c::crc32c(&buf[..len]);
    (Segment { kind, run, count, crc, generation }, cut(buf, len, block))
}

/// Decodes the entries of a segment that was verified.
pub(crate) fn decode_segment(bytes: &[u8]) -> impl Iterator<Item = Line> {
    bytes.chunks_exact(ENTRY_LEN).map(|entry| Line {
        page: PageId(u64_at(entry, 0)),
        extent: u64_at(entry, 8),
        stamp: u32_at(entry, 16),
    })
}

/// Encodes a directory of `segments` into blocks that fill `runs`, and returns what the superblock
/// needs to know with the blocks to be written.
pub(crate) fn encode_directory(
    geometry: &Geometry,
    block: usize,
    generation: u64,
    segments: &[Segment],
    runs: &[Run],
) -> (DirectoryRef, Vec<(Run, AlignedBuf)>) {
    let sizes = Sizes::new(geometry);
    let mut rest = segments;
    let mut parts = Vec::with_capacity(runs.len());
    for run in runs {
        let (part, behind) = rest.split_at(rest.len().min(sizes.segments_in(run.len)));
        parts.push((*run, part));
        rest = behind;
    }
    assert!(rest.is_empty(), "the runs were counted to hold all segments");
    // From the last block to the first, because each holds the checksum of the next.
    let mut next = DirectoryRef::default();
    let mut blocks = Vec::with_capacity(parts.len());
    for (run, part) in parts.into_iter().rev() {
        let mut buf = AlignedBuf::zeroed(run.len * geometry.page_size);
        buf[..4].copy_from_slice(&DIRECTORY_MAGIC);
        buf[4..8].copy_from_slice(&(part.len() as u32).to_le_bytes());
        buf[8..16].copy_from_slice(&generation.to_le_bytes());
        buf[16..24].copy_from_slice(&next.extent.map_or(0, Extent::pack).to_le_bytes());
        buf[24..28].copy_from_slice(&next.count.to_le_bytes());
        buf[28..32].copy_from_slice(&next.crc.to_le_bytes());
        let mut len = DIRECTORY_ENTRY_LEN;
        for segment in part {
            let entry = &mut buf[len..len + DIRECTORY_ENTRY_LEN];
            entry[..8].copy_from_slice(&geometry.extent_of(segment.run).pack().to_le_bytes());
            entry[8..12].copy_from_slice(&segment.count.to_le_bytes());
            entry[12..16].copy_from_slice(&segment.crc.to_le_bytes());
            entry[16..24].copy_from_slice(&segment.generation.to_le_bytes());
            entry[24..28].copy_from_slice(&segment.kind.code().to_le_bytes());
            len += DIRECTORY_ENTRY_LEN;
        }
        let crc = crc32c::crc32c(&buf[..len]);
        next =
            DirectoryRef { extent: Some(geometry.extent_of(run)), count: part.len() as u32, crc };
        blocks.push((run, cut(buf, len, block)));
    }
    (next, blocks)
}

/// Decodes a directory block whose checksum fits: its segments, and where the next block is.
pub(crate) fn decode_directory(
    geometry: &Geometry,
    bytes: &[u8],
    segments: &mut Vec<Segment>,
) -> Result<DirectoryRef, &'static str> {
    if bytes[..4] != DIRECTORY_MAGIC {
        return Err("it does not begin like a directory");
    }
    let next = u64_at(bytes, 16);
    for entry in bytes[DIRECTORY_ENTRY_LEN..].chunks_exact(DIRECTORY_ENTRY_LEN) {
        let run = geometry.run_of(Extent::unpack(u64_at(entry, 0)));
        let run = run.ok_or("it names a segment outside the slots")?;
        let kind = Kind::of_code(u32_at(entry, 24)).ok_or("it names a segment of unknown kind")?;
        let (count, crc) = (u32_at(entry, 8), u32_at(entry, 12));
        if count as usize > Sizes::new(geometry).lines_in(run.len) {
            return Err("it names a segment with more entries than fit");
        }
        segments.push(Segment { kind, run, count, crc, generation: u64_at(entry, 16) });
    }
    Ok(DirectoryRef {
        extent: (next != 0).then(|| Extent::unpack(next)),
        count: u32_at(bytes, 24),
        crc: u32_at(bytes, 28),
    })
}

/// Bytes of a directory block with `count` entries.
pub(crate) fn directory_len(count: u32) -> usize {
    DIRECTORY_ENTRY_LEN * (count as usize + 1)
}

impl Kind {
    /// What a message calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Base => "the page map's base",
            Kind::Delta => "a delta of the page map",
        }
    }

    fn code(self) -> u32 {
        match self {
            Kind::Base => 1,
            Kind::Delta => 2,
        }
    }

    fn of_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Kind::Base),
            2 => Some(Kind::Delta),
            _ => None,
        }
    }
}

/// The first `len` bytes of `buf`, up to the end of their block: what has to be written.
fn cut(buf: AlignedBuf, len: usize, block: usize) -> AlignedBuf {
    let len = len.max(1).next_multiple_of(block);
    if len == buf.len() {
        return buf;
    }
    let mut short = AlignedBuf::zeroed(len);
    short.copy_from_slice(&buf[..len]);
    short
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u64) -> impl Iterator<Item = Line> {
        (1..=count).map(|id| Line { page: PageId(id), extent: id << 16 | 1, stamp: id as u32 })
    }

    #[test]
    fn segments_survive_the_disk() {
        let geometry = Geometry::new(512);
        let mut source = lines(60);
        let run = Run { start: 4, len: 2 };
        let (segment, buf) = encode_segment(&geometry, 512, Kind::Delta, 3, run, &mut source);
        assert_eq!((segment.count, buf.len()), (50, 1024));
        let used = segment.count as usize * ENTRY_LEN;
        assert_eq!(crc32c::crc32c(&buf[..used]), segment.crc);
        assert!(decode_segment(&buf[..used]).eq(lines(50)));
        let (rest, buf) = encode_segment(&geometry, 512, Kind::Delta, 3, run, &mut source);
        assert_eq!((rest.count, buf.len()), (10, 512), "only the blocks with entries are written");
    }

    #[test]
    fn a_directory_may_be_scattered_over_single_slots() {
        let geometry = Geometry::new(512);
        let (segment, _) =
            encode_segment(&geometry, 512, Kind::Base, 7, Run { start: 0, len: 1 }, &mut lines(9));
        let segments: Vec<Segment> =
            (0..40).map(|at| Segment { run: Run { start: at * 2, len: 1 }, ..segment }).collect();
        let runs: Vec<Run> = (0..3).map(|at| Run { start: 100 + at * 5, len: 1 }).collect();
        let (head, mut blocks) = encode_directory(&geometry, 512, 7, &segments, &runs);
        let mut read = Vec::new();
        let mut next = head;
        while let Some(extent) = next.extent {
            let (run, bytes) = blocks.pop().unwrap();
            assert_eq!(geometry.extent_of(run), extent);
            let bytes = &bytes[..directory_len(next.count)];
            assert_eq!(crc32c::crc32c(bytes), next.crc);
            next = decode_directory(&geometry, bytes, &mut read).unwrap();
        }
        assert_eq!(read, segments);
        assert!(blocks.is_empty());
    }

    #[test]
    fn the_image_keeps_the_latest_line_of_each_page() {
        let mut image = Image::default();
        for line in lines(5) {
            image.apply(line).unwrap();
        }
        image.apply(Line { page: PageId(2), extent: 0, stamp: 0 }).unwrap();
        image.apply(Line { page: PageId(900), extent: 0, stamp: 0 }).unwrap();
        let moved = Line { page: PageId(4), extent: 77, stamp: 9 };
        image.apply(moved).unwrap();
        assert_eq!(image.live(), 4);
        assert!(image.lines().map(|line| line.page.0).eq([1, 3, 4, 5]));
        assert!(image.lines().any(|line| line == moved));
        let beyond = Line { page: PageId(u64::MAX), extent: 1, stamp: 0 };
        assert!(image.apply(beyond).is_err(), "an absurd id is an error, not an abort");
    }

    #[test]
    fn a_base_is_due_when_the_deltas_are_a_quarter_of_it_or_too_many() {
        let run = |len| Run { start: 0, len };
        let segment = |kind, len| Segment { kind, run: run(len), count: 1, crc: 0, generation: 1 };
        let layout = |base, deltas: usize| {
            let mut segments = vec![segment(Kind::Base, base)];
            segments.resize(1 + deltas, segment(Kind::Delta, 1));
            Layout { segments, ..Layout::default() }
        };
        assert!(Layout::default().wants_base(1));
        assert!(!layout(40, 9).wants_base(1) && layout(40, 9).wants_base(2));
        let large = 1 << 20;
        assert!(!layout(large, DELTA_SEGMENTS_MAX - 2).wants_base(2));
        assert!(layout(large, DELTA_SEGMENTS_MAX - 2).wants_base(3));
    }

    #[test]
    fn a_map_takes_two_bases_a_quarter_and_two_directories_at_most() {
        let sizes = Sizes::new(&Geometry::new(512));
        assert_eq!((sizes.lines_in(1), sizes.segments_in(1)), (25, 15));
        assert_eq!(sizes.ceiling(0, 0), 2 + 2);
        assert_eq!(sizes.ceiling(100, 0), 2 * 4 + 1 + 2);
        // 40 slots for 1000 pages, 10 for deltas, and 4 for a directory of 50 segments.
        assert_eq!(sizes.ceiling(1000, 0), 2 * 40 + 10 + 2 * 4);
        assert_eq!(sizes.ceiling(1000, 80), 2 * 80 + 20 + 2 * 7, "the present base is larger");
    }

    #[test]
    fn a_piece_of_the_map_is_a_quarter_of_a_mib_or_a_page() {
        let slots = |page_size| Sizes::new(&Geometry::new(page_size)).piece_slots_max();
        assert_eq!([slots(512), slots(96 << 10), slots(256 << 10)], [512, 2, 1]);
        assert_eq!(slots(1 << 20), 1);
    }
}
