//! Online backup: a consistent copy beside writers, and nobody who pays for it but the backup.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backup_support::{Folder, Stepped, target};
use crate::engine_support::{Op, assert_clean, batch, machine, open, options, scan_all, seeds};
use treering_blink::{Direction, TreeRef};
use treering_pagefile::FileErrorKind;
use treering_pagefile::sim::{FailMode, Sim, SimDisk, Stalled};
use treering_pagefile::yield_now;
use treering_txn::{Durability, Engine, Error};

/// Writers of pairs: each commit gives both keys of a pair the same number.
const WRITERS: usize = 4;
const PAIRS: usize = 40;

fn pair(writer: usize, pair: usize) -> [Vec<u8>; 2] {
    ["left", "right"].map(|side| format!("{side}/{writer}/{pair:03}").into_bytes())
}

async fn write(
    engine: &Arc<Engine>,
    tree: TreeRef,
    writer: usize,
    number: u64,
) -> Result<u64, Error> {
    let [left, right] = pair(writer, number as usize % PAIRS);
    let mut value = number.to_be_bytes().to_vec();
    value.resize(60, number as u8);
    let ops = [Op::put(0, &left, &value), Op::put(0, &right, &value)];
    Ok(engine.commit(batch(&[tree], &ops), Durability::None).await?.sequence)
}

/// All numbers of a writer's pairs; fails unless both halves of each have the same.
async fn numbers(engine: &Arc<Engine>, tree: TreeRef, writer: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    for index in 0..PAIRS {
        let mut halves = Vec::new();
        for key in pair(writer, index) {
            let value = Arc::clone(engine).get(tree, &key).await.unwrap();
            halves.push(value.map_or(0, |v| u64::from_be_bytes(v[..8].try_into().unwrap())));
        }
        assert_eq!(halves[0], halves[1], "writer {writer}, pair {index}: half a commit");
        numbers.push(halves[0]);
    }
    numbers
}

/// Each writer's commits are there up to one, and none behind it; gives the last ones.
async fn assert_prefix(engine: &Arc<Engine>) -> Vec<u64> {
    let tree = engine.find_tree(b"pairs").unwrap();
    let mut lasts = Vec::new();
    for writer in 0..WRITERS {
        let found = numbers(engine, tree, writer).await;
        let last = found.iter().copied().max().unwrap();
        for (index, number) in found.into_iter().enumerate() {
            // The newest number of this pair that is not beyond the last one.
            let expected = (0..PAIRS as u64)
                .filter_map(|back| last.checked_sub(back))
                .find(|number| *number as usize % PAIRS == index)
                .unwrap_or(0);
            assert_eq!(number, expected, "writer {writer}, pair {index}, last commit {last}");
        }
        lasts.push(last);
    }
    lasts
}

#[test]
fn a_backup_beside_writers_is_a_prefix_of_their_commits_and_opens() {
    for seed in seeds(0, 6) {
        let sim = machine(seed);
        let run = sim.run(async {
            let engine = open(&sim, options(48, seed)).await.unwrap();
            let tree = engine.tree(b"pairs").await.unwrap();
            for number in 1..=PAIRS as u64 {
                for writer in 0..WRITERS {
                    write(&engine, tree, writer, number).await.unwrap();
                }
            }
            let over = Arc::new(AtomicBool::new(false));
            let mut writers = Vec::new();
            for writer in 0..WRITERS {
                let (engine, over) = (Arc::clone(&engine), Arc::clone(&over));
                writers.push(sim.spawn(async move {
                    let mut number = PAIRS as u64;
                    while !over.load(Ordering::Relaxed) {
                        number += 1;
                        write(&engine, tree, writer, number).await.unwrap();
                        if number.is_multiple_of(64) {
                            engine.checkpoint().await.unwrap();
                        }
                        yield_now().await;
                    }
                    number
                }));
            }
            let folder = Folder::new(sim.disk(), "copy-");
            let before = engine.stats().sequence;
            let backed_up = engine.backup(target(&folder, seed)).await.unwrap();
            over.store(true, Ordering::Relaxed);
            let mut written = Vec::new();
            for writer in writers {
                written.push(writer.await);
            }
            assert!(backed_up.sequence >= before && backed_up.sequence <= engine.stats().sequence);
            assert_clean(&engine, "the source").await;

            // Both go on, each for itself.
            let copy = folder.open(&sim, options(32, seed + 1000)).await.unwrap();
            assert_eq!(copy.recovery().sequence, backed_up.sequence);
            assert_clean(&copy, "the copy").await;
            let lasts = assert_prefix(&copy).await;
            assert!(lasts.iter().zip(&written).all(|(last, written)| last <= written));
            write(&copy, copy.find_tree(b"pairs").unwrap(), 0, lasts[0] + 1).await.unwrap();
            copy.close().await.unwrap();
            let copy = folder.open(&sim, options(32, seed + 2000)).await.unwrap();
            assert_eq!(assert_prefix(&copy).await[0], lasts[0] + 1);
            copy.close().await.unwrap();
            assert_eq!(assert_prefix(&engine).await, written);
            engine.close().await.unwrap();
        });
        run.unwrap_or_else(|stalled| panic!("seed {seed}: {stalled}"));
    }
}

/// What the writers replace during a backup is held, and free after it.
#[test]
fn space_that_a_backup_keeps_comes_back_after_it() {
    let sim = machine(1);
    let second = Arc::new(SimDisk::new(2));
    let run = sim.run(async {
        let engine = open(&sim, options(64, 1)).await.unwrap();
        let tree = engine.tree(b"pairs").await.unwrap();
        load(&engine, tree).await;
        let slow = Stepped::new(&second);
        let (copying, folder) = begin_backup(&sim, &engine, &slow).await;
        overwrite(&engine, tree, 3).await;
        let held = engine.stats().space;
        assert!(held.pending_release >= 40 * 512, "three rounds kept the first: {held:?}");
        // However often they are overwritten, only what the backup needs is kept.
        overwrite(&engine, tree, 20).await;
        let later = engine.stats().space.pending_release;
        assert!(later <= held.pending_release + 8 * 512, "{later} {held:?}");
        slow.run(&sim);
        copying.await.unwrap();
        settle(&engine).await;
        let after = engine.stats().space;
        assert!(after.pending_release < 20 * 512, "{after:?}");
        assert!(after.used < held.used, "{after:?} {held:?}");
        assert_clean(&engine, "the source").await;
        let copy = folder.open(&sim, options(32, 9)).await.unwrap();
        assert_clean(&copy, "the copy").await;
        let pairs = scan_all(&copy, copy.find_tree(b"pairs").unwrap(), Direction::Forward).await;
        assert!(pairs.unwrap().iter().all(|(_, value)| value[0] == 0), "as it was when it began");
        copy.close().await.unwrap();
        engine.close().await.unwrap();
        slow.stop();
    });
    run.unwrap_or_else(|stalled| panic!("{stalled}"));
}

#[test]
fn on_a_full_disk_the_backup_gives_way_and_no_write_does() {
    let sim = machine(3);
    let second = Arc::new(SimDisk::new(4));
    let run = sim.run(async {
        let engine = open(&sim, options(64, 1)).await.unwrap();
        let tree = engine.tree(b"pairs").await.unwrap();
        let overwrite = async |rounds: u8| {
            for round in 1..=rounds {
                put_all(&engine, tree, round, 3_000).await;
                engine.checkpoint().await.unwrap();
            }
        };
        // Room for what is replaced between two checkpoints, and no more.
        overwrite(4).await;
        sim.disk().set_capacity(sim.disk().space_used());
        overwrite(4).await;
        let slow = Stepped::new(&second);
        let (copying, folder) = begin_backup(&sim, &engine, &slow).await;
        // None of these is refused, although the copy has not got any further.
        overwrite(6).await;
        slow.run(&sim);
        let error = copying.await.unwrap_err();
        assert_eq!(error.file_kind(), Some(FileErrorKind::Full), "{error}");
        assert!(error.to_string().contains("backup"), "{error}");
        overwrite(4).await;
        assert_clean(&engine, "the source").await;
        let error = folder.open(&sim, no_create(9)).await.err().expect("half a copy is none");
        assert_eq!(error.file_kind(), Some(FileErrorKind::NotADatabase), "{error}");

        // With room, the same folder takes a whole one.
        sim.disk().set_capacity(u64::MAX);
        engine.backup(target(&folder, 11)).await.unwrap();
        let copy = folder.open(&sim, no_create(12)).await.unwrap();
        assert_clean(&copy, "the copy").await;
        copy.close().await.unwrap();
        engine.close().await.unwrap();
        slow.stop();
    });
    run.unwrap_or_else(|stalled| panic!("{stalled}"));
}

#[test]
fn a_crash_at_any_moment_of_a_backup_leaves_the_source_and_no_half_copy() {
    let (mut at, mut whole, mut none) = (0, 0, 0);
    loop {
        let sim = machine(7);
        let disk = sim.disk();
        let run = sim.run(async {
            let engine = open(&sim, options(64, 1)).await.unwrap();
            let tree = engine.tree(b"pairs").await.unwrap();
            load(&engine, tree).await;
            engine.sync().await.unwrap();
            disk.stop_at(disk.io_count() + at);
            let folder = Folder::new(sim.disk(), "copy-");
            let copied = engine.backup(target(&folder, 5)).await;
            copied.unwrap();
        });
        let over = match run {
            Ok(()) => true,
            Err(Stalled::Dead(_)) => false,
            Err(stalled) => panic!("stopped at {at}: {stalled}"),
        };
        let sim = Sim::from_image(&disk.crash(at), 8);
        let run = sim.run(async {
            let engine = open(&sim, options(64, 2)).await.unwrap();
            let tree = engine.find_tree(b"pairs").unwrap();
            assert_eq!(scan_all(&engine, tree, Direction::Forward).await.unwrap().len(), 400);
            assert_clean(&engine, "the source").await;
            let folder = Folder::new(sim.disk(), "copy-");
            let opened = folder.open(&sim, no_create(9)).await;
            let there = opened.is_ok();
            if let Ok(copy) = opened {
                let tree = copy.find_tree(b"pairs").unwrap();
                assert_eq!(scan_all(&copy, tree, Direction::Forward).await.unwrap().len(), 400);
                assert_clean(&copy, "the copy").await;
                copy.close().await.unwrap();
            } else {
                engine.backup(target(&folder, 10)).await.unwrap();
            }
            engine.close().await.unwrap();
            there
        });
        match run.unwrap_or_else(|stalled| panic!("after {at}: {stalled}")) {
            true => whole += 1,
            false => none += 1,
        }
        if over {
            break;
        }
        at += 1;
    }
    assert!(none > 20 && whole > 1, "{none} without a copy, {whole} with one");
}

#[test]
fn a_damaged_page_is_named_and_a_bad_target_harms_nobody() {
    let sim = machine(5);
    let run = sim.run(async {
        let engine = open(&sim, options(64, 1)).await.unwrap();
        let tree = engine.tree(b"pairs").await.unwrap();
        load(&engine, tree).await;

        // The target's disk fails: the source does not.
        let bad = Arc::new(SimDisk::new(6));
        bad.fail_at(10, std::io::ErrorKind::Other, FailMode::FromThenOn);
        let slow = Stepped::new(&bad);
        slow.run(&sim);
        let failing = Folder::new(Arc::clone(&bad), "");
        let error = engine.backup(target(&failing, 3)).await.unwrap_err();
        assert!(error.file_kind().is_some(), "{error}");
        slow.stop();
        assert_clean(&engine, "the source").await;

        // A target that is a database already is left alone.
        let folder = Folder::new(sim.disk(), "copy-");
        engine.backup(target(&folder, 4)).await.unwrap();
        let error = engine.backup(target(&folder, 5)).await.unwrap_err();
        assert_eq!(error.file_kind(), Some(FileErrorKind::NotADatabase), "{error}");
        engine.close().await.unwrap();
        // A leaf, which nobody reads when the database is opened.
        engine.pool().extents().into_iter().max().unwrap()
    });
    let (page, extent) = run.unwrap_or_else(|stalled| panic!("{stalled}"));

    let mut image = sim.disk().image_visible();
    image.corrupt("pages", extent.offset..extent.offset + 100, 1);
    let sim = Sim::from_image(&image, 6);
    let run = sim.run(async {
        let engine = open(&sim, options(64, 2)).await.unwrap();
        let folder = Folder::new(sim.disk(), "other-");
        let error = engine.backup(target(&folder, 4)).await.unwrap_err();
        assert_eq!(error.file_kind(), Some(FileErrorKind::Damaged), "{error}");
        assert!(error.to_string().contains(&page.to_string()), "{error}");
        engine.close().await.unwrap();
    });
    run.unwrap_or_else(|stalled| panic!("{stalled}"));
}

/// What fails is the copy's disk: whoever hears of it must not be told to reopen the database.
#[test]
fn a_copy_whose_disk_fails_does_not_say_that_the_database_has_stopped() {
    let sim = machine(5);
    let run = sim.run(async {
        let engine = open(&sim, options(64, 1)).await.unwrap();
        let tree = engine.tree(b"pairs").await.unwrap();
        load(&engine, tree).await;
        let mut failed = 0;
        for at in 0.. {
            let bad = Arc::new(SimDisk::new(6));
            let errno = if at % 2 == 0 { 5 } else { 28 };
            bad.fail_at(at, errno, FailMode::Once);
            let moving = Stepped::new(&bad);
            moving.run(&sim);
            let folder = Folder::new(Arc::clone(&bad), "");
            let backed_up = engine.backup(target(&folder, at)).await;
            moving.stop();
            let Err(error) = backed_up else { break };
            let fits = matches!(error.file_kind(), Some(FileErrorKind::Io | FileErrorKind::Full));
            assert!(fits, "I/O {at} of the copy: {error}");
            engine.check().unwrap();
            failed += 1;
        }
        assert!(failed > 10, "only {failed} I/Os failed");
        engine.close().await.unwrap();
    });
    run.unwrap_or_else(|stalled| panic!("{stalled}"));
}

#[test]
fn closing_the_engine_ends_a_backup() {
    let sim = machine(9);
    let second = Arc::new(SimDisk::new(4));
    let run = sim.run(async {
        let engine = open(&sim, options(64, 1)).await.unwrap();
        let tree = engine.tree(b"pairs").await.unwrap();
        load(&engine, tree).await;
        let slow = Stepped::new(&second);
        let (copying, _) = begin_backup(&sim, &engine, &slow).await;
        let closing = {
            let engine = Arc::clone(&engine);
            sim.spawn(async move { engine.close().await })
        };
        while engine.check().is_ok() {
            yield_now().await;
        }
        slow.run(&sim);
        assert!(matches!(copying.await, Err(Error::Closed)));
        closing.await.unwrap();
        slow.stop();
    });
    run.unwrap_or_else(|stalled| panic!("{stalled}"));
}

fn no_create(entropy: u64) -> treering_txn::EngineOptions {
    treering_txn::EngineOptions { create: false, ..options(32, entropy) }
}

/// Keys on some forty leaves and more.
async fn load(engine: &Arc<Engine>, tree: TreeRef) {
    put_all(engine, tree, 0, 400).await;
    settle(engine).await;
}

/// Every page is replaced so many times, with checkpoints in between.
async fn overwrite(engine: &Arc<Engine>, tree: TreeRef, rounds: u8) {
    for round in 1..=rounds {
        put_all(engine, tree, round, 400).await;
        engine.checkpoint().await.unwrap();
    }
}

async fn put_all(engine: &Arc<Engine>, tree: TreeRef, byte: u8, keys: u32) {
    for number in 0..keys {
        let ops = [Op::put(0, format!("key{number:05}").as_bytes(), &[byte; 40])];
        engine.commit(batch(&[tree], &ops), Durability::None).await.unwrap();
    }
}

/// What one checkpoint replaces is free after the next.
async fn settle(engine: &Arc<Engine>) {
    engine.checkpoint().await.unwrap();
    engine.checkpoint().await.unwrap();
}

/// A backup to a slow disk, which has taken its snapshot and waits for the disk.
async fn begin_backup(
    sim: &Sim,
    engine: &Arc<Engine>,
    slow: &Stepped,
) -> (treering_pagefile::sim::SimTask<Result<treering_txn::BackedUp, Error>>, Folder) {
    let folder = Folder::new(Arc::clone(&slow.disk), "");
    let target = target(&folder, 77);
    let task = {
        let engine = Arc::clone(engine);
        sim.spawn(async move { engine.backup(target).await })
    };
    // The creation's first write is there: so is the snapshot.
    while slow.disk.in_flight() == 0 {
        yield_now().await;
    }
    (task, folder)
}
