//! Applying a window of the log: leaf by leaf, by as many tasks as there are processors.
//!
//! The window's writes are cut into runs of neighbouring keys, and each task takes one run after the other.
//! They meet at most where two runs share a leaf, or a parent, as writers of a running database do; and
//! like those they own nothing while they wait.
//!
//! If the disk is full they end early. What they leave is then applied by the one task that began the
//! replay, edit by edit in the end: alone, it can write everything back and know that no page has two
//! extents meanwhile (see [`wait_for`]).

use std::ops::Range;
use std::sync::Arc;

use event_listener::EventListener;
use futures::channel::oneshot;
use tracing::Instrument;
use treering_blink::{Blocked, Edit, Epochs, Forest, Leaves, Step, TreeRef, Way};
use treering_bufpool::{Pool, Refusal};
use treering_latch::sync::atomic::{AtomicUsize, Ordering};
use treering_pagefile::{FileErrorKind, Runtime, yield_now};

use crate::error::Error;
use crate::open::{Posting, wait_for};
use crate::read_only::check_cache;
use crate::replay_large::retire_values;
use crate::replay_window::Window;

/// Changes pages for a replay.
#[derive(Clone)]
pub(crate) struct Applier {
    pub(crate) forest: Arc<Forest>,
    pub(crate) epoch: u64,
    pub(crate) posting: Posting,
}

/// Neighbouring writes of one tree.
pub(crate) struct Run {
    pub(crate) tree: TreeRef,
    /// Their numbers in the window.
    pub(crate) writes: Range<usize>,
}

/// A window that is being applied.
pub(crate) struct Applying {
    work: Arc<Work>,
    tasks: Vec<oneshot::Receiver<Result<Option<Run>, Error>>>,
}

struct Work {
    window: Window,
    runs: Vec<Run>,
    /// How many of them have been taken.
    taken: AtomicUsize,
    /// How many tasks take them.
    tasks: usize,
}

/// During replay there is one epoch, and nobody else.
struct OneEpoch(u64);

impl Epochs for OneEpoch {
    type Entered<'e> = ();

    fn current(&self) -> u64 {
        self.0
    }

    fn try_enter(&self, _epoch: u64) -> Option<()> {
        Some(())
    }
}

impl Applying {
    /// Begins to apply `runs` of a window, which is sorted.
    pub(crate) fn begin(
        applier: &Applier,
        runtime: &dyn Runtime,
        window: Window,
        runs: Vec<Run>,
    ) -> Self {
        let count = applier.tasks_max(runtime).min(runs.len());
        let taken = AtomicUsize::new(0);
        let work = Arc::new(Work { window, runs, taken, tasks: count.max(1) });
        let mut tasks = Vec::new();
        for _ in 0..if count > 1 { count } else { 0 } {
            let (done, ended) = oneshot::channel();
            let (applier, work) = (applier.clone(), Arc::clone(&work));
            let task = async move {
                // Whoever began the replay may be gone with it.
                let _ = done.send(applier.apply_runs(&work).await);
            };
            runtime.spawn_apart(Box::pin(task.in_current_span()));
            tasks.push(ended);
        }
        Self { work, tasks }
    }

    /// Resolves when all of the window is applied, or with the first error when nobody is at it any more.
    pub(crate) async fn end(self, applier: &Applier) -> Result<(), Error> {
        let (mut left, mut failure) = (Vec::new(), None);
        for task in self.tasks {
            match task.await {
                Ok(Ok(rest)) => left.extend(rest),
                Ok(Err(error)) => failure = failure.or(Some(error)),
                // The runtime has ended, or the task has panicked.
                Err(oneshot::Canceled) => failure = failure.or(Some(Error::Closed)),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let work = &self.work;
        for run in left.iter().chain(work.not_taken()) {
            applier.apply_run(work, run, true).await?;
            // The engine's thread has other tasks, too, that make room.
            yield_now().await;
        }
        Ok(())
    }
}

impl Work {
    fn take(&self) -> Option<&Run> {
        self.runs.get(self.taken.fetch_add(1, Ordering::Relaxed))
    }

    fn not_taken(&self) -> &[Run] {
        self.runs.get(self.taken.load(Ordering::Relaxed)..).unwrap_or_default()
    }
}

impl Applier {
    fn pool(&self) -> &Arc<Pool> {
        self.forest.pool()
    }

    /// How many tasks may apply a window at once.
    fn tasks_max(&self, runtime: &dyn Runtime) -> usize {
        let read_only = self.pool().file().is_read_only();
        let frames = if read_only { FRAMES_A_READ_ONLY_TASK } else { FRAMES_A_TASK };
        runtime.processors().min(self.pool().frame_count() / frames).clamp(1, TASKS_MAX)
    }

    /// Applies one run after the other until there is none, or the disk is full: then the rest of the
    /// last run comes back.
    async fn apply_runs(&self, work: &Work) -> Result<Option<Run>, Error> {
        while let Some(run) = work.take() {
            let at = self.apply_run(work, run, false).await?;
            if at < run.writes.end {
                return Ok(Some(Run { tree: run.tree, writes: at..run.writes.end }));
            }
            yield_now().await;
        }
        Ok(None)
    }

    /// Applies a run, and says how far: to its end, unless the disk is full and others are at work, too.
    async fn apply_run(&self, work: &Work, run: &Run, alone: bool) -> Result<usize, Error> {
        let pool = self.pool();
        let (mut at, mut ahead, end) = (run.writes.start, run.writes.start, run.writes.end);
        let (mut way, mut written) = (Way::default(), false);
        // From before the try, once one has been refused. Then one edit has to do.
        let mut relief: Option<EventListener> = None;
        while at < end {
            check_cache(pool)?;
            let last = if relief.is_some() || self.needs_all_frames() { at + 1 } else { end };
            let blocked = match self.try_leaf(work, run.tree, at..last, &mut way)? {
                Ok(done) => {
                    at += done;
                    (way, relief, written) = (Way::default(), None, false);
                    continue;
                }
                Err(blocked) => blocked,
            };
            let refusal = match blocked {
                Blocked::Moved | Blocked::TooManyLeaves => continue,
                Blocked::Fetch(_) if at >= ahead => {
                    ahead = self.read_ahead(work, run.tree, at..end).await?;
                    continue;
                }
                Blocked::Fetch(pages) => {
                    pool.fetch_many(&pages).await?;
                    continue;
                }
                Blocked::Refused(refusal) => refusal,
            };
            let Some(relief) = relief.take() else {
                relief = Some(pool.relief());
                continue;
            };
            if refusal == Refusal::Space && !alone {
                match pool.file().grow().await {
                    Err(error) if error.kind() == FileErrorKind::Full => return Ok(at),
                    grown => grown?,
                }
            } else {
                wait_for(pool, refusal, relief, self.epoch, &mut written).await?;
            }
        }
        Ok(at)
    }

    /// Whether so few frames are there for good that no more of them may be used than one edit needs.
    fn needs_all_frames(&self) -> bool {
        self.pool().file().is_read_only() && self.pool().frame_count() < FRAMES_A_READ_ONLY_TASK
    }

    /// Makes the first edit of a run, and those behind it that its leaf has, too, as long as they are not
    /// more than a page would hold. Returns how many that were.
    fn try_leaf(
        &self,
        work: &Work,
        tree: TreeRef,
        writes: Range<usize>,
        way: &mut Way,
    ) -> Result<Result<usize, Blocked>, Error> {
        let (window, mut room) = (&work.window, self.pool().page_size());
        let first = writes.start;
        let fitting = (first + 1..writes.end).take_while(|&at| {
            let size = window.size(at);
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        });
        let behind = fitting.map(|at| window.key(at));
        let leaves = match self.forest.latch_leaf(tree, window.key(first), behind, way)? {
            Ok(leaves) => leaves,
            Err(blocked) => return Ok(Err(blocked)),
        };
        let count = leaves.keys();
        let edits: Vec<_> = (0..count).map(|number| window.edit(first + number, number)).collect();
        Ok(self.change(tree, leaves, &edits).map(|()| count))
    }

    /// Loads the leaves of the first writes of a run, level by level: as many as a share of the pool has
    /// room for. Returns the number behind them.
    async fn read_ahead(
        &self,
        work: &Work,
        tree: TreeRef,
        writes: Range<usize>,
    ) -> Result<usize, Error> {
        let pool = self.pool();
        let most = (pool.frame_count() / 4 / work.tasks).clamp(1, READ_AHEAD_MAX);
        let writes = writes.start..writes.end.min(writes.start + most);
        let mut ways = vec![Way::default(); writes.len()];
        let mut value = Vec::new();
        for _level in 0..u8::MAX {
            let mut absent = Vec::new();
            for (at, way) in writes.clone().zip(&mut ways) {
                let key = work.window.key(at);
                if let Step::Fetch(pages) = self.forest.get(tree, key, way, &mut value)? {
                    absent.extend(pages);
                }
            }
            if absent.is_empty() {
                break;
            }
            absent.sort_unstable();
            absent.dedup();
            pool.fetch_many(&absent).await?;
        }
        Ok(writes.end)
    }

    /// Makes edits of one tree, in the order of their keys, one for each key.
    pub(crate) async fn edit_all(&self, tree: TreeRef, edits: &[Edit<'_>]) -> Result<(), Error> {
        let pool = self.pool();
        let (mut ways, mut written) = (Vec::new(), false);
        loop {
            check_cache(pool)?;
            let relief = pool.relief();
            let blocked = match self.try_edit(tree, edits, &mut ways)? {
                Ok(()) => return Ok(()),
                Err(blocked) => blocked,
            };
            self.wait_for(blocked, relief, &mut written).await?;
        }
    }

    /// Waits for what a step of the replay lacked. `relief` is from before the step; `written` is false
    /// at first, and belongs to one change.
    pub(crate) async fn wait_for(
        &self,
        blocked: Blocked,
        relief: EventListener,
        written: &mut bool,
    ) -> Result<(), Error> {
        let pool = self.pool();
        match blocked {
            Blocked::Fetch(pages) => pool.fetch_many(&pages).await?,
            Blocked::Refused(refusal) => {
                wait_for(pool, refusal, relief, self.epoch, written).await?;
            }
            Blocked::Moved | Blocked::TooManyLeaves => {}
        }
        Ok(())
    }

    fn try_edit(
        &self,
        tree: TreeRef,
        edits: &[Edit<'_>],
        ways: &mut Vec<Way>,
    ) -> Result<Result<(), Blocked>, Error> {
        let keys = edits.iter().map(|edit| (tree, edit.key));
        let leaves = match self.forest.latch_leaves(keys, ways, edits.len())? {
            Ok(leaves) => leaves,
            Err(blocked) => return Ok(Err(blocked)),
        };
        Ok(self.change(tree, leaves, edits))
    }

    /// Changes leaves, and tells parents of the splits that this makes.
    fn change(&self, tree: TreeRef, leaves: Leaves<'_>, edits: &[Edit<'_>]) -> Result<(), Blocked> {
        let plan = leaves.plan(self.epoch, edits)?;
        let retire = |references: &[_]| retire_values(self.pool(), references, self.epoch);
        let split = plan.commit(self.epoch, retire);
        match self.posting {
            Posting::Now => {
                let trees = |id| (id == tree.id).then_some(tree);
                self.forest.post_now(trees, split, &OneEpoch(self.epoch));
            }
            Posting::Later => split.into_iter().for_each(|left| self.forest.report_unposted(left)),
        }
        Ok(())
    }
}

/// However many processors there are: one task reads the log for all of them.
const TASKS_MAX: usize = 8;
/// Frames for each task at least: of one change, and of the pages on its way down.
const FRAMES_A_TASK: usize = 16;
/// Where nothing is written back, and each frame that a task has in hand is missing for good.
const FRAMES_A_READ_ONLY_TASK: usize = 512;
/// Writes whose leaves are loaded together.
const READ_AHEAD_MAX: usize = 1024;
