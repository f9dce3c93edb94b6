//! Two hundred futures of every kind are polled once or twice and then held unpolled, in a pool of a
//! few frames with a log buffer and a log that are full. A suspended future owns nothing (I1): a
//! thousand other operations, a checkpoint and the end of the engine go past them.

#![allow(missing_docs, clippy::unwrap_used)]

use crate::engine_support;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::engine_support::journal::Journal;
use crate::engine_support::workload::{Load, NAMES};
use crate::engine_support::{
    MAX_RECORD, Op, Rng, assert_clean, batch, contents, key, machine, open, options, seeds,
    small_log,
};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use treering_blink::{Chunk, Direction, From, Scan, TreeRef};
use treering_pagefile::sim::Sim;
use treering_txn::{Durability, Engine, OpKind};

type Held = BoxFuture<'static, ()>;

/// Keys that nobody but the held futures touches.
fn held_key(rng: &mut Rng) -> Vec<u8> {
    [b"held/".as_slice(), &key(rng)[..]].concat().into_iter().take(64).collect()
}

/// A future of the kind with this number, of any outcome.
fn future(rng: &mut Rng, number: usize, engine: &Arc<Engine>, trees: &[TreeRef]) -> Held {
    let engine = Arc::clone(engine);
    let tree = *rng.pick(trees);
    let own = held_key(rng);
    let bulk = vec![1; MAX_RECORD - own.len()];
    let any = key(rng);
    let durability = *rng.pick(&[Durability::Durable, Durability::Buffered, Durability::None]);
    let single = |kind| vec![Op { kind, ..Op::put(0, &own, &bulk) }];
    let commit = |ops: Vec<Op>| {
        let (engine, batch) = (Arc::clone(&engine), batch(&[tree], &ops));
        async move { drop(engine.commit(batch, durability).await) }.boxed()
    };
    match number % 14 {
        0 | 1 => commit(single(OpKind::Put)),
        2 => commit(single(OpKind::Insert)),
        3 => commit(single(OpKind::Update)),
        4 => commit(single(OpKind::Delete)),
        5 | 6 => {
            let keys: Vec<_> = (0..4).map(|_| held_key(rng)).collect();
            commit(keys.iter().map(|key| Op::put(0, key, b"a batch")).collect())
        }
        7 => async move { drop(engine.get(tree, &any).await) }.boxed(),
        8 => {
            let keys: Vec<_> = (0..30).map(|_| key(rng)).collect();
            async move { drop(engine.get_many(tree, &keys).await) }.boxed()
        }
        9 | 10 => {
            let direction = [Direction::Forward, Direction::Backward][number % 2];
            async move {
                let scan = Scan::new(tree, direction, From::At(any));
                drop(engine.scan(scan, Chunk::default()).await);
            }
            .boxed()
        }
        11 => async move { drop(engine.checkpoint().await) }.boxed(),
        12 => async move { drop(engine.sync().await) }.boxed(),
        _ => match number % 3 {
            0 => async move { drop(engine.tree(format!("t{number}").as_bytes()).await) }.boxed(),
            1 => async move { drop(engine.verify().await) }.boxed(),
            _ => async move { drop(engine.commit(batch(&[tree], &[]), durability).await) }.boxed(),
        },
    }
}

/// Polls each future once, some of them again after the machine went on for a little; gives those
/// that are still waiting.
fn hold(sim: &Sim, rng: &mut Rng, engine: &Arc<Engine>, trees: &[TreeRef]) -> Vec<Held> {
    let mut held = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    for number in 0..200 {
        let mut future = future(rng, number, engine, trees);
        let polls = 1 + usize::from(rng.chance(30)) + usize::from(rng.chance(10));
        let mut waits = false;
        for _ in 0..polls {
            waits = future.as_mut().poll(&mut cx) == Poll::Pending;
            if !waits {
                break;
            }
            for _ in 0..rng.below(3) {
                sim.disk().step();
            }
        }
        if waits {
            held.push(future);
        }
    }
    held
}

/// Fills the log's buffer, so that whoever comes next waits for room.
fn fill_buffer(sim: &Sim, rng: &mut Rng, engine: &Arc<Engine>, trees: &[TreeRef]) -> Vec<Held> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut waiting = Vec::new();
    for _ in 0..200 {
        let own = held_key(rng);
        let ops = [Op::put(0, &own, &vec![2; MAX_RECORD - own.len()])];
        let (engine, batch) = (Arc::clone(engine), batch(&trees[..1], &ops));
        let mut future: Held =
            async move { drop(engine.commit(batch, Durability::None).await) }.boxed();
        if future.as_mut().poll(&mut cx) == Poll::Pending {
            waiting.push(future);
        }
        if waiting.len() > 20 {
            break;
        }
        sim.disk().step();
    }
    waiting
}

fn others_go_past(seed: u64, frames: usize, segments: usize) {
    let context = format!("seed {seed}, {frames} frames, {segments} segments");
    let (sim, journal) = (machine(seed), Journal::default());
    let mut rng = Rng::new(seed);
    let mut options = options(frames, seed);
    options.log = small_log(segments);
    let (engine, trees) = sim
        .run(async {
            let engine = open(&sim, options).await.unwrap();
            let grown = Load { commits: 150, bulky: true, ..Load::new(seed) };
            grown.run_on(&engine, &journal, |_| false).await.unwrap();
            engine.checkpoint().await.unwrap();
            let mut trees = Vec::new();
            for name in NAMES {
                trees.push(engine.tree(name.as_bytes()).await.unwrap());
            }
            (engine, trees)
        })
        .unwrap_or_else(|stalled| panic!("{context}: growing: {stalled}"));

    let mut held = hold(&sim, &mut rng, &engine, &trees);
    held.extend(fill_buffer(&sim, &mut rng, &engine, &trees));
    held.extend(hold(&sim, &mut rng, &engine, &trees));
    assert!(held.len() > 100, "{context}: {} futures wait", held.len());

    sim.run(async {
        let loads = (0..4).map(|client| {
            let load = Load {
                clients: 2,
                commits: 125,
                batch_max: 2,
                checkpoint_every: 40 * (client as usize % 2),
                ..Load::new(seed * 10 + client)
            };
            let (engine, journal) = (Arc::clone(&engine), journal.clone());
            async move { load.run_on(&engine, &journal, |_| false).await.unwrap() }
        });
        join_all(loads).await;
    })
    .unwrap_or_else(|stalled| panic!("{context}: a thousand others: {stalled}"));

    let mut expected = journal.model(NAMES.len());
    let found = sim
        .run(async {
            engine.checkpoint().await.unwrap();
            let found = contents(&engine, &NAMES).await.unwrap();
            assert_clean(&engine, &context).await;
            engine.close().await.unwrap();
            found
        })
        .unwrap_or_else(|stalled| panic!("{context}: checkpoint and close: {stalled}"));
    let mut without = found.clone();
    for tree in without.iter_mut().chain(&mut expected) {
        tree.retain(|key, _| !key.starts_with(b"held/"));
    }
    engine_support::assert_same(&without, &expected, &context);

    // Polled at last, every one of them finds an end.
    sim.run(join_all(held)).unwrap_or_else(|stalled| panic!("{context}: the held ones: {stalled}"));
    let sim = engine_support::patient(Sim::from_image(&sim.disk().image_visible(), seed));
    let again = sim.run(async {
        let engine = open(&sim, engine_support::options(frames, seed + 1)).await.unwrap();
        contents(&engine, &NAMES).await.unwrap()
    });
    engine_support::assert_same(&again.unwrap(), &found, &context);
}

#[test]
fn held_futures_stop_nobody_in_a_pool_of_sixteen_frames() {
    for seed in seeds(0, 6) {
        others_go_past(seed, 16, 3);
    }
}

#[test]
fn held_futures_stop_nobody_in_a_pool_of_thirty_two_frames() {
    for seed in seeds(10, 6) {
        others_go_past(seed, 32, 4);
    }
}
