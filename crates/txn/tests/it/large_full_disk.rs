//! The disk fills up with large values (I13). Those that find no room are refused as a whole, and
//! nothing of them is left; all that was acknowledged is there, also after a power loss on the disk
//! that is still full; and what deletes give back can be written to again.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use crate::engine_support::journal::Journal;
use crate::engine_support::workload::{Load, NAMES};
use crate::engine_support::{
    Op, Rng, assert_clean, assert_same, contents, large_value, open, options, patient, seeds,
};
use treering_pagefile::FileErrorKind;
use treering_pagefile::sim::{Sim, SimDiskOptions, SimImage};
use treering_txn::{Durability, Error, OpKind};

fn full(error: &Error) -> bool {
    error.file_kind() == Some(FileErrorKind::Full)
}

fn small_machine(seed: u64, room: u64) -> Sim {
    let options = SimDiskOptions { capacity: (64 << 10) + room, ..SimDiskOptions::default() };
    patient(Sim::with_options(seed, options))
}

fn reopen_full(image: &SimImage, journal: &Journal, context: &str) {
    let sim = patient(Sim::from_image(image, 5));
    let run = sim.run(async {
        let engine = open(&sim, options(32, 99)).await;
        let engine = engine.unwrap_or_else(|e| panic!("{context}: on the full disk: {e}"));
        let found = contents(&engine, &NAMES).await.unwrap();
        let sequence = engine.recovery().sequence;
        journal.judge(&found, sequence).unwrap_or_else(|why| panic!("{context}: {why}"));
        assert_clean(&engine, context).await;
        engine.close().await.unwrap_or_else(|e| panic!("{context}: closing a full disk: {e}"));
    });
    run.unwrap_or_else(|stalled| panic!("{context}, reopened: {stalled}"));
}

#[test]
fn large_values_that_find_no_room_leave_nothing_behind() {
    for seed in seeds(0, 4) {
        let context = format!("seed {seed}");
        let (sim, journal) = (small_machine(seed, 300 << 10), Journal::default());
        let disk = sim.disk();
        let run = sim.run(async {
            let engine = open(&sim, options(32, seed)).await.unwrap();
            let load = Load {
                commits: 60,
                clients: 2,
                large: 60,
                close: false,
                checkpoint_every: 20,
                ..Load::new(seed)
            };
            load.run_on(&engine, &journal, full).await.unwrap();
            let trees = [engine.find_tree(b"users").unwrap(), engine.find_tree(b"orders").unwrap()];
            let (mut rng, mut refused) = (Rng::new(seed), 0);
            for number in 0..40 {
                let key = format!("more{number:04}");
                let ops = [Op::put(0, key.as_bytes(), &large_value(&mut rng))];
                match journal.commit(&engine, &trees, &ops, Durability::Durable).await {
                    Ok(_) => {}
                    Err(error) if full(&error) => refused += 1,
                    Err(error) => panic!("{context}: {error}"),
                }
            }
            assert!(refused > 5, "{context}: {refused} of 40 were refused");
            let found = contents(&engine, &NAMES).await.unwrap();
            assert_same(&found, &journal.model(3), &context);
            assert_clean(&engine, &context).await;
            engine.sync().await.unwrap();
            journal.durable(engine.stats().sequence);
            for number in 0..4 {
                reopen_full(&disk.image_by_seed(seed * 10 + number), &journal, &context);
            }

            // Deleting makes room, with the checkpoints that the next writes call for.
            for (tree, found) in found[..2].iter().enumerate() {
                for key in found.iter().filter(|(_, value)| value.len() > 1000).map(|(key, _)| key)
                {
                    let mut op = Op::put(tree, key, b"");
                    op.kind = OpKind::Delete;
                    journal.commit(&engine, &trees, &[op], Durability::None).await.unwrap();
                }
            }
            for number in 0..5 {
                let key = format!("again{number}");
                let ops = [Op::put(0, key.as_bytes(), &vec![number; 20_000])];
                journal.commit(&engine, &trees, &ops, Durability::Durable).await.unwrap();
                let got = Arc::clone(&engine).get(trees[0], key.as_bytes()).await.unwrap();
                assert!(got == Some(vec![number; 20_000]));
            }
            assert_same(&contents(&engine, &NAMES).await.unwrap(), &journal.model(3), &context);
            assert_clean(&engine, &context).await;
            engine.close().await.unwrap();
        });
        run.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    }
}
