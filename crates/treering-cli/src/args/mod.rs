//! The command line.

mod commands;
mod groups;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub(crate) use commands::*;

/// An embedded, ordered key-value store on io_uring: load, look up, scan, check, demonstrate.
///
/// Data goes to standard output as raw bytes, everything else to standard error. Exit code 0: all
/// is well; 1: the command found something wrong; 2: it was used wrongly. RUST_LOG=info shows what
/// the engine does.
#[derive(Debug, Parser)]
#[command(name = "treering", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// The program's arguments; what is wrong with them, or the help asked for, ends the program.
    pub(crate) fn from_command_line() -> Self {
        let matches = definition().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// What the parser, the help, the completions and the manual pages are made from.
pub(crate) fn definition() -> clap::Command {
    groups::with_groups(Arguments::command())
}

/// How the database is opened: the same for all commands.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "How the database is opened")]
pub(crate) struct EngineArgs {
    /// Memory for pages: bytes, or with a suffix K, M or G
    #[arg(long, global = true, value_name = "SIZE", value_parser = size, default_value = "256M")]
    pub(crate) cache: u64,
    /// Bytes a page when a database is made, a power of two from 512 to 16M [default: 4096]; one
    /// that exists must have this size
    #[arg(long, global = true, value_name = "SIZE", value_parser = size)]
    pub(crate) page_size: Option<u64>,
    /// How the disk is reached
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub(crate) io: IoArg,
    /// Offer the statistics of the database to `treering top` while this command has it open
    #[arg(long, global = true)]
    pub(crate) statistics: bool,
    /// Bytes that the log may take, if not the default.
    #[arg(skip)]
    pub(crate) log_size: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum IoArg {
    /// io_uring where the kernel allows it, threads elsewhere
    Auto,
    /// io_uring or an error
    Uring,
    /// Threads with plain system calls
    Threads,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load records from files or standard input; makes the database and the tree if need be
    ///
    /// Prints one line when it is done: how many records, seconds, records a second. Each record is
    /// put: an older value of its key is replaced; of two records with one key in the same load,
    /// either may be the one that stays. On an error it stops, says how many records were
    /// acknowledged, and exits with 1; what was acknowledged is in the database.
    Load(LoadArgs),
    /// Print the value of a key; exit code 1 if there is none
    Get(KeyArgs),
    /// Give a key a value, durably; makes the database and the tree if need be
    Put(PairArgs),
    /// Delete a key, durably; exit code 1 if it was not there
    Del(KeyArgs),
    /// Look all keys of files up, print `found N missing M`; exit code 1 if any is missing
    Find(FindArgs),
    /// Print `key<TAB>value` in key order, raw bytes
    Scan(ScanArgs),
    /// Print how many keys there are
    Count(TreeArgs),
    /// Print `name<TAB>options` of each tree, sorted by name; the default options are empty
    Trees(DatabaseArgs),
    /// Print what the database consists of: trees, height, fill, space, cache, log
    ///
    /// Of a database that another process has open, what that one offers is shown, if it was opened
    /// with `Options::statistics_file`; with --watch, what happens there, second by second.
    Stat(StatArgs),
    /// Show what a database that is open elsewhere does, second by second
    ///
    /// It has to have been opened with `Options::statistics_file`.
    Top(TopArgs),
    /// Draw the page file as SVG: what is where, how full, what is free
    ///
    /// All pages of all trees are read for it. A large file is drawn with many pages a cell.
    Map(MapArgs),
    /// Check every page, link, fence, order, reachability, the space map and the log
    ///
    /// Prints a line for each thing that is wrong, naming the place; exit code 1 if there is any.
    Verify(DatabaseArgs),
    /// Write a checkpoint
    Checkpoint(DatabaseArgs),
    /// Copy the database to a new or empty folder; the copy is a database, too
    Backup(BackupArgs),
    /// Make the page file as short as it gets, and print its length before and after
    Compact(DatabaseArgs),
    /// Give a tree another name, durably
    RenameTree(RenameTreeArgs),
    /// Drop a tree with all that is in it, durably
    DropTree(DropTreeArgs),
    /// Print all pairs as text that `restore` reads; with --structure or --dot, the pages
    ///
    /// The text keeps the trees' names, their options, and each key's duplicates in their order.
    /// Writers that go on meanwhile may or may not be in it: what is there all along is.
    Dump(DumpArgs),
    /// Read what `dump` wrote from standard input into a database; makes it if need be
    ///
    /// A tree that is there already is an error. After a failure the trees that were begun are
    /// there, with a part of their pairs.
    Restore(DatabaseArgs),
    /// The command line of threadskv, the program that this one succeeds
    ///
    /// One worker runs for each FILE, all at the same time; the nth runs the nth letter of COMMANDS,
    /// or the last one: (c)ount, (r)everse scan, (w)rite lines, (s)can, (d)elete, (f)ind,
    /// (p)ennysort, (a)udit. Commands without input need a placeholder, if any of them has one.
    Threadskv(ThreadskvArgs),
    /// Print what makes a shell complete this program's command lines
    ///
    /// bash: `treering completions bash > ~/.local/share/bash-completion/completions/treering`;
    /// zsh: to a file `_treering` in a folder of $fpath; fish:
    /// `treering completions fish > ~/.config/fish/completions/treering.fish`.
    Completions(CompletionsArgs),
    /// Write the manual pages, one a command, to a folder
    ///
    /// `treering man ~/.local/share/man/man1`, then `man treering` or `man treering-load`.
    Man(ManArgs),
    /// Measure this disk and this machine, and say what to expect
    ///
    /// A bulk load, durable commits, lookups in memory and from disk, a scan: in a temporary folder,
    /// which goes away again. What it prints is of this machine as it is now, with all else that it
    /// does.
    Bench(BenchArgs),
    /// See it work: load a million records, be killed amid more, recover, lose nothing
    Demo(DemoArgs),
}

/// Bytes: a number, with K, M, G or T for powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        Some(b'T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: u64 =
        digits.parse().map_err(|_| "a size is a number of bytes, or one with K, M, G or T")?;
    number.checked_mul(1 << shift).ok_or_else(|| "that many bytes cannot be counted".into())
}

fn seconds(text: &str) -> Result<u64, String> {
    match at_least_one(text)? {
        number if number <= A_YEAR => Ok(number as u64),
        _ => Err(format!("it takes at most {A_YEAR}, a year")),
    }
}

const A_YEAR: usize = 365 * 24 * 60 * 60;

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it takes at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("it takes a number".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn sizes_take_suffixes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("1g"), Ok(1 << 30));
        for wrong in ["", "M", "-1", "12Q", "1.5M", "99999999999G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
