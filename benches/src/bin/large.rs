//! One large value: written and read whole, as a stream and in parts, beside the same bytes written
//! and read without an engine in the same run. Prints a table.
//!
//! `cargo run --release -p treering-benches --bin large -- [--folder DIR] [--mib N]`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::TryStreamExt;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::{Database, Durability, Options};
use treering_benches::folder::Folder;
use treering_benches::raw::{self, Failure};

#[derive(Parser)]
struct Args {
    /// Where to work; a temporary folder by default. It should be on the disk of interest.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// MiB of the value, 1024 at most.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Parts of 64 KiB to read.
    #[arg(long, default_value_t = 2000)]
    parts: u64,
}

const PIECE: usize = 1 << 20;
const PART: u64 = 64 << 10;
const CACHE: u64 = 16 << 20;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let folder = Folder::new(args.folder.as_deref())?;
    let path = folder.join("large.tr");
    let bytes = args.mib << 20;
    let db = Options::new().cache_size(CACHE).open(&path).await?;
    let tree = db.tree("large").await?;

    println!("{:<44} {:>8} {:>8}", "row", "MB/s", "ratio");
    let raw_write = rate(bytes, raw::write(&folder, bytes, 4).await?);
    row("file: 1 MiB writes, 4 at once, and a sync", raw_write, raw_write);
    let value = vec![7; bytes as usize];
    let begun = Instant::now();
    tree.put("whole", &value).await?;
    row("put, durably", rate(bytes, begun.elapsed()), raw_write);
    drop(value);
    let begun = Instant::now();
    let piece = vec![8; PIECE];
    let mut writer = tree.write_stream("stream")?;
    for _ in 0..args.mib {
        writer.write(&piece).await?;
    }
    writer.commit().await?;
    row("written as a stream of 1 MiB, durably", rate(bytes, begun.elapsed()), raw_write);

    db.checkpoint().await?;
    let (read, took) = raw::read(&path, "pages", 4).await?;
    let raw_read = rate(read, took);
    row("file: 1 MiB reads, 4 at once", raw_read, raw_read);
    let begun = Instant::now();
    let whole = tree.get("whole").await?.ok_or("the value is missing")?;
    let took = begun.elapsed();
    assert!(whole.len() as u64 == bytes && whole.iter().all(|&byte| byte == 7));
    row("get", rate(bytes, took), raw_read);
    drop(whole);
    let begun = Instant::now();
    let mut reader = tree.read_stream("stream").await?.ok_or("the value is missing")?;
    let mut streamed = 0;
    while let Some(piece) = reader.try_next().await? {
        streamed += piece.len() as u64;
    }
    assert_eq!(streamed, bytes);
    row("read as a stream", rate(bytes, begun.elapsed()), raw_read);
    let took = parts(&db, args.parts, bytes).await?;
    row("parts of 64 KiB, one after the other", rate(args.parts * PART, took), raw_read);

    let before = db.stats().space.used;
    for key in ["whole", "stream"] {
        tree.delete(key).durability(Durability::None).await?;
    }
    db.checkpoint().await?;
    db.checkpoint().await?;
    let space = db.stats().space;
    let compacted = db.compact().await?;
    println!(
        "in use, MiB: {} with both values, {} without; file {} -> {} when compacted; cache {}",
        before >> 20,
        space.used >> 20,
        compacted.before >> 20,
        compacted.after >> 20,
        CACHE >> 20,
    );
    db.close().await?;
    std::fs::remove_dir_all(&path)?;
    Ok(())
}

/// Parts at random places of the value.
async fn parts(db: &Database, parts: u64, bytes: u64) -> Result<Duration, Failure> {
    let tree = db.tree("large").await?;
    let mut rng = SmallRng::seed_from_u64(1);
    let begun = Instant::now();
    for _ in 0..parts {
        let from = rng.random_range(0..=bytes - PART);
        let part = tree.get_range("whole", from..from + PART).await?;
        assert_eq!(part.map(|part| part.len()), Some(PART as usize));
    }
    Ok(begun.elapsed())
}

fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64()
}

fn row(name: &str, rate: f64, raw: f64) {
    println!("{name:<44} {:>8.0} {:>8.2}", rate / 1e6, rate / raw);
}
