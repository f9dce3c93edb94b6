//! Replaying the log: its records in their order, in one epoch, with nobody else there (I5).
//!
//! What a record says is applied as it stands: it is an outcome that was decided when it was logged.
//! Nothing is logged anew, and no superblock is written.

use std::sync::Arc;

use event_listener::EventListener;
use treering_blink::{Blocked, Edit, Epochs, Forest, Step, Stored, TreeRef, Way};
use treering_pagefile::{CheckpointInfo, Disk};

use crate::body::Entry;
use crate::catalog::Catalog;
use crate::error::Error;
use crate::load::Loads;
use crate::log::{KeptSegment, LogReader};
use crate::observe::Reporter;
use crate::open::{Posting, wait_for};
use crate::read_only::check_cache;
use crate::replay_catalog::unknown_tree;
use crate::replay_large::{adopt_value, decode_record, retire_values};

/// Recovery under way: one epoch, no log.
pub(crate) struct Replay {
    pub(crate) forest: Arc<Forest>,
    pub(crate) catalog: Catalog,
    /// Bulk loads that are not committed, as far as the log has been replayed.
    pub(crate) loads: Loads,
    pub(crate) epoch: u64,
    pub(crate) posting: Posting,
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

impl Replay {
    /// Applies what is in the log behind the checkpoint. Returns how many records that were, the
    /// last sequence, and the log's segments. `reporter` makes the one who reports on it, for so many
    /// bytes at most.
    pub(crate) async fn run(
        &mut self,
        disk: Arc<dyn Disk>,
        checkpoint: CheckpointInfo,
        reporter: impl FnOnce(u64) -> Reporter,
    ) -> Result<(u64, u64, u64, Vec<KeptSegment>), Error> {
        let CheckpointInfo { incarnation, log, sequence, .. } = checkpoint;
        let mut reader = LogReader::open(disk, incarnation, log, sequence).await?;
        let mut reporter = reporter(reader.bytes_at_most());
        let (mut replayed, mut last) = (0, sequence);
        let mut window = Vec::new();
        let mut bytes = 0;
        loop {
            let record = reader.next().await?;
            let at_end = record.is_none();
            if let Some(record) = record {
                replayed += 1;
                last = record.sequence;
                bytes += record.body.len();
                window.push(record);
            }
            if at_end || window.len() >= WINDOW || bytes >= WINDOW_BYTES {
                self.apply(&window).await?;
                window.clear();
                bytes = 0;
                reporter.at(reader.bytes_read(), replayed);
            }
            if at_end {
                let took = reporter.end(reader.bytes_read(), replayed);
                if replayed > 0 {
                    let (bytes, took_ms) = (reader.bytes_read(), took.as_millis() as u64);
                    tracing::info!(
                        replayed,
                        sequence = last,
                        bytes,
                        took_ms,
                        "recovered from the log"
                    );
                }
                return Ok((replayed, last, reader.last_segment(), reader.segments_in_use()));
            }
        }
    }

    async fn apply(&mut self, records: &[crate::log::Record]) -> Result<(), Error> {
        let mut entries = Vec::new();
        for record in records {
            entries.extend(decode_record(record)?);
        }
        self.read_ahead(&entries).await?;
        for entry in entries {
            match entry {
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

    /// Loads the leaves of many entries at once, level by level, a share of the pool at most.
    async fn read_ahead(&self, entries: &[Entry<'_>]) -> Result<(), Error> {
        let pool = self.forest.pool();
        let at_once = pool.frame_count() / 4;
        let keys = entries.iter().filter_map(|entry| match *entry {
            Entry::Put { tree, key, .. }
            | Entry::PutLarge { tree, key, .. }
            | Entry::Delete { tree, key } => Some((self.catalog.by_id(tree)?, key)),
            _ => None,
        });
        let keys: Vec<_> = keys.take(at_once).collect();
        let mut ways = vec![Way::default(); keys.len()];
        let mut value = Vec::new();
        for _level in 0..u8::MAX {
            let mut absent = Vec::new();
            for (&(tree, key), way) in keys.iter().zip(&mut ways) {
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
        Ok(())
    }

    /// Gives a key its value, or takes it away.
    pub(crate) async fn edit(
        &self,
        tree: u32,
        key: &[u8],
        value: Option<Stored<'_>>,
    ) -> Result<(), Error> {
        if self.catalog.was_dropped(tree) {
            // A write that was under way when the tree was dropped may come after that in the log.
            return Ok(());
        }
        let tree = self.catalog.by_id(tree).ok_or_else(|| unknown_tree(tree))?;
        self.edit_all(tree, &[Edit { index: 0, key, value }]).await
    }

    pub(crate) async fn edit_all(&self, tree: TreeRef, edits: &[Edit<'_>]) -> Result<(), Error> {
        let pool = self.forest.pool();
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
        let pool = self.forest.pool();
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
        let plan = match leaves.plan(self.epoch, edits) {
            Ok(plan) => plan,
            Err(blocked) => return Ok(Err(blocked)),
        };
        let pool = self.forest.pool();
        let retire = |references: &[_]| retire_values(pool, references, self.epoch);
        let split = plan.commit(self.epoch, retire);
        match self.posting {
            Posting::Now => {
                self.forest.post_now(|id| self.catalog.by_id(id), split, &OneEpoch(self.epoch));
            }
            Posting::Later => split.into_iter().for_each(|left| self.forest.report_unposted(left)),
        }
        Ok(Ok(()))
    }
}

/// Log records that are replayed together, so that the leaves that they need load together.
const WINDOW: usize = 1024;
const WINDOW_BYTES: usize = 1 << 20;
