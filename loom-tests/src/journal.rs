//! A real log over a [`Desk`]: what models of the log are made on.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use treering_pagefile::{Disk, Health, Runtime, Spawn};
use treering_txn::{Log, LogOptions, LogStart};

use crate::bench::at_once;
use crate::desk::Desk;

/// A log and the disk under it.
#[derive(Clone)]
pub struct Journal {
    /// The disk.
    pub desk: Arc<Desk>,
    /// The log.
    pub log: Arc<Log>,
}

/// The epoch in which a model begins.
pub const EPOCH: u64 = 1;

impl Journal {
    /// An empty log, with nothing on its way.
    pub fn new() -> Self {
        let desk = Desk::new(0);
        let start = LogStart {
            incarnation: 7,
            first_segment: 1,
            last_sequence: 0,
            epoch: EPOCH,
            keep: Vec::new(),
        };
        let options = LogOptions { segment_size: 1 << 15, buffer_size: 0, ..LogOptions::default() };
        let log = at_once(Log::create(
            Arc::clone(&desk) as Arc<dyn Disk>,
            Arc::new(NoRuntime),
            Arc::new(Health::default()),
            options,
            start,
        ));
        let (log, _) = log.expect("a disk in memory does not fail");
        desk.begin();
        Self { desk, log }
    }

    /// Appends a record in the first epoch and has its change applied at once; its sequence.
    pub fn append(&self, body: &[u8]) -> u64 {
        self.log.try_append(EPOCH, body).expect("there is room").sequence()
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs nothing; its clock stands still.
struct NoRuntime;

impl Runtime for NoRuntime {
    fn spawn(&self, _: Spawn) {
        panic!("a model has threads of its own");
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}
