//! The engine's tasks that keep the trees in shape, one page at a time: they tell parents of splits
//! that the splitters could not post and of those that a crash left behind, and they merge pages
//! that deletes left underfull. No operation waits for them.
//!
//! On a full disk the same pages will be reported again and again. So when growing the file has
//! failed, it is not tried again before something has changed. For posting, no checkpoint is written
//! then. For merging, one is: it gives space back, if what was merged before becomes durable (I13).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::select;
use treering_blink::{Blocked, TreeError};
use treering_bufpool::Refusal;
use treering_pagefile::PageId;

use crate::engine::Engine;
use crate::error::Error;

/// What became of a step.
enum Tried<T> {
    Done(T),
    /// Somebody kept the page busy to the last.
    Busy,
    /// The disk is too full.
    Full,
    /// The tree is damaged, or the engine ends.
    Never,
}

/// What was the case when growing the file failed: the number of checkpoints and the length of the
/// file; for merging the last sequence and the number of merges.
type Stuck = Option<(u64, u64)>;

/// How a step gets space on a full disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Space {
    Grow,
    GrowOrCheckpoint,
}

impl Engine {
    /// The engine's posting task.
    pub(crate) async fn run_posting(self: Arc<Self>) {
        let mut stuck = None;
        loop {
            let reported = self.forest.unposted_reported();
            let closing = self.closing.listen();
            if self.check().is_err() {
                return;
            }
            let Some(left) = self.forest.take_unposted() else {
                drop(select(reported, closing).await);
                continue;
            };
            // If that cannot be done, the flag stays in the page, and who crosses the link next
            // reports it again.
            let post = || self.forest.post(|id| self.catalog.by_id(id), left, &*self.log);
            if let Tried::Done(more) = self.try_often(left, Space::Grow, &mut stuck, post).await {
                self.forest.post_now(|id| self.catalog.by_id(id), more, &*self.log);
            }
        }
    }

    /// The engine's merging task.
    pub(crate) async fn run_merging(self: Arc<Self>) {
        let mut stuck = None;
        // Pages that somebody keeps busy, and pages for which the disk is too full.
        let (mut busy, mut full) = (Vec::new(), Vec::new());
        loop {
            let reported = self.forest.underfull_reported();
            let closing = self.closing.listen();
            if self.check().is_err() {
                self.tidied.notify(usize::MAX);
                return;
            }
            let undisturbed = self.merging.enter_async().await;
            self.merging_now.store(true, Ordering::SeqCst);
            if let Some(page) = self.forest.take_underfull() {
                match self.merge_from(page, &mut stuck).await {
                    Tried::Busy => busy.push(page),
                    Tried::Full => full.push(page),
                    Tried::Done(()) | Tried::Never => {}
                }
                continue;
            }
            drop(undisturbed);
            let closing = select(reported, closing);
            if busy.is_empty() {
                self.merging_now.store(false, Ordering::SeqCst);
                self.tidied.notify(usize::MAX);
            }
            if busy.is_empty() && full.is_empty() {
                drop(closing.await);
            } else {
                drop(select(closing, self.runtime.sleep(MERGE_PAUSE)).await);
                busy.drain(..).chain(full.drain(..)).for_each(|page| {
                    self.forest.report_underfull(page);
                });
            }
        }
    }

    /// Resolves when all pages that had been reported as underfull have been merged, as far as that
    /// could be done. Dropping it changes nothing.
    ///
    /// # Errors
    /// When the engine ends before.
    pub async fn tidy(&self) -> Result<(), Error> {
        loop {
            let tidied = self.tidied.listen();
            self.check_writable()?;
            // In this order: what is not waiting any more is being dealt with, or has been.
            if !self.forest.has_underfull() && !self.merging_now.load(Ordering::SeqCst) {
                return Ok(());
            }
            tidied.await;
        }
    }

    /// Merges a page, and the pages that become underfull by that. Whether it has to be tried
    /// again later, the answer says.
    async fn merge_from(&self, page: PageId, stuck: &mut Stuck) -> Tried<()> {
        let mut pages = vec![page];
        let mut in_vain = 0;
        while let Some(page) = pages.pop() {
            let merge = || self.forest.merge(|id| self.catalog.by_id(id), page, &*self.log);
            let merged = match self.try_often(page, Space::GrowOrCheckpoint, stuck, merge).await {
                Tried::Done(merged) => merged,
                Tried::Busy => return Tried::Busy,
                Tried::Full => return Tried::Full,
                Tried::Never => return Tried::Never,
            };
            self.forest.post_now(|id| self.catalog.by_id(id), merged.unposted, &*self.log);
            if merged.changed {
                self.merges.fetch_add(1, Ordering::Relaxed);
                in_vain = 0;
            } else {
                in_vain += 1;
            }
            // An only child waits for its parent, which may wait for its own: no tree is higher.
            if in_vain < IN_VAIN_MAX {
                pages.extend(merged.next.into_iter().rev());
            }
        }
        Tried::Done(())
    }

    /// Whether there may be more space now.
    async fn find_space(&self, space: Space, stuck: &mut Stuck) -> bool {
        let now = match space {
            Space::Grow => (self.checkpoints.count(), self.pool().file().space().file),
            Space::GrowOrCheckpoint => {
                (self.log.last_sequence(), self.merges.load(Ordering::Relaxed))
            }
        };
        if *stuck == Some(now) {
            return false;
        }
        if self.pool().file().grow().await.is_ok() {
            return true;
        }
        *stuck = Some(now);
        space == Space::GrowOrCheckpoint && self.checkpoint().await.is_ok()
    }

    /// Takes a step until it is done, waiting for what it lacks.
    async fn try_often<T>(
        &self,
        page: PageId,
        space: Space,
        stuck: &mut Stuck,
        step: impl Fn() -> Result<Result<T, Blocked>, TreeError>,
    ) -> Tried<T> {
        for _ in 0..TRIES {
            let relief = self.pool().relief();
            if self.check().is_err() {
                return Tried::Never;
            }
            match step() {
                Ok(Ok(done)) => return Tried::Done(done),
                Ok(Err(Blocked::Fetch(pages))) => {
                    if self.pool().fetch_many(&pages).await.is_err() {
                        return Tried::Never;
                    }
                }
                Ok(Err(Blocked::Refused(Refusal::Space))) => {
                    if !self.find_space(space, stuck).await {
                        return Tried::Full;
                    }
                }
                Ok(Err(Blocked::Refused(refusal))) => {
                    if self.pool().wait_for_relief(refusal, relief).await.is_err() {
                        return Tried::Never;
                    }
                }
                Ok(Err(Blocked::Moved | Blocked::TooManyLeaves)) => {}
                Err(error) => {
                    tracing::error!(%error, %page, "the shape of a tree could not be mended");
                    return Tried::Never;
                }
            }
        }
        Tried::Busy
    }
}

/// How often a step is tried.
const TRIES: usize = 64;
/// Steps in a row that change nothing, at most.
const IN_VAIN_MAX: usize = 64;
/// How long a page that could not be merged is left alone.
const MERGE_PAUSE: Duration = Duration::from_millis(5);
