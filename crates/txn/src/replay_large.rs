//! Replaying large values: their pages are on disk already, and must still be there when their record's
//! turn comes.
//!
//! Replay writes pages back as it goes, to any extent that the page map leaves free; and it makes
//! pages, under any id that is free. So before anything is applied the log is read once from end to
//! end, and the extents and ids of all values that it publishes are taken. Those of one value are not
//! those of another: neither is used again before the checkpoint after the value has gone, and behind
//! that checkpoint the log does not name it any more.

use std::sync::Arc;

use treering_blink::Reference;
use treering_bufpool::{Pool, ValueRef};
use treering_pagefile::{CheckpointInfo, Disk, FileError, FileErrorKind};

use crate::body::{Entry, decode, decode_runs};
use crate::deferred::body_references;
use crate::error::Error;
use crate::log::LogReader;

/// Takes what the values of the log behind a checkpoint lie in.
pub(crate) async fn claim_values(
    pool: &Arc<Pool>,
    disk: Arc<dyn Disk>,
    checkpoint: CheckpointInfo,
    epoch: u64,
) -> Result<(), Error> {
    let CheckpointInfo { incarnation, log, sequence, .. } = checkpoint;
    let mut reader = LogReader::open(disk, incarnation, log, sequence).await?;
    while let Some((sequence, body)) = reader.next_in_place().await? {
        let claim = |value: &Reference, runs: &[u8]| {
            if pool.claim_value(value_of(value)?, &decode_runs(runs)) {
                return Ok(());
            }
            Err(damaged(format!(
                "log record {sequence} has a large value whose pages belong to another"
            )))
        };
        for entry in decode_record(sequence, body) {
            match entry? {
                Entry::PutLarge { value, runs, .. } => claim(value, runs)?,
                Entry::BigBatch { body, runs } => {
                    claim(body, runs)?;
                    // It is read now, for what it names itself, and again when its turn comes.
                    adopt_value(pool, body, runs, epoch)?;
                    for (value, runs) in body_references(pool, body).await? {
                        claim(&value, &runs)?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Makes the pages of a value known as of `epoch`, before its leaf gets the reference.
pub(crate) fn adopt_value(
    pool: &Pool,
    value: &Reference,
    runs: &[u8],
    epoch: u64,
) -> Result<(), Error> {
    pool.adopt_value(value_of(value)?, decode_runs(runs), epoch);
    Ok(())
}

/// The leaves have these references no more.
pub(crate) fn retire_values(pool: &Pool, references: &[Reference], epoch: u64) {
    for reference in references {
        match ValueRef::from_bytes(reference) {
            Some(value) => pool.retire_value(value, epoch),
            None => tracing::error!("a leaf had a reference to a large value that is none"),
        }
    }
}

/// The entries in the body of the record with a sequence, in order.
pub(crate) fn decode_record(
    sequence: u64,
    body: &[u8],
) -> impl Iterator<Item = Result<Entry<'_>, Error>> {
    let meaningless =
        move || damaged(format!("log record {sequence} has a sound checksum but no meaning"));
    decode(body).map(move |entry| entry.ok_or_else(meaningless))
}

fn value_of(reference: &Reference) -> Result<ValueRef, Error> {
    let value = ValueRef::from_bytes(reference);
    value.ok_or_else(|| damaged("the log has a reference to a large value that is none".into()))
}

fn damaged(what: String) -> Error {
    Error::File(FileError::new(FileErrorKind::Damaged, what))
}
