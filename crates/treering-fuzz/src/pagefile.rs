//! The page file below the trees: superblocks, and the page map's directory, base and deltas.
//!
//! A small file is made by hand: two superblocks, directory blocks, segments, and some pages that
//! nobody reads. If it was only damaged, opening gives exactly what was in the map, or an error. If the
//! checksums were made to fit, what opening gives must make sense: every page in a slot of its own within
//! the file. Either way the file then takes a page and a checkpoint, and opens again with both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use treering_pagefile::sim::SimImage;
use treering_pagefile::{
    AlignedBuf, CheckpointInfo, Extent, Health, MapEntry, Op, Opened, PageFile, PageId, Presence,
    Room, seal,
};

use crate::format::{
    DATA_START, ENTRY, LINE, PAGE, SUPERBLOCKS, Superblock, extent, line, put, reseal_map,
    reseal_superblock, slot_at, unpacked,
};
use crate::input::{Input, damage};
use crate::machine::{disk, machine, run};

const SLOTS: usize = 64;
/// In the packed extent of a page of an overflow value.
const OVERFLOW: u64 = 1 << 63;

/// Both copies of the superblock are damaged, or forged.
pub fn superblock(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let mut made = Made::sound();
    let mut damaged = [false; 2];
    for (copy, at) in SUPERBLOCKS.into_iter().enumerate() {
        let sector = &mut made.file[at..at + PAGE];
        if how & 4 != 0 && input.flag() {
            // The copies of two checkpoints, or of two different files.
            put(sector, 32, &input.number(5).to_le_bytes());
            put(sector, 48, &input.number(5).to_le_bytes());
            reseal_superblock(sector);
            made.forged = true;
        }
        damaged[copy] = !damage(&mut input, sector, 4).is_empty();
        if how & 1 != 0 && input.flag() {
            reseal_superblock(sector);
            made.forged |= damaged[copy];
        }
    }
    let cut = how & 2 != 0 && input.flag();
    if cut {
        made.file.truncate(usize::from(input.u16()));
    }
    let opened = made.open(how & 8 != 0);
    if !made.forged && !cut && damaged != [true; 2] {
        assert!(opened, "one sound copy is enough");
    }
}

/// The directory and the segments are damaged, or forged.
pub fn map(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let mut made = if how & 1 != 0 { Made::any(&mut input) } else { Made::sound() };
    // Most of what is damaged should be a part of the map, which the first slots hold.
    let end = slot_at(if how & 2 != 0 { 8 } else { SLOTS });
    let changed = damage(&mut input, &mut made.file[DATA_START..end], 5);
    if how & 4 != 0 {
        reseal_map(&mut made.file);
        made.forged |= !changed.is_empty();
    }
    made.open(how & 8 != 0);
}

/// A page file that was made by hand.
#[derive(Clone)]
struct Made {
    file: Vec<u8>,
    /// What is in its map.
    lines: BTreeMap<u64, (u64, u32)>,
    info: CheckpointInfo,
    /// Its checksums fit what may be nonsense.
    forged: bool,
}

/// A segment of the map to be made: whether it is of the base, where, and its lines.
struct Segment {
    base: bool,
    slot: u64,
    slots: u64,
    lines: Vec<[u8; LINE]>,
}

impl Made {
    /// A base in two segments, and a delta that moves and frees pages, in a directory of two blocks.
    fn sound() -> Self {
        static SOUND: OnceLock<Made> = OnceLock::new();
        SOUND.get_or_init(Self::make_sound).clone()
    }

    fn make_sound() -> Self {
        let page = |number: u64| line(number, extent(8 + number, 1), number as u32 + 100);
        let mut delta = vec![line(3, extent(50, 1), 200), line(4, 0, 0)];
        delta.push(line(45, OVERFLOW | extent(51, 1), 201));
        let segments = [
            Segment { base: true, slot: 2, slots: 1, lines: (1..=20).map(page).collect() },
            Segment { base: true, slot: 3, slots: 1, lines: (21..=30).map(page).collect() },
            Segment { base: false, slot: 4, slots: 2, lines: delta },
        ];
        Self::of(&segments, &[(0, 2), (1, 1)])
    }

    /// Segments with lines that the input names, mostly near what makes sense.
    fn any(input: &mut Input<'_>) -> Self {
        let mut segments = Vec::new();
        for _ in 0..input.below(5) {
            let place = input.byte();
            let mut lines = Vec::new();
            for _ in 0..input.below(40) {
                let page = match input.byte() {
                    0 => input.number(0),
                    number => number.into(),
                };
                let place = match input.byte() {
                    0 => input.u64(),
                    1 => 0,
                    slot @ 2..100 => extent(slot.into(), 1),
                    slot => OVERFLOW | extent(u64::from(slot) - 100, u64::from(slot % 16 != 0)),
                };
                lines.push(line(page, place, input.byte().into()));
            }
            let (slot, slots) = (u64::from(place % 32), u64::from(place / 32 % 4) + 1);
            segments.push(Segment { base: place >= 128, slot, slots, lines });
        }
        let first = segments.len() / 2;
        let slot = usize::from(input.byte() % 63);
        let mut made = Self::of(&segments, &[(slot, first), (slot + 1, segments.len() - first)]);
        made.forged = true;
        made
    }

    /// A file with these segments, listed in directory blocks of one slot, each with so many entries.
    fn of(segments: &[Segment], blocks: &[(usize, usize)]) -> Self {
        let mut file = vec![0; slot_at(SLOTS)];
        let mut lines = BTreeMap::new();
        let mut entries = Vec::new();
        for segment in segments {
            for (at, line) in segment.lines.iter().enumerate() {
                let place = slot_at(segment.slot as usize) + at * LINE;
                put(&mut file, place, line);
                let (page, stamp) =
                    (crate::format::u64_at(line, 0), crate::format::u32_at(line, 16));
                match crate::format::u64_at(line, 8) {
                    0 => lines.remove(&page),
                    extent => lines.insert(page, (extent, stamp)),
                };
            }
            let mut entry = [0; ENTRY];
            put(&mut entry, 0, &extent(segment.slot, segment.slots).to_le_bytes());
            put(&mut entry, 8, &(segment.lines.len() as u32).to_le_bytes());
            put(&mut entry, 16, &5u64.to_le_bytes());
            put(&mut entry, 24, &(if segment.base { 1u32 } else { 2 }).to_le_bytes());
            entries.push(entry);
        }
        for (number, (slot, count)) in blocks.iter().enumerate() {
            let (part, at) = (entries.drain(..count), slot_at(*slot));
            put(&mut file, at, b"TDIR");
            put(&mut file, at + 4, &(*count as u32).to_le_bytes());
            put(&mut file, at + 8, &5u64.to_le_bytes());
            for (index, entry) in part.enumerate() {
                put(&mut file, at + ENTRY * (index + 1), &entry);
            }
            if let Some((next, next_count)) = blocks.get(number + 1) {
                put(&mut file, at + 16, &extent(*next as u64, 1).to_le_bytes());
                put(&mut file, at + 24, &(*next_count as u32).to_le_bytes());
            }
        }
        let superblock = Superblock {
            next_stamp: 1000,
            generation: 5,
            incarnation: 77,
            epoch: 9,
            sequence: 1234,
            segment: 3,
            offset: 4096,
            directory: (extent(blocks[0].0 as u64, 1), blocks[0].1 as u32, 0),
        };
        for at in SUPERBLOCKS {
            put(&mut file, at, &superblock.sector());
        }
        reseal_map(&mut file);
        let log = treering_pagefile::LogPosition { segment: 3, offset: 4096 };
        let info = CheckpointInfo { epoch: 9, sequence: 1234, incarnation: 77, log };
        Self { file, lines, info, forged: false }
    }

    /// Opens it and checks what that gives; whether it opens.
    fn open(&self, read_only: bool) -> bool {
        let mut image = SimImage::default();
        image.insert("pages", &self.file);
        let sim = machine(&image);
        run(&sim, async {
            let presence = PageFile::presence(&disk(&sim)).await;
            let opened = open(disk(&sim), read_only).await;
            let Ok(opened) = opened else {
                let present = presence.is_ok_and(|presence| presence == Presence::Present);
                assert!(present || self.file.len() <= 4096, "only a short file holds nothing");
                return false;
            };
            self.check(&opened);
            // A forged file may have pages of any size.
            let usual = opened.file.page_size() == PAGE;
            assert!(usual || self.forged, "pages have another size");
            if !read_only && usual {
                go_on(disk(&sim), &opened).await;
            }
            true
        })
    }

    fn check(&self, opened: &Opened) {
        let file_len = self.file.len() as u64;
        let mut extents = BTreeSet::new();
        let mut last = None;
        for entry in &opened.entries {
            assert!(entry.page != PageId::NONE, "page 0 is no page");
            assert!(last.replace(entry.page) < Some(entry.page), "by rising page id");
            let Extent { offset, len } = entry.extent;
            assert_eq!(len as usize, opened.file.page_size());
            assert!(offset >= DATA_START as u64 && offset + u64::from(len) <= file_len);
            assert!(extents.insert(offset), "{} shares its slot", entry.page);
        }
        if !self.forged {
            assert_eq!(opened.checkpoint, self.info);
            let expected = self.lines.iter().map(|(page, (packed, stamp))| {
                let (offset, len) = unpacked(packed & !OVERFLOW);
                let extent = Extent { offset, len: len as u32 };
                let overflow = packed & OVERFLOW != 0;
                MapEntry { page: PageId(*page), extent, stamp: *stamp, overflow }
            });
            assert!(expected.eq(opened.entries.iter().copied()), "damage was believed");
        }
    }
}

async fn open(
    disk: Arc<dyn treering_pagefile::Disk>,
    read_only: bool,
) -> Result<Opened, treering_pagefile::FileError> {
    let health = Arc::new(Health::default());
    match read_only {
        true => PageFile::open_read_only(disk, health, None).await,
        false => PageFile::open(disk, health, None).await,
    }
}

/// Writes one page and a checkpoint, and opens again.
async fn go_on(disk: Arc<dyn treering_pagefile::Disk>, opened: &Opened) {
    let file = &opened.file;
    while !file.try_reserve(1, Room::Growing) {
        file.grow().await.unwrap_or_else(|error| panic!("a disk without a limit: {error}"));
    }
    let page = PageId(opened.entries.last().map_or(1, |entry| entry.page.0 + 1));
    let (extent, stamp) = (file.take_extent(), file.next_stamp());
    let entry = MapEntry { page, extent, stamp, overflow: false };
    assert!(
        opened.entries.iter().all(|other| other.extent != extent),
        "a live extent is given out"
    );
    let mut image = AlignedBuf::zeroed(PAGE);
    seal(&mut image, page, stamp);
    let written = disk.write(file.file(), Op::Write, extent.offset, image).await;
    written.unwrap_or_else(|error| panic!("a disk without faults: {error}"));
    let Some(epoch) = opened.checkpoint.epoch.checked_add(1) else { return };
    file.record_written(entry, epoch, None);
    let info = CheckpointInfo { epoch, ..opened.checkpoint };
    file.checkpoint(info).await.unwrap_or_else(|error| panic!("nothing fails here: {error}"));
    let again = match open(disk, false).await {
        Ok(again) => again,
        // It was forged to be as great as can be, and opening has counted on.
        Err(error) if error.to_string().contains("nothing counts up to") => return,
        Err(error) => panic!("it just opened: {error}"),
    };
    assert_eq!(again.checkpoint, info);
    let expected = opened.entries.iter().copied().chain([entry]);
    assert!(
        expected.eq(again.entries.iter().copied()),
        "the map says what it said, and the new page"
    );
    assert!(again.damaged_superblock.is_none());
    let live = again.entries.iter().map(|entry| (entry.page, entry.extent));
    assert_eq!(again.file.check_space(live), Vec::<String>::new());
}

/// The file that nobody damaged opens: else no target here would see anything.
#[test]
fn the_file_that_was_made_by_hand_is_one() {
    let made = Made::sound();
    assert!(made.lines.len() == 30 && made.open(false) && made.open(true));
}
