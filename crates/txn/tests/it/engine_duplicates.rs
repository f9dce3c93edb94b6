//! The power fails at every few I/Os of one life after another that insert duplicates of a key. What
//! is there afterwards is a prefix of what was inserted, in that order, with everything that was
//! acknowledged as durable; and no sequence is ever given twice, not even one whose insert was lost.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use crate::engine_support::{Rng, assert_clean, machine, open, options, patient, scan_all, seeds};
use treering_blink::{Direction, TreeRef};
use treering_pagefile::sim::{Sim, Stalled};
use treering_txn::{Batch, Durability, Engine, Error, OpKind, TreeOptions, duplicates};

const KEY: &[u8] = b"a\0key";

/// What was inserted: sequence and value, in order. The last may have no sequence yet.
#[derive(Default)]
struct Told {
    inserted: Vec<(Option<u64>, Vec<u8>)>,
    /// So many of them are durable.
    durable: usize,
    /// The greatest sequence that anybody has heard of.
    greatest: u64,
}

async fn tree(engine: &Arc<Engine>) -> Result<TreeRef, Error> {
    engine.tree_with(b"multi", &TreeOptions::new().duplicates(true)).await
}

/// Inserts one to three duplicates at a time; ends when the power does.
async fn life(sim: &Sim, told: &Mutex<Told>, seed: u64) -> Result<(), Error> {
    let mut rng = Rng::new(seed);
    let engine = open(sim, options(32, seed)).await?;
    let tree = tree(&engine).await?;
    for turn in 0..14 {
        if turn == 7 {
            engine.checkpoint().await?;
        }
        let mut batch = Batch::new();
        let count = 1 + rng.below(3);
        for number in 0..count {
            let value = format!("{seed} {turn} {number}").into_bytes();
            batch.push(tree, OpKind::InsertDup, KEY, &value);
            told.lock().unwrap().inserted.push((None, value));
        }
        let durability = *rng.pick(&[Durability::Durable, Durability::Buffered, Durability::None]);
        let outcome = engine.commit(batch, durability).await?;
        let mut told = told.lock().unwrap();
        assert_eq!(outcome.duplicates.len(), count);
        let len = told.inserted.len();
        for (at, sequence) in (len - count..).zip(outcome.duplicates) {
            assert!(sequence > told.greatest, "{sequence} after {}", told.greatest);
            told.greatest = sequence;
            told.inserted[at].0 = Some(sequence);
        }
        if durability == Durability::Durable {
            told.durable = len;
        }
    }
    Ok(())
}

/// Opens what is left, and compares.
async fn judge(sim: &Sim, told: &Mutex<Told>, seed: u64, context: &str) {
    let engine = open(sim, options(32, 1 << 40 | seed)).await.unwrap();
    let tree = tree(&engine).await.unwrap();
    let pairs = scan_all(&engine, tree, Direction::Forward).await.unwrap();
    compare(&mut told.lock().unwrap(), pairs, context);
    assert_clean(&engine, context).await;
    engine.close().await.unwrap();
}

/// What is there is a prefix of what was told, which is cut to it.
fn compare(told: &mut Told, pairs: Vec<(Vec<u8>, Vec<u8>)>, context: &str) {
    assert!(pairs.len() >= told.durable, "{context}: {} of {}", pairs.len(), told.durable);
    assert!(pairs.len() <= told.inserted.len(), "{context}");
    told.inserted.truncate(pairs.len());
    let mut last = 0;
    for (expected, (stored, value)) in told.inserted.iter_mut().zip(pairs) {
        let mut key = Vec::new();
        let sequence = duplicates::split(&stored, &mut key).unwrap();
        assert_eq!((key.as_slice(), &value), (KEY, &expected.1), "{context}");
        assert_eq!(*expected.0.get_or_insert(sequence), sequence, "{context}");
        assert!(sequence > last, "{context}");
        last = sequence;
    }
    told.greatest = told.greatest.max(last);
    told.durable = told.inserted.len();
}

#[test]
fn t11_duplicates_survive_crashes_in_order_and_no_sequence_comes_again() {
    let (mut inserting, mut whole) = (0, 0);
    for seed in seeds(1, 40) {
        let mut sim = machine(seed);
        let told = Mutex::new(Told::default());
        let mut rng = Rng::new(seed);
        for round in 0..4 {
            let context = format!("seed {seed}, life {round}");
            // Opening takes some thirty I/Os, and the inserts as many.
            let index = 20 + rng.below(50) as u64;
            let before = told.lock().unwrap().greatest;
            sim.disk().stop_at(index);
            match sim.run(life(&sim, &told, seed * 10 + round)) {
                Ok(Ok(())) => whole += 1,
                Ok(Err(_)) | Err(Stalled::Dead(_)) => {}
                Err(stalled) => panic!("{context}: {stalled}"),
            }
            inserting += u32::from(told.lock().unwrap().greatest > before);
            let image = sim.disk().image_by_seed(seed * 10 + round);
            sim = patient(Sim::from_image(&image, seed));
            sim.run(judge(&sim, &told, seed, &context))
                .unwrap_or_else(|e| panic!("{context}: {e}"));
            let image = sim.disk().image_visible();
            sim = patient(Sim::from_image(&image, seed + round));
        }
    }
    assert!(inserting > whole + 20, "{inserting} lives inserted anything, {whole} ended well");
}
