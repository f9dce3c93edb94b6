//! What has to hold when the work is over, on a disk that is still as full as it was.

use std::sync::Arc;

use treering_pagefile::sim::{Sim, SimImage};
use treering_txn::Durability;

use super::work::{Work, assert_helpful};
use super::{FRAMES, full};
use crate::engine_support::{MAX_RECORD, Op, open, options, patient};

pub(super) async fn everything_holds(sim: &Sim, mut work: Work<'_>, context: &str) {
    let engine = Arc::clone(&work.engine);
    work.check(&engine, "on the full disk").await;
    engine.sync().await.unwrap_or_else(|e| panic!("{context}: a sync: {e}"));

    // On another machine the power fails here, and the disk is full when it is back.
    let disk = sim.disk();
    let images = [disk.image_by_seed(1), disk.image_visible()];
    for image in images {
        reopened(&image, &work, context).await;
    }
    room_comes_back(&mut work, context).await;

    disk.clear_faults();
    disk.set_capacity(u64::MAX);
    puts(&mut work, "with room", 60, context).await;
    work.at_the_same_time().await;
    work.delete_range().await;
    work.check(&engine, "with room").await;
    engine.close().await.unwrap_or_else(|e| panic!("{context}: closing: {e}"));
    let engine = open(sim, options(FRAMES, 77)).await.unwrap();
    work.check(&engine, "opened with room").await;
    engine.close().await.unwrap();
}

/// Opens what a power loss has left; nothing more can be had from that disk.
async fn reopened(image: &SimImage, work: &Work<'_>, context: &str) {
    let sim = patient(Sim::from_image(image, 5));
    sim.disk().set_capacity(sim.disk().space_used());
    let run = sim.run(async {
        let engine = open(&sim, options(FRAMES, 99)).await;
        let engine = engine.unwrap_or_else(|e| panic!("{context}: opening the full disk: {e}"));
        work.check(&engine, "opened on the full disk").await;
        // It does not grow by being opened.
        let tree = engine.trees().first().map(|info| info.tree);
        if let Some(tree) = tree {
            let mut batch = treering_txn::Batch::new();
            batch.push(tree, treering_txn::OpKind::Delete, b"no such key", b"");
            engine.commit(batch, Durability::Durable).await.unwrap();
        }
        engine.close().await.unwrap_or_else(|e| panic!("{context}: closing a full disk: {e}"));
    });
    run.unwrap_or_else(|stalled| panic!("{context}, opened on the full disk: {stalled}"));
}

/// Fills what is left, deletes most of it, in each way there is, and fills it again.
async fn room_comes_back(work: &mut Work<'_>, context: &str) {
    let engine = Arc::clone(&work.engine);
    let Some(name) = work.model.iter().max_by_key(|(_, map)| map.len()).map(|(name, _)| name)
    else {
        return;
    };
    let name = name.clone();
    // Until it is full, if it is at all: 2000 such leaves are more than any of the disks has.
    let (mut put, mut refused) = (0, 0);
    while refused < 3 && put < 120 {
        let key = format!("fill {put:05}").into_bytes();
        let value = vec![3; MAX_RECORD - key.len()];
        match work.commit(&name, &[Op::put(0, &key, &value)]).await {
            Ok(_) => drop(work.model.get_mut(&name).unwrap().insert(key, value)),
            Err(error) => {
                assert!(full(&error), "{context}: filling the disk: {error}");
                assert_helpful(&error, context);
                refused += 1;
            }
        }
        put += 1;
    }
    work.delete_range().await;
    for _ in 0..2 {
        work.at_the_same_time().await;
    }
    // All that a tree has: one by one, a few together, many together.
    let mut keys: Vec<Vec<u8>> = work.model[&name].keys().cloned().collect();
    let gone = keys.len();
    for at_once in [1, 3, 50] {
        let rest = keys.split_off(keys.len().min(if at_once == 50 { 1000 } else { 20 }));
        for lot in keys.chunks(at_once) {
            work.delete(&name, lot).await;
        }
        keys = rest;
    }
    engine.tidy().await.unwrap_or_else(|e| panic!("{context}: tidying: {e}"));
    engine.checkpoint().await.unwrap_or_else(|e| panic!("{context}: a checkpoint: {e}"));
    work.check(&engine, "after deleting").await;
    // A part of it, and it may take other pages.
    puts(work, "after deleting", gone.min(40) / 4, context).await;
}

/// Puts that have to succeed.
async fn puts(work: &mut Work<'_>, what: &str, count: usize, context: &str) {
    let Some((name, _)) = work.model.iter().max_by_key(|(_, map)| map.len()) else { return };
    let name = name.clone();
    for number in 0..count {
        let (key, value) = (format!("{what} {number:04}").into_bytes(), vec![4; 100]);
        let put = work.commit(&name, &[Op::put(0, &key, &value)]).await;
        put.unwrap_or_else(|e| panic!("{context}: put {number} of {count} {what}: {e}"));
        work.model.get_mut(&name).unwrap().insert(key, value);
    }
}
