//! How long gets of what is in memory take while checkpoints are written, one after the other, beside gets
//! without: in phases that alternate. Prints tables.
//!
//! * *Alone*: gets, and nothing else.
//! * *Updates*: beside a task that replaces values at random, at a steady rate, without waiting for the log.
//! * *Checkpoints*: beside the same updates, and a checkpoint after the other, so that there is always one
//!   being written, of as many pages as were changed since the one before it.
//!
//! The first table has all of the time. The second leaves out that for which a reader's thread was ready
//! to run and had no processor, which is the machine's affair, and that of whoever else uses it.
//!
//! `cargo run --release -p treering-benches --bin checkpoint -- [--folder DIR] [--rate N]`

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use treering::{Database, Durability, Options, Tree};
use treering_benches::data::{self, key, mix, value};
use treering_benches::folder::Folder;
use treering_benches::latency::Times;
use treering_benches::raw::Failure;
use treering_benches::table::{self, Target, whole};

#[derive(Parser)]
struct Args {
    /// Where to work; a temporary folder by default. It should be on the disk of interest.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Pairs, of 24 and 150 bytes.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Mebibytes of cache.
    #[arg(long, default_value_t = 1024)]
    cache: u64,
    /// Updates a second.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Seconds of a phase.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Times that each phase comes.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
}

/// Phases, by what is done beside the gets.
const PHASES: [&str; 3] = ["nothing", "updates", "updates and checkpoints"];
/// Updates at once: what a millisecond has of them comes in one batch.
const TICK: Duration = Duration::from_millis(1);

/// What was measured in all phases of one kind.
struct Measured {
    times: Times,
    updates: u64,
    checkpoints: u64,
    pages: u64,
}

#[derive(Clone)]
struct Bench {
    db: Database,
    tree: Tree,
    keys: u64,
    over: Arc<AtomicBool>,
    updates: Arc<AtomicU64>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let folder = Folder::new(args.folder.as_deref())?;
    let path = folder.join("checkpoint.tr");
    let options = Options::new().cache_size(args.cache << 20).log_size(2 << 30);
    let db = options.open(&path).await?;
    let tree = db.tree("bench").await?;
    data::load(&tree, args.keys).await?;
    let mut range = tree.range(..);
    while range.next_chunk().await?.is_some() {}
    let bench = Bench {
        db: db.clone(),
        tree,
        keys: args.keys,
        over: Arc::default(),
        updates: Arc::default(),
    };
    let mut measured = Vec::new();
    for _ in PHASES {
        measured.push(Measured { times: Times::new()?, updates: 0, checkpoints: 0, pages: 0 });
    }
    for _ in 0..args.rounds.max(1) {
        for (phase, measured) in measured.iter_mut().enumerate() {
            bench.phase(phase, &args, measured).await?;
        }
    }
    println!("All of the time:\n");
    print(&measured, |times| &times.all);
    println!("\nWithout waiting for a processor:\n");
    print(&measured, |times| &times.own);
    db.close().await?;
    std::fs::remove_dir_all(&path)?;
    Ok(())
}

impl Bench {
    async fn phase(
        &self,
        phase: usize,
        args: &Args,
        measured: &mut Measured,
    ) -> Result<(), Failure> {
        self.over.store(false, Ordering::Relaxed);
        let (updates, stats) = (self.updates.load(Ordering::Relaxed), self.db.stats());
        let mut others = Vec::new();
        if phase > 0 {
            others.push(tokio::spawn(self.clone().update(args.rate)));
        }
        if phase > 1 {
            others.push(tokio::spawn(self.clone().checkpoints()));
        }
        let reader = tokio::spawn(self.clone().read());
        tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
        self.over.store(true, Ordering::Relaxed);
        measured.times.add(reader.await??)?;
        for other in others {
            other.await??;
        }
        let after = self.db.stats();
        measured.updates += self.updates.load(Ordering::Relaxed) - updates;
        measured.checkpoints += after.checkpoints - stats.checkpoints;
        measured.pages += after.pool.writes - stats.pool.writes;
        // What this phase left to be written is no burden to the next one.
        Ok(self.db.checkpoint().await?)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    async fn read(self) -> Result<Times, Failure> {
        let (mut times, mut turn) = (Times::new()?, 0u64);
        while !self.is_over() {
            let number = mix(turn) % self.keys;
            let len = times.time(self.tree.get_with(key(number), <[u8]>::len)).await??;
            if len != Some(data::VALUE_LEN) {
                return Err(format!("pair {number} is lost").into());
            }
            turn += 1;
            if turn.is_multiple_of(16) {
                tokio::task::yield_now().await;
            }
        }
        Ok(times)
    }

    /// At the rate that is wanted, or as fast as it goes.
    async fn update(self, rate: u64) -> Result<(), Failure> {
        let (begun, mut done) = (Instant::now(), 0);
        while !self.is_over() {
            let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
            let mut batch = self.db.batch();
            for at in done..due.min(done + 1000) {
                batch.put(&self.tree, key(mix(!at) % self.keys), value(at));
            }
            done += batch.len() as u64;
            self.updates.fetch_add(batch.len() as u64, Ordering::Relaxed);
            batch.commit().durability(Durability::None).await?;
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    async fn checkpoints(self) -> Result<(), Failure> {
        while !self.is_over() {
            self.db.checkpoint().await?;
        }
        Ok(())
    }
}

fn print(measured: &[Measured], which: fn(&Times) -> &Histogram<u64>) {
    table::head(&[
        "gets beside",
        "gets",
        "updates",
        "checkpoints",
        "pages written",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "max ms",
        "p99 to that beside updates",
        "target",
    ]);
    let us =
        |at: usize, quantile| which(&measured[at].times).value_at_quantile(quantile) as f64 / 1e3;
    for (at, name) in PHASES.into_iter().enumerate() {
        let phase = &measured[at];
        let ratio = us(at, 0.99) / us(1, 0.99);
        let target = if at == 2 { Target::AtMost(2.0) } else { Target::None };
        table::row(&[
            name.to_string(),
            whole(which(&phase.times).len() as f64),
            whole(phase.updates as f64),
            whole(phase.checkpoints as f64),
            whole(phase.pages as f64),
            format!("{:.1}", us(at, 0.5)),
            format!("{:.1}", us(at, 0.99)),
            format!("{:.1}", us(at, 0.999)),
            format!("{:.2}", which(&phase.times).max() as f64 / 1e6),
            format!("{ratio:.2}"),
            target.cell(ratio),
        ]);
    }
}
