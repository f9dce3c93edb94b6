//! What one sees of a database from outside: `tracing` spans and events, the statistics file, and
//! `metrics`. A program of its own, because subscribers and recorders are of the whole process.

#![allow(missing_docs, clippy::unwrap_used)] // Tests, and what they are made of.

mod collect;
mod measured;
mod offered;
mod traced;
