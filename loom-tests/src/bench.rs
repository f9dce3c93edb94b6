//! A small real pool over a [`Desk`]: what models of the pool are made on.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Word, Ordering::Relaxed as StdRelaxed};
use std::task::{Context, Poll, Waker};

use loom::sync::atomic::Ordering::Relaxed;
use treering_bufpool::{ExclusivePage, PinnedPage, Pool, PoolOptions, Read};
use treering_pagefile::{Disk, Health, MapEntry, PageFile, PageId, Room, seal};

use crate::desk::{Desk, PAGE, VALUE};

/// A pool and what is under it.
#[derive(Clone)]
pub struct Bench {
    /// The disk.
    pub desk: Arc<Desk>,
    /// The pool.
    pub pool: Arc<Pool>,
}

/// What is in a page that nobody has changed.
pub fn original(page: u64) -> u64 {
    10 * page
}

impl Bench {
    /// A pool of so many frames over pages 1 to `pages`, which are on disk.
    pub fn new(frames: usize, pages: u64, staging: usize) -> Self {
        let desk = Desk::new(frames);
        let disk = Arc::clone(&desk) as Arc<dyn Disk>;
        let health = Arc::new(Health::default());
        let file = at_once(PageFile::create(disk, Arc::clone(&health), PAGE, 1));
        let file = file.expect("a disk in memory does not fail");
        let count = pages as usize;
        assert!(file.try_reserve(count, Room::Growing), "there is room");
        let mut extents = Vec::new();
        file.take_extents(count, &mut extents);
        let entries: Vec<MapEntry> = (1..=pages)
            .zip(extents)
            .map(|(id, extent)| {
                let (page, stamp) = (PageId(id), file.next_stamp());
                let mut bytes = [0; PAGE];
                for at in [VALUE, VALUE + 1] {
                    bytes[at * 8..][..8].copy_from_slice(&original(id).to_le_bytes());
                }
                seal(&mut bytes, page, stamp);
                desk.put(file.file(), extent.offset, &bytes);
                let entry = MapEntry { page, extent, stamp, overflow: false };
                file.record_written(entry, 0, None);
                entry
            })
            .collect();
        let options = PoolOptions { frames, staging, captures: staging };
        let pool = Pool::new(file, health, &entries, options).expect("there is memory");
        Self { desk, pool }
    }

    /// Brings pages into frames and has them looked at, while nothing else goes on.
    pub fn load(&self, pages: impl IntoIterator<Item = u64>) {
        for page in pages {
            at_once(self.pool.fetch(PageId(page))).expect("a disk in memory does not fail");
            assert_eq!(self.look(page), Read::Done(original(page)));
        }
    }

    /// One look, without waiting.
    pub fn look(&self, page: u64) -> Read<u64> {
        self.pool.read_page(PageId(page), |words| self.value(words))
    }

    /// The value of a page, loaded as optimistic readers load.
    pub fn value(&self, words: &[Word]) -> u64 {
        self.desk.beside(words.as_ptr().cast()).load(Relaxed)
    }

    /// A page as it is, without waiting for a load.
    pub fn pin(&self, page: u64) -> PinnedPage<'_> {
        self.pool.try_pin(PageId(page)).expect("it is in a frame")
    }

    /// Changes a page that is in a frame, in `epoch`.
    pub fn write(&self, page: u64, value: u64, epoch: u64) {
        let page = self.pin(page).write();
        page.prepare(epoch, Room::Growing).expect("there are room and a staging buffer");
        self.set(&page, value, epoch);
    }

    /// Looks, and fetches, until the page was there.
    pub async fn get(&self, page: u64) -> u64 {
        loop {
            match self.look(page) {
                Read::Done(value) => return value,
                Read::Absent => {
                    let fetched = self.pool.fetch(PageId(page)).await;
                    fetched.expect("a disk in memory does not fail");
                }
                Read::Free => panic!("{page} has gone"),
            }
        }
    }

    /// Changes a latched page in `epoch`, for which it was prepared. Both of its words say the same,
    /// and others may look between the two.
    pub fn set(&self, page: &ExclusivePage<'_>, value: u64, epoch: u64) {
        let words = page.words();
        words[VALUE].store(value, StdRelaxed);
        self.desk.beside(words.as_ptr().cast()).store(value, Relaxed);
        words[VALUE + 1].store(value, StdRelaxed);
        page.changed(epoch);
    }
}

/// What a future comes to that does not have to wait.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it has to wait"),
    }
}
