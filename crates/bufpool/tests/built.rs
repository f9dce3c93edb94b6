//! Pages that were built outside the pool are written many at once, past its frames: they are on disk when
//! they are known, a checkpoint has them whole, a batch that is given up leaves no trace, and a write
//! that fails stops everything.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use treering_bufpool::{PageBatch, Pool, PoolOptions, Read, WrittenPages};
use treering_pagefile::sim::{Failure, Sim};
use treering_pagefile::{
    CheckpointInfo, Disk, Extent, FileError, FileErrorKind, Health, LogPosition, Op, PageFile,
    PageId, Room,
};

const PAGE: usize = 512;
const EIO: Failure = Failure::Errno(5);
/// As many frames as give batches of eight pages.
const OPTIONS: PoolOptions = PoolOptions { frames: 64, staging: 4, captures: 4 };

async fn create(sim: &Sim) -> Arc<Pool> {
    let (health, disk): (_, Arc<dyn Disk>) = (Arc::new(Health::default()), sim.disk());
    let file = PageFile::create(disk, Arc::clone(&health), PAGE, 1).await.unwrap();
    Pool::new(file, health, &[], OPTIONS).unwrap()
}

async fn checkpoint(pool: &Arc<Pool>, epoch: u64) {
    pool.write_epoch(epoch).await.unwrap();
    let log = LogPosition { segment: 1, offset: 0 };
    let info = CheckpointInfo { epoch, sequence: 0, incarnation: 1, log };
    pool.file().checkpoint(info).await.unwrap();
}

/// The image of a page that holds its own number.
fn image(page: PageId) -> Vec<u64> {
    vec![page.0; PAGE / 8]
}

/// A full batch from id `first` on, and the id behind it.
fn full(pool: &Arc<Pool>, mut batch: PageBatch, first: PageId) -> (PageBatch, PageId) {
    let mut id = first;
    while !batch.is_full() {
        batch.push(id, &image(id));
        id.0 += 1;
    }
    assert_eq!((id.0 - first.0) as usize, pool.frame_count() / 8);
    (batch, id)
}

async fn write(pool: &Arc<Pool>, mut batch: PageBatch) -> Result<WrittenPages, FileError> {
    while !batch.try_take() {
        pool.file().grow().await?;
    }
    batch.write().await
}

async fn check(pool: &Arc<Pool>, pages: impl Iterator<Item = u64>) {
    for page in pages.map(PageId) {
        pool.fetch(page).await.unwrap();
        let look = |words: &[std::sync::atomic::AtomicU64]| words[9].load(Ordering::Relaxed);
        assert!(matches!(pool.read_page(page, look), Read::Done(word) if word == page.0), "{page}");
    }
}

/// Takes all space and gives every second page of it back.
async fn fragment(pool: &Arc<Pool>) {
    let (file, mut extents) = (pool.file(), Vec::new());
    // So many that what is set aside is not all of the pieces.
    while extents.len() < 64 {
        match file.try_reserve(1, Room::Shrinking) {
            true => file.take_extents(1, &mut extents),
            false => file.grow().await.unwrap(),
        }
    }
    while file.try_reserve(1, Room::Shrinking) {
        file.take_extents(1, &mut extents);
    }
    extents.iter().step_by(2).for_each(|extent| file.discard_extent(*extent));
    // And not what lies together at the end, for the page map.
    file.set_compacting(true);
}

#[test]
fn a_batch_is_one_write_and_its_pages_survive_with_the_checkpoint_of_their_epoch() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        sim.run(async {
            let pool = create(&sim).await;
            let mut id = pool.take_ids(100);
            let ios = sim.disk().io_count();
            let mut batch = pool.gather_pages();
            for epoch in 1..4 {
                for _ in 0..3 {
                    let (filled, next) = full(&pool, batch, id);
                    let written = write(&pool, filled).await.unwrap();
                    assert!(!pool.exists(id), "it is not published");
                    batch = pool.publish_pages(written, epoch);
                    assert!(batch.is_empty() && pool.exists(id));
                    id = next;
                }
                if epoch < 3 {
                    checkpoint(&pool, epoch).await;
                }
            }
            assert!(sim.disk().io_count() - ios < 40, "a write a page");
            check(&pool, 1..73).await;
            assert_eq!(pool.stats().dirty, 0);
        })
        .unwrap();
        let sim = Sim::from_image(&sim.disk().crash(seed), seed);
        sim.run(async {
            let (health, disk): (_, Arc<dyn Disk>) = (Arc::new(Health::default()), sim.disk());
            let opened = PageFile::open(disk, Arc::clone(&health), None).await.unwrap();
            let pool = Pool::new(opened.file, health, &opened.entries, OPTIONS).unwrap();
            let pages: Vec<_> = pool.pages().into_iter().map(|page| page.0).collect();
            assert_eq!(pages, (1..49).collect::<Vec<_>>(), "the last epoch has no checkpoint");
            check(&pool, 1..49).await;
        })
        .unwrap();
    }
}

#[test]
fn where_the_space_is_in_pieces_so_are_the_writes() {
    let sim = Sim::new(3);
    sim.run(async {
        let pool = create(&sim).await;
        fragment(&pool).await;
        let first = pool.take_ids(100);
        let (batch, second) = full(&pool, pool.gather_pages(), first);
        let batch = pool.publish_pages(write(&pool, batch).await.unwrap(), 1);
        // And part of a batch.
        let mut batch = batch;
        batch.push(second, &image(second));
        let batch = pool.publish_pages(write(&pool, batch).await.unwrap(), 1);
        assert!(batch.is_empty());
        let extents: BTreeSet<Extent> = pool.extents().into_iter().map(|(_, at)| at).collect();
        assert_eq!(extents.len(), 9);
        let offsets: Vec<_> = extents.iter().map(|extent| extent.offset).collect();
        assert!(offsets.windows(2).any(|pair| pair[1] - pair[0] > PAGE as u64), "{offsets:?}");
        checkpoint(&pool, 1).await;
        check(&pool, first.0..first.0 + 9).await;
    })
    .unwrap();
}

#[test]
fn a_batch_that_is_given_up_gives_its_space_back() {
    let sim = Sim::new(4);
    sim.run(async {
        let pool = create(&sim).await;
        let first = pool.take_ids(100);
        pool.file().grow().await.unwrap();
        let space = || (pool.file().space().used, pool.file().space().reserved);
        let before = space();
        let (mut taken, _) = full(&pool, pool.gather_pages(), first);
        assert!(taken.try_take() && taken.try_take(), "a second time changes nothing");
        assert_eq!(space().0 - before.0, 8 * PAGE as u64);
        drop(taken);
        assert_eq!(space(), before);
        let (batch, _) = full(&pool, pool.gather_pages(), first);
        let written = write(&pool, batch).await.unwrap();
        assert_eq!(pool.stats().writes_in_flight, 1);
        drop(written);
        assert_eq!((space(), pool.stats().writes_in_flight), (before, 0));
        assert!(!pool.exists(first));
        assert_eq!(pool.file().check_space(pool.extents().into_iter()), Vec::<String>::new());
    })
    .unwrap();
}

#[test]
fn extents_with_a_write_in_flight_are_nobody_elses_though_its_future_is_gone() {
    let sim = Sim::new(5);
    sim.run(async {
        let pool = create(&sim).await;
        pool.file().grow().await.unwrap();
        let used = pool.file().space().used;
        let (mut batch, _) = full(&pool, pool.gather_pages(), pool.take_ids(100));
        assert!(batch.try_take());
        let mut write = Box::pin(batch.write());
        assert!(write.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(write);
        assert_eq!(pool.file().space().used - used, 8 * PAGE as u64);
    })
    .unwrap();
}

#[test]
fn a_write_that_fails_poisons_and_publishes_nothing() {
    let sim = Sim::new(6);
    sim.run(async {
        let pool = create(&sim).await;
        pool.file().grow().await.unwrap();
        let first = pool.take_ids(100);
        let (batch, _) = full(&pool, pool.gather_pages(), first);
        sim.disk().fail_when(|point| (point.op == Op::Write).then_some(EIO));
        let Err(error) = write(&pool, batch).await else { panic!("the write failed") };
        assert_eq!(error.kind(), FileErrorKind::Poisoned);
        assert!(!pool.exists(first));
    })
    .unwrap();
}
