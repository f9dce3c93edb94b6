//! How fast a bulk load is: sorted and unsorted records into an empty tree, beside the same number of bytes
//! written one after the other past the cache of the system, and beside the same records put in
//! batches. Prints a table.
//!
//! `cargo run --release -p treering-benches --bin bulk -- [--folder DIR] [--records N]`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use treering::{Database, Durability, Options, Tree};
use treering_benches::folder::Folder;
use treering_benches::raw::{self, Failure};

#[derive(Parser)]
struct Args {
    /// Where to work; a temporary folder by default. It should be on the disk of interest.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Records of 16 bytes of key and 100 of value.
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// Records a batch, in the rows with batches.
    #[arg(long, default_value_t = 500)]
    batch: u64,
}

const RECORD: u64 = 116;

/// Record `number`: its key is the number, or, unsorted, a mixture that no other number has.
fn record(number: u64, sorted: bool) -> ([u8; 16], [u8; 100]) {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let high = if sorted { number } else { mixed };
    let mut key = [0; 16];
    key[..8].copy_from_slice(&high.to_be_bytes());
    key[8..].copy_from_slice(&mixed.to_be_bytes());
    let mut value = [0; 100];
    for (at, chunk) in value.chunks_mut(8).enumerate() {
        let word = mixed.rotate_left(at as u32 * 5).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    (key, value)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let folder = Folder::new(args.folder.as_deref())?;
    let bytes = args.records * RECORD;
    println!("{:<44} {:>9} {:>9} {:>9}", "row", "seconds", "MB/s", "of raw");
    let raw = raw::write(&folder, bytes, 8).await?;
    let rate = |took: Duration| bytes as f64 / took.as_secs_f64() / 1e6;
    let row = |name: &str, took: Duration| {
        let (seconds, share) = (took.as_secs_f64(), rate(took) / rate(raw));
        println!("{name:<44} {seconds:>9.2} {:>9.1} {share:>9.2}", rate(took));
    };
    row("the same bytes, 1 MiB direct writes, 8 at once", raw);
    for sorted in [true, false] {
        let order = if sorted { "sorted" } else { "unsorted" };
        let took = in_new_tree(&folder, async |_, tree| load(tree, &args, sorted).await).await?;
        row(&format!("bulk load, {order}"), took);
        let took = in_new_tree(&folder, async |db, tree| batches(db, tree, &args, sorted).await);
        row(&format!("batches of {}, {order}, not durable", args.batch), took.await?);
    }
    Ok(())
}

/// Runs `work` on an empty tree; the time includes making all of it durable.
async fn in_new_tree(
    folder: &Path,
    work: impl AsyncFnOnce(&Database, &Tree) -> Result<(), Failure>,
) -> Result<Duration, Failure> {
    let path = folder.join("bulk.tr");
    let db = Options::new().cache_size(256 << 20).open(&path).await?;
    let tree = db.tree("t").await?;
    let begun = Instant::now();
    work(&db, &tree).await?;
    let took = begun.elapsed();
    db.close().await?;
    std::fs::remove_dir_all(&path)?;
    Ok(took)
}

async fn load(tree: &Tree, args: &Args, sorted: bool) -> Result<(), Failure> {
    let mut loader = tree.load();
    for number in 0..args.records {
        let (key, value) = record(number, sorted);
        loader.put(key, value).await?;
    }
    let report = loader.finish().await?;
    assert!(report.keys == args.records && report.at_once, "{report:?}");
    Ok(())
}

async fn batches(db: &Database, tree: &Tree, args: &Args, sorted: bool) -> Result<(), Failure> {
    let mut number = 0;
    while number < args.records {
        let mut batch = db.batch();
        let end = (number + args.batch).min(args.records);
        for number in number..end {
            let (key, value) = record(number, sorted);
            batch.put(tree, key, value);
        }
        number = end;
        batch.commit().durability(Durability::None).await?;
    }
    Ok(db.checkpoint().await?)
}
