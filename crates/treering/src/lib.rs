//! An embedded, ordered key-value storage engine that async services await directly.
//!
//! ```
//! use treering::{Durability, Error, Options};
//!
//! async fn service(path: &std::path::Path) -> Result<(), Error> {
//!     let db = Options::new().cache_size(64 << 20).open(path).await?; // creates or recovers
//!     let users = db.tree("users").await?; // creates if missing
//!     users.put(b"ada", b"lovelace").await?; // durable when it returns
//!     assert_eq!(users.get(b"ada").await?.as_deref(), Some(&b"lovelace"[..]));
//!
//!     let mut batch = db.batch(); // all or nothing, across trees
//!     batch.insert(&users, b"alan", b"turing").delete(&users, b"ada");
//!     batch.commit().await?;
//!
//!     users.put(b"grace", b"hopper").durability(Durability::Buffered).await?;
//!     db.close().await
//! }
//! # let folder = tempfile::tempdir().unwrap();
//! # smol::block_on(service(&folder.path().join("data.tr"))).unwrap();
//! ```
//!
//! A [`Database`] is a folder; a [`Tree`] in it is an ordered map from byte strings to byte strings.
//! Handles are cheap clones of one another. All operations may run at the same time, from any tasks:
//! there is no transaction to begin, and nothing to lock.
//!
//! # What is promised?
//! * A write that returned under [`Durability::Durable`], the default, is there after any crash. One
//!   that did not return is wholly there or wholly absent. The writes that survive a crash are a
//!   prefix of all writes, in the order in which they took effect.
//! * A [`Batch`] is applied wholly or not at all, for readers and after a crash, across trees; so is
//!   every condition in it decided, at one moment.
//! * Damage on disk is an error ([`ErrorKind::Damaged`]), never a missing key and never wrong data.
//! * A full disk is an error ([`ErrorKind::Full`]) before anything is changed; deletes go on, and so
//!   does everything when there is room again.
//! * There are no snapshots: a range sees each leaf as it was at one moment, and different leaves at
//!   different moments. A key that is there all along is returned exactly once.
//!
//! # What if a future is dropped?
//! **Nobody else notices**, ever, and the same holds for one that is never polled again: a future that
//! waits owns nothing that anybody else could wait for. Of its own operation it means:
//!
//! | | not polled yet | dropped later |
//! |---|---|---|
//! | a read, a range, a step of a cursor | nothing happens | no effect |
//! | a write, a batch | nothing happens | it has not happened, or it stands, wholly |
//! | [`Database::checkpoint`], [`Database::compact`], [`Database::backup`], [`Database::close`] | nothing happens | it goes on |
//! | [`Options::open`] | nothing happens | it goes on, and the database is closed again |
//!
//! There is no third outcome for a write. Who has to know which of the two it was awaits it in a task of
//! its own, or makes it conditional:
//!
//! ```
//! use std::future::IntoFuture;
//! use futures::FutureExt;
//! # use treering::{Database, Error};
//! # async fn example(db: Database) -> Result<(), Error> {
//! let jobs = db.tree("jobs").await?;
//! let _ = jobs.put("a", "1").into_future().now_or_never(); // polled once, and dropped
//! let (value, inserted) = jobs.get_or_insert("a", "2").await?;
//! assert_eq!(&*value, if inserted { b"2" } else { b"1" }); // it has happened or not, wholly
//! # db.close().await }
//! # let folder = tempfile::tempdir().unwrap();
//! # smol::block_on(async { example(Database::open(folder.path().join("t")).await?).await }).unwrap();
//! ```
//!
//! # What does it cost?
//! | | |
//! |---|---|
//! | [`Tree::get`] of what is in the cache | one poll; no system call, no waiting. A copy of the value, which [`Tree::get_with`] spares |
//! | [`Tree::get`] of what is not | one read from disk, which all share who want the page just then |
//! | [`Tree::get_many`] | the same, with all missing pages read at once |
//! | a durable write | the group of the log that it is in: one write and sync for all who commit at that moment |
//! | a buffered write | one poll, when its leaf is in the cache |
//! | a range | a read of each leaf, ahead of you; a copy of each pair, which [`Range::next_chunk`] spares |
//! | an open database | [`Options::cache_size`], some MiB, and two threads that sleep when nothing happens |
//!
//! What each option costs is in [tuning](https://github.com/treering-db/treering/blob/main/docs/tuning.md).
//!
//! # How do I change what depends on what is there?
//! With a condition, instead of a lock or a transaction: [`Tree::insert`], [`Tree::update`],
//! [`Tree::compare_and_swap`], [`Tree::get_or_insert`], [`Tree::modify`] for one key, and for more of them
//! a batch that requires what you have read:
//!
//! ```
//! use treering::{Database, Error, ErrorKind, Tree};
//!
//! async fn transfer(db: &Database, accounts: &Tree, from: &str, to: &str) -> Result<(), Error> {
//!     loop {
//!         let read = accounts.get_many([from, to]).await?;
//!         let [Some(a), Some(b)] = &read[..] else { return Ok(()) };
//!         let mut batch = db.batch();
//!         batch.require_value(accounts, from, a).put(accounts, from, [a[0] - 1]);
//!         batch.require_value(accounts, to, b).put(accounts, to, [b[0] + 1]);
//!         match batch.commit().await {
//!             Err(error) if error.kind() == ErrorKind::ValueDiffers => continue, // somebody was faster
//!             done => return done,
//!         }
//!     }
//! }
//! # let folder = tempfile::tempdir().unwrap();
//! # smol::block_on(async {
//! #     let db = Database::open(folder.path().join("t")).await?;
//! #     let accounts = db.tree("accounts").await?;
//! #     accounts.put("a", [9]).await?;
//! #     accounts.put("b", [1]).await?;
//! #     transfer(&db, &accounts, "a", "b").await?;
//! #     assert_eq!(&*accounts.get("b").await?.unwrap(), [2]);
//! #     db.close().await
//! # }).unwrap();
//! ```
//!
//! # How do I go through many keys?
//! [`Tree::range`] and [`Tree::prefix`] are streams in either direction, [`Cursor`]s go wherever you want.
//! Keys are ordered bytewise; [`Database::typed`] makes that the natural order of numbers, strings,
//! times, and tuples of them:
//!
//! ```
//! use futures::TryStreamExt;
//! # use treering::{Database, Error};
//! # async fn example(db: Database) -> Result<(), Error> {
//! let visits = db.typed::<(String, i64), u32>("visits").await?;
//! visits.put(("/about", -5), 1).await?;
//! visits.put(("/about", 7), 2).await?;
//! let newest = visits.range(("/about", 0)..).try_next().await?;
//! assert_eq!(newest, Some((("/about".to_owned(), 7), 2)));
//!
//! let (tree, mut bytes) = (visits.bytes(), 0);
//! let mut range = tree.range(..);
//! while let Some(chunk) = range.next_chunk().await? { // a leaf at a time, nothing copied
//!     bytes += chunk.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
//! }
//! assert_eq!(bytes, 2 * ("/about".len() + 2 + 8 + 4));
//! # db.close().await }
//! # let folder = tempfile::tempdir().unwrap();
//! # smol::block_on(async { example(Database::open(folder.path().join("t")).await?).await }).unwrap();
//! ```
//!
//! # What else is there?
//! | for | see |
//! |---|---|
//! | several values of one key, in the order of their insertion | [`MultiTree`] |
//! | many keys at once, quicker than batches | [`Tree::load`] |
//! | values of many MiB, in parts | [`Tree::write_stream`], [`Tree::read_stream`], [`Tree::get_range`] |
//! | deleting much | [`Tree::delete_range`], [`Database::drop_tree`] |
//! | care | [`Database::backup`], [`Database::verify`], [`Database::compact`], [`Database::stats`] |
//! | programs without an executor | [`blocking`] |
//! | what went wrong, and what to do next | [`ErrorKind`] |
//!
//! Every future is `Send` and runs on any executor. Inside Tokio, reads are submitted and completed on
//! the runtime's own threads, if it has its I/O driver (`enable_all`). Linux only; io_uring is used where
//! the kernel allows it, and threads elsewhere ([`Io`]).
//!
//! # Features
//! None is on by default, and each only adds.
//!
//! * `serde`: values through serde, `Serde<T>`.
//! * `bytemuck`: plain structs as values, looked at where they are, `Pod<T>`.
//! * `metrics`: times and numbers go to the recorder of the `metrics` facade, `Options::metrics`.
//!
//! The guide is in the repository's
//! [`docs`](https://github.com/treering-db/treering/tree/main/docs): getting started, guarantees, tuning,
//! operations, containers, errors, questions.

mod batch;
pub mod blocking;
mod conditions;
mod cursor;
mod database;
mod device;
mod error;
mod folder;
mod get;
mod load;
#[cfg(feature = "metrics")]
mod metrics;
mod multi;
mod multi_walk;
mod options;
mod range;
mod recovery;
mod registry;
mod statistics;
mod structure;
mod tree;
mod typed;
mod value;
mod value_stream;
mod watch;
mod write;

pub use batch::{Batch, Commit, CommitSequences};
pub use conditions::Modify;
pub use cursor::Cursor;
pub use database::Database;
pub use error::{Error, ErrorKind};
pub use get::{Get, GetWith};
pub use load::{LoadReport, Loader};
pub use multi::MultiTree;
pub use multi_walk::{MultiCursor, MultiRange, Values};
pub use options::{Io, Options};
pub use range::{Bounds, Chunk, KeyRange, Range};
pub use structure::Structure;
pub use tree::Tree;
pub use treering_bufpool::PoolStats;
pub use treering_pagefile::{DiskCounters, PageId, SlotUse, SpaceStats};
pub use treering_txn::{
    BackedUp, CheckpointStats, Compacted, Durability, EngineStats as Stats, Gap, KeyType, Layout,
    LogUsage, Lookups, Number, Outline, PageShape, Recovery, RecoveryProgress, Report, TreeOptions,
};
#[cfg(feature = "bytemuck")]
pub use typed::Pod;
#[cfg(feature = "serde")]
pub use typed::Serde;
pub use typed::{
    DecodeError, EncodeError, Key, TypedBatch, TypedRange, TypedTree, TypedWrite, Value, View,
};
pub use value::{KeyBytes, ValueBytes};
pub use value_stream::{ValueReader, ValueWriter};
pub use write::Write;

/// The code of the README and of the guide is compiled, and run where it can be, with the doc tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/keys.md")]
    struct Keys;
    #[doc = include_str!("../../../docs/getting-started.md")]
    struct GettingStarted;
    #[doc = include_str!("../../../docs/tuning.md")]
    struct Tuning;
    #[doc = include_str!("../../../docs/operations.md")]
    struct Operations;
    #[doc = include_str!("../../../docs/containers.md")]
    struct Containers;
    #[doc = include_str!("../../../docs/errors.md")]
    struct Errors;
    #[doc = include_str!("../../../docs/faq.md")]
    struct Faq;
}
