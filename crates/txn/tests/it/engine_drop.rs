//! Futures of every kind, dropped after each of their polls: what they were to do is wholly there or
//! wholly absent (I2), the tree is sound, and the engine goes on.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::engine_support::{
    MAX_RECORD, Model, Op, apply, assert_clean, assert_same, batch, contents, machine, open,
    options, patient,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use treering_blink::{Chunk, Direction, From, Scan, TreeRef};
use treering_pagefile::sim::{Sim, SimImage};
use treering_pagefile::yield_now;
use treering_txn::{Durability, Engine, Error, OpKind};

const NAMES: [&str; 3] = ["users", "orders", "made"];

/// A kind of operation: its future, and what it does to the trees.
struct Kind {
    name: &'static str,
    make: Make,
    ops: Vec<Op>,
}

fn writing(name: &'static str, ops: Vec<Op>, make: Make) -> Kind {
    Kind { name, make, ops }
}

type Make = fn(Arc<Engine>, Vec<TreeRef>) -> BoxFuture<'static, Result<(), Error>>;

fn reading(name: &'static str, make: Make) -> Kind {
    Kind { name, make, ops: Vec::new() }
}

fn bulky(number: usize) -> (Vec<u8>, Vec<u8>) {
    let key = format!("key{number:04}").into_bytes();
    let value = vec![number as u8; MAX_RECORD - key.len()];
    (key, value)
}

fn put_ops() -> Vec<Op> {
    let (_, value) = bulky(7);
    vec![Op::put(0, b"key0101x", &value[1..])]
}

fn insert_ops() -> Vec<Op> {
    let (_, value) = bulky(9);
    vec![Op { kind: OpKind::Insert, ..Op::put(0, b"key0043y", &value[1..]) }]
}

fn delete_ops() -> Vec<Op> {
    vec![Op { kind: OpKind::Delete, ..Op::put(0, b"key0077", b"") }]
}

fn replace_ops() -> Vec<Op> {
    vec![Op { kind: OpKind::Update, ..Op::put(1, b"key0012", b"other") }]
}

/// Two leaves far apart, one of them splitting, in two trees.
fn batch_ops() -> Vec<Op> {
    let (_, value) = bulky(3);
    vec![
        Op { kind: OpKind::Insert, ..Op::put(1, b"key0150z", &value[1..]) },
        Op { kind: OpKind::Delete, ..Op::put(0, b"key0003", b"") },
        Op { kind: OpKind::RequirePresent, ..Op::put(0, b"key0003", b"") },
    ]
}

fn batch_in_order() -> Vec<Op> {
    let mut ops = batch_ops();
    ops.swap(1, 2);
    ops
}

fn commit(
    engine: Arc<Engine>,
    trees: Vec<TreeRef>,
    ops: Vec<Op>,
    durability: Durability,
) -> BoxFuture<'static, Result<(), Error>> {
    async move { engine.commit(batch(&trees, &ops), durability).await.map(drop) }.boxed()
}

fn kinds() -> Vec<Kind> {
    vec![
        writing("put", put_ops(), |e, t| commit(e, t, put_ops(), Durability::Durable)),
        writing("buffered put", put_ops(), |e, t| commit(e, t, put_ops(), Durability::Buffered)),
        writing("insert", insert_ops(), |e, t| commit(e, t, insert_ops(), Durability::Durable)),
        writing("delete", delete_ops(), |e, t| commit(e, t, delete_ops(), Durability::None)),
        writing("replace", replace_ops(), |e, t| {
            async move {
                let mut batch = batch(&t, &replace_ops());
                batch.keep_old();
                e.commit(batch, Durability::Durable).await.map(drop)
            }
            .boxed()
        }),
        writing("batch", batch_in_order(), |e, t| {
            commit(e, t, batch_in_order(), Durability::Durable)
        }),
        reading("violated insert", |e, t| {
            let ops = vec![Op { kind: OpKind::Insert, ..Op::put(0, b"key0077", b"") }];
            commit(e, t, ops, Durability::Durable)
                .map(|violated| match violated {
                    Err(Error::Violated { .. }) => Ok(()),
                    other => panic!("{other:?}"),
                })
                .boxed()
        }),
        reading("get", |e, t| {
            async move { e.get(t[0], b"key0100").await.map(|found| assert!(found.is_some())) }
                .boxed()
        }),
        reading("get_many", |e, t| {
            async move {
                let keys: Vec<_> = (0..40).map(|number| bulky(number * 5).0).collect();
                let found = e.get_many(t[0], &keys).await?;
                assert!(found.iter().all(Option::is_some));
                Ok(())
            }
            .boxed()
        }),
        reading("scan", |e, t| scan(e, t[0], Direction::Forward).boxed()),
        reading("scan backwards", |e, t| scan(e, t[1], Direction::Backward).boxed()),
        reading("checkpoint", |e, _| async move { e.checkpoint().await }.boxed()),
        reading("sync", |e, _| async move { e.sync().await }.boxed()),
        reading("verify", |e, _| {
            async move {
                e.verify().await.map(|report| assert!(report.problems.is_empty(), "{report:?}"))
            }
            .boxed()
        }),
        reading("tree", |e, _| async move { e.tree(b"made").await.map(drop) }.boxed()),
    ]
}

async fn scan(engine: Arc<Engine>, tree: TreeRef, direction: Direction) -> Result<(), Error> {
    let scan = Scan::new(tree, direction, From::End);
    let (mut scan, mut chunk, mut count) = (scan, Chunk::default(), 0);
    while scan.next().is_some() {
        (scan, chunk) = Arc::clone(&engine).scan(scan, chunk).await?;
        count += chunk.len();
    }
    assert!(count >= 200);
    Ok(())
}

/// Two trees of 200 keys in leaves of two.
fn grown() -> (SimImage, Model) {
    let sim = machine(1);
    let model = sim.run(async {
        let engine = open(&sim, options(64, 1)).await.unwrap();
        let mut model: Model = vec![BTreeMap::new(); 3];
        let trees = [engine.tree(b"users").await.unwrap(), engine.tree(b"orders").await.unwrap()];
        for number in 0..200 {
            for tree in 0..2 {
                let (key, value) = bulky(number);
                let ops = [Op::put(tree, &key, &value)];
                engine.commit(batch(&trees, &ops), Durability::None).await.unwrap();
                apply(&mut model, &ops).unwrap();
            }
        }
        engine.close().await.unwrap();
        model
    });
    (sim.disk().image_visible(), model.unwrap())
}

/// What happens between two polls.
#[derive(Clone, Copy, Debug)]
enum Between {
    /// All that can.
    Everything,
    /// One I/O, and no task of the engine's.
    OneIo,
    /// Changes of other leaves, and a checkpoint that begins.
    Load,
}

fn between(sim: &Sim, engine: &Arc<Engine>, trees: &[TreeRef], how: Between, round: usize) {
    match how {
        Between::Everything => sim.settle().unwrap(),
        Between::OneIo => {
            // With nothing in flight it is the engine's turn.
            if !sim.disk().step() {
                sim.settle().unwrap();
            }
        }
        Between::Load => {
            let (engine, trees) = (Arc::clone(engine), trees.to_vec());
            let (key, value) = bulky(110 + round % 90);
            drop(sim.spawn(async move {
                let ops = [Op::put(0, &key, &value)];
                engine.commit(batch(&trees, &ops), Durability::None).await.unwrap();
                if round.is_multiple_of(3) {
                    engine.checkpoint().await.unwrap();
                }
            }));
            sim.settle().unwrap();
        }
    }
}

/// Drops the future after `polls` polls; whether it was over before.
fn drop_after(kind: &Kind, base: &SimImage, before: &Model, polls: usize, how: Between) -> bool {
    let context = format!("{} dropped after {polls} polls, between: {how:?}", kind.name);
    let mut sim = patient(Sim::from_image(base, polls as u64));
    let engine = sim.run(open(&sim, options(16, 2))).unwrap().unwrap();
    let trees: Vec<_> = NAMES.iter().filter_map(|name| engine.find_tree(name.as_bytes())).collect();
    let mut after = before.clone();
    apply(&mut after, &kind.ops).unwrap();

    let mut future = (kind.make)(Arc::clone(&engine), trees.clone());
    let mut over = false;
    for round in 0..polls {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => {
                outcome.unwrap_or_else(|error| panic!("{context}: {error}"));
                over = true;
                break;
            }
            Poll::Pending => between(&sim, &engine, &trees, how, round),
        }
    }
    drop(future);
    sim.settle().unwrap();

    let found = sim.run(async {
        let found = contents(&engine, &NAMES).await.unwrap();
        assert_clean(&engine, &context).await;
        if over || found != *before {
            assert_same(&found, &after, &context);
        }
        let goes_on = batch(&trees, &[Op::put(1, b"goes", b"on")]);
        engine.commit(goes_on, Durability::Durable).await.unwrap();
        assert!(engine.tree(b"made").await.is_ok());
        engine.close().await.unwrap();
        found
    });
    let mut found = found.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
    found[1].insert(b"goes".to_vec(), b"on".to_vec());
    let image = sim.disk().image_visible();
    sim.restart(&image, 3);
    let again = sim.run(async {
        let engine = open(&sim, options(16, 3)).await.unwrap();
        contents(&engine, &NAMES).await.unwrap()
    });
    assert_same(&again.unwrap(), &found, &context);
    over
}

#[test]
fn every_kind_of_future_dropped_after_every_poll() {
    let (base, model) = grown();
    let mut most = 0;
    for kind in kinds() {
        for how in [Between::Everything, Between::OneIo, Between::Load] {
            let mut polls = 0;
            while !drop_after(&kind, &base, &model, polls, how) {
                polls += 1 + polls / 12;
                assert!(polls < 2000, "{} does not end, between: {how:?}", kind.name);
            }
            most = most.max(polls);
        }
    }
    assert!(most > 20, "with so few polls this tests nothing: {most}");
}

/// An opening is the engine's own business: when its future is dropped, at whatever moment, it comes
/// to its end and is closed again. Then the lock of the folder (here a count) is free, and the next
/// opening finds everything.
#[test]
fn an_opening_dropped_at_any_moment_frees_the_folder() {
    let (base, model) = grown();
    for what in ["closed", "killed", "new"] {
        let image = match what {
            "closed" => Some(base.clone()),
            "killed" => Some(killed(&base)),
            _ => None,
        };
        let (mut moment, mut over) = (0, false);
        while !over {
            let context = format!("opening a {what} database dropped after {moment} moments");
            let sim = match &image {
                Some(image) => patient(Sim::from_image(image, moment)),
                None => machine(moment),
            };
            let folder = Arc::new(());
            let keep = Box::new(Arc::clone(&folder));
            let mut future =
                Box::pin(Engine::open(sim.disk(), sim.runtime(), options(16, 7), keep));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(future.as_mut().poll(&mut cx).is_pending());
            sim.run(async {
                for _ in 0..moment {
                    yield_now().await;
                }
            })
            .unwrap();
            if let Poll::Ready(engine) = future.as_mut().poll(&mut cx) {
                engine.unwrap_or_else(|error| panic!("{context}: {error}")).stop();
                over = true;
            }
            drop(future);
            // Some of the engine's tasks end with a timer.
            sim.run(sim.runtime().sleep(Duration::from_secs(1))).unwrap();
            sim.settle().unwrap();
            assert_eq!(Arc::strong_count(&folder), 1, "{context}: the folder is still locked");
            let found = sim.run(async {
                let engine = open(&sim, options(16, 8)).await.unwrap();
                assert_clean(&engine, &context).await;
                contents(&engine, &NAMES).await.unwrap()
            });
            let found = found.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
            if image.is_some() {
                assert_same(&found, &model, &context);
            }
            moment += 1 + moment / 10;
        }
        assert!(moment > 10, "opening a {what} database took {moment} moments");
    }
}

/// The database, after changes that came to nothing, and were not followed by a checkpoint.
fn killed(base: &SimImage) -> SimImage {
    let sim = patient(Sim::from_image(base, 9));
    sim.run(async {
        let engine = open(&sim, options(64, 9)).await.unwrap();
        let trees: Vec<_> =
            NAMES.iter().filter_map(|name| engine.find_tree(name.as_bytes())).collect();
        for number in 0..60 {
            let (key, value) = bulky(number);
            for value in [&value[1..], &value] {
                let ops = [Op::put(number % 2, &key, value)];
                engine.commit(batch(&trees, &ops), Durability::Durable).await.unwrap();
            }
        }
    })
    .unwrap();
    sim.disk().image_visible()
}
