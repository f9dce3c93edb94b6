//! The `treering` program: loads, looks up, scans, checks and demonstrates a treering database.
//!
//! * Data goes to standard output, as raw bytes; what is said about it, progress bars and errors go
//!   to standard error. An error is one sentence.
//! * Exit code 0: all is well. 1: the command ran and found something wrong, be it a missing key, a
//!   damaged page or a full disk. 2: it was used wrongly, and nothing was done.
//! * Only `load`, `put`, `restore`, `threadskv` and `demo` make a database; the others say that there
//!   is none.
//! * Whoever reads standard output may stop reading: that is no error.

mod acks;
mod args;
mod bench;
mod check;
mod demo;
mod dot;
mod dump;
mod dump_format;
mod error;
mod feed;
mod find;
#[doc(hidden)]
pub mod fuzzing;
mod generate;
mod input;
mod keys;
mod live;
mod load;
mod map;
mod open;
mod output;
mod pennysort;
mod recovery;
mod restore;
mod scan;
mod stat;
mod svg;
mod threadskv;
mod top;
mod trees;
mod words;

use std::io::IsTerminal;
use std::process::ExitCode;

use crate::args::{Arguments, Command};
use crate::error::{Failure, Verdict};

/// The whole program; the binary only calls it.
pub fn main() -> ExitCode {
    let arguments = Arguments::from_command_line();
    trace();
    let verdict = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let verdict = runtime.block_on(run(arguments));
            // A thread that waits for input that never comes does not hold up the exit.
            runtime.shutdown_background();
            verdict
        }
        Err(error) => Err(Failure::wrong(format!("the runtime cannot be started: {error}"))),
    };
    match verdict {
        Ok(verdict) => verdict.into(),
        Err(Failure::NobodyReads) => ExitCode::SUCCESS,
        Err(failure) => {
            // If standard error is gone, too, the exit code has to do.
            let _ = output::complain(&failure);
            failure.code()
        }
    }
}

async fn run(arguments: Arguments) -> Result<Verdict, Failure> {
    let engine = &arguments.engine;
    match arguments.command {
        Command::Load(load) => load::run(engine, load).await,
        Command::Get(key) => keys::get(engine, key).await,
        Command::Put(pair) => keys::put(engine, pair).await,
        Command::Del(key) => keys::del(engine, key).await,
        Command::Find(find) => find::run(engine, find).await,
        Command::Scan(scan) => scan::scan(engine, scan).await,
        Command::Count(tree) => scan::count(engine, tree).await,
        Command::Trees(database) => trees::run(engine, database).await,
        Command::Stat(stat) => stat::run(engine, stat).await,
        Command::Top(top) => top::run(top).await,
        Command::Map(map) => map::run(engine, map).await,
        Command::Verify(database) => check::verify(engine, database).await,
        Command::Checkpoint(database) => check::checkpoint(engine, database).await,
        Command::Backup(backup) => check::backup(engine, backup).await,
        Command::Compact(database) => check::compact(engine, database).await,
        Command::RenameTree(rename) => trees::rename(engine, rename).await,
        Command::DropTree(drop) => trees::drop_tree(engine, drop).await,
        Command::Dump(dump) => dump::run(engine, dump).await,
        Command::Restore(database) => restore::run(engine, database).await,
        Command::Threadskv(threadskv) => threadskv::run(engine, threadskv).await,
        Command::Completions(completions) => generate::completions(&completions),
        Command::Man(man) => generate::man(&man),
        Command::Bench(bench) => bench::run(engine, bench).await,
        Command::Demo(demo) => demo::run(engine, demo).await,
    }
}

/// What the engine tells about itself goes to standard error, if `RUST_LOG` asks for it.
fn trace() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    let events = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Without colours in a file; with `NO_COLOR`, nowhere.
    let plain = !std::io::stderr().is_terminal();
    if plain { events.with_ansi(false).init() } else { events.init() }
}
