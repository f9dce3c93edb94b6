//! What was found wrong in big batches, range deletes and dropped trees, each under the name of its
//! story.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine_support::{
    MAX_KEY, Op, Rng, assert_clean, batch, contents, large_value, machine, open, options, patient,
};
use futures::future::{join, join_all};
use treering_blink::TreeRef;
use treering_pagefile::sim::{FailMode, Failure, Sim};
use treering_pagefile::{FileErrorKind, Op as DiskOp};
use treering_txn::{Durability, Engine, Error, OpKind};

const EIO: i32 = 5;

fn key(number: usize) -> Vec<u8> {
    format!("key {number:04}").into_bytes()
}

fn puts(count: usize, value: &[u8]) -> Vec<Op> {
    (0..count).map(|number| Op::put(0, &key(number), value)).collect()
}

async fn put(engine: &Arc<Engine>, tree: TreeRef, key: &[u8], value: &[u8]) -> Result<(), Error> {
    let ops = [Op::put(0, key, value)];
    engine.commit(batch(&[tree], &ops), Durability::None).await.map(drop)
}

/// It was committed, with an entry in the catalog that nothing took away and a body that nothing
/// freed.
#[test]
fn t17_a_big_batch_of_nothing_but_conditions_leaves_nothing_behind() {
    let sim = machine(1);
    sim.run(async {
        let engine = open(&sim, options(16, 1)).await.unwrap();
        let tree = engine.tree(b"t").await.unwrap();
        put(&engine, tree, &key(7), b"there").await.unwrap();
        let before = engine.verify().await.unwrap().pages;
        let require = |number: usize| Op {
            tree: 0,
            kind: if number == 7 { OpKind::RequirePresent } else { OpKind::RequireAbsent },
            key: key(number),
            value: Vec::new(),
        };
        let ops: Vec<Op> = (0..300).map(require).collect();
        for _ in 0..30 {
            let outcome = engine.commit(batch(&[tree], &ops), Durability::Durable).await.unwrap();
            assert_eq!(outcome.existed.iter().filter(|existed| **existed).count(), 1);
        }
        assert_clean(&engine, "after").await;
        assert_eq!(engine.verify().await.unwrap().pages, before);
        // Nobody else's turn is taken.
        engine.commit(batch(&[tree], &puts(300, b"x")), Durability::Durable).await.unwrap();
        assert_clean(&engine, "after another").await;
        engine.close().await.unwrap();
    })
    .unwrap();
}

/// After a read that failed, the range was cleared once more from its start, where others had written
/// meanwhile.
#[test]
fn p5_a_read_that_fails_while_a_range_is_cleared_takes_no_later_write_along() {
    let mut in_time = 0;
    for failing in 1..40 {
        let context = format!("read {failing} fails");
        let sim = machine(failing);
        let run = sim.run(async {
            let engine = open(&sim, options(16, failing)).await.unwrap();
            let tree = engine.tree(b"t").await.unwrap();
            for number in 0..400 {
                put(&engine, tree, &key(number), &[7; 40]).await.unwrap();
            }
            engine.checkpoint().await.unwrap();
            let (from, to) = (key(20), Some(key(380)));
            engine.delete_range(tree, from, to, Durability::None).await.unwrap();
            let reads = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&reads);
            sim.disk().fail_when(move |point| {
                let read = point.op == DiskOp::Read;
                let failed = read && counted.fetch_add(1, Ordering::Relaxed) + 1 == failing;
                failed.then_some(Failure::Errno(EIO))
            });
            let mut written = put(&engine, tree, &key(20), b"new").await;
            in_time += u32::from(written.is_ok() && reads.load(Ordering::Relaxed) < failing);
            while written.is_err() {
                engine.check().unwrap();
                written = put(&engine, tree, &key(20), b"new").await;
            }
            // It waits for the range.
            while engine.verify().await.is_err() {
                engine.check().unwrap();
            }
            assert_clean(&engine, &context).await;
            let found = contents(&engine, &["t"]).await.unwrap();
            assert_eq!(found[0].len(), 20 + 20 + 1, "{context}");
            assert_eq!(found[0].get(&key(20)).map(Vec::as_slice), Some(&b"new"[..]), "{context}");
            engine.close().await.unwrap();
        });
        run.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    }
    assert!(in_time > 3, "{in_time} reads failed after the write");
}

/// Whoever waited for a key that the range still had waited for ever when the engine was poisoned.
#[test]
fn writers_of_pending_keys_are_told_when_the_disk_fails() {
    let mut told = 0;
    for later in 0..20 {
        let context = format!("all I/Os fail from {later} on");
        let sim = machine(later);
        let run = sim.run(async {
            let engine = open(&sim, options(16, later)).await.unwrap();
            let tree = engine.tree(b"t").await.unwrap();
            for number in 0..400 {
                put(&engine, tree, &key(number), &[7; 40]).await.unwrap();
            }
            engine.delete_range(tree, key(0), None, Durability::Durable).await.unwrap();
            let from = sim.disk().io_count() + later * 3;
            sim.disk().fail_at(from, EIO, FailMode::FromThenOn);
            let writes = [390, 395, 399].map(|number| {
                let (engine, key) = (Arc::clone(&engine), key(number));
                async move { put(&engine, tree, &key, b"new").await }
            });
            // A checkpoint does write.
            let checkpoint = engine.checkpoint();
            let (written, _) = futures::future::join(join_all(writes), checkpoint).await;
            told += written.iter().filter(|written| written.is_err()).count();
        });
        run.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    }
    assert!(told > 3, "{told} were told");
}

/// Each of them held pages while it waited for others, until there were none left.
#[test]
fn t14_many_trees_dropped_at_once_go_in_the_smallest_pool() {
    for seed in 0..3 {
        let context = format!("seed {seed}");
        let mut sim = machine(seed);
        let names: Vec<String> = (0..40).map(|number| format!("tree {number}")).collect();
        let run = sim.run(async {
            let engine = open(&sim, options(64, seed)).await.unwrap();
            for name in &names {
                let tree = engine.tree(name.as_bytes()).await.unwrap();
                let ops = puts(40, &[7; 60]);
                engine.commit(batch(&[tree], &ops), Durability::None).await.unwrap();
            }
            engine.close().await.unwrap();
        });
        run.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
        let image = sim.disk().image_visible();
        sim.restart(&image, seed);
        let run = sim.run(async {
            let engine = open(&sim, options(16, seed + 100)).await.unwrap();
            let drops = names.iter().map(|name| engine.drop_tree(name.as_bytes()));
            join_all(drops).await.into_iter().for_each(|dropped| dropped.unwrap());
            let kept = engine.tree(b"kept").await.unwrap();
            put(&engine, kept, b"k", b"v").await.unwrap();
            while assert_no_problem(&engine, &context).await > 3 {
                engine.tidy().await.unwrap();
                sim.runtime().sleep(std::time::Duration::from_millis(1)).await;
            }
            engine.close().await.unwrap();
        });
        run.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    }
}

/// As `assert_clean`; the number of pages.
async fn assert_no_problem(engine: &Arc<Engine>, context: &str) -> u64 {
    let report = engine.verify().await.unwrap();
    assert!(report.problems.is_empty(), "{context}: {:#?}", report.problems);
    report.pages
}

/// The last keys, and the two entries of the range in the catalog, may lie in three leaves, which is
/// one more than may be changed at once: that was tried for ever.
#[test]
fn a_range_with_the_longest_ends_is_cleared_in_the_smallest_pool() {
    for trees in 0..24_usize {
        let context = format!("{trees} more trees");
        let sim = machine(trees as u64);
        let run = sim.run(async {
            let engine = open(&sim, options(16, trees as u64)).await.unwrap();
            for number in 0..trees {
                let name = format!("{number}{}", "n".repeat(20 + number));
                engine.tree(name.as_bytes()).await.unwrap();
            }
            let tree = engine.tree(b"t").await.unwrap();
            let long = |number: usize| [key(number), vec![b'-'; MAX_KEY - 8]].concat();
            for number in 0..60 {
                put(&engine, tree, &long(number), &[7; 20]).await.unwrap();
            }
            engine.delete_range(tree, long(3), Some(long(57)), Durability::Durable).await.unwrap();
            assert_clean(&engine, &context).await;
            let found = contents(&engine, &["t"]).await.unwrap();
            assert_eq!(found[0].len(), 6, "{context}");
            engine.close().await.unwrap();
        });
        run.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    }
}

/// Both values were made to be known, and only the last has a leaf that refers to it.
#[test]
fn t17_a_large_value_that_is_overwritten_within_its_big_batch_takes_no_space() {
    let sim = machine(4);
    sim.run(async {
        let engine = open(&sim, options(16, 4)).await.unwrap();
        let tree = engine.tree(b"t").await.unwrap();
        let mut rng = Rng::new(4);
        let mut ops = puts(200, b"small");
        for number in [5, 50, 150] {
            ops.push(Op::put(0, &key(number), &large_value(&mut rng)));
            if number == 50 {
                ops.push(Op::put(0, &key(number), &large_value(&mut rng)));
            }
            if number == 150 {
                let (kind, value) = (OpKind::Delete, Vec::new());
                ops.push(Op { tree: 0, kind, key: key(number), value });
            }
        }
        let last = ops[ops.len() - 3].value.clone();
        engine.commit(batch(&[tree], &ops), Durability::Durable).await.unwrap();
        assert_clean(&engine, "after").await;
        let found = contents(&engine, &["t"]).await.unwrap();
        assert_eq!(found[0].get(&key(50)), Some(&last));
        assert_eq!(found[0].len(), 199);
        engine.close().await.unwrap();
    })
    .unwrap();
}

/// Its conditions were looked up in the tree, whose root may be another's page by now.
#[test]
fn t17_a_big_batch_for_a_tree_that_is_gone_is_told_so() {
    let sim = machine(5);
    sim.run(async {
        let engine = open(&sim, options(16, 5)).await.unwrap();
        let tree = engine.tree(b"t").await.unwrap();
        engine.drop_tree(b"t").await.unwrap();
        while assert_no_problem(&engine, "while it goes").await > 1 {
            engine.tidy().await.unwrap();
            sim.runtime().sleep(std::time::Duration::from_millis(1)).await;
        }
        for again in [false, true] {
            let ops: Vec<Op> =
                puts(300, b"x").into_iter().map(|op| Op { kind: OpKind::Insert, ..op }).collect();
            let error = engine.commit(batch(&[tree], &ops), Durability::Durable).await.unwrap_err();
            assert!(matches!(error, Error::NoSuchTree { .. }), "{again}: {error}");
            // Another tree gets the root.
            engine.tree(b"another").await.unwrap();
        }
        engine.close().await.unwrap();
    })
    .unwrap();
}

/// The closing stopped the applying, and with it ended what kept a check from starting: the body was
/// in no leaf then.
#[test]
fn a_check_beside_the_closing_takes_what_is_left_to_do_for_no_fault() {
    let mut checked = 0;
    for delay in 0..60 {
        let sim = machine(delay);
        let lived = sim.run(async {
            let engine = open(&sim, options(16, delay)).await.unwrap();
            let tree = engine.tree(b"t").await.unwrap();
            engine.commit(batch(&[tree], &puts(3_000, b"x")), Durability::None).await.unwrap();
            let closed = async {
                sim.runtime().sleep(Duration::from_micros(delay * 200)).await;
                engine.close().await.unwrap();
            };
            let (report, ()) = join(engine.verify(), closed).await;
            match report {
                Ok(report) => {
                    assert_eq!(report.problems, Vec::<String>::new(), "delay {delay}");
                    1
                }
                Err(Error::Closed) => 0,
                Err(error) if error.file_kind() == Some(FileErrorKind::Closed) => 0,
                Err(error) => panic!("{error}"),
            }
        });
        checked += lived.unwrap();
        let image = sim.disk().image_durable_only();
        let sim = patient(Sim::from_image(&image, delay));
        let again = sim.run(async {
            let engine = open(&sim, options(16, delay)).await.unwrap();
            assert_clean(&engine, "reopened").await;
        });
        again.unwrap();
    }
    assert!(checked < 60, "some are to be overtaken by the closing");
}
