//! The tests of the engine beneath the face, one program of them all, so that it is built and linked
//! once. Most run on the simulated disk; what they share is in the modules that end in `_support`.

#![allow(missing_docs, clippy::unwrap_used)] // Tests, and what they are made of.

mod backup;
mod backup_support;
mod deferred_crash;
mod deferred_regressions;
mod deferred_support;
mod engine_crash;
mod engine_drop;
mod engine_duplicates;
mod engine_faults;
mod engine_full_disk;
mod engine_model;
mod engine_opening;
mod engine_panic;
mod engine_regressions;
mod engine_same_seed;
mod engine_stall;
mod engine_support;
mod engine_trees;
mod everything_model;
mod everything_support;
mod full_disk;
mod large_compact;
mod large_crash;
mod large_damage;
mod large_drop;
mod large_full_disk;
mod large_model;
mod large_readers;
mod large_streams;
mod load_beside;
mod load_cache;
mod load_crash;
mod log_append;
mod log_crash;
mod log_epochs;
mod log_recovery;
mod log_segments;
mod log_support;
mod merge_crash;
mod replay_windows;
mod verify_faults;
