//! What shows a database and the program itself: help, completions, manual pages, numbers, pictures.

#![allow(clippy::unwrap_used, reason = "a failure in a test is to panic")]

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod cures;
mod help;
mod live;
mod pictures;
mod stat;
