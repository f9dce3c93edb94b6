//! Scans beside sixteen writers, under whom leaves split and merge all the time, return every key
//! that was there throughout, once, in order: ranges and cursors, forward and backward, prefixes, with
//! all pages in memory and with few, and beside compaction, which moves every page and merges more.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common::{Home, assert_sound, on_tokio, tiny};
use futures::TryStreamExt;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::{Database, Durability, Tree};

const WRITERS: u64 = 16;
/// Keys from first to last; every eighth is there throughout.
const KEYS: u32 = 4000;
const EVERY: u32 = 8;

fn key(number: u32) -> Vec<u8> {
    let mut key = format!("{number:05}").into_bytes();
    key.extend(std::iter::repeat_n(b'.', number as usize % 9 * 8));
    key
}

fn is_staying(key: &[u8]) -> bool {
    let number: u32 = std::str::from_utf8(&key[..5]).unwrap().parse().unwrap();
    number.is_multiple_of(EVERY)
}

fn staying(from: u32, to: u32) -> Vec<Vec<u8>> {
    (from..to).filter(|number| number.is_multiple_of(EVERY)).map(key).collect()
}

/// What the scans and writers of one run share.
#[derive(Clone)]
struct Run {
    db: Database,
    tree: Tree,
    over: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
}

impl Run {
    /// Writers overlap: each empties stretches as long as some leaves, and fills others. What stays
    /// is written, too, but never taken away: its value gets longer and shorter.
    async fn write(self, seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed);
        while !self.over.load(Ordering::Relaxed) {
            let from = rng.random_range(0..KEYS);
            let fill = rng.random::<bool>();
            for number in from..KEYS.min(from + 80) {
                let key = key(number);
                let value = vec![seed as u8; rng.random_range(0..70)];
                if fill || is_staying(&key) {
                    self.tree.put(key, value).durability(Durability::None).await.unwrap();
                } else {
                    self.tree.delete(key).durability(Durability::None).await.unwrap();
                }
                self.writes.fetch_add(1, Ordering::Relaxed);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn scan(self, kind: usize) {
        let backward = kind.is_multiple_of(2);
        let (mut met, mut from, mut to) = (Vec::new(), 0, KEYS);
        match kind % 6 {
            0 | 1 => {
                let range = self.tree.range(..);
                let mut range = if backward { range.rev() } else { range };
                while let Some(chunk) = range.next_chunk().await.unwrap() {
                    met.extend(chunk.iter().map(|(key, _)| key.to_vec()));
                    tokio::task::yield_now().await;
                }
            }
            2 | 3 => {
                let mut cursor = self.tree.cursor();
                loop {
                    let step = if backward { cursor.prev().await } else { cursor.next().await };
                    if !step.unwrap() {
                        break;
                    }
                    met.push(cursor.key().unwrap().to_vec());
                    if met.len().is_multiple_of(8) {
                        tokio::task::yield_now().await;
                    }
                }
            }
            _ => {
                (from, to) = (2000, 3000);
                let range = self.tree.prefix("02");
                let mut range = if backward { range.rev() } else { range };
                while let Some((key, _)) = range.try_next().await.unwrap() {
                    met.push(key.into_vec());
                }
            }
        }
        if backward {
            met.reverse();
        }
        assert!(met.is_sorted_by(|a, b| a < b), "in order, each once (scan {kind})");
        let mut skipped = staying(from, to);
        skipped.retain(|key| met.binary_search(key).is_err());
        assert_eq!(skipped, Vec::<Vec<u8>>::new(), "skipped by scan {kind}");
    }
}

async fn storm(frames: usize, rounds: usize, compact: bool) {
    let home = Home::new();
    let db = tiny(512, frames).open(&home.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    for key in staying(0, KEYS) {
        tree.put(key, [0; 10]).durability(Durability::None).await.unwrap();
    }
    let run = Run { db, tree, over: Arc::default(), writes: Arc::default() };
    let writers: Vec<_> = (0..WRITERS).map(|seed| tokio::spawn(run.clone().write(seed))).collect();
    for _ in 0..rounds {
        let scans: Vec<_> = (0..6).map(|kind| tokio::spawn(run.clone().scan(kind))).collect();
        if compact {
            run.db.compact().await.unwrap();
        }
        for scan in scans {
            scan.await.unwrap();
        }
    }
    run.over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(run.writes.load(Ordering::Relaxed) > 1000, "the writers did little");
    assert!(run.db.stats().merges > 0, "no page has merged");
    run.db.tidy().await.unwrap();
    assert_sound(&run.db).await;
    run.db.close().await.unwrap();
}

#[test]
fn t9_t16_j5_a_scan_beside_sixteen_writers_in_memory_skips_and_repeats_nothing() {
    on_tokio(4, "scans beside writers, all in memory", storm(4096, 12, false));
}

#[test]
fn t9_t16_j5_a_scan_beside_sixteen_writers_in_a_small_pool_skips_and_repeats_nothing() {
    on_tokio(4, "scans beside writers, in a small pool", storm(64, 2, false));
}

#[test]
fn t9_t16_j5_a_scan_beside_sixteen_writers_and_compaction_skips_and_repeats_nothing() {
    on_tokio(4, "scans beside writers and compaction", storm(1024, 3, true));
}
