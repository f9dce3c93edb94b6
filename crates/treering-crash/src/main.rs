//! Real crashes: a process with hundreds of tasks writes to a database on the real disk and is killed
//! with SIGKILL at a random moment; then everything is checked, and the next one goes on from there.
//!
//! * `treering-crash --cycles N --io uring|threads|both` is what a person, or `ci/crash`, runs. It
//!   starts itself again as the process to be killed ([`writer`]), hears from it what it was told, and
//!   checks ([`check`]) after each kill that exactly that is there: every acknowledged write, nothing
//!   of a delete, each batch wholly or not at all, every page sound.
//! * Three kills in four come once writes are acknowledged, at any time within `--life`; every fourth
//!   at any time from the start of the process on, so also while it recovers. Every third cycle the
//!   recovery itself is killed, some times in a row, before anything is checked.
//! * What the tasks write follows from `--seed` ([`plan`]); the moments do as far as clocks go.
//!
//! In the end it says what came of it. After a failure the database stays where it is.

mod check;
mod plan;
mod writer;

use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::{Io, Options};

use crate::check::Known;
use crate::plan::Plan;

#[derive(Clone, Debug, Parser)]
#[command(about = "Kills a writing process again and again; checks what is there after each")]
struct Settings {
    /// How many processes are killed
    #[arg(long, default_value_t = 20)]
    cycles: u64,
    /// How the disk is reached; `both` takes turns on the same database
    #[arg(long, value_enum, default_value = "both")]
    io: IoArg,
    /// Tasks that write
    #[arg(long, default_value_t = 256)]
    tasks: u16,
    /// How long a process may write before it is killed, in milliseconds
    #[arg(long, default_value_t = 150)]
    life: u64,
    /// What the tasks write, and the moments of the kills; random if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Where the database goes; a temporary folder otherwise
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Be the process that is killed, in this cycle
    #[arg(long, hide = true)]
    writer: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IoArg {
    Uring,
    Threads,
    Both,
}

/// How a cycle opens the database: with little memory and a small log, or with more.
fn options(settings: &Settings, plan: Plan) -> Options {
    let io = match settings.io {
        IoArg::Uring => Io::Uring,
        IoArg::Threads => Io::Threads,
        IoArg::Both if plan.cycle.is_multiple_of(2) => Io::Uring,
        IoArg::Both => Io::Threads,
    };
    let sizes = [(1 << 20, 2 << 20), (4 << 20, 8 << 20), (32 << 20, 32 << 20)];
    let (cache, log) = sizes[(plan.cycle / 2 % 3) as usize];
    Options::new().io(io).cache_size(cache).log_size(log).log_buffer(16 << 10)
}

fn main() -> ExitCode {
    let settings = Settings::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime cannot be started: {error}")),
    };
    if let (Some(cycle), Some(folder), Some(seed)) = (settings.writer, &settings.dir, settings.seed)
    {
        return match runtime.block_on(writer::run(folder, Plan { seed, cycle }, &settings)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&format!("the writer of cycle {cycle}: {error}")),
        };
    }
    let folder = match settings.dir.clone().map_or_else(temporary, Ok) {
        Ok(folder) => folder,
        Err(error) => return failed(&format!("no folder can be made: {error}")),
    };
    let seed = settings.seed.unwrap_or_else(random_seed);
    let mut run = Run {
        rng: SmallRng::seed_from_u64(seed),
        known: Known::new(settings.tasks),
        folder,
        seed,
        settings,
        sums: Sums::default(),
    };
    let begun = Instant::now();
    for cycle in 1..=run.settings.cycles {
        if let Err(why) = run.cycle(cycle, &runtime) {
            let place = run.folder.display();
            eprintln!("{}", run.sums.shown(begun));
            return failed(&format!(
                "cycle {cycle} of seed {seed}: {why}\neverything is in {place}"
            ));
        }
        if cycle % 100 == 0 {
            eprintln!("{}", run.sums.shown(begun));
        }
    }
    println!("{}", run.sums.shown(begun));
    if run.sums.hit == 0 && run.settings.cycles > 0 {
        return failed("no kill hit anything");
    }
    // What could not be removed is the temporary folder's user's to remove.
    let _ = std::fs::remove_dir_all(&run.folder);
    ExitCode::SUCCESS
}

/// The standard library seeds its hashers from the system's random source.
fn random_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn temporary() -> std::io::Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix("treering-crash-").tempdir()?.keep())
}

fn failed(why: &str) -> ExitCode {
    eprintln!("treering-crash: {why}");
    ExitCode::FAILURE
}

/// What has happened so far.
#[derive(Default)]
struct Sums {
    cycles: [u64; 2],
    /// Kills of processes that were at it.
    hit: u64,
    /// Of those, before the database was open.
    opening: u64,
    acknowledged: u64,
    /// Operations that were there although nobody had heard of them.
    unheard: u64,
    replayed: u64,
}

impl Sums {
    fn shown(&self, begun: Instant) -> String {
        let (cycles, seconds) = (self.cycles[0] + self.cycles[1], begun.elapsed().as_secs_f64());
        format!(
            "{cycles} cycles ({} io_uring, {} threads), {} kills that hit, {} of them during \
             recovery; {} writes acknowledged, lost 0, torn 0; {} under way were there, {} log \
             records replayed; {seconds:.1} s",
            self.cycles[0],
            self.cycles[1],
            self.hit,
            self.opening,
            self.acknowledged,
            self.unheard,
            self.replayed,
        )
    }
}

struct Run {
    rng: SmallRng,
    known: Known,
    folder: PathBuf,
    seed: u64,
    settings: Settings,
    sums: Sums,
}

impl Run {
    /// Lets a process write, kills it, and checks.
    fn cycle(&mut self, cycle: u64, runtime: &tokio::runtime::Runtime) -> Result<(), String> {
        let plan = Plan { seed: self.seed, cycle };
        let early = self.rng.random_ratio(1, 4);
        let life = self.rng.random_range(0..=self.settings.life * 1000);
        let told = self.kill(plan, self.settings.tasks, !early, Duration::from_micros(life))?;
        if cycle.is_multiple_of(3) {
            for _ in 0..self.rng.random_range(1..4) {
                let life = Duration::from_micros(self.rng.random_range(1_000..40_000));
                self.kill(plan, 0, false, life)?;
            }
        }
        let Self { known, folder, settings, .. } = self;
        let found = runtime.block_on(known.check(&database(folder), plan, settings, &told));
        let found = found.map_err(|error| format!("after the kill: {error}"))?;
        if !found.lost.is_empty() || !found.torn.is_empty() {
            let all = |what: &[String]| what.join("\n  ");
            return Err(format!("LOST:\n  {}\nTORN:\n  {}", all(&found.lost), all(&found.torn)));
        }
        let threads = match settings.io {
            IoArg::Uring => false,
            IoArg::Threads => true,
            IoArg::Both => cycle % 2 == 1,
        };
        self.sums.cycles[usize::from(threads)] += 1;
        self.sums.acknowledged += told.iter().map(|&told| u64::from(told)).sum::<u64>();
        self.sums.unheard += found.unheard;
        self.sums.replayed += found.replayed;
        Ok(())
    }

    /// Starts a process and kills it after so long, counted from its start, or from its first
    /// acknowledged write. Returns how many operations each task was told of.
    fn kill(
        &mut self,
        plan: Plan,
        tasks: u16,
        after_first: bool,
        life: Duration,
    ) -> Result<Vec<u32>, String> {
        let started = self.start(plan, tasks);
        let mut child = started.map_err(|error| format!("starting the writer: {error}"))?;
        let mut out = child.stdout.take().ok_or("the writer has no output")?;
        let (say_begun, begun) = mpsc::channel();
        let listener = thread::spawn(move || {
            let (mut told, mut opened) = (vec![0; usize::from(tasks)], false);
            let mut message = [0; 8];
            // What a kill leaves of a message is none.
            while out.read_exact(&mut message).is_ok() {
                let (task, number) = writer::parse(message);
                match told.get_mut(usize::from(task)) {
                    Some(told) if *told == number => *told += 1,
                    None if task == writer::OPENED => opened = true,
                    _ => return Err(format!("task {task} was told of {number} out of turn")),
                }
                if task != writer::OPENED {
                    // The other side is gone when it has heard it once.
                    let _ = say_begun.send(());
                }
            }
            Ok((told, opened))
        });
        if after_first {
            // An error: it ended before that, and its exit status tells.
            let _ = begun.recv();
        }
        // The moment of the kill is a time, and nothing else.
        thread::sleep(life);
        child.kill().map_err(|error| format!("killing the writer: {error}"))?;
        let status = child.wait().map_err(|error| format!("waiting for the writer: {error}"))?;
        let (told, opened) = listener.join().map_err(|_| "the listener panicked".to_owned())??;
        match status.code() {
            None => {
                self.sums.hit += 1;
                self.sums.opening += u64::from(!opened);
            }
            Some(0) if tasks == 0 => {}
            Some(code) => return Err(format!("the writer ended by itself with {code}")),
        }
        Ok(told)
    }

    fn start(&self, plan: Plan, tasks: u16) -> std::io::Result<Child> {
        let io = match self.settings.io {
            IoArg::Uring => "uring",
            IoArg::Threads => "threads",
            IoArg::Both => "both",
        };
        Command::new(std::env::current_exe()?)
            .arg("--dir")
            .arg(database(&self.folder))
            .args(["--writer", &plan.cycle.to_string(), "--seed", &plan.seed.to_string()])
            .args(["--io", io, "--tasks", &tasks.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
    }
}

fn database(folder: &Path) -> PathBuf {
    folder.join("data.tr")
}
