//! What is measured, for the `metrics` facade: histograms of times, and the numbers of
//! [`crate::Stats`] once a second.
//!
//! The handles are made when the database is opened, from the recorder that is installed then. With
//! the feature off, nothing of this file is compiled, and nobody reads a clock for it.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use treering_pagefile::{IoObserver, Op};
use treering_txn::{CheckpointStats, EngineObserver, EngineStats};

/// The handles of one database, all of them with the label `database`: its folder.
pub(crate) struct Metrics {
    database: String,
    get: Histogram,
    commit: Histogram,
    fetch: Histogram,
    durable_write: Histogram,
    sync: Histogram,
    checkpoint: Histogram,
}

impl Metrics {
    pub(crate) fn new(database: String) -> Self {
        let of = |name: &'static str| histogram!(name, "database" => database.clone());
        let fsync = |op: &'static str| histogram!("treering_fsync_seconds", "database" => database.clone(), "op" => op);
        let (get, commit) = (of("treering_get_seconds"), of("treering_commit_seconds"));
        let (fetch, checkpoint) = (of("treering_fetch_seconds"), of("treering_checkpoint_seconds"));
        let (durable_write, sync) = (fsync("durable_write"), fsync("sync"));
        Self { get, commit, fetch, durable_write, sync, checkpoint, database }
    }

    pub(crate) fn get(&self, took: Duration) {
        self.get.record(took);
    }

    pub(crate) fn commit(&self, took: Duration) {
        self.commit.record(took);
    }

    /// Passes the numbers on: totals as counters, all others as gauges.
    pub(crate) fn publish(&self, stats: &EngineStats) {
        for number in stats.numbers() {
            let name = format!("treering_{}", number.name);
            if number.total {
                let counter: Counter = counter!(name, "database" => self.database.clone());
                counter.absolute(number.value);
            } else {
                let gauge: Gauge = gauge!(name, "database" => self.database.clone());
                gauge.set(number.value as f64);
            }
        }
    }
}

impl IoObserver for Metrics {
    fn ended(&self, op: Op, _bytes: usize, took: Duration) {
        match op {
            Op::Read => self.fetch.record(took),
            Op::WriteDurable => self.durable_write.record(took),
            Op::Sync => self.sync.record(took),
            // Nobody waits for these.
            Op::Write | Op::Allocate { .. } => {}
        }
    }
}

impl EngineObserver for Metrics {
    fn checkpoint(&self, checkpoint: &CheckpointStats) {
        self.checkpoint.record(checkpoint.took);
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("database", &self.database).finish_non_exhaustive()
    }
}
