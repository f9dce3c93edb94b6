//! The same database for programs without an executor: every call returns when it is done.
//!
//! ```
//! use treering::{Durability, Error, Options, blocking};
//!
//! fn count_visits(path: &std::path::Path) -> Result<(), Error> {
//!     let db = blocking::Database::open_with(Options::new().cache_size(16 << 20), path)?;
//!     let pages = db.tree("pages")?;
//!     pages.put("/about", "1")?; // durable when it returns
//!     pages.with_durability(Durability::Buffered).put("/", "7")?;
//!     db.batch().insert(&pages, "/news", "1").delete(&pages, "/about").commit()?;
//!     for pair in pages.range("/"..) {
//!         let (key, value) = pair?;
//!         println!("{} {}", key.escape_ascii(), value.escape_ascii());
//!     }
//!     db.close()
//! }
//! # let folder = tempfile::tempdir().unwrap();
//! # count_visits(&folder.path().join("data.tr")).unwrap();
//! ```
//!
//! # What blocks?
//! Each call drives the async one of the same name to its end on the calling thread: it polls once,
//! and parks the thread until it is woken, if once was not enough. So
//!
//! * a read of what is in memory, and any write that does not wait for the log, does not park;
//! * a read that misses the cache parks for one I/O;
//! * a durable write parks until its group of the log is on disk. Threads that write at the same time
//!   share these groups as tasks do: one thread alone gets as many commits a second as the disk
//!   does synced writes, many threads get many times that.
//!
//! A call cannot be given up half-way, and there is no timeout.
//!
//! # Where may it be called?
//! On threads that are there for it. In an async task it would keep the executor's thread from its
//! other tasks: use the async functions there ([`Database::as_async`]). A call from inside a future
//! that an executor of the crate `futures` is running, or from inside another of these calls (in the
//! closure that [`Tree::get_with`] or [`Tree::modify`] takes), **panics**, as
//! `futures::executor::block_on` does.
//!
//! # What about everything else?
//! What has no function here (trees with duplicates, typed trees, cursors, values in parts) is done
//! with [`wait`] and the async handles:
//!
//! ```
//! # use treering::{Error, blocking};
//! # fn example(db: &blocking::Database) -> Result<(), Error> {
//! let scores = blocking::wait(db.as_async().typed::<(String, u64), u32>("scores"))?;
//! blocking::wait(scores.put(("ada", 1815), 7))?;
//! # Ok(()) }
//! # let folder = tempfile::tempdir().unwrap();
//! # example(&blocking::Database::open(folder.path().join("data.tr")).unwrap()).unwrap();
//! ```

mod batch;
mod database;
mod range;
mod tree;

pub use batch::Batch;
pub use database::Database;
pub use range::Range;
pub use tree::Tree;

/// Drives anything that can be awaited to its end on this thread, which is parked while there is
/// nothing to do.
///
/// # Panics
/// Inside a future that an executor of the crate `futures` is running, and inside another call of this
/// module.
pub fn wait<F: IntoFuture>(future: F) -> F::Output {
    futures::executor::block_on(future.into_future())
}
