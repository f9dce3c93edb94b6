//! Trees by name: made with options, opened, renamed and listed, by thousands, over reopenings and
//! over crashes at every I/O.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::engine_support::{MAX_KEY, Rng, assert_clean, machine, open, options, patient, seeds};
use treering_pagefile::sim::{Sim, Stalled};
use treering_txn::{Batch, Durability, Engine, Error, Gap, OpKind, TreeOptions};

/// What there has to be: for each name the tree's number, its options, and its one value.
type Trees = BTreeMap<String, (u32, TreeOptions, Option<Vec<u8>>)>;

/// What the user of a database was told, and what it has just asked for.
#[derive(Clone, Debug, Default)]
struct Told {
    trees: Trees,
    /// What there may be instead, because it was asked for and not answered.
    asked: Option<Trees>,
    /// The greatest unique number.
    unique: u64,
}

const KEY: &[u8] = b"value";

fn some_options(rng: &mut Rng) -> TreeOptions {
    let options = TreeOptions::new().duplicates(rng.chance(30));
    let options = options.gap(*rng.pick(&[Gap::Auto, Gap::None, Gap::OneIn(4)]));
    match rng.below(3) {
        0 => options.key_type("(u64,str)", rng.below(3) as u32),
        _ => options,
    }
}

fn some_name(rng: &mut Rng) -> String {
    let stem = format!("{:02}", rng.below(40));
    match rng.below(4) {
        0 => stem.repeat((MAX_KEY - 30) / 2),
        _ => stem,
    }
}

async fn put(engine: &Arc<Engine>, name: &str, value: &[u8]) -> Result<(), Error> {
    let mut batch = Batch::new();
    let tree = engine.find_tree(name.as_bytes()).unwrap();
    batch.push(tree, OpKind::Put, KEY, value);
    engine.commit(batch, Durability::Durable).await.map(drop)
}

async fn found(engine: &Arc<Engine>) -> Result<Trees, Error> {
    let mut trees = Trees::new();
    for info in engine.trees() {
        let name = String::from_utf8(info.name.to_vec()).unwrap();
        let value = Arc::clone(engine).get(info.tree, KEY).await?;
        trees.insert(name, (info.tree.id, (*info.options).clone(), value));
    }
    Ok(trees)
}

/// Some steps of a life, all of them durable. Only the disk makes them fail.
async fn steps(
    engine: &Arc<Engine>,
    rng: &mut Rng,
    count: usize,
    told: &Mutex<Told>,
) -> Result<(), Error> {
    for step in 0..count {
        let mut next = told.lock().unwrap().trees.clone();
        let names: Vec<String> = next.keys().cloned().collect();
        let name = some_name(rng);
        match rng.below(10) {
            0..=3 => {
                let options = some_options(rng);
                let there = next.get(&name).map(|(_, options, _)| options.clone());
                if let Some(there) = there {
                    let result = engine.tree_with(name.as_bytes(), &options).await;
                    let same = there.duplicates == options.duplicates
                        && there.key_type == options.key_type;
                    if let Err(Error::File(error)) = result {
                        return Err(error.into());
                    }
                    assert_eq!(result.is_ok(), same, "{there:?} opened with {options:?}");
                    continue;
                }
                // Its number is not known before; that it is new is.
                let id = next.values().map(|tree| tree.0).max().unwrap_or(0) + 1;
                next.insert(name.clone(), (id, options.clone(), None));
                told.lock().unwrap().asked = Some(next.clone());
                assert_eq!(engine.tree_with(name.as_bytes(), &options).await?.id, id);
            }
            4..=6 if !names.is_empty() => {
                let old = rng.pick(&names);
                if next.contains_key(&name) && name != *old {
                    let error = engine.rename(old.as_bytes(), name.as_bytes()).await.unwrap_err();
                    if let Error::File(error) = error {
                        return Err(error.into());
                    }
                    assert!(matches!(error, Error::TreeExists { .. }), "{error}");
                    continue;
                }
                let tree = next.remove(old).unwrap();
                next.insert(name.clone(), tree);
                told.lock().unwrap().asked = Some(next.clone());
                engine.rename(old.as_bytes(), name.as_bytes()).await?;
            }
            7..=8 if !names.is_empty() => {
                let name = rng.pick(&names);
                let value = format!("{step} of {name}").into_bytes();
                next.get_mut(name).unwrap().2 = Some(value.clone());
                told.lock().unwrap().asked = Some(next.clone());
                put(engine, name, &value).await?;
            }
            _ if rng.chance(50) => engine.checkpoint().await?,
            _ => {}
        }
        let unique = engine.next_unique().unwrap();
        let mut told = told.lock().unwrap();
        assert!(unique > told.unique, "{unique} after {}", told.unique);
        (told.trees, told.asked, told.unique) = (next, None, unique);
    }
    Ok(())
}

/// Opens, judges what is there, and takes it for the truth.
async fn opened(
    sim: &Sim,
    entropy: u64,
    told: &Mutex<Told>,
    context: &str,
) -> Result<Arc<Engine>, Error> {
    let engine = open(sim, options(32, entropy)).await?;
    let found = found(&engine).await?;
    let mut told = told.lock().unwrap();
    let as_asked = told.asked.as_ref() == Some(&found);
    assert!(found == told.trees || as_asked, "{context}: {found:#?}, {told:#?}");
    (told.trees, told.asked) = (found, None);
    let unique = engine.next_unique()?;
    assert!(unique > told.unique, "{context}: {unique} after {}", told.unique);
    told.unique = unique;
    Ok(engine)
}

#[test]
fn trees_are_what_they_were_called_over_reopenings() {
    for seed in seeds(1, 12) {
        let (mut sim, mut rng) = (machine(seed), Rng::new(seed));
        let told = Mutex::new(Told::default());
        for life in 0..5 {
            let context = format!("seed {seed}, life {life}");
            let run = sim.run(async {
                let engine = opened(&sim, seed * 100 + life, &told, &context).await.unwrap();
                assert_clean(&engine, &context).await;
                steps(&engine, &mut rng, 40, &told).await.unwrap();
                match rng.below(3) {
                    0 => engine.close().await.unwrap(),
                    1 => engine.stop(),
                    _ => {}
                }
            });
            run.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
            let image = sim.disk().crash(rng.next());
            sim.restart(&image, seed * 100 + life);
        }
    }
}

#[test]
fn trees_are_what_they_were_called_when_the_power_fails_at_any_moment() {
    for seed in seeds(20, 2) {
        let whole = machine(seed);
        live(&whole, seed, 40, &Mutex::default(), "whole");
        let count = whole.disk().io_count();
        assert!(count > 100, "{count} I/Os only");
        for index in 0..count {
            let (sim, told) = (machine(seed), Mutex::new(Told::default()));
            sim.disk().stop_at(index);
            live(&sim, seed, 40, &told, &format!("seed {seed}, crash at I/O {index}"));
            let mut image = sim.disk().image_by_seed(index);
            // The openings after the crash are interrupted, too, and then one comes to its end.
            for again in 0..3 {
                let context = format!("seed {seed}, crash at I/O {index}, opening {again}");
                let seed = index * 10 + again;
                let sim = patient(Sim::from_image(&image, seed));
                if again < 2 {
                    sim.disk().stop_at(sim.disk().io_count() + seed % 60);
                }
                live(&sim, seed, 6, &told, &context);
                assert!(again < 2 || !sim.disk().is_dead());
                image = sim.disk().image_by_seed(seed);
            }
        }
    }
}

/// A life that ends with its steps, or with the power.
fn live(sim: &Sim, seed: u64, count: usize, told: &Mutex<Told>, context: &str) {
    let outcome = sim.run(async {
        let engine = opened(sim, 1 << 40 | seed, told, context).await?;
        steps(&engine, &mut Rng::new(seed), count, told).await?;
        let report = engine.verify().await?;
        assert!(report.problems.is_empty(), "{context}: {:#?}", report.problems);
        Ok::<(), Error>(())
    });
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(Error::File(_))) | Err(Stalled::Dead(_)) if sim.disk().is_dead() => {}
        other => panic!("{context}: {other:?}"),
    }
}

#[test]
fn thousands_of_trees_are_made_listed_and_found_again() {
    // More than the engine's queue takes, so that some wait for their place in it.
    const TREES: usize = 4200;
    let name = |n: usize| format!("tree number {n}");
    let mut sim = machine(5);
    let run = sim.run(async {
        let engine = open(&sim, options(256, 1)).await.unwrap();
        let make = |n: usize| {
            let engine = &engine;
            async move { engine.tree(name(n).as_bytes()).await.unwrap().id }
        };
        let ids = futures::future::join_all((0..TREES).map(make)).await;
        assert_eq!(ids.len(), TREES);
        for n in (0..TREES).step_by(3) {
            engine.rename(name(n).as_bytes(), format!("renamed {n}").as_bytes()).await.unwrap();
        }
        engine.stop();
        ids
    });
    let ids = run.unwrap();
    sim.settle().unwrap();
    let image = sim.disk().image_visible();
    sim.restart(&image, 6);
    let run = sim.run(async {
        let engine = open(&sim, options(64, 2)).await.unwrap();
        let trees = engine.trees();
        assert!(trees.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(trees.len(), TREES);
        for (n, id) in ids.iter().enumerate() {
            let renamed = format!("renamed {n}");
            let expected = if n % 3 == 0 { renamed } else { name(n) };
            assert_eq!(engine.find_tree(expected.as_bytes()).unwrap().id, *id, "{expected}");
        }
        assert_clean(&engine, "thousands").await;
    });
    run.unwrap();
}

#[test]
fn a_handle_goes_on_working_when_its_tree_is_renamed() {
    let sim = machine(7);
    let run = sim.run(async {
        let engine = open(&sim, options(32, 1)).await.unwrap();
        let tree = engine.tree(b"before").await.unwrap();
        put(&engine, "before", b"1").await.unwrap();
        engine.rename(b"before", b"after").await.unwrap();
        assert_eq!(Arc::clone(&engine).get(tree, KEY).await.unwrap().as_deref(), Some(&b"1"[..]));
        put(&engine, "after", b"2").await.unwrap();
        assert_eq!(Arc::clone(&engine).get(tree, KEY).await.unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(engine.find_tree(b"before"), None);
        // The old name is free for another tree.
        assert_ne!(engine.tree(b"before").await.unwrap().id, tree.id);
        let taken = engine.rename(b"before", b"after").await.unwrap_err();
        assert_eq!(taken.to_string(), "there is a tree \"after\" already");
        let missing = engine.rename(b"nobody", b"x").await.unwrap_err();
        assert_eq!(missing.to_string(), "there is no tree \"nobody\"");
        engine.rename(b"after", b"after").await.unwrap();
    });
    run.unwrap();
}

#[test]
fn names_and_key_types_that_do_not_fit_are_refused() {
    let sim = machine(8);
    let run = sim.run(async {
        let engine = open(&sim, options(32, 1)).await.unwrap();
        let longest = vec![b'n'; MAX_KEY - 1];
        let typed = |len: usize| TreeOptions::new().key_type("t".repeat(len), 1);
        for name in [&b""[..], &[b'n'; MAX_KEY]] {
            let error = engine.tree(name).await.unwrap_err();
            assert!(matches!(error, Error::TreeName { .. }), "{error}");
            let error = engine.rename(b"x", name).await.unwrap_err();
            assert!(matches!(error, Error::TreeName { .. }), "{error}");
        }
        let error = engine.tree_with(b"x", &typed(0)).await.unwrap_err();
        assert!(matches!(error, Error::KeyTypeName { len: 0, .. }), "{error}");
        let Err(Error::KeyTypeName { max, .. }) = engine.tree_with(&longest, &typed(500)).await
        else {
            panic!("a key type longer than a page")
        };
        engine.tree_with(b"short", &typed(max + 1)).await.unwrap();
        let error = engine.rename(b"short", &longest).await.unwrap_err();
        assert!(matches!(error, Error::KeyTypeName { .. }), "{error}");
        engine.tree_with(&longest, &typed(max)).await.unwrap();
        assert_clean(&engine, "names").await;
    });
    run.unwrap();
}
