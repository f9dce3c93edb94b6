//! The space of the page file: it runs out in a reservation and nowhere else (I13), and it grows.

#![allow(clippy::unwrap_used, reason = "test code, helpers included")]

mod pagefile_support;

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use pagefile_support::{Engine, MemDisk, model_of, run};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering_pagefile::{Disk, FileErrorKind, Health, Op, PageFile, PageId, Room};

/// Reserves all that can be reserved, growing the file until the disk is full.
fn reserve_everything(engine: &Engine) -> usize {
    let mut reserved = 0;
    loop {
        while engine.file.try_reserve(1, Room::Growing) {
            reserved += 1;
        }
        match run(&engine.disk, engine.file.grow()) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), FileErrorKind::Full, "{error}");
                assert!(error.to_string().contains("growing memory/pages"), "{error}");
                engine.health.check().unwrap();
                return reserved;
            }
        }
    }
}

#[test]
fn with_everything_reserved_and_used_on_a_full_disk_checkpoints_succeed() {
    for page_size in [512, 4096] {
        let disk = MemDisk::new();
        let mut engine = Engine::create(disk.clone(), page_size, 3);
        disk.set_capacity(Some(1500 * page_size as u64));
        for round in 0..6 {
            let reserved = reserve_everything(&engine);
            assert!(round > 0 || reserved > 1000, "most of the space is for pages: {reserved}");
            assert!(engine.file.wants_growth());
            // The first time new pages only; then a mix, part of it in the next epoch already.
            for n in 0..reserved {
                let fresh = round == 0 || engine.rng.random_bool(0.2);
                let page = engine.any_page().filter(|_| !fresh);
                let page = page.unwrap_or(PageId(engine.next_page));
                engine.write(page);
                if n == reserved / 2 && round > 0 {
                    engine.checkpoint().unwrap();
                }
            }
            assert_eq!(engine.file.space().reserved, 0);
            engine.checkpoint().unwrap();
            engine.check_space();
            let (after, opened) = Engine::open(disk.copied(), 1).unwrap();
            assert_eq!(model_of(&opened), engine.pages);
            after.check_pages();
            // Deletes make room again.
            for page in engine.pages.keys().copied().step_by(3).collect::<Vec<_>>() {
                engine.free(page);
            }
            engine.checkpoint().unwrap();
        }
        disk.set_capacity(None);
        run(&disk, engine.file.grow()).unwrap();
        assert!(
            engine.file.try_reserve(200, Room::Growing),
            "and the database goes on once there is room"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever is done on a disk that is full, and however two epochs interleave, every checkpoint
    /// finds its slots, and so does the first one after a crash.
    #[test]
    fn no_sequence_of_changes_makes_a_checkpoint_run_out_of_space(
        seed in any::<u64>(),
        shift in 9u32..13,
        slots in 40u64..600,
    ) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let disk = MemDisk::new();
        let mut engine = Engine::create(disk.clone(), 1 << shift, seed);
        disk.set_capacity(Some((32 << 10) + (slots << shift)));
        let mut held = 0;
        for _ in 0..1500 {
            match rng.random_range(0..100) {
                0..30 => {
                    let n = rng.random_range(1..12);
                    let mut granted = engine.file.try_reserve(n, Room::Growing);
                    if !granted && run(&disk, engine.file.grow()).is_ok() {
                        granted = engine.file.try_reserve(n, Room::Growing);
                    }
                    held += if granted { n } else { 0 };
                }
                30..85 if held > 0 => {
                    held -= 1;
                    let fresh = rng.random_bool(0.4);
                    let page = engine.any_page().filter(|_| !fresh);
                    let page = page.unwrap_or(PageId(engine.next_page));
                    engine.write(page);
                }
                85..92 => {
                    if let Some(page) = engine.any_page() {
                        engine.free(page);
                    }
                }
                92..94 => {
                    engine.file.unreserve(held);
                    held = 0;
                }
                94..97 => {
                    let outcome = engine.checkpoint();
                    prop_assert!(outcome.is_ok(), "{outcome:?}");
                }
                97 => {
                    // Changes of the next epoch while the checkpoint is being written.
                    let info = engine.info();
                    engine.epoch += 1;
                    let file = std::sync::Arc::clone(&engine.file);
                    let mut checkpoint = pin!(file.checkpoint(info));
                    let mut cx = Context::from_waker(Waker::noop());
                    disk.manual(true);
                    loop {
                        match checkpoint.as_mut().poll(&mut cx) {
                            Poll::Ready(outcome) => {
                                prop_assert!(outcome.is_ok(), "{outcome:?}");
                                break;
                            }
                            Poll::Pending => prop_assert!(disk.step(&mut rng)),
                        }
                        if held > 0 || engine.file.try_reserve(1, Room::Growing) {
                            held = held.max(1) - 1;
                            let page = PageId(rng.random_range(1..engine.next_page + 1));
                            engine.write(page);
                        }
                    }
                    disk.manual(false);
                }
                98 => engine.check_space(),
                _ => {}
            }
        }
        engine.checkpoint().unwrap();
        let crashed = engine.disk.crashed(&mut rng);
        crashed.set_capacity(Some((32 << 10) + (slots << shift)));
        let (mut after, _) = Engine::open(crashed, seed).unwrap();
        after.checkpoint().unwrap();
        after.check_space();
    }
}

#[test]
fn a_reservation_is_all_or_nothing_and_can_be_given_back() {
    let engine = Engine::create(MemDisk::new(), 4096, 1);
    let fresh = engine.file.space();
    assert!(fresh.file < 1 << 20, "a new file is small");
    assert_eq!(fresh.file, (32 << 10) + fresh.used + fresh.free);
    assert!(!engine.file.try_reserve(1 << 40, Room::Growing));
    assert!(!engine.file.try_reserve(usize::MAX, Room::Growing), "and nothing overflows");
    assert_eq!(engine.file.space().reserved, 0);
    assert!(engine.file.try_reserve(5, Room::Growing));
    assert_eq!(engine.file.space().reserved, 5 * 4096);
    engine.file.unreserve(2);
    let mut extents = Vec::new();
    engine.file.take_extents(3, &mut extents);
    assert!(extents.windows(2).all(|two| two[1].offset == two[0].offset + 4096), "{extents:?}");
    let in_flight = engine.file.check_space(std::iter::empty());
    assert!(in_flight.is_empty(), "extents of writes in flight are nobody's yet: {in_flight:?}");
    extents.into_iter().for_each(|extent| engine.file.discard_extent(extent));
    assert_eq!(engine.file.space().used, 0);
}

#[test]
fn callers_at_the_same_time_share_one_growth_and_a_dropped_one_goes_on() {
    let engine = Engine::create(MemDisk::new(), 512, 1);
    let before = engine.file.space().file;
    let performed = engine.disk.performed();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut cx = Context::from_waker(Waker::noop());
    engine.disk.manual(true);
    {
        let mut one = pin!(engine.file.grow());
        let mut two = pin!(engine.file.grow());
        assert!(one.as_mut().poll(&mut cx).is_pending() && two.as_mut().poll(&mut cx).is_pending());
        while engine.disk.step(&mut rng) {}
        assert!(matches!(two.as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
        assert!(matches!(one.as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
    }
    assert_eq!(engine.disk.performed(), performed + 2, "one allocation and one sync");
    let grown = engine.file.space().file;
    assert!(grown > before);

    {
        let mut growth = pin!(engine.file.grow());
        assert!(growth.as_mut().poll(&mut cx).is_pending());
    }
    while engine.disk.step(&mut rng) {}
    assert!(engine.file.space().file > grown, "nobody has to poll for it to happen");
}

#[test]
fn a_nearly_full_disk_gives_what_it_has() {
    let disk = MemDisk::new();
    let engine = Engine::create(disk.clone(), 512, 1);
    let len = engine.file.space().file;
    disk.set_capacity(Some(len + 20 * 512));
    run(&disk, engine.file.grow()).unwrap();
    assert_eq!(engine.file.space().file, len + 16 * 512);
    let full = run(&disk, engine.file.grow()).unwrap_err();
    assert_eq!(full.kind(), FileErrorKind::Full);
    engine.health.check().unwrap();
}

#[test]
fn an_allocation_that_fails_is_an_error_and_a_sync_that_fails_is_poison() {
    let disk = MemDisk::new();
    let engine = Engine::create(disk.clone(), 512, 1);
    let space = engine.file.space();
    disk.fail_next(|op| matches!(op, Op::Allocate { .. }));
    let error = run(&disk, engine.file.grow()).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Io);
    engine.health.check().unwrap();
    disk.fail_next(|op| *op == Op::Sync);
    let error = run(&disk, engine.file.grow()).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Poisoned);
    assert_eq!(engine.file.space(), space, "neither added a slot");
    assert_eq!(run(&disk, engine.file.grow()).unwrap_err().kind(), FileErrorKind::Poisoned);
}

#[test]
fn a_file_grows_ahead_of_need_once_and_leaves_a_full_disk_to_those_who_wait() {
    let disk = MemDisk::new();
    let engine = Engine::create(disk.clone(), 512, 1);
    while engine.file.space().file < (4 << 20) {
        run(&disk, engine.file.grow()).unwrap();
    }
    let len = || engine.file.space().file;
    let before = len();
    engine.file.grow_ahead();
    disk.reap();
    assert_eq!(len(), before, "there is room");
    while !engine.file.wants_growth() {
        assert!(engine.file.try_reserve(1, Room::Growing));
    }
    // Twice is once.
    disk.manual(true);
    let performed = disk.performed();
    engine.file.grow_ahead();
    engine.file.grow_ahead();
    let mut rng = SmallRng::seed_from_u64(1);
    while disk.step(&mut rng) {}
    assert_eq!(disk.performed(), performed + 2, "one allocation and one sync");
    let grown = len();
    assert!(grown > before && !engine.file.wants_growth());
    engine.file.grow_ahead();
    assert_eq!(disk.queued(), 0, "and now there is room again");

    while !engine.file.wants_growth() {
        assert!(engine.file.try_reserve(1, Room::Growing));
    }
    disk.set_capacity(Some(grown + 100 * 512));
    engine.file.grow_ahead();
    while disk.step(&mut rng) {}
    engine.file.grow_ahead();
    assert_eq!((len(), disk.queued()), (grown, 0), "the rest of the disk is left alone");
    disk.manual(false);
    run(&disk, engine.file.grow()).unwrap();
    assert!(len() > grown, "who has to wait gets it");

    // Who asks while it goes on anyway gets what there is.
    while !engine.file.wants_growth() {
        assert!(engine.file.try_reserve(1, Room::Growing));
    }
    disk.set_capacity(Some(len() + 100 * 512));
    disk.manual(true);
    engine.file.grow_ahead();
    assert_eq!(disk.queued(), 1);
    let mut growth = pin!(engine.file.grow());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(growth.as_mut().poll(&mut cx).is_pending());
    while disk.step(&mut rng) {}
    assert!(matches!(growth.as_mut().poll(&mut cx), Poll::Ready(Ok(()))), "in quarters");
}

/// A file of 4 MiB and more on a disk that has room for another 100 slots, just when it wants to grow.
fn short_on_a_nearly_full_disk(disk: &Arc<MemDisk>) -> Engine {
    let engine = Engine::create(disk.clone(), 512, 1);
    while engine.file.space().file < (4 << 20) {
        run(disk, engine.file.grow()).unwrap();
    }
    while !engine.file.wants_growth() {
        assert!(engine.file.try_reserve(1, Room::Growing));
    }
    disk.set_capacity(Some(engine.file.space().file + 100 * 512));
    disk.manual(true);
    engine
}

/// Who joined a growth ahead between its look at who waits and its end was told that the disk is full,
/// though there was room for a smaller step.
#[test]
fn who_joins_a_growth_ahead_that_has_found_the_disk_full_gets_what_is_left() {
    let disk = MemDisk::new();
    let engine = short_on_a_nearly_full_disk(&disk);
    let before = engine.file.space().file;
    let file = Arc::clone(&engine.file);
    let growth = Arc::new(Mutex::new(Box::pin(async move { file.grow().await })));
    let poll = |growth: &Mutex<_>| {
        let mut growth = growth.lock().unwrap();
        Future::poll(std::pin::Pin::as_mut(&mut growth), &mut Context::from_waker(Waker::noop()))
    };
    let joining = Arc::clone(&growth);
    disk.at_next_description(move || assert!(poll(&joining).is_pending()));
    engine.file.grow_ahead();
    let mut rng = SmallRng::seed_from_u64(1);
    while disk.step(&mut rng) {}
    assert!(matches!(poll(&growth), Poll::Ready(Ok(()))), "there is room for a quarter");
    assert!(engine.file.space().file > before);
}

/// Writers beside a compaction made the file longer by an eighth each time that it had been cut.
#[test]
fn a_file_that_is_being_compacted_does_not_grow_ahead() {
    let disk = MemDisk::new();
    let engine = short_on_a_nearly_full_disk(&disk);
    engine.file.set_compacting(true);
    engine.file.grow_ahead();
    assert_eq!(disk.queued(), 0);
    engine.file.set_compacting(false);
    engine.file.grow_ahead();
    assert_eq!(disk.queued(), 1);
}

/// On ext4 an allocation that fails for want of room keeps what it got: a growth ahead, which was to leave
/// the rest of the disk alone, took all of it, and the log found none.
#[test]
fn a_growth_that_fails_gives_back_what_it_took() {
    let disk = MemDisk::new();
    let engine = short_on_a_nearly_full_disk(&disk);
    let pages = disk.open("pages", false).unwrap();
    let (before, slots) = (disk.len(pages).unwrap(), engine.file.space());
    engine.file.grow_ahead();
    let mut rng = SmallRng::seed_from_u64(1);
    while disk.step(&mut rng) {}
    assert_eq!((disk.len(pages).unwrap(), engine.file.space()), (before, slots));

    // The same for those who had to wait, and did not get any either.
    disk.manual(false);
    disk.set_capacity(Some(before + 15 * 512));
    let error = run(&disk, engine.file.grow()).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Full);
    assert_eq!(disk.len(pages).unwrap(), before);
}

/// The first allocation of all is one as well: with large pages it took the rest of the disk.
#[test]
fn a_creation_that_fails_gives_back_what_it_took() {
    let disk = MemDisk::new();
    disk.set_capacity(Some(40 << 10));
    let health = Arc::new(Health::default());
    let created = run(&disk, PageFile::create(disk.clone(), health, 512, 7));
    assert_eq!(created.unwrap_err().kind(), FileErrorKind::Full);
    let pages = disk.open("pages", false).unwrap();
    assert!(disk.len(pages).unwrap() <= 4096, "{} bytes", disk.len(pages).unwrap());
    disk.set_capacity(None);
    Engine::create(disk, 512, 1).check_space();
}
