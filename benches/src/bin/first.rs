//! The first figures: durable commits, cached gets and cold gets, each beside a raw baseline that
//! does the same I/O without the engine, in the same run. Prints a table.
//!
//! `cargo run --release -p treering-benches --bin first -- [--folder DIR] [--keys N]`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use treering::{Database, Durability, Options, Tree};
use treering_benches::folder::Folder;
use treering_pagefile::{AlignedBuf, DiskOptions, IoBuf, Lane, Op, open_directory, transfer};

#[derive(Parser)]
struct Args {
    /// Where to work; a temporary folder by default. It should be on the disk of interest.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Keys to load, of 24 bytes, with values of 150.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Only the rows whose section has this name: load, commits, raw-appends, cached, cold,
    /// raw-reads. The folder is then kept, so that sections can follow each other.
    #[arg(long)]
    only: Option<String>,
    /// Seconds a row.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn key(number: u64) -> [u8; 24] {
    let mut random = SmallRng::seed_from_u64(number);
    let mut key = [0; 24];
    random.fill_bytes(&mut key);
    key
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let folder = Folder::new(args.folder.as_deref())?;
    let path = folder.join("first.tr");
    println!("{:<44} {:>12} {:>10}", "row", "per second", "p50 us");
    let wanted = |section: &str| args.only.as_deref().is_none_or(|only| only == section);
    if wanted("load") {
        load(&path, &args).await?;
    }
    if wanted("commits") {
        commits(&path, &args).await?;
    }
    if wanted("raw-appends") {
        raw_appends(&folder, &args).await?;
    }
    if wanted("cached") {
        cached_gets(&path, &args).await?;
    }
    if wanted("cold") {
        cold_gets(&path, &args).await?;
    }
    if wanted("raw-reads") {
        raw_reads(&path, &args).await?;
    }
    if args.only.is_none() {
        std::fs::remove_dir_all(&path)?;
    }
    Ok(())
}

fn row(name: &str, count: u64, took: Duration, latencies: &mut [Duration]) {
    latencies.sort_unstable();
    let median = latencies.get(latencies.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    println!("{name:<44} {:>12.0} {median:>10.1}", count as f64 / took.as_secs_f64());
}

async fn open(path: &Path, cache: u64) -> Result<(Database, Tree), Failure> {
    let db = Options::new().cache_size(cache).open(path).await?;
    let tree = db.tree("bench").await?;
    Ok((db, tree))
}

const EVERYTHING: u64 = 2 << 30;

async fn load(path: &Path, args: &Args) -> Result<(), Failure> {
    let (db, tree) = open(path, EVERYTHING).await?;
    let began = Instant::now();
    let tasks = 64;
    let each = args.keys / tasks;
    let loaders = (0..tasks).map(|task| {
        let (db, tree) = (db.clone(), tree.clone());
        tokio::spawn(async move {
            for start in (task * each..(task + 1) * each).step_by(100) {
                let mut batch = db.batch();
                for number in start..(start + 100).min((task + 1) * each) {
                    batch.put(&tree, key(number), [7; 150]);
                }
                batch.commit().durability(Durability::Buffered).await?;
            }
            Ok::<(), Failure>(())
        })
    });
    for loader in futures::future::join_all(loaders).await {
        loader??;
    }
    db.sync().await?;
    row("load, 64 tasks, buffered batches of 100", each * tasks, began.elapsed(), &mut []);
    db.close().await?;
    Ok(())
}

/// Runs `tasks` tasks until the time is up; each turn of `work` counts once.
async fn run<F, W>(name: &str, args: &Args, tasks: u64, work: W) -> Result<f64, Failure>
where
    W: Fn(u64, u64) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Failure>> + Send,
{
    let work = Arc::new(work);
    let until = Instant::now() + Duration::from_secs_f64(args.seconds);
    let began = Instant::now();
    let workers = (0..tasks).map(|task| {
        let work = Arc::clone(&work);
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            let mut turn = 0;
            while Instant::now() < until {
                let start = Instant::now();
                work(task, turn).await?;
                latencies.push(start.elapsed());
                turn += 1;
            }
            Ok::<_, Failure>(latencies)
        })
    });
    let mut latencies = Vec::new();
    for worker in futures::future::join_all(workers).await {
        latencies.extend(worker??);
    }
    let took = began.elapsed();
    let count = latencies.len() as u64;
    row(name, count, took, &mut latencies);
    Ok(count as f64 / took.as_secs_f64())
}

async fn commits(path: &Path, args: &Args) -> Result<(), Failure> {
    let (db, tree) = open(path, EVERYTHING).await?;
    for tasks in [1, 16, 256, 1024] {
        let tree = tree.clone();
        run(&format!("durable commits, {tasks} tasks"), args, tasks, move |task, turn| {
            let tree = tree.clone();
            async move { Ok(tree.put(key((task << 32 | turn) + (1 << 48)), [7; 150]).await?) }
        })
        .await?;
    }
    db.close().await?;
    Ok(())
}

/// One 4 KiB write after the other, over written blocks, each durable when it returns.
async fn raw_appends(folder: &Path, args: &Args) -> Result<(), Failure> {
    let disk = open_directory(folder, &DiskOptions::default())?;
    let file = disk.open("raw", true)?;
    let blocks = 4096;
    let zeros = AlignedBuf::zeroed(blocks * 4096);
    disk.write(file, Op::WriteDurable, 0, zeros).await?;
    run("raw: 4 KiB durable writes, 1 in flight", args, 1, move |_, turn| {
        let disk = Arc::clone(&disk);
        async move {
            let offset = turn % blocks as u64 * 4096;
            let buf = IoBuf::Owned(AlignedBuf::zeroed(4096));
            transfer(&*disk, Lane::Foreground, file, Op::WriteDurable, offset, buf).await.1?;
            Ok(())
        }
    })
    .await?;
    Ok(())
}

async fn cached_gets(path: &Path, args: &Args) -> Result<(), Failure> {
    let (db, tree) = open(path, EVERYTHING).await?;
    let mut chunks = tree.range(..);
    while chunks.next_chunk().await?.is_some() {}
    drop(chunks);
    for threads in [1u64, 2] {
        let began = Instant::now();
        let readers = (0..threads).map(|thread| {
            let (tree, keys, seconds) = (tree.clone(), args.keys, args.seconds);
            tokio::spawn(async move {
                let mut random = SmallRng::seed_from_u64(thread);
                let mut count = 0u64;
                while began.elapsed().as_secs_f64() < seconds {
                    for _ in 0..1000 {
                        let number = random.random_range(0..keys / 64 * 64);
                        let hit = tree.get_with(key(number), |value| value.len()).await?;
                        assert_eq!(hit, Some(150));
                    }
                    count += 1000;
                }
                Ok::<u64, Failure>(count)
            })
        });
        let mut count = 0;
        for reader in futures::future::join_all(readers).await {
            count += reader??;
        }
        row(&format!("cached gets, {threads} threads"), count, began.elapsed(), &mut []);
    }
    db.close().await?;
    Ok(())
}

/// A cache for the inner pages and a small part of the leaves.
async fn cold_gets(path: &Path, args: &Args) -> Result<(), Failure> {
    let (db, tree) = open(path, 16 << 20).await?;
    for tasks in [1, 32, 128] {
        let (tree, keys) = (tree.clone(), args.keys / 64 * 64);
        run(&format!("cold gets, {tasks} in flight"), args, tasks, move |task, turn| {
            let tree = tree.clone();
            let number = SmallRng::seed_from_u64(task << 32 | turn).random_range(0..keys);
            async move {
                let hit = tree.get_with(key(number), |value| value.len()).await?;
                assert_eq!(hit, Some(150));
                Ok(())
            }
        })
        .await?;
    }
    db.close().await?;
    Ok(())
}

async fn raw_reads(path: &Path, args: &Args) -> Result<(), Failure> {
    let disk = open_directory(path, &DiskOptions::default())?;
    let file = disk.open("pages", false)?;
    let blocks = disk.len(file)? / 4096;
    for tasks in [1, 32, 128] {
        let disk = Arc::clone(&disk);
        run(&format!("raw: 4 KiB reads, {tasks} in flight"), args, tasks, move |task, turn| {
            let disk = Arc::clone(&disk);
            let block = SmallRng::seed_from_u64(task << 32 | turn).random_range(0..blocks);
            async move {
                let buf = IoBuf::Owned(AlignedBuf::zeroed(4096));
                transfer(&*disk, Lane::Foreground, file, Op::Read, block * 4096, buf).await.1?;
                Ok(())
            }
        })
        .await?;
    }
    Ok(())
}
