//! What an operation costs as a tree grows, in memory: a get, a put that is buffered, and the next pair of a
//! scan, of 8-byte keys and values in trees from ten thousand pairs to `--max`, ten times as many each time.
//! Prints a table.
//!
//! A descent does the same work on each level, so the cost should grow with the height and with nothing
//! else but what the memory itself costs: the larger the tree, the fewer of its pages are in the
//! processor's caches. So there is a column that no engine is in: one read of a place at random, in as
//! much memory as the pages of the tree take, that cannot begin before the one before it has ended.
//!
//! * Trees are loaded in one go, so their pages are full, and read once before anything is measured.
//! * Puts replace values, so that the tree stays as it is. Before they are measured every page is changed
//!   once: the first change of a page after a checkpoint finds it a new place in the file.
//! * Gets and puts are of keys at random, by one task. A figure is the median of the rounds.
//!
//! `cargo run --release -p treering-benches --bin scale -- [--folder DIR] [--max PAIRS]`
//!
//! A hundred million pairs take some minutes, 4 GiB of memory and as much of the disk.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use treering::{Database, Durability, Options, Tree};
use treering_benches::data::mix;
use treering_benches::folder::Folder;
use treering_benches::measure::median;
use treering_benches::raw::Failure;
use treering_benches::table::{self, whole};

#[derive(Parser)]
struct Args {
    /// Where to work; a temporary folder by default.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Pairs of the largest tree.
    #[arg(long, default_value_t = 10_000_000)]
    max: u64,
    /// Operations of a round.
    #[arg(long, default_value_t = 1_000_000)]
    operations: u64,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
}

const TREE: &str = "scale";
/// Every page has more pairs than this: of keys this far apart, each page has one.
const PAGE_PAIRS_MIN: u64 = 64;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let folder = Folder::new(args.folder.as_deref())?;
    table::head(&[
        "pairs",
        "height",
        "pages, MiB",
        "get, ns",
        "a level",
        "put, ns",
        "a level",
        "next pair, ns",
        "a level",
        "a read of memory, ns",
    ]);
    let mut pairs = 10_000;
    while pairs <= args.max {
        let path = folder.join("scale.tr");
        // Twice what the pairs take, since all pages are changed and stay in memory.
        let options = Options::new().cache_size((pairs * 48).max(64 << 20)).log_size(2 << 30);
        let db = options.open(&path).await?;
        let tree = db.tree(TREE).await?;
        let bench = Bench { db, tree, pairs, operations: args.operations };
        // On a thread of the runtime, where an application's tasks are.
        tokio::spawn(bench.run(args.rounds.max(1))).await??;
        std::fs::remove_dir_all(&path)?;
        pairs *= 10;
    }
    Ok(())
}

/// What is measured.
#[derive(Clone, Copy)]
enum What {
    Get,
    Put,
    Next,
}

struct Bench {
    db: Database,
    tree: Tree,
    pairs: u64,
    operations: u64,
}

impl Bench {
    async fn run(self, rounds: u64) -> Result<(), Failure> {
        let mut loader = self.tree.load();
        for number in 0..self.pairs {
            loader.put(number.to_be_bytes(), number.to_le_bytes()).await?;
        }
        loader.finish().await?;
        // Everything comes into memory.
        self.scan().await?;
        let (height, pages) = self.shape().await?;
        let bytes = pages * self.db.stats().page_size as u64;
        let gets = self.median(rounds, What::Get).await?;
        let nexts = self.median(rounds, What::Next).await?;
        for number in (0..self.pairs).step_by(PAGE_PAIRS_MIN as usize) {
            self.put(number, number).await?;
        }
        self.db.sync().await?;
        let puts = self.median(rounds, What::Put).await?;
        let evicted = self.db.stats().pool.evictions;
        if evicted > 0 {
            return Err(format!("{evicted} pages were evicted: not all was in memory").into());
        }
        self.db.close().await?;
        let memory = one_read_of(bytes, self.operations);
        let mut cells = vec![whole(self.pairs as f64), height.to_string(), whole_mib(bytes)];
        for figure in [gets, puts, nexts] {
            cells.push(format!("{figure:.1}"));
            cells.push(format!("{:.1}", figure / f64::from(height)));
        }
        cells.push(format!("{memory:.1}"));
        table::row(&cells);
        Ok(())
    }

    /// Nanoseconds of one operation, the median of some rounds.
    async fn median(&self, rounds: u64, what: What) -> Result<f64, Failure> {
        let mut figures = Vec::new();
        for round in 0..rounds {
            figures.push(match what {
                What::Get => self.gets(round).await?,
                What::Put => self.puts(round).await?,
                What::Next => self.scan().await?,
            });
        }
        Ok(median(figures))
    }

    fn some_number(&self, round: u64, turn: u64) -> u64 {
        mix(round << 48 ^ turn) % self.pairs
    }

    async fn gets(&self, round: u64) -> Result<f64, Failure> {
        let begun = Instant::now();
        let mut sum = 0u64;
        for turn in 0..self.operations {
            let number = self.some_number(round, turn);
            let value = self.tree.get_with(number.to_be_bytes(), |value| value.len()).await?;
            sum += value.ok_or("a key is gone")? as u64;
        }
        black_box(sum);
        Ok(begun.elapsed().as_nanos() as f64 / self.operations as f64)
    }

    async fn put(&self, number: u64, value: u64) -> Result<(), Failure> {
        let write = self.tree.put(number.to_be_bytes(), value.to_le_bytes());
        Ok(write.durability(Durability::Buffered).await?)
    }

    async fn puts(&self, round: u64) -> Result<f64, Failure> {
        let begun = Instant::now();
        for turn in 0..self.operations {
            self.put(self.some_number(round, turn), turn).await?;
        }
        Ok(begun.elapsed().as_nanos() as f64 / self.operations as f64)
    }

    /// A scan of all pairs.
    async fn scan(&self) -> Result<f64, Failure> {
        let (mut pairs, mut range) = (0u64, self.tree.range(..));
        let begun = Instant::now();
        while let Some(chunk) = range.next_chunk().await? {
            pairs += chunk.len() as u64;
            black_box(chunk.iter().fold(0, |sum, (key, _)| sum ^ key[key.len() - 1]));
        }
        if pairs != self.pairs {
            return Err(format!("{pairs} pairs of {}", self.pairs).into());
        }
        Ok(begun.elapsed().as_nanos() as f64 / pairs as f64)
    }

    /// Levels and pages.
    async fn shape(&self) -> Result<(u8, u64), Failure> {
        let mut structure = self.db.structure(TREE)?.ok_or("there is no tree")?;
        let (mut height, mut pages) = (0, 0);
        while let Some(page) = structure.next().await? {
            height = height.max(page.level + 1);
            pages += 1;
        }
        Ok((height, pages))
    }
}

fn whole_mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// Nanoseconds of a read at random in so much memory: each place says which the next one is.
fn one_read_of(bytes: u64, reads: u64) -> f64 {
    /// Bytes that come from memory together.
    const LINE: u64 = 64;
    let lines = (bytes / LINE).max(2);
    let mut memory = vec![0u64; (lines * LINE / 8) as usize];
    for line in 0..lines {
        memory[(line * LINE / 8) as usize] = mix(line + 1);
    }
    let (mut at, begun) = (0, Instant::now());
    for read in 0..reads {
        // What was read decides where the next one is; the count keeps it out of short cycles.
        at = (memory[(at * LINE / 8) as usize] ^ mix(read)) % lines;
    }
    black_box(at);
    begun.elapsed().as_nanos() as f64 / reads as f64
}
