//! Segments: switched, recycled, running out, kept over a recovery (I8, I9, I13).

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use crate::log_support::{BLOCK, Task, World, assert_run, body, fresh, options};
use treering_pagefile::{Disk, FileErrorKind, FileId, LogPosition};
use treering_txn::{AppendError, Log, LogOptions, LogStart};

/// Five blocks a segment: a header, and four groups of one block.
fn small() -> LogOptions {
    options(5, 4, 2)
}

fn checkpoint(world: &World, log: &Arc<Log>) -> (u64, LogPosition) {
    let sequence = log.flip().last_sequence;
    let position = world.run(log.position_after(sequence)).unwrap();
    log.release_before(position);
    world.settle();
    (sequence, position)
}

#[test]
fn many_rounds_of_switching_and_recycling_lose_nothing_and_write_zeros_once() {
    let world = World::new();
    let (log, start) = world.start(small());
    let (mut after, mut from) = (0, start);
    let mut after_first_round = 0;
    for round in 0..40 {
        for _ in 0..7 {
            let sequence = log.last_sequence() + 1;
            world.commit(&log, &body(sequence, 40 + round * 10));
        }
        assert_run(&world.recover(from, after).unwrap(), after + 1, log.last_sequence());
        (after, from) = checkpoint(&world, &log);
        assert_run(&world.recover(from, after).unwrap(), after + 1, after);
        if round == 4 {
            after_first_round = world.disk.background_bytes();
        }
    }
    assert!(from.segment > 60);
    assert!(world.disk.file_sizes().len() <= 4 && log.usage().segments <= 2);
    let segments = from.segment as usize;
    let later = world.disk.background_bytes() - after_first_round;
    assert!(later <= segments * BLOCK, "a recycled segment gets a new first block and no zeros");
}

#[test]
fn a_group_that_does_not_fit_into_the_rest_goes_to_the_next_segment() {
    let world = World::new();
    let (log, start) = world.start(options(5, 9, 2));
    let mut sizes = Vec::new();
    for sequence in 1..=9 {
        let len = if sequence % 2 == 0 { 6000 } else { 100 };
        world.commit(&log, &body(sequence, len));
        sizes.push(world.run(log.position_after(sequence)).unwrap());
    }
    let at = |segment, block: u64| LogPosition { segment, offset: block * BLOCK as u64 };
    assert_eq!(sizes[..4], [at(1, 2), at(1, 4), at(1, 5), at(2, 3)]);
    assert_run(&world.recover(start, 0).unwrap(), 1, 9);
    // The end of a full segment is a position as good as any other.
    assert_run(&world.recover(at(1, 5), 3).unwrap(), 4, 9);
    assert_run(&world.recover(at(1, 4), 2).unwrap(), 3, 9);
}

#[test]
fn a_full_log_waits_for_a_checkpoint_which_can_always_finish() {
    let world = World::new();
    let (log, start) = world.start(small());
    let mut pressure = Task::new(log.pressure());
    assert!(pressure.poll().is_pending() && !log.usage().is_pressing());
    let mut sequence = 0;
    while let Ok(applying) = log.try_append(1, &body(sequence + 1, 3000)) {
        sequence = applying.sequence();
        // Every second record, so that records wait in the buffer when the log is full.
        if sequence.is_multiple_of(2) {
            log.request_flush(sequence);
            world.settle();
        }
    }
    // Three segments, and the fourth is the reserve.
    let usage = log.usage();
    assert_eq!((usage.segments, usage.capacity), (3, 15 * BLOCK as u64));
    assert!(pressure.flag.take() && pressure.poll().is_ready() && usage.is_pressing());
    let mut room = Task::new(log.wait_room());
    assert!(room.poll().is_pending());
    world.settle();
    room.flag.take();
    let mut room = Task::new(log.wait_room());
    assert!(room.poll().is_pending());

    let (after, from) = checkpoint(&world, &log);
    assert_eq!(after, sequence);
    assert!(room.flag.take() && room.poll().is_ready());
    assert_eq!(log.try_append(2, &body(sequence + 1, 3000)).unwrap().sequence(), sequence + 1);
    world.run(log.wait_durable(sequence + 1)).unwrap();
    assert_run(&world.recover(from, after).unwrap(), sequence + 1, sequence + 1);
    assert!(world.recover(start, 0).is_err() || start.segment == from.segment);
}

#[test]
fn positions_of_old_groups_are_at_or_before_their_record() {
    let world = World::new();
    let (log, start) = world.start(options(2000, 3, 2));
    for sequence in 1..=1500 {
        world.commit(&log, &body(sequence, 10));
    }
    assert_eq!(world.run(log.position_after(3)).unwrap(), start, "too long ago: its segment");
    let exact = LogPosition { segment: 1, offset: 1401 * BLOCK as u64 };
    assert_eq!(world.run(log.position_after(1400)).unwrap(), exact);
    for after in [0, 3, 477, 1400, 1500] {
        let from = world.run(log.position_after(after)).unwrap();
        assert_run(&world.recover(from, after).unwrap(), after + 1, 1500);
    }
}

#[test]
fn a_cut_within_a_group_begins_at_that_group() {
    let world = World::new();
    let (log, start) = world.start(small());
    drop(log.try_append(1, &body(1, 10)));
    let flip = log.flip();
    drop(log.try_append(2, &body(2, 10)));
    let position = world.run(log.position_after(flip.last_sequence)).unwrap();
    assert_eq!(position, start);
    assert_run(&world.recover(position, 1).unwrap(), 2, 2);
}

#[test]
fn a_new_log_on_a_full_disk_is_refused_and_leaves_no_space_taken() {
    let world = World::new();
    world.disk.set_space(Some(14 * BLOCK as u64));
    let error = world.try_create(small(), fresh()).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Full);
    world.disk.set_space(None);
    let (log, start) = world.start(small());
    world.commit(&log, &body(1, 10));
    assert_run(&world.recover(start, 0).unwrap(), 1, 1);
}

#[test]
fn a_full_disk_makes_the_log_smaller_and_does_not_stop_it() {
    let world = World::new();
    world.disk.set_space(Some(17 * BLOCK as u64));
    let (log, start) = world.start(options(5, 6, 2));
    let mut sequence = 0;
    let mut fill = |epoch| {
        while let Ok(applying) = log.try_append(epoch, &body(sequence + 1, 3000)) {
            sequence = applying.sequence();
            log.request_flush(sequence);
            world.settle();
        }
        sequence
    };
    assert_eq!(fill(1), 8, "two segments of four groups each, beside the reserve");
    assert!(log.usage().is_pressing() && world.health.check().is_ok());
    assert_eq!(log.usage().capacity, 10 * BLOCK as u64);
    assert_run(&world.recover(start, 0).unwrap(), 1, 8);
    // Each checkpoint gives the log back all but the segment it stands in.
    for epoch in 2..5 {
        checkpoint(&world, &log);
        assert!(fill(epoch) > 8);
    }
    world.disk.set_space(None);
    checkpoint(&world, &log);
    assert!(!log.usage().is_pressing());
    fill(5);
    assert_eq!(log.usage().segments, 5);
}

/// A full log on a full disk, opened again and again without ever getting to a superblock.
#[test]
fn recovery_keeps_what_the_superblock_needs_however_often_it_is_cut_short() {
    let mut world = World::new();
    let (log, start) = world.start(options(5, 3, 2));
    let mut last = 0;
    while let Ok(applying) = log.try_append(1, &body(last + 1, 3000)) {
        last = applying.sequence();
        log.request_flush(last);
        world.settle();
    }
    let total: usize = world.disk.file_sizes().iter().map(|(_, size)| size).sum();
    for incarnation in 2..7 {
        world = world.reboot();
        world.disk.set_space(Some(total as u64));
        let mut reader = world.reader(1, start, 0);
        assert_run(&world.read_all(&mut reader).unwrap(), 1, last);
        let start = LogStart {
            incarnation,
            first_segment: reader.last_segment() + 1,
            last_sequence: last,
            epoch: 9,
            keep: reader.segments_in_use(),
        };
        let (log, _) = world.create(options(5, 3, 2), start);
        world.run_log(&log);
        world.settle();
        assert_eq!((log.epoch(), log.last_sequence(), log.durable_sequence()), (9, last, last));
        assert!(world.health.check().is_ok());
    }

    // This time it gets there: the old segments come back into use.
    let mut reader = world.reader(1, start, 0);
    world.read_all(&mut reader).unwrap();
    let begin = LogStart {
        incarnation: 100,
        first_segment: reader.last_segment() + 1,
        last_sequence: last,
        epoch: 9,
        keep: reader.segments_in_use(),
    };
    let (log, position) = world.create(options(5, 3, 2), begin);
    world.run_log(&log);
    world.settle();
    log.release_before(position);
    world.settle();
    let (mut from, mut after) = (position, last);
    for sequence in last + 1..last + 40 {
        world.commit(&log, &body(sequence, 3000));
        if log.usage().is_pressing() {
            (after, from) = checkpoint(&world, &log);
        }
    }
    let again = world.reboot();
    let mut reader = again.reader(100, from, after);
    assert_run(&again.read_all(&mut reader).unwrap(), after + 1, last + 39);
}

#[test]
fn a_life_with_other_sizes_takes_over_and_files_beyond_the_limit_are_emptied() {
    let world = World::new();
    let (log, start) = world.start(options(5, 6, 2));
    for sequence in 1..=17 {
        world.commit(&log, &body(sequence, 3000));
    }
    let world = world.reboot();
    let mut reader = world.reader(1, start, 0);
    assert_run(&world.read_all(&mut reader).unwrap(), 1, 17);
    assert_eq!(
        reader.segments_in_use().iter().map(|s| s.number()).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    let begin = LogStart {
        incarnation: 2,
        first_segment: reader.last_segment() + 1,
        last_sequence: 17,
        epoch: 2,
        keep: reader.segments_in_use(),
    };
    let (log, position) = world.create(options(7, 3, 2), begin);
    world.run_log(&log);
    world.settle();
    log.release_before(position);
    world.settle();
    let (mut from, mut after) = (position, 17);
    for sequence in 18..=80 {
        world.commit(&log, &body(sequence, 3000));
        if log.usage().is_pressing() {
            (after, from) = checkpoint(&world, &log);
        }
    }
    let sizes = world.disk.file_sizes();
    for (name, size) in &sizes {
        let expected = if name.as_str() < "log-03" { 7 * BLOCK } else { 0 };
        assert_eq!(*size, expected, "{name}");
    }
    let again = world.reboot();
    let mut reader = again.reader(2, from, after);
    assert_run(&again.read_all(&mut reader).unwrap(), after + 1, 80);
}

/// An opening that was cut short may have prepared segments of an incarnation that is used again, in
/// other files than this one uses.
#[test]
fn a_segment_number_never_exists_twice() {
    for slot in [1, 3] {
        let world = World::new();
        let (log, start) = world.create(small(), fresh());
        drop(log);
        let world = world.reboot();
        let header = world.disk.edit(FileId(0), |bytes| bytes[..BLOCK].to_vec());
        let file = world.disk.open(&format!("log-0{slot}"), true).unwrap();
        world.disk.edit(file, |bytes| {
            bytes.resize(5 * BLOCK, 0);
            bytes[..BLOCK].copy_from_slice(&header);
        });
        let (log, position) = world.create(small(), fresh());
        assert_eq!(position, start);
        // As soon as there is a superblock.
        assert_run(&world.recover(start, 0).unwrap(), 1, 0);
        world.run_log(&log);
        world.settle();
        world.commit(&log, &body(1, 10));
        assert_run(&world.recover(start, 0).unwrap(), 1, 1);
    }
}

#[test]
fn segments_are_filled_with_zeros_to_their_end_before_they_are_used() {
    let world = World::new();
    let (log, _) = world.start(options(600, 9, 2));
    let sizes = world.disk.file_sizes();
    assert_eq!(sizes.len(), 3, "the current one and two ahead: {sizes:?}");
    for file in 0..3 {
        let zeros = world.disk.edit(FileId(file), |bytes| {
            (bytes.len(), bytes[BLOCK..].iter().filter(|byte| **byte == 0).count())
        });
        assert_eq!(zeros, (600 * BLOCK, 599 * BLOCK), "file {file}");
    }
    assert_eq!(
        world.disk.background_bytes(),
        3 * (600 + 1) * BLOCK,
        "once, and their first blocks"
    );
    assert_eq!(world.runtime.timers(), 0, "nothing is left to do");
    drop(log);
}

#[test]
fn a_new_life_fills_no_file_of_its_size_again_and_cuts_longer_ones() {
    let mut world = World::new();
    drop(world.start(options(7, 3, 2)));
    let next = |world: &World, incarnation, blocks| {
        let world = world.reboot();
        let start = LogStart { incarnation, first_segment: 10 * incarnation, ..fresh() };
        let (log, position) = world.create(options(blocks, 3, 2), start);
        world.run_log(&log);
        world.settle();
        world.commit(&log, &body(1, 10));
        let mut reader = world.reader(incarnation, position, 0);
        assert_run(&world.read_all(&mut reader).unwrap(), 1, 1);
        world
    };
    world = next(&world, 2, 7);
    assert_eq!(world.disk.background_bytes(), 3 * BLOCK, "three first blocks");
    // A file that was cut or grew is filled again, whatever its first block says.
    world.disk.edit(FileId(1), |bytes| bytes.resize(8 * BLOCK, 1));
    world = next(&world, 3, 7);
    assert_eq!(world.disk.background_bytes(), (3 + 7) * BLOCK);
    world = next(&world, 4, 5);
    assert_eq!(world.disk.background_bytes(), (3 + 3 * 5) * BLOCK);
    assert!(world.disk.file_sizes().iter().all(|(_, len)| *len == 5 * BLOCK));
}

#[test]
fn a_cut_many_groups_back_begins_at_the_start_of_its_segment() {
    let world = World::new();
    let (log, _) = world.start(options(300, 20, 2));
    for sequence in 1..=2500 {
        world.commit(&log, &body(sequence, 10));
    }
    // 299 groups in each segment, and more than a thousand after each of these.
    for (after, segment) in [(1000, 4), (896, 3), (897, 4), (0, 1)] {
        let from = world.run(log.position_after(after)).unwrap();
        assert_eq!(from, LogPosition { segment, offset: BLOCK as u64 }, "after {after}");
    }
    let from = world.run(log.position_after(1000)).unwrap();
    assert_run(&world.recover(from, 1000).unwrap(), 1001, 2500);
}

/// A life with larger segments on a full disk: the files that the last one has left cannot grow, and
/// no checkpoint would give anything back.
#[test]
fn a_log_that_is_stuck_on_a_full_disk_goes_on_by_itself_when_there_is_space() {
    let world = World::new();
    let (log, start) = world.start(options(5, 3, 2));
    world.commit(&log, &body(1, 10));
    let world = world.reboot();
    let mut reader = world.reader(1, start, 0);
    assert_run(&world.read_all(&mut reader).unwrap(), 1, 1);
    world.disk.set_space(Some((3 * 5 + 9) * BLOCK as u64));
    let begin = LogStart {
        incarnation: 2,
        first_segment: 9,
        last_sequence: 1,
        epoch: 2,
        keep: reader.segments_in_use(),
    };
    let (log, position) = world.create(options(9, 3, 2), begin);
    world.run_log(&log);
    world.settle();
    assert_eq!((log.usage().segments, log.usage().segments_kept), (1, 1));
    log.release_before(position);
    world.settle();
    assert_eq!((log.usage().segments, log.usage().segments_kept), (1, 0));
    let mut last = 1;
    while let Ok(applying) = log.try_append(2, &body(last + 1, 3000)) {
        last = applying.sequence();
        log.request_flush(last);
        world.settle();
    }
    assert_eq!(last, 9, "eight groups fit");
    let mut room = Task::new(log.wait_room());
    assert!(room.poll().is_pending());
    for _ in 0..3 {
        world.runtime.advance(Duration::from_millis(100));
        world.settle();
        assert!(!room.flag.take() && world.health.check().is_ok(), "the disk is still full");
    }
    world.disk.set_space(None);
    world.runtime.advance(Duration::from_millis(100));
    world.settle();
    assert!(room.flag.take() && room.poll().is_ready());
    world.commit(&log, &body(10, 3000));
    let mut reader = world.reader(2, position, 1);
    assert_run(&world.read_all(&mut reader).unwrap(), 2, 10);
}

#[test]
fn a_refused_append_leaves_no_trace() {
    let world = World::new();
    let (log, start) = world.start(small());
    let mut last = 0;
    while let Ok(applying) = log.try_append(1, &body(last + 1, 3000)) {
        last = applying.sequence();
        log.request_flush(last);
        world.settle();
    }
    for _ in 0..100 {
        assert!(matches!(log.try_append(1, &[1; 3000]), Err(AppendError::NoRoom)));
    }
    assert_eq!(log.last_sequence(), last);
    world.run(log.quiesced(log.flip().closed_epoch));
    assert_run(&world.recover(start, 0).unwrap(), 1, last);
}
