//! `threadskv`: the command line of the program that this engine succeeds.
//!
//! It takes what that one took, and prints what that one printed, line by line: what is found goes
//! to standard output, what is said about it to standard error. Each FILE has a worker of its own
//! (a task), all of them run at the same time, and worker `n` runs the `n`th letter of the commands,
//! or the last one if there are fewer. At the end the database is closed and the times are printed.
//!
//! What is another way round here, because it was a fault there:
//! * `d` deletes, also without `txn_size`, and its count of found keys counts those;
//! * `r` returns all keys, and `a` says how many it counted;
//! * what is left of a file behind its last whole batch is committed, too;
//! * a file that cannot be read, and a line that is no record, are errors, with exit code 1;
//! * lines are not cut off at 255 bytes: what is too long for a key is an error.
//!
//! And what is only more convenient: a page size or a pool that was not given is that of the other
//! commands, and commands that read no file can be run without a placeholder for it.
//!
//! Reads and writes are pages read and written by the whole pool while the worker ran: pages are
//! read and written for all workers together.

mod audit;
mod times;
mod worker;

use std::io::{self, Write};
use std::path::PathBuf;

use tokio::task::JoinSet;
use treering::{Database, Durability};

use crate::args::{EngineArgs, ThreadskvArgs};
use crate::error::{Failure, Verdict};
use crate::open::{Missing, open};
use crate::threadskv::times::Times;
use crate::threadskv::worker::{Job, Worker};

/// The tree that all of it is about: the one that the other commands take by default.
const TREE: &str = "main";
/// The least and the most that `page_bits` may be.
const PAGE_BITS: std::ops::RangeInclusive<u32> = 9..=24;

pub(crate) async fn run(engine: &EngineArgs, args: ThreadskvArgs) -> Result<Verdict, Failure> {
    let begun = Times::start();
    let settings = Settings::new(engine, &args)?;
    let jobs = jobs(&args)?;
    let path = &args.database.database;
    let database = open(&settings.engine, path, Missing::Make).await?;
    let result = work(&database, jobs, &settings).await;
    let before = database.stats().pool.writes;
    let flushed = database.checkpoint().await;
    let written = database.stats().pool.writes - before;
    let closed = database.close().await;
    // After a failure, what closing adds to it would only hide it.
    let mut verdict = result?;
    flushed?;
    closed?;
    let pinned = database.stats().pool.pinned;
    if let Some(left) = audit::left_behind(pinned) {
        tell(left);
        verdict = Verdict::Wrong;
    }
    tell(format_args!("{written} buffer pool pages flushed"));
    for line in begun.lines() {
        tell(line);
    }
    Ok(verdict)
}

/// What the numbers of the command line mean here.
struct Settings {
    engine: EngineArgs,
    durability: Durability,
    /// Records a batch; 0: each is a commit of its own.
    batch: usize,
}

impl Settings {
    fn new(engine: &EngineArgs, args: &ThreadskvArgs) -> Result<Self, Failure> {
        let mut engine = engine.clone();
        let bits = args.page_bits.unwrap_or(12);
        if !PAGE_BITS.contains(&bits) {
            return Err(Failure::used_wrongly(format!(
                "page_bits is {bits}: a page has 2^9 to 2^24 bytes, so give 9 to 24"
            )));
        }
        // A database that is there has the page size that it was made with.
        if args.page_bits.is_some() && !args.database.database.join("pages").exists() {
            engine.page_size = Some(1 << bits);
        }
        if args.pool_pages > 0 {
            engine.cache = args.pool_pages.saturating_mul(1 << bits);
        }
        let durability = match args.log_pages {
            // There it had no log at all: what is not in a checkpoint may be lost.
            0 => Durability::None,
            pages => {
                engine.log_size = Some(pages.saturating_mul(1 << bits));
                Durability::Buffered
            }
        };
        Ok(Self { engine, durability, batch: args.txn_size })
    }
}

/// What the workers do: one for each file, or, without files, one for each letter.
fn jobs(args: &ThreadskvArgs) -> Result<Vec<(Job, PathBuf)>, Failure> {
    let letters: Vec<char> = args.commands.chars().collect();
    let Some(&last) = letters.last() else {
        return Err(Failure::used_wrongly("there are no commands: give letters of cdfprswa"));
    };
    let workers = if args.files.is_empty() { letters.len() } else { args.files.len() };
    let job = |number: usize| {
        let letter = letters.get(number).copied().unwrap_or(last);
        let job = Job::from_letter(letter).ok_or_else(|| {
            Failure::used_wrongly(format!(
                "{letter:?} is no command: c counts, r scans in reverse, w writes lines, s scans, \
                 d deletes, f finds, p loads pennysort records, a audits"
            ))
        })?;
        match args.files.get(number) {
            Some(file) => Ok((job, file.clone())),
            None if job.reads_a_file() => {
                Err(Failure::used_wrongly(format!("{letter:?} reads a file: give a FILE for it")))
            }
            None => Ok((job, PathBuf::new())),
        }
    };
    (0..workers).map(job).collect()
}

/// Runs all workers. The first failure counts; the other workers come to their end all the same.
async fn work(
    database: &Database,
    jobs: Vec<(Job, PathBuf)>,
    settings: &Settings,
) -> Result<Verdict, Failure> {
    let tree = database.tree(TREE).await?;
    let mut workers = JoinSet::new();
    for (job, file) in jobs {
        let worker = Worker {
            database: database.clone(),
            tree: tree.clone(),
            file,
            batch: settings.batch,
            durability: settings.durability,
        };
        workers.spawn(worker.run(job));
    }
    let mut result = Ok(Verdict::Fine);
    while let Some(ended) = workers.join_next().await {
        let ended = ended.unwrap_or_else(|panic| {
            Err(Failure::wrong(format!("a worker ended by itself: {panic}")))
        });
        match (&result, ended) {
            (Ok(_), Err(failure)) => result = Err(failure),
            (Ok(_), Ok(Verdict::Wrong)) => result = Ok(Verdict::Wrong),
            _ => {}
        }
    }
    result
}

/// One line on standard error, as the old program wrote it, if anybody is there to read it.
fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
