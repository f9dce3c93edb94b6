//! The disk fills up under a load (I13). Writers get errors of kind `Full`, readers do not; what was
//! acknowledged is there after a power loss on the disk that is still full; once there is room, the
//! same engine goes on.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use crate::engine_support::journal::Journal;
use crate::engine_support::workload::{Load, NAMES};
use crate::engine_support::{
    Op, assert_clean, assert_same, batch, contents, open, options, patient, seeds,
};
use treering_pagefile::FileErrorKind;
use treering_pagefile::sim::{Sim, SimDiskOptions, SimImage, Stalled};
use treering_txn::{Durability, Error, OpKind};

fn full(error: &Error) -> bool {
    error.file_kind() == Some(FileErrorKind::Full)
}

/// A small machine: what the log takes, and so much for pages.
fn small_machine(seed: u64, room: u64) -> Sim {
    let options = SimDiskOptions { capacity: (64 << 10) + room, ..SimDiskOptions::default() };
    patient(Sim::with_options(seed, options))
}

/// New keys until the disk is full, and a while longer.
fn load(seed: u64) -> Load {
    Load { commits: 400, bulky: true, close: false, checkpoint_every: 50, ..Load::new(seed) }
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    for seed in seeds(0, 4) {
        let context = format!("seed {seed}");
        let (sim, journal) = (small_machine(seed, 200 << 10), Journal::default());
        let disk = sim.disk();
        let run = sim.run(async {
            let engine = open(&sim, options(32, seed)).await.unwrap();
            load(seed).run_on(&engine, &journal, full).await.unwrap();
            let trees = [engine.find_tree(b"users").unwrap(), engine.find_tree(b"orders").unwrap()];

            // It is full by now: a new key in a new leaf is refused in the end.
            let mut refused = 0;
            for number in 0..200 {
                let key = format!("more{number:04}");
                let ops = [Op::put(0, key.as_bytes(), &[1; 160])];
                match journal.commit(&engine, &trees, &ops, Durability::Durable).await {
                    Ok(_) => {}
                    Err(error) => {
                        assert!(full(&error), "{context}: {error}");
                        refused += 1;
                    }
                }
            }
            assert!(refused > 50, "{context}: {refused} of 200 were refused");

            // Reads and checks go on.
            let found = contents(&engine, &NAMES).await.unwrap();
            assert_same(&found, &journal.model(3), &context);
            for (key, value) in &found[0] {
                let got = Arc::clone(&engine).get(trees[0], key).await.unwrap();
                assert_eq!(got.as_ref(), Some(value));
            }
            assert_clean(&engine, &context).await;
            engine.sync().await.unwrap();
            journal.durable(engine.stats().sequence);
            let last = journal.model(3);

            // On another machine the power fails, and the disk is still full when it is back.
            for number in 0..4 {
                reopen_full(&disk.image_by_seed(seed * 10 + number), &journal, &context);
            }
            assert_same(&last, &journal.model(3), &context);

            // There is room: the same engine goes on.
            disk.set_capacity(u64::MAX);
            for number in 0..200 {
                let key = format!("room{number:04}");
                let ops = [Op::put(0, key.as_bytes(), &[1; 160])];
                journal.commit(&engine, &trees, &ops, Durability::Durable).await.unwrap();
            }
            assert_same(&contents(&engine, &NAMES).await.unwrap(), &journal.model(3), &context);
            assert_clean(&engine, &context).await;
            engine.close().await.unwrap();
        });
        run.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    }
}

fn reopen_full(image: &SimImage, journal: &Journal, context: &str) {
    let sim = patient(Sim::from_image(image, 5));
    let run = sim.run(async {
        let engine = open(&sim, options(32, 99)).await;
        let engine = engine.unwrap_or_else(|e| panic!("{context}: on the full disk: {e}"));
        let found = contents(&engine, &NAMES).await.unwrap();
        let sequence = engine.recovery().sequence;
        journal.judge(&found, sequence).unwrap_or_else(|why| panic!("{context}: {why}"));
        assert_clean(&engine, context).await;
        engine.close().await.unwrap_or_else(|e| panic!("{context}: closing a full disk: {e}"));
        found
    });
    let found = run.unwrap_or_else(|stalled| panic!("{context}, reopened: {stalled}"));

    // And once more, with room.
    let sim = patient(Sim::from_image(&sim.disk().image_visible(), 6));
    sim.disk().set_capacity(u64::MAX);
    let run = sim.run(async {
        let engine = open(&sim, options(32, 100)).await.unwrap();
        assert_same(&contents(&engine, &NAMES).await.unwrap(), &found, context);
        let tree = engine.tree(b"users").await.unwrap();
        for number in 0..50 {
            let key = format!("again{number:04}");
            let batch = batch(&[tree], &[Op::put(0, key.as_bytes(), &[1; 160])]);
            engine.commit(batch, Durability::None).await.unwrap();
        }
        assert_clean(&engine, context).await;
        engine.close().await.unwrap();
    });
    run.unwrap_or_else(|stalled| panic!("{context}, with room: {stalled}"));
}

#[test]
fn the_power_fails_while_the_disk_is_filling_up() {
    for seed in seeds(10, 3) {
        the_power_fails(seed);
    }
}

/// With this seed a replay posted splits that the life before had had no room to post. The parents
/// took the room that the rest of the log needed, and the database could not be opened.
#[test]
fn a_replay_that_fills_the_disk_by_posting_begins_once_more_without() {
    the_power_fails(4_000_011);
}

fn the_power_fails(seed: u64) {
    let room = 150 << 10;
    let whole = small_machine(seed, room);
    whole.run(load(seed).run(&whole, &Journal::default(), full)).unwrap().unwrap();
    let count = whole.disk().io_count();
    for index in (count / 3..count).step_by(17) {
        let (sim, journal) = (small_machine(seed, room), Journal::default());
        sim.disk().stop_at(index);
        match sim.run(load(seed).run(&sim, &journal, full)) {
            Err(Stalled::Dead(_)) => {}
            other => panic!("seed {seed}, crash at I/O {index}: {other:?}"),
        }
        let context = format!("seed {seed}, crash at I/O {index} of {count}");
        reopen_full(&sim.disk().image_by_seed(index), &journal, &context);
    }
}

#[test]
fn deleting_makes_room() {
    let (sim, journal) = (small_machine(20, 150 << 10), Journal::default());
    let run = sim.run(async {
        let engine = open(&sim, options(32, 20)).await.unwrap();
        load(20).run_on(&engine, &journal, full).await.unwrap();
        let model = journal.model(3);
        let tree = engine.find_tree(b"users").unwrap();
        // Deleting everything, and putting it back into the room that it took.
        for key in model[0].keys() {
            let op = Op { kind: OpKind::Delete, ..Op::put(0, key, b"") };
            engine.commit(batch(&[tree], &[op]), Durability::None).await.unwrap();
        }
        // Put back in order while pages are still being merged, the keys would split them in their
        // middle, and take more room than they did.
        engine.tidy().await.unwrap();
        for (key, value) in &model[0] {
            let op = Op::put(0, key, value);
            engine.commit(batch(&[tree], &[op]), Durability::None).await.unwrap();
        }
        assert_same(&contents(&engine, &NAMES).await.unwrap(), &model, "put back");
        assert_clean(&engine, "put back").await;
        engine.close().await.unwrap();
    });
    run.unwrap();
}
