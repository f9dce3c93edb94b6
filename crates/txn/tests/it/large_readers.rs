//! Reading large values beside those who overwrite and delete them: what is read is one value or
//! another, whole, and never a mixture; parts of it are parts of one; and what a stream has begun it
//! goes on with, or says that the value was replaced.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine_support::{
    Op, Rng, assert_clean, batch, machine, open, options, scan_all, seeds,
};
use futures::future::{join, join_all};
use treering_blink::{Direction, TreeRef};
use treering_pagefile::sim::Sim;
use treering_txn::{Durability, Engine, Error, OpKind};

const KEYS: usize = 3;

/// A value that tells whether it is whole: its length and all its bytes follow from one number.
fn value(number: u64) -> Vec<u8> {
    let len = 200 + Rng::new(number).below(20_000);
    let mut rng = Rng::new(number);
    let mut bytes = number.to_le_bytes().to_vec();
    while bytes.len() < len {
        bytes.extend(rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn assert_whole(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == value(number), "a mixture of {} bytes", bytes.len());
    number
}

fn key(rng: &mut Rng) -> Vec<u8> {
    vec![b'k', b'0' + rng.below(KEYS) as u8]
}

async fn write(engine: &Arc<Engine>, tree: TreeRef, mut rng: Rng, next: &AtomicU64) {
    for _ in 0..60 {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let mut op = Op::put(0, &key(&mut rng), &value(number));
        if rng.chance(20) {
            op.kind = OpKind::Delete;
        }
        engine.commit(batch(&[tree], &[op]), Durability::None).await.unwrap();
        if rng.chance(30) {
            engine.checkpoint().await.unwrap();
        }
    }
}

async fn read(sim: &Sim, engine: &Arc<Engine>, tree: TreeRef, mut rng: Rng) -> usize {
    let mut seen = 0;
    for _ in 0..80 {
        // Whoever finds no key would be done before anybody has written one.
        sim.runtime().sleep(Duration::from_micros(rng.next() % 300)).await;
        let key = key(&mut rng);
        match rng.below(5) {
            0 => {
                for (_, bytes) in scan_all(engine, tree, Direction::Forward).await.unwrap() {
                    assert_whole(&bytes);
                }
            }
            1 => {
                let keys: Vec<_> = (0..KEYS).map(|at| vec![b'k', b'0' + at as u8]).collect();
                let values = Arc::clone(engine).get_many(tree, &keys).await.unwrap();
                for bytes in values.iter().flatten() {
                    assert_whole(bytes);
                    seen += 1;
                }
            }
            2 => {
                let (from, len) = (rng.below(600) as u64, rng.below(3000) as u64);
                let part = Arc::clone(engine).get_range(tree, &key, 0..from + len).await.unwrap();
                if let Some(part) = part {
                    let number = u64::from_le_bytes(part[..8].try_into().unwrap());
                    let whole = value(number);
                    let end = whole.len().min((from + len) as usize);
                    assert!(part == whole[..end], "a part of a mixture");
                }
            }
            3 => {
                let Some(mut reader) = engine.read_stream(tree, &key).await.unwrap() else {
                    continue;
                };
                let (len, mut bytes) = (reader.len(), Vec::new());
                let ended = loop {
                    match reader.next().await {
                        Ok(Some(part)) => bytes.extend(part),
                        Ok(None) => break true,
                        Err(Error::Replaced) => break false,
                        Err(error) => panic!("{error}"),
                    }
                };
                if ended {
                    assert_eq!(bytes.len() as u64, len);
                    assert_whole(&bytes);
                }
            }
            _ => {
                let got = Arc::clone(engine).get(tree, &key).await.unwrap();
                seen += got.map(|bytes| assert_whole(&bytes)).into_iter().count();
            }
        }
    }
    seen
}

#[test]
fn readers_beside_writers_see_whole_values() {
    for seed in seeds(0, 6) {
        let sim = machine(seed);
        let run = sim.run(async {
            let engine = open(&sim, options(32, seed)).await.unwrap();
            let tree = engine.tree(b"t").await.unwrap();
            let next = AtomicU64::new(100);
            for at in 0..KEYS {
                let op = Op::put(0, &[b'k', b'0' + at as u8], &value(at as u64));
                engine.commit(batch(&[tree], &[op]), Durability::None).await.unwrap();
            }
            let rng = Rng::new(seed);
            let reseeded = |by: u64| Rng::new(rng.clone().next() ^ by);
            let writers = (0..2).map(|at| write(&engine, tree, reseeded(at), &next));
            let readers = (10..13).map(|at| read(&sim, &engine, tree, reseeded(at)));
            let checks = async {
                for _ in 0..4 {
                    assert_clean(&engine, &format!("seed {seed}, beside writers")).await;
                }
            };
            let (_, (seen, _)) = join(join_all(writers), join(join_all(readers), checks)).await;
            assert!(seen.iter().sum::<usize>() > 50, "{seen:?}");
            assert_clean(&engine, &format!("seed {seed}")).await;
            engine.close().await.unwrap();
        });
        run.unwrap_or_else(|stalled| panic!("seed {seed}: {stalled}"));
    }
}
