//! The power fails at every single I/O of a load with values in overflow pages, some of which are
//! overwritten and deleted, with any subset of what was not durable lost or torn. What is recovered is
//! the model at a prefix of the log, `verify` is clean (so no page is lost and none is two values'),
//! and the engine goes on. Recovery is crashed the same way.

#![allow(missing_docs, clippy::unwrap_used)]

use crate::engine_support::power::{Left, Start, once_more};
use crate::engine_support::workload::{Load, NAMES};
use crate::engine_support::{
    Op, Rng, assert_clean, contents, large_value, open, options, patient, seeds, small_log,
};
use treering_pagefile::sim::Sim;
use treering_txn::Durability;

fn crash_everywhere(load: &Load, start: &Start, stride: usize, images: u64) {
    start.crash_everywhere(load, 50, stride, images, recover_and_go_on);
}

/// Opens what is left, compares, overwrites and deletes some, and opens once more.
fn recover_and_go_on(left: Left<'_>) {
    let Left { image, journal, index: seed, context, .. } = left;
    let sim = patient(Sim::from_image(image, seed));
    let journal = journal.fork();
    let before = sim.run(async {
        let options = options(32, 1 << 40 | seed);
        let engine = open(&sim, options).await.unwrap_or_else(|e| panic!("{context}: {e}"));
        let found = contents(&engine, &NAMES).await.unwrap_or_else(|e| panic!("{context}: {e}"));
        let sequence = engine.recovery().sequence;
        journal.judge(&found, sequence).unwrap_or_else(|why| panic!("{context}: {why}"));
        assert_clean(&engine, context).await;
        journal.settle(&found, engine.stats().sequence);
        let mut trees = Vec::new();
        for name in NAMES {
            trees.push(engine.tree(name.as_bytes()).await.unwrap());
        }
        let mut rng = Rng::new(seed);
        for number in 0..6 {
            let tree = rng.below(3);
            let there = found[tree].keys().nth(rng.below(found[tree].len().max(1)));
            let key = there.cloned().unwrap_or_else(|| b"new".to_vec());
            let op = Op::put(tree, &key, &large_value(&mut rng));
            journal.commit(&engine, &trees, &[op], Durability::None).await.unwrap();
            if number == 3 {
                engine.checkpoint().await.unwrap();
            }
        }
        assert_clean(&engine, context).await;
        engine.sync().await.unwrap();
        engine.stop();
        journal.model(3)
    });
    let before = before.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    once_more(sim, &before, seed, context);
}

fn load(seed: u64) -> Load {
    Load { commits: 14, large: 50, ..Load::new(seed) }
}

/// A database that was killed in the middle of its life, with large values in its log.
fn grown(seed: u64, commits: usize) -> Start {
    let load = Load { commits, batch_max: 2, large: 60, close: false, ..Load::new(seed) };
    Start::after(&load)
}

#[test]
fn large_values_from_the_creation_of_the_database_on() {
    for seed in seeds(1, 1) {
        crash_everywhere(&load(seed), &Start::default(), 2, 2);
    }
}

#[test]
fn large_values_through_several_log_segments_and_their_recycling() {
    for seed in seeds(2, 1) {
        let load = Load { commits: 20, all_durable: true, log: small_log(3), ..load(seed) };
        crash_everywhere(&load, &Start::default(), 3, 2);
    }
}

#[test]
fn large_values_overwritten_and_deleted_beside_checkpoints() {
    for seed in seeds(3, 2) {
        let load = Load { batch_max: 3, checkpoint_every: 3, large: 70, ..load(seed) };
        crash_everywhere(&load, &grown(seed + 50, 20), 3, 2);
    }
}

#[test]
fn three_clients_with_large_values_in_a_tiny_pool() {
    for seed in seeds(5, 1) {
        let load = Load { frames: 16, clients: 3, commits: 8, checkpoint_every: 4, ..load(seed) };
        crash_everywhere(&load, &Start::default(), 3, 2);
    }
}

#[test]
fn a_recovery_of_large_values_crashes() {
    for seed in seeds(7, 2) {
        let load = Load { commits: 3, close: seed % 2 == 0, ..load(seed) };
        crash_everywhere(&load, &grown(seed, 30), 1, 2);
    }
}

#[test]
fn a_crash_in_the_recovery_from_a_crash_in_a_recovery_of_large_values() {
    for seed in seeds(11, 1) {
        let start = grown(seed, 40);
        let load = Load { commits: 3, close: false, ..load(seed) };
        start.crash_recoveries(&load, 20, 80, recover_and_go_on);
    }
}
