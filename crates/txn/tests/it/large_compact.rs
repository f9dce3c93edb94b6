//! Compacting moves the pages of large values, too: the file gets shorter, the values stay what they
//! are for readers and writers beside it, and a power failure at any I/O of it loses nothing.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use crate::engine_support::{
    Model, Op, Rng, assert_clean, assert_same, batch, contents, large_value,
};
use crate::engine_support::{machine, open, options, patient, seeds};
use futures::future::{join, join_all, join3};
use treering_pagefile::sim::{Sim, Stalled};
use treering_txn::{Durability, Engine, OpKind};

/// Thirty large values, of which every fifth is left.
async fn grow_and_thin(engine: &Arc<Engine>, seed: u64) -> Model {
    let tree = engine.tree(b"t").await.unwrap();
    let (mut rng, mut model) = (Rng::new(seed), vec![Default::default()]);
    let model_of: &mut std::collections::BTreeMap<_, _> = &mut model[0];
    for number in 0..30 {
        let (key, value) = (format!("{number:02}").into_bytes(), large_value(&mut rng));
        let put = batch(&[tree], &[Op::put(0, &key, &value)]);
        engine.commit(put, Durability::None).await.unwrap();
        model_of.insert(key, value);
    }
    engine.checkpoint().await.unwrap();
    for number in (0..30).filter(|number| number % 5 != 4) {
        let key = format!("{number:02}").into_bytes();
        let mut op = Op::put(0, &key, b"");
        op.kind = OpKind::Delete;
        engine.commit(batch(&[tree], &[op]), Durability::Durable).await.unwrap();
        model_of.remove(&key);
    }
    model
}

#[test]
fn the_file_gets_shorter_under_large_values_that_are_read_and_written() {
    for seed in seeds(0, 4) {
        let context = format!("seed {seed}");
        let mut sim = machine(seed);
        let lived = sim.run(async {
            let engine = open(&sim, options(48, seed)).await.unwrap();
            let mut model = grow_and_thin(&engine, seed).await;
            let tree = engine.find_tree(b"t").unwrap();
            let last = model[0].clone();
            let reads = async {
                for _ in 0..20 {
                    for (key, value) in &last {
                        let got = Arc::clone(&engine).get(tree, key).await.unwrap();
                        assert!(got.as_ref() == Some(value), "{context}");
                    }
                }
            };
            let mut rng = Rng::new(seed);
            let writes = async {
                for number in 0..10 {
                    let (key, value) = (format!("w{}", number % 3), large_value(&mut rng));
                    let put = batch(&[tree], &[Op::put(0, key.as_bytes(), &value)]);
                    engine.commit(put, Durability::None).await.unwrap();
                    model[0].insert(key.into_bytes(), value);
                }
            };
            let (compacted, (), ()) = join3(engine.compact(), reads, writes).await;
            let compacted = compacted.unwrap();
            assert!(compacted.moved > 0, "{context}: {compacted:?}");
            assert_clean(&engine, &context).await;
            let compacted = engine.compact().await.unwrap();
            assert_same(&contents(&engine, &["t"]).await.unwrap(), &model, &context);
            assert_clean(&engine, &context).await;
            let space = engine.stats().space;
            let needed = model[0].values().map(|value| value.len() as u64).sum::<u64>();
            assert!(compacted.after < 2 * needed + (64 << 10), "{context}: {space:?}, {needed}");
            engine.sync().await.unwrap();
            model
        });
        let model = lived.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
        let image = sim.disk().image_durable_only();
        sim = patient(Sim::from_image(&image, seed + 1));
        let lived = sim.run(async {
            let engine = open(&sim, options(48, seed)).await.unwrap();
            assert_same(&contents(&engine, &["t"]).await.unwrap(), &model, &context);
            assert_clean(&engine, &context).await;
            engine.close().await.unwrap();
        });
        lived.unwrap_or_else(|stalled| panic!("{context}, reopened: {stalled}"));
    }
}

/// The pages of a value have their places before they have their bytes.
#[test]
fn values_on_their_way_to_the_disk_are_no_damage_to_compacting() {
    for seed in seeds(1_000_000, 8) {
        let context = format!("seed {seed}");
        let sim = machine(seed);
        let lived = sim.run(async {
            let engine = open(&sim, options(48, seed)).await.unwrap();
            grow_and_thin(&engine, seed).await;
            let tree = engine.find_tree(b"t").unwrap();
            let writes = join_all((0..6_u64).map(|writer| {
                let (engine, mut rng) = (&engine, Rng::new(seed * 6 + writer));
                async move {
                    for _ in 0..30 {
                        let (key, value) = (format!("w{writer}"), large_value(&mut rng));
                        let put = batch(&[tree], &[Op::put(0, key.as_bytes(), &value)]);
                        engine.commit(put, Durability::None).await.unwrap();
                    }
                }
            }));
            let compactings = async {
                for _ in 0..6 {
                    engine.compact().await.unwrap_or_else(|error| panic!("{context}: {error}"));
                }
            };
            join(writes, compactings).await;
            assert_clean(&engine, &context).await;
        });
        lived.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    }
}

#[test]
fn the_power_fails_while_large_values_are_moved() {
    let base = machine(9);
    let model = base.run(async {
        let engine = open(&base, options(48, 9)).await.unwrap();
        let model = grow_and_thin(&engine, 9).await;
        engine.close().await.unwrap();
        model
    });
    let (model, image) = (model.unwrap(), base.disk().image_visible());
    let compact = async |sim: &Sim| {
        let engine = open(sim, options(48, 10)).await.unwrap();
        let compacted = engine.compact().await.unwrap();
        assert!(compacted.moved > 0 && compacted.after < compacted.before, "{compacted:?}");
        engine.close().await.unwrap();
    };
    let whole = patient(Sim::from_image(&image, 1));
    whole.run(compact(&whole)).unwrap();
    for index in (0..whole.disk().io_count()).step_by(3) {
        let sim = patient(Sim::from_image(&image, 1));
        sim.disk().stop_at(index);
        match sim.run(compact(&sim)) {
            Err(Stalled::Dead(_)) | Ok(()) => {}
            other => panic!("crash at I/O {index}: {other:?}"),
        }
        for number in 0..3 {
            let context = format!("crash at I/O {index}, subset {number}");
            let left = sim.disk().image_by_seed(index * 10 + number);
            let sim = patient(Sim::from_image(&left, 2));
            let run = sim.run(async {
                let engine = open(&sim, options(32, 100 + index)).await.unwrap();
                assert_same(&contents(&engine, &["t"]).await.unwrap(), &model, &context);
                assert_clean(&engine, &context).await;
                engine.close().await.unwrap();
            });
            run.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
        }
    }
}
