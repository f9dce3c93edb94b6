//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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

/// How the database is opened: the same for all commands.
#[derive(Clone, Debug, Args)]
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
    /// Look every key of the files up and print `found N missing M`; exit code 1 if any is missing
    Find(FindArgs),
    /// Print `key<TAB>value` in key order, raw bytes
    Scan(ScanArgs),
    /// Print how many keys there are
    Count(TreeArgs),
    /// Print `name<TAB>options` of each tree, sorted by name; the default options are empty
    Trees(DatabaseArgs),
    /// Print what the database consists of
    Stat(StatArgs),
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
    /// Print all pairs as text that `restore` reads; with --structure, the pages of the trees
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
    /// See it work: load a million records, be killed in the middle of more, recover, lose nothing
    Demo(DemoArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// The folder of the database
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// The tree
    #[arg(long, value_name = "T", default_value = "main")]
    pub(crate) tree: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The first 10 bytes of a line are the key, the rest is the value
    Pennysort,
    /// A line is a key, the value is empty
    Lines,
    /// Key, tab, value
    Tsv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityArg {
    /// Acknowledged when it is on disk
    Durable,
    /// Acknowledged when it is applied, on disk some milliseconds later
    Buffered,
    /// Acknowledged when it is applied, on disk some time
    None,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) tree: TreeArgs,
    /// Files to load, one after the other; `-` or none: standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// What a line is
    #[arg(long, value_enum, default_value = "pennysort")]
    pub(crate) format: Format,
    /// How many tasks commit at the same time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) tasks: usize,
    /// Records a commit
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) batch: usize,
    /// What a commit waits for
    #[arg(long, value_enum, default_value = "durable")]
    pub(crate) durability: DurabilityArg,
    /// Load everything at once: sorted, in full pages, and into an empty tree in one step
    #[arg(long, conflicts_with_all = ["acks", "tasks", "batch", "durability"])]
    pub(crate) bulk: bool,
    /// Append each key, one a line, after its commit was acknowledged as durable; if this program is
    /// killed, the last line may be incomplete, and the next load cuts it off
    #[arg(long, value_name = "FILE")]
    pub(crate) acks: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub(crate) tree: TreeArgs,
    /// The key; the empty one is a key
    #[arg(value_name = "KEY")]
    pub(crate) key: OsString,
}

#[derive(Debug, Args)]
pub(crate) struct PairArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// The value
    #[arg(value_name = "VALUE")]
    pub(crate) value: OsString,
}

#[derive(Debug, Args)]
pub(crate) struct FindArgs {
    #[command(flatten)]
    pub(crate) tree: TreeArgs,
    /// Files with the keys; `-`: standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// What a line is
    #[arg(long, value_enum, default_value = "pennysort")]
    pub(crate) format: Format,
    /// Compare the values, too, and print `found N missing M differing D`
    #[arg(long)]
    pub(crate) values: bool,
    /// How many tasks look keys up at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub(crate) tasks: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub(crate) tree: TreeArgs,
    /// The first key, inclusive
    #[arg(long, value_name = "K")]
    pub(crate) from: Option<OsString>,
    /// The last key, exclusive
    #[arg(long, value_name = "K")]
    pub(crate) to: Option<OsString>,
    /// Only keys that begin with this
    #[arg(long, value_name = "P", conflicts_with_all = ["from", "to"])]
    pub(crate) prefix: Option<OsString>,
    /// At most this many pairs
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// In descending order
    #[arg(long)]
    pub(crate) reverse: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RenameTreeArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Its name
    #[arg(value_name = "OLD")]
    pub(crate) old: String,
    /// The name that it gets; no tree may have it
    #[arg(value_name = "NEW")]
    pub(crate) new: String,
}

#[derive(Debug, Args)]
pub(crate) struct DropTreeArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Only this tree [default: all]
    #[arg(long, value_name = "T")]
    pub(crate) tree: Option<String>,
    /// Level by level, each page: id, fences, slots, fill, right link, flags, children
    #[arg(long)]
    pub(crate) structure: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ThreadskvArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// A letter for each worker
    #[arg(value_name = "COMMANDS")]
    pub(crate) commands: String,
    /// Bytes a page, as a power of two, when the database is made: 9 to 24 [default: 12]
    #[arg(value_name = "PAGE_BITS")]
    pub(crate) page_bits: Option<u32>,
    /// Pages of that size in the buffer pool; 0: as --cache says
    #[arg(value_name = "POOL_PAGES", default_value_t = 0)]
    pub(crate) pool_pages: u64,
    /// Records of an atomic batch; 0: no batches
    #[arg(value_name = "TXN_SIZE", default_value_t = 0)]
    pub(crate) txn_size: usize,
    /// Pages of that size that the log may take; 0: commits do not wait for it
    #[arg(value_name = "LOG_PAGES", default_value_t = 0)]
    pub(crate) log_pages: u64,
    /// What each worker reads
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StatArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// As a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// The folder of the copy: new or empty
    #[arg(value_name = "DEST")]
    pub(crate) destination: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Records of the first load; the second has half as many
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = at_least_one)]
    pub(crate) records: usize,
    /// How many tasks commit at the same time
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = at_least_one)]
    pub(crate) tasks: usize,
    /// The folder to make the temporary folder in [default: the system's]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
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
        use clap::CommandFactory;
        Arguments::command().debug_assert();
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
