//! Librarian slots beneath a whole engine: large leaves with small records have fillers, and nobody
//! sees them in gets, scans of both directions, deletes, merges, counts, and after opening again.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;

use crate::common::{Home, all, assert_sound, on_tokio, tiny};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::{Database, Durability, Gap, Tree, TreeOptions};

const PAGE: usize = 32 << 10;

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// How many leaves in the page file are flagged to have gaps: their level is 0, and bit 2 of the
/// flags is set.
fn leaves_with_gaps(home: &Home) -> usize {
    let bytes = std::fs::read(home.path.join("pages")).unwrap();
    bytes.chunks_exact(PAGE).filter(|page| page[20] == 0 && page[21] & 4 != 0).count()
}

/// Random puts, `deletes` in a hundred of them deletes, in batches.
async fn churn(db: &Database, tree: &Tree, model: &mut Pairs, rng: &mut SmallRng, deletes: u32) {
    for _ in 0..60 {
        let mut batch = db.batch();
        let mut changes = Pairs::new();
        let mut gone = Vec::new();
        for _ in 0..100 {
            if rng.random_ratio(deletes, 100)
                && let Some((key, _)) = model.range(random_key(rng)..).next()
                && !gone.contains(key)
            {
                gone.push(key.clone());
            } else {
                let len = rng.random_range(0..6);
                changes.insert(random_key(rng), vec![rng.random(); len]);
            }
        }
        gone.retain(|key| !changes.contains_key(key));
        for (key, value) in &changes {
            batch.put(tree, key, value);
        }
        for key in &gone {
            batch.delete(tree, key);
            model.remove(key);
        }
        model.extend(changes);
        batch.commit().durability(Durability::None).await.unwrap();
    }
}

fn random_key(rng: &mut SmallRng) -> Vec<u8> {
    rng.random_range(0..40_000u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec()
}

async fn assert_is(db: &Database, tree: &Tree, model: &Pairs, rng: &mut SmallRng) {
    assert_sound(db).await;
    assert_eq!(db.verify().await.unwrap().keys, model.len() as u64);
    assert!(all(tree).await.into_iter().eq(model.clone()));
    let mut backward = Vec::new();
    let mut range = tree.range(..).rev();
    while let Some(chunk) = range.next_chunk().await.unwrap() {
        backward.extend(chunk.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
    assert!(backward.into_iter().eq(model.clone().into_iter().rev()));
    assert_cursor_walks(tree, model).await;
    for _ in 0..200 {
        let key = random_key(rng);
        let found = tree.get(&key).await.unwrap();
        assert_eq!(found.as_deref(), model.get(&key).map(Vec::as_slice));
        let end = random_key(rng).max(key.clone());
        let mut range = tree.range(&key[..]..&end[..]);
        let mut pairs = Vec::new();
        while let Some(chunk) = range.next_chunk().await.unwrap() {
            pairs.extend(chunk.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
            if pairs.len() > 500 {
                break;
            }
        }
        let expected = model.range(key..end).map(|(key, value)| (key.clone(), value.clone()));
        assert!(pairs.iter().cloned().eq(expected.take(pairs.len())));
    }
}

/// Step by step, forward and backward, and back and forth in the middle.
async fn assert_cursor_walks(tree: &Tree, model: &Pairs) {
    let keys: Vec<&Vec<u8>> = model.keys().collect();
    let mut cursor = tree.cursor();
    let mut there = cursor.first().await.unwrap();
    for (index, key) in keys.iter().enumerate() {
        assert!(there, "it ends before {key:?}");
        assert_eq!(cursor.entry().unwrap().0, &key[..]);
        if index > 0 {
            assert!(cursor.prev().await.unwrap());
            assert_eq!(cursor.entry().unwrap().0, &keys[index - 1][..]);
            assert!(cursor.next().await.unwrap());
        }
        there = cursor.next().await.unwrap();
    }
    assert!(!there, "it goes on behind the last key");
    there = cursor.last().await.unwrap();
    for key in keys.iter().rev() {
        assert!(there, "it ends before {key:?}");
        assert_eq!(cursor.entry().unwrap().0, &key[..]);
        there = cursor.prev().await.unwrap();
    }
    assert!(!there, "it goes on before the first key");
}

#[test]
fn t12_a_tree_of_large_leaves_with_fillers_agrees_with_a_map() {
    on_tokio(1, "large leaves", async {
        let home = Home::new();
        let mut rng = SmallRng::seed_from_u64(12);
        let mut model = Pairs::new();
        let db = tiny(PAGE, 64).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        for deletes in [0, 20, 60] {
            churn(&db, &tree, &mut model, &mut rng, deletes).await;
            assert_is(&db, &tree, &model, &mut rng).await;
        }
        db.checkpoint().await.unwrap();
        assert!(leaves_with_gaps(&home) > 2, "otherwise this shows nothing");
        db.close().await.unwrap();
        let db = tiny(PAGE, 64).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        assert_is(&db, &tree, &model, &mut rng).await;
        // Nearly everything goes: leaves with fillers merge.
        let before = db.verify().await.unwrap().pages;
        for (index, key) in model.keys().cloned().collect::<Vec<_>>().iter().enumerate() {
            if index % 12 != 0 {
                model.remove(key);
                assert!(tree.delete(key).durability(Durability::None).await.unwrap());
            }
        }
        db.tidy().await.unwrap();
        assert_is(&db, &tree, &model, &mut rng).await;
        assert!(db.verify().await.unwrap().pages < before);
        db.close().await.unwrap();
    });
}

/// How many fillers a tree has after some puts.
async fn fillers(db: &Database, name: &str, seed: u64) -> usize {
    let tree = db.tree(name).await.unwrap();
    let mut rng = SmallRng::seed_from_u64(seed);
    churn(db, &tree, &mut Pairs::new(), &mut rng, 0).await;
    let mut pages = db.structure(name).unwrap().unwrap();
    let mut fillers = 0;
    while let Some(page) = pages.next().await.unwrap() {
        fillers += page.slots - page.live;
    }
    fillers
}

/// Leaves of 4 KiB get no fillers by themselves; a tree may have its own say, which is kept.
#[test]
fn t12_a_tree_keeps_the_gap_that_it_was_made_with() {
    on_tokio(1, "gaps by tree", async {
        let home = Home::new();
        let db = tiny(4096, 64).open(&home.path).await.unwrap();
        for (name, gap) in [("auto", Gap::Auto), ("none", Gap::None), ("some", Gap::OneIn(3))] {
            db.tree_with(name, TreeOptions::new().gap(gap)).await.unwrap();
        }
        assert_eq!(fillers(&db, "auto", 1).await, 0);
        assert_eq!(fillers(&db, "none", 1).await, 0);
        assert!(fillers(&db, "some", 1).await > 100);
        db.close().await.unwrap();
        let db = tiny(4096, 64).open(&home.path).await.unwrap();
        assert_eq!(fillers(&db, "auto", 2).await, 0);
        assert!(fillers(&db, "some", 2).await > 100);
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}
