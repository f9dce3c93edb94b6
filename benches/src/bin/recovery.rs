//! How long a database takes to open after its process was killed with a long log: a process of its own
//! writes until so much log is behind the last checkpoint, and is killed; then the log is read raw, in direct
//! reads of 1 MiB, four at once; then the database is opened. Prints a table.
//!
//! The log is of batches of a hundred pairs of 24 and 150 bytes with keys in random order, put by four tasks
//! into an empty tree, which was all in memory. Writing it took all processors, too: that is the column *was
//! written in*. Opening should take no longer than reading the log and applying it on all cores.
//!
//! `cargo run --release -p treering-benches --bin recovery -- [--folder DIR] [--mib N]`

use std::future::pending;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use clap::Parser;
use treering::{Database, Durability, Options};
use treering_benches::data::{key, value};
use treering_benches::folder::Folder;
use treering_benches::measure::cpu_seconds;
use treering_benches::raw::{self, Failure};
use treering_benches::table::{self, whole};

#[derive(Parser)]
struct Args {
    /// Where to work; a temporary folder by default. It should be on the disk of interest.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Mebibytes of log.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Mebibytes of cache, before and after.
    #[arg(long, default_value_t = 4096)]
    cache: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// The process that is killed: writes, says what it has written, and waits.
    #[arg(long, hide = true)]
    write: bool,
}

/// Tasks that write, and pairs of one of their batches.
const TASKS: u64 = 4;
const BATCH: u64 = 100;
/// Batches after which a task looks how long the log is.
const BATCHES_A_LOOK: u64 = 100;

fn options(args: &Args) -> Options {
    // A checkpoint is written when half of the log is used.
    Options::new().cache_size(args.cache << 20).log_size((args.mib << 20) * 3)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let folder = Folder::new(args.folder.as_deref())?;
    if args.write {
        return write(&folder.join("recovery.tr"), &args).await;
    }
    table::head(&[
        "log, MiB",
        "batches",
        "pairs",
        "was written in, s",
        "read raw, s",
        "opened in, s",
        "processor s",
        "to reading",
        "to writing",
        "log MB/s",
        "pairs/s",
    ]);
    for _ in 0..args.rounds.max(1) {
        round(&folder, &args).await?;
    }
    Ok(())
}

async fn round(folder: &Path, args: &Args) -> Result<(), Failure> {
    let path = folder.join("recovery.tr");
    let (mut writer, said) = write_in_child(folder, args)?;
    writer.kill()?;
    writer.wait()?;
    let (log_bytes, written_in): (u64, f64) = {
        let (bytes, seconds) = said.trim().split_once(' ').ok_or("what the writer said")?;
        (bytes.parse()?, seconds.parse()?)
    };
    let mut read = 0.0;
    for name in log_files(&path)? {
        read += raw::read(&path, &name, 4).await?.1.as_secs_f64();
    }
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let db = options(args).open(&path).await?;
    let (opened, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let batches = db.recovery().replayed;
    let tree = db.tree("bench").await?;
    let (mut pairs, mut range) = (0, tree.range(..));
    while let Some(chunk) = range.next_chunk().await? {
        pairs += chunk.len() as u64;
    }
    if pairs < (batches - 1) * BATCH {
        return Err(format!("{pairs} pairs came back of {batches} batches").into());
    }
    drop(range);
    db.close().await?;
    std::fs::remove_dir_all(&path)?;
    table::row(&[
        whole(log_bytes as f64 / f64::from(1 << 20)),
        whole(batches as f64),
        whole(pairs as f64),
        format!("{written_in:.2}"),
        format!("{read:.2}"),
        format!("{opened:.2}"),
        format!("{cpu:.2}"),
        format!("{:.2}", opened / read),
        format!("{:.2}", opened / written_in),
        whole(log_bytes as f64 / opened / 1e6),
        whole(pairs as f64 / opened),
    ]);
    Ok(())
}

/// Starts this program once more to write; returns when it has, with what it says.
fn write_in_child(folder: &Path, args: &Args) -> Result<(Child, String), Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--write")
        .arg("--folder")
        .arg(folder)
        .args(["--mib", &args.mib.to_string(), "--cache", &args.cache.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    let output = child.stdout.take().ok_or("no standard output")?;
    BufReader::new(output).read_line(&mut said)?;
    Ok((child, said))
}

/// The names of the log's files, in order.
fn log_files(path: &Path) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("log-") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Writes until the log is as long as wanted, says how long it is and how long that took, and waits for its
/// end.
async fn write(path: &Path, args: &Args) -> Result<(), Failure> {
    let db = options(args).open(path).await?;
    db.tree("bench").await?;
    db.checkpoint().await?;
    let (begun, checkpoints) = (Instant::now(), db.stats().checkpoints);
    let tasks: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(put(db.clone(), task, args.mib << 20))).collect();
    for task in tasks {
        task.await??;
    }
    db.sync().await?;
    let stats = db.stats();
    if stats.checkpoints != checkpoints {
        return Err("a checkpoint has made the log short".into());
    }
    println!("{} {}", stats.log.bytes_written, begun.elapsed().as_secs_f64());
    std::io::stdout().flush()?;
    pending().await
}

/// One task's batches, until the log is as long as wanted.
async fn put(db: Database, task: u64, bytes: u64) -> Result<(), Failure> {
    let tree = db.tree("bench").await?;
    let mut number = 0;
    // What the engine says of itself takes a look at every frame: not for each batch.
    while !(number / BATCH).is_multiple_of(BATCHES_A_LOOK) || db.stats().log.bytes_written < bytes {
        let mut batch = db.batch();
        for _ in 0..BATCH {
            let pair = task << 32 | number;
            batch.put(&tree, key(pair), value(pair));
            number += 1;
        }
        batch.commit().durability(Durability::Buffered).await?;
    }
    Ok(())
}
