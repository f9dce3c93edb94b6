//! What the thread of a load does with the records: build from them as they come, or sort them first.

use std::path::Path;
use std::sync::Arc;

use treering_blink::TreeRef;
use treering_txn::{Batches, Durability, Engine, Finished, Load};

use super::LoadReport;
use super::merge::{Merge, Source};
use super::pack::{Pack, Sorted};
use super::run::{Run, RunWriter};
use crate::error::Error;

/// Runs that are merged at once.
const FAN_IN: usize = 64;

/// The records of a load, so far.
pub(super) struct Sorter {
    engine: Arc<Engine>,
    tree: TreeRef,
    /// Bytes that may be gathered.
    memory: usize,
    scratch: Arc<Path>,
    gathered: Vec<Pack>,
    gathered_bytes: usize,
    /// Whether all keys so far ascend; equal ones may follow one another.
    ascending: bool,
    last: Option<Vec<u8>>,
    runs: Vec<Stored>,
    building: Option<Building>,
    report: LoadReport,
}

/// What was put aside, in the order of its age.
enum Stored {
    Built(Box<Load>),
    Run(Run),
}

/// A tree in the making, and the last record, which may get another value yet.
struct Building {
    load: Load,
    keys: u64,
    pending: (Vec<u8>, Vec<u8>),
}

impl Building {
    /// Adds a record whose key is not less than those before.
    async fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if self.keys > 0 && self.pending.0 != key {
            self.load.push(&self.pending.0, &self.pending.1).await?;
        }
        if self.keys == 0 || self.pending.0 != key {
            self.keys += 1;
            self.pending.0.clear();
            self.pending.0.extend_from_slice(key);
        }
        self.pending.1.clear();
        self.pending.1.extend_from_slice(value);
        Ok(())
    }

    async fn end(mut self) -> Result<(Load, u64), Error> {
        if self.keys > 0 {
            self.load.push(&self.pending.0, &self.pending.1).await?;
        }
        Ok((self.load, self.keys))
    }
}

impl Sorter {
    pub(super) fn new(
        engine: &Arc<Engine>,
        tree: TreeRef,
        memory: usize,
        scratch: Arc<Path>,
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            tree,
            memory,
            scratch,
            gathered: Vec::new(),
            gathered_bytes: 0,
            ascending: true,
            last: None,
            runs: Vec::new(),
            building: None,
            report: LoadReport::default(),
        }
    }

    pub(super) async fn add(&mut self, pack: Pack) -> Result<(), Error> {
        self.ascending = self.ascending && self.follows(&pack);
        if let Some(building) = &mut self.building {
            if self.ascending {
                for at in 0..pack.len() {
                    let (key, value) = pack.get(at);
                    building.push(key, value).await?;
                }
                return Ok(());
            }
            self.stop_building().await?;
        }
        self.gathered_bytes += pack.bytes();
        self.gathered.push(pack);
        if self.gathered_bytes < self.memory {
            return Ok(());
        }
        if self.ascending && self.runs.is_empty() && self.engine.is_bare(self.tree).await? {
            return self.start_building().await;
        }
        self.spill().await
    }

    /// Whether the keys of a pack ascend, and go on where the last pack ended.
    fn follows(&mut self, pack: &Pack) -> bool {
        let mut keys = (0..pack.len()).map(|at| pack.get(at).0);
        let follows = keys.clone().is_sorted()
            && self.last.as_ref().is_none_or(|last| {
                keys.clone().next().is_none_or(|first| last.as_slice() <= first)
            });
        if let Some(key) = keys.next_back() {
            self.last = Some(key.to_vec());
        }
        follows
    }

    /// What was gathered ascends: it becomes pages.
    async fn start_building(&mut self) -> Result<(), Error> {
        let load = self.engine.load(self.tree)?;
        let building =
            self.building.insert(Building { load, keys: 0, pending: Default::default() });
        for pack in std::mem::take(&mut self.gathered) {
            for at in 0..pack.len() {
                let (key, value) = pack.get(at);
                building.push(key, value).await?;
            }
        }
        self.gathered_bytes = 0;
        Ok(())
    }

    /// A key does not ascend after all: what was built is one of the runs.
    async fn stop_building(&mut self) -> Result<(), Error> {
        if let Some(building) = self.building.take() {
            let (mut load, _) = building.end().await?;
            load.build().await?;
            self.runs.push(Stored::Built(Box::new(load)));
        }
        Ok(())
    }

    /// Writes what was gathered to a temporary file.
    async fn spill(&mut self) -> Result<(), Error> {
        let mut writer = RunWriter::new(&self.scratch)?;
        let records = Sorted::new(std::mem::take(&mut self.gathered));
        self.gathered_bytes = 0;
        for at in 0..records.len() {
            let (key, value) = records.get(at);
            writer.push(key, value)?;
        }
        self.store(writer.finish(0)?);
        self.merge_runs().await
    }

    fn store(&mut self, run: Run) {
        self.report.spilled += run.bytes;
        self.runs.push(Stored::Run(run));
    }

    /// Merges the last runs if there are many, so that few are open at once.
    async fn merge_runs(&mut self) -> Result<(), Error> {
        loop {
            let mut levels = self.runs.iter().rev().map(|stored| match stored {
                Stored::Run(run) => Some(run.level),
                Stored::Built(_) => None,
            });
            let Some(Some(level)) = levels.next() else { return Ok(()) };
            if levels.take_while(|other| *other == Some(level)).count() + 1 < FAN_IN {
                return Ok(());
            }
            let runs = self.runs.split_off(self.runs.len() - FAN_IN);
            let mut merge = Merge::new(sources(runs)?).await?;
            let mut writer = RunWriter::new(&self.scratch)?;
            while let Some((key, value)) = merge.next().await? {
                writer.push(&key, &value)?;
            }
            self.store(writer.finish(level + 1)?);
        }
    }

    /// Gives the tree everything.
    pub(super) async fn finish(&mut self) -> Result<LoadReport, Error> {
        if self.building.is_none()
            && self.ascending
            && self.runs.is_empty()
            && self.engine.is_bare(self.tree).await?
        {
            self.start_building().await?;
        }
        if let Some(building) = self.building.take() {
            let (load, keys) = building.end().await?;
            return self.finish_load(load, keys).await;
        }
        let mut sources = sources(std::mem::take(&mut self.runs))?;
        let records = Sorted::new(std::mem::take(&mut self.gathered));
        sources.push(Source::Memory { records, at: 0 });
        let mut merge = Merge::new(sources).await?;
        if !self.engine.is_bare(self.tree).await? {
            return self.put_batches(merge).await;
        }
        let (mut load, mut keys) = (self.engine.load(self.tree)?, 0);
        while let Some((key, value)) = merge.next().await? {
            load.push(&key, &value).await?;
            keys += 1;
        }
        drop(merge);
        self.finish_load(load, keys).await
    }

    async fn finish_load(&mut self, mut load: Load, keys: u64) -> Result<LoadReport, Error> {
        match load.finish().await? {
            Finished::Committed { sequence } => {
                self.engine.settle(sequence, Durability::Durable).await?;
                let pages = load.pages();
                Ok(LoadReport { keys, at_once: true, pages, ..self.report })
            }
            Finished::NotEmpty => {
                let merge = Merge::new(vec![Source::built(load)]).await?;
                self.put_batches(merge).await
            }
        }
    }

    async fn put_batches(&mut self, mut merge: Merge) -> Result<LoadReport, Error> {
        let mut batches = Batches::new(&self.engine, self.tree);
        let mut keys = 0;
        while let Some((key, value)) = merge.next().await? {
            batches.push(&key, &value).await?;
            keys += 1;
        }
        batches.finish().await?;
        Ok(LoadReport { keys, at_once: false, pages: 0, ..self.report })
    }
}

fn sources(stored: Vec<Stored>) -> Result<Vec<Source>, Error> {
    let source = |stored| match stored {
        Stored::Built(load) => Ok(Source::built(*load)),
        Stored::Run(run) => Ok(Source::File(run.read()?)),
    };
    stored.into_iter().map(source).collect()
}
