//! Page-sized extents on a file, and the seam between the engine and everything outside it.
//!
//! What this crate guarantees to the crates above it:
//!
//! * **I4** A live extent is never overwritten: [`PageFile`] hands out free extents only, and an
//!   extent becomes free when the checkpoint that no longer refers to it is durable.
//! * **I7** Every page, map and superblock is verified when read: checksum, its own identity, and
//!   the write stamp that the map expects.
//! * **I12** In-flight I/O owns its buffer: dropping a future never frees memory that the kernel
//!   may still write to ([`IoBuf`] travels with the [`Request`] and comes back with its completion).
//! * **I13** Space runs out only in [`PageFile::try_reserve`], before anything is applied.
//!
//! The seam is three traits: [`Disk`] (files, reads, writes, syncs), [`Completion`] (who is told),
//! and [`Runtime`] (where engine tasks run and what time it is). Behind them stand io_uring, a
//! portable thread pool, and a simulated disk with its own deterministic executor.

// Loom does not see what `event_listener` does; in a model its names mean `treering_latch`'s stand-ins.
#[cfg(treering_loom)]
extern crate treering_latch as event_listener;

mod backend;
mod buf;
mod check;
mod checkpoint;
mod counters;
mod directory;
mod directory_lock;
mod disk;
mod error;
mod file;
mod file_sync;
mod growth;
mod io_watch;
mod layout;
mod ledger;
mod map;
mod open;
mod page;
mod pins;
mod runtime;
pub mod sim;
mod snapshot;
mod space;
mod superblock;
mod sync_share;
mod threads;
#[cfg(target_os = "linux")]
mod uring;
mod work;

pub use backend::{DiskOptions, IoBackend, SLOW_IO, open_directory};
pub use buf::{AlignedBuf, IoBuf};
pub use counters::DiskCounters;
pub use directory_lock::DirectoryLock;
pub use disk::{Completion, Disk, FileId, Lane, Op, Request, sync_file, transfer};
pub use error::{FileError, FileErrorKind, Health};
pub use file::{MapEntry, PageFile, SpaceStats};
pub use io_watch::IoObserver;
pub use layout::SlotUse;
pub use ledger::Room;
pub use open::{Opened, Presence};
pub use page::{Damage, Extent, PAGE_HEADER_LEN, PageId, seal, verify};
pub use runtime::{EngineThread, Runtime, Spawn, yield_now};
pub use snapshot::Snapshot;
pub use superblock::{CheckpointInfo, LogPosition};
