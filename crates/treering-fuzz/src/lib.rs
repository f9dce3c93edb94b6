//! What treering does with bytes that are not what they should be.
//!
//! Every *target* is a function of bytes that must come to an end without a panic, whatever the bytes
//! are. It turns them into something that the engine reads (a page, a superblock, a piece of the page
//! map, the log, the catalog, a whole damaged database, text for the program) or into operations on a
//! database whose disk fails, lets the engine read it, and checks what came out of it. Most know the
//! truth: damage is an error or is not seen at all, and is never returned as data (I7).
//!
//! Behind a checksum, chance does not get far. So targets start from something sound, change it where
//! the input says, and, if the input says so, make the checksums fit again: such input stands for a
//! bug or for an enemy rather than for decay. Then anything that is no panic, no hang and no unbounded
//! memory will do.
//!
//! The targets run in three ways: as tests, over the corpus that is kept in `corpus/` and some thousand
//! mutations of it made by a seed (`tests/corpus.rs`); under libFuzzer with its coverage and the address
//! sanitizer (`fuzz/`, run by `ci/fuzz`); and on one input given as a file (`examples/one.rs`).

mod base;
mod catalog;
mod database;
mod format;
mod input;
mod keys;
mod log;
mod machine;
mod operations;
mod page;
mod pagefile;
mod text;

pub use catalog::{catalog, records};
pub use database::{database, tree};
pub use keys::keys;
pub use log::log;
pub use operations::operations;
pub use page::page;
pub use pagefile::{map, superblock};
pub use text::{arguments, dump, lines};

/// A function that comes to an end without a panic, whatever the bytes.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("page", page),
    ("superblock", superblock),
    ("map", map),
    ("log", log),
    ("records", records),
    ("catalog", catalog),
    ("tree", tree),
    ("database", database),
    ("operations", operations),
    ("keys", keys),
    ("dump", dump),
    ("lines", lines),
    ("arguments", arguments),
];
