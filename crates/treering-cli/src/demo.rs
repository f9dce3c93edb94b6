//! `demo`: a million records through thousands of tasks, a hard kill in the middle of more, and what
//! is there after that.
//!
//! The second load runs in a process of its own, this same program, which is killed with SIGKILL at
//! a random moment: nothing of it gets to tidy up. It sends each key through a pipe after its commit
//! was acknowledged as durable, so what has come through the pipe is what it had promised.

use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use treering::{Database, Durability, Tree};

use crate::args::{DemoArgs, EngineArgs, Format};
use crate::error::{Failure, Verdict};
use crate::input::{Input, PENNYSORT_KEY_LEN};
use crate::load::{Plan, load};
use crate::open::{Missing, open};
use crate::output::{count_bar, grouped, say};
use crate::pennysort::{self, Key, Record};

const TREE: &str = "main";
/// Keys that were acknowledged are looked up this many at a time, by this many tasks.
const CHECK_AT_ONCE: usize = 512;
const CHECK_TASKS: usize = 16;
/// Single lookups, and how many are under way at the same time.
const LOOKUPS: usize = 20_000;
const LOOKUP_TASKS: usize = 64;

pub(crate) async fn run(engine: &EngineArgs, args: DemoArgs) -> Result<Verdict, Failure> {
    tokio::select! {
        verdict = tell(engine, &args) => verdict,
        // What was told so far is dropped, and the temporary folder with it.
        _ = tokio::signal::ctrl_c() => Err(Failure::wrong("the demonstration was interrupted")),
    }
}

async fn tell(engine: &EngineArgs, args: &DemoArgs) -> Result<Verdict, Failure> {
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("treering-demo-").tempdir_in(&parent);
    let folder = folder.map_err(|error| {
        let parent = parent.display();
        Failure::used_wrongly(format!("no temporary folder can be made in {parent}: {error}"))
    })?;
    let demo = Demo { engine, args, folder: folder.path() };
    say(format_args!("a treering database in {}\n", folder.path().display()))?;
    demo.generate().await?;
    demo.load().await?;
    let acknowledged = demo.load_and_kill().await?;
    demo.come_back(acknowledged).await
}

struct Demo<'a> {
    engine: &'a EngineArgs,
    args: &'a DemoArgs,
    /// Where the database and the inputs are.
    folder: &'a Path,
}

impl Demo<'_> {
    fn first(&self) -> Range<u64> {
        0..self.args.records as u64
    }

    fn second(&self) -> Range<u64> {
        let first = self.first();
        first.end..first.end + first.end.div_ceil(2)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    async fn generate(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        let (first, second) = (self.first(), self.second());
        let total = second.end;
        let files = [(self.path("first.txt"), first), (self.path("second.txt"), second)];
        let write = move || {
            files.into_iter().try_for_each(|(path, numbers)| {
                let written = pennysort::write(&path, numbers);
                written.map_err(|error| format!("writing {}: {error}", path.display()))
            })
        };
        blocking(write).await?.map_err(Failure::wrong)?;
        report("generated", begun, format_args!("{} records of 100 bytes", grouped(total)))
    }

    async fn load(&self) -> Result<(), Failure> {
        let inputs = Input::open_all(&[self.path("first.txt")])?;
        let database = open(self.engine, &self.path("data.tr"), Missing::Make).await?;
        let tree = database.tree(TREE).await?;
        let plan = Plan {
            format: Format::Pennysort,
            tasks: self.args.tasks,
            batch: 1,
            durability: Durability::Durable,
            acks: None,
        };
        let begun = Instant::now();
        let loaded = load(&database, &tree, inputs, plan).await?;
        if let Some(failure) = loaded.failure {
            return Err(failure);
        }
        report(
            "loaded",
            begun,
            format_args!(
                "{} records by {} tasks, each record a durable commit of its own: {}/s",
                grouped(loaded.records),
                grouped(self.args.tasks as u64),
                grouped(loaded.rate() as u64)
            ),
        )?;
        let log = database.stats().log;
        detail(format_args!(
            "{} log writes, so {:.0} commits shared one on average",
            grouped(log.groups_written),
            log.records_written as f64 / log.groups_written.max(1) as f64
        ))?;
        Ok(database.close().await?)
    }

    /// Loads the second file in another process and kills that in the middle. Returns the keys that
    /// it had acknowledged.
    async fn load_and_kill(&self) -> Result<Vec<Key>, Failure> {
        let begun = Instant::now();
        let second = self.second();
        let total = second.end - second.start;
        // Far enough from both ends to be the middle, wherever in it.
        // The standard library seeds its hashers from the system's random source.
        let mut random = SmallRng::seed_from_u64(RandomState::new().hash_one(total));
        let enough = random.random_range(total / 5..=total / 2).max(1);
        let child = Victim::start(self.command()?)?;
        let keys = blocking(move || child.kill_after(enough)).await??;
        report(
            "killed",
            begun,
            format_args!(
                "a second load (SIGKILL), which had acknowledged {} of {} records",
                grouped(keys.len() as u64),
                grouped(total)
            ),
        )?;
        Ok(keys)
    }

    /// This program, loading the second file.
    fn command(&self) -> Result<Command, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::wrong(format!("finding this program: {error}")))?;
        let mut command = Command::new(program);
        command.arg("load").arg(self.path("data.tr")).arg(self.path("second.txt"));
        command.args(["--tree", TREE, "--acks", "/dev/stdout"]);
        command.arg("--tasks").arg(self.args.tasks.to_string());
        command.arg("--cache").arg(self.engine.cache.to_string());
        if let Some(io) = self.engine.io.to_possible_value() {
            command.arg("--io").arg(io.get_name());
        }
        Ok(command)
    }

    async fn come_back(&self, acknowledged: Vec<Key>) -> Result<Verdict, Failure> {
        let begun = Instant::now();
        let database = open(self.engine, &self.path("data.tr"), Missing::Refuse).await?;
        report(
            "recovered",
            begun,
            format_args!("{} log records replayed", grouped(database.recovery().replayed)),
        )?;
        let tree = database
            .find_tree(TREE)?
            .ok_or_else(|| Failure::wrong("the tree is lost with all that was in it"))?;
        let mut lost = self.check(&tree, acknowledged).await?;
        lost += self.look_up(&tree).await?;
        lost += self.scan(&tree).await?;
        let problems = verify(&database).await?;
        database.close().await?;
        let well = lost == 0 && problems == 0;
        say(match well {
            true => "\nnothing was lost".to_owned(),
            false => format!("\nlost or wrong: {}, problems: {problems}", grouped(lost)),
        })?;
        Ok(if well { Verdict::Fine } else { Verdict::Wrong })
    }

    /// Every acknowledged key has to be there with its value.
    async fn check(&self, tree: &Tree, keys: Vec<Key>) -> Result<u64, Failure> {
        let begun = Instant::now();
        let (keys, numbers) = (Arc::new(keys), self.second());
        let bar = count_bar("checking", keys.len() as u64);
        let mut tasks = JoinSet::new();
        for first in 0..CHECK_TASKS {
            let (keys, tree, bar) = (Arc::clone(&keys), tree.clone(), bar.clone());
            let numbers = numbers.clone();
            tasks.spawn(async move {
                let mut lost = 0;
                for keys in keys.chunks(CHECK_AT_ONCE).skip(first).step_by(CHECK_TASKS) {
                    let values = tree.get_many(keys).await?;
                    for (key, value) in keys.iter().zip(&values) {
                        let number = value.as_ref().and_then(|value| Record::check(key, value));
                        lost += u64::from(!number.is_some_and(|number| numbers.contains(&number)));
                    }
                    bar.inc(keys.len() as u64);
                }
                Ok::<u64, Failure>(lost)
            });
        }
        let lost = sum(tasks).await?;
        bar.finish_and_clear();
        let keys = grouped(keys.len() as u64);
        report("checked", begun, format_args!("{keys} acknowledged records, lost {lost}"))?;
        Ok(lost)
    }

    /// Random records of the first load, one by one.
    async fn look_up(&self, tree: &Tree) -> Result<u64, Failure> {
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for task in 0..LOOKUP_TASKS as u64 {
            let (numbers, tree) = (self.first(), tree.clone());
            tasks.spawn(async move {
                let mut random = SmallRng::seed_from_u64(task);
                let mut lost = 0;
                for _ in 0..LOOKUPS / LOOKUP_TASKS {
                    let record = Record::new(random.random_range(numbers.clone()));
                    let same = |value: &[u8]| *value == record.value;
                    lost += u64::from(tree.get_with(record.key, same).await? != Some(true));
                }
                Ok::<u64, Failure>(lost)
            });
        }
        let lost = sum(tasks).await?;
        let lookups = (LOOKUPS / LOOKUP_TASKS * LOOKUP_TASKS) as u64;
        let what = format_args!("{} random records, lost {lost}", grouped(lookups));
        report("looked up", begun, what)?;
        Ok(lost)
    }

    /// Everything in key order: each pair has to be a record, and all of the first load be there.
    async fn scan(&self, tree: &Tree) -> Result<u64, Failure> {
        let begun = Instant::now();
        let (first, second) = (self.first(), self.second());
        let bar = count_bar("scanning", second.end);
        let (mut pairs, mut of_first, mut wrong) = (0, 0, 0);
        let mut last: Option<Vec<u8>> = None;
        let mut range = tree.range(..);
        while let Some(chunk) = range.next_chunk().await? {
            for (key, value) in chunk.iter() {
                let number = Record::check(key, value).filter(|number| *number < second.end);
                of_first += u64::from(number.is_some_and(|number| first.contains(&number)));
                let in_order = last.as_deref().is_none_or(|last| last < key);
                wrong += u64::from(number.is_none() || !in_order);
                let last = last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
            }
            pairs += chunk.len() as u64;
            bar.inc(chunk.len() as u64);
        }
        bar.finish_and_clear();
        let lost = first.end - of_first;
        report(
            "scanned",
            begun,
            format_args!("{} records in key order, lost {lost}, wrong {wrong}", grouped(pairs)),
        )?;
        Ok(lost + wrong)
    }
}

async fn verify(database: &Database) -> Result<usize, Failure> {
    let begun = Instant::now();
    let checked = database.verify().await?;
    let what = format!(
        "{} pages, height {}, {} problems",
        grouped(checked.pages),
        checked.height,
        checked.problems.len()
    );
    report("verified", begun, what)?;
    for problem in &checked.problems {
        detail(problem)?;
    }
    Ok(checked.problems.len())
}

/// The process that is going to be killed; also if this one gives up.
struct Victim(Child);

impl Victim {
    fn start(mut command: Command) -> Result<Self, Failure> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn();
        Ok(Self(child.map_err(|error| Failure::wrong(format!("starting a process: {error}")))?))
    }

    /// Kills it when it has acknowledged this many keys, and returns all that it had.
    fn kill_after(mut self, enough: u64) -> Result<Vec<Key>, Failure> {
        let failed = |error| Failure::wrong(format!("watching the second load: {error}"));
        let mut pipe = self.0.stdout.take().ok_or_else(|| Failure::wrong("there is no pipe"))?;
        let (mut lines, mut block) = (Vec::new(), vec![0; 1 << 16]);
        let mut killed = false;
        loop {
            let read = pipe.read(&mut block).map_err(failed)?;
            if read == 0 {
                break;
            }
            lines.extend_from_slice(&block[..read]);
            if !killed && lines.len() as u64 / (PENNYSORT_KEY_LEN as u64 + 1) >= enough {
                self.0.kill().map_err(failed)?;
                killed = true;
            }
        }
        let status = self.0.wait().map_err(failed)?;
        if !killed || status.signal().is_none() {
            let mut said = String::new();
            if let Some(stderr) = &mut self.0.stderr {
                stderr.read_to_string(&mut said).map_err(failed)?;
            }
            let said = said.trim();
            return Err(Failure::wrong(format!(
                "the second load ended by itself, {status}: {said}"
            )));
        }
        // A last line without its end is none.
        let (keys, _) = lines.as_chunks::<{ PENNYSORT_KEY_LEN + 1 }>();
        Ok(keys.iter().map(|line| std::array::from_fn(|at| line[at])).collect())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It has ended already, unless something else went wrong.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::wrong(format!("a thread ended by itself: {error}")))
}

async fn sum(mut tasks: JoinSet<Result<u64, Failure>>) -> Result<u64, Failure> {
    let mut total = 0;
    while let Some(ended) = tasks.join_next().await {
        let part =
            ended.map_err(|panic| Failure::wrong(format!("a task ended by itself: {panic}")))?;
        total += part?;
    }
    Ok(total)
}

/// A line of the table.
fn report(step: &str, begun: Instant, what: impl std::fmt::Display) -> Result<(), Failure> {
    let elapsed: Duration = begun.elapsed();
    say(format_args!("{step:<10} {:>7.2} s   {what}", elapsed.as_secs_f64()))
}

/// A line that goes with the one above it.
fn detail(what: impl std::fmt::Display) -> Result<(), Failure> {
    say(format_args!("{:<22}{what}", ""))
}
