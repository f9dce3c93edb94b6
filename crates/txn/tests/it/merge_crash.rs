//! The power fails, and I/Os fail, while deletes make pages merge and borrow, while the tree gets
//! lower, and while the file is compacted. What is recovered is the model at a prefix of the log that
//! holds everything acknowledged as durable (I6), `verify` finds every page in its place, once, and
//! the space of the others free, and the engine goes on: with inserts, which use the freed ids and
//! extents again, and with deletes of all that is left.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine_support::journal::Journal;
use crate::engine_support::{
    MAX_RECORD, Op, Rng, assert_clean, assert_same, contents, machine, open, options, patient,
    seeds,
};
use futures::future::{join, join_all};
use treering_blink::TreeRef;
use treering_pagefile::FileErrorKind;
use treering_pagefile::sim::{FailMode, Sim, SimImage, Stalled};
use treering_txn::{Durability, Engine, Error, OpKind};

const NAMES: [&str; 2] = ["users", "orders"];
const EIO: i32 = 5;

fn never(_: &Error) -> bool {
    false
}

fn of_the_disk(error: &Error) -> bool {
    matches!(error.file_kind(), Some(FileErrorKind::Io | FileErrorKind::Poisoned))
}

/// Keys of all lengths, so that separators get longer and shorter when pages borrow.
fn key(number: usize) -> Vec<u8> {
    let mut key = format!("{:04}", number * 7).into_bytes();
    key.extend(std::iter::repeat_n(b'-', number % 5 * 20));
    key
}

fn value(rng: &mut Rng, key: &[u8]) -> Vec<u8> {
    let room = MAX_RECORD - key.len();
    vec![rng.next() as u8; if rng.chance(30) { room } else { rng.below(room.min(40)) }]
}

fn delete(tree: usize, key: &[u8]) -> Op {
    Op { tree, kind: OpKind::Delete, key: key.to_vec(), value: Vec::new() }
}

/// Takes most keys out of two full trees.
#[derive(Clone, Copy, Debug)]
struct Purge {
    seed: u64,
    frames: usize,
    /// Keys of each tree at first.
    keys: usize,
    clients: usize,
    /// Of a hundred operations, so many delete; the others put.
    deletes: usize,
    batch_max: usize,
    /// A checkpoint runs beside the commits every so many; 0 for never.
    checkpoint_every: usize,
    /// Whether the file is compacted beside the second half of the commits.
    compact: bool,
}

/// Merges that all runs of this process have made.
static MERGES: AtomicU64 = AtomicU64::new(0);

impl Purge {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            frames: 32,
            keys: 120,
            clients: 1,
            deletes: 95,
            batch_max: 2,
            checkpoint_every: 0,
            compact: false,
        }
    }

    /// The disk with both trees full, as a life that was closed has left it.
    fn start(&self) -> (SimImage, Journal) {
        let (sim, journal) = (machine(self.seed), Journal::default());
        sim.run(async {
            let engine = open(&sim, options(64, self.seed)).await.unwrap();
            let trees = trees(&engine).await.unwrap();
            let mut rng = Rng::new(self.seed);
            let all = 0..self.keys * NAMES.len();
            for numbers in all.collect::<Vec<_>>().chunks(3) {
                let ops = numbers.iter().map(|number| {
                    let key = key(number / NAMES.len());
                    Op::put(number % NAMES.len(), &key, &value(&mut rng, &key))
                });
                let ops: Vec<Op> = ops.collect();
                journal.commit(&engine, &trees, &ops, Durability::None).await.unwrap();
            }
            let found = contents(&engine, &NAMES).await.unwrap();
            journal.settle(&found, engine.stats().sequence);
            engine.close().await.unwrap();
        })
        .unwrap();
        (sim.disk().image_visible(), journal)
    }

    /// One life: all that was to be taken away is, unless an error comes that `tolerate` refuses.
    async fn run(
        &self,
        sim: &Sim,
        journal: &Journal,
        tolerate: fn(&Error) -> bool,
    ) -> Result<(), Error> {
        let engine = open(sim, options(self.frames, self.seed ^ 0x5eed)).await?;
        let result = self.run_on(&engine, journal, tolerate).await;
        MERGES.fetch_add(engine.stats().merges, Ordering::Relaxed);
        let closed = engine.close().await;
        result.and(closed)
    }

    async fn run_on(
        &self,
        engine: &Arc<Engine>,
        journal: &Journal,
        tolerate: fn(&Error) -> bool,
    ) -> Result<(), Error> {
        let trees = trees(engine).await?;
        let clients = (0..self.clients).map(|client| {
            let trees = &trees;
            async move { self.client(client, engine, trees, journal, tolerate).await }
        });
        let results = join_all(clients).await;
        // The merging task is not behind for ever, whatever failed.
        match engine.tidy().await {
            Err(error) if !tolerate(&error) => return Err(error),
            _ => {}
        }
        results.into_iter().collect()
    }

    /// Each client has its share of the keys, and touches each once, in an order of its own.
    async fn client(
        &self,
        client: usize,
        engine: &Arc<Engine>,
        trees: &[TreeRef],
        journal: &Journal,
        tolerate: fn(&Error) -> bool,
    ) -> Result<(), Error> {
        let mut rng = Rng::new(self.seed * 100 + client as u64);
        let mut left: Vec<(usize, usize)> = (0..self.keys)
            .filter(|number| number % self.clients == client)
            .flat_map(|number| (0..NAMES.len()).map(move |tree| (tree, number)))
            .collect();
        let most = left.len();
        let mut commits = 0;
        let mut compacts = self.compact && client == 0;
        while left.len() > most / 10 {
            let at = rng.below(left.len());
            let count = 1 + rng.below(self.batch_max);
            let mut ops = Vec::new();
            for _ in 0..count {
                // Neighbours, so that one batch empties a page, or two.
                let (tree, number) = left.remove(at.min(left.len() - 1));
                ops.push(match rng.chance(self.deletes) {
                    true => delete(tree, &key(number)),
                    false => Op::put(tree, &key(number), &value(&mut rng, &key(number))),
                });
            }
            let durability =
                *rng.pick(&[Durability::Durable, Durability::Buffered, Durability::None]);
            let commit = journal.commit(engine, trees, &ops, durability);
            commits += 1;
            let due = |every: usize| client == 0 && every > 0 && commits % every == 0;
            let committed = if compacts && left.len() <= most / 2 {
                compacts = false;
                let (committed, compacted) = join(commit, engine.compact()).await;
                check(compacted.map(drop), tolerate)?;
                committed
            } else if due(self.checkpoint_every) {
                let before = engine.stats().sequence;
                let (committed, checkpoint) = join(commit, engine.checkpoint()).await;
                if checkpoint.is_ok() {
                    journal.durable(before);
                }
                check(checkpoint, tolerate)?;
                committed
            } else {
                commit.await
            };
            match committed {
                Err(Error::BatchTooLarge { .. }) => {}
                committed => check(committed.map(drop), tolerate)?,
            }
        }
        if self.compact && client == 0 {
            check(engine.compact().await.map(drop), tolerate)?;
        }
        Ok(())
    }
}

fn check(result: Result<(), Error>, tolerate: fn(&Error) -> bool) -> Result<(), Error> {
    match result {
        Err(error) if !tolerate(&error) => Err(error),
        _ => Ok(()),
    }
}

async fn trees(engine: &Arc<Engine>) -> Result<Vec<TreeRef>, Error> {
    let mut trees = Vec::new();
    for name in NAMES {
        trees.push(engine.tree(name.as_bytes()).await?);
    }
    Ok(trees)
}

/// Runs it without a fault; how many I/Os it does.
fn count_ios(purge: &Purge, image: &SimImage, journal: &Journal) -> u64 {
    let whole = patient(Sim::from_image(image, purge.seed));
    let merges = MERGES.load(Ordering::Relaxed);
    whole
        .run(purge.run(&whole, &journal.fork(), never))
        .unwrap_or_else(|stalled| panic!("{purge:?}: {stalled}"))
        .unwrap_or_else(|error| panic!("{purge:?}: {error}"));
    assert!(MERGES.load(Ordering::Relaxed) > merges, "{purge:?}: no page has merged");
    whole.disk().io_count()
}

/// The power fails at about `points` of the I/Os, evenly spread.
fn crash_everywhere(purge: Purge, points: u64) {
    let (image, journal) = purge.start();
    let count = count_ios(&purge, &image, &journal);
    let stride = (count / points).max(1);
    for index in (purge.seed % stride..=count).step_by(stride as usize) {
        let sim = patient(Sim::from_image(&image, purge.seed));
        let journal = journal.fork();
        sim.disk().stop_at(index);
        match sim.run(purge.run(&sim, &journal, never)) {
            Err(Stalled::Dead(_)) => {}
            Ok(_) if sim.disk().is_dead() || sim.disk().io_count() <= index => {}
            other => panic!("{purge:?}, crash at I/O {index}: {other:?}"),
        }
        let disk = sim.disk();
        let images = [
            ("durable only", disk.image_durable_only()),
            ("everything", disk.image_everything()),
            ("a subset", disk.image_by_seed(index * 1000)),
            ("another subset", disk.image_by_seed(index * 1000 + 1)),
        ];
        for (name, image) in &images {
            let context = format!("{purge:?}, crash at I/O {index} of {count}, {name}");
            recover(image, &journal, index, &context);
        }
        let (name, image) = &images[index as usize % images.len()];
        go_on(image, &purge, index, &format!("{purge:?}, after I/O {index} of {count}, {name}"));
    }
}

/// Opens what is left, and compares.
fn recover(image: &SimImage, journal: &Journal, seed: u64, context: &str) {
    let sim = patient(Sim::from_image(image, seed));
    let recovered = sim.run(async {
        let engine = open(&sim, options(24, 1 << 40 | seed)).await;
        let engine = engine.unwrap_or_else(|error| panic!("{context}: {error}"));
        let found = contents(&engine, &NAMES).await.unwrap();
        let sequence = engine.recovery().sequence;
        journal.judge_commuting(&found, sequence).unwrap_or_else(|why| panic!("{context}: {why}"));
        assert_clean(&engine, context).await;
    });
    recovered.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
}

/// Opens what is left, fills it again, empties it, and opens it once more.
fn go_on(image: &SimImage, purge: &Purge, seed: u64, context: &str) {
    let mut sim = patient(Sim::from_image(image, seed));
    let emptied = sim.run(async {
        let engine = open(&sim, options(purge.frames, 1 << 41 | seed)).await.unwrap();
        let trees = trees(&engine).await.unwrap();
        let journal = Journal::default();
        let found = contents(&engine, &NAMES).await.unwrap();
        journal.settle(&found, engine.stats().sequence);
        let mut rng = Rng::new(seed);
        for number in 0..purge.keys / 2 {
            let key = key(rng.below(purge.keys));
            let ops = [Op::put(number % NAMES.len(), &key, &value(&mut rng, &key))];
            journal.commit(&engine, &trees, &ops, Durability::None).await.unwrap();
        }
        assert_same(&contents(&engine, &NAMES).await.unwrap(), &journal.model(2), context);
        engine.checkpoint().await.unwrap();
        for (tree, pairs) in journal.model(2).iter().enumerate() {
            for key in pairs.keys() {
                let ops = [delete(tree, key)];
                journal.commit(&engine, &trees, &ops, Durability::None).await.unwrap();
            }
        }
        engine.tidy().await.unwrap();
        let report = engine.verify().await.unwrap();
        assert!(report.problems.is_empty(), "{context}: {:#?}", report.problems);
        assert_eq!(report.keys, 0, "{context}");
        // A leaf for each tree, and one for the catalog.
        assert_eq!(report.pages, 1 + NAMES.len() as u64, "{context}: pages are left behind");
        engine.stop();
    });
    emptied.unwrap_or_else(|stalled| panic!("{context}, going on: {stalled}"));
    sim.settle().unwrap_or_else(|stalled| panic!("{context}, at rest: {stalled}"));
    let image = sim.disk().image_visible();
    sim.restart(&image, seed + 1);
    let reopened = sim.run(async {
        let engine = open(&sim, options(16, 1 << 42 | seed)).await.unwrap();
        assert_clean(&engine, context).await;
        engine.close().await.unwrap();
    });
    reopened.unwrap_or_else(|stalled| panic!("{context}, once more: {stalled}"));
}

/// Each of about `points` of the I/Os fails, once or from then on.
fn fail_everywhere(purge: Purge, points: u64) {
    let (image, journal) = purge.start();
    let count = count_ios(&purge, &image, &journal);
    let stride = (count / points).max(1);
    for index in (purge.seed % stride..count).step_by(stride as usize) {
        for mode in [FailMode::Once, FailMode::FromThenOn] {
            let context = format!("{purge:?}: I/O {index} of {count} fails, {mode:?}");
            let sim = patient(Sim::from_image(&image, purge.seed));
            let (disk, journal) = (sim.disk(), journal.fork());
            disk.fail_at(index, EIO, mode);
            let run = sim.run(purge.run(&sim, &journal, of_the_disk));
            if let Err(error) = run.unwrap_or_else(|stalled| panic!("{context}: {stalled}")) {
                // Two superblocks that cannot be read count as damaged.
                let damaged = error.file_kind() == Some(FileErrorKind::Damaged);
                let unreadable = damaged && mode == FailMode::FromThenOn;
                assert!(of_the_disk(&error) || unreadable, "{context}: {error}");
            }
            sim.settle().unwrap_or_else(|stalled| panic!("{context}, at rest: {stalled}"));
            disk.clear_faults();
            for image in [disk.image_visible(), disk.image_durable_only()] {
                recover(&image, &journal, index, &context);
            }
        }
    }
}

#[test]
fn t14_a_crash_while_pages_merge() {
    for seed in seeds(51, 1) {
        crash_everywhere(Purge::new(seed), 40);
    }
}

#[test]
fn t14_a_crash_while_pages_merge_beside_checkpoints_in_the_smallest_pool() {
    for seed in seeds(52, 1) {
        let purge =
            Purge { frames: 16, checkpoint_every: 9, clients: 3, deletes: 85, ..Purge::new(seed) };
        crash_everywhere(purge, 40);
    }
}

#[test]
fn p5_a_crash_while_pages_borrow_from_each_other() {
    for seed in seeds(53, 1) {
        let purge = Purge { checkpoint_every: 20, deletes: 70, batch_max: 1, ..Purge::new(seed) };
        crash_everywhere(purge, 30);
    }
}

#[test]
fn a_crash_while_the_file_is_compacted() {
    for seed in seeds(54, 1) {
        let purge = Purge { compact: true, batch_max: 4, keys: 160, ..Purge::new(seed) };
        crash_everywhere(purge, 40);
    }
}

#[test]
fn an_io_that_fails_while_pages_merge() {
    for seed in seeds(55, 1) {
        let purge = Purge { frames: 16, checkpoint_every: 12, clients: 2, ..Purge::new(seed) };
        fail_everywhere(purge, 30);
    }
}

#[test]
fn an_io_that_fails_while_the_file_is_compacted() {
    for seed in seeds(56, 1) {
        let purge = Purge { compact: true, batch_max: 4, ..Purge::new(seed) };
        fail_everywhere(purge, 30);
    }
}
