//! What a power loss takes and what it leaves: the rules that every crash test builds on.
#![allow(clippy::unwrap_used, reason = "a failure in a test is to panic")]

mod sim_support;

use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use sim_support::{allocate, filled, get, io, put, sync, with_file};
use treering_pagefile::sim::{Sim, SimDiskOptions, UnsyncedState, UnsyncedWhat};
use treering_pagefile::{AlignedBuf, Disk, IoBuf, Lane, Op, transfer};

#[test]
fn an_unsynced_write_may_be_lost_and_a_synced_one_is_kept() {
    let (sim, file) = with_file(1, 8192);
    let disk = sim.disk();
    sim.run(async {
        put(&disk, file, Op::Write, 0, 1, 4096).await.unwrap();
        sync(&disk, file).await.unwrap();
        put(&disk, file, Op::Write, 4096, 2, 4096).await.unwrap();
        assert_eq!(get(&disk, file, 4096, 4096).await.unwrap(), [2; 4096]);
    })
    .unwrap();
    assert_eq!(disk.image_visible(), disk.image_everything());
    let image = disk.image_durable_only();
    assert_eq!(image.read("f", 0..4096).unwrap(), [1; 4096]);
    assert_eq!(image.read("f", 4096..8192).unwrap(), [0; 4096]);
    for seed in 0..50 {
        assert_eq!(disk.image_by_seed(seed).read("f", 0..4096).unwrap(), [1; 4096]);
    }
}

#[test]
fn a_durable_write_makes_nothing_else_durable() {
    let (sim, file) = with_file(2, 8192);
    let disk = sim.disk();
    sim.run(async {
        put(&disk, file, Op::Write, 0, 1, 4096).await.unwrap();
        put(&disk, file, Op::WriteDurable, 4096, 2, 4096).await.unwrap();
    })
    .unwrap();
    let image = disk.image_durable_only();
    assert_eq!(image.read("f", 0..4096).unwrap(), [0; 4096]);
    assert_eq!(image.read("f", 4096..8192).unwrap(), [2; 4096]);
}

/// A crash must not bring back what lies below a durable write.
#[test]
fn a_durable_write_ends_the_volatile_ones_below_it() {
    let (sim, file) = with_file(3, 4096);
    let disk = sim.disk();
    sim.run(async {
        put(&disk, file, Op::Write, 0, 1, 2048).await.unwrap();
        put(&disk, file, Op::WriteDurable, 1024, 2, 2048).await.unwrap();
    })
    .unwrap();
    let image = disk.image_everything();
    assert_eq!(image.read("f", 0..1024).unwrap(), [1; 1024]);
    assert_eq!(image.read("f", 1024..3072).unwrap(), [2; 2048]);
}

#[test]
fn a_sync_does_not_cover_a_write_that_completes_after_its_submission() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..40 {
        let (sim, file) = with_file(seed, 4096);
        let disk = sim.disk();
        sim.run(async {
            // Both in flight at once: whichever completes first, the sync came too early.
            let write = put(&disk, file, Op::Write, 0, 1, 512);
            let order = futures::future::join(write, sync(&disk, file)).await;
            assert!(order.0.is_ok() && order.1.is_ok());
        })
        .unwrap();
        assert_eq!(disk.image_durable_only().read("f", 0..512).unwrap(), [0; 512]);
        assert_eq!(disk.unsynced().len(), 1);
        outcomes.insert(disk.trace_hash());
        sim.run(sync(&disk, file)).unwrap().unwrap();
        assert_eq!(disk.image_durable_only().read("f", 0..512).unwrap(), [1; 512]);
    }
    assert!(outcomes.len() >= 2, "some syncs completed before the write, some after it");
}

#[test]
fn writes_are_torn_at_512_bytes_and_nowhere_else() {
    let options = SimDiskOptions { block_size: 4096, ..SimDiskOptions::default() };
    let sim = Sim::with_options(4, options);
    let disk = sim.disk();
    let file = disk.open("f", true).unwrap();
    sim.run(async {
        put(&disk, file, Op::WriteDurable, 0, 1, 8192).await.unwrap();
        put(&disk, file, Op::Write, 0, 2, 8192).await.unwrap();
    })
    .unwrap();
    let (mut torn, mut prefixes, mut lost, mut kept) = (0, 0, 0, 0);
    for seed in 0..400 {
        let bytes = disk.image_by_seed(seed).bytes("f").unwrap();
        let sectors: Vec<u8> = bytes
            .chunks(512)
            .map(|sector| {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
                sector[0]
            })
            .collect();
        match sectors.iter().filter(|byte| **byte == 2).count() {
            0 => lost += 1,
            16 => kept += 1,
            _ if sectors.is_sorted_by(|one, two| one >= two) => prefixes += 1,
            _ => torn += 1,
        }
    }
    assert!(torn > 20 && prefixes > 20 && lost > 50 && kept > 50);
    let image = disk.crash_keeping(|unsynced, sector| (unsynced, sector) == (0, 3));
    assert_eq!(image.read("f", 1536..2048).unwrap(), [2; 512]);
    assert_eq!(image.bytes("f").unwrap().iter().filter(|byte| **byte == 2).count(), 512);
}

#[test]
fn what_is_in_flight_may_have_happened_in_part() {
    for op in [Op::Write, Op::WriteDurable] {
        let (sim, file) = with_file(5, 4096);
        let disk = sim.disk();
        let before = disk.io_count();
        disk.stop_at(before);
        assert!(sim.run(put(&disk, file, op, 0, 7, 4096)).is_err());
        let listed = disk.unsynced();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].state, UnsyncedState::InFlight);
        assert_eq!(listed[0].what, UnsyncedWhat::Data { offset: 0, len: 4096 });
        let image = disk.crash_keeping(|_, sector| sector % 2 == 0);
        assert_eq!(image.read("f", 0..512).unwrap(), [7; 512]);
        assert_eq!(image.read("f", 512..1024).unwrap(), [0; 512]);
        assert_eq!(disk.image_durable_only().bytes("f").unwrap(), [0; 4096]);
        // The choice is still there after the power went off.
        let everything = disk.image_everything();
        disk.power_off();
        assert_eq!(disk.image_everything(), everything);
        assert_eq!(everything.bytes("f").unwrap(), [7; 4096]);
        assert_eq!(disk.unsynced(), listed);
    }
}

#[test]
fn a_length_is_durable_with_the_next_sync_durable_write_or_allocation() {
    for end in 0..4 {
        let (sim, file) = with_file(6, 4096);
        let disk = sim.disk();
        sim.run(put(&disk, file, Op::WriteDurable, 0, 1, 4096)).unwrap().unwrap();
        disk.set_len(file, 1024).unwrap();
        disk.set_len(file, 2048).unwrap();
        assert_eq!(disk.len(file).unwrap(), 2048);
        let seen = sim.run(get(&disk, file, 0, 2048)).unwrap().unwrap();
        assert!(seen[..1024] == [1; 1024] && seen[1024..] == [0; 1024]);
        match end {
            0 => {
                let image = disk.image_durable_only();
                assert_eq!(image.bytes("f").unwrap(), [1; 4096], "the cut was lost");
                continue;
            }
            1 => sim.run(sync(&disk, file)).unwrap().unwrap(),
            2 => sim.run(put(&disk, file, Op::WriteDurable, 0, 1, 512)).unwrap().unwrap(),
            _ => sim.run(allocate(&disk, file, 0, 512)).unwrap().unwrap(),
        }
        let image = disk.image_durable_only();
        assert_eq!(image.len("f"), Some(2048));
        assert_eq!(image.bytes("f").unwrap(), seen);
        assert_eq!(image, disk.image_everything());
    }
}

/// A crash must not bring back what was cut off durably.
#[test]
fn a_durable_cut_ends_the_volatile_writes_beyond_it() {
    let (sim, file) = with_file(16, 4096);
    let disk = sim.disk();
    sim.run(put(&disk, file, Op::Write, 0, 1, 4096)).unwrap().unwrap();
    disk.set_len(file, 1024).unwrap();
    sim.run(put(&disk, file, Op::WriteDurable, 0, 2, 512)).unwrap().unwrap();
    assert_eq!(disk.image_durable_only().len("f"), Some(1024));
    let image = disk.image_everything();
    assert_eq!(image, disk.image_visible());
    assert_eq!(image.len("f"), Some(1024));
}

#[test]
fn a_write_beyond_the_end_extends_the_file_when_it_is_kept() {
    let sim = Sim::new(7);
    let disk = sim.disk();
    let file = disk.open("f", true).unwrap();
    sim.run(put(&disk, file, Op::Write, 1024, 1, 1024)).unwrap().unwrap();
    assert_eq!(disk.len(file).unwrap(), 2048);
    assert_eq!(disk.image_durable_only().len("f"), Some(0), "but the file itself is durable");
    assert_eq!(disk.crash_keeping(|_, sector| sector == 0).len("f"), Some(1536));
    sim.run(sync(&disk, file)).unwrap().unwrap();
    assert_eq!(disk.image_durable_only().len("f"), Some(2048));
}

#[test]
fn a_read_beside_a_write_sees_each_sector_old_or_new() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (sim, file) = with_file(seed, 2048);
        let disk = sim.disk();
        disk.record_trace();
        let (bytes, written) = sim
            .run(futures::future::join(
                get(&disk, file, 0, 2048),
                put(&disk, file, Op::Write, 512, 9, 1024),
            ))
            .unwrap();
        written.unwrap();
        let bytes = bytes.unwrap();
        let sectors: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        assert!(sectors[0] == 0 && sectors[3] == 0);
        seen.insert((disk.trace()[0].op == Op::Read, sectors[1], sectors[2]));
        let after = sim.run(get(&disk, file, 512, 1024)).unwrap().unwrap();
        assert_eq!(after, [9; 1024], "a read submitted later sees the write");
    }
    assert_eq!(seen.len(), 8, "whichever of the two completes first");
}

/// Random operations, one after the other, against the list of values that each sector may have.
#[test]
fn every_image_is_one_that_the_rules_allow() {
    const SECTORS: usize = 16;
    #[derive(Clone, Default)]
    struct Sector {
        durable: u8,
        /// Value, and whether a failed sync marked it clean.
        volatile: Vec<(u8, bool)>,
    }
    let mut seen_lost = 0;
    for seed in 0..300u64 {
        let (sim, file) = with_file(seed, (SECTORS * 512) as u64);
        let disk = sim.disk();
        let mut model = vec![Sector::default(); SECTORS];
        let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = move |bound: u64| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            chance % bound
        };
        for value in 1..40u8 {
            let first = below(SECTORS as u64) as usize;
            let count = 1 + below((SECTORS - first) as u64) as usize;
            let (offset, len) = ((first * 512) as u64, count * 512);
            match below(10) {
                0..=4 => {
                    sim.run(put(&disk, file, Op::Write, offset, value, len)).unwrap().unwrap();
                    for sector in &mut model[first..first + count] {
                        sector.volatile.push((value, false));
                    }
                }
                5 | 6 => {
                    let write = put(&disk, file, Op::WriteDurable, offset, value, len);
                    sim.run(write).unwrap().unwrap();
                    for sector in &mut model[first..first + count] {
                        *sector = Sector { durable: value, volatile: Vec::new() };
                    }
                }
                7 | 8 => {
                    sim.run(sync(&disk, file)).unwrap().unwrap();
                    for sector in &mut model {
                        let last = sector.volatile.iter().rposition(|(_, clean)| !clean);
                        if let Some(last) = last {
                            sector.durable = sector.volatile[last].0;
                            sector.volatile.drain(..=last);
                        }
                    }
                }
                _ => {
                    let mode = treering_pagefile::sim::FailMode::Once;
                    disk.fail_at(disk.io_count(), std::io::ErrorKind::Other, mode);
                    sim.run(sync(&disk, file)).unwrap().unwrap_err();
                    for (_, clean) in model.iter_mut().flat_map(|sector| &mut sector.volatile) {
                        *clean = true;
                    }
                }
            }
            let least = disk.image_durable_only().bytes("f").unwrap();
            let most = disk.image_everything().bytes("f").unwrap();
            let random = disk.image_by_seed(seed * 100 + u64::from(value)).bytes("f").unwrap();
            for (number, sector) in model.iter().enumerate() {
                let at = number * 512;
                let last = sector.volatile.last().map_or(sector.durable, |(value, _)| *value);
                assert_eq!(least[at..at + 512], [sector.durable; 512], "seed {seed}");
                assert_eq!(most[at..at + 512], [last; 512], "seed {seed}");
                let value = random[at];
                assert_eq!(random[at..at + 512], [value; 512]);
                let allowed = value == sector.durable
                    || sector.volatile.iter().any(|(volatile, _)| *volatile == value);
                assert!(allowed, "seed {seed}: sector {number} has {value}");
                seen_lost += usize::from(value != last);
            }
        }
        assert_eq!(disk.image_visible(), disk.image_everything());
    }
    assert!(seen_lost > 10_000, "crashes that lose nothing test nothing");
}

#[test]
fn a_disk_from_an_image_has_everything_durable() {
    let (mut sim, file) = with_file(8, 4096);
    let disk = sim.disk();
    disk.open("g", true).unwrap();
    sim.run(put(&disk, file, Op::Write, 0, 3, 1024)).unwrap().unwrap();
    let image = disk.image_everything();
    sim.restart(&image, 9);
    let disk = sim.disk();
    assert!(disk.unsynced().is_empty());
    assert_eq!(disk.names().unwrap(), ["f", "g"]);
    assert_eq!(disk.image_durable_only(), image);
    let file = disk.open("f", false).unwrap();
    assert_eq!(sim.run(get(&disk, file, 0, 1024)).unwrap().unwrap(), [3; 1024]);
    assert!(disk.open("h", false).is_err());
}

#[test]
fn planted_damage_is_where_it_was_planted() {
    let (sim, file) = with_file(10, 4096);
    let disk = sim.disk();
    sim.run(put(&disk, file, Op::WriteDurable, 0, 1, 4096)).unwrap().unwrap();
    let older = disk.image_durable_only();
    sim.run(put(&disk, file, Op::WriteDurable, 0, 2, 1024)).unwrap().unwrap();
    let sound = disk.image_durable_only();

    let mut image = sound.clone();
    image.flip_bit("f", 700);
    assert_eq!(image.read("f", 700..701).unwrap(), [3]);
    image.flip_bit("f", 700);
    assert_eq!(image, sound);
    assert_eq!(image.digest(), sound.digest());

    image.corrupt("f", 100..200, 5);
    let bytes = image.bytes("f").unwrap();
    assert!(bytes[100..200].iter().all(|byte| *byte != 2));
    assert!(bytes[..100] == [2; 100] && bytes[200..1024] == [2; 824]);
    assert_ne!(image.digest(), sound.digest());

    let mut image = sound.clone();
    image.revert("f", 0..1024, &older);
    assert_eq!(image, older);
    image.copy_within("f", 0..512, 4096);
    assert_eq!(image.len("f"), Some(4608));
    image.set_len("f", 4096);
    assert_eq!(image, older);
    image.insert("g", &[]);
    assert_ne!(image, older);
    assert!(image.remove("g") && !image.remove("g"));
    assert_eq!(image, older);
}

#[test]
#[should_panic(expected = "has no bytes")]
fn damage_beyond_the_end_of_a_file_is_a_mistake_of_the_test() {
    let (sim, _) = with_file(11, 4096);
    sim.disk().image_everything().corrupt("f", 4000..5000, 1);
}

/// Else a file of the log came out of a crash with its length and without its space.
#[test]
fn a_cut_that_is_lost_gives_no_space_away_unless_somebody_has_taken_it() {
    let (sim, file) = with_file(21, 0);
    let disk = sim.disk();
    sim.run(allocate(&disk, file, 0, 8192)).unwrap().unwrap();
    disk.set_len(file, 0).unwrap();
    let space = |image| Sim::from_image(image, 1).disk().space_used();
    let (lost, kept) = (disk.image_durable_only(), disk.image_everything());
    assert_eq!((lost.len("f"), space(&lost)), (Some(8192), 8192));
    assert_eq!((kept.len("f"), space(&kept)), (Some(0), 0));

    disk.set_capacity(8192);
    let other = disk.open("g", true).unwrap();
    sim.run(allocate(&disk, other, 0, 4096)).unwrap().unwrap();
    let image = disk.image_durable_only();
    assert_eq!((image.len("f"), image.len("g"), space(&image)), (Some(0), Some(4096), 4096));
}

/// A file system may have done half of it; the length and the space of that are there together.
#[test]
fn an_allocation_in_flight_happened_or_not_or_in_part() {
    let (sim, file) = with_file(12, 4096);
    let disk = sim.disk();
    disk.stop_at(disk.io_count());
    assert!(sim.run(allocate(&disk, file, 4096, 4096)).is_err());
    assert_eq!(disk.image_durable_only().len("f"), Some(4096));
    assert_eq!(disk.image_everything().len("f"), Some(8192));
    let half = disk.crash_keeping(|_, part| part == 0);
    assert_eq!(half.len("f"), Some(6144));
    assert_eq!(Sim::from_image(&half, 1).disk().space_used(), 6144);
    let lengths: std::collections::BTreeSet<_> =
        (0..64).map(|seed| disk.image_by_seed(seed).len("f").unwrap()).collect();
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [4096, 6144, 8192]);
    // And not beyond what there is room for.
    disk.set_capacity(7000);
    assert_eq!(disk.image_everything().len("f"), Some(4096));
    assert_eq!(disk.crash_keeping(|_, part| part == 0).len("f"), Some(6144));
}

#[test]
fn dropping_the_future_of_a_write_does_not_stop_it() {
    let (sim, file) = with_file(13, 4096);
    let disk = sim.disk();
    sim.run(async {
        let buf = IoBuf::Owned(filled(4, 512));
        let write = transfer(&*disk, Lane::Background, file, Op::Write, 0, buf);
        let mut write = Box::pin(write);
        assert!(futures::poll!(&mut write).is_pending());
    })
    .unwrap();
    assert_eq!(disk.in_flight(), 1);
    sim.settle().unwrap();
    assert_eq!(disk.in_flight(), 0);
    assert_eq!(disk.image_visible().read("f", 0..512).unwrap(), [4; 512]);
}

/// A read into part of a larger allocation, as into a frame of the pool.
#[test]
fn a_lent_buffer_is_filled_and_given_back() {
    let (sim, file) = with_file(15, 4096);
    let disk = sim.disk();
    let memory = Arc::new(Mutex::new(AlignedBuf::zeroed(2048)));
    let target = NonNull::new(memory.lock().unwrap().as_mut_ptr()).unwrap();
    // SAFETY: the buffer lives as long as `memory`, which owns it and is kept by the request; nobody
    // touches it until the request has ended.
    let lent = unsafe { IoBuf::shared(target.add(512), 1024, memory.clone()) };
    let (buf, result) = sim
        .run(async {
            put(&disk, file, Op::Write, 0, 6, 1024).await.unwrap();
            transfer(&*disk, Lane::Foreground, file, Op::Read, 0, lent).await
        })
        .unwrap();
    result.unwrap();
    assert_eq!(buf.len(), 1024);
    drop(buf);
    let bytes = memory.lock().unwrap();
    assert!(bytes[..512] == [0; 512] && bytes[512..1536] == [6; 1024] && bytes[1536..] == [0; 512]);
}

#[test]
fn requests_that_a_kernel_refuses_are_refused() {
    let (sim, file) = with_file(14, 4096);
    let disk = sim.disk();
    let kind = |op, offset, len| {
        let buf = IoBuf::Owned(AlignedBuf::zeroed(len));
        sim.run(io(&disk, file, op, offset, buf)).unwrap().unwrap_err().kind()
    };
    assert_eq!(kind(Op::Write, 100, 512), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(Op::Read, 0, 100), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(Op::Write, u64::MAX - 511, 512), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(Op::Read, 4096, 512), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(kind(Op::Read, 3584, 1024), std::io::ErrorKind::UnexpectedEof);
}
