//! The power fails at every single I/O of a load, with any subset of what was not durable lost or
//! torn. What is recovered is the model at a prefix of the log that holds everything acknowledged
//! as durable (I6), `verify` is clean, and the engine goes on. Recovery is crashed the same way.

#![allow(missing_docs, clippy::unwrap_used)]

use crate::engine_support::journal::Journal;
use crate::engine_support::workload::{Load, NAMES};
use crate::engine_support::{
    Op, Rng, assert_clean, assert_same, contents, key, machine, open, options, patient, seeds,
    small_log, value,
};
use treering_pagefile::sim::{Sim, SimDisk, SimImage, Stalled};
use treering_txn::{Durability, Error};

fn never(_: &Error) -> bool {
    false
}

/// Where a load begins.
#[derive(Clone, Default)]
struct Start {
    image: Option<SimImage>,
    journal: Journal,
}

impl Start {
    fn machine(&self, seed: u64) -> Sim {
        match &self.image {
            Some(image) => patient(Sim::from_image(image, seed)),
            None => machine(seed),
        }
    }
}

/// Runs the load with the power failing at every `stride`th I/O, from the first on.
fn crash_everywhere(load: Load, start: &Start, stride: usize, images: u64) {
    let whole = start.machine(load.seed);
    whole
        .run(load.run(&whole, &start.journal.fork(), never))
        .unwrap_or_else(|stalled| panic!("{load:?}: {stalled}"))
        .unwrap_or_else(|error| panic!("{load:?}: {error}"));
    let count = whole.disk().io_count();
    assert!(count > 20, "{load:?} does {count} I/Os only");
    for index in (0..=count).step_by(stride) {
        let (disk, journal) = crash_at(&load, start, index);
        for (name, image) in images_of(&disk, index, images) {
            let context = format!("{load:?}, crash at I/O {index}, {name}");
            let judged = recover(&image, &journal, index, &context);
            if name == "everything" || judged.is_multiple_of(4) {
                go_on(&image, &journal, index, &context);
            }
        }
    }
}

fn crash_at(load: &Load, start: &Start, index: u64) -> (std::sync::Arc<SimDisk>, Journal) {
    let sim = start.machine(load.seed);
    let journal = start.journal.fork();
    sim.disk().stop_at(index);
    match sim.run(load.run(&sim, &journal, never)) {
        Err(Stalled::Dead(_)) => {}
        // Some calls of a dead disk fail at once.
        Ok(_) if sim.disk().is_dead() || sim.disk().io_count() <= index => {}
        other => panic!("{load:?}, crash at I/O {index}: {other:?}"),
    }
    (sim.disk(), journal)
}

fn images_of(disk: &SimDisk, index: u64, count: u64) -> Vec<(String, SimImage)> {
    let mut images = vec![
        ("durable only".to_owned(), disk.image_durable_only()),
        ("everything".to_owned(), disk.image_everything()),
    ];
    for number in 0..count {
        let seed = index * 1000 + number;
        images.push((format!("subset {seed}"), disk.image_by_seed(seed)));
    }
    images
}

/// Opens what is left, and compares. Returns the sequence that was recovered.
fn recover(image: &SimImage, journal: &Journal, seed: u64, context: &str) -> u64 {
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
fn go_on(image: &SimImage, journal: &Journal, seed: u64, context: &str) {
    let mut sim = patient(Sim::from_image(image, seed));
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
    sim.settle().unwrap();
    let image = sim.disk().image_visible();
    sim.restart(&image, seed + 1);
    let after = sim.run(async {
        let engine = open(&sim, options(16, 1 << 42 | seed)).await.unwrap();
        let found = contents(&engine, &NAMES).await.unwrap();
        assert_clean(&engine, context).await;
        engine.close().await.unwrap();
        found
    });
    let after = after.unwrap_or_else(|stalled| panic!("{context}, once more: {stalled}"));
    assert_same(&after, &before, context);
}

#[test]
fn plain_puts_from_the_creation_of_the_database_on() {
    for seed in seeds(1, 1) {
        crash_everywhere(Load { commits: 16, ..Load::new(seed) }, &Start::default(), 1, 3);
    }
}

#[test]
fn t18_durable_puts_through_several_log_segments_and_their_recycling() {
    for seed in seeds(2, 1) {
        let load = Load { commits: 24, all_durable: true, log: small_log(3), ..Load::new(seed) };
        crash_everywhere(load, &Start::default(), 2, 3);
    }
}

#[test]
fn t13_t17_batches_over_pages_with_splits() {
    for seed in seeds(3, 1) {
        let load = Load { commits: 20, batch_max: 4, bulky: true, ..Load::new(seed) };
        crash_everywhere(load, &Start::default(), 2, 3);
    }
}

#[test]
fn t7_t18_checkpoints_beside_commits() {
    for seed in seeds(4, 1) {
        let load = Load { commits: 18, checkpoint_every: 4, bulky: true, ..Load::new(seed) };
        crash_everywhere(load, &Start::default(), 2, 3);
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
        crash_everywhere(load, &Start::default(), 3, 3);
    }
}

#[test]
fn a_second_life_over_a_larger_tree() {
    for seed in seeds(6, 1) {
        let start = grown(seed, 150);
        let load = Load { frames: 16, commits: 12, checkpoint_every: 6, ..Load::new(seed) };
        crash_everywhere(load, &start, 2, 3);
    }
}

#[test]
fn t18_recovery_crashes_again_and_again() {
    for seed in seeds(7, 3) {
        let start = grown(seed, 40);
        let load = Load { commits: 4, close: seed % 2 == 0, ..Load::new(seed) };
        crash_everywhere(load, &start, 2, 2);
    }
}

#[test]
fn a_crash_in_the_recovery_from_a_crash_in_a_recovery() {
    for seed in seeds(11, 1) {
        let start = grown(seed, 60);
        let load = Load { commits: 2, close: false, ..Load::new(seed) };
        let mut rng = Rng::new(seed);
        for round in 0..25 {
            let mut start = start.clone();
            for depth in 0..4 {
                let index = rng.below(60) as u64;
                let (disk, journal) = crash_at(&load, &start, index);
                let image = disk.image_by_seed(round * 10 + depth);
                let context = format!("{load:?}, round {round}, depth {depth}, I/O {index}");
                recover(&image, &journal, index, &context);
                start = Start { image: Some(image), journal };
            }
        }
    }
}

/// A database that was killed in the middle of its life, with a good deal in its log.
fn grown(seed: u64, commits: usize) -> Start {
    let load = Load { commits, batch_max: 3, close: false, bulky: true, ..Load::new(seed) };
    let (sim, journal) = (machine(seed), Journal::default());
    sim.run(load.run(&sim, &journal, never)).unwrap().unwrap();
    Start { image: Some(sim.disk().crash(seed)), journal }
}
