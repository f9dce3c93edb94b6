//! `bench`: what this disk and this machine make of a database, in half a minute, and in words.
//!
//! A temporary folder in the one that is named, 100-byte records, in turn: a bulk load; durable
//! commits of one record each by 1, 16 and 256 tasks; lookups of what is in memory; the same with a
//! cache too small for it; a scan. Each of them but the load takes its share of the time.

mod measure;
mod report;

use std::path::Path;
use std::time::{Duration, Instant};

use treering::{Database, Tree};

use crate::args::{BenchArgs, EngineArgs};
use crate::error::{Failure, Verdict};
use crate::open::{Missing, open};
use crate::output::{counter, grouped, say};
use crate::pennysort::Record;

use measure::{Measured, Work, run_tasks};
use report::Results;

/// Tasks that commit.
const COMMITTERS: [usize; 3] = [1, 16, 256];
/// Tasks that look up.
const READERS: [usize; 2] = [1, 64];
/// The share of the time that each measurement takes: commits, warm and cold lookups with one and
/// with many tasks, the scan.
const SHARES: u32 = 8;
/// Records that are loaded, most.
const RECORDS: u64 = 1_000_000;
/// Bytes of a key and a value.
const RECORD_BYTES: u64 = 100;
/// The share of the database that is in memory when lookups are to be cold.
const COLD_SHARE: u64 = 32;

pub(crate) async fn run(engine: &EngineArgs, args: BenchArgs) -> Result<Verdict, Failure> {
    let parent = args.folder.clone().unwrap_or_else(|| ".".into());
    let folder = tempfile::Builder::new().prefix("treering-bench-").tempdir_in(&parent);
    let folder = folder.map_err(|error| {
        let parent = parent.display();
        Failure::used_wrongly(format!("no temporary folder can be made in {parent}: {error}"))
    })?;
    let bench = Bench { engine, args: &args, folder: folder.path() };
    let results = tokio::select! {
        results = bench.run() => results?,
        // The temporary folder goes with it.
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::wrong("the measurement was interrupted"));
        }
    };
    report::words(&results)?;
    if let Some(plot) = &args.plot {
        std::fs::write(plot, report::plot(&results)).map_err(|error| {
            Failure::wrong(format!("writing the plot to {}: {error}", plot.display()))
        })?;
    }
    Ok(Verdict::Fine)
}

struct Bench<'b> {
    engine: &'b EngineArgs,
    args: &'b BenchArgs,
    folder: &'b Path,
}

impl Bench<'_> {
    async fn run(&self) -> Result<Results, Failure> {
        let seconds = self.args.seconds;
        let share = Duration::from_secs(seconds) / SHARES;
        // A load of a million takes some seconds where a commit takes a millisecond.
        let records = self.args.records.unwrap_or(RECORDS.min(seconds * RECORDS / 10));
        let path = self.folder.join("data.tr");
        let parent = self.args.folder.as_deref().unwrap_or(Path::new("."));
        say(format_args!(
            "treering {} in {}: {} records of {RECORD_BYTES} bytes, about {seconds} s\n",
            env!("CARGO_PKG_VERSION"),
            parent.display(),
            grouped(records)
        ))?;
        let database = open(self.engine, &path, Missing::Make).await?;
        let mut results = Results::default();
        let tree = database.tree("main").await?;
        results.add(load(&tree, records).await?)?;
        results.file_bytes = database.stats().space.used;
        let other = database.tree("commits").await?;
        for tasks in COMMITTERS {
            let what = format!("durable commits, {}", number_of(tasks));
            results.add(run_tasks(what, &other, Work::Commit, tasks, share).await?)?;
        }
        let work = Work::LookUp { records };
        // What a bulk load writes does not come into the cache.
        scan(&tree, share).await?;
        for tasks in READERS {
            let what = format!("lookups in memory, {}", number_of(tasks));
            results.add(run_tasks(what, &tree, work, tasks, share).await?)?;
        }
        results.buffered = database.backend().contains("buffered");
        database.close().await?;

        let database = self.open_small(&path, records).await?;
        let tree = database.tree("main").await?;
        for tasks in READERS {
            let what = format!("lookups on disk, {}", number_of(tasks));
            results.add(run_tasks(what, &tree, work, tasks, share).await?)?;
        }
        results.add(scan(&tree, share).await?)?;
        database.close().await?;
        Ok(results)
    }

    /// With a cache in which only a small part of the records is.
    async fn open_small(&self, path: &Path, records: u64) -> Result<Database, Failure> {
        let cache = (records * RECORD_BYTES / COLD_SHARE).max(256 << 10);
        let engine = EngineArgs { cache, ..self.engine.clone() };
        open(&engine, path, Missing::Refuse).await
    }
}

fn number_of(tasks: usize) -> String {
    if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") }
}

async fn load(tree: &Tree, records: u64) -> Result<Measured, Failure> {
    let bar = counter("loading");
    let begun = Instant::now();
    let mut loader = tree.load();
    for number in 0..records {
        let Record { key, value } = Record::new(number);
        loader.put(key, value).await?;
        if number % 1024 == 0 {
            bar.set_position(number);
        }
    }
    loader.finish().await?;
    bar.finish_and_clear();
    Ok(Measured::total("bulk load, durable at its end", records, begun.elapsed()))
}

/// Everything once, or as far as one comes in twice the time.
async fn scan(tree: &Tree, time: Duration) -> Result<Measured, Failure> {
    let begun = Instant::now();
    let mut range = tree.range(..);
    let mut records = 0;
    while let Some(chunk) = range.next_chunk().await? {
        records += chunk.len() as u64;
        if begun.elapsed() > 2 * time {
            break;
        }
    }
    Ok(Measured::total("scan from disk", records, begun.elapsed()))
}
