//! The power fails at every single I/O of a load, with any subset of what was not durable lost or
//! torn. What is recovered is the model at a prefix of the log that holds everything acknowledged
//! as durable (I6), `verify` is clean, and the engine goes on. Recovery is crashed the same way.

#![allow(missing_docs, clippy::unwrap_used)]

use crate::engine_support::power::{Left, Start, once_more};
use crate::engine_support::workload::{Load, NAMES};
use crate::engine_support::{
    Op, Rng, assert_clean, assert_same, contents, key, open, options, patient, seeds, small_log,
    value,
};
use treering_pagefile::sim::Sim;
use treering_txn::Durability;

/// Runs the load with the power failing at every `stride`th I/O, from the first on.
fn crash_everywhere(load: &Load, start: &Start, stride: usize, images: u64) {
    start.crash_everywhere(load, 20, stride, images, |left| {
        let judged = recover(&left);
        if left.everything || judged.is_multiple_of(4) {
            go_on(&left);
        }
    });
}

/// Opens what is left, and compares. Returns the sequence that was recovered.
fn recover(left: &Left<'_>) -> u64 {
    let Left { image, journal, index: seed, context, .. } = *left;
    let sim = patient(Sim::from_image(image, seed));
    let recovered = sim.run(async {
        let options = options(32, 1 << 40 | seed);
        let engine = open(&sim, options).await.unwrap_or_else(|e| panic!("{context}: {e}"));
        let found = contents(&engine, &NAMES).await.unwrap();
        let sequence = engine.recovery().sequence;
        journal.judge(&found, sequence).unwrap_or_else(|why| panic!("{context}: {why}"));
        assert_clean(&engine, context).await;
        sequence
    });
    recovered.unwrap_or_else(|stalled| panic!("{context}: {stalled}"))
}

/// Opens what is left and goes on: commits, a checkpoint, commits, the end without closing, and
/// another opening.
fn go_on(left: &Left<'_>) {
    let Left { image, journal, index: seed, context, .. } = *left;
    let sim = patient(Sim::from_image(image, seed));
    let journal = journal.fork();
    let before = sim.run(async {
        let engine = open(&sim, options(32, 1 << 41 | seed)).await.unwrap();
        let found = contents(&engine, &NAMES).await.unwrap();
        journal.settle(&found, engine.stats().sequence);
        let mut trees = Vec::new();
        for name in NAMES {
            trees.push(engine.tree(name.as_bytes()).await.unwrap());
        }
        let mut rng = Rng::new(seed);
        for number in 0..24 {
            if number == 12 {
                engine.checkpoint().await.unwrap();
            }
            let key = key(&mut rng);
            let op = Op::put(rng.below(3), &key, &value(&mut rng, &key));
            let durability = *rng.pick(&[Durability::Durable, Durability::None]);
            journal.commit(&engine, &trees, &[op], durability).await.unwrap();
        }
        assert_clean(&engine, context).await;
        let model = contents(&engine, &NAMES).await.unwrap();
        assert_same(&model, &journal.model(3), context);
        engine.stop();
        model
    });
    let before = before.unwrap_or_else(|stalled| panic!("{context}, going on: {stalled}"));
    once_more(sim, &before, seed, context);
}

#[test]
fn plain_puts_from_the_creation_of_the_database_on() {
    for seed in seeds(1, 1) {
        crash_everywhere(&Load { commits: 16, ..Load::new(seed) }, &Start::default(), 1, 3);
    }
}

#[test]
fn t18_durable_puts_through_several_log_segments_and_their_recycling() {
    for seed in seeds(2, 1) {
        let load = Load { commits: 24, all_durable: true, log: small_log(3), ..Load::new(seed) };
        crash_everywhere(&load, &Start::default(), 2, 3);
    }
}

#[test]
fn t13_t17_batches_over_pages_with_splits() {
    for seed in seeds(3, 1) {
        let load = Load { commits: 20, batch_max: 4, bulky: true, ..Load::new(seed) };
        crash_everywhere(&load, &Start::default(), 2, 3);
    }
}

#[test]
fn t7_t18_checkpoints_beside_commits() {
    for seed in seeds(4, 1) {
        let load = Load { commits: 18, checkpoint_every: 4, bulky: true, ..Load::new(seed) };
        crash_everywhere(&load, &Start::default(), 2, 3);
    }
}

#[test]
fn three_clients_and_checkpoints_in_a_tiny_pool() {
    for seed in seeds(5, 1) {
        let load = Load {
            frames: 16,
            clients: 3,
            commits: 14,
            batch_max: 2,
            checkpoint_every: 5,
            bulky: true,
            ..Load::new(seed)
        };
        crash_everywhere(&load, &Start::default(), 3, 3);
    }
}

#[test]
fn a_second_life_over_a_larger_tree() {
    for seed in seeds(6, 1) {
        let start = grown(seed, 150);
        let load = Load { frames: 16, commits: 12, checkpoint_every: 6, ..Load::new(seed) };
        crash_everywhere(&load, &start, 2, 3);
    }
}

#[test]
fn t18_recovery_crashes_again_and_again() {
    for seed in seeds(7, 3) {
        let start = grown(seed, 40);
        let load = Load { commits: 4, close: seed % 2 == 0, ..Load::new(seed) };
        crash_everywhere(&load, &start, 2, 2);
    }
}

#[test]
fn a_crash_in_the_recovery_from_a_crash_in_a_recovery() {
    for seed in seeds(11, 1) {
        let start = grown(seed, 60);
        let load = Load { commits: 2, close: false, ..Load::new(seed) };
        start.crash_recoveries(&load, 25, 60, |left| {
            recover(&left);
        });
    }
}

/// A database that was killed in the middle of its life, with a good deal in its log.
fn grown(seed: u64, commits: usize) -> Start {
    let load = Load { commits, batch_max: 3, close: false, bulky: true, ..Load::new(seed) };
    Start::after(&load)
}
