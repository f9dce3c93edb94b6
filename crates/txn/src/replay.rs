//! Replaying the log: what its records come to, in one epoch, with nobody else there (I5).
//!
//! What a record says is applied as it stands: it is an outcome that was decided when it was logged.
//! Nothing is logged anew, and no superblock is written.
//!
//! Records that write keys, which is nearly all of them, are gathered into a [`Window`] and applied
//! together, in the order of the keys ([`Applying`]). While one window is being applied, the next one is
//! read and sorted. A record that does anything else to a tree, or to which trees there are, waits until
//! everything before it is applied, and everything behind it waits for that.

use std::sync::Arc;

use treering_blink::{Edit, Forest, Reference, Stored, TreeRef};
use treering_pagefile::{CheckpointInfo, Disk, Runtime};

use crate::body::Entry;
use crate::catalog::Catalog;
use crate::error::Error;
use crate::load::Loads;
use crate::log::{KeptSegment, LogReader};
use crate::observe::Reporter;
use crate::open::Posting;
use crate::replay_apply::{Applier, Applying, Run};
use crate::replay_catalog::unknown_tree;
use crate::replay_large::{adopt_value, decode_record, retire_values};
use crate::replay_window::Window;

/// Recovery under way: one epoch, no log.
pub(crate) struct Replay {
    pub(crate) forest: Arc<Forest>,
    pub(crate) catalog: Catalog,
    /// Bulk loads that are not committed, as far as the log has been replayed.
    pub(crate) loads: Loads,
    pub(crate) epoch: u64,
    pub(crate) posting: Posting,
    pub(crate) runtime: Arc<dyn Runtime>,
}

/// What a replay came to.
pub(crate) struct Replayed {
    /// How many records.
    pub(crate) records: u64,
    /// The last sequence.
    pub(crate) sequence: u64,
    /// The log's segments: the highest number, and those that were read.
    pub(crate) last_segment: u64,
    pub(crate) segments: Vec<KeptSegment>,
}

/// The next part of the log, and how far it goes.
struct Gathered {
    window: Window,
    /// References that no leaf gets, as something else was written before anybody saw them.
    unused: Vec<Reference>,
    next: Next,
    at: Position,
}

/// What comes behind a window.
enum Next {
    Window,
    /// A record that has its turn before anything behind it.
    Record(Vec<u8>),
    End,
}

/// How far the log is read.
#[derive(Clone, Copy)]
struct Position {
    records: u64,
    sequence: u64,
    bytes: u64,
}

impl Replay {
    /// Applies what is in the log behind the checkpoint. `reporter` makes the one who reports on it, for
    /// so many bytes at most.
    pub(crate) async fn run(
        &mut self,
        disk: Arc<dyn Disk>,
        checkpoint: CheckpointInfo,
        reporter: impl FnOnce(u64) -> Reporter,
    ) -> Result<Replayed, Error> {
        let CheckpointInfo { incarnation, log, sequence, .. } = checkpoint;
        let mut reader = LogReader::open(disk, incarnation, log, sequence).await?;
        let mut reporter = reporter(reader.bytes_at_most());
        let applier = self.applier();
        let mut at = Position { records: 0, sequence, bytes: 0 };
        let mut applying: Option<Applying> = None;
        loop {
            let gathered = self.gather(&mut reader, at).await;
            // Whatever that came to: nobody goes on changing pages behind the end of this.
            if let Some(applying) = applying.take() {
                applying.end(&applier).await?;
                reporter.at(at.bytes, at.records);
            }
            let Gathered { window, unused, next, at: here } = gathered?;
            retire_values(self.forest.pool(), &unused, self.epoch);
            let begun = self.begin(&applier, window)?;
            at = here;
            if let Next::Window = next {
                applying = Some(begun);
                continue;
            }
            begun.end(&applier).await?;
            reporter.at(at.bytes, at.records);
            if let Next::Record(body) = next {
                self.apply_in_turn(at.sequence, &body).await?;
                continue;
            }
            let took = reporter.end(at.bytes, at.records);
            let Position { records, sequence, bytes } = at;
            if records > 0 {
                let took_ms = took.as_millis() as u64;
                tracing::info!(
                    replayed = records,
                    sequence,
                    bytes,
                    took_ms,
                    "recovered from the log"
                );
            }
            let (last_segment, segments) = (reader.last_segment(), reader.segments_in_use());
            return Ok(Replayed { records, sequence, last_segment, segments });
        }
    }

    /// Reads a window, from the position `at` on.
    async fn gather(&self, reader: &mut LogReader, mut at: Position) -> Result<Gathered, Error> {
        let pool = self.forest.pool();
        let cache = pool.frame_count() * pool.page_size();
        let most = (cache / WINDOW_SHARE).clamp(WINDOW_MIN, WINDOW_MAX);
        let mut window = Window::default();
        let next = loop {
            if window.memory() >= most {
                break Next::Window;
            }
            let Some((sequence, body)) = reader.next_in_place().await? else { break Next::End };
            (at.records, at.sequence) = (at.records + 1, sequence);
            if !decode_record(sequence, body)
                .all(|entry| entry.is_ok_and(|entry| Window::takes(&entry)))
            {
                break Next::Record(body.to_vec());
            }
            for entry in decode_record(sequence, body) {
                let entry = entry?;
                if let Entry::PutLarge { value, runs, .. } = entry {
                    adopt_value(pool, value, runs, self.epoch)?;
                }
                window.add(&entry);
            }
        };
        at.bytes = reader.bytes_read();
        let unused = window.sort();
        Ok(Gathered { window, unused, next, at })
    }

    /// Begins to apply a window.
    fn begin(&self, applier: &Applier, window: Window) -> Result<Applying, Error> {
        let processors = self.runtime.processors();
        let most = (window.len() / (processors * RUNS_A_TASK)).clamp(RUN_MIN, RUN_MAX);
        let mut runs = Vec::new();
        let mut start = 0;
        while start < window.len() {
            let id = window.tree(start);
            let end = window.end_of_tree(start);
            if self.catalog.was_dropped(id) {
                // A write that was under way when the tree was dropped may come after that in the log.
                // No leaf gets its reference.
                let references: Vec<_> =
                    (start..end).filter_map(|at| window.reference(at)).collect();
                retire_values(self.forest.pool(), &references, self.epoch);
            } else {
                let tree = self.catalog.by_id(id).ok_or_else(|| unknown_tree(id))?;
                let starts = (start..end).step_by(most);
                runs.extend(starts.map(|at| Run { tree, writes: at..end.min(at + most) }));
            }
            start = end;
        }
        Ok(Applying::begin(applier, &*self.runtime, window, runs))
    }

    /// Applies a record that is in no window.
    async fn apply_in_turn(&mut self, sequence: u64, body: &[u8]) -> Result<(), Error> {
        for entry in decode_record(sequence, body) {
            match entry? {
                Entry::Put { tree, key, value } => {
                    self.edit(tree, key, Some(value.into())).await?;
                }
                Entry::PutLarge { tree, key, value, runs } => {
                    adopt_value(self.forest.pool(), value, runs, self.epoch)?;
                    if self.catalog.was_dropped(tree) {
                        // As in `edit`: no leaf gets the reference.
                        retire_values(self.forest.pool(), &[*value], self.epoch);
                        continue;
                    }
                    self.edit(tree, key, Some(Stored::Overflow(value))).await?;
                }
                Entry::Delete { tree, key } => self.edit(tree, key, None).await?,
                Entry::CreateTree { tree, name, options } => {
                    self.create_tree(tree, name, options).await?;
                }
                Entry::RenameTree { tree, name } => self.rename_tree(tree, name).await?,
                Entry::DropTree { tree, id } => self.drop_tree(tree, id).await?,
                Entry::DeleteRange { tree, from, to } => self.clear_range(tree, from, to).await?,
                Entry::BigBatch { body, .. } => self.big_batch(body).await?,
                Entry::Load { tree, id, top } => self.commit_load(tree, id, top).await?,
            }
        }
        Ok(())
    }

    pub(crate) fn applier(&self) -> Applier {
        let (epoch, posting) = (self.epoch, self.posting);
        Applier { forest: Arc::clone(&self.forest), epoch, posting }
    }

    /// Gives a key its value, or takes it away.
    pub(crate) async fn edit(
        &self,
        tree: u32,
        key: &[u8],
        value: Option<Stored<'_>>,
    ) -> Result<(), Error> {
        if self.catalog.was_dropped(tree) {
            // As in `begin`.
            return Ok(());
        }
        let tree = self.catalog.by_id(tree).ok_or_else(|| unknown_tree(tree))?;
        self.edit_all(tree, &[Edit { index: 0, key, value }]).await
    }

    /// As [`Applier::edit_all`].
    pub(crate) async fn edit_all(&self, tree: TreeRef, edits: &[Edit<'_>]) -> Result<(), Error> {
        self.applier().edit_all(tree, edits).await
    }
}

/// The part of the cache that a window may take; there are two, one that is applied and one that is read.
const WINDOW_SHARE: usize = 16;
/// Bytes of a window at least and at most, but for its last record.
const WINDOW_MIN: usize = 4 << 10;
const WINDOW_MAX: usize = 16 << 20;
/// A task takes so many runs of a window, so that none is at work much longer than the others.
const RUNS_A_TASK: usize = 8;
/// Writes in a run, but for the last of a tree.
const RUN_MIN: usize = 16;
const RUN_MAX: usize = 4096;
