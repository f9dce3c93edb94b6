//! Deletes give space back: pages that they leave underfull borrow from a sibling or merge with it,
//! beside everything else that goes on, and trees get lower again.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Home, all, assert_sound, on_tokio, tiny};
use futures::executor::block_on;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::{Database, Durability, Tree};

const PAGE: usize = 512;

async fn load(db: &Database, tree: &Tree, numbers: impl Iterator<Item = u32>) {
    let mut batch = db.batch();
    for (index, number) in numbers.enumerate() {
        batch.put(tree, key(number), value(number));
        if index % 50 == 49 {
            let full = std::mem::replace(&mut batch, db.batch());
            full.commit().durability(Durability::None).await.unwrap();
        }
    }
    batch.commit().durability(Durability::None).await.unwrap();
}

fn key(number: u32) -> Vec<u8> {
    // Of different lengths, so that separators are, too.
    let mut key = format!("{number:08}").into_bytes();
    key.extend(std::iter::repeat_n(b'-', number as usize % 7 * 9));
    key
}

fn value(number: u32) -> Vec<u8> {
    vec![number as u8; number as usize % 40]
}

async fn pages(db: &Database) -> (u64, u8) {
    let report = db.verify().await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    (report.pages, report.height)
}

#[test]
fn t8_t13_t14_p5_p6_j4_deleting_everything_leaves_one_leaf_and_the_space_comes_back() {
    block_on(async {
        let home = Home::new();
        let db = tiny(PAGE, 256).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        db.checkpoint().await.unwrap();
        let empty = pages(&db).await;
        load(&db, &tree, 0..20_000).await;
        let full = pages(&db).await;
        assert!(full.0 > 1000 && full.1 >= 4, "{full:?}");
        let mut rng = SmallRng::seed_from_u64(1);
        let mut left: Vec<u32> = (0..20_000).collect();
        while !left.is_empty() {
            let number = left.swap_remove(rng.random_range(0..left.len()));
            assert!(tree.delete(key(number)).durability(Durability::None).await.unwrap());
        }
        db.tidy().await.unwrap();
        assert_eq!(pages(&db).await, empty, "a root that is a leaf, and the catalog");
        assert!(db.stats().merges > 0);
        // Two checkpoints: what the first replaced is free after the second.
        db.checkpoint().await.unwrap();
        db.checkpoint().await.unwrap();
        let space = db.stats().space;
        assert!(space.used < full.0 * PAGE as u64 / 10, "{space:?}");
        load(&db, &tree, 0..20_000).await;
        assert_eq!(db.stats().space.file, space.file, "what was free is used again");
        assert_sound(&db).await;
        for number in 0..20_000 {
            tree.delete(key(number)).durability(Durability::None).await.unwrap();
        }
        let compacted = db.compact().await.unwrap();
        assert!(compacted.after <= (64 + 32) * PAGE as u64, "{compacted:?} {:?}", db.stats().space);
        let len = std::fs::metadata(home.path.join("pages")).unwrap().len();
        assert!(len <= (64 + 32) * PAGE as u64, "superblocks and a few pages: {len}");
        assert_eq!(pages(&db).await, empty);
        db.close().await.unwrap();
    });
}

#[test]
fn p5_after_ninety_percent_are_deleted_at_random_a_quarter_of_the_pages_is_enough() {
    block_on(async {
        let home = Home::new();
        let db = tiny(PAGE, 512).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        load(&db, &tree, 0..30_000).await;
        let full = pages(&db).await.0;
        let mut rng = SmallRng::seed_from_u64(7);
        let mut model = BTreeMap::new();
        for number in 0..30_000 {
            if rng.random_range(0..10) == 0 {
                model.insert(key(number), value(number));
            } else {
                tree.delete(key(number)).durability(Durability::None).await.unwrap();
            }
        }
        db.tidy().await.unwrap();
        let (left, _) = pages(&db).await;
        assert!(left * 4 < full, "{left} of {full} pages");
        assert_eq!(all(&tree).await, model.into_iter().collect::<Vec<_>>());
        db.close().await.unwrap();
    });
}

#[test]
fn t14_readers_writers_and_scans_go_on_while_pages_merge_under_them() {
    let home = Home::new();
    on_tokio(4, "deletes and inserts beside scans", async {
        let db = tiny(PAGE, 96).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        // Every tenth key stays for good.
        load(&db, &tree, 0..6_000).await;
        let staying: Arc<Vec<u32>> = Arc::new((0..6_000).step_by(10).collect());
        let done = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for id in 0..4 {
            let (db, tree) = (db.clone(), tree.clone());
            writers.push(tokio::spawn(async move {
                let mut rng = SmallRng::seed_from_u64(id);
                for _ in 0..6 {
                    // A stretch goes and comes back, so that pages merge and split.
                    let from = rng.random_range(0..5_000);
                    for number in (from..from + 1_000).filter(|number| number % 10 != 0) {
                        tree.delete(key(number)).durability(Durability::None).await.unwrap();
                    }
                    let back = (from..from + 1_000).filter(|number| number % 10 != 0);
                    load(&db, &tree, back).await;
                }
            }));
        }
        let mut readers = Vec::new();
        for backward in [false, true] {
            let (tree, done, staying) = (tree.clone(), Arc::clone(&done), Arc::clone(&staying));
            readers.push(tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let range = tree.range(..);
                    let mut range = if backward { range.rev() } else { range };
                    let mut seen: Vec<Vec<u8>> = Vec::new();
                    while let Some(chunk) = range.next_chunk().await.unwrap() {
                        seen.extend(chunk.iter().map(|(key, _)| key.to_vec()));
                        tokio::task::yield_now().await;
                    }
                    if backward {
                        seen.reverse();
                    }
                    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "once, and in order");
                    let there: Vec<_> = staying.iter().map(|&number| key(number)).collect();
                    let all_there = there.iter().all(|key| seen.binary_search(key).is_ok());
                    assert!(all_there, "a key that was there all along was skipped");
                }
            }));
        }
        let (reader, stop) = (tree.clone(), Arc::clone(&done));
        let kept = Arc::clone(&staying);
        readers.push(tokio::spawn(async move {
            let mut rng = SmallRng::seed_from_u64(99);
            while !stop.load(Ordering::Relaxed) {
                let number = kept[rng.random_range(0..kept.len())];
                let there = reader.get(key(number)).await.unwrap();
                assert_eq!(there.as_deref(), Some(&value(number)[..]));
            }
        }));
        for writer in writers {
            writer.await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.unwrap();
        }
        assert!(db.stats().merges > 0);
        db.tidy().await.unwrap();
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}
