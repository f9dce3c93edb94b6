//! What a batch much larger than the cache costs, and what others notice of it: single durable puts into
//! another tree are timed alone, and then while a big batch is committed and applied behind. Prints a
//! table of the batch and one of the puts.
//!
//! `cargo run --release -p treering-benches --bin big_batch -- [--operations N] [--value BYTES]`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use treering::{Options, Tree};

#[derive(Parser)]
struct Args {
    /// Operations of the batch: puts of 8-byte keys in random order.
    #[arg(long, default_value_t = 1_000_000)]
    operations: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 16)]
    value: usize,
    /// Mebibytes of cache.
    #[arg(long, default_value_t = 16)]
    cache: u64,
    /// Seconds for which the single puts are timed alone.
    #[arg(long, default_value_t = 5)]
    alone: u64,
    /// Threads of the runtime.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A folder for the database, which must not exist; else a temporary one.
    #[arg(long)]
    path: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Record `number`'s key: no two have the same, and their order is random.
fn key(number: u64) -> [u8; 8] {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 32;
    mixed.wrapping_mul(0xd6e8_feb8_6659_fd93).to_be_bytes()
}

/// The most memory that this process has had at once, in MiB; 0 if the system does not say.
fn memory_mib_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

/// Puts one record after the other, durably, until it is over; how long each took, in nanoseconds.
async fn put_singly(
    tree: Tree,
    from: u64,
    over: Arc<AtomicBool>,
) -> Result<Histogram<u64>, Failure> {
    let mut times = Histogram::new(3)?;
    let mut number = from;
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        tree.put(key(number % 100_000), [b's'; 100]).await?;
        times.record(begun.elapsed().as_nanos() as u64)?;
        number += 1;
    }
    Ok(times)
}

async fn run(args: Args) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let path = args.path.clone().unwrap_or_else(|| folder.path().join("big_batch.tr"));
    let db = Options::new().cache_size(args.cache << 20).open(&path).await?;
    let (tree, singles) = (db.tree("batch").await?, db.tree("singles").await?);
    for number in 0..100_000 {
        let put = singles.put(key(number), [b's'; 100]);
        put.durability(treering::Durability::None).await?;
    }
    db.checkpoint().await?;

    let begun = Instant::now();
    let mut batch = db.batch();
    let value = vec![b'v'; args.value];
    for number in 0..args.operations {
        batch.put(&tree, key(number), &value);
    }
    let made = begun.elapsed();
    let memory_made = memory_mib_max();

    let over = Arc::new(AtomicBool::new(false));
    let alone = tokio::spawn(put_singly(singles.clone(), 7, Arc::clone(&over)));
    tokio::time::sleep(Duration::from_secs(args.alone)).await;
    over.store(true, Ordering::Relaxed);
    let alone = alone.await??;

    let over = Arc::new(AtomicBool::new(false));
    let beside = tokio::spawn(put_singly(singles.clone(), 50_007, Arc::clone(&over)));
    let begun = Instant::now();
    batch.commit().await?;
    let committed = begun.elapsed();
    // The next big change waits until this one is in its pages; that of an empty tree is none itself.
    db.tree("nothing").await?.delete_range(..).await?;
    let applied = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    let beside = beside.await??;

    println!(
        "| operations | bytes | cache MiB | made s | committed s | applied s | memory with the batch \
         MiB | memory max MiB |\n|---|---|---|---|---|---|---|---|"
    );
    println!(
        "| {} | {} | {} | {:.1} | {:.1} | {:.1} | {memory_made} | {} |\n",
        args.operations,
        args.operations * (8 + args.value as u64),
        args.cache,
        made.as_secs_f64(),
        committed.as_secs_f64(),
        applied.as_secs_f64(),
        memory_mib_max(),
    );
    println!("| durable puts beside | puts | p50 us | p99 us | p99.9 us | max ms |");
    println!("|---|---|---|---|---|---|");
    for (name, times) in [("nothing", alone), ("the batch", beside)] {
        let us = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "| {name} | {} | {:.0} | {:.0} | {:.0} | {:.1} |",
            times.len(),
            us(0.5),
            us(0.99),
            us(0.999),
            times.max() as f64 / 1e6,
        );
    }
    for number in (0..args.operations).step_by(997) {
        if tree.get(key(number)).await?.as_deref() != Some(&value[..]) {
            return Err(format!("record {number} is lost").into());
        }
    }
    db.close().await?;
    Ok(())
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let threads = args.threads;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(run(args))
}
