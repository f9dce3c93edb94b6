//! What becomes of a tree of which most is deleted, and of those who read it meanwhile: loads records,
//! deletes most of them at random, and prints pages before and after, and how long reads of the other
//! records took beside the deletes. Two more phases say what of that is the machine's and what any
//! writes cost: reads alone, and reads beside as many updates. Prints tables.
//!
//! There is a second table, of the same reads without the time for which their thread was ready to run
//! and had no processor.
//!
//! `cargo run --release -p treering-benches --bin delete_heavy -- [--records N] [--percent N]`

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use treering::{Database, Durability, Options, Tree};
use treering_benches::latency::Times;
use treering_benches::raw::Failure;

#[derive(Parser)]
struct Args {
    /// Records to load, of 8-byte keys in random order.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value: usize,
    /// How many of a hundred records to delete.
    #[arg(long, default_value_t = 90)]
    percent: u64,
    /// Tasks that write.
    #[arg(long, default_value_t = 4)]
    writers: u64,
    /// Tasks that read.
    #[arg(long, default_value_t = 2)]
    readers: u64,
    /// Mebibytes of cache.
    #[arg(long, default_value_t = 256)]
    cache: u64,
    /// Threads of the runtime.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A folder for the database, which must not exist; else a temporary one.
    #[arg(long)]
    path: Option<PathBuf>,
}

/// Record `number`'s key: no two have the same, and their order is random.
fn key(number: u64) -> [u8; 8] {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 32;
    mixed.wrapping_mul(0xd6e8_feb8_6659_fd93).to_be_bytes()
}

/// What a phase has its writers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writes {
    None,
    Updates,
    Deletes,
}

struct Bench {
    args: Args,
    db: Database,
    tree: Tree,
}

impl Bench {
    /// Records with these numbers stay; they are the ones that are read.
    fn stays(&self, number: u64) -> bool {
        number % 100 >= self.args.percent
    }

    async fn load(&self) -> Result<(), Failure> {
        let value = vec![b'v'; self.args.value];
        let numbers: Vec<u64> = (0..self.args.records).collect();
        for lot in numbers.chunks(100) {
            let mut batch = self.db.batch();
            for &number in lot {
                batch.put(&self.tree, key(number), &value);
            }
            batch.commit().durability(Durability::None).await?;
        }
        Ok(self.db.checkpoint().await?)
    }

    /// Runs the writes to their end, or none for as long as `time`, beside reads; the reads' times
    /// and how long all of it took.
    async fn phase(&self, writes: Writes, time: Duration) -> Result<(Times, Duration), Failure> {
        let over = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let staying: Arc<Vec<u64>> =
            Arc::new((0..self.args.records).filter(|&number| self.stays(number)).collect());
        let readers: Vec<_> = (0..self.args.readers)
            .map(|seed| {
                let (tree, staying, over) =
                    (self.tree.clone(), Arc::clone(&staying), Arc::clone(&over));
                tokio::spawn(read(tree, staying, seed, over))
            })
            .collect();
        if writes == Writes::None {
            tokio::time::sleep(time).await;
        } else {
            let mut numbers: Vec<u64> =
                (0..self.args.records).filter(|&number| !self.stays(number)).collect();
            numbers.shuffle(&mut SmallRng::seed_from_u64(7));
            let share = numbers.len().div_ceil(self.args.writers as usize).max(1);
            let writers: Vec<_> = numbers
                .chunks(share)
                .map(|lot| {
                    tokio::spawn(write(self.tree.clone(), lot.to_vec(), writes, self.args.value))
                })
                .collect();
            for writer in writers {
                writer.await??;
            }
            // The merges that are still to be done belong to the phase.
            self.db.tidy().await?;
        }
        let took = begun.elapsed();
        over.store(true, Ordering::Relaxed);
        let mut times = Times::new()?;
        for reader in readers {
            times.add(reader.await??)?;
        }
        Ok((times, took))
    }

    async fn pages(&self) -> Result<u64, Failure> {
        let report = self.db.verify().await?;
        if report.problems.is_empty() {
            Ok(report.pages)
        } else {
            Err(report.problems.join("\n").into())
        }
    }
}

async fn read(
    tree: Tree,
    staying: Arc<Vec<u64>>,
    seed: u64,
    over: Arc<AtomicBool>,
) -> Result<Times, Failure> {
    let mut times = Times::new()?;
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut count = 0_u32;
    while !over.load(Ordering::Relaxed) {
        let number = staying[rng.random_range(0..staying.len())];
        let found = times.time(tree.contains(key(number))).await??;
        if !found {
            return Err(format!("record {number} is lost").into());
        }
        count += 1;
        if count.is_multiple_of(16) {
            tokio::task::yield_now().await;
        }
    }
    Ok(times)
}

async fn write(
    tree: Tree,
    numbers: Vec<u64>,
    writes: Writes,
    value_len: usize,
) -> Result<(), Failure> {
    let value = vec![b'w'; value_len];
    for number in numbers {
        match writes {
            Writes::Deletes => {
                if !tree.delete(key(number)).durability(Durability::None).await? {
                    return Err(format!("record {number} was not there").into());
                }
            }
            _ => tree.update(key(number), &value).durability(Durability::None).await?,
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn run(args: Args) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let path = args.path.clone().unwrap_or_else(|| folder.path().join("delete_heavy.tr"));
    let db = Options::new().cache_size(args.cache << 20).log_size(1 << 30).open(&path).await?;
    let tree = db.tree("records").await?;
    let bench = Bench { args, db, tree };
    let begun = Instant::now();
    bench.load().await?;
    eprintln!("loaded {} records in {:.1?}", bench.args.records, begun.elapsed());

    let before = bench.pages().await?;
    let mut phases: HashMap<Writes, (Times, Duration)> = HashMap::new();
    for writes in [Writes::Updates, Writes::None, Writes::Deletes] {
        let time = phases.get(&Writes::Updates).map_or(Duration::ZERO, |(_, took)| *took);
        phases.insert(writes, bench.phase(writes, time).await?);
        eprintln!("{writes:?} done");
    }
    let merges = bench.db.stats().merges;
    let after = bench.pages().await?;
    let file_before = bench.db.stats().space.file;
    bench.db.compact().await?;
    let file_after = bench.db.stats().space.file;

    let records = bench.args.records;
    let deleted = (0..records).filter(|&number| !bench.stays(number)).count();
    println!(
        "| records | deleted | pages before | pages after | ratio | merges | file MiB | compacted |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| {records} | {deleted} | {before} | {after} | {:.3} | {merges} | {} | {} |\n",
        after as f64 / before as f64,
        file_before >> 20,
        file_after >> 20
    );
    println!("All of the time:\n");
    print_times(&phases, |times| &times.all);
    println!("\nWithout waiting for a processor:\n");
    print_times(&phases, |times| &times.own);
    bench.db.close().await?;
    if 4 * after >= before {
        return Err(format!("{after} pages of {before} are left: more than a quarter").into());
    }
    Ok(())
}

fn print_times(phases: &HashMap<Writes, (Times, Duration)>, which: fn(&Times) -> &Histogram<u64>) {
    println!("| reads beside | for s | reads | p50 us | p99 us | p99.9 us | max ms | over 10 ms |");
    println!("|---|---|---|---|---|---|---|---|");
    for (writes, name) in [
        (Writes::None, "nothing"),
        (Writes::Updates, "updates"),
        (Writes::Deletes, "deletes and merges"),
    ] {
        let Some((times, took)) = phases.get(&writes) else { continue };
        let times = which(times);
        let us = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "| {name} | {:.1} | {} | {:.1} | {:.1} | {:.1} | {:.2} | {} |",
            took.as_secs_f64(),
            times.len(),
            us(0.5),
            us(0.99),
            us(0.999),
            times.max() as f64 / 1e6,
            times.count_between(10_000_000, u64::MAX),
        );
    }
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let threads = args.threads;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(run(args))
}
