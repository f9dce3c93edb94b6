//! The rows, in groups. Each group of an engine runs in a process of its own, so that its memory and
//! its writes can be told from the others'.

mod commits;
mod larger;
mod load;
mod ranges;
mod reads;
mod writes;
mod ycsb;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::data::{Data, Numbers};
use crate::engine::{Commits, Engine, Reader, Result, Setup};
use crate::limit::Limit;
use crate::measure::{Measured, Ran, Unit, peak_memory};

/// A group of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Group {
    /// Bulk load in random order: time, size, bytes written, memory.
    Load,
    /// Bulk load in the order of the keys.
    Sorted,
    /// Random reads on 1 and 2 threads, and of absent keys.
    Reads,
    /// Range reads of 10 and of 1,000, and full scans.
    Ranges,
    /// Durable commits of one pair by 1 to 1,024 writers.
    Commits,
    /// Durable batches of 1,000 pairs.
    Batches,
    /// Buffered commits of one pair.
    Buffered,
    /// Half of the pairs are removed.
    Removals,
    /// YCSB A to F.
    Ycsb,
    /// Size before and after compaction.
    Compact,
    /// Data ten times larger than the memory: `--larger-pairs`.
    Larger,
    /// Loads the database for that.
    #[value(skip)]
    PrepareLarger,
}

/// What a process of its own is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub engine: String,
    pub group: Group,
    pub data: Data,
    pub folder: PathBuf,
    pub cache: u64,
    pub seconds: f64,
    /// What the process may have of memory altogether.
    pub limit: Option<Limit>,
}

/// The rows of one group on one engine.
pub struct Bench<E> {
    pub task: Task,
    engine: std::marker::PhantomData<E>,
}

/// Runs a group of rows on an engine, and prints each row as JSON in a line.
pub fn run<E: Engine>(task: Task) -> Result<()> {
    let group = task.group;
    let mut bench = Bench::<E> { task, engine: std::marker::PhantomData };
    match group {
        Group::Load => load::bulk(&mut bench),
        Group::Sorted => load::sorted(&mut bench),
        Group::Reads => reads::run(&mut bench),
        Group::Ranges => ranges::run(&mut bench),
        Group::Commits => commits::run(&mut bench),
        Group::Batches => writes::batches(&mut bench),
        Group::Buffered => writes::buffered(&mut bench),
        Group::Removals => writes::removals(&mut bench),
        Group::Ycsb => ycsb::run(&mut bench),
        Group::Compact => load::compact(&mut bench),
        Group::PrepareLarger => larger::prepare(&mut bench),
        Group::Larger => larger::run(&mut bench),
    }
}

/// A file beside the database which says that it has the pairs of a load and nothing else.
const LOADED: &str = "loaded";

impl<E: Engine> Bench<E> {
    fn setup(&self, commits: Commits) -> Setup {
        let Task { folder, cache, .. } = &self.task;
        let folder = folder.join("database");
        Setup { folder, cache: *cache, commits, larger_than_memory: false }
    }

    /// Opens an empty database.
    fn empty(&self, commits: Commits) -> Result<Arc<E>> {
        let setup = self.setup(commits);
        if self.task.folder.exists() {
            std::fs::remove_dir_all(&self.task.folder)?;
        }
        std::fs::create_dir_all(&setup.folder)?;
        Ok(Arc::new(E::open(&setup)?))
    }

    /// Opens the loaded database, and loads it if the last group has changed it. `changing` says that
    /// this group changes it, too. Then reads all of it once.
    fn loaded(&self, commits: Commits, changing: bool) -> Result<Arc<E>> {
        if !self.is_loaded()? {
            self.load_untimed()?;
        }
        if changing {
            std::fs::remove_file(self.task.folder.join(LOADED))?;
        }
        let engine = Arc::new(E::open(&self.setup(commits))?);
        self.warm_up(&engine)?;
        Ok(engine)
    }

    fn is_loaded(&self) -> Result<bool> {
        let what = serde_json::to_string(&self.task.data)?;
        Ok(std::fs::read_to_string(self.task.folder.join(LOADED)).is_ok_and(|is| is == what))
    }

    fn load_untimed(&self) -> Result<()> {
        let (data, engine) = (self.task.data, self.empty(Commits::Buffered)?);
        engine.load(data, Numbers::Range(0..data.pairs))?;
        engine.settle()?;
        close(engine)?;
        self.mark_loaded()
    }

    /// Says that the database is as after a load.
    fn mark_loaded(&self) -> Result<()> {
        let what = serde_json::to_string(&self.task.data)?;
        Ok(std::fs::write(self.task.folder.join(LOADED), what)?)
    }

    fn warm_up(&self, engine: &Arc<E>) -> Result<()> {
        self.expect_pairs(engine, self.task.data.pairs)
    }

    /// Reads everything.
    fn expect_pairs(&self, engine: &Arc<E>, pairs: u64) -> Result<()> {
        let reader = engine.reader()?;
        let reader = std::sync::Mutex::new(Some(reader));
        let found = engine.run(1, |_| {
            let taken = reader.lock().map(|mut slot| slot.take());
            let mut reader = taken.ok().flatten().expect("there is one worker");
            async move { Ok(reader.range(&[], u64::MAX).await?.0) }
        })?;
        match found[..] {
            [found] if found == pairs => Ok(()),
            _ => Err(format!("{found:?} pairs were found, not {pairs}").into()),
        }
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.task.seconds)
    }

    fn row(&mut self, row: impl Into<String>, unit: Unit, value: f64, workers: usize) {
        let by = match workers {
            0 => String::new(),
            1 => format!("1 {}", E::WORKERS.trim_end_matches('s')),
            _ => format!("{workers} {}", E::WORKERS),
        };
        let measured = Measured { row: row.into(), unit, value, by };
        // At once: whoever is killed for its memory has said what it had measured.
        println!("{}", serde_json::to_string(&measured).expect("a row is plain text and numbers"));
    }

    /// The rows of something with latencies.
    fn rows_of(&mut self, row: &str, ran: &Ran, workers: usize) {
        self.row(row, Unit::PerSecond, ran.per_second(), workers);
        self.row(format!("{row}: p50"), Unit::Micros, ran.micros(0.5), workers);
        self.row(format!("{row}: p99"), Unit::Micros, ran.micros(0.99), workers);
    }

    fn memory(&mut self, what: &str) -> Result<()> {
        self.row(format!("peak memory, {what}"), Unit::MiB, peak_memory()?, 0);
        Ok(())
    }
}

/// Takes the engine out of its `Arc` and closes it: nobody else has it any more.
fn close<E: Engine>(engine: Arc<E>) -> Result<()> {
    owned(engine)?.close()
}

fn owned<E: Engine>(engine: Arc<E>) -> Result<E> {
    Arc::try_unwrap(engine).map_err(|_| "somebody still has the database".into())
}
