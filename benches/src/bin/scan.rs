//! Cold scans, forward and in reverse, beside reading the page file in large sequential direct
//! reads in the same run. Prints a table.
//!
//! A scan reads leaf by leaf, in the order of keys, which is not their order in the file unless the
//! keys came in order. MB/s count the pages that were read, for the scan as for the file.
//!
//! `cargo run --release -p treering-benches --bin scan -- [--folder DIR] [--keys N]`

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use treering::{Durability, Options};
use treering_benches::folder::Folder;
use treering_benches::raw::{self, Failure};

#[derive(Parser)]
struct Args {
    /// Where to work; a temporary folder by default. It should be on the disk of interest.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Keys to load, of 8 bytes, with values of 150.
    #[arg(long, default_value_t = 2_000_000)]
    keys: u64,
    /// Bytes of the cache while scanning.
    #[arg(long, default_value_t = 32 << 20)]
    cache: u64,
    /// Times that each row is measured; the best is shown.
    #[arg(long, default_value_t = 3)]
    times: usize,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let folder = Folder::new(args.folder.as_deref())?;
    println!("{:<40} {:>8} {:>14} {:>8}", "row", "MB/s", "pairs/s", "ratio");
    for shuffled in [false, true] {
        let path = folder.join("scan.tr");
        let order = if shuffled { "random" } else { "ascending" };
        load(&path, &args, shuffled).await?;
        let raw = best(&args, || sequential(&path)).await?.0;
        row(&format!("{order} load: file, 1 MiB reads, 4 at once"), raw, None, raw);
        for backward in [false, true] {
            let (bytes, pairs) = best(&args, || scan(&path, &args, backward)).await?;
            let direction = if backward { "reverse" } else { "forward" };
            row(&format!("{order} load: cold {direction} scan"), bytes, Some(pairs), raw);
        }
        std::fs::remove_dir_all(&path)?;
    }
    Ok(())
}

fn row(name: &str, bytes: f64, pairs: Option<f64>, raw: f64) {
    let pairs = pairs.map_or(String::new(), |pairs| format!("{pairs:.0}"));
    println!("{name:<40} {:>8.0} {pairs:>14} {:>8.2}", bytes / 1e6, bytes / raw);
}

/// The best of some runs, each of which says how many bytes and pairs it read a second.
async fn best<F: Future<Output = Result<(f64, f64), Failure>>>(
    args: &Args,
    run: impl Fn() -> F,
) -> Result<(f64, f64), Failure> {
    let mut best = (0.0, 0.0);
    for _ in 0..args.times.max(1) {
        let result = run().await?;
        if result.0 > best.0 {
            best = result;
        }
    }
    Ok(best)
}

async fn load(path: &Path, args: &Args, shuffled: bool) -> Result<(), Failure> {
    let db = Options::new().cache_size(2 << 30).open(path).await?;
    let tree = db.tree("bench").await?;
    let mut numbers: Vec<u64> = (0..args.keys).collect();
    if shuffled {
        numbers.shuffle(&mut SmallRng::seed_from_u64(1));
    }
    for numbers in numbers.chunks(200) {
        let mut batch = db.batch();
        for number in numbers {
            batch.put(&tree, number.to_be_bytes(), [7; 150]);
        }
        batch.commit().durability(Durability::None).await?;
    }
    db.close().await?;
    Ok(())
}

async fn scan(path: &Path, args: &Args, backward: bool) -> Result<(f64, f64), Failure> {
    let db = Options::new().cache_size(args.cache).open(path).await?;
    let tree = db.tree("bench").await?;
    let loads = db.stats().pool.loads;
    let (path, keys) = (path.to_path_buf(), args.keys);
    // On a worker of the runtime: what an application's task has.
    let scanning = tokio::spawn(async move {
        let began = Instant::now();
        let mut range = tree.range(..);
        if backward {
            range = range.rev();
        }
        let mut pairs = 0;
        while let Some(chunk) = range.next_chunk().await? {
            pairs += chunk.len() as u64;
        }
        assert_eq!(pairs, keys, "{}", path.display());
        Ok::<_, Failure>((began.elapsed().as_secs_f64(), pairs))
    });
    let (seconds, pairs) = scanning.await??;
    let stats = db.stats();
    let bytes = (stats.pool.loads - loads) as f64 * stats.page_size as f64;
    db.close().await?;
    Ok((bytes / seconds, pairs as f64 / seconds))
}

/// The whole page file, from its start to its end.
async fn sequential(path: &Path) -> Result<(f64, f64), Failure> {
    let (bytes, took) = raw::read(path, "pages", 4).await?;
    Ok((bytes as f64 / took.as_secs_f64(), 0.0))
}
