//! The engines, and how to name them.

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod treering;

use crate::disk::{self, DISK};
use crate::engine::Result;
use crate::rows::{Task, run};

/// All that this program was built with, ours last.
pub const NAMES: &[&str] = &[
    #[cfg(feature = "redb")]
    "redb",
    #[cfg(feature = "lmdb")]
    "lmdb",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
    #[cfg(feature = "fjall")]
    "fjall",
    OURS,
];

/// Ours: what the others are compared with.
pub const OURS: &str = "treering";

/// Runs a task on the engine that it names.
pub fn dispatch(task: Task) -> Result<()> {
    match task.engine.as_str() {
        #[cfg(feature = "redb")]
        "redb" => run::<redb::Redb>(task),
        #[cfg(feature = "lmdb")]
        "lmdb" => run::<lmdb::Lmdb>(task),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => run::<rocksdb::Rocks>(task),
        #[cfg(feature = "fjall")]
        "fjall" => run::<fjall::Fjall>(task),
        OURS => run::<treering::Treering>(task),
        DISK => disk::run(&task),
        other => Err(format!("there is no engine {other} in this build").into()),
    }
}
