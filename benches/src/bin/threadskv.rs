//! The own work of one of this engine's predecessors, threadskv9: two workers insert two million records of
//! the sort benchmark from two files, find them all, scan them and delete them, everything in memory
//! and no commit waiting for the log. With `--c PROGRAM`, the compiled program does the same beside it, on
//! the same files, in alternation. Prints a table.
//!
//! * Each worker has a file, which it reads line by line, and does one operation after the other: here a task of
//!   the runtime with futures, there a thread. Files are in the system's cache for both.
//! * *Work* is from the first operation to the last one, *all of it* has opening and closing, too. Only
//!   here does that mean that everything is safe on the disk; the C program syncs nothing.
//! * Here the database stays open from the first row to the last one. The C program is started for each,
//!   and reads its file again, from the system's cache.
//! * The C program's delete deletes nothing: without batches, its command `d` does what `p` does, and
//!   puts all records once more. (With batches of one it crashes.) So its time is for two
//!   million updates. After it the program counts as many keys as before, which the last line tells.
//!
//! `cargo run --release -p treering-benches --bin threadskv -- [--folder DIR] [--c PROGRAM]`, where the
//! program is `gcc -O2 -w -DSTANDALONE -Dunix -Dlinux threadskv9.c -lpthread`.

use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Parser;
use treering::{Durability, Options, Tree};
use treering_benches::data::mix;
use treering_benches::folder::Folder;
use treering_benches::measure::median;
use treering_benches::raw::Failure;
use treering_benches::table::{self, Target};

#[derive(Parser)]
struct Args {
    /// Where to work; a temporary folder by default.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Records, in two files.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// The compiled C program.
    #[arg(long)]
    c: Option<PathBuf>,
    /// Rounds of each.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Bytes of a page of ours; the C program has pages of 16 KiB.
    #[arg(long, default_value_t = 4096)]
    page_size: usize,
}

const WORKERS: u64 = 2;
const KEY_LEN: usize = 10;
const VALUE_LEN: usize = 88;
/// What the C program gets: bits of a page, pages of its pool, no batches, no log.
const C_OPTIONS: [&str; 4] = ["14", "65536", "0", "0"];

/// The rows, with the C program's commands for them.
const ROWS: [(&str, &str, Target); 4] = [
    ("insert", "pp", Target::AtLeast(2.0)),
    ("find", "ff", Target::AtLeast(2.0)),
    ("scan", "s", Target::AtLeast(1.5)),
    ("delete", "dd", Target::AtLeast(2.0)),
];

/// Seconds that the rows took.
type Times = [f64; ROWS.len()];

/// Of one round of one program.
struct Round {
    work: Times,
    all_of_it: f64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let folder = Folder::new(args.folder.as_deref())?;
    let each = args.records / WORKERS;
    for worker in 0..WORKERS {
        write_files(&folder, worker, each)?;
    }
    let (mut ours, mut theirs, mut counted) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..args.rounds.max(1) {
        ours.push(treering(&folder, each, args.page_size).await?);
        if let Some(program) = &args.c {
            let (round, said) = c_program(program, &folder)?;
            theirs.push(round);
            counted = said;
        }
    }
    print(&ours, &theirs);
    if !theirs.is_empty() {
        println!("\nAfter its delete, the C program says: {counted}");
    }
    Ok(())
}

fn print(ours: &[Round], theirs: &[Round]) {
    table::head(&["2 workers", "treering, s", "C program, s", "times as fast", "target"]);
    let row = |name: &str, target: Target, figure: &dyn Fn(&Round) -> f64| {
        let seconds = median(ours.iter().map(figure));
        let (mut c, mut ratio, mut goal) = (String::new(), String::new(), String::new());
        if !theirs.is_empty() {
            let rounds = ours.iter().zip(theirs);
            let faster = median(rounds.map(|(ours, c)| figure(c) / figure(ours)));
            c = format!("{:.2}", median(theirs.iter().map(figure)));
            ratio = format!("{faster:.2}");
            goal = target.cell(faster);
        }
        table::row(&[name.into(), format!("{seconds:.2}"), c, ratio, goal]);
    };
    for (at, (name, _, target)) in ROWS.into_iter().enumerate() {
        row(name, target, &|round| round.work[at]);
    }
    row("all of it", Target::None, &|round| round.all_of_it);
}

fn records_of(folder: &Path, worker: u64) -> PathBuf {
    folder.join(format!("records-{worker}"))
}

fn keys_of(folder: &Path, worker: u64) -> PathBuf {
    folder.join(format!("keys-{worker}"))
}

/// A key of ten letters and digits: base 36, and no two numbers have the same.
fn key(number: u64) -> [u8; KEY_LEN] {
    /// 36 to the power of 10.
    const KEYS: u64 = 3_656_158_440_062_976;
    // Multiplying by what shares no factor with the count of all keys is a bijection on them.
    let mixed = u128::from(number) * 2_862_933_555_777_941 % u128::from(KEYS);
    let mut rest = mixed as u64;
    let mut key = [0; KEY_LEN];
    for letter in key.iter_mut().rev() {
        *letter = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
        rest /= 36;
    }
    key
}

/// A file of records for a worker, and one of their keys.
fn write_files(folder: &Path, worker: u64, each: u64) -> Result<(), Failure> {
    let (mut records, mut keys) = (Vec::new(), Vec::new());
    for number in worker * each..(worker + 1) * each {
        let key = key(number);
        records.extend_from_slice(&key);
        let mut value = String::with_capacity(VALUE_LEN);
        write!(value, "{number:016x}")?;
        let mixed = mix(number);
        let letter = |at: usize| char::from(b'A' + ((mixed >> (at % 13)) % 26) as u8);
        value.extend((value.len()..VALUE_LEN).map(letter));
        records.extend_from_slice(value.as_bytes());
        records.push(b'\n');
        keys.extend_from_slice(&key);
        keys.push(b'\n');
    }
    std::fs::write(records_of(folder, worker), records)?;
    std::fs::write(keys_of(folder, worker), keys)?;
    Ok(())
}

/// What workers do with each line of their files.
#[derive(Clone, Copy)]
enum Work {
    Insert,
    Find,
    Delete,
}

impl Work {
    fn file(self, folder: &Path, worker: u64) -> PathBuf {
        match self {
            Self::Find => keys_of(folder, worker),
            Self::Insert | Self::Delete => records_of(folder, worker),
        }
    }

    /// One worker's share.
    async fn work(self, tree: Tree, file: PathBuf) -> Result<u64, Failure> {
        let (mut done, mut line) = (0, Vec::new());
        let mut lines = BufReader::with_capacity(1 << 18, File::open(file)?);
        while lines.read_until(b'\n', &mut line)? > 0 {
            let (key, value) = line.trim_ascii_end().split_at(KEY_LEN);
            let so = match self {
                Self::Insert => tree.put(key, value).await.map(|()| true)?,
                Self::Find => tree.get_with(key, <[u8]>::len).await? == Some(VALUE_LEN),
                Self::Delete => tree.delete(key).await?,
            };
            done += u64::from(so);
            line.clear();
        }
        Ok(done)
    }
}

/// Seconds that the workers take for all records.
async fn workers(tree: &Tree, folder: &Path, each: u64, work: Work) -> Result<f64, Failure> {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..WORKERS)
        .map(|worker| tokio::spawn(work.work(tree.clone(), work.file(folder, worker))))
        .collect();
    for task in tasks {
        let done = task.await??;
        if done != each {
            return Err(format!("{done} records of {each}").into());
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Seconds that one task takes to go through all pairs, and to copy each into a buffer, as a program does
/// that prints them.
async fn scan(tree: Tree, records: u64) -> Result<f64, Failure> {
    let begun = Instant::now();
    let (mut range, mut pairs, mut out) = (tree.range(..), 0, Vec::new());
    while let Some(chunk) = range.next_chunk().await? {
        for (key, value) in chunk.iter() {
            out.extend_from_slice(key);
            out.extend_from_slice(value);
            out.push(b'\n');
        }
        pairs += chunk.len() as u64;
        black_box(&out);
        out.clear();
    }
    if pairs != records {
        return Err(format!("{pairs} pairs of {records}").into());
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// One round of ours, in a new database.
async fn treering(folder: &Path, each: u64, page_size: usize) -> Result<Round, Failure> {
    let path = folder.join("threadskv.tr");
    let begun = Instant::now();
    let options = Options::new().page_size(page_size).cache_size(1 << 30).log_size(2 << 30);
    let db = options.durability(Durability::None).open(&path).await?;
    let tree = db.tree("records").await?;
    let insert = workers(&tree, folder, each, Work::Insert).await?;
    let find = workers(&tree, folder, each, Work::Find).await?;
    let scan = tokio::spawn(scan(tree.clone(), each * WORKERS)).await??;
    let delete = workers(&tree, folder, each, Work::Delete).await?;
    db.close().await?;
    let all_of_it = begun.elapsed().as_secs_f64();
    std::fs::remove_dir_all(&path)?;
    Ok(Round { work: [insert, find, scan, delete], all_of_it })
}

/// One round of the C program, with a new file; and what it says of its keys in the end.
fn c_program(program: &Path, folder: &Path) -> Result<(Round, String), Failure> {
    let file = folder.join("threadskv.c.idx");
    let mut round = Round { work: [0.0; ROWS.len()], all_of_it: 0.0 };
    for (at, (name, command, _)) in ROWS.into_iter().enumerate() {
        let begun = Instant::now();
        let (work, said) = run_c(program, &file, command, folder)?;
        let finished = said.iter().filter(|line| line.contains("finished")).count();
        if finished as u64 != WORKERS && name != "scan" {
            return Err(format!("the C program ended in {name}: {said:?}").into());
        }
        round.work[at] = work;
        round.all_of_it += begun.elapsed().as_secs_f64();
    }
    let (_, said) = run_c(program, &file, "c", folder)?;
    std::fs::remove_file(file)?;
    let counted = said.iter().find(|line| line.contains("Total keys"));
    Ok((round, counted.map_or("nothing", |line| line.trim()).to_string()))
}

/// Runs the C program for one command. Seconds from its first line to the last of its workers', and all
/// lines.
fn run_c(
    program: &Path,
    file: &Path,
    command: &str,
    folder: &Path,
) -> Result<(f64, Vec<String>), Failure> {
    let of_worker = if command == "ff" { keys_of } else { records_of };
    let files = (0..command.len() as u64).map(|worker| of_worker(folder, worker));
    let mut child = Command::new(program)
        .arg(file)
        .arg(command)
        .args(C_OPTIONS)
        .args(files)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let (mut said, mut begun, mut work) = (Vec::new(), None, 0.0);
    for line in BufReader::new(child.stderr.take().ok_or("no standard error")?).lines() {
        let (line, now) = (line?, Instant::now());
        if line.starts_with("started") {
            begun.get_or_insert(now);
        } else if line.starts_with("finished") || line.contains("Total keys") {
            work = begun.map_or(0.0, |begun| (now - begun).as_secs_f64());
        }
        said.push(line);
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("{} {command}: {status}, {said:?}", program.display()).into());
    }
    Ok((work, said))
}
