//! Every I/O of a load fails with `EIO`, once or from then on. The operation gets an error or
//! succeeds; a failed write or sync stops the engine for good (I8) and a failed read does not;
//! nothing hangs; and when the disk works again, everything acknowledged is there.

#![allow(missing_docs, clippy::unwrap_used)]

use crate::engine_support::journal::Journal;
use crate::engine_support::workload::{Load, NAMES};
use crate::engine_support::{
    Op, assert_clean, batch, contents, machine, open, options, patient, seeds, small_log,
};
use treering_pagefile::sim::{FailMode, Sim, SimImage};
use treering_pagefile::{FileErrorKind, Op as DiskOp};
use treering_txn::{Durability, Error};

const EIO: i32 = 5;

/// Errors of the disk are what these tests are about; all others are bugs.
fn of_the_disk(error: &Error) -> bool {
    matches!(error.file_kind(), Some(FileErrorKind::Io | FileErrorKind::Poisoned))
}

fn fail_everywhere(load: Load, image: Option<&SimImage>, journal: &Journal, stride: usize) {
    let new_machine = || match image {
        Some(image) => patient(Sim::from_image(image, load.seed)),
        None => machine(load.seed),
    };
    let whole = new_machine();
    whole.run(load.run(&whole, &journal.fork(), |_| false)).unwrap().unwrap();
    let count = whole.disk().io_count();
    for index in (0..count).step_by(stride) {
        for mode in [FailMode::Once, FailMode::FromThenOn] {
            let context = format!("{load:?}: I/O {index} fails, {mode:?}");
            fail_at(&load, new_machine(), &journal.fork(), index, mode, &context);
        }
    }
}

fn fail_at(load: &Load, sim: Sim, journal: &Journal, index: u64, mode: FailMode, context: &str) {
    let disk = sim.disk();
    disk.record_trace();
    disk.fail_at(index, EIO, mode);
    let outcome = sim.run(async {
        let mut options = options(load.frames, load.seed ^ 0x5eed);
        options.log = load.log;
        let opened = open(&sim, options).await;
        let opened_at = disk.completed_count();
        let engine = match opened {
            Ok(engine) => engine,
            Err(error) => {
                // Two superblocks that cannot be read count as damaged.
                let damaged = error.file_kind() == Some(FileErrorKind::Damaged);
                let unreadable = damaged && mode == FailMode::FromThenOn;
                assert!(of_the_disk(&error) || unreadable, "{context}: opening: {error}");
                return None;
            }
        };
        match contents(&engine, &NAMES).await {
            Ok(found) => journal.settle(&found, engine.recovery().sequence),
            Err(error) => {
                assert!(of_the_disk(&error), "{context}: {error}");
                engine.stop();
                return None;
            }
        }
        if let Err(error) = load.run_on(&engine, journal, of_the_disk).await {
            assert!(of_the_disk(&error), "{context}: {error}");
        }
        // Is it poisoned? Asked by a commit to a tree, if one could be made.
        let last = match engine.find_tree(NAMES[0].as_bytes()) {
            Some(tree) => {
                let ops = [Op::put(0, b"asked", b"")];
                Some(journal.commit(&engine, &[tree], &ops, Durability::Durable).await)
            }
            None => None,
        };
        let closed = engine.close().await;
        Some((opened_at, last, closed))
    });
    let outcome = outcome.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    sim.settle().unwrap_or_else(|stalled| panic!("{context}, at rest: {stalled}"));

    if let Some((opened_at, last, closed)) = outcome {
        let trace = disk.trace();
        let failed = trace.iter().position(|event| event.outcome.is_err());
        let failed = failed.filter(|&at| at as u64 >= opened_at).map(|at| &trace[at]);
        // Growing the page file is allowed to fail: nothing has been lost. The log's segments are
        // not, as nobody would hear of it.
        let write = failed
            .is_some_and(|e| matches!(e.op, DiskOp::Write | DiskOp::WriteDurable | DiskOp::Sync));
        let refused = matches!(&last, Some(Err(error)) if error.file_kind() == Some(FileErrorKind::Poisoned))
            || matches!(&closed, Err(error) if error.file_kind() == Some(FileErrorKind::Poisoned));
        if write {
            assert!(refused, "{context}: {failed:?} and then {last:?}, {closed:?}");
        }
        if mode == FailMode::Once && failed.is_some_and(|event| event.op == DiskOp::Read) {
            assert!(!refused, "{context}: a failed read has poisoned the engine: {last:?}");
            closed.unwrap_or_else(|error| panic!("{context}: {error}"));
        }
    }

    disk.clear_faults();
    for image in [disk.image_visible(), disk.image_by_seed(index), disk.image_durable_only()] {
        let sim = patient(Sim::from_image(&image, index));
        let recovered = sim.run(async {
            let engine = open(&sim, options(32, 1 << 40 | index)).await;
            let engine = engine.unwrap_or_else(|error| panic!("{context}, reopening: {error}"));
            let found = contents(&engine, &NAMES).await.unwrap();
            let sequence = engine.recovery().sequence;
            journal.judge(&found, sequence).unwrap_or_else(|why| panic!("{context}: {why}"));
            assert_clean(&engine, context).await;
            let tree = engine.tree(b"users").await.unwrap();
            let batch = batch(&[tree], &[Op::put(0, b"goes", b"on")]);
            engine.commit(batch, Durability::Durable).await.unwrap();
            engine.close().await.unwrap();
        });
        recovered.unwrap_or_else(|stalled| panic!("{context}, reopened: {stalled}"));
    }
}

#[test]
fn in_the_first_life() {
    for seed in seeds(31, 1) {
        let load = Load { commits: 14, checkpoint_every: 6, batch_max: 2, ..Load::new(seed) };
        fail_everywhere(load, None, &Journal::default(), 1);
    }
}

#[test]
fn in_a_tiny_pool_over_a_larger_tree() {
    for seed in seeds(32, 1) {
        let grown =
            Load { commits: 120, batch_max: 3, bulky: true, close: false, ..Load::new(seed) };
        let (sim, journal) = (machine(seed), Journal::default());
        sim.run(grown.run(&sim, &journal, |_| false)).unwrap().unwrap();
        let image = sim.disk().crash(seed);
        let load = Load {
            frames: 16,
            clients: 3,
            commits: 8,
            checkpoint_every: 4,
            batch_max: 2,
            log: small_log(3),
            ..Load::new(seed + 1)
        };
        fail_everywhere(load, Some(&image), &journal, 3);
    }
}
