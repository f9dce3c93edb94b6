//! Bulk loads beside whatever else changes a tree as a whole: the deletion of all its keys, a batch
//! too large for one step, the dropping of the tree, another load. Each comes wholly before the load
//! or wholly behind it, whenever it begins, also when the power fails at any moment; `verify` is clean.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;

use crate::engine_support::{Rng, assert_clean, contents, machine, open, options, patient};
use treering_blink::TreeRef;
use treering_pagefile::sim::{Sim, Stalled};
use treering_txn::{Batch, Durability, Engine, Error, Finished, OpKind};

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    DeleteAll,
    BigBatch,
    DropTree,
    Load,
}

/// Keys of which every third belongs to both loads, and to the batch.
fn pairs(from: u32, value: &[u8]) -> Pairs {
    let big = vec![7; 2000];
    let number = |n: u32| (from + n * 3).to_be_bytes().to_vec();
    let value = |n: u32| if n % 100 == 7 { big.clone() } else { value.to_vec() };
    (0..500).map(|n| (number(n), value(n))).collect()
}

fn both(first: &Pairs, then: &Pairs) -> Pairs {
    first.clone().into_iter().chain(then.clone()).collect()
}

impl Beside {
    /// Everything that the tree may have at any time.
    fn possible(self) -> Vec<Pairs> {
        let (a, b) = (pairs(0, b"load"), pairs(300, b"other"));
        match self {
            Beside::DeleteAll | Beside::DropTree => vec![Pairs::new(), a],
            // If the batch comes first, the load is not committed.
            Beside::BigBatch => vec![Pairs::new(), both(&a, &b), a, b],
            // If one comes first, the other is not committed.
            Beside::Load => vec![Pairs::new(), a, b],
        }
    }

    async fn run(self, engine: &Arc<Engine>, tree: TreeRef) -> Result<bool, Error> {
        match self {
            Beside::DeleteAll => {
                engine.delete_range(tree, Vec::new(), None, Durability::None).await?;
            }
            Beside::BigBatch => {
                let mut batch = Batch::new();
                for (key, value) in pairs(300, b"other") {
                    batch.push(tree, OpKind::Put, &key, &value);
                }
                engine.commit(batch, Durability::None).await?;
            }
            Beside::DropTree => engine.drop_tree(b"loaded").await?,
            Beside::Load => return load(engine, tree, &pairs(300, b"other")).await,
        }
        Ok(true)
    }
}

/// Whether the load was committed.
async fn load(engine: &Arc<Engine>, tree: TreeRef, pairs: &Pairs) -> Result<bool, Error> {
    let mut load = engine.load(tree)?;
    for (key, value) in pairs {
        load.push(key, value).await?;
    }
    Ok(load.finish().await? != Finished::NotEmpty)
}

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

async fn run(sim: &Sim, beside: Beside, seed: u64) -> Result<(bool, bool), Error> {
    let engine = open(sim, options(64, seed)).await?;
    let tree = engine.tree(b"loaded").await?;
    let mut rng = Rng::new(seed);
    let (pauses, mine_first) = (rng.below(1500), rng.chance(50));
    let paused = async |run: bool| {
        for _ in 0..if run { pauses } else { 0 } {
            let_others_go().await;
        }
    };
    let loading = async {
        paused(!mine_first).await;
        load(&engine, tree, &pairs(0, b"load")).await
    };
    let other = async {
        paused(mine_first).await;
        beside.run(&engine, tree).await
    };
    let (loaded, other) = futures::join!(loading, other);
    let gone = matches!(loaded, Err(Error::NoSuchTree { .. }));
    let loaded = if gone { false } else { loaded? };
    let other = other?;
    engine.sync().await?;
    assert_clean(&engine, "at the end").await;
    engine.close().await?;
    Ok((loaded, other))
}

async fn look(sim: &Sim, beside: Beside, context: &str) {
    let engine = open(sim, options(64, 1 << 40)).await.unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_clean(&engine, context).await;
    let found = contents(&engine, &["loaded"]).await.unwrap().remove(0);
    assert!(beside.possible().contains(&found), "{context}: {} keys", found.len());
    engine.close().await.unwrap();
}

fn everywhere(beside: Beside) {
    let mut outcomes = Vec::new();
    for seed in 0..12 {
        let whole = machine(seed);
        let (loaded, other) = whole.run(run(&whole, beside, seed)).unwrap().unwrap();
        let sim = patient(Sim::from_image(&whole.disk().image_durable_only(), seed));
        let context = format!("{beside:?}, seed {seed}");
        sim.run(look(&sim, beside, &context)).unwrap();
        outcomes.push((loaded, other));
        let count = whole.disk().io_count();
        for index in (0..count).step_by(23 + seed as usize) {
            let context = format!("{beside:?}, seed {seed}, crash at I/O {index}");
            let sim = machine(seed);
            sim.disk().stop_at(index);
            match sim.run(run(&sim, beside, seed)) {
                Err(Stalled::Dead(_)) => {}
                Ok(_) if sim.disk().is_dead() || sim.disk().io_count() <= index => {}
                other => panic!("{context}: {other:?}"),
            }
            let image = sim.disk().image_by_seed(index * 100 + seed);
            let sim = patient(Sim::from_image(&image, index));
            sim.run(look(&sim, beside, &context)).unwrap_or_else(|e| panic!("{context}: {e}"));
        }
    }
    let committed = outcomes.iter().filter(|(loaded, _)| *loaded).count();
    let all = outcomes.len();
    if beside == Beside::DeleteAll {
        assert_eq!(committed, all, "nothing keeps a load from an empty tree");
    } else {
        assert!(0 < committed && committed < all, "{beside:?} always came to the same");
    }
}

#[test]
fn a_load_beside_the_deletion_of_all_keys() {
    everywhere(Beside::DeleteAll);
}

#[test]
fn a_load_beside_a_batch_too_large_for_one_step() {
    everywhere(Beside::BigBatch);
}

#[test]
fn a_load_beside_the_dropping_of_its_tree() {
    everywhere(Beside::DropTree);
}

#[test]
fn two_loads_of_one_tree() {
    everywhere(Beside::Load);
}

#[test]
fn a_load_of_a_tree_that_gets_another_name_stays_its() {
    let sim = machine(7);
    sim.run(async {
        let engine = open(&sim, options(64, 7)).await.unwrap();
        let tree = engine.tree(b"loaded").await.unwrap();
        let mut load = engine.load(tree).unwrap();
        let pairs = pairs(0, b"load");
        for (number, (key, value)) in pairs.iter().enumerate() {
            load.push(key, value).await.unwrap();
            if number == 300 {
                engine.rename(b"loaded", b"renamed").await.unwrap();
                engine.tree(b"loaded").await.unwrap();
            }
        }
        assert!(matches!(load.finish().await.unwrap(), Finished::Committed { .. }));
        engine.sync().await.unwrap();
        engine.stop();
    })
    .unwrap();
    let sim = patient(Sim::from_image(&sim.disk().image_durable_only(), 7));
    sim.run(async {
        let engine = open(&sim, options(64, 8)).await.unwrap();
        let found = contents(&engine, &["loaded", "renamed"]).await.unwrap();
        assert!(found[0].is_empty() && found[1] == pairs(0, b"load"));
        assert_clean(&engine, "renamed").await;
        engine.close().await.unwrap();
    })
    .unwrap();
}

#[test]
fn a_load_whose_end_nobody_waits_for_is_committed_or_given_back() {
    let (mut empty, mut full) = (0, 0);
    for seed in 0..60 {
        let sim = machine(seed);
        let in_the_way = seed % 3 == 0;
        sim.run(async {
            let engine = open(&sim, options(16, seed)).await.unwrap();
            let tree = engine.tree(b"loaded").await.unwrap();
            let mut load = engine.load(tree).unwrap();
            for (key, value) in &pairs(0, b"load") {
                load.push(key, value).await.unwrap();
            }
            if in_the_way {
                let mut batch = Batch::new();
                batch.push(tree, OpKind::Put, b"key", b"value");
                engine.commit(batch, Durability::None).await.unwrap();
            }
            let patience = async {
                for _ in 0..Rng::new(seed).below(200) {
                    let_others_go().await;
                }
            };
            let finish = Box::pin(load.finish());
            drop(futures::future::select(Box::pin(patience), finish).await);
            drop(load);
            assert_clean(&engine, "behind a load that was dropped").await;
            engine.close().await.unwrap();
        })
        .unwrap();
        let sim = patient(Sim::from_image(&sim.disk().image_durable_only(), seed));
        sim.run(async {
            let engine = open(&sim, options(64, 100)).await.unwrap();
            assert_clean(&engine, "reopened").await;
            let found = contents(&engine, &["loaded"]).await.unwrap().remove(0);
            match found.len() {
                0 => empty += 1,
                1 => assert!(in_the_way),
                _ => full += u32::from(found == pairs(0, b"load")),
            }
            assert!(!in_the_way || found.len() == 1);
            engine.close().await.unwrap();
        })
        .unwrap();
    }
    assert!(empty > 0 && full > 0 && empty + full == 40, "{empty} and {full}");
}

#[test]
fn a_reader_of_a_database_with_half_a_load_sees_nothing_of_it() {
    let sim = machine(9);
    sim.run(async {
        let engine = open(&sim, options(64, 9)).await.unwrap();
        let tree = engine.tree(b"loaded").await.unwrap();
        let mut load = engine.load(tree).unwrap();
        for (key, value) in &pairs(0, b"load") {
            load.push(key, value).await.unwrap();
        }
        load.build().await.unwrap();
        engine.checkpoint().await.unwrap();
        engine.stop();
    })
    .unwrap();
    let image = sim.disk().image_durable_only();
    let reader = patient(Sim::from_image(&image, 9));
    reader
        .run(async {
            let disk: Arc<dyn treering_pagefile::Disk> = reader.disk();
            let opened =
                Engine::open_read_only(disk, reader.runtime(), options(64, 10), Box::new(()));
            let engine = opened.await.unwrap();
            assert_clean(&engine, "read only").await;
            assert!(contents(&engine, &["loaded"]).await.unwrap()[0].is_empty());
            let tree = engine.find_tree(b"loaded").unwrap();
            assert!(matches!(engine.load(tree), Err(Error::ReadOnly)));
            engine.close().await.unwrap();
        })
        .unwrap();
    let again = patient(Sim::from_image(&image, 9));
    let pages = again
        .run(async {
            let engine = open(&again, options(64, 10)).await.unwrap();
            assert_clean(&engine, "recovered").await;
            let pages = engine.pool().pages().len();
            engine.close().await.unwrap();
            pages
        })
        .unwrap();
    assert!(pages < 5, "{pages} pages of a load that was not committed are left");
}
