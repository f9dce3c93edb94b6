//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::data::Data;
use crate::engines::NAMES;
use crate::rows::Group;

/// The groups of rows whose data fits into memory.
const IN_MEMORY: &[&str] = &[
    "load", "sorted", "reads", "ranges", "commits", "batches", "buffered", "removals", "ycsb",
    "compact",
];

/// treering beside redb, LMDB, RocksDB and fjall on the same work.
#[derive(Parser)]
pub struct Args {
    /// Engines to run; all by default.
    #[arg(long, value_delimiter = ',', default_values = NAMES)]
    pub engines: Vec<String>,
    /// Groups of rows.
    #[arg(long, value_delimiter = ',', default_values = IN_MEMORY)]
    pub rows: Vec<Group>,
    /// Pairs that a database is loaded with.
    #[arg(long, default_value_t = 1_000_000)]
    pub pairs: u64,
    /// Pairs of the data that is ten times larger than the memory. With much fewer, the memory is too
    /// small for the programs themselves.
    #[arg(long, default_value_t = 10_000_000)]
    pub larger_pairs: u64,
    /// What the pairs are.
    #[arg(long, default_value = "standard")]
    pub data: Shape,
    /// Runs; figures are medians.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Seconds of a row that goes by time.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// MiB of memory for each engine's pages or blocks.
    #[arg(long, default_value_t = 2048)]
    pub cache: u64,
    /// Where the databases are: a folder on the disk of interest. A temporary one by default.
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// A file for the figures of all runs, as JSON.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// A file for the table, beside standard output.
    #[arg(long)]
    pub table: Option<PathBuf>,
    /// A folder for plots of the medians, as SVG.
    #[arg(long)]
    pub plots: Option<PathBuf>,
    /// Compares the medians with what treering is to reach, and fails if a target is missed.
    #[arg(long)]
    pub check: bool,
    /// Measures nothing, and makes table, plots and check of the figures in these files, which an
    /// earlier `--out` wrote. Those of several are put together.
    #[arg(long, value_delimiter = ',')]
    pub from: Vec<PathBuf>,
    /// What a child process does.
    #[arg(long, hide = true)]
    pub child: Option<String>,
}

/// Sizes of keys and values.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shape {
    /// 24-byte keys, 150-byte values.
    Standard,
    /// 8-byte keys, 8-byte values.
    Tiny,
    /// 24-byte keys, 1 KiB values.
    Large,
}

impl Args {
    pub fn data(&self, pairs: u64) -> Data {
        let (key_bytes, value_bytes) = match self.data {
            Shape::Standard => (24, 150),
            Shape::Tiny => (8, 8),
            Shape::Large => (24, 1024),
        };
        Data { key_bytes, value_bytes, pairs }
    }
}
