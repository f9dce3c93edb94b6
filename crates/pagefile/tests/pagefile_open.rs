//! Creating and opening the page file: what is wrong with a file is found and named (I7, I8).

#![allow(clippy::unwrap_used, reason = "test code, helpers included")]

mod pagefile_support;

use std::sync::Arc;

use pagefile_support::{Engine, MemDisk, model_of, pieces, run, u32_at, u64_at};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use treering_pagefile::{
    Disk, Extent, FileError, FileErrorKind, Health, PageFile, PageId, Presence,
};

const B: usize = 16 << 10;

/// A database with a base and deltas.
fn sample() -> Engine {
    let mut engine = Engine::create(MemDisk::new(), 512, 21);
    for _ in 0..900 {
        engine.change();
    }
    engine.checkpoint().unwrap();
    for _ in 0..4 {
        for _ in 0..10 {
            engine.change();
        }
        engine.checkpoint().unwrap();
    }
    engine
}

fn open_error(disk: &Arc<MemDisk>, page_size: Option<usize>) -> FileError {
    let disk = disk.copied();
    let health = Arc::new(Health::default());
    run(&disk, PageFile::open(disk.clone(), health, page_size)).unwrap_err()
}

fn presence(disk: &Arc<MemDisk>) -> Presence {
    let disk_dyn: Arc<dyn Disk> = disk.clone();
    run(disk, PageFile::presence(&disk_dyn)).unwrap()
}

#[test]
fn either_superblock_alone_opens_and_the_other_is_named_and_written_anew() {
    let engine = sample();
    for (at, name) in [(0, "superblock A at offset 0"), (B, "superblock B at offset 16384")] {
        for damage in ["flipped", "blank", "foreign"] {
            let disk = engine.disk.copied();
            disk.edit(|bytes| match damage {
                "flipped" => bytes[at + 40] ^= 4,
                "blank" => bytes[at..at + 4096].fill(0),
                _ => bytes[at..at + 4096].fill(b'x'),
            });
            let (after, opened) = Engine::open(disk.clone(), 1).unwrap();
            assert_eq!(model_of(&opened), engine.pages);
            let said = opened.damaged_superblock.unwrap();
            assert_eq!(said.kind(), FileErrorKind::Damaged);
            let text = said.to_string();
            assert!(text.contains(name) && text.contains("memory/pages"), "{damage}: {text}");
            assert!(disk.edit(|bytes| bytes[..4096] == bytes[B..B + 4096]), "written anew");
            assert!(Engine::open(disk.copied(), 1).unwrap().1.damaged_superblock.is_none());
            after.check_space();
            after.check_pages();
        }
    }
}

#[test]
fn two_damaged_superblocks_are_damage_never_an_empty_or_foreign_file() {
    let engine = sample();
    type Edit = fn(&mut Vec<u8>);
    let edits: [Edit; 3] = [
        |bytes| {
            bytes[33] ^= 1;
            bytes[B + 20] ^= 1;
        },
        |bytes| bytes[..32 << 10].fill(0),
        |bytes| {
            bytes[..512].fill(0);
            bytes[B + 90] ^= 1;
        },
    ];
    for edit in edits {
        let disk = engine.disk.copied();
        disk.edit(edit);
        let error = open_error(&disk, None);
        assert_eq!(error.kind(), FileErrorKind::Damaged, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("superblock A at offset 0") && text.contains("superblock B"),
            "{text}"
        );
        assert_eq!(presence(&disk), Presence::Present, "nobody creates over it");
    }
}

#[test]
fn damage_in_any_piece_of_the_map_is_found_and_named() {
    let engine = sample();
    let map = pieces(&engine.disk);
    assert!(map.segments.iter().any(|piece| piece.2 == 1), "there is a base");
    assert!(map.segments.iter().any(|piece| piece.2 == 2), "there is a delta");
    let entries = |count: u32| count as usize * 20;
    let mut all: Vec<(u64, usize, &str)> = map
        .segments
        .iter()
        .map(|(at, count, kind)| (*at, entries(*count), if *kind == 1 { "base" } else { "delta" }))
        .collect();
    for at in &map.directories {
        let count = engine.disk.edit(|bytes| u32_at(bytes, *at as usize + 4));
        all.push((*at, 32 * (count as usize + 1), "directory"));
    }
    for (offset, len, name) in all {
        for at in [0, len / 3, len - 1] {
            let disk = engine.disk.copied();
            disk.edit(|bytes| bytes[offset as usize + at] ^= 0x40);
            let error = open_error(&disk, None);
            assert_eq!(error.kind(), FileErrorKind::Damaged, "{error}");
            let text = error.to_string();
            assert!(text.contains(name), "{name} at byte {at}: {text}");
            assert!(text.contains(&format!("offset {offset}")) && text.contains("memory/pages"));
        }
    }
}

#[test]
fn a_file_that_was_cut_is_damaged() {
    let engine = sample();
    let disk = engine.disk.copied();
    disk.edit(|bytes| bytes.truncate(40 << 10));
    let error = open_error(&disk, None);
    assert_eq!(error.kind(), FileErrorKind::Damaged, "{error}");
}

/// Two pages in one extent, with every checksum right: only the overlap gives it away.
#[test]
fn overlapping_extents_are_damage_that_names_both_pages() {
    let mut engine = Engine::create(MemDisk::new(), 512, 1);
    engine.reserve(3);
    for id in 1..=3 {
        engine.write(PageId(id));
    }
    engine.checkpoint().unwrap();
    let disk = engine.disk.copied();
    let map = pieces(&disk);
    let (segment, count, _) = map.segments[0];
    disk.edit(|bytes| {
        let (at, directory) = (segment as usize, map.directories[0] as usize);
        let first: Vec<u8> = bytes[at + 8..at + 16].to_vec();
        bytes[at + 48..at + 56].copy_from_slice(&first);
        let crc = crc32c::crc32c(&bytes[at..at + count as usize * 20]);
        bytes[directory + 44..directory + 48].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[directory..directory + 64]);
        for copy in [0, B] {
            bytes[copy + 92..copy + 96].copy_from_slice(&crc.to_le_bytes());
            bytes[copy + 20..copy + 24].fill(0);
            let crc = crc32c::crc32c(&bytes[copy..copy + 512]);
            bytes[copy + 20..copy + 24].copy_from_slice(&crc.to_le_bytes());
        }
    });
    let error = open_error(&disk, None);
    assert_eq!(error.kind(), FileErrorKind::Damaged);
    let text = error.to_string();
    assert!(text.contains("page 1") && text.contains("page 3"), "{text}");
    let shared = Extent::unpack(disk.edit(|bytes| u64_at(bytes, segment as usize + 8))).offset;
    assert!(text.contains(&format!("offset {shared}")), "{text}");
}

#[test]
fn a_directory_that_is_longer_than_its_place_is_damage() {
    let disk = sample().disk.copied();
    disk.edit(|bytes| {
        for copy in [0, B] {
            // A page has room for 15 entries behind the header.
            let pages = Extent::unpack(u64_at(bytes, copy + 80)).len / 512;
            bytes[copy + 88..copy + 92].copy_from_slice(&(16 * pages).to_le_bytes());
            bytes[copy + 20..copy + 24].fill(0);
            let crc = crc32c::crc32c(&bytes[copy..copy + 512]);
            bytes[copy + 20..copy + 24].copy_from_slice(&crc.to_le_bytes());
        }
    });
    let error = open_error(&disk, None);
    assert_eq!(error.kind(), FileErrorKind::Damaged);
    assert!(error.to_string().contains("it is too long"), "{error}");
}

#[test]
fn what_is_no_database_of_this_version_and_page_size_is_said_to_be_so() {
    let nothing = MemDisk::new();
    assert_eq!(open_error(&nothing, None).kind(), FileErrorKind::NotADatabase);
    assert_eq!(presence(&nothing), Presence::Missing);

    for len in [100, 512, 5000, 100_000] {
        let foreign = MemDisk::new();
        foreign.edit(|bytes| *bytes = vec![b'#'; len]);
        let error = open_error(&foreign, None);
        assert_eq!(error.kind(), FileErrorKind::NotADatabase, "{len} bytes: {error}");
        assert_eq!(presence(&foreign), Presence::Present, "nobody creates over it");
        let health = Arc::new(Health::default());
        let created = run(&foreign, PageFile::create(foreign.clone(), health, 512, 1));
        assert_eq!(created.unwrap_err().kind(), FileErrorKind::Io);
        assert!(foreign.edit(|bytes| bytes.len() == len && bytes.iter().all(|b| *b == b'#')));
    }

    let other_version = sample().disk.copied();
    other_version.edit(|bytes| {
        for copy in [0, B] {
            bytes[copy + 16] = 9;
            bytes[copy + 20..copy + 24].fill(0);
            let crc = crc32c::crc32c(&bytes[copy..copy + 512]);
            bytes[copy + 20..copy + 24].copy_from_slice(&crc.to_le_bytes());
        }
    });
    let error = open_error(&other_version, None);
    assert_eq!(error.kind(), FileErrorKind::Version);
    assert!(error.to_string().contains("version 9"), "{error}");

    let error = open_error(&sample().disk, Some(4096));
    assert_eq!(error.kind(), FileErrorKind::PageSize);
    assert!(error.to_string().contains("512") && error.to_string().contains("4096"), "{error}");
    let disk = sample().disk.copied();
    let health = Arc::new(Health::default());
    let opened = run(&disk, PageFile::open(disk.clone(), health, Some(512))).unwrap();
    assert_eq!(opened.file.page_size(), 512);
}

#[test]
fn a_page_size_that_cannot_be_is_refused() {
    for (block, page_size) in [(512, 0), (512, 1000), (512, 256), (512, 1 << 25), (4096, 2048)] {
        let disk = MemDisk::with_block(block);
        let health = Arc::new(Health::default());
        let created = run(&disk, PageFile::create(disk.clone(), health, page_size, 1));
        let error = created.unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::PageSize);
        assert!(error.to_string().contains(&page_size.to_string()), "{error}");
        assert_eq!(presence(&disk), Presence::Missing);
    }
    let disk = MemDisk::with_block(4096);
    sample().disk.edit(|from| disk.edit(|to| to.clone_from(from)));
    let health = Arc::new(Health::default());
    let error = run(&disk, PageFile::open(disk.clone(), health, None)).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::PageSize);
    assert!(error.to_string().contains("512 bytes") && error.to_string().contains("4096"));
}

#[test]
fn large_pages_and_large_blocks_work() {
    for (block, page_size) in [(4096, 4096), (4096, 1 << 17), (512, 1 << 20)] {
        let mut engine = Engine::create(MemDisk::with_block(block), page_size, 4);
        for _ in 0..30 {
            engine.change();
        }
        engine.checkpoint().unwrap();
        engine.check_space();
        assert_eq!(model_of(&Engine::open(engine.disk.clone(), 1).unwrap().1), engine.pages);
    }
}

/// Up to the moment at which the first checkpoint's superblock A is durable, a power failure leaves
/// nothing, or a creation that is recognised as interrupted and can be started over.
#[test]
fn an_interrupted_creation_is_recognised_and_started_over() {
    for failing in 0.. {
        let disk = MemDisk::new();
        disk.fail_at(failing);
        let health = Arc::new(Health::default());
        let created = run(&disk, PageFile::create(disk.clone(), health, 512, 1));
        let created = created.and_then(|file| {
            run(&disk, file.checkpoint(treering_pagefile::CheckpointInfo::default()))
        });
        if created.is_ok() {
            assert!(failing >= 6, "each I/O was made to fail: {failing}");
            assert_eq!(presence(&disk), Presence::Present);
            break;
        }
        let done = disk.performed();
        let mut rng = SmallRng::seed_from_u64(failing);
        for _ in 0..10 {
            let crashed = disk.crashed(&mut rng);
            match presence(&crashed) {
                Presence::Interrupted => {
                    let error = open_error(&crashed, None);
                    assert_eq!(error.kind(), FileErrorKind::NotADatabase);
                    assert!(error.to_string().contains("interrupted"), "{error}");
                    let mut engine = Engine::create(crashed, 1024, 2);
                    engine.reserve(1);
                    engine.write(PageId(1));
                    engine.checkpoint().unwrap();
                    let (_, opened) = Engine::open(engine.disk.copied(), 1).unwrap();
                    assert_eq!(opened.entries.len(), 1);
                    assert_eq!(opened.file.page_size(), 1024);
                }
                Presence::Present => {
                    assert_eq!(failing + 1, done, "superblock A is durable, B failed");
                    let (_, opened) = Engine::open(crashed, 1).unwrap();
                    assert!(opened.damaged_superblock.is_none());
                    assert!(opened.entries.is_empty());
                }
                // Not even the mark is there.
                Presence::Blank => assert!(failing < 2, "the mark is durable: {failing}"),
                Presence::Missing => panic!("the file was created"),
            }
        }
    }
}

#[test]
fn each_io_of_opening_may_fail_and_a_later_opening_finds_everything() {
    let engine = sample();
    for failing in 0.. {
        let disk = engine.disk.copied();
        disk.fail_at(failing);
        let health = Arc::new(Health::default());
        let opened = run(&disk, PageFile::open(disk.clone(), health, None));
        disk.heal();
        let mut rng = SmallRng::seed_from_u64(failing);
        let (after, found) = Engine::open(disk.crashed(&mut rng), 1).unwrap();
        assert_eq!(model_of(&found), engine.pages);
        after.check_space();
        if opened.is_ok() {
            assert!(failing > 6);
            break;
        }
        let text = opened.unwrap_err().to_string();
        assert!(text.contains("memory/pages"), "{text}");
    }
}
