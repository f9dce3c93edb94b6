//! Sorted atomic batches, the redo log, checkpoints and recovery: what makes trees a database.
//!
//! What this crate guarantees to its users:
//!
//! * **I1, I2** A write is gathered, applied and settled ([`Engine::commit`]). Its future owns
//!   nothing while it waits; applying is one synchronous step, all or nothing; what cannot get its
//!   resources twice is brought to an end by the engine's own tasks.
//! * **I5** A checkpoint is an exact prefix of the log, and replay is logical.
//! * **I6** What was acknowledged as durable is there after any crash; what was not is wholly there
//!   or wholly absent, and the surviving commits are a prefix of the log.
//! * **I8** The first failed write or sync poisons the engine; reopening recovers.
//! * **I13** A full disk is an ordinary error, before anything is applied.
//!
//! Where to begin reading: `attempt` (one write), `commit` (its way), `checkpoint`, `open`.

// Loom does not see what `event_listener` does; in a model its names mean `treering_latch`'s stand-ins.
#[cfg(treering_loom)]
extern crate treering_latch as event_listener;

mod attempt;
mod attempts;
mod backup;
mod batch;
mod body;
mod catalog;
mod checkpoint;
mod commit;
mod compact;
mod create_tree;
mod deferred;
mod door;
mod dump;
pub mod duplicates;
mod engine;
mod error;
mod job;
mod large;
mod layout;
mod load;
mod log;
mod look;
mod observe;
mod open;
mod outline;
mod overlay;
mod read;
mod read_only;
mod records;
mod replay;
mod replay_apply;
mod replay_catalog;
mod replay_large;
mod replay_window;
mod stats;
mod structure;
mod tree_options;
mod trees;
mod unique;
mod value_stream;
mod verify;
mod verify_large;

pub use attempt::Outcome;
pub use backup::{BackedUp, BackupTarget};
pub use batch::{Batch, OpKind};
pub use catalog::TreeInfo;
pub use compact::Compacted;
#[cfg(treering_loom)]
#[doc(hidden)]
pub use door::{Door, Inside};
pub use dump::{PageShape, Structure};
pub use engine::{Durability, Engine, EngineOptions, Recovery};
pub use error::{Error, Violation};
pub use layout::Layout;
pub use load::{Batches, Finished, Load, LoadedLeaf, ReadBack};
pub use log::{
    AppendError, Applying, Flip, KeptSegment, Log, LogOptions, LogReader, LogStart, LogUsage,
    Record, WaitDurable,
};
pub use observe::{EngineObserver, RecoveryProgress};
pub use open::DEFAULT_PAGE_SIZE;
pub use outline::Outline;
pub use stats::{CheckpointStats, EngineStats, Lookups, Number};
pub use tree_options::{Gap, KeyType, TreeOptions};
pub use value_stream::{ValueReader, ValueWriter};
pub use verify::Report;
