//! Cursors and ranges beside writers that split leaves and empty them all the time: a key that is
//! there all along is never skipped and never returned twice, in either direction.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{Home, assert_sound, on_tokio, tiny};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::{Database, Durability, Tree};

/// Keys that stay: every tenth.
const STEADY: u32 = 400;
const WRITERS: u64 = 6;
const WALKERS: usize = 6;
/// The walks go on until the writers have written so often.
const WRITES: u64 = 30_000;

fn key(number: u32) -> Vec<u8> {
    format!("{number:06}").into_bytes()
}

fn is_steady(key: &[u8]) -> bool {
    key.ends_with(b"0")
}

/// Fills and empties the gaps between the steady keys, stretch by stretch, so that leaves split and
/// become empty.
async fn write(tree: Tree, seed: u64, writes: Arc<AtomicU64>) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while writes.load(Ordering::Relaxed) < WRITES {
        let from = rng.random_range(0..STEADY * 10);
        let fill = rng.random::<bool>();
        for number in from..from + 60 {
            if is_steady(&key(number)) {
                continue;
            }
            if fill {
                let value = vec![0; rng.random_range(0..60)];
                tree.put(key(number), value).durability(Durability::None).await.unwrap();
            } else {
                tree.delete(key(number)).durability(Durability::None).await.unwrap();
            }
            writes.fetch_add(1, Ordering::Relaxed);
        }
        tokio::task::yield_now().await;
    }
}

fn steady() -> Vec<Vec<u8>> {
    (0..STEADY).map(|number| key(number * 10)).collect()
}

/// What was met on a walk: strictly in order, and every steady key once.
fn check(mut met: Vec<Vec<u8>>, backward: bool) {
    if backward {
        met.reverse();
    }
    assert!(met.is_sorted_by(|a, b| a < b), "in order, each once");
    met.retain(|key| is_steady(key));
    assert_eq!(met, steady());
}

async fn walk(tree: Tree, mut number: usize, writes: Arc<AtomicU64>) {
    while writes.load(Ordering::Relaxed) < WRITES {
        walk_once(&tree, number.is_multiple_of(2)).await;
        number += 1;
    }
}

async fn walk_once(tree: &Tree, backward: bool) {
    let (mut cursor, mut met) = (tree.cursor(), Vec::new());
    loop {
        let more = if backward { cursor.prev().await } else { cursor.next().await };
        if !more.unwrap() {
            break;
        }
        met.push(cursor.key().unwrap().to_vec());
        // What is in memory never waits, and the writers are to have their turns.
        if met.len().is_multiple_of(16) {
            tokio::task::yield_now().await;
        }
    }
    check(met, backward);
    let mut range = tree.range(..);
    if backward {
        range = range.rev();
    }
    let mut met = Vec::new();
    while let Some(chunk) = range.next_chunk().await.unwrap() {
        met.extend(chunk.iter().map(|(key, _)| key.to_vec()));
        tokio::task::yield_now().await;
    }
    check(met, backward);
}

async fn storm(frames: usize) {
    let home = Home::new();
    let db: Database = tiny(512, frames).open(&home.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    for key in steady() {
        tree.put(key, [1; 10]).durability(Durability::None).await.unwrap();
    }
    let writes = Arc::new(AtomicU64::new(0));
    let writers =
        (0..WRITERS).map(|seed| tokio::spawn(write(tree.clone(), seed, Arc::clone(&writes))));
    let writers: Vec<_> = writers.collect();
    let walkers =
        (0..WALKERS).map(|walker| tokio::spawn(walk(tree.clone(), walker, Arc::clone(&writes))));
    for walker in walkers.collect::<Vec<_>>() {
        walker.await.unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_sound(&db).await;
}

#[test]
fn t16_no_steady_key_is_skipped_or_met_twice_beside_writers() {
    on_tokio(4, "walks beside writers, all in memory", storm(4096));
}

#[test]
fn t16_no_steady_key_is_skipped_or_met_twice_with_few_frames() {
    on_tokio(4, "walks beside writers, in a small pool", storm(64));
}
