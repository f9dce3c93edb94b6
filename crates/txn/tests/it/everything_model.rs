//! Everything a database can do, one after the other and at random, against maps: in pages of 512
//! bytes and with a few frames, so that all of it splits, merges and is evicted all the time. Big
//! changes are applied behind what follows them, and checkpoints and compacting run beside it.
//!
//! A life ends by closing, by stopping, or with the power, at any I/O. Then the database is what it was
//! after one of the changes, none earlier than the last that was acknowledged as durable; the one that
//! was under way is there as a whole or not at all. A duplicate whose insert nobody heard of has a
//! sequence that nobody knows, so trees with duplicates are compared by what stands under each key.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use crate::engine_support::{Rng, assert_clean, machine, open, options, patient, scan_all, seeds};
use crate::everything_support::{KINDS, Life, MULTI, Trees, World};
use treering_blink::Direction;
use treering_pagefile::sim::{Sim, Stalled};
use treering_txn::{Engine, TreeOptions, duplicates};

/// What is there; each tree without duplicates as it is, the other with its sequences.
async fn found(engine: &Arc<Engine>) -> Trees {
    let mut trees = Trees::new();
    for info in engine.trees() {
        let name = String::from_utf8(info.name.to_vec()).unwrap();
        let pairs = scan_all(engine, info.tree, Direction::Forward).await.unwrap();
        let back = scan_all(engine, info.tree, Direction::Backward).await.unwrap();
        assert!(pairs.iter().eq(back.iter().rev()), "{name} both ways");
        trees.insert(name, pairs.into_iter().collect());
    }
    trees
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The same without the sequences of duplicates.
fn without_sequences(trees: &Trees) -> (Trees, Pairs) {
    let mut trees = trees.clone();
    let multi = trees.remove(MULTI).unwrap_or_default();
    let plain = multi.into_iter().map(|(stored, value)| {
        let mut key = Vec::new();
        duplicates::split(&stored, &mut key).unwrap();
        (key, value)
    });
    (trees, plain.collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Stop,
    Crash,
}

/// The power failed: one of what there may be is there.
fn judge(world: &mut World, found: Trees, context: &str) {
    let plain = without_sequences(&found);
    if let Some(next) = world.next.take() {
        world.count("crash in a change");
        if plain == without_sequences(&next) && plain != without_sequences(&world.now) {
            world.count("change survived");
            (world.now, world.before) = (found, Vec::new());
            return;
        }
    }
    let fits = |trees: &Trees| plain == without_sequences(trees);
    let before = world.before.iter().chain([&world.now]).any(fits);
    let sizes = |trees: &Trees| -> Vec<(String, usize)> {
        trees.iter().map(|(name, map)| (name.clone(), map.len())).collect()
    };
    let there = sizes(&found);
    assert!(before, "{context}: {there:?}, last {:?}", sizes(&world.now));
    (world.now, world.before) = (found, Vec::new());
}

/// A database's story: several lives, each with steps and an end.
fn story(seed: u64, frames: usize, lives: usize, steps: usize, world: &mut World) {
    let (mut rng, mut sim, mut last) = (Rng::new(seed), machine(seed), None);
    (world.now, world.before, world.next) = Default::default();
    for life in 0..lives {
        let context = format!("seed {seed}, life {life} after {last:?}");
        let end = *rng.pick(&[End::Close, End::Stop, End::Crash, End::Crash]);
        let outcome = sim.run(async {
            let engine = open(&sim, options(frames, seed * 1000 + life as u64)).await.unwrap();
            let there = found(&engine).await;
            if last == Some(End::Crash) {
                judge(world, there, &context);
            } else {
                assert!(there == world.now, "{context}");
            }
            assert_clean(&engine, &context).await;
            // Nothing is written but what a durable checkpoint has.
            world.before.clear();
            if life == 0 {
                let options = TreeOptions::new().duplicates(true);
                engine.tree_with(MULTI.as_bytes(), &options).await.unwrap();
                for name in ["first", "second", "third"] {
                    engine.tree(name.as_bytes()).await.unwrap();
                }
                world.now = found(&engine).await;
            }
            if end == End::Crash {
                let index = sim.disk().io_count() + rng.below(steps * 12) as u64;
                sim.disk().stop_at(index);
            }
            let mut life = Life { engine, world, rng: &mut rng };
            let lived = life.steps(steps).await;
            let Life { engine, world, .. } = life;
            if let Err(error) = lived {
                assert!(sim.disk().is_dead() && end == End::Crash, "{context}: {error}");
                return;
            }
            if engine.stats().merges > 0 {
                world.count("merge");
            }
            match end {
                End::Close => engine.close().await.unwrap(),
                End::Stop => engine.stop(),
                End::Crash => {}
            }
        });
        match outcome {
            Ok(()) => {}
            Err(Stalled::Dead(_)) if end == End::Crash => {}
            Err(stalled) => panic!("{context}, {end:?}: {stalled}"),
        }
        let image = match end {
            End::Crash => sim.disk().image_by_seed(rng.next()),
            End::Close | End::Stop => {
                sim.settle().unwrap();
                sim.disk().image_visible()
            }
        };
        world.count(match end {
            End::Close => "close",
            End::Stop => "stop",
            End::Crash => "crash",
        });
        sim = patient(Sim::from_image(&image, seed + life as u64));
        last = Some(end);
    }
}

#[test]
fn everything_that_a_database_does_is_what_maps_do_through_every_end_of_its_lives() {
    let mut world = World::default();
    for seed in seeds(1, 60) {
        story(seed, [16, 24, 48][seed as usize % 3], 6, 120, &mut world);
    }
    let missing: Vec<_> = KINDS.iter().filter(|kind| !world.events.contains_key(*kind)).collect();
    assert!(missing.is_empty(), "{missing:?} never occurred: {:?}", world.events);
}

/// The task that tells parents of splits had found no frame for one of them and had given it up, and
/// nobody crossed its link. Its right page was to be merged, for which the parent has to know it: that
/// was tried for ever, and whoever waited for the merges waited as long.
#[test]
fn t14_a_page_of_which_its_parent_was_never_told_does_not_hold_up_the_merges() {
    story(26_000_010, 16, 6, 120, &mut World::default());
}

/// The task that freed a dropped tree kept its root pinned, having waited for it to be loaded, and so
/// could not free it itself: it tried again without an end.
#[test]
fn t14_the_root_of_a_dropped_tree_is_not_held_by_who_frees_it() {
    story(27, 16, 6, 120, &mut World::default());
}

/// Compacting read a page of a large value whose write was still on its way, and took it for damaged.
#[test]
fn compacting_leaves_a_large_value_alone_that_is_just_being_written() {
    story(11_000_036, 48, 6, 120, &mut World::default());
}
