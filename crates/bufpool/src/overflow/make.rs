//! Writing a value: page by page as its bytes come in, with a bounded number of I/Os on their way.
//!
//! [`ValueMaker`] is driven by an engine task. It never waits for space: [`ValueMaker::try_take`]
//! takes extents, or says that there are none, and [`ValueMaker::write`] goes as far as those that
//! were taken last. What is on its way to disk is waited for before anything is given back, for an
//! extent with a write in flight is nobody else's.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use treering_pagefile::{AlignedBuf, FileError, PageId, Room, seal};

use super::{HEADER_LEN, IO_BYTES, ValueRef, payload, write_header};
use crate::pool::Pool;
use crate::runs::{PageRun, push_run};
use crate::table::Place;

/// Writes of one value on their way at once.
const IN_FLIGHT: usize = 4;
/// Extents taken at once, in bytes: so long a run may be found for them.
const LOT_BYTES: usize = 4 << 20;

/// A value that is being written.
pub struct ValueMaker {
    pages: Pages,
    tree: u32,
    version: u64,
    room: Room,
    /// Bytes written so far.
    len: u64,
    /// Extents for the pages that come next.
    ahead: VecDeque<PageRun>,
    filling: Option<Filling>,
    in_flight: FuturesUnordered<BoxFuture<'static, Result<(), FileError>>>,
}

/// A value that is written, and not published yet. Dropping it gives everything back.
pub struct Written {
    pages: Pages,
    value: ValueRef,
    runs: Arc<[PageRun]>,
}

/// The buffer of an I/O, being filled.
struct Filling {
    buf: AlignedBuf,
    run: PageRun,
    /// Bytes of the value in it.
    used: usize,
}

/// What a value has taken, and gives back when it is dropped.
struct Pages {
    pool: Arc<Pool>,
    first: PageId,
    /// Ids taken from `first` on.
    ids: u64,
    /// Where the pages are that are written or on their way, in their order.
    runs: Vec<PageRun>,
    /// How many these are.
    sent: u64,
}

impl Pool {
    /// Begins a value of `tree` with at most `len_max` bytes. Its version is to be one that no value
    /// had before.
    pub fn make_value(self: &Arc<Self>, tree: u32, version: u64, len_max: u64) -> ValueMaker {
        let ids = len_max.max(1).div_ceil(payload(self.page_size()) as u64);
        let first = {
            // Together, so that whoever asks for the unattached values before all pages finds it.
            let mut state = self.values.lock();
            let first = self.table.take_ids(ids);
            state.making.insert(first.0, ids);
            first
        };
        ValueMaker {
            pages: Pages { pool: Arc::clone(self), first, ids, runs: Vec::new(), sent: 0 },
            tree,
            version,
            room: Room::Growing,
            len: 0,
            ahead: VecDeque::new(),
            filling: None,
            in_flight: FuturesUnordered::new(),
        }
    }
}

impl ValueMaker {
    /// Whether [`ValueMaker::write`] would take a byte.
    pub fn has_room(&self) -> bool {
        let open = self.filling.as_ref().is_some_and(|filling| filling.room(&self.pages.pool) > 0);
        open || !self.ahead.is_empty()
    }

    /// The value is gone soon, and what it is for gives more back than it takes (I13).
    #[must_use]
    pub fn to_shrink(mut self) -> Self {
        self.room = Room::Shrinking;
        self
    }

    /// Takes extents for `bytes` more, or for a part of them. False if there is no space for it: the
    /// file has to grow, or a checkpoint to free something.
    pub fn try_take(&mut self, bytes: u64) -> bool {
        let pool = &self.pages.pool;
        let page_size = pool.page_size();
        let wanted = bytes.div_ceil(payload(page_size) as u64).max(1);
        let lot = (LOT_BYTES / page_size).max(1);
        let mut count = usize::try_from(wanted).map_or(lot, |wanted| wanted.min(lot));
        // A part is better than none: a large value may take the last page of a full disk.
        let runs = loop {
            if let Some(runs) = pool.try_take_runs(count, self.room) {
                break runs;
            }
            if count == 1 {
                return false;
            }
            count = count.div_ceil(8);
        };
        self.ahead.extend(runs);
        true
    }

    /// Takes in the next bytes of the value, and says how many: fewer than all where extents have to
    /// be taken first.
    ///
    /// # Errors
    /// A write failed: the engine is poisoned (I8).
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<usize, FileError> {
        let whole = bytes.len();
        while !bytes.is_empty() {
            let pool = &self.pages.pool;
            let filling = match &mut self.filling {
                Some(filling) => filling,
                None => {
                    let Some(run) = next_io(&mut self.ahead, pool.page_size()) else { break };
                    let buf = AlignedBuf::zeroed(run.count as usize * pool.page_size());
                    self.filling.insert(Filling { buf, run, used: 0 })
                }
            };
            let taken = filling.fill(bytes, pool);
            bytes = &bytes[taken..];
            self.len += taken as u64;
            if filling.room(pool) == 0 {
                self.send();
                self.settle(IN_FLIGHT - 1).await?;
            }
        }
        Ok(whole - bytes.len())
    }

    /// Ends the value: all of it is written when this resolves, but not synced. What was taken and not
    /// needed is given back.
    ///
    /// # Errors
    /// A write failed: the engine is poisoned (I8).
    pub async fn finish(mut self) -> Result<Written, FileError> {
        self.send();
        self.settle(0).await?;
        self.give_back_ahead();
        let mut pages = self.take_pages();
        let pool = &pages.pool;
        let value = ValueRef { first: pages.first, len: self.len, version: self.version };
        let used = pages.sent;
        debug_assert_eq!(used, value.pages(pool.page_size()), "every byte is in its page");
        let rest = pages.ids - used;
        {
            let mut state = pool.values.lock();
            state.making.insert(pages.first.0, used);
            pool.table.return_ids(PageId(pages.first.0 + used), rest);
        }
        pages.ids = used;
        let runs = pages.runs.as_slice().into();
        Ok(Written { pages, value, runs })
    }

    /// Gives everything back, after what is on its way has landed.
    pub async fn abandon(mut self) {
        while self.in_flight.next().await.is_some() {}
    }

    /// Seals the pages that are filled and sends them off.
    fn send(&mut self) {
        let Some(Filling { mut buf, mut run, used }) = self.filling.take() else { return };
        let pages = &mut self.pages;
        let page_size = pages.pool.page_size();
        let count = used.div_ceil(payload(page_size));
        if count < run.count as usize {
            // The last pages of the value.
            let at = run.offset + (count * page_size) as u64;
            let stamp = run.stamp.wrapping_add(count as u32);
            self.ahead.push_front(PageRun { offset: at, count: run.count - count as u32, stamp });
            run.count = count as u32;
            if count == 0 {
                return;
            }
            let mut short = AlignedBuf::zeroed(count * page_size);
            short.copy_from_slice(&buf[..count * page_size]);
            buf = short;
        }
        let mut id = PageId(pages.first.0 + pages.sent);
        pages.sent += count as u64;
        for (page, (extent, stamp)) in buf.chunks_exact_mut(page_size).zip(run.pages(page_size)) {
            write_header(page, self.tree, self.version);
            seal(page, id, stamp);
            pages.pool.set_overflow(id, extent, stamp);
            id.0 += 1;
        }
        push_run(&mut pages.runs, run, page_size);
        let write = Arc::clone(&pages.pool).write_run(run, buf);
        self.in_flight.push(Box::pin(async move { write.await.map(drop) }));
    }

    /// Waits until no more than `most` writes are on their way.
    async fn settle(&mut self, most: usize) -> Result<(), FileError> {
        let mut failed = None;
        while self.in_flight.len() > most || failed.is_some() {
            match self.in_flight.next().await {
                Some(Err(error)) => failed = failed.or(Some(error)),
                Some(Ok(())) => {}
                None => break,
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn give_back_ahead(&mut self) {
        self.pages.pool.discard_runs(self.ahead.drain(..));
    }

    fn take_pages(&mut self) -> Pages {
        let pool = Arc::clone(&self.pages.pool);
        let nothing = Pages { pool, first: PageId::NONE, ids: 0, runs: Vec::new(), sent: 0 };
        std::mem::replace(&mut self.pages, nothing)
    }
}

impl Drop for ValueMaker {
    fn drop(&mut self) {
        self.give_back_ahead();
        if let Some(Filling { run, .. }) = self.filling.take() {
            self.pages.pool.discard_runs(std::iter::once(run));
        }
        if !self.in_flight.is_empty() {
            // The task was dropped half-way, with its runtime: these extents are still written to,
            // and are nobody's until the database is opened again.
            self.take_pages().keep();
        }
    }
}

impl Written {
    /// The reference that a leaf is to have.
    pub fn value(&self) -> ValueRef {
        self.value
    }

    /// Where its pages are.
    pub fn runs(&self) -> &[PageRun] {
        &self.runs
    }

    pub(super) fn into_published(mut self) -> (PageId, Arc<[PageRun]>) {
        // Nothing is given back any more.
        self.pages.ids = 0;
        self.pages.runs.clear();
        (self.pages.first, Arc::clone(&self.runs))
    }
}

impl Pages {
    /// Nothing of it is given back any more.
    fn keep(mut self) {
        self.ids = 0;
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.ids == 0 {
            return;
        }
        let mut id = self.first;
        let page_size = self.pool.page_size();
        for (extent, _) in self.runs.iter().flat_map(|run| run.pages(page_size)) {
            let freed = self.pool.table.change(id, Place::Overflow(extent), Place::Free);
            assert!(freed, "{id} is nobody else's");
            self.pool.file.discard_extent(extent);
            id.0 += 1;
        }
        let mut state = self.pool.values.lock();
        state.making.remove(&self.first.0);
        self.pool.table.return_ids(self.first, self.ids);
    }
}

impl Filling {
    /// Bytes of the value that still fit.
    fn room(&self, pool: &Pool) -> usize {
        self.run.count as usize * payload(pool.page_size()) - self.used
    }

    /// Takes in as many bytes as fit.
    fn fill(&mut self, mut bytes: &[u8], pool: &Pool) -> usize {
        let (page_size, payload) = (pool.page_size(), payload(pool.page_size()));
        let whole = bytes.len();
        while !bytes.is_empty() && self.room(pool) > 0 {
            let (page, at) = (self.used / payload, self.used % payload);
            let (now, later) = bytes.split_at(bytes.len().min(payload - at));
            let start = page * page_size + HEADER_LEN + at;
            self.buf[start..start + now.len()].copy_from_slice(now);
            self.used += now.len();
            bytes = later;
        }
        whole - bytes.len()
    }
}

/// The pages of the next I/O.
fn next_io(ahead: &mut VecDeque<PageRun>, page_size: usize) -> Option<PageRun> {
    let most = (IO_BYTES / page_size).max(1) as u32;
    let run = ahead.pop_front()?;
    if run.count <= most {
        return Some(run);
    }
    ahead.push_front(PageRun {
        offset: run.offset + u64::from(most) * page_size as u64,
        count: run.count - most,
        stamp: run.stamp.wrapping_add(most),
    });
    Some(PageRun { count: most, ..run })
}
