//! An embedded, ordered key-value storage engine that async services await directly.
//!
//! ```
//! use treering::{Database, Durability, Error, Options};
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
//! # What is promised
//! * A write that returned under [`Durability::Durable`] is there after any crash. One that did not
//!   return is wholly there or wholly absent.
//! * Any future may be dropped at any await, or never be polled again, and nobody else notices. Of
//!   a write, dropping means: it has not happened if it was not applied yet, and it stands if it
//!   was. There is no third outcome.
//! * A [`Tree::get`] of what is in memory completes in its first poll.
//! * Every future is `Send` and runs on any executor. Inside Tokio, reads are submitted and
//!   completed on the runtime's own threads.
//! * Damage on disk is an error ([`ErrorKind::Damaged`]), never a missing key.
//!
//! The guide to all of it is in the repository's `docs`.

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
mod multi;
mod multi_walk;
mod options;
mod range;
mod registry;
mod structure;
mod tree;
mod typed;
mod value;
mod value_stream;
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
pub use treering_pagefile::SpaceStats;
pub use treering_txn::{
    BackedUp, Compacted, Durability, EngineStats as Stats, Gap, KeyType, LogUsage, PageShape,
    Recovery, Report, TreeOptions,
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

/// The README's code is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// So is that of the page on keys and values.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/keys.md")]
struct KeysPage;
