//! treering beside the disk itself: cold reads of keys, cold scans and durable commits, each in
//! alternation with fio doing the same I/O without an engine, where it reads on the very same file. Prints
//! a table with the ratios that the engine is meant to reach. Needs fio.
//!
//! * A cold get is one whose leaf was read from the file: those that found theirs in the cache are
//!   counted, and left out of the rate (that they are few is what the small cache is for). If
//!   inner pages had to be read, too, a get is still one.
//! * Times are of all gets; with one in flight they are what a single task sees.
//! * Processor time is that of the whole process, kernel included, for one cold get, for one key of
//!   `get_many`, for one commit, or for one read or write of fio's. (A microsecond for one is a second for a
//!   million.) Scans are compared by the page of 4 KiB.
//! * A figure is the median of the rounds, a ratio the median of the rounds' ratios.
//!
//! `cargo run --release -p treering-benches --bin disk -- [--folder DIR] [--keys N] [--seconds S]
//! [--rounds N]`

use std::path::{Path, PathBuf};

use clap::Parser;
use tokio::runtime::Runtime;
use treering::{Database, Options, Tree};
use treering_benches::data::{self, PAIR_LEN, key, mix, value};
use treering_benches::fio::Job;
use treering_benches::folder::Folder;
use treering_benches::measure::{self, Round, median};
use treering_benches::raw::Failure;
use treering_benches::table::{self, Target, whole};

#[derive(Parser)]
struct Args {
    /// Where to work; a temporary folder by default. It should be on the disk of interest.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Keys to load, of 24 bytes, with values of 150.
    #[arg(long, default_value_t = 3_000_000)]
    keys: u64,
    /// Mebibytes of cache.
    #[arg(long, default_value_t = 16)]
    cache: u64,
    /// Seconds of a round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds of each, in alternation.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// Only this part: gets, many, scan or commits.
    #[arg(long)]
    only: Option<String>,
}

/// Keys of one `get_many`.
const MANY: u64 = 100;
/// Bytes of a page.
const PAGE: u64 = 4096;
/// Of the file that is written raw.
const RAW_LEN: usize = 16 << 20;
/// Keys that commits write again and again, so that none has to read a page.
const COMMITTED: u64 = 10_000;

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let folder = Folder::new(args.folder.as_deref())?;
    let path = folder.join("disk.tr");
    let runtime = Runtime::new()?;
    runtime.block_on(load(&path, &args))?;
    let (db, tree) = runtime.block_on(open(&path, args.cache))?;
    let bench = Bench { file: path.join("pages"), runtime, db, tree, args };
    table::head(&["row", "treering", "fio", "ratio", "target"]);
    let wanted = |part: &str| bench.args.only.as_deref().is_none_or(|only| only == part);
    if wanted("gets") {
        bench.gets()?;
    }
    if wanted("many") {
        bench.many()?;
    }
    if wanted("scan") {
        bench.scan()?;
    }
    if wanted("commits") {
        bench.commits(&folder.join("raw"))?;
    }
    bench.runtime.block_on(bench.db.close())?;
    std::fs::remove_dir_all(&path)?;
    Ok(())
}

/// Loads the pairs, and leaves nothing unused in the file: reads of what was never written would
/// cost the disk nothing.
async fn load(path: &Path, args: &Args) -> Result<(), Failure> {
    let db = Options::new().cache_size(256 << 20).open(path).await?;
    data::load(&db.tree("bench").await?, args.keys).await?;
    db.compact().await?;
    let space = db.stats().space;
    eprintln!(
        "{} pairs, {} MiB of them data, in a file of {} MiB, of which {} are used",
        args.keys,
        (args.keys * PAIR_LEN) >> 20,
        space.file >> 20,
        space.used >> 20
    );
    Ok(db.close().await?)
}

async fn open(path: &Path, cache_mib: u64) -> Result<(Database, Tree), Failure> {
    let db = Options::new().cache_size(cache_mib << 20).open(path).await?;
    let tree = db.tree("bench").await?;
    Ok((db, tree))
}

struct Bench {
    args: Args,
    file: PathBuf,
    runtime: Runtime,
    db: Database,
    tree: Tree,
}

/// Both sides of the rounds.
struct Rounds(Vec<(Round, Round)>);

impl Bench {
    /// Alternates rounds of both sides, after one of each that does not count.
    fn rounds(
        &self,
        mut ours: impl FnMut(u64) -> Result<Round, Failure>,
        fio: impl Fn() -> Result<Round, Failure>,
    ) -> Result<Rounds, Failure> {
        let mut rounds = Vec::new();
        for number in 0..=self.args.rounds.max(1) {
            let both = (ours(number)?, fio()?);
            if number > 0 {
                rounds.push(both);
            }
        }
        Ok(Rounds(rounds))
    }

    /// A round of reads by tasks; counted are the pages that were loaded, but not more than keys read.
    fn reads<F>(
        &self,
        tasks: u64,
        keys_each: u64,
        work: impl Fn(u64, u64) -> F + Send + Sync + 'static,
    ) -> Result<Round, Failure>
    where
        F: Future<Output = Result<(), Failure>> + Send,
    {
        let before = self.db.stats().pool.loads;
        let mut round = self.runtime.block_on(measure::tasks(tasks, self.args.seconds, work))?;
        let loads = self.db.stats().pool.loads - before;
        round.count = loads.min(round.count * keys_each);
        Ok(round)
    }

    fn gets(&self) -> Result<(), Failure> {
        for depth in [1, 8, 32, 128, 512] {
            let ours = |round| {
                let (tree, keys) = (self.tree.clone(), self.args.keys);
                self.reads(depth, 1, move |task, turn| {
                    let (tree, number) = (tree.clone(), some_key(round, task, turn, keys));
                    async move {
                        let len = tree.get_with(key(number), <[u8]>::len).await?;
                        expect(len == Some(data::VALUE_LEN), number)
                    }
                })
            };
            let fio = || Job::random_reads(&self.file, depth, self.args.seconds).run();
            let rounds = self.rounds(ours, fio)?;
            let target = match depth {
                32 => Target::AtLeast(0.95),
                128 => Target::AtLeast(0.93),
                _ => Target::None,
            };
            let name = format!("cold gets, {depth} in flight");
            rounds.row(&format!("{name}: a second"), Round::per_second, target);
            if depth == 1 {
                rounds.row(&format!("{name}: p50, us"), |r| r.p50_us, Target::AtMost(1.15));
                rounds.row(&format!("{name}: p99, us"), |r| r.p99_us, Target::None);
            }
            rounds.row(&format!("{name}: processor us"), Round::cpu_us, Target::AtMost(2.5));
        }
        Ok(())
    }

    fn many(&self) -> Result<(), Failure> {
        let ours = |round| {
            let (tree, keys) = (self.tree.clone(), self.args.keys);
            self.reads(1, MANY, move |task, turn| {
                let tree = tree.clone();
                let number = move |at| some_key(round, at, turn * 8 + task, keys);
                async move {
                    let values = tree.get_many((0..MANY).map(|at| key(number(at)))).await?;
                    expect(values.iter().all(Option::is_some), turn)
                }
            })
        };
        let fio = || Job::random_reads(&self.file, MANY, self.args.seconds).run();
        let rounds = self.rounds(ours, fio)?;
        let name = "get_many of 100 cold keys";
        rounds.row(&format!("{name}: keys a second"), Round::per_second, Target::None);
        let row = format!("{name}: processor us a key");
        rounds.row(&row, Round::cpu_us, Target::AtMost(1.5));
        Ok(())
    }

    fn scan(&self) -> Result<(), Failure> {
        let ours = |_| {
            let (tree, keys) = (self.tree.clone(), self.args.keys);
            let before = self.db.stats().pool.loads;
            // Once to its end.
            let mut round = self.runtime.block_on(measure::tasks(1, 0.0001, move |_, turn| {
                let tree = tree.clone();
                async move {
                    let (mut pairs, mut range) = (0, tree.range(..));
                    while let Some(chunk) = range.next_chunk().await? {
                        pairs += chunk.len() as u64;
                    }
                    expect(pairs == keys, turn)
                }
            }))?;
            round.count = self.db.stats().pool.loads - before;
            Ok(round)
        };
        let piece = 1 << 20;
        let fio = || {
            let mut round = Job::sequential_reads(&self.file, piece, 4, self.args.seconds).run()?;
            round.count *= piece / PAGE;
            Ok(round)
        };
        let rounds = self.rounds(ours, fio)?;
        let rate = |round: &Round| round.per_second() * PAGE as f64 / 1e6;
        rounds.row("cold scan, and 1 MiB reads, 4 in flight: MB/s", rate, Target::None);
        rounds.row("cold scan: processor us a page", Round::cpu_us, Target::None);
        Ok(())
    }

    fn commits(&self, raw: &Path) -> Result<(), Failure> {
        std::fs::write(raw, vec![7; RAW_LEN])?;
        std::fs::File::open(raw)?.sync_all()?;
        let path = raw.with_extension("tr");
        let (db, tree) = self.runtime.block_on(open(&path, 256))?;
        let ours = |_| {
            let tree = tree.clone();
            self.runtime.block_on(measure::tasks(1, self.args.seconds, move |_, turn| {
                let (tree, number) = (tree.clone(), turn % COMMITTED);
                async move { Ok(tree.put(key(number), value(number)).await?) }
            }))
        };
        let fio = || Job::durable_writes(raw, self.args.seconds).run();
        let rounds = self.rounds(ours, fio)?;
        let name = "durable commits, 1 writer, and durable 4 KiB writes";
        rounds.row(&format!("{name}: a second"), Round::per_second, Target::None);
        rounds.row(&format!("{name}: p50, us"), |r| r.p50_us, Target::AtMost(1.15));
        rounds.row(&format!("{name}: p99, us"), |r| r.p99_us, Target::None);
        rounds.row(&format!("{name}: processor us"), Round::cpu_us, Target::None);
        self.runtime.block_on(db.close())?;
        std::fs::remove_dir_all(&path)?;
        std::fs::remove_file(raw)?;
        Ok(())
    }
}

impl Rounds {
    fn row(&self, name: &str, figure: impl Fn(&Round) -> f64, target: Target) {
        let of = |side: fn(&(Round, Round)) -> &Round| {
            let figure = median(self.0.iter().map(|both| figure(side(both))));
            if figure < 1e3 { format!("{figure:.1}") } else { whole(figure) }
        };
        let ratio = median(self.0.iter().map(|(ours, fio)| figure(ours) / figure(fio)));
        let (ours, fio) = (of(|both| &both.0), of(|both| &both.1));
        table::row(&[name.into(), ours, fio, format!("{ratio:.2}"), target.cell(ratio)]);
    }
}

/// The number of a key at random, another one each time.
fn some_key(round: u64, task: u64, turn: u64, keys: u64) -> u64 {
    mix(round << 56 ^ task << 40 ^ turn ^ 0x7ee1) % keys
}

fn expect(so: bool, number: u64) -> Result<(), Failure> {
    if so { Ok(()) } else { Err(format!("key or turn {number}: not what was loaded").into()) }
}
