//! What a reader makes of a log after a crash, and of a log that is damaged (I6, I7).

#![allow(missing_docs, clippy::unwrap_used)]

use crate::log_support::{BLOCK, Task, World, assert_run, body, fresh, options};
use proptest::prelude::*;
use treering_pagefile::{Disk, FileErrorKind, FileId, Lane, LogPosition};
use treering_txn::{AppendError, LogReader, LogStart};

const FIRST: FileId = FileId(0);

#[test]
fn every_torn_prefix_of_the_last_group_leaves_the_groups_before_it() {
    let world = World::new();
    let (log, start) = world.start(options(64, 4, 8));
    world.commit(&log, &body(1, 100));
    world.commit(&log, &body(2, 5000));
    let before = world.disk.copy();
    for sequence in 3..=12 {
        drop(log.try_append(1, &body(sequence, 1500)));
    }
    world.run(log.wait_durable(12)).unwrap();
    let (file, offset, len) = *world.disk.groups().last().unwrap();
    let group = world.disk.edit(file, |bytes| bytes[offset as usize..][..len].to_vec());
    assert_eq!(len, 4 * BLOCK);

    for sectors in 0..=len / 512 {
        let torn = World::on(before.copy());
        torn.disk.edit(file, |bytes| {
            bytes[offset as usize..][..sectors * 512].copy_from_slice(&group[..sectors * 512]);
        });
        let records = torn.recover(start, 0).unwrap();
        // The last sector is padding in part, the ones before it are needed.
        let whole = sectors * 512 >= 64 + 10 * 1504;
        assert_run(&records, 1, if whole { 12 } else { 2 });
        // Any single sector that is missing is the same.
        if sectors < len / 512 {
            let torn = World::on(world.disk.copy());
            torn.disk.edit(file, |bytes| {
                bytes[offset as usize + sectors * 512..][..512].fill(0);
            });
            let padding = sectors * 512 >= 64 + 10 * 1504;
            let records = torn.recover(start, 0).unwrap();
            assert_run(&records, 1, if padding { 12 } else { 2 });
        }
    }
}

#[test]
fn a_bad_group_with_a_good_one_behind_it_is_damage_with_its_place() {
    let world = World::new();
    let (log, start) = world.start(options(5, 4, 2));
    for sequence in 1..=7 {
        world.commit(&log, &body(sequence, 3000));
    }
    // Records 1 to 4 are in the first segment, 5 to 7 in the second.
    let groups = world.disk.groups();
    for (at, &(file, offset, _)) in groups.iter().enumerate() {
        let broken = World::on(world.disk.copy());
        broken.disk.edit(file, |bytes| bytes[offset as usize + 2000] ^= 1);
        let recovered = broken.recover(start, 0);
        if at == 6 {
            assert_run(&recovered.unwrap(), 1, 6);
            continue;
        }
        let error = recovered.unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::Damaged);
        let message = error.to_string();
        let (file, offset) = if at == 4 { (FIRST, 5 * BLOCK as u64) } else { (file, offset) };
        let place = format!("{} at offset {offset}", world.disk.describe(file));
        assert!(message.contains(&place), "{message}");
        assert!(message.contains(&format!("record {}", at + 1)), "{message}");
        // The records before it have been read all the same.
        let broken = broken.reboot();
        let mut reader = broken.reader(1, start, 0);
        for _ in 0..at {
            broken.run(reader.next()).unwrap().unwrap();
        }
        assert!(broken.run(reader.next()).is_err());
    }
}

#[test]
fn a_lost_or_misdirected_write_is_damage() {
    let world = World::new();
    let (log, start) = world.start(options(64, 4, 2));
    world.commit(&log, &body(1, 10));
    let before = world.disk.copy();
    world.commit(&log, &body(2, 10));
    world.commit(&log, &body(3, 10));
    let (file, offset, len) = world.disk.groups()[1];
    let old = before.edit(file, |bytes| bytes[offset as usize..][..len].to_vec());
    let lost = World::on(world.disk.copy());
    lost.disk.edit(file, |bytes| bytes[offset as usize..][..len].copy_from_slice(&old));
    assert_eq!(lost.recover(start, 0).unwrap_err().kind(), FileErrorKind::Damaged);

    let misdirected = World::on(world.disk.copy());
    misdirected.disk.edit(file, |bytes| {
        let second = bytes[offset as usize..][..len].to_vec();
        bytes[offset as usize..][..len].copy_from_slice(&old);
        bytes[3 * BLOCK + BLOCK..][..len].copy_from_slice(&second);
    });
    assert_eq!(misdirected.recover(start, 0).unwrap_err().kind(), FileErrorKind::Damaged);
}

#[test]
fn the_segment_that_the_superblock_names_must_be_there_and_whole() {
    let world = World::new();
    let (log, start) = world.start(options(5, 4, 2));
    world.commit(&log, &body(1, 10));
    let missing = LogPosition { segment: 9, ..start };
    let error = world.recover(missing, 0).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Damaged);
    assert!(error.to_string().contains("segment 9"), "{error}");

    let outside = LogPosition { offset: 6 * BLOCK as u64, ..start };
    assert_eq!(world.recover(outside, 0).unwrap_err().kind(), FileErrorKind::Damaged);

    for blocks in [1, 3] {
        let cut = World::on(world.disk.copy());
        cut.disk.edit(FIRST, |bytes| bytes.truncate(blocks * BLOCK));
        let error = cut.recover(start, 0).unwrap_err().to_string();
        assert!(error.contains(&format!("log-00 at offset {}", blocks * BLOCK)), "{error}");
    }

    let headless = World::on(world.disk.copy());
    headless.disk.edit(FIRST, |bytes| bytes[20] ^= 1);
    assert_eq!(headless.recover(start, 0).unwrap_err().kind(), FileErrorKind::Damaged);

    let twice = World::on(world.disk.copy());
    let copy = twice.disk.edit(FIRST, |bytes| bytes.clone());
    twice.disk.edit(FileId(1), |bytes| *bytes = copy);
    assert_eq!(twice.recover(start, 0).unwrap_err().kind(), FileErrorKind::Damaged);
}

#[test]
fn records_of_an_earlier_life_are_never_taken_for_present_ones() {
    let world = World::new();
    let (log, _) = world.start(options(16, 3, 2));
    for sequence in 1..=10 {
        world.commit(&log, &body(sequence, 10));
    }
    // The next life begins in the same file, with the same number and the same sequences.
    let world = world.reboot();
    let (log, start) = world.create(options(16, 3, 2), LogStart { incarnation: 2, ..fresh() });
    let mut reader = world.reader(2, start, 0);
    assert_run(&world.read_all(&mut reader).unwrap(), 1, 0);
    for sequence in 1..=3 {
        world.commit(&log, &body(sequence, 20));
    }
    let mut reader = world.reader(2, start, 0);
    let records = world.read_all(&mut reader).unwrap();
    assert_run(&records, 1, 3);
    assert!(records.iter().all(|record| record.body.len() == 20));
    assert!(world.try_reader(1, start, 0).is_err(), "the earlier life is gone");
}

#[test]
fn a_failed_read_is_an_error_and_not_the_end_of_the_log() {
    let world = World::new();
    let (log, start) = world.start(options(64, 3, 2));
    world.commit(&log, &body(1, 10));
    let world = world.reboot();
    let mut reader = world.reader(1, start, 0);
    world.disk.edit(FIRST, |bytes| bytes.truncate(20 * BLOCK));
    let error = world.read_all(&mut reader).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Io);
    assert!(error.to_string().contains("log-00 at offset 4096"), "{error}");
}

#[test]
fn a_first_block_that_cannot_be_read_is_an_error_and_not_a_missing_segment() {
    let world = World::new();
    let (log, start) = world.start(options(5, 3, 2));
    world.commit(&log, &body(1, 10));
    let world = world.reboot();
    world.disk.fail_next_read();
    let error = world.try_reader(1, start, 0).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Io);
    assert!(error.to_string().contains("first block of log file log-00"), "{error}");
}

/// `verify` reads the log of a live engine, whose background may cut a file between the look at its
/// length and the read: once reported as damage, found by the simulation.
#[test]
fn a_file_that_is_cut_while_its_first_block_is_read_holds_nothing() {
    let world = World::new();
    let (log, start) = world.start(options(5, 4, 2));
    world.commit(&log, &body(1, 10));
    for file in 1..3 {
        let world = world.reboot();
        let mut opening = Task::new(LogReader::open(world.disk.clone(), 1, start, 0));
        for _ in 0..file {
            assert!(opening.poll().is_pending() && world.disk.step_any());
        }
        assert!(opening.poll().is_pending(), "this file's first block is being read");
        world.disk.edit(FileId(file), Vec::clear);
        let mut reader = world.run(opening.future).unwrap();
        assert_run(&world.read_all(&mut reader).unwrap(), 1, 1);
    }
}

/// Writes group 2, of three records of 10 bytes, gives it another length of the record `at`, and makes
/// the checksum fit.
fn with_record_length(at: usize, len: u32) -> String {
    let world = World::new();
    let (log, start) = world.start(options(16, 3, 2));
    world.commit(&log, &body(1, 10));
    for sequence in 2..=4 {
        drop(log.try_append(1, &body(sequence, 10)));
    }
    world.run(log.wait_durable(4)).unwrap();
    world.disk.edit(FIRST, |bytes| {
        let group = &mut bytes[2 * BLOCK..][..64 + 3 * 14];
        group[64 + at * 14..][..4].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&1u64.to_le_bytes()), &group[4..]);
        group[..4].copy_from_slice(&crc.to_le_bytes());
    });
    let world = world.reboot();
    let mut reader = world.reader(1, start, 0);
    world.run(reader.next()).unwrap().unwrap();
    let error = world.read_all(&mut reader).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Damaged);
    error.to_string()
}

#[test]
fn a_group_whose_records_are_not_what_it_says_is_damage_with_its_place() {
    let error = with_record_length(2, 11);
    let place = 2 * BLOCK + 64 + 2 * 14;
    assert!(error.contains(&format!("log-00 at offset {place}: a record is cut off")), "{error}");
    // The second record swallows the third.
    let error = with_record_length(1, 10 + 14);
    let place = 2 * BLOCK + 64 + 3 * 14;
    assert!(error.contains(&format!("log-00 at offset {place}: a group lacks records")), "{error}");
}

#[test]
fn a_log_is_read_in_large_pieces_and_over_their_edges() {
    let world = World::new();
    // Segments of two and a third pieces of a MiB, groups of 1 to 32 blocks.
    let (log, start) = world.start(options(600, 4, 32));
    for sequence in 1..=80 {
        world.commit(&log, &body(sequence, 100 + sequence as usize * 7919 % 120_000));
    }
    assert_eq!((log.usage().segments, world.disk.groups().len()), (2, 80));
    let world = world.reboot();
    let mut reader = world.reader(1, start, 0);
    assert_run(&world.read_all(&mut reader).unwrap(), 1, 80);
    // Of four segments, two of them without a group; a piece that ends within a group is read from there.
    assert!(world.disk.reads() < 25, "{} reads", world.disk.reads());
}

#[derive(Clone, Debug)]
enum Step {
    Append {
        len: usize,
    },
    Flush,
    EndGroup,
    Background,
    Checkpoint,
    /// Power is cut; of the group on its way, each sector is there or not by these bits.
    Crash {
        sectors: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (8usize..5000).prop_map(|len| Step::Append { len }),
        4 => Just(Step::Flush),
        4 => Just(Step::EndGroup),
        2 => Just(Step::Background),
        1 => Just(Step::Checkpoint),
        1 => any::<u64>().prop_map(|sectors| Step::Crash { sectors }),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// After every crash: everything acknowledged is there, what is there is a prefix of what was
    /// appended, and the log goes on from it.
    #[test]
    fn t18_any_history_of_crashes_recovers_a_prefix_with_all_that_was_durable(steps in steps()) {
        let options = options(9, 4, 3);
        let mut world = World::new();
        let mut incarnation = 1;
        let (mut log, mut from) = world.start(options);
        let mut after = 0;
        for step in steps {
            match step {
                Step::Append { len } => {
                    let sequence = log.last_sequence() + 1;
                    match log.try_append(log.epoch(), &body(sequence, len)) {
                        Ok(_) => {}
                        Err(AppendError::NoRoom) => log.request_flush(log.last_sequence()),
                        Err(error) => panic!("{error}"),
                    }
                }
                Step::Flush => log.request_flush(log.last_sequence()),
                Step::EndGroup => { world.disk.step(Lane::Foreground); }
                Step::Background => world.settle_background(),
                Step::Checkpoint => {
                    let flip = log.flip();
                    from = world.run(log.position_after(flip.last_sequence)).unwrap();
                    after = flip.last_sequence;
                    log.release_before(from);
                }
                Step::Crash { sectors } => {
                    let (durable, last) = (log.durable_sequence(), log.last_sequence());
                    let before = world.disk.copy();
                    if world.disk.step(Lane::Foreground) {
                        let (file, offset, len) = *world.disk.groups().last().unwrap();
                        let group = world.disk.edit(file, |b| b[offset as usize..][..len].to_vec());
                        before.edit(file, |bytes| {
                            for (at, sector) in group.chunks(512).enumerate() {
                                if sectors >> (at % 64) & 1 == 1 {
                                    let start = offset as usize + at * 512;
                                    bytes[start..][..512].copy_from_slice(sector);
                                }
                            }
                        });
                    }
                    world = World::on(before);
                    let mut reader = world.reader(incarnation, from, after);
                    let records = world.read_all(&mut reader).unwrap();
                    let end = records.last().map_or(after, |record| record.sequence);
                    assert_run(&records, after + 1, end);
                    assert!((durable..=last).contains(&end), "{durable} <= {end} <= {last}");
                    incarnation += 1;
                    let start = LogStart {
                        incarnation,
                        first_segment: reader.last_segment() + 1,
                        last_sequence: end,
                        epoch: log.epoch() + 1,
                        keep: reader.segments_in_use(),
                    };
                    (log, from) = world.create(options, start);
                    world.run_log(&log);
                    after = end;
                    // The superblock is written.
                    log.release_before(from);
                }
            }
        }
        log.request_flush(log.last_sequence());
        world.settle();
        let mut reader = world.reader(incarnation, from, after);
        assert_run(&world.read_all(&mut reader).unwrap(), after + 1, log.last_sequence());
    }
}
