//! The log on the simulated disk: power is lost at every single I/O of a workload with checkpoints,
//! recycling and a second life, any subset of what was not durable is gone, and recovery finds a
//! prefix that holds everything acknowledged (I6).

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::log_support::{assert_run, body, fresh, options};
use treering_pagefile::sim::Sim;
use treering_pagefile::{Disk, FileError, Health, LogPosition};
use treering_txn::{AppendError, Log, LogReader, LogStart, Record};

/// What outlives a crash besides the disk: the superblock, and what users were told.
#[derive(Clone, Copy, Debug)]
struct Superblock {
    incarnation: u64,
    position: LogPosition,
    sequence: u64,
}

#[derive(Default)]
struct Outside {
    superblock: Mutex<Option<Superblock>>,
    appended: AtomicU64,
    acknowledged: AtomicU64,
}

/// One life: 240 commits of varying size, four at a time, and a checkpoint when it is time.
async fn live(sim: &Sim, start: LogStart, outside: &Outside) -> Result<(), FileError> {
    let (disk, runtime, health): (Arc<dyn Disk>, _, Arc<Health>) =
        (sim.disk(), sim.runtime(), Arc::default());
    let incarnation = start.incarnation;
    let sequence = start.last_sequence;
    let (log, position) =
        Log::create(disk, runtime.clone(), health, options(6, 4, 3), start).await?;
    runtime.spawn(Box::pin(log.clone().run()));
    *outside.superblock.lock().unwrap() = Some(Superblock { incarnation, position, sequence });
    log.release_before(position);
    for round in 0..60 {
        let mut last = 0;
        for _ in 0..4 {
            last = loop {
                let next = log.last_sequence() + 1;
                let len = (next * 7919 % 5000) as usize;
                match log.try_append(log.epoch(), &body(next, len)) {
                    Ok(applying) => {
                        outside.appended.store(applying.sequence(), Ordering::SeqCst);
                        break applying.sequence();
                    }
                    Err(AppendError::NoRoom) => log.wait_room().await,
                    Err(error) => panic!("{error}"),
                }
            };
        }
        log.wait_durable(last).await?;
        outside.acknowledged.store(last, Ordering::SeqCst);
        if round % 4 == 3 || log.usage().is_pressing() {
            let sequence = log.flip().last_sequence;
            let position = log.position_after(sequence).await?;
            *outside.superblock.lock().unwrap() =
                Some(Superblock { incarnation, position, sequence });
            log.release_before(position);
        }
    }
    log.stop();
    Ok(())
}

async fn recover(
    disk: Arc<dyn Disk>,
    from: Superblock,
) -> Result<(Vec<Record>, LogReader), FileError> {
    let mut reader = LogReader::open(disk, from.incarnation, from.position, from.sequence).await?;
    let mut records = Vec::new();
    while let Some(record) = reader.next().await? {
        records.push(record);
    }
    Ok((records, reader))
}

/// Runs a life that ends at I/O `stop`, then a second one that ends at `stop` too, then checks.
/// Returns whether a life was cut short.
fn crash_at(stop: u64, seed: u64) -> bool {
    let mut sim = Sim::new(seed);
    let outside = Outside::default();
    let mut start = fresh();
    let mut cut = false;
    for life in 1..=3 {
        sim.disk().stop_at(stop);
        cut |= sim.run(live(&sim, start, &outside)).is_err();
        let image = sim.disk().crash(seed + stop);
        sim.restart(&image, seed + life);
        let Some(superblock) = *outside.superblock.lock().unwrap() else { return true };
        let (records, reader) = sim.run(recover(sim.disk(), superblock)).unwrap().unwrap();
        let end = records.last().map_or(superblock.sequence, |record| record.sequence);
        assert_run(&records, superblock.sequence + 1, end);
        let acknowledged = outside.acknowledged.load(Ordering::SeqCst);
        let appended = outside.appended.load(Ordering::SeqCst).max(superblock.sequence);
        assert!(acknowledged <= end && end <= appended, "{acknowledged} <= {end} <= {appended}");
        start = LogStart {
            incarnation: life + 1,
            first_segment: reader.last_segment() + 1,
            last_sequence: end,
            epoch: 1,
            keep: reader.segments_in_use(),
        };
        // Sequences of records that were lost are given out again.
        outside.appended.store(end, Ordering::SeqCst);
        outside.acknowledged.store(end, Ordering::SeqCst);
    }
    cut
}

#[test]
fn t18_a_crash_at_any_io_leaves_a_prefix_with_everything_acknowledged() {
    for seed in [1, 1000] {
        let mut stop = 1;
        while crash_at(stop, seed) {
            stop += 1;
        }
        assert!(stop > 100, "the workload has more I/Os than {stop}");
    }
}
