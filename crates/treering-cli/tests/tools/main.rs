//! What shows a database and the program itself: help, completions, manual pages, numbers, pictures.

#![allow(clippy::unwrap_used, reason = "a failure in a test is to panic")]

#[path = "../common/mod.rs"]
mod common;
mod help;
