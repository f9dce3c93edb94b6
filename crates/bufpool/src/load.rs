//! Loading pages: a queue that belongs to the pool, and futures that only look.
//!
//! A [`Fetch`] puts its page into the queue unless it is there already; everybody who wants the same
//! page shares one [`Load`]. Whoever can provide a frame (a fetch, a completion, an unpin) starts
//! the loads at the head of the queue, so no future has to be polled for a load to go on (I10).
//!
//! Loads must not outrun those who wait for them: in a pool with fewer frames than there are tasks,
//! a page would be evicted for the next load before its own waiter has been polled, which then asks
//! for it again, and nearly all reads would be in vain. So a page that was loaded for somebody is no
//! victim until somebody has looked at it, and loads start only while at most half of the frames are
//! being loaded or hold such pages. Who asked may never look (I1): then the page's grace ends, which
//! the cleaner sees to.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use treering_latch::planted_bug;
use treering_latch::sync::Mutex;
use treering_pagefile::{FileError, FileErrorKind, IoBuf, Lane, Op, PageId, Request, verify};

use crate::frame::{FRESH, REFERENCED};
use crate::guard::OwnedPin;
use crate::pool::{Pool, load_token, lock};
use crate::table::Place;
use crate::writeback::stopped;

/// One page on its way into the pool.
pub(crate) struct Load {
    page: PageId,
    state: Mutex<LoadState>,
}

#[derive(Default)]
struct LoadState {
    done: Option<Result<(), FileError>>,
    wakers: Vec<Waker>,
}

/// The loads that have not ended.
#[derive(Default)]
pub(crate) struct LoadQueue {
    by_page: HashMap<PageId, Arc<Load>>,
    /// Those that wait for a frame, first come, first served.
    waiting: VecDeque<Arc<Load>>,
}

/// Resolves when a page has been loaded (it may have been evicted again by the time this is polled:
/// look, and fetch again). Resolves at once when the page is resident or does not exist.
///
/// Dropping it abandons the result; the read goes on for others and for the pool. Holding it
/// unpolled keeps nobody waiting.
pub struct Fetch {
    pool: Arc<Pool>,
    page: PageId,
    load: Option<Arc<Load>>,
}

impl Pool {
    /// Asks for a page.
    pub fn fetch(self: &Arc<Self>, page: PageId) -> Fetch {
        Fetch { pool: Arc::clone(self), page, load: None }
    }

    /// Asks for many pages at once: all reads are submitted together, in the first poll.
    ///
    /// # Errors
    /// The first failed read.
    pub async fn fetch_many(self: &Arc<Self>, pages: &[PageId]) -> Result<(), FileError> {
        let loads: Vec<_> = {
            let mut queue = lock(&self.loads);
            pages.iter().filter_map(|&page| queue.want(self, page)).collect()
        };
        self.start_loads();
        self.file.disk().reap();
        for load in loads {
            let page = load.page;
            Fetch { pool: Arc::clone(self), page, load: Some(load) }.await?;
        }
        Ok(())
    }

    /// Loads a page and pins it; for engine tasks, which may hold pins across awaits within the
    /// credits that they took (I10).
    ///
    /// # Errors
    /// When the page cannot be read or is damaged. `Ok(None)`: there is no such page.
    pub async fn fetch_pinned(
        self: &Arc<Self>,
        page: PageId,
    ) -> Result<Option<OwnedPin>, FileError> {
        loop {
            if let Some(pin) = self.try_pin_owned(page) {
                return Ok(Some(pin));
            }
            if self.table.place(page) == Place::Free {
                return Ok(None);
            }
            self.fetch(page).await?;
        }
    }

    /// Asks for pages that will be wanted soon, without waiting for them. Says no, and does nothing,
    /// while loads that somebody waits for have no frame.
    pub fn prefetch(&self, pages: &[PageId]) -> bool {
        let absent = |page: &&PageId| matches!(self.table.place(**page), Place::Disk(_));
        let mut absent = pages.iter().filter(absent).peekable();
        if absent.peek().is_none() {
            return true;
        }
        {
            let mut queue = lock(&self.loads);
            if !queue.waiting.is_empty() {
                return false;
            }
            for &page in absent {
                queue.want(self, page);
            }
        }
        self.start_loads();
        true
    }

    /// Whether the page is in memory.
    #[inline]
    pub fn is_resident(&self, page: PageId) -> bool {
        matches!(self.table.place(page), Place::Resident(_))
    }

    /// Whether the page is in memory by now, or somebody has asked for it.
    pub fn is_coming(&self, page: PageId) -> bool {
        !matches!(self.table.place(page), Place::Disk(_))
            || lock(&self.loads).by_page.contains_key(&page)
    }

    /// Starts as many waiting loads as there are frames for, in one submission.
    pub(crate) fn start_loads(&self) {
        let mut requests = Vec::new();
        loop {
            if lock(&self.loads).waiting.is_empty() {
                self.starving.store(false, Ordering::SeqCst);
                // Somebody may have queued a load between the look and the store, and have found
                // no frame before that: then the frame found below is for it.
                if lock(&self.loads).waiting.is_empty() {
                    break;
                }
            }
            let claim = || {
                self.claim_frame().or_else(|| {
                    self.starving.store(true, Ordering::SeqCst);
                    // A frame that came free between the first look and the store was not offered.
                    self.claim_frame()
                })
            };
            let claimed = if self.is_crowded() { None } else { claim() };
            let Some(index) = claimed else {
                self.clean_wanted.notify(1);
                if let Err(error) = self.health.check() {
                    self.fail_waiting(&error);
                } else if self.stopping.load(Ordering::SeqCst) {
                    self.fail_waiting(&stopped());
                }
                break;
            };
            self.load_into(index, &mut requests);
        }
        if !requests.is_empty() {
            self.load_count.fetch_add(requests.len() as u64, Ordering::Relaxed);
            self.file.disk().submit(Lane::Foreground, &mut requests);
        }
    }

    /// Whether loads have to wait until some pages have been seen; [`Pool::seen`] goes on with them.
    fn is_crowded(&self) -> bool {
        let most = self.frames.len() / 2;
        if self.unseen.load(Ordering::SeqCst) < most {
            return false;
        }
        self.crowded.store(true, Ordering::SeqCst);
        // Pages that were seen between the first look and the store did not start the loads.
        self.unseen.load(Ordering::SeqCst) >= most
    }

    /// So many pages have been seen, or will not be waited for any longer.
    pub(crate) fn seen(&self, count: usize) {
        self.unseen.fetch_sub(count, Ordering::SeqCst);
        self.frame_freed();
    }

    /// The pages that nobody has seen yet.
    pub(crate) fn unseen_pages(&self) -> Vec<(u32, PageId)> {
        let frames = self.frames.iter().enumerate();
        let fresh = frames.filter(|(_, frame)| frame.warmth.load(Ordering::SeqCst) == FRESH);
        fresh.map(|(index, frame)| (index as u32, frame.page())).collect()
    }

    /// Ends the grace of those that still nobody has seen.
    pub(crate) fn end_grace(&self, pages: &[(u32, PageId)]) {
        let mut count = 0;
        for &(index, page) in pages {
            let frame = &self.frames[index as usize];
            count += usize::from(frame.page() == page && frame.touch());
        }
        if count > 0 {
            self.seen(count);
        }
    }

    /// I8: nothing makes room any more, so whoever waits for it is told.
    pub(crate) fn fail_waiting(&self, error: &FileError) {
        let failed: Vec<_> = {
            let mut queue = lock(&self.loads);
            let waiting = std::mem::take(&mut queue.waiting);
            waiting.into_iter().inspect(|load| drop(queue.by_page.remove(&load.page))).collect()
        };
        for load in failed {
            load.finish(Err(error.clone()));
        }
    }

    /// A claimed frame is of no use after all.
    fn give_back(&self, index: u32) {
        lock(&self.empty).push(index);
        if self.frames_wanted.swap(false, Ordering::SeqCst) {
            self.relief.notify(usize::MAX);
        }
    }

    /// Gives the claimed frame `index` to the load at the head of the queue.
    fn load_into(&self, index: u32, requests: &mut Vec<Request>) {
        let Some(load) = lock(&self.loads).waiting.pop_front() else {
            self.give_back(index);
            return;
        };
        let place = self.table.place(load.page);
        let Place::Disk(extent) = place else {
            // The page was freed while it waited: whoever wanted it descends again.
            lock(&self.loads).by_page.remove(&load.page);
            self.give_back(index);
            load.finish(Ok(()));
            return;
        };
        let frame = &self.frames[index as usize];
        self.unseen.fetch_add(1, Ordering::SeqCst);
        // Before the word says so: whoever sees the page loading finds its extent in the frame.
        frame.set_page(load.page);
        frame.set_extent(Some(extent));
        let changed = self.table.change(load.page, place, Place::Loading(index));
        assert!(changed, "only its one load moves {} from disk", load.page);
        let owner: Arc<dyn std::any::Any + Send + Sync> = Arc::clone(&self.memory) as _;
        let start = self.memory.frame(index as usize);
        // SAFETY: the frame is claimed and its page's word says `Loading`, so nobody writes it and
        // whoever still reads it throws the result away; the memory is kept alive by `owner`.
        let buf = unsafe { IoBuf::shared(start, self.page_size(), owner) };
        requests.push(Request {
            file: self.file.file(),
            op: Op::Read,
            offset: extent.offset,
            buf,
            done: self.arc(),
            token: load_token(index),
        });
    }

    /// A read has ended: the page becomes resident, or the frame empty again.
    pub(crate) fn finish_load(&self, index: u32, result: io::Result<()>) {
        let frame = &self.frames[index as usize];
        let page = frame.page();
        let outcome = self.check_loaded(index, page, result);
        let extent = frame.extent().expect("a frame being loaded has its page's extent");
        let next = match outcome {
            Ok(()) => Place::Resident(index),
            Err(_) => Place::Disk(extent),
        };
        if planted_bug!(LoadForgottenTooEarly) {
            let forgotten = lock(&self.loads).by_page.remove(&page);
            forgotten.into_iter().for_each(|load| load.finish(Ok(())));
        }
        let (load, waited_for) = {
            // Together, so that `want` never sees a page loading without its load.
            let mut queue = lock(&self.loads);
            let load = queue.by_page.remove(&page);
            let waited_for = load.as_ref().is_some_and(|load| Arc::strong_count(load) > 1);
            if outcome.is_ok() {
                let warmth = if waited_for { FRESH } else { REFERENCED };
                frame.warmth.store(warmth, Ordering::SeqCst);
                // Before the word says so: whoever sees the page resident can pin it.
                frame.unclaim();
            } else {
                frame.set_page(PageId::NONE);
            }
            let changed = self.table.change(page, Place::Loading(index), next);
            assert!(changed, "only its one load moves {page} on");
            (load, waited_for)
        };
        let unseen = outcome.is_ok() && waited_for;
        if outcome.is_err() {
            self.give_back(index);
        }
        if let Some(load) = load {
            load.finish(outcome);
        }
        if !unseen {
            self.seen(1);
        } else if self.crowded.load(Ordering::SeqCst) {
            // Its grace begins. Either this sees that a load waits, or the cleaner, which is told
            // after `crowded` is set, sees that the page is fresh.
            self.clean_wanted.notify(1);
        }
    }

    /// I7: checksum, identity and stamp.
    fn check_loaded(
        &self,
        index: u32,
        page: PageId,
        result: io::Result<()>,
    ) -> Result<(), FileError> {
        let extent = self.frames[index as usize].extent();
        let offset = extent.map_or(0, |extent| extent.offset);
        let name = || self.file.disk().describe(self.file.file());
        result.map_err(|source| {
            FileError::io(format!("reading {page} at byte {offset} of {}", name()), source)
        })?;
        // SAFETY: the frame is claimed and its read has ended, so nobody writes it.
        let bytes = unsafe { self.memory.bytes(index as usize) };
        verify(bytes, page, self.table.stamp(page)).map_err(|damage| {
            FileError::new(
                FileErrorKind::Damaged,
                format!(
                    "{page} at byte {offset} of {} is damaged: {damage}; restore it from a backup",
                    name()
                ),
            )
        })
    }
}

impl LoadQueue {
    /// The load of `page`, made if need be; `None` when the page is resident or free.
    fn want(&mut self, pool: &Pool, page: PageId) -> Option<Arc<Load>> {
        if let Some(load) = self.by_page.get(&page) {
            return Some(Arc::clone(load));
        }
        match pool.table.place(page) {
            Place::Resident(_) | Place::Free | Place::Overflow(_) => None,
            Place::Loading(_) => unreachable!("{page} is being loaded, but by nobody"),
            Place::Disk(_) => {
                let load = Arc::new(Load { page, state: Mutex::default() });
                self.by_page.insert(page, Arc::clone(&load));
                self.waiting.push_back(Arc::clone(&load));
                Some(load)
            }
        }
    }
}

impl Load {
    fn finish(&self, outcome: Result<(), FileError>) {
        let too_soon =
            planted_bug!(LoadWakesTooSoon).then(|| std::mem::take(&mut lock(&self.state).wakers));
        let wakers = {
            let mut state = lock(&self.state);
            state.done = Some(outcome);
            if planted_bug!(LoadWakesOne) {
                state.wakers.truncate(1);
            }
            let wakers = std::mem::take(&mut state.wakers);
            too_soon.unwrap_or(wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Future for Fetch {
    type Output = Result<(), FileError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.load.is_none() {
            let load = lock(&self.pool.loads).want(&self.pool, self.page);
            let Some(load) = load else { return Poll::Ready(Ok(())) };
            self.load = Some(load);
            self.pool.start_loads();
        }
        self.pool.file.disk().reap();
        let Some(load) = &self.load else { return Poll::Ready(Ok(())) };
        let mut state = lock(&load.state);
        if let Some(outcome) = &state.done {
            return Poll::Ready(outcome.clone());
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
