//! The power fails at every few I/Os of a bulk load, with any subset of what was not durable lost or
//! torn, beside commits to another tree and checkpoints. The tree that was loaded is empty or has all its keys; what
//! was acknowledged is there; `verify` is clean, so no page of a load that was not committed is left
//! over; and the same load works in the recovered database.

#![allow(missing_docs, clippy::unwrap_used)]

use crate::engine_support;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;

use crate::engine_support::{
    Rng, assert_clean, contents, large_value, machine, open, options, patient,
};
use treering_blink::TreeRef;
use treering_pagefile::FileErrorKind;
use treering_pagefile::sim::{Sim, SimDiskOptions, Stalled};
use treering_txn::{Batch, Durability, Engine, Error, Finished, Load, OpKind};

const NAMES: [&str; 2] = ["loaded", "other"];
type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Copy, Debug)]
struct Scenario {
    seed: u64,
    keys: usize,
    frames: usize,
    /// A checkpoint after so many keys.
    checkpoint_every: usize,
    /// The tree had keys before, and lost them.
    used_before: bool,
    /// Keys come and go between the load's checkpoint and its commit.
    dropped: bool,
}

impl Scenario {
    fn pairs(&self) -> Pairs {
        let mut rng = Rng::new(self.seed);
        let mut pairs = Pairs::new();
        while pairs.len() < self.keys {
            let key = engine_support::key(&mut rng);
            let value = match rng.below(60) {
                0 => large_value(&mut rng),
                _ => engine_support::value(&mut rng, &key),
            };
            pairs.insert(key, value);
        }
        pairs
    }

    async fn run(&self, sim: &Sim, told: &Told) -> Result<(), Error> {
        let engine = open(sim, options(self.frames, self.seed)).await?;
        let tree = engine.tree(b"loaded").await?;
        let other = engine.tree(b"other").await?;
        if self.used_before {
            fill_and_empty(&engine, tree).await?;
        }
        let mut load = engine.load(tree)?;
        for (number, (key, value)) in self.pairs().iter().enumerate() {
            load.push(key, value).await?;
            if number % 25 == 0 {
                put(&engine, other, &number.to_be_bytes(), Durability::Durable).await?;
                told.other.set(told.other.get() + 1);
            }
            if number % self.checkpoint_every == self.checkpoint_every - 1 {
                engine.checkpoint().await?;
            }
        }
        if self.dropped {
            drop(load);
        } else {
            let Finished::Committed { sequence } = load.finish().await? else {
                panic!("the tree was empty");
            };
            told.begun.set(true);
            engine.settle(sequence, Durability::Durable).await?;
            told.loaded.set(true);
        }
        put(&engine, other, b"last", Durability::Durable).await?;
        assert_clean(&engine, "at the end").await;
        engine.close().await
    }
}

/// What the user of a machine was told.
#[derive(Default)]
struct Told {
    begun: Cell<bool>,
    loaded: Cell<bool>,
    other: Cell<usize>,
}

async fn put(
    engine: &Arc<Engine>,
    tree: TreeRef,
    key: &[u8],
    how: Durability,
) -> Result<(), Error> {
    let mut batch = Batch::new();
    batch.push(tree, OpKind::Put, key, b"value");
    engine.commit(batch, how).await.map(drop)
}

/// Puts keys into a tree and takes them all away.
async fn fill_and_empty(engine: &Arc<Engine>, tree: TreeRef) -> Result<(), Error> {
    for kind in [OpKind::Put, OpKind::Delete] {
        for number in 0..60u32 {
            let mut batch = Batch::new();
            batch.push(tree, kind, &number.to_be_bytes(), &[7; 40]);
            engine.commit(batch, Durability::None).await?;
        }
    }
    while !engine.is_bare(tree).await? {
        engine.checkpoint().await?;
    }
    Ok(())
}

async fn load_all(engine: &Arc<Engine>, tree: TreeRef, pairs: &Pairs) -> Result<Load, Error> {
    let mut load = engine.load(tree)?;
    for (key, value) in pairs {
        load.push(key, value).await?;
    }
    Ok(load)
}

fn crash_everywhere(scenario: Scenario, stride: usize, images: u64) {
    let (whole, told) = (machine(scenario.seed), Told::default());
    whole.run(scenario.run(&whole, &told)).unwrap().unwrap();
    assert_eq!(told.loaded.get(), !scenario.dropped);
    let count = whole.disk().io_count();
    let (mut empty, mut full) = (0, 0);
    for index in (0..=count).step_by(stride) {
        let (sim, told) = (machine(scenario.seed), Told::default());
        sim.disk().stop_at(index);
        match sim.run(scenario.run(&sim, &told)) {
            Err(Stalled::Dead(_)) => {}
            Ok(_) if sim.disk().is_dead() || sim.disk().io_count() <= index => {}
            other => panic!("{scenario:?}, crash at I/O {index}: {other:?}"),
        }
        let disk = sim.disk();
        let named = [
            ("durable only".to_owned(), disk.image_durable_only()),
            ("everything".to_owned(), disk.image_everything()),
        ];
        let subsets = (0..images)
            .map(|seed| (format!("subset {seed}"), disk.image_by_seed(index * 100 + seed)));
        for (name, image) in named.into_iter().chain(subsets) {
            let context = format!("{scenario:?}, crash at I/O {index}, {name}");
            let sim = patient(Sim::from_image(&image, index));
            let loaded = sim.run(recover(&sim, &scenario, &told, &context));
            match loaded.unwrap_or_else(|stalled| panic!("{context}: {stalled}")) {
                true => full += 1,
                false => empty += 1,
            }
        }
    }
    assert!(empty > 0 && (scenario.dropped || full > 0), "{scenario:?}: {empty} and {full}");
}

/// Opens what is left and compares; whether the tree has its keys.
async fn recover(sim: &Sim, scenario: &Scenario, told: &Told, context: &str) -> bool {
    let engine = open(sim, options(24, 1 << 40)).await.unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_clean(&engine, context).await;
    let found = contents(&engine, &NAMES).await.unwrap_or_else(|e| panic!("{context}: {e}"));
    let pairs = scenario.pairs();
    let loaded = found[0] == pairs;
    let used = scenario.used_before && !told.begun.get() && told.other.get() == 0;
    assert!(loaded || found[0].is_empty() || used, "{context}: {} keys", found[0].len());
    assert!(loaded || !told.loaded.get(), "{context}: a load that was acknowledged is lost");
    assert!(!loaded || !scenario.dropped, "{context}: a load that was dropped is there");
    assert!(found[1].len() >= told.other.get(), "{context}: a commit is lost");
    let tree = engine.tree(b"loaded").await.unwrap();
    if found[0].is_empty() && engine.is_bare(tree).await.unwrap() {
        let mut load = load_all(&engine, tree, &pairs).await.unwrap();
        let finished = load.finish().await.unwrap();
        assert!(matches!(finished, Finished::Committed { .. }), "{context}");
        assert!(contents(&engine, &NAMES).await.unwrap()[0] == pairs, "{context}");
        assert_clean(&engine, context).await;
    }
    engine.close().await.unwrap();
    loaded
}

fn scenario(seed: u64) -> Scenario {
    Scenario {
        seed,
        keys: 400,
        frames: 64,
        checkpoint_every: 1000,
        used_before: false,
        dropped: false,
    }
}

#[test]
fn a_load_that_crashes_is_whole_or_absent() {
    crash_everywhere(scenario(1), 3, 2);
}

#[test]
fn a_load_through_a_tiny_pool_and_many_checkpoints() {
    crash_everywhere(Scenario { frames: 16, checkpoint_every: 60, ..scenario(2) }, 5, 2);
}

#[test]
fn a_load_into_a_tree_that_was_full_once() {
    crash_everywhere(Scenario { used_before: true, keys: 150, ..scenario(3) }, 3, 2);
}

#[test]
fn a_load_that_is_given_up_and_crashes_leaves_nothing() {
    let dropped = Scenario { dropped: true, checkpoint_every: 90, ..scenario(4) };
    crash_everywhere(dropped, 3, 2);
}

#[test]
fn keys_that_come_and_go_before_the_commit_are_replayed_under_it() {
    let committed = Cell::new(0);
    for seed in 0..30 {
        let expected = Cell::new(false);
        let sim = machine(seed);
        let scenario = Scenario { keys: 200, ..scenario(seed) };
        sim.run(async {
            let engine = open(&sim, options(64, seed)).await.unwrap();
            let tree = engine.tree(b"loaded").await.unwrap();
            let mut load = load_all(&engine, tree, &scenario.pairs()).await.unwrap();
            load.build().await.unwrap();
            let mut rng = Rng::new(seed);
            let beside = async {
                for _ in 0..rng.below(300) {
                    let_others_go().await;
                }
                for kind in [OpKind::Put, OpKind::Delete] {
                    for number in 0..40u32 {
                        let mut batch = Batch::new();
                        // No key of the load: these may also come behind it.
                        let key = format!("beside {number}");
                        batch.push(tree, kind, key.as_bytes(), &[7; 40]);
                        engine.commit(batch, Durability::None).await.unwrap();
                    }
                    let_others_go().await;
                }
            };
            let (finished, ()) = futures::join!(load.finish(), beside);
            if let Finished::Committed { .. } = finished.unwrap() {
                committed.set(committed.get() + 1);
                expected.set(true);
            }
            engine.sync().await.unwrap();
            engine.stop();
        })
        .unwrap();
        let image = sim.disk().image_by_seed(seed);
        let sim = patient(Sim::from_image(&image, seed));
        sim.run(async {
            let engine = open(&sim, options(16, 1 << 40)).await.unwrap();
            let pairs = if expected.get() { scenario.pairs() } else { Pairs::new() };
            assert!(contents(&engine, &NAMES).await.unwrap()[0] == pairs);
            assert_clean(&engine, "after the crash").await;
            engine.close().await.unwrap();
        })
        .unwrap();
    }
    assert!(committed.get() > 0, "no load met an empty tree");
}

/// Lets other tasks go first, once.
async fn let_others_go() {
    let mut yielded = false;
    std::future::poll_fn(|cx| match std::mem::replace(&mut yielded, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

#[test]
fn a_tree_that_got_keys_meanwhile_is_left_alone_and_what_was_built_can_be_read() {
    let sim = machine(5);
    sim.run(async {
        let engine = open(&sim, options(64, 5)).await.unwrap();
        let tree = engine.tree(b"loaded").await.unwrap();
        engine.checkpoint().await.unwrap();
        let before = engine.pool().pages().len();
        let pairs = scenario(5).pairs();
        let mut load = load_all(&engine, tree, &pairs).await.unwrap();
        put(&engine, tree, b"somebody else's", Durability::None).await.unwrap();
        assert_eq!(load.finish().await.unwrap(), Finished::NotEmpty);
        assert_clean(&engine, "beside what was built").await;
        let (mut at, mut read) = (load.read_back(), Pairs::new());
        while let Some(leaf) = load.next_leaf(&mut at).await.unwrap() {
            for index in 0..leaf.len() {
                read.insert(leaf.key(index).to_vec(), load.value(&leaf, index).await.unwrap());
            }
        }
        assert!(read == pairs);
        drop(load);
        // An engine task gives it back.
        let mut checkpoints = 0;
        while engine.pool().pages().len() > before {
            engine.checkpoint().await.unwrap();
            checkpoints += 1;
            assert!(checkpoints < 1000, "the pages are not given back");
        }
        assert_eq!(contents(&engine, &NAMES).await.unwrap()[0].len(), 1);
        assert_clean(&engine, "at the end").await;
        engine.close().await.unwrap();
    })
    .unwrap();
}

#[test]
fn a_load_that_fills_the_disk_gives_everything_back() {
    let disk = SimDiskOptions { capacity: 300 << 10, ..SimDiskOptions::default() };
    let sim = patient(Sim::with_options(6, disk));
    sim.run(async {
        let engine = open(&sim, options(32, 6)).await.unwrap();
        let tree = engine.tree(b"loaded").await.unwrap();
        engine.checkpoint().await.unwrap();
        let before = engine.pool().pages().len();
        let pairs = Scenario { keys: 3000, ..scenario(6) }.pairs();
        let error = match load_all(&engine, tree, &pairs).await {
            Err(error) => error,
            Ok(mut load) => load.finish().await.map(drop).unwrap_err(),
        };
        assert_eq!(error.file_kind(), Some(FileErrorKind::Full));
        let mut checkpoints = 0;
        while engine.pool().pages().len() > before {
            engine.checkpoint().await.unwrap();
            checkpoints += 1;
            assert!(checkpoints < 1000, "the pages are not given back");
        }
        put(&engine, tree, b"there is room", Durability::Durable).await.unwrap();
        assert_clean(&engine, "at the end").await;
        engine.close().await.unwrap();
    })
    .unwrap();
}
