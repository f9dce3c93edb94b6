//! I/Os that fail, and disks that are full.
#![allow(clippy::unwrap_used, reason = "a failure in a test is to panic")]

mod sim_support;

use std::io::ErrorKind;

use sim_support::{allocate, get, put, sync, with_file};
use treering_pagefile::sim::{FailMode, Failure, Sim, SimDiskOptions, UnsyncedState};
use treering_pagefile::{Disk, Op};

#[test]
fn every_operation_can_be_made_to_fail_by_its_index() {
    for failing in 0..5u64 {
        let (sim, file) = with_file(failing, 8192);
        let disk = sim.disk();
        let first = disk.io_count();
        disk.fail_at(first + failing, 5, FailMode::Once);
        let results = sim
            .run(async {
                [
                    put(&disk, file, Op::Write, 0, 1, 4096).await,
                    get(&disk, file, 0, 512).await.map(drop),
                    put(&disk, file, Op::WriteDurable, 4096, 2, 4096).await,
                    sync(&disk, file).await,
                    allocate(&disk, file, 8192, 4096).await,
                ]
            })
            .unwrap();
        for (index, result) in results.iter().enumerate() {
            match result {
                Ok(()) => assert_ne!(index as u64, failing),
                Err(error) => {
                    assert_eq!(index as u64, failing);
                    assert_eq!(error.raw_os_error(), Some(5));
                }
            }
        }
        let expected = if failing == 4 { 8192 } else { 12_288 };
        assert_eq!(disk.len(file).unwrap(), expected);
    }
}

#[test]
fn a_fault_can_last_until_it_is_repaired() {
    let (sim, file) = with_file(1, 4096);
    let disk = sim.disk();
    disk.fail_at(disk.io_count() + 1, ErrorKind::TimedOut, FailMode::FromThenOn);
    let write = || sim.run(put(&disk, file, Op::Write, 0, 1, 512)).unwrap();
    write().unwrap();
    assert_eq!(write().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(write().unwrap_err().kind(), ErrorKind::TimedOut);
    disk.clear_faults();
    write().unwrap();
}

#[test]
fn a_rule_sees_every_operation() {
    let (sim, file) = with_file(2, 4096);
    let disk = sim.disk();
    let mut syncs = 0;
    disk.fail_when(move |point| {
        syncs += u32::from(point.op == Op::Sync);
        (point.op == Op::Sync && syncs == 2).then_some(Failure::Kind(ErrorKind::Other))
    });
    let outcomes: Vec<bool> = (0..3).map(|_| sim.run(sync(&disk, file)).unwrap().is_ok()).collect();
    assert_eq!(outcomes, [true, false, true]);
}

/// As on ext4: the error is told once, the data is forgotten, reads still show it.
#[test]
fn after_a_failed_sync_the_data_is_never_written() {
    let (sim, file) = with_file(3, 4096);
    let disk = sim.disk();
    sim.run(async {
        put(&disk, file, Op::Write, 0, 1, 1024).await.unwrap();
        disk.fail_at(disk.io_count(), 5, FailMode::Once);
        sync(&disk, file).await.unwrap_err();
        sync(&disk, file).await.unwrap();
        put(&disk, file, Op::Write, 512, 2, 1024).await.unwrap();
        sync(&disk, file).await.unwrap();
        assert_eq!(get(&disk, file, 0, 512).await.unwrap(), [1; 512]);
    })
    .unwrap();
    let listed = disk.unsynced();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].state, UnsyncedState::SyncFailed);
    let image = disk.image_durable_only();
    assert_eq!(image.read("f", 0..512).unwrap(), [0; 512], "lost");
    assert_eq!(image.read("f", 512..1536).unwrap(), [2; 1024], "written again, and synced");
    assert_eq!(disk.image_everything().read("f", 512..1024).unwrap(), [2; 512]);
    let lost = (0..64).filter(|seed| {
        let first = disk.image_by_seed(*seed).read("f", 0..512).unwrap()[0];
        first == 0
    });
    assert!((32..64).contains(&lost.count()), "most crashes show it, and not all");
    // Written again, durably, it is there.
    sim.run(put(&disk, file, Op::WriteDurable, 0, 3, 512)).unwrap().unwrap();
    assert!(disk.unsynced().is_empty());
    assert_eq!(disk.image_durable_only(), disk.image_everything());
}

#[test]
fn a_failed_write_is_applied_in_part_and_not_durable() {
    let mut parts = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let (sim, file) = with_file(seed, 2048);
        let disk = sim.disk();
        disk.fail_at(disk.io_count(), 5, FailMode::Once);
        sim.run(put(&disk, file, Op::WriteDurable, 0, 1, 2048)).unwrap().unwrap_err();
        let bytes = sim.run(get(&disk, file, 0, 2048)).unwrap().unwrap();
        parts.insert(bytes.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>());
        assert_eq!(disk.image_durable_only().bytes("f").unwrap(), [0; 2048]);
        assert_eq!(disk.image_everything().bytes("f").unwrap(), bytes);
    }
    assert!(parts.len() > 8);
}

#[test]
fn a_full_disk_refuses_growth_and_nothing_else() {
    let options = SimDiskOptions { capacity: 8192, ..SimDiskOptions::default() };
    let mut sim = Sim::with_options(4, options);
    let disk = sim.disk();
    let (one, two) = (disk.open("one", true).unwrap(), disk.open("two", true).unwrap());
    let full = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::StorageFull);
    };
    sim.run(async {
        allocate(&disk, one, 0, 4096).await.unwrap();
        full(allocate(&disk, two, 0, 4608).await);
        assert_eq!(disk.len(two).unwrap(), 0, "a refused allocation changes nothing");
        put(&disk, two, Op::Write, 1 << 30, 1, 4096).await.unwrap();
        full(put(&disk, two, Op::Write, 0, 1, 512).await);
        full(put(&disk, one, Op::WriteDurable, 3584, 1, 1024).await);
        put(&disk, one, Op::Write, 0, 2, 4096).await.unwrap();
        put(&disk, two, Op::Write, 1 << 30, 2, 4096).await.unwrap();
    })
    .unwrap();
    assert_eq!(disk.space_used(), 8192);

    // What is in use is in use after a crash too, and room comes from cutting or a larger disk.
    let image = disk.image_everything();
    sim.restart(&image, 5);
    let disk = sim.disk();
    assert_eq!(disk.space_used(), 8192);
    let one = disk.open("one", false).unwrap();
    sim.run(async {
        full(allocate(&disk, one, 4096, 512).await);
        disk.set_len(one, 512).unwrap();
        assert_eq!(disk.space_used(), 4608);
        allocate(&disk, one, 0, 4096).await.unwrap();
        full(allocate(&disk, one, 4096, 512).await);
        disk.set_capacity(16_384);
        allocate(&disk, one, 4096, 4096).await.unwrap();
    })
    .unwrap();
    assert_eq!(sim.run(get(&disk, one, 0, 1024)).unwrap().unwrap()[512..], [0; 512]);
}

/// As on ext4: what an allocation got before there was no more is the file's, and nobody else's.
#[test]
fn a_full_disk_may_give_a_part_of_what_it_refuses() {
    let (mut nothing, mut everything, mut something) = (0, 0, 0);
    for seed in 0..60 {
        let options = SimDiskOptions { capacity: 8192, ..SimDiskOptions::default() };
        let sim = Sim::with_options(seed, options);
        let disk = sim.disk();
        disk.take_parts(2);
        let (one, two) = (disk.open("one", true).unwrap(), disk.open("two", true).unwrap());
        let full = |result: std::io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::StorageFull);
        };
        sim.run(async {
            allocate(&disk, one, 0, 4096).await.unwrap();
            full(allocate(&disk, one, 4096, 4608).await);
            let kept = disk.len(one).unwrap() - 4096;
            assert_eq!(disk.space_used(), 4096 + kept);
            match kept {
                0 => nothing += 1,
                4096 => everything += 1,
                _ => something += 1,
            }
            // It can be written to, and cut; else it is gone for others.
            if kept > 0 {
                put(&disk, one, Op::Write, 4096, 1, kept as usize).await.unwrap();
                full(put(&disk, two, Op::WriteDurable, 0, 1, 4608).await);
                assert!(disk.space_used() <= 8192);
                disk.set_len(two, 0).unwrap();
                disk.set_len(one, 4096).unwrap();
            }
            assert_eq!(disk.space_used(), 4096);
            // A write that is refused leaves a part of it, too, and that is not durable.
            full(put(&disk, two, Op::WriteDurable, 0, 1, 4608).await);
            let there = disk.len(two).unwrap();
            if there > 0 {
                let bytes = get(&disk, two, 0, there as usize).await.unwrap();
                assert!(bytes.iter().all(|byte| *byte == 1));
            }
            assert_eq!(disk.image_durable_only().bytes("two").unwrap(), []);
        })
        .unwrap();
    }
    let counts = [nothing, everything, something];
    assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
}

/// On a disk with room, where the failure is planted, a part is not all of it.
#[test]
fn an_allocation_that_is_made_to_find_no_room_may_keep_a_part() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let (sim, file) = with_file(seed, 4096);
        let disk = sim.disk();
        disk.take_parts(1);
        disk.fail_at(disk.io_count(), 28, FailMode::Once);
        disk.fail_at(disk.io_count() + 1, 5, FailMode::Once);
        sim.run(async {
            let error = allocate(&disk, file, 4096, 4096).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(28));
            lengths.insert(disk.len(file).unwrap());
            let before = disk.len(file).unwrap();
            allocate(&disk, file, before, 4096).await.unwrap_err();
            assert_eq!(disk.len(file).unwrap(), before, "any other error has taken nothing");
        })
        .unwrap();
    }
    assert_eq!((lengths.first(), lengths.last()), (Some(&4608), Some(&7680)));
}
