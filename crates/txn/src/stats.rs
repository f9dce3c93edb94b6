//! Numbers about an open database.

use std::sync::atomic::Ordering;
use std::time::Duration;

use treering_bufpool::PoolStats;
use treering_pagefile::{DiskCounters, SpaceStats};

use crate::engine::Engine;
use crate::log::LogUsage;

/// Numbers about an open database, as they were at one moment. Totals are since the opening. To look
/// costs a few short mutexes and a walk over the headers of all frames: once a second is nothing, for
/// each request it is too often.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EngineStats {
    /// Bytes a page.
    pub page_size: usize,
    /// How long the database has been open.
    pub open_for: Duration,
    /// The buffer pool.
    pub pool: PoolStats,
    /// The page file.
    pub space: SpaceStats,
    /// The log.
    pub log: LogUsage,
    /// What the disk was asked for; all zero on a simulated one.
    pub disk: DiskCounters,
    /// The sequence of the last commit. It goes up by one a commit.
    pub sequence: u64,
    /// The sequence up to which commits are durable: at most [`EngineStats::sequence`].
    pub durable_sequence: u64,
    /// Checkpoints since the database was opened. The opening writes the first, unless it is for
    /// reading only.
    pub checkpoints: u64,
    /// The last of them; none if the database is open for reading only.
    pub last_checkpoint: Option<CheckpointStats>,
    /// Operations that the engine's own tasks brought to an end, because they lacked something.
    pub engine_records: u64,
    /// Steps by which underfull pages were merged with a sibling or borrowed from it.
    pub merges: u64,
    /// Lookups, if they are counted.
    pub lookups: Option<Lookups>,
}

/// A checkpoint that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointStats {
    /// The sequence of the last commit that is in it.
    pub sequence: u64,
    /// Pages that were written for it; those that were written back before are not among them.
    pub pages: u64,
    /// How long it took.
    pub took: Duration,
    /// How long ago it ended.
    pub ago: Duration,
}

/// Lookups of single keys since the opening. They are counted only where somebody asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lookups {
    /// Lookups that were begun.
    pub gets: u64,
    /// Those of them for which some page was not in memory: they waited for the disk.
    pub waited: u64,
}

impl Lookups {
    /// So many lookups, of which so many waited.
    pub fn new(gets: u64, waited: u64) -> Self {
        Self { gets, waited }
    }

    /// The share of lookups that found everything in memory, from 0 to 1; none if there was none.
    pub fn hit_rate(&self) -> Option<f64> {
        (self.gets > 0).then(|| self.gets.saturating_sub(self.waited) as f64 / self.gets as f64)
    }
}

/// One of the numbers of [`EngineStats::numbers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Number {
    /// Its name, in words separated by `_`; the unit is last (`bytes`, `ms`) unless it is a count.
    pub name: &'static str,
    /// The number.
    pub value: u64,
    /// It is a total since the opening, which only rises: differences of it are rates.
    pub total: bool,
}

impl EngineStats {
    /// All of these numbers by name, for programs that pass them on. What is not known is left out.
    /// Names stay; later versions may have more of them.
    pub fn numbers(&self) -> Vec<Number> {
        let mut numbers = Vec::with_capacity(48);
        let now = |name, value| Number { name, value, total: false };
        let total = |name, value| Number { name, value, total: true };
        let (pool, space, log, disk) = (&self.pool, &self.space, &self.log, &self.disk);
        numbers.extend([
            now("page_size", self.page_size as u64),
            now("open_ms", millis(self.open_for)),
            total("sequence", self.sequence),
            total("durable_sequence", self.durable_sequence),
            now("file_bytes", space.file),
            now("used_bytes", space.used),
            now("map_bytes", space.map),
            now("free_bytes", space.free),
            now("reserved_bytes", space.reserved),
            now("pending_release_bytes", space.pending_release),
            now("floor_bytes", space.floor),
            now("log_used_bytes", log.used),
            now("log_capacity_bytes", log.capacity),
            now("log_segments", log.segments as u64),
            now("log_segments_kept", log.segments_kept as u64),
            total("log_writes", log.groups_written),
            total("log_written_bytes", log.bytes_written),
            total("log_records", log.records_written),
            now("pool_frames", pool.frames as u64),
            now("pool_dirty", pool.dirty as u64),
            now("pool_pinned", pool.pinned as u64),
            total("pool_loads", pool.loads),
            total("pool_writes", pool.writes),
            now("pool_writes_in_flight", pool.writes_in_flight as u64),
            total("pool_evictions", pool.evictions),
            total("disk_requests", disk.requests),
            total("disk_syncs_asked", disk.syncs_asked),
            total("disk_syncs", disk.syncs_done),
            total("disk_rescued", disk.rescued),
            total("disk_slow", disk.slow),
            total("checkpoints", self.checkpoints),
        ]);
        if let Some(last) = &self.last_checkpoint {
            numbers.extend([
                now("checkpoint_sequence", last.sequence),
                now("checkpoint_pages", last.pages),
                now("checkpoint_ms", millis(last.took)),
                now("checkpoint_ago_ms", millis(last.ago)),
            ]);
        }
        numbers
            .extend([total("engine_records", self.engine_records), total("merges", self.merges)]);
        if let Some(lookups) = &self.lookups {
            let Lookups { gets, waited } = *lookups;
            numbers.extend([total("gets", gets), total("gets_waited", waited)]);
        }
        numbers
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Engine {
    /// Numbers as they are now.
    pub fn stats(&self) -> EngineStats {
        let now = self.runtime.now();
        EngineStats {
            page_size: self.pool().page_size(),
            open_for: now.saturating_sub(self.opened_at),
            pool: self.pool().stats(),
            space: self.pool().file().space(),
            log: self.log.usage(),
            disk: self.pool().file().disk().counters(),
            // In this order: what is durable at one moment is not behind what was the last before.
            durable_sequence: self.log.durable_sequence(),
            sequence: self.log.last_sequence(),
            checkpoints: self.checkpoints.count(),
            last_checkpoint: self.checkpoints.last_stats(now),
            engine_records: self.records.count(),
            merges: self.merges.load(Ordering::Relaxed),
            lookups: None,
        }
    }
}
