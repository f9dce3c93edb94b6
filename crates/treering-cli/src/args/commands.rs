//! What each command takes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use super::{at_least_one, seconds};

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
    /// The pages of the trees as a graph for Graphviz
    #[arg(long, conflicts_with = "structure")]
    pub(crate) dot: bool,
    /// Of the graph, so many levels, from the root down [default: all]
    #[arg(long, value_name = "N", requires = "dot", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) levels: Option<u8>,
}

#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// The file to draw to [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
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
    /// Read all leaves, and not some of them, to say how full they are
    #[arg(long)]
    pub(crate) exact: bool,
    /// Show what a database that is open elsewhere does, a line each time
    #[arg(long, conflicts_with_all = ["json", "exact"])]
    pub(crate) watch: bool,
    /// Seconds between two lines of --watch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seconds)]
    pub(crate) every: u64,
    /// How many lines of --watch; 0: until it is interrupted
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) count: u64,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Seconds between two views
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seconds)]
    pub(crate) every: u64,
    /// How many views; 0: until it is interrupted
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) count: u64,
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
pub(crate) struct BenchArgs {
    /// The folder to make the temporary folder in: on the disk that is to be measured [default: .]
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// About how long it takes, in seconds
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = seconds)]
    pub(crate) seconds: u64,
    /// Records that are loaded [default: a million, or fewer for a short time]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..1 << 50))]
    pub(crate) records: Option<u64>,
    /// Draw the results as SVG, too
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
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

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder to write the pages to; made if need be
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}
