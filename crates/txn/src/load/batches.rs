//! Sorted input for a tree that has keys already: batches as large as one step can take.
//!
//! Each is atomic, and all of them together are not. None waits for the disk; the end does.

use std::sync::Arc;

use treering_blink::{REFERENCE_LEN, TreeRef};

use crate::batch::{Batch, OpKind};
use crate::body::ENTRY_OVERHEAD;
use crate::engine::{Durability, Engine};
use crate::error::Error;

/// Puts keys into a tree, batch by batch. Dropping it drops what is in no batch yet.
pub struct Batches {
    engine: Arc<Engine>,
    tree: TreeRef,
    batch: Batch,
    /// Bytes of its log record, at most.
    body: usize,
    batches: u64,
}

/// Bytes of large values in one batch, or one value.
const LARGE_MAX: usize = 1 << 20;

impl Batches {
    /// Nothing, for a tree.
    pub fn new(engine: &Arc<Engine>, tree: TreeRef) -> Self {
        let engine = Arc::clone(engine);
        Self { engine, tree, batch: Batch::new(), body: 0, batches: 0 }
    }

    /// Gives a key a value, with this batch or a later one.
    ///
    /// # Errors
    /// Those of [`Engine::commit`], of the batch before.
    pub async fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let is_large = self.engine.is_large(key, value);
        let stored = if is_large { REFERENCE_LEN } else { value.len() };
        // What a log record says of where a large value is, is a few runs of pages.
        let record = key.len() + stored + ENTRY_OVERHEAD;
        let record = if is_large { record + LARGE_RUNS } else { record };
        let limits = &self.engine.limits;
        let bytes_max = limits.batch_bytes.min(self.engine.log.max_body()) / 2;
        let is_full = self.batch.len() >= limits.batch_leaves
            || self.body + record > bytes_max
            || self.batch.bytes() + value.len() > bytes_max.max(LARGE_MAX);
        if is_full {
            self.commit().await?;
        }
        self.batch.push(self.tree, OpKind::Put, key, value);
        self.body += record;
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Error> {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.body = 0;
            self.engine.commit(batch, Durability::None).await?;
            self.batches += 1;
        }
        Ok(())
    }

    /// Puts in what is left and makes all of it durable. Returns how many batches it took.
    ///
    /// # Errors
    /// Those of [`Engine::commit`]; the batches before stand.
    pub async fn finish(mut self) -> Result<u64, Error> {
        self.commit().await?;
        self.engine.sync().await?;
        Ok(self.batches)
    }
}

/// Bytes that the runs of a large value's pages take in a log record, about.
const LARGE_RUNS: usize = 256;

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("tree", &self.tree.id).finish_non_exhaustive()
    }
}
