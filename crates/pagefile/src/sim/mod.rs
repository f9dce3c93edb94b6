//! A simulated machine: a disk that can lose power, and a runtime whose clock is a number.
//!
//! Everything here runs on one thread and is a function of its seeds: the same seeds and the same
//! program give the same I/Os, in the same order, with the same bytes ([`SimDisk::trace_hash`]).
//! The engine reaches the outside only through [`Disk`](crate::Disk) and
//! [`Runtime`](crate::Runtime), so all of it runs on [`Sim`], a crash at any I/O included.
//!
//! # The life of a test
//! ```
//! use treering_pagefile::sim::Sim;
//! use treering_pagefile::{AlignedBuf, Disk, Op, sync_file};
//!
//! let mut sim = Sim::new(7);
//! let disk = sim.disk();
//! sim.run(async {
//!     let file = disk.open("pages", true)?;
//!     let disk: &dyn Disk = &*disk;
//!     disk.write(file, Op::Write, 0, AlignedBuf::zeroed(4096)).await?;
//!     sync_file(disk, file).await
//! })
//! .unwrap() // nothing hangs
//! .unwrap(); // no I/O fails
//!
//! let image = disk.crash(1); // the power fails
//! sim.restart(&image, 8); // and comes back: new disk, no tasks
//! assert_eq!(image.len("pages"), Some(4096));
//! ```
//! To crash at every I/O, run once to learn [`SimDisk::io_count`], then again from the same seed
//! with [`SimDisk::stop_at`] each index: [`Sim::run`] ends with [`Stalled::Dead`].
//!
//! # What the disk promises, and what it does not
//! * Nothing happens inside `submit`. [`SimDisk::step`] completes one request, chosen by the seed;
//!   order of submission means nothing.
//! * A `Write` is visible once it completed and volatile until a `Sync` that was submitted after
//!   that completes. A `WriteDurable` makes its own bytes durable, and nothing else's.
//! * A sector, the unit that is written wholly or not at all, has 512 bytes, whatever the block
//!   size. A read sees each sector of a write in flight beside it old or new.
//! * Two writes in flight to the same bytes take effect in the order in which they complete.
//! * A file that `open` created is durable at once. A length is durable when an `Allocate`, a
//!   `Sync` or a `WriteDurable` of that file completes after it was set.
//! * After a power loss any subset of the sectors is there that were volatile or in flight, and so
//!   is any subset of the changes of length.
//! * An allocation or a write that fails for want of room has taken nothing, or with
//!   [`SimDisk::take_parts`] a part: the file is as long as that, and has the room, until it is cut.
//! * After a failed `Sync` the data it was for counts as clean, as on ext4: no later `Sync` writes
//!   it, but reads still show it. It may be gone after a crash.

mod content;
mod crash;
mod disk;
mod driver;
mod faults;
mod file;
mod folder;
mod image;
mod lies;
mod requests;
mod rng;
mod room;
mod runtime;
mod trace;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use crash::{Unsynced, UnsyncedState, UnsyncedWhat};
pub use disk::{SimDisk, SimDiskOptions};
pub use driver::{Patience, Scene, Sim, SimTask, Stalled};
pub use faults::{FailMode, Failure, FaultPoint};
pub use folder::SimFolder;
pub use image::SimImage;
pub use lies::Lie;
pub use runtime::SimRuntime;
pub use trace::TraceEvent;

/// The unit of tearing, in bytes: a sector is written wholly or not at all.
pub const SECTOR: usize = 512;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
