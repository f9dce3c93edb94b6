//! Opening for reading only: nothing on the disk is created, changed or written, not even by a
//! recovery.
//!
//! The log behind the last checkpoint is replayed as ever, into the pool and nowhere else. Pages that
//! it changes stay dirty for as long as the engine lives, and so in memory: the page file grows in
//! memory only, there is no checkpoint, no log to append to, and no task that changes anything. So
//! the replay has to fit into the cache, with some frames left for reads; if it does not, opening
//! says so. Every change is refused with [`Error::ReadOnly`], where it would begin.
//!
//! Several engines may read the same files at once. A writer beside them would free and overwrite
//! what they read; whoever opens sees to it that there is none.

use std::any::Any;
use std::sync::Arc;

use treering_bufpool::Pool;
use treering_pagefile::{Disk, Runtime};

use crate::engine::{Engine, EngineOptions};
use crate::error::Error;
use crate::open::Opening;

impl Engine {
    /// Opens the database on `disk` for reading only; as [`Engine::open`] otherwise. It is as the last
    /// life left it, what is in the log included. `options.create` means nothing.
    ///
    /// # Errors
    /// There is none, it is damaged, of another version or page size; the disk fails;
    /// [`Error::ReplayTooLarge`].
    pub async fn open_read_only(
        disk: Arc<dyn Disk>,
        runtime: Arc<dyn Runtime>,
        options: EngineOptions,
        keep: Box<dyn Any + Send + Sync>,
    ) -> Result<Arc<Self>, Error> {
        Opening::new(disk, runtime, options, keep, true).start().await
    }
}

/// Fails when a page file is read only, and hardly any frame is left that is not dirty: before a
/// replay waits for one for ever.
pub(crate) fn check_cache(pool: &Pool) -> Result<(), Error> {
    if !pool.file().is_read_only() {
        return Ok(());
    }
    let (frames, dirty) = (pool.frame_count(), pool.dirty_count());
    if dirty + (frames / 8).max(FRAMES_LEFT) > frames {
        return Err(Error::ReplayTooLarge { frames });
    }
    Ok(())
}

/// One change of a replay makes fewer pages dirty: a leaf becomes three at most, and a root one more.
/// Its way down takes another.
const FRAMES_LEFT: usize = 7;
