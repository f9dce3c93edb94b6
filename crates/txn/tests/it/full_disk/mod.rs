//! The disk is full at every point where space is taken, once and for good (I13).
//!
//! A life of a database that does everything there is ([`work`]) runs on disks of every size from
//! one on which it cannot even be created to one on which all of it fits, and again with each single
//! reservation of space failing, alone or with all that follow it. Whatever is refused says that the
//! disk is full and what to do, and has not happened. Then [`after`] shows, on the disk that is still
//! full: everything acknowledged is there, reads go on, a power loss and an opening change nothing of
//! that; deletes of every kind succeed, and what they give back can be written to; and with room,
//! everything is as ever.
//!
//! `TREERING_SOAK=10` takes ten times as many sizes, and ten seeds.

mod after;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use treering_pagefile::sim::{Sim, SimDiskOptions, Stalled};
use treering_pagefile::{FileErrorKind, Op};
use treering_txn::{Batch, Durability, Engine, Error, OpKind};

use crate::engine_support::{open, options, patient};
use work::Work;

/// `ENOSPC`.
const NO_SPACE: i32 = 28;
/// Frames of the pool.
const FRAMES: usize = 40;

fn full(error: &Error) -> bool {
    error.file_kind() == Some(FileErrorKind::Full)
}

fn soak() -> u64 {
    std::env::var("TREERING_SOAK").map_or(1, |times| times.parse().unwrap())
}

/// When space runs out.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// Never.
    No,
    /// When so many bytes are taken.
    Capacity(u64),
    /// The reservation with this number fails.
    Once(u64),
    /// It and all after it fail.
    FromThenOn(u64),
}

/// What a run came to.
#[derive(Debug, Default)]
struct Figures {
    /// Steps of the work that were refused.
    refused: usize,
    /// Reservations of space, the failed ones included.
    reservations: u64,
    /// Bytes on the disk in the end.
    bytes: u64,
}

/// The work on a disk that runs full, and everything that has to hold after it.
fn life(seed: u64, limit: Limit) -> Figures {
    let capacity = match limit {
        Limit::Capacity(capacity) => capacity,
        _ => u64::MAX,
    };
    let sim =
        patient(Sim::with_options(seed, SimDiskOptions { capacity, ..SimDiskOptions::default() }));
    // As ext4 does it, half of those that fail for want of room have taken a part of it.
    sim.disk().take_parts(2);
    let reservations = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&reservations);
    sim.disk().fail_when(move |point| {
        let Op::Allocate { .. } = point.op else { return None };
        let number = count.fetch_add(1, Ordering::Relaxed);
        let fails = match limit {
            Limit::No | Limit::Capacity(_) => false,
            Limit::Once(at) => number == at,
            Limit::FromThenOn(at) => number >= at,
        };
        fails.then_some(NO_SPACE.into())
    });
    let context = format!("seed {seed}, {limit:?}");
    let run = sim.run(async {
        let Some(engine) = created(&sim, seed, &context).await else { return Figures::default() };
        let mut work = Work::new(&sim, Arc::clone(&engine), seed, &context);
        work.run().await;
        let figures = Figures {
            refused: work.refused,
            reservations: reservations.load(Ordering::Relaxed),
            bytes: sim.disk().space_used(),
        };
        after::everything_holds(&sim, work, &context).await;
        figures
    });
    run.unwrap_or_else(|stalled: Stalled| panic!("{context}: {stalled}"))
}

/// A new database, unless there is no room even for that; then there is when there is room.
async fn created(sim: &Sim, seed: u64, context: &str) -> Option<Arc<Engine>> {
    match open(sim, options(FRAMES, seed)).await {
        Ok(engine) => Some(engine),
        Err(error) => {
            assert!(full(&error), "{context}: creating: {error}");
            work::assert_helpful(&error, context);
            sim.disk().clear_faults();
            sim.disk().set_capacity(u64::MAX);
            let engine = open(sim, options(FRAMES, seed ^ 1)).await;
            let engine = engine.unwrap_or_else(|e| panic!("{context}: creating with room: {e}"));
            engine.close().await.unwrap();
            None
        }
    }
}

fn seeds() -> impl Iterator<Item = u64> {
    1..=soak()
}

#[test]
fn the_work_succeeds_with_room() {
    for seed in seeds() {
        let figures = life(seed, Limit::No);
        assert_eq!(figures.refused, 0);
        assert!(figures.reservations > 20, "{figures:?}");
    }
}

#[test]
fn on_disks_of_every_size() {
    for seed in seeds() {
        let whole = life(seed, Limit::No).bytes;
        let steps = 60 * soak();
        let mut refused = 0;
        for step in 0..steps {
            // Also sizes that are no multiple of anything.
            let capacity = whole * step / steps + step * 257 % 4096;
            refused += usize::from(life(seed, Limit::Capacity(capacity)).refused > 0);
        }
        assert!(refused > steps as usize / 2, "{refused} of {steps} disks were full");
    }
}

#[test]
fn every_reservation_fails_once() {
    every_reservation(Limit::Once);
}

#[test]
fn every_reservation_fails_and_all_after_it() {
    every_reservation(Limit::FromThenOn);
}

fn every_reservation(limit: fn(u64) -> Limit) {
    for seed in seeds() {
        let all = life(seed, Limit::No).reservations;
        let mut refused = 0;
        for number in 0..all {
            refused += life(seed, limit(number)).refused;
        }
        assert!(refused > 0, "nothing was refused at any of {all} reservations");
    }
}

/// With one segment, and none prepared, a log cannot go on, and no checkpoint can release anything. It
/// waited for the next checkpoint all the same, which nobody was to call for: every commit hung, also
/// when there was room again.
#[test]
fn a_log_that_could_not_have_its_next_segment_once_asks_again() {
    let sim = patient(Sim::new(1));
    let fillings = AtomicU64::new(0);
    sim.disk().fail_when(move |point| {
        // Zeros for a whole segment; the first one is there before the database is.
        let filling = point.op == Op::Write && point.offset == 0 && point.len == 16 << 10;
        let number = if filling { fillings.fetch_add(1, Ordering::Relaxed) } else { 0 };
        (number == 1).then_some(NO_SPACE.into())
    });
    let run = sim.run(async {
        let engine = open(&sim, options(FRAMES, 1)).await.unwrap();
        let tree = engine.tree(b"t").await.unwrap();
        for number in 0..20_u8 {
            let mut batch = Batch::new();
            batch.push(tree, OpKind::Put, &[number], &[7; 100]);
            engine.commit(batch, Durability::Durable).await.unwrap();
        }
        engine.close().await.unwrap();
    });
    run.unwrap_or_else(|stalled| panic!("{stalled}"));
}
