//! What the simulations found once, each under the name of its story.

#![allow(missing_docs, clippy::unwrap_used)]

use crate::engine_support;

use std::sync::Arc;

use crate::engine_support::journal::Journal;
use crate::engine_support::workload::Load;
use crate::engine_support::{
    MAX_RECORD, Op, assert_clean, batch, machine, open, options, patient, scan_all,
};
use treering_blink::{Chunk, Direction, From, Scan, TreeRef};
use treering_pagefile::sim::{Sim, SimDiskOptions};
use treering_pagefile::{FileErrorKind, Op as DiskOp};
use treering_txn::{Batch, Durability, Engine, Error, OpKind};

/// A tree of so many keys, two to a leaf.
async fn grown(engine: &Arc<Engine>, keys: usize) -> TreeRef {
    let tree = engine.tree(b"t").await.unwrap();
    for number in 0..keys {
        put(engine, tree, number).await.unwrap();
    }
    tree
}

async fn put(engine: &Arc<Engine>, tree: TreeRef, number: usize) -> Result<(), Error> {
    let key = format!("{number:06}");
    let ops = [Op::put(0, key.as_bytes(), &vec![1; MAX_RECORD - key.len()])];
    engine.commit(batch(&[tree], &ops), Durability::None).await.map(drop)
}

/// A batch whose leaves and the pages above them did not fit the pool loaded pages for some keys,
/// which pushed out those of the others, for ever. Now it takes the way of big batches as soon as more
/// leaves are found than can be changed at once; and one that does not needs one page a key at a time.
#[test]
fn a_batch_over_too_many_leaves_is_applied_piece_by_piece_instead_of_reading_for_ever() {
    let sim = machine(1);
    sim.run(async {
        let engine = open(&sim, options(16, 1)).await.unwrap();
        let tree = grown(&engine, 600).await;
        for count in [2, 3, 12, 100] {
            let before = sim.disk().io_count();
            let mut batch = Batch::new();
            for number in 0..count {
                let key = format!("{:06}", number * 600 / count);
                batch.push(tree, OpKind::Put, key.as_bytes(), b"changed");
            }
            engine.commit(batch, Durability::Durable).await.unwrap();
            let ios = sim.disk().io_count() - before;
            assert!(ios < 100 + 20 * count, "{count} leaves: {ios} I/Os");
        }
        assert_clean(&engine, "after").await;
        engine.close().await.unwrap();
    })
    .unwrap();
}

/// Nothing is below the empty key; the scan took the left-most page for a damaged tree.
#[test]
fn scanning_backwards_from_below_the_empty_key_finds_nothing() {
    let sim = machine(2);
    sim.run(async {
        let engine = open(&sim, options(16, 2)).await.unwrap();
        let tree = grown(&engine, 20).await;
        for from in [From::Past(Vec::new()), From::At(Vec::new())] {
            let chunk = Chunk::default();
            let scan = Scan::new(tree, Direction::Backward, from);
            let (scan, chunk) = Arc::clone(&engine).scan(scan, chunk).await.unwrap();
            assert!(chunk.is_empty() && scan.next().is_none());
        }
        assert_eq!(scan_all(&engine, tree, Direction::Backward).await.unwrap().len(), 20);
    })
    .unwrap();
}

/// An attempt that was refused a frame let go of its own pages and took that for the relief it waited
/// for: it tried again within the same poll, for ever, on the thread that would have cleaned frames.
/// Two splits at a time and a checkpoint under way leave no frame in a pool of sixteen.
#[test]
fn a_split_without_a_free_frame_waits_instead_of_spinning() {
    for seed in 0..20 {
        let sim = machine(seed);
        let run = sim.run(async {
            let engine = open(&sim, options(16, seed)).await.unwrap();
            let load = Load {
                clients: 6,
                commits: 30,
                batch_max: 2,
                bulky: true,
                checkpoint_every: 5,
                ..Load::new(seed)
            };
            load.run_on(&engine, &Journal::default(), |_| false).await.unwrap();
            assert_clean(&engine, "after").await;
            engine.close().await.unwrap();
        });
        run.unwrap_or_else(|stalled| panic!("seed {seed}: {stalled}"));
    }
}

/// On a full disk splits cannot be posted, and every read that crosses such a link reports it. Each
/// report made the posting task write up to 64 checkpoints.
#[test]
fn reads_on_a_full_disk_do_not_write_checkpoints() {
    let capacity = 200 << 10;
    let sim = engine_support::patient(Sim::with_options(
        3,
        SimDiskOptions { capacity, ..SimDiskOptions::default() },
    ));
    sim.run(async {
        let engine = open(&sim, options(32, 3)).await.unwrap();
        let tree = grown(&engine, 50).await;
        let (mut number, mut refused) = (50, 0);
        while refused < 20 {
            match put(&engine, tree, number * 7919 % 100_000).await {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.file_kind(), Some(FileErrorKind::Full), "{error}");
                    refused += 1;
                }
            }
            number += 1;
        }
        let before = engine.stats();
        let mut found = 0;
        for number in 0..number {
            let key = format!("{:06}", number * 7919 % 100_000);
            let engine = Arc::clone(&engine);
            found += usize::from(engine.get(tree, key.as_bytes()).await.unwrap().is_some());
        }
        assert!(found > 50);
        let after = engine.stats();
        assert!(after.checkpoints <= before.checkpoints + 1, "{before:?} and then {after:?}");
        engine.close().await.unwrap();
    })
    .unwrap();
}

/// In one step a batch takes as much space as it has leaves, which there is not; chunk by chunk it takes
/// what is set aside for deletes (I13).
#[test]
fn a_batch_of_deletes_over_many_leaves_is_done_in_chunks_on_a_full_disk() {
    for leaves in [6, 10, 14, 20] {
        let capacity = 300 << 10;
        let sim = engine_support::patient(Sim::with_options(
            3,
            SimDiskOptions { capacity, ..SimDiskOptions::default() },
        ));
        sim.run(async {
            let engine = open(&sim, options(256, 3)).await.unwrap();
            let tree = engine.tree(b"t").await.unwrap();
            let mut count = 0;
            while put(&engine, tree, count).await.is_ok() {
                count += 1;
            }
            let doomed: Vec<usize> = (0..count).step_by(6).take(leaves).collect();
            assert_eq!(doomed.len(), leaves, "of {count} keys");
            let mut batch = Batch::new();
            for number in &doomed {
                batch.push(tree, OpKind::Delete, format!("{number:06}").as_bytes(), b"");
            }
            let outcome = engine.commit(batch, Durability::Durable).await;
            outcome.unwrap_or_else(|error| panic!("{leaves} leaves: {error}"));
            for number in 0..count {
                let key = format!("{number:06}");
                let found = Arc::clone(&engine).get(tree, key.as_bytes()).await.unwrap();
                assert_eq!(found.is_none(), doomed.contains(&number), "key {number}");
            }
            assert_clean(&engine, "after").await;
            engine.close().await.unwrap();
        })
        .unwrap();
    }
}

/// Writes of first blocks of the log's segments that a disk refuses for lack of space, after it wrote them
/// (it may: only reservations promise that nothing happened). The log then began the same segment in
/// another file, and of two files that hold one segment no database opens.
#[test]
fn a_segment_whose_first_block_was_refused_is_not_begun_in_another_file() {
    const ENOSPC: i32 = 28;
    let killed = machine(3);
    let begun = killed.run(async {
        let engine = open(&killed, options(16, 1)).await.unwrap();
        grown(&engine, 30).await;
        engine.sync().await.unwrap();
    });
    begun.unwrap();
    let image = killed.disk().image_visible();
    let mut refused = 0;
    for seed in 0..40 {
        let sim = patient(Sim::from_image(&image, seed));
        let disk = sim.disk();
        let mut left = seed % 4;
        disk.record_trace();
        disk.fail_when(move |point| {
            let first_block = point.op == DiskOp::WriteDurable && point.offset == 0;
            left = if first_block { left.wrapping_sub(1) } else { left };
            (first_block && left == u64::MAX).then_some(ENOSPC.into())
        });
        // It opens, or it does not; it is the next opening that counts.
        let opened = sim.run(open(&sim, options(16, 2))).unwrap();
        sim.settle().unwrap();
        refused += disk.trace().iter().filter(|event| event.outcome.is_err()).count();
        drop(opened);
        let sim = patient(Sim::from_image(&disk.image_visible(), seed));
        let reopened = sim.run(async {
            let engine = open(&sim, options(16, 3)).await.unwrap_or_else(|e| panic!("{seed}: {e}"));
            assert_clean(&engine, "after").await;
            engine.close().await.unwrap();
        });
        reopened.unwrap();
    }
    assert!(refused > 20, "{refused} writes were refused");
}

/// A page file that had been cut to nothing was taken for a creation that had not come far, and a new,
/// empty database took the place of the one whose log was still there.
#[test]
fn a_log_without_its_page_file_is_not_made_into_a_new_database() {
    let sim = machine(1);
    let made = sim.run(async {
        let engine = open(&sim, options(16, 1)).await.unwrap();
        grown(&engine, 10).await;
        engine.close().await.unwrap();
    });
    made.unwrap();
    let whole = sim.disk().image_visible();
    let mut cut = whole.clone();
    cut.set_len("pages", 0);
    let mut missing = whole.clone();
    missing.remove("pages");
    for image in [cut, missing] {
        let sim = patient(Sim::from_image(&image, 2));
        let opened = sim.run(open(&sim, options(16, 2))).unwrap();
        let error = opened.err().expect("the pages are gone");
        assert_eq!(error.file_kind(), Some(FileErrorKind::Damaged), "{error}");
        assert!(error.to_string().contains("log-"), "{error}");
        assert_eq!(sim.disk().image_visible(), image, "nothing was changed");
    }
}
