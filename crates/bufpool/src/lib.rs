//! The buffer pool: pages of a [`PageFile`](treering_pagefile::PageFile) in memory, found without a
//! hash table, read without a latch, loaded and written back without anybody's future in charge.
//!
//! What this crate guarantees to the crates above it:
//!
//! * **I1** [`Fetch`] owns nothing that another operation waits for: the read and the frame it goes
//!   to belong to the pool. Pins and latches ([`PinnedPage`], [`SharedPage`], [`ExclusivePage`]) are
//!   not `Send`, so no future can keep them across an await; engine tasks, which may, have
//!   [`OwnedPin`].
//! * **I9** Frames, staging and the page table are all the memory there is; load beyond
//!   them waits in the pool's load queue.
//! * **I10** Loads, evictions and write-backs are moved on by completions ([`Pool`] implements
//!   `Completion`) and by the cleaner, never by a user future's poll.
//!
//! # The life of a page
//! One atomic word for each page id (`table`) says: free, on disk at extent E, being loaded into a
//! frame, or resident in a frame. Only these transitions exist:
//!
//! | from | to | by |
//! |---|---|---|
//! | free | resident | [`NewPage::publish`], which owns a claimed frame |
//! | free | on disk | [`Pool::publish_pages`]: pages that were written without a frame |
//! | on disk | loading | the load queue, which owns a claimed frame |
//! | loading | resident, or on disk if the read failed | the read's completion |
//! | resident | on disk | the clock, which has claimed a clean frame with no pins |
//! | resident | free | [`DoomedPage::free`], which has claimed the frame and holds its latch |
//!
//! Pages of values that are too large for a leaf never come into frames: see `overflow`.
//!
//! Pinning loads the word, increments the frame's pins and loads the word again. Claiming sets the
//! pins from 0 to "claimed" first and changes the word then. So either the pinner sees the
//! word changed, or the claimer sees the pin.
//!
//! Reading without pin or latch ([`Pool::read_page`]) loads the word, the frame's version and the
//! word again, reads the page through relaxed atomics, and validates the version. The clock moves
//! the version of a frame that it empties (under the latch, for an instant), so whatever such a
//! reader saw of a frame's next life is thrown away.

// Loom does not see what `event_listener` does; in a model its names mean `treering_latch`'s stand-ins.
#[cfg(treering_loom)]
extern crate treering_latch as event_listener;

mod ahead;
mod beneath;
mod built;
mod capture;
mod clock;
mod doom;
mod frame;
mod guard;
mod ids;
mod load;
mod memory;
mod overflow;
mod pool;
mod populate;
mod runs;
mod staging;
mod table;
mod writeback;

pub use built::{PageBatch, WrittenPages};
pub use doom::DoomedPage;
pub use guard::{ExclusivePage, NewPage, OwnedPin, PinnedPage, Refusal, SharedPage};
pub use load::Fetch;
pub use overflow::{Copies, IdsKept, ValueMaker, ValueRef, Written};
pub use pool::{Pool, PoolOptions, PoolStats, Read};
pub use runs::PageRun;
