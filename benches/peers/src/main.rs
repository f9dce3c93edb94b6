//! treering beside the engines that its users could pick instead, on the same work in one run.
//!
//! The parent process starts one child for each group of rows of each engine, takes medians over the
//! runs, and prints a table. `README.md` has the commands, the settings of each engine and what is fair
//! about it.

// Without the others, some of what they need is left.
#![cfg_attr(not(any(feature = "redb", feature = "fjall")), allow(dead_code))]

mod args;
mod data;
mod disk;
mod engine;
mod engines;
mod limit;
mod measure;
mod parent;
mod plots;
mod report;
mod rows;
mod targets;

use clap::Parser;

use crate::engine::Result;

fn main() -> Result<()> {
    let args = args::Args::parse();
    match &args.child {
        Some(task) => engines::dispatch(serde_json::from_str(task)?),
        None => parent::run(&args),
    }
}
