//! Values that do not fit into a page: batches of every operation, beside values that do, are what a
//! model says they are; so are what they found before, what survives a closing, and the space that is
//! left in the end.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use crate::engine_support::{
    Before, Model, Op, Rng, apply, assert_clean, assert_same, batch, contents, large_value,
    machine, op, open, options, patient, seeds,
};
use treering_pagefile::sim::Sim;
use treering_txn::{Durability, Engine, Error, OpKind};

const NAMES: [&str; 2] = ["users", "orders"];

fn large_op(rng: &mut Rng, model: &Model) -> Op {
    let mut op = op(rng, 2, model);
    // Not all keys, so that many are overwritten.
    if rng.chance(60) {
        op.key = format!("large{}", rng.below(12)).into_bytes();
    }
    let known = model[op.tree].get(&op.key);
    match (op.kind, known) {
        (OpKind::RequireValue, Some(known)) => {
            op.value = known.clone();
            match rng.below(4) {
                0 => op.value.push(1),
                1 if !op.value.is_empty() => op.value[0] ^= 1,
                _ => {}
            }
        }
        (OpKind::Put | OpKind::Insert | OpKind::Update, _) if rng.chance(50) => {
            op.value = large_value(rng);
        }
        // `op` made the value for another key.
        _ => op.value.truncate(16),
    }
    op
}

async fn run(engine: &Arc<Engine>, rng: &mut Rng, model: &mut Model, commits: usize) {
    let mut trees = Vec::new();
    for name in NAMES {
        trees.push(engine.tree(name.as_bytes()).await.unwrap());
    }
    for _ in 0..commits {
        let mut ops = Vec::new();
        for _ in 0..1 + rng.below(3) {
            ops.push(large_op(rng, model));
        }
        let expected: Result<Before, _> = apply(model, &ops);
        let mut batch = batch(&trees, &ops);
        batch.keep_old();
        match (engine.commit(batch, Durability::None).await, expected) {
            (Ok(outcome), Ok(before)) => {
                assert_eq!(outcome.old.len(), before.len());
                for (old, before) in outcome.old.iter().zip(&before) {
                    assert!(old == before, "{ops:?}");
                }
            }
            (Err(Error::Violated { operation, violation, .. }), Err(expected)) => {
                assert_eq!((operation, violation), expected);
            }
            (outcome, expected) => panic!("{outcome:?} instead of {expected:?}"),
        }
        let (tree, key) = (rng.below(2), format!("large{}", rng.below(12)));
        let got = Arc::clone(engine).get(trees[tree], key.as_bytes()).await.unwrap();
        assert!(got.as_ref() == model[tree].get(key.as_bytes()), "{key}");
        if rng.chance(5) {
            engine.checkpoint().await.unwrap();
        }
    }
}

#[test]
fn values_of_any_length_are_what_the_model_says() {
    for seed in seeds(0, 6) {
        let context = format!("seed {seed}");
        let mut sim = machine(seed);
        let mut rng = Rng::new(seed);
        let mut model: Model = vec![Default::default(); 2];
        for life in 0..4 {
            let (closing, rng, model) = (rng.chance(50), &mut rng, &mut model);
            let lived = sim.run(async {
                let engine = open(&sim, options(48, seed * 10 + life)).await.unwrap();
                assert_same(&contents(&engine, &NAMES).await.unwrap(), model, &context);
                run(&engine, rng, model, 60).await;
                assert_same(&contents(&engine, &NAMES).await.unwrap(), model, &context);
                assert_clean(&engine, &context).await;
                engine.sync().await.unwrap();
                if closing {
                    engine.close().await.unwrap();
                }
            });
            lived.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
            let image = sim.disk().image_visible();
            sim = patient(Sim::from_image(&image, seed + 1));
        }
    }
}

#[test]
fn the_space_of_large_values_comes_back_when_they_go() {
    let sim = machine(7);
    sim.run(async {
        let engine = open(&sim, options(64, 7)).await.unwrap();
        let tree = engine.tree(b"t").await.unwrap();
        let mut rng = Rng::new(7);
        let commit = async |ops: &[Op]| {
            engine.commit(batch(&[tree], ops), Durability::Durable).await.unwrap();
        };
        commit(&[Op::put(0, b"there", b"all along")]).await;
        engine.checkpoint().await.unwrap();
        engine.checkpoint().await.unwrap();
        let (space, pages) = (engine.stats().space, engine.pool().pages().len());
        for round in 0..3 {
            for number in 0..30 {
                let key = format!("{:02}", number % 10);
                commit(&[Op::put(0, key.as_bytes(), &large_value(&mut rng))]).await;
                if number == 20 && round > 0 {
                    engine.checkpoint().await.unwrap();
                }
            }
            // Those of a batch that fails, and of an operation that another one supersedes.
            let mut failing = vec![Op::put(0, b"x", &large_value(&mut rng)); 2];
            failing[1].kind = OpKind::Update;
            failing[1].key = b"absent".to_vec();
            let failed = engine.commit(batch(&[tree], &failing), Durability::None).await;
            assert!(matches!(failed, Err(Error::Violated { operation: 1, .. })));
            let (a, b) = (large_value(&mut rng), large_value(&mut rng));
            commit(&[Op::put(0, b"00", &a), Op::put(0, b"00", &b)]).await;
            assert_eq!(Arc::clone(&engine).get(tree, b"00").await.unwrap(), Some(b));
            assert_clean(&engine, "full").await;
            for number in 0..10 {
                let key = format!("{number:02}");
                let mut op = Op::put(0, key.as_bytes(), b"");
                op.kind = OpKind::Delete;
                commit(&[op]).await;
            }
            engine.checkpoint().await.unwrap();
            engine.checkpoint().await.unwrap();
            let after = engine.stats().space;
            assert_eq!(after.used - after.map, space.used - space.map, "round {round}");
            assert_eq!(after.pending_release, 0);
            assert_eq!(after.reserved, space.reserved);
            assert_eq!(engine.pool().pages().len(), pages, "round {round}");
            assert_clean(&engine, "empty").await;
        }
        engine.close().await.unwrap();
    })
    .unwrap();
}
