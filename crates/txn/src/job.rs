//! A batch on its way to being applied, with what was made ready for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use treering_blink::Reference;
use treering_bufpool::{ValueRef, Written};
use treering_pagefile::{FileError, FileErrorKind};

use crate::batch::Batch;
use crate::engine::{Durability, Engine};
use crate::error::Error;

/// A batch, and what its attempts use.
pub(crate) struct Job {
    /// Shared with the overlay, if it becomes a big one.
    pub(crate) batch: Arc<Batch>,
    /// Its operations by tree and key.
    pub(crate) order: Vec<usize>,
    /// By operation, the values that were too large for a leaf. Those that an attempt publishes are
    /// taken from here; the rest is given back with the job.
    pub(crate) written: BTreeMap<usize, Written>,
    /// Large values that were there before, as far as the batch has to know them.
    pub(crate) known: Known,
    /// Somebody will wait until it is durable.
    pub(crate) durable: bool,
}

impl Job {
    pub(crate) fn new(batch: Batch, durability: Durability) -> Self {
        let order = batch.order();
        let (written, known) = (BTreeMap::new(), Known::default());
        let durable = durability == Durability::Durable;
        Self { batch: Arc::new(batch), order, written, known, durable }
    }
}

/// Large values that were read because a batch compares or returns them. As long as a leaf has the
/// same reference, it stands for the same value.
#[derive(Default)]
pub(crate) struct Known {
    values: HashMap<Reference, Vec<u8>>,
    /// References whose pages were not to be read. A leaf that names one again is damaged.
    unread: HashMap<Reference, FileError>,
}

/// A large value that an attempt needs to know, and the tree that it is of.
pub(crate) type Wanted = (u32, Reference);

impl Known {
    pub(crate) fn get(&self, reference: &Reference) -> Option<&Vec<u8>> {
        self.values.get(reference)
    }

    pub(crate) fn take(&mut self, reference: &Reference) -> Option<Vec<u8>> {
        self.values.remove(reference)
    }

    /// Reads what an attempt wanted, and forgets the rest. Owns nothing while it waits. A value that
    /// has moved is left out: the next attempt wants another.
    pub(crate) async fn read(&mut self, engine: &Engine, wanted: &[Wanted]) -> Result<(), Error> {
        let is_wanted = |reference: &Reference| wanted.iter().any(|(_, other)| other == reference);
        self.values.retain(|reference, _| is_wanted(reference));
        for (tree, reference) in wanted {
            if self.values.contains_key(reference) {
                continue;
            }
            if let Some(error) = self.unread.remove(reference) {
                return Err(error.into());
            }
            let value = ValueRef::from_bytes(reference).ok_or_else(|| lost_value(reference))?;
            let mut bytes = Vec::new();
            let read = engine.pool().read_value(*tree, value, 0..value.len, &mut bytes).await;
            match read {
                Ok(true) => drop(self.values.insert(*reference, bytes)),
                Ok(false) => drop(self.unread.insert(*reference, lost_value(reference))),
                Err(error) => drop(self.unread.insert(*reference, error)),
            }
        }
        Ok(())
    }
}

/// A leaf has a reference, and its pages are those of another value or of none.
pub(crate) fn lost_value(reference: &[u8]) -> FileError {
    let which = match ValueRef::from_bytes(reference) {
        Some(ValueRef { first, len, .. }) => format!("{len} bytes from {first} on"),
        None => "which is none".into(),
    };
    FileError::new(
        FileErrorKind::Damaged,
        format!(
            "a leaf refers to a large value ({which}), and its pages are not there; run verify, \
             restore a backup"
        ),
    )
}
