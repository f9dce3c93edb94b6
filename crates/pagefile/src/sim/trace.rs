//! What a disk did, to compare two runs bit for bit.

use std::io;

use super::rng::fold;
use crate::disk::{FileId, Op};

/// One completed I/O.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceEvent {
    /// The number of the request, counted from 0 in order of submission.
    pub index: u64,
    /// What it did.
    pub op: Op,
    /// To which file.
    pub file: FileId,
    /// Where, in bytes.
    pub offset: u64,
    /// To how many bytes; 0 for a sync.
    pub len: u64,
    /// CRC-32C of the bytes written or read.
    pub crc: u32,
    /// How it ended.
    pub outcome: Result<(), io::ErrorKind>,
}

/// The events in order of completion, if anybody asked for them, and a hash of them in any case.
#[derive(Default)]
pub(super) struct Trace {
    events: Option<Vec<TraceEvent>>,
    hash: u64,
}

impl Trace {
    pub(super) fn record(&mut self) {
        self.events.get_or_insert_default();
    }

    pub(super) fn events(&self) -> Vec<TraceEvent> {
        self.events.clone().unwrap_or_default()
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn add(&mut self, event: TraceEvent) {
        let op = match event.op {
            Op::Read => 0,
            Op::Write => 1,
            Op::WriteDurable => 2,
            Op::Sync => 3,
            Op::Allocate { .. } => 4,
        };
        let outcome = match event.outcome {
            Ok(()) => 0,
            Err(kind) => 1 + kind as u64,
        };
        for word in [
            event.index,
            op,
            u64::from(event.file.0),
            event.offset,
            event.len,
            u64::from(event.crc),
            outcome,
        ] {
            self.hash = fold(self.hash, word);
        }
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }
}
