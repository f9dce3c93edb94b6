//! The pool over a page file on the simulated disk: loads are shared, clean pages make room, dirty
//! ones are written back first, and an epoch's images are those of that epoch.

#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use futures::FutureExt;
use treering_bufpool::{Pool, PoolOptions, Read, Refusal};
use treering_pagefile::sim::{FailMode, Sim, SimDisk, SimImage};
use treering_pagefile::{
    CheckpointInfo, Disk, FileErrorKind, Health, LogPosition, PageFile, PageId, Room,
};

const PAGE: usize = 512;

struct Setup {
    sim: Sim,
    disk: Arc<SimDisk>,
    pool: Arc<Pool>,
}

/// A pool with `frames` frames, and `pages` pages on disk and not in memory.
fn setup(seed: u64, frames: usize, pages: u64) -> Setup {
    setup_with(seed, pages, PoolOptions { frames, staging: 4, captures: 4 })
}

/// Room for all images that a test of many captures makes.
const OPTIONS_MANY_CAPTURES: PoolOptions = PoolOptions { frames: 1024, staging: 4, captures: 1024 };

fn setup_with(seed: u64, pages: u64, options: PoolOptions) -> Setup {
    let sim = Sim::new(seed);
    let disk = sim.disk();
    let made = Arc::clone(&disk);
    let pool = sim
        .run(async move {
            let health = Arc::new(Health::default());
            let disk: Arc<dyn Disk> = made;
            let file = PageFile::create(Arc::clone(&disk), Arc::clone(&health), PAGE, 1).await;
            let frames = if cfg!(miri) { 256 } else { 4096 };
            let first = Pool::new(
                file.unwrap(),
                health,
                &[],
                PoolOptions { frames, staging: 4, captures: 4 },
            );
            let first = first.unwrap();
            for _ in 0..pages {
                make(&first, 1).await;
            }
            first.write_epoch(1).await.unwrap();
            let log = LogPosition { segment: 1, offset: 0 };
            let info = CheckpointInfo { epoch: 1, sequence: 0, incarnation: 1, log };
            first.file().checkpoint(info).await.unwrap();
            drop(first);
            let health = Arc::new(Health::default());
            let opened = PageFile::open(disk, Arc::clone(&health), None).await.unwrap();
            Pool::new(opened.file, health, &opened.entries, options).unwrap()
        })
        .unwrap();
    let runtime = sim.runtime();
    runtime.spawn(Box::pin(Arc::clone(&pool).run_cleaner(sim.runtime())));
    Setup { sim, disk, pool }
}

/// Makes a page that holds its own number, waiting for what that takes.
async fn make(pool: &Arc<Pool>, epoch: u64) -> PageId {
    loop {
        let relief = pool.relief();
        match pool.try_new_page(Room::Growing) {
            Ok(page) => {
                let id = page.id();
                for word in page.words() {
                    word.store(id.0, Ordering::Relaxed);
                }
                page.publish(epoch);
                return id;
            }
            Err(Refusal::Space) => pool.file().grow().await.unwrap(),
            Err(_) => relief.await,
        }
    }
}

/// The last word of a page, which `make` and `change` set.
fn look(pool: &Pool, page: PageId) -> Option<u64> {
    match pool.read_page(page, |words| words[PAGE / 8 - 1].load(Ordering::Relaxed)) {
        Read::Done(word) => Some(word),
        Read::Absent | Read::Free => None,
    }
}

async fn change(pool: &Arc<Pool>, page: PageId, epoch: u64, value: u64) {
    loop {
        let relief = pool.relief();
        pool.fetch(page).await.unwrap();
        let refusal = {
            let Some(pinned) = pool.try_pin(page) else { continue };
            let latched = pinned.write();
            match latched.prepare(epoch, Room::Growing) {
                Ok(_) => {
                    latched.words()[PAGE / 8 - 1].store(value, Ordering::Relaxed);
                    latched.changed(epoch);
                    return;
                }
                Err(refusal) => refusal,
            }
        };
        match refusal {
            Refusal::Space => pool.file().grow().await.unwrap(),
            _ => relief.await,
        }
    }
}

#[test]
fn t7_everybody_who_wants_a_page_shares_one_read() {
    let Setup { sim, pool, .. } = setup(1, 16, 8);
    let page = PageId(3);
    assert_eq!(look(&pool, page), None);
    let mut dropped = Box::pin(pool.fetch(page));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(dropped.as_mut().poll(&mut cx).is_pending());
    let fetches: Vec<_> = (0..20).map(|_| pool.fetch(page)).collect();
    drop(dropped);
    sim.run(async { futures::future::try_join_all(fetches).await.unwrap() }).unwrap();
    assert_eq!(look(&pool, page), Some(3));
    assert_eq!(pool.stats().loads, 1);
}

#[test]
fn a_read_goes_on_when_everybody_who_wanted_it_has_gone() {
    let Setup { sim, pool, .. } = setup(2, 16, 8);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Box::pin(pool.fetch(PageId(5))).as_mut().poll(&mut cx).is_pending());
    sim.settle().unwrap();
    assert_eq!(look(&pool, PageId(5)), Some(5));
}

#[test]
fn t7_many_times_more_pages_than_frames_come_and_go_and_held_fetches_stop_nobody() {
    let Setup { sim, pool, .. } = setup(3, 16, 500);
    let mut cx = Context::from_waker(Waker::noop());
    let mut held: Vec<_> = (1..=100).map(|id| Box::pin(pool.fetch(PageId(id)))).collect();
    for fetch in &mut held {
        assert!(fetch.as_mut().poll(&mut cx).is_pending());
    }
    let tasks: Vec<_> = (0..50u64)
        .map(|task| {
            let pool = Arc::clone(&pool);
            sim.spawn(async move {
                for turn in 0..40 {
                    let page = PageId(1 + (task * 37 + turn * 13) % 500);
                    let value = loop {
                        if let Some(value) = look(&pool, page) {
                            break value;
                        }
                        pool.fetch(page).await.unwrap();
                    };
                    assert_eq!(value, page.0);
                }
            })
        })
        .collect();
    sim.run(async { futures::future::join_all(tasks).await }).unwrap();
    assert!(pool.stats().evictions > 400, "{:?}", pool.stats());
    drop(held);
}

#[test]
fn t7_a_pinned_page_stays_while_all_others_make_room() {
    const PAGES: u64 = if cfg!(miri) { 40 } else { 200 };
    let Setup { sim, pool, .. } = setup(4, 16, PAGES);
    let kept = sim.run(pool.fetch_pinned(PageId(7))).unwrap().unwrap().unwrap();
    sim.run(async {
        for id in (1..=PAGES).filter(|&id| id != 7) {
            pool.fetch(PageId(id)).await.unwrap();
        }
    })
    .unwrap();
    assert_eq!(look(&pool, PageId(7)), Some(7));
    drop(kept);
}

#[test]
fn t7_changed_pages_are_written_back_before_they_make_room() {
    let Setup { sim, pool, .. } = setup(5, 16, 200);
    sim.run(async {
        for round in 1..4 {
            for id in 1..=200 {
                change(&pool, PageId(id), 2, id * 1000 + round).await;
            }
        }
        for id in 1..=200 {
            while look(&pool, PageId(id)).is_none() {
                pool.fetch(PageId(id)).await.unwrap();
            }
            assert_eq!(look(&pool, PageId(id)), Some(id * 1000 + 3));
        }
    })
    .unwrap();
    assert!(pool.stats().writes > 500, "{:?}", pool.stats());
}

/// I5: what a checkpoint of an epoch holds is what the pages were when the epoch was closed, though
/// writers of the next one are at them already.
#[test]
fn an_epochs_images_do_not_have_what_the_next_epoch_changed() {
    const SEEDS: u64 = if cfg!(miri) { 1 } else { 50 };
    for seed in 0..SEEDS {
        let Setup { sim, disk, pool } = setup(100 + seed, 32, 60);
        sim.run(async {
            for id in 1..=60 {
                change(&pool, PageId(id), 2, 2000 + id).await;
            }
            let writers = async {
                for id in (1..=60).rev() {
                    change(&pool, PageId(id), 3, 3000 + id).await;
                }
            };
            let checkpoint = async {
                pool.write_epoch(2).await.unwrap();
                let log = LogPosition { segment: 1, offset: 0 };
                let info = CheckpointInfo { epoch: 2, sequence: 0, incarnation: 1, log };
                pool.file().checkpoint(info).await.unwrap();
            };
            futures::future::join(writers, checkpoint).await;
        })
        .unwrap();
        assert_holds(&disk.crash(seed), 60, 2000, &format!("seed {seed}"));
    }
}

/// A database that is opened on this image has its pages as `change` left them: each says its number
/// behind `base`.
fn assert_holds(image: &SimImage, pages: u64, base: u64, context: &str) {
    let sim = Sim::from_image(image, 1);
    let disk: Arc<dyn Disk> = sim.disk();
    sim.run(async move {
        let health = Arc::new(Health::default());
        let opened = PageFile::open(disk, Arc::clone(&health), None).await.unwrap();
        let options = PoolOptions { frames: 64, staging: 4, captures: 4 };
        let pool = Pool::new(opened.file, health, &opened.entries, options).unwrap();
        for id in 1..=pages {
            pool.fetch(PageId(id)).await.unwrap();
            assert_eq!(look(&pool, PageId(id)), Some(base + id), "{context}, page {id}");
        }
    })
    .unwrap();
}

/// A batch of the next epoch that meets many pages of the closed one is not held up by a write of each.
#[test]
fn what_is_captured_while_another_image_is_on_its_way_goes_to_disk_together() {
    let Setup { sim, disk, pool } = setup(7, 32, 10);
    sim.run(async {
        for id in 1..=4 {
            change(&pool, PageId(id), 2, 2000 + id).await;
        }
        let before = (disk.write_count(), pool.stats().writes);
        for id in 1..=4 {
            // They are in memory, and there are slots for them: nothing is waited for.
            change(&pool, PageId(id), 3, 3000 + id).now_or_never().unwrap();
        }
        pool.written().await;
        let after = (disk.write_count(), pool.stats().writes);
        assert_eq!((after.0 - before.0, after.1 - before.1), (2, 4), "writes, and images in them");
        // Whoever comes when all is done finds the slots free, and the first goes at once again.
        change(&pool, PageId(1), 4, 4001).now_or_never().unwrap();
        assert_eq!(disk.write_count() - after.0, 1);
        pool.written().await;
    })
    .unwrap();
}

/// Nobody waits for ever for images that gather behind a group whose write fails, nor when the pool has been
/// stopped meanwhile.
#[test]
fn what_is_captured_behind_a_write_that_fails_comes_to_an_end_too() {
    for stopped in [false, true] {
        let Setup { sim, disk, pool } = setup(8, 32, 10);
        sim.run(async {
            for id in 1..=4 {
                change(&pool, PageId(id), 2, 2000 + id).await;
            }
            disk.fail_at(disk.io_count(), 5, FailMode::Once);
            for id in 1..=4 {
                change(&pool, PageId(id), 3, 3000 + id).now_or_never().unwrap();
            }
            assert_eq!(pool.stats().writes_in_flight, 4, "three of them wait");
            if stopped {
                pool.stop();
            }
            pool.written().await;
            assert_eq!(pool.stats().writes_in_flight, 0);
            pool.write_epoch(2).await.unwrap_err();
        })
        .unwrap();
    }
}

/// A group takes 256 images; those behind it go with the next, none is left, and each is the old one.
#[test]
fn more_images_than_a_group_takes_all_go_to_disk() {
    const PAGES: u64 = if cfg!(miri) { 20 } else { 600 };
    let Setup { sim, disk, pool } = setup_with(9, PAGES, OPTIONS_MANY_CAPTURES);
    sim.run(async {
        for id in 1..=PAGES {
            change(&pool, PageId(id), 2, 2000 + id).await;
        }
        // The file has space for what comes.
        while !pool.file().try_reserve(PAGES as usize, Room::Growing) {
            pool.file().grow().await.unwrap();
        }
        pool.unreserve(PAGES as usize);
        let before = (disk.write_count(), pool.stats().writes);
        for id in 1..=PAGES {
            change(&pool, PageId(id), 3, 3000 + id).now_or_never().unwrap();
        }
        pool.write_epoch(2).await.unwrap();
        assert_eq!(pool.stats().writes - before.1, PAGES);
        assert!(disk.write_count() - before.0 < 30, "{}", disk.write_count() - before.0);
        let log = LogPosition { segment: 1, offset: 0 };
        let info = CheckpointInfo { epoch: 2, sequence: 0, incarnation: 1, log };
        pool.file().checkpoint(info).await.unwrap();
    })
    .unwrap();
    assert_holds(&disk.crash(9), PAGES, 2000, "after the checkpoint");
}

#[test]
fn a_damaged_page_is_an_error_for_all_who_want_it_and_for_nobody_else() {
    let Setup { disk, .. } = setup(6, 16, 20);
    let mut image = disk.image_everything();
    let opened = {
        let sim = Sim::from_image(&image, 1);
        let disk: Arc<dyn Disk> = sim.disk();
        let opened = sim.run(PageFile::open(disk, Arc::default(), None)).unwrap().unwrap();
        opened.entries
    };
    let victim = opened.iter().find(|entry| entry.page == PageId(9)).unwrap();
    image.flip_bit("pages", victim.extent.offset + 100);
    let sim = Sim::from_image(&image, 2);
    let disk: Arc<dyn Disk> = sim.disk();
    sim.run(async move {
        let health = Arc::new(Health::default());
        let opened = PageFile::open(disk, Arc::clone(&health), None).await.unwrap();
        let options = PoolOptions { frames: 16, staging: 4, captures: 4 };
        let pool = Pool::new(opened.file, health, &opened.entries, options).unwrap();
        let both = futures::future::join(pool.fetch(PageId(9)), pool.fetch(PageId(9))).await;
        for error in [both.0.unwrap_err(), both.1.unwrap_err()] {
            assert_eq!(error.kind(), FileErrorKind::Damaged);
            assert!(error.to_string().contains("page 9 at byte"), "{error}");
        }
        assert_eq!(look(&pool, PageId(9)), None);
        pool.fetch(PageId(8)).await.unwrap();
        assert_eq!(look(&pool, PageId(8)), Some(8));
    })
    .unwrap();
}
