//! What an opening makes, refuses, finds and counts, and what is left of one that was given up.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use crate::engine_support::{Op, assert_clean, batch, machine, open, options, patient, small_log};
use futures::FutureExt;
use treering_pagefile::sim::{Sim, SimImage};
use treering_pagefile::{Disk, FileErrorKind};
use treering_txn::{
    Batch, Durability, Engine, EngineOptions, Error, LogOptions, OpKind, TreeOptions,
};

async fn open_read_only(sim: &Sim, options: EngineOptions) -> Result<Arc<Engine>, Error> {
    let disk: Arc<dyn Disk> = sim.disk();
    Engine::open_read_only(disk, sim.runtime(), options, Box::new(())).await
}

/// Options with a log of which these tests use so little that it never asks for a checkpoint.
fn with_a_large_log(entropy: u64) -> EngineOptions {
    let log = LogOptions { segment_size: 1 << 20, ..small_log(4) };
    EngineOptions { log, ..options(32, entropy) }
}

/// Puts so many keys, one commit each.
async fn put(engine: &Arc<Engine>, keys: std::ops::Range<usize>, durability: Durability) {
    let tree = engine.tree(b"t").await.unwrap();
    for number in keys {
        let ops = [Op::put(0, format!("{number:06}").as_bytes(), b"value")];
        engine.commit(batch(&[tree], &ops), durability).await.unwrap();
    }
}

#[test]
fn no_database_is_made_unless_it_is_asked_for_and_never_for_reading_only() {
    for (read_only, create) in [(false, false), (true, true), (true, false)] {
        let options = EngineOptions { create, ..options(16, 1) };
        let sim = machine(1);
        let opened = match read_only {
            false => sim.run(open(&sim, options)).unwrap(),
            true => sim.run(open_read_only(&sim, options)).unwrap(),
        };
        let error = opened.err().expect("there is none");
        assert_eq!(error.file_kind(), Some(FileErrorKind::NotADatabase), "{error}");
        sim.settle().unwrap();
        assert_eq!(sim.disk().image_visible().names().count(), 0, "read only: {read_only}");
    }
}

/// Files of the log without a byte are what an interrupted creation leaves behind, too.
#[test]
fn an_empty_file_of_the_log_is_no_database_that_has_lost_its_pages() {
    let mut image = SimImage::default();
    image.insert("log-00", b"");
    let sim = patient(Sim::from_image(&image, 1));
    let run = sim.run(async {
        let engine = open(&sim, options(16, 1)).await.unwrap();
        assert!(engine.recovery().created);
        assert_clean(&engine, "made").await;
        engine.close().await.unwrap();
    });
    run.unwrap();
}

#[test]
fn a_creation_that_is_interrupted_twice_comes_to_its_end() {
    // Ends with the power, which may be somewhere in the creation.
    let begin = |sim: &Sim| drop(sim.run(open(sim, options(16, 1))));
    let whole = machine(1);
    begin(&whole);
    let ios = whole.disk().io_count();
    for first in (0..ios).step_by(3) {
        let sim = machine(1);
        sim.disk().stop_at(first);
        begin(&sim);
        let image = sim.disk().image_by_seed(first);
        // The second one ends while it takes back what the first one has left.
        for second in 0..ios.min(12) {
            let sim = patient(Sim::from_image(&image, second));
            sim.disk().stop_at(second);
            begin(&sim);
            for image in (0..8).map(|seed| sim.disk().image_by_seed(seed)) {
                let sim = patient(Sim::from_image(&image, 3));
                let run = sim.run(async {
                    let context = format!("interrupted at I/O {first} and then at {second}");
                    let engine = open(&sim, options(16, 1)).await;
                    let engine = engine.unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert_clean(&engine, &context).await;
                });
                run.unwrap();
            }
        }
    }
}

#[test]
fn a_recovery_says_what_it_replayed_and_keeps_no_segment_of_the_life_before() {
    let mut sim = machine(1);
    let (mut replayed, mut sequence) = (0, 0);
    for life in 1..5 {
        let run = sim.run(async {
            let engine = open(&sim, with_a_large_log(life)).await.unwrap();
            let recovery = engine.recovery();
            assert_eq!((recovery.created, recovery.replayed), (life == 1, replayed), "life {life}");
            assert_eq!(recovery.sequence, sequence, "life {life}");
            let log = engine.stats().log;
            assert_eq!((log.segments, log.segments_kept), (1, 0), "life {life}");
            put(&engine, 0..20, Durability::Durable).await;
            engine.checkpoint().await.unwrap();
            put(&engine, 20..20 + life as usize * 7, Durability::Durable).await;
            (life * 7, engine.stats().durable_sequence)
        });
        (replayed, sequence) = run.unwrap();
        let image = sim.disk().image_durable_only();
        sim.restart(&image, life);
    }
}

#[test]
fn numbers_made_unique_are_greater_in_each_life() {
    let mut sim = machine(1);
    let mut last = 0;
    for life in 1..5 {
        let run = sim.run(async {
            let engine = open(&sim, options(16, life)).await.unwrap();
            let number = engine.next_unique().unwrap();
            assert!(number > last, "{number} after {last}, life {life}");
            number
        });
        last = run.unwrap();
        let image = sim.disk().image_durable_only();
        sim.restart(&image, life);
    }
}

#[test]
fn an_opening_that_failed_leaves_nothing_running() {
    let sim = machine(1);
    let made = sim.run(async {
        let engine = open(&sim, with_a_large_log(1)).await.unwrap();
        put(&engine, 0..30, Durability::Durable).await;
    });
    made.unwrap();
    let mut image = sim.disk().image_durable_only();
    // The first group behind the checkpoint.
    image.flip_bit("log-00", 4096 + 70);
    let sim = patient(Sim::from_image(&image, 2));
    let held = Arc::strong_count(&sim.disk());
    let opened = sim.run(open(&sim, with_a_large_log(2))).unwrap();
    let error = opened.err().expect("the log is damaged");
    assert_eq!(error.file_kind(), Some(FileErrorKind::Damaged), "{error}");
    sim.settle().unwrap();
    assert_eq!(Arc::strong_count(&sim.disk()), held, "somebody still has the disk");
}

#[test]
fn an_opening_that_was_given_up_ends_and_leaves_the_database_closed() {
    let sim = machine(1);
    for life in 1..4 {
        let keep = Arc::new(());
        let run = sim.run(async {
            let disk: Arc<dyn Disk> = sim.disk();
            let held = Box::new(Arc::clone(&keep));
            let opening = Engine::open(disk, sim.runtime(), options(16, life), held);
            assert!(opening.now_or_never().is_none(), "nothing is there at once");
        });
        run.unwrap();
        sim.settle().unwrap();
        assert_eq!(Arc::strong_count(&keep), 1, "life {life} holds the folder");
    }
    let run = sim.run(async {
        let engine = open(&sim, options(16, 9)).await.unwrap();
        assert!(!engine.recovery().created, "those who gave up have made it");
        assert_clean(&engine, "after").await;
        engine.close().await.unwrap();
    });
    run.unwrap();
}

/// It begins with a checkpoint, so that there is something to read only beside writers.
#[test]
fn verify_reads_what_the_log_has_got_since_its_checkpoint() {
    let mut records = 0;
    for seed in 1..10 {
        let sim = machine(seed);
        let run = sim.run(async {
            let engine = open(&sim, with_a_large_log(seed)).await.unwrap();
            put(&engine, 0..100, Durability::None).await;
            let beside = put(&engine, 0..100, Durability::Durable);
            let (report, ()) = futures::join!(engine.verify(), beside);
            report.unwrap()
        });
        let report = run.unwrap();
        assert!(report.problems.is_empty(), "seed {seed}: {:#?}", report.problems);
        records += report.log_records;
    }
    assert!(records > 0);
}

#[test]
fn checkpoints_and_what_the_engine_brought_to_an_end_are_counted() {
    let sim = machine(1);
    let run = sim.run(async {
        let engine = open(&sim, with_a_large_log(1)).await.unwrap();
        assert_eq!(engine.stats().engine_records, 0);
        put(&engine, 0..20, Durability::Durable).await;
        assert_eq!(engine.stats().engine_records, 1, "the tree; each put was its own future's");
        for _ in 0..3 {
            let checkpoints = engine.stats().checkpoints;
            engine.checkpoint().await.unwrap();
            assert!(engine.stats().checkpoints > checkpoints);
        }
        engine.close().await.unwrap();
    });
    run.unwrap();
}

#[test]
fn a_buffered_commit_is_durable_soon_and_one_without_durability_when_somebody_asks() {
    let sim = machine(1);
    let run = sim.run(async {
        let engine = open(&sim, with_a_large_log(1)).await.unwrap();
        put(&engine, 0..1, Durability::Durable).await;
        // The flush delay is a millisecond.
        let later = || sim.runtime().sleep(Duration::from_millis(50));
        let open = |engine: &Engine| engine.stats().sequence - engine.stats().durable_sequence;
        put(&engine, 1..4, Durability::None).await;
        later().await;
        assert_eq!(open(&engine), 3, "nobody has asked");
        put(&engine, 4..5, Durability::Buffered).await;
        assert_eq!(open(&engine), 4, "it does not wait");
        later().await;
        assert_eq!(open(&engine), 0);
    });
    run.unwrap();
}

/// Who is told that a key exists may rely on it: a crash must not take it away again.
#[test]
fn a_violated_condition_is_told_when_what_it_saw_is_as_durable_as_asked() {
    for durability in [Durability::None, Durability::Buffered, Durability::Durable] {
        let mut sim = machine(1);
        let run = sim.run(async {
            let engine = open(&sim, options(32, 1)).await.unwrap();
            put(&engine, 0..3, Durability::None).await;
            let tree = engine.find_tree(b"t").unwrap();
            let mut batch = Batch::new();
            batch.push(tree, OpKind::Insert, b"000002", b"again");
            let error = engine.commit(batch, durability).await.unwrap_err();
            assert!(matches!(error, Error::Violated { .. }), "{error}");
        });
        run.unwrap();
        let image = sim.disk().image_durable_only();
        sim.restart(&image, 2);
        let run = sim.run(async {
            let engine = open(&sim, options(32, 2)).await.unwrap();
            let tree = engine.find_tree(b"t").unwrap();
            engine.get(tree, b"000002").await.unwrap().is_some()
        });
        assert_eq!(run.unwrap(), durability == Durability::Durable, "{durability:?}");
    }
}

#[test]
fn keys_that_are_too_long_are_refused_by_their_kind() {
    let sim = machine(1);
    let run = sim.run(async {
        let engine = open(&sim, options(32, 1)).await.unwrap();
        let multi = TreeOptions::new().duplicates(true);
        let tree = engine.tree_with(b"multi", &multi).await.unwrap();
        for (kind, duplicate) in [(OpKind::InsertDup, true), (OpKind::Put, false)] {
            let mut batch = Batch::new();
            batch.push(tree, kind, &[b'k'; 500], b"");
            match engine.commit(batch, Durability::Durable).await.unwrap_err() {
                Error::DuplicateKeyTooLong { len, max } => assert!(duplicate && len > max),
                Error::KeyTooLong { len, max } => assert!(!duplicate && len == 500 && max < 500),
                other => panic!("{other}"),
            }
        }
    });
    run.unwrap();
}
