//! The body of a big batch: its outcomes, as entries of a log record, in overflow pages.

use treering_blink::Reference;
use treering_bufpool::{ValueRef, Written};
use treering_pagefile::{FileError, FileErrorKind};

use super::big_batch::pause;
use crate::body::{Entry, decode_first, encode, encode_runs};
use crate::catalog::CATALOG;
use crate::engine::Engine;
use crate::error::Error;
use crate::job::Job;

/// Bytes of a body that are written, or read, at once, beside one entry.
const PIECE: usize = 1 << 20;
/// Bytes of a body after which it is synced, so that no commit beside it has to wait for a sync of
/// very much.
const SYNC_BYTES: usize = 64 << 20;

impl Engine {
    /// Writes the outcomes of the operations `deciding`. The caller syncs.
    pub(super) async fn write_body(&self, job: &Job, deciding: &[u32]) -> Result<Written, Error> {
        let mut piece = Vec::new();
        let mut len = 0;
        for (number, &at) in deciding.iter().enumerate() {
            pause(number).await;
            piece.clear();
            encode_outcome(job, at as usize, &mut piece);
            len += piece.len() as u64;
        }
        let mut maker = self.pool().make_value(CATALOG.id, self.next_unique()?, len);
        if job.batch.only_deletes() {
            maker = maker.to_shrink();
        }
        let (mut left, mut unsynced) = (len, 0);
        piece.clear();
        for (index, &at) in deciding.iter().enumerate() {
            encode_outcome(job, at as usize, &mut piece);
            if piece.len() < PIECE && index + 1 < deciding.len() {
                continue;
            }
            let mut written = self.write_part(&mut maker, &piece, left).await;
            left -= piece.len() as u64;
            unsynced += piece.len();
            if unsynced >= SYNC_BYTES && written.is_ok() {
                written = self.sync_values().await.map_err(Error::from);
                unsynced = 0;
            }
            if let Err(error) = written {
                maker.abandon().await;
                return Err(error);
            }
            piece.clear();
        }
        Ok(maker.finish().await?)
    }
}

/// Appends what an operation, the last on its key, makes of it.
fn encode_outcome(job: &Job, at: usize, out: &mut Vec<u8>) {
    let op = job.batch.op(at);
    let (tree, key) = (op.tree.id, op.key);
    match job.written.get(&at) {
        Some(written) => {
            let (value, runs) = (&written.value().to_bytes(), &encode_runs(written.runs()));
            encode(Entry::PutLarge { tree, key, value, runs }, out);
        }
        None if op.kind.gives_value() => encode(Entry::Put { tree, key, value: op.value }, out),
        None => encode(Entry::Delete { tree, key }, out),
    }
}

/// A body that is read piece by piece.
pub(crate) struct BodyReader {
    value: ValueRef,
    /// Bytes read so far, and those of them that are not decoded yet.
    read: u64,
    bytes: Vec<u8>,
    at: usize,
}

impl BodyReader {
    pub(crate) fn new(body: &Reference) -> Result<Self, Error> {
        let value = ValueRef::from_bytes(body).ok_or_else(no_body)?;
        Ok(Self { value, read: 0, bytes: Vec::new(), at: 0 })
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// A read that fails; a body that is none.
    pub(crate) async fn next(
        &mut self,
        pool: &std::sync::Arc<treering_bufpool::Pool>,
    ) -> Result<Option<Entry<'_>>, Error> {
        // Decoded twice, as a borrow of what may still be added to does not get out of the loop.
        while decode_first(&self.bytes[self.at..]).is_none() {
            if self.read == self.value.len {
                return if self.at == self.bytes.len() { Ok(None) } else { Err(no_body()) };
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            let end = (self.read + PIECE as u64).min(self.value.len);
            let mut piece = Vec::new();
            if !pool.read_value(CATALOG.id, self.value, self.read..end, &mut piece).await? {
                return Err(no_body());
            }
            self.bytes.append(&mut piece);
            self.read = end;
        }
        let (entry, len) = decode_first(&self.bytes[self.at..]).expect("it was there just now");
        self.at += len;
        Ok(Some(entry))
    }
}

/// The large values that a body names, with their runs: for a recovery, which claims them.
pub(crate) async fn body_references(
    pool: &std::sync::Arc<treering_bufpool::Pool>,
    body: &Reference,
) -> Result<Vec<(Reference, Vec<u8>)>, Error> {
    let mut reader = BodyReader::new(body)?;
    let mut references = Vec::new();
    while let Some(entry) = reader.next(pool).await? {
        if let Entry::PutLarge { value, runs, .. } = entry {
            references.push((*value, runs.to_vec()));
        }
    }
    Ok(references)
}

fn no_body() -> Error {
    Error::File(FileError::new(
        FileErrorKind::Damaged,
        "the body of a big batch is not what was written; restore the database from a backup",
    ))
}
