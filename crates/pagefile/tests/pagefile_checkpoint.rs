//! Checkpoints of the page file against a model: what was checkpointed is what opens, whatever is cut
//! off or fails on the way, and nothing that a checkpoint refers to is written over.

#![allow(clippy::unwrap_used, reason = "test code, helpers included")]

mod pagefile_support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::executor::block_on;
use pagefile_support::{Engine, MemDisk, Model, model_of, pieces, u64_at};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering_pagefile::sim::{FailMode, Sim};
use treering_pagefile::{
    CheckpointInfo, Disk, FileErrorKind, Health, LogPosition, Op, PageFile, PageId, Room,
};

#[test]
fn every_checkpoint_opens_as_it_was_made_through_bases_and_deltas() {
    for (seed, page_size) in [(1, 512), (2, 1024), (3, 4096)] {
        let mut engine = Engine::create(MemDisk::new(), page_size, seed);
        let (mut bases, mut deltas) = (0, 0);
        for round in 0..40 {
            let changes = if round % 8 == 0 { 1200 } else { 60 };
            for _ in 0..changes {
                engine.change();
            }
            engine.checkpoint().unwrap();
            engine.check_space();
            let map = pieces(&engine.disk).segments;
            let has_delta = map.iter().any(|(_, _, kind)| *kind == 2);
            (bases, deltas) = (bases + u32::from(!has_delta), deltas + u32::from(has_delta));

            if round % 3 == 0 {
                let (again, opened) = Engine::open(engine.disk.copied(), seed + round).unwrap();
                assert_eq!(model_of(&opened), engine.pages);
                assert_eq!(opened.checkpoint.epoch, engine.epoch - 1);
                assert_eq!(opened.checkpoint.sequence, opened.checkpoint.epoch * 100);
                assert_eq!(opened.checkpoint.log.segment, opened.checkpoint.epoch * 3);
                assert!(opened.damaged_superblock.is_none());
                again.check_space();
                again.check_pages();
                engine = again;
            }
        }
        assert!(bases >= 2, "bases are rewritten: {bases}");
        assert!(deltas >= 2 || page_size > 1024, "and deltas are written: {deltas}");
    }
}

#[test]
fn two_epochs_are_open_at_once_and_each_checkpoint_is_its_own_prefix() {
    let mut engine = Engine::create(MemDisk::new(), 512, 5);
    for _ in 0..300 {
        engine.change();
    }
    let mut before = engine.pages.clone();
    for _ in 0..10 {
        let info = engine.info();
        engine.epoch += 1;
        for _ in 0..100 {
            engine.change();
        }
        engine.check_space();
        block_on(engine.file.checkpoint(info)).unwrap();
        engine.check_space();
        let (_, opened) = Engine::open(engine.disk.copied(), 1).unwrap();
        assert_eq!(model_of(&opened), before, "changes of the next epoch are not in it");
        before = engine.pages.clone();
    }
}

#[test]
fn an_extent_of_the_same_epoch_is_free_at_once_and_an_older_one_after_the_checkpoint() {
    let mut engine = Engine::create(MemDisk::new(), 512, 5);
    let page = PageId(9);
    engine.reserve(3);
    engine.write(page);
    let used = engine.file.space().used;
    engine.write(page);
    assert_eq!(engine.file.space().used, used, "rewritten in the same epoch");
    engine.checkpoint().unwrap();

    let pending = engine.file.space();
    engine.write(page);
    assert_eq!(engine.file.space().pending_release, 512);
    assert_eq!(engine.file.space().used, pending.used + 512);
    engine.checkpoint().unwrap();
    assert_eq!(engine.file.space().pending_release, 0);
    engine.free(page);
    assert_eq!(engine.file.space().pending_release, 512);
    engine.checkpoint().unwrap();
    let empty = engine.file.space();
    assert_eq!((empty.used, empty.map, empty.reserved), (0, 0, 0), "nothing is left of it");
    engine.check_space();
}

/// While a checkpoint is under way, one I/O at a time and in any order, changes of the next epoch go
/// on; after every step the power fails. What then opens is the old checkpoint or the new one, and
/// every one of its pages is whole (I4, I6).
fn crash_everywhere(seed: u64, page_size: usize, rounds: usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut engine = Engine::create(MemDisk::new(), page_size, seed);
    for _ in 0..200 {
        engine.change();
    }
    engine.checkpoint().unwrap();
    let mut old = engine.pages.clone();
    for _ in 0..rounds {
        for _ in 0..rng.random_range(0..80) {
            engine.change();
        }
        let (new, info) = (engine.pages.clone(), engine.info());
        engine.epoch += 1;
        let file = Arc::clone(&engine.file);
        let mut checkpoint = pin!(file.checkpoint(info));
        let mut cx = Context::from_waker(Waker::noop());
        engine.disk.manual(true);
        while checkpoint.as_mut().poll(&mut cx).is_pending() {
            // Now and then the same page so often that the search for free slots comes round the
            // whole file: what was released too early is written over.
            let churn = rng.random_bool(0.3);
            let writes = if churn { 500 } else { rng.random_range(0..4) };
            let fixed = rng.random_range(1..engine.next_page);
            for _ in 0..writes {
                let page = if churn { fixed } else { rng.random_range(1..engine.next_page + 1) };
                if engine.file.try_reserve(1, Room::Growing) {
                    engine.write(PageId(page));
                }
            }
            crash_and_compare(&engine, &mut rng, &old, &new);
            assert!(engine.disk.step(&mut rng), "it waits for some I/O");
            crash_and_compare(&engine, &mut rng, &old, &new);
        }
        engine.disk.manual(false);
        engine.check_space();
        old = new;
        crash_and_compare(&engine, &mut rng, &old, &old);
    }
}

fn crash_and_compare(engine: &Engine, rng: &mut SmallRng, old: &Model, new: &Model) {
    // Either copy of the superblock alone has to do.
    for lost in [None, Some(0), Some(16384)] {
        let disk = engine.disk.crashed(rng);
        if let Some(lost) = lost {
            disk.edit(|bytes| bytes[lost + 50] ^= 1);
        }
        let (after, opened) = Engine::open(disk, 1).unwrap();
        let found = model_of(&opened);
        assert!(found == *old || found == *new, "neither the old checkpoint nor the new one");
        let said = opened.damaged_superblock;
        assert_eq!(said.is_some(), lost.is_some(), "{said:?}");
        after.check_pages();
        after.check_space();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_crash_anywhere_leaves_a_whole_checkpoint(seed in any::<u64>(), shift in 9u32..12) {
        crash_everywhere(seed, 1 << shift, 6);
    }
}

#[test]
fn each_io_of_a_checkpoint_may_fail_and_the_old_one_still_opens() {
    let mut base = Engine::create(MemDisk::new(), 512, 11);
    for _ in 0..600 {
        base.change();
    }
    base.checkpoint().unwrap();
    let old = base.pages.clone();
    let mut failing = 0;
    loop {
        let (mut engine, _) = Engine::open(base.disk.copied(), 12).unwrap();
        for _ in 0..200 {
            engine.change();
        }
        let new = engine.pages.clone();
        let space = engine.file.space();
        let begun = engine.disk.performed();
        engine.disk.fail_at(failing);
        let outcome = engine.checkpoint();
        let done = engine.disk.performed() - begun;
        engine.disk.heal();
        if outcome.is_ok() {
            assert!(failing >= 5 && done == failing, "all {done} I/Os were tried");
            break;
        }
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::Poisoned, "{error}");
        assert!(error.to_string().contains("memory/pages"), "{error}");
        assert_eq!(engine.health.check().unwrap_err().to_string(), error.to_string());
        let again = engine.checkpoint().unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
        assert_eq!(engine.file.space().pending_release, space.pending_release, "none released");

        let mut rng = SmallRng::seed_from_u64(failing);
        let (after, opened) = Engine::open(engine.disk.crashed(&mut rng), 1).unwrap();
        let found = model_of(&opened);
        // From the moment at which superblock A is durable, the new checkpoint is the one.
        assert!(found == old || (found == new && failing + 1 == done), "I/O {failing}");
        after.check_pages();
        after.check_space();
        failing += 1;
    }
}

#[test]
fn no_superblock_is_written_when_the_log_has_failed_meanwhile() {
    let mut engine = Engine::create(MemDisk::new(), 512, 5);
    engine.reserve(1);
    engine.write(PageId(1));
    engine.checkpoint().unwrap();
    engine.reserve(1);
    engine.write(PageId(2));
    let before = engine.disk.edit(|bytes| bytes[..32768].to_vec());
    let info = engine.info();
    let mut rng = SmallRng::seed_from_u64(1);
    engine.disk.manual(true);
    let mut checkpoint = pin!(engine.file.checkpoint(info));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(checkpoint.as_mut().poll(&mut cx).is_pending());
    let error = treering_pagefile::FileError::new(FileErrorKind::Io, "the log failed");
    engine.health.poison(error);
    let outcome = loop {
        match checkpoint.as_mut().poll(&mut cx) {
            Poll::Ready(outcome) => break outcome,
            Poll::Pending => assert!(engine.disk.step(&mut rng)),
        }
    };
    assert!(outcome.unwrap_err().to_string().contains("the log failed"));
    assert!(engine.disk.edit(|bytes| bytes[..32768] == before[..]));
}

/// The kernel tells one sync of a lost write. A checkpoint whose own sync came next, before the task of the
/// first was polled, once named pages that were not there.
#[test]
fn a_failed_sync_poisons_where_it_ends_and_not_where_somebody_hears_of_it() {
    let sim = Sim::new(1);
    let (disk, health) = (sim.disk(), Arc::new(Health::default()));
    let create = PageFile::create(sim.disk(), Arc::clone(&health), 512, 1);
    let file = sim.run(create).unwrap().unwrap();
    disk.fail_at(disk.io_count(), 28, FailMode::Once);
    let mut unheard = pin!(file.sync("values"));
    assert!(unheard.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    sim.settle().unwrap();
    assert_eq!(health.check().unwrap_err().kind(), FileErrorKind::Poisoned);

    let log = LogPosition { segment: 1, offset: 0 };
    let info = CheckpointInfo { epoch: 1, sequence: 0, incarnation: 1, log };
    let error = sim.run(file.checkpoint(info)).unwrap().unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Poisoned);
}

#[test]
fn a_dropped_checkpoint_ends_checkpoints_and_harms_nothing_on_disk() {
    let mut engine = Engine::create(MemDisk::new(), 512, 5);
    engine.reserve(2);
    engine.write(PageId(1));
    engine.checkpoint().unwrap();
    let old = engine.pages.clone();
    engine.write(PageId(2));
    engine.disk.manual(true);
    {
        let mut checkpoint = pin!(engine.file.checkpoint(engine.info()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(checkpoint.as_mut().poll(&mut cx).is_pending());
    }
    engine.disk.manual(false);
    engine.disk.reap();
    engine.epoch += 1;
    let error = engine.checkpoint().unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Poisoned);
    let (after, opened) = Engine::open(engine.disk.copied(), 1).unwrap();
    assert_eq!(model_of(&opened), old);
    after.check_space();
}

#[test]
fn a_crash_between_the_superblocks_opens_the_new_checkpoint_and_makes_both_copies_equal() {
    let mut engine = Engine::create(MemDisk::new(), 512, 5);
    for _ in 0..200 {
        engine.change();
    }
    engine.checkpoint().unwrap();
    let old = engine.pages.clone();
    let old_b = engine.disk.edit(|bytes| bytes[16384..20480].to_vec());
    for _ in 0..50 {
        engine.change();
    }
    engine.checkpoint().unwrap();
    engine.disk.edit(|bytes| bytes[16384..20480].copy_from_slice(&old_b));

    let (after, opened) = Engine::open(engine.disk.copied(), 1).unwrap();
    assert_eq!(model_of(&opened), engine.pages);
    assert!(opened.damaged_superblock.is_none());
    let copies = after.disk.edit(|bytes| (bytes[..4096].to_vec(), bytes[16384..20480].to_vec()));
    assert_eq!(copies.0, copies.1);

    // The newer map does not verify: the older checkpoint, of which nothing was released, is used.
    let directory = pieces(&engine.disk).directories[0] as usize;
    engine.disk.edit(|bytes| bytes[directory + 40] ^= 1);
    let (_, opened) = Engine::open(engine.disk.copied(), 1).unwrap();
    assert_eq!(model_of(&opened), old);
    let said = opened.damaged_superblock.unwrap();
    assert!(said.to_string().contains("directory"), "{said}");
}

#[test]
fn stamps_of_a_life_that_crashed_are_not_given_again() {
    let mut engine = Engine::create(MemDisk::new(), 512, 5);
    engine.checkpoint().unwrap();
    let mut used = std::collections::HashSet::new();
    let mut rng = SmallRng::seed_from_u64(4);
    for _ in 0..10 {
        for _ in 0..100 {
            assert!(used.insert(engine.file.next_stamp()));
        }
        engine = Engine::open(engine.disk.crashed(&mut rng), 1).unwrap().0;
    }
}

#[test]
fn a_copy_goes_on_with_the_stamps_of_its_original() {
    let mut original = Engine::create(MemDisk::new(), 512, 5);
    original.checkpoint().unwrap();
    let last = original.file.next_stamps(100) + 99;
    let copy = Engine::create(MemDisk::new(), 512, 6);
    copy.file.continue_stamps(&original.file.snapshot().unwrap());
    assert_eq!(copy.file.next_stamp(), last + 1);
}

/// A generation that is given twice would leave it to chance which of two superblocks is followed after
/// a crash.
#[test]
fn an_opening_goes_on_from_what_it_found_with_the_next_generation() {
    let mut engine = Engine::create(MemDisk::new(), 512, 9);
    for _ in 0..200 {
        engine.change();
    }
    let info = engine.info();
    engine.checkpoint().unwrap();
    let generations =
        |engine: &Engine| engine.disk.edit(|bytes| [0, 16384].map(|copy| u64_at(bytes, copy + 32)));
    let [before, same] = generations(&engine);
    assert_eq!(before, same);
    let (mut after, opened) = Engine::open(engine.disk.copied(), 1).unwrap();
    assert_eq!(generations(&after), [before + 1; 2]);
    assert_eq!((opened.checkpoint, after.file.snapshot().unwrap().info()), (info, info));
    // A checkpoint without a change names the map that is there.
    after.checkpoint().unwrap();
    assert_eq!(generations(&after), [before + 2; 2]);
    let (_, again) = Engine::open(after.disk.copied(), 1).unwrap();
    assert_eq!(model_of(&again), engine.pages);
}

#[test]
fn all_futures_are_send() {
    fn send<T: Send>(_: &T) {}
    let disk: Arc<dyn Disk> = MemDisk::new();
    let health = Arc::new(Health::default());
    send(&PageFile::create(Arc::clone(&disk), Arc::clone(&health), 512, 1));
    send(&PageFile::open(Arc::clone(&disk), Arc::clone(&health), None));
    send(&PageFile::presence(&disk));
    let engine = Engine::create(MemDisk::new(), 512, 5);
    send(&engine.file.checkpoint(engine.info()));
    send(&engine.file.grow());
    let _: fn(&Op) -> bool = |op| *op == Op::Sync;
}
