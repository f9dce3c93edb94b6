//! Changes that are larger than the cache: big batches and range deletes hold at once, as a whole,
//! while other work goes on; dropped trees give their space back.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;

use crate::common::{Home, all, assert_sound, on_tokio, tiny};
use futures::executor::block_on;
use treering::{Database, Durability, ErrorKind, Tree};

const PAGE: usize = 512;
/// A cache of 32 KiB.
const FRAMES: usize = 64;

fn key(number: u32) -> Vec<u8> {
    format!("key {number:07}").into_bytes()
}

fn value(number: u32) -> Vec<u8> {
    vec![number as u8; 8 + number as usize % 30]
}

async fn open(home: &Home) -> (Database, Tree) {
    let db = tiny(PAGE, FRAMES).open(&home.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    (db, tree)
}

#[test]
fn a_batch_many_times_the_cache_and_the_logs_buffer_commits_as_one() {
    block_on(async {
        let home = Home::new();
        let (db, tree) = open(&home).await;
        let other = db.tree("u").await.unwrap();
        let mut model = BTreeMap::new();
        for number in (0..30_000).step_by(3) {
            tree.put(key(number), b"old").durability(Durability::None).await.unwrap();
            model.insert(key(number), b"old".to_vec());
        }
        let mut batch = db.batch();
        for number in (0..30_000).rev() {
            if number % 5 == 0 {
                batch.delete(&tree, key(number));
                model.remove(&key(number));
            } else {
                batch.put(&tree, key(number), b"overwritten below");
                batch.put(&tree, key(number), value(number));
                model.insert(key(number), value(number));
            }
            batch.put(&other, key(number), b"");
        }
        batch.commit().await.unwrap();
        // It holds, however much of it is in the pages.
        assert_eq!(tree.get(key(5)).await.unwrap(), None);
        assert_eq!(tree.get(key(29_999)).await.unwrap().as_deref(), Some(&value(29_999)[..]));
        assert_eq!(all(&tree).await, model.clone().into_iter().collect::<Vec<_>>());
        let mut back = tree.range(..).rev();
        let mut keys = Vec::new();
        while let Some(chunk) = back.next_chunk().await.unwrap() {
            keys.extend(chunk.iter().map(|(key, _)| key.to_vec()));
        }
        keys.reverse();
        assert_eq!(keys, model.keys().cloned().collect::<Vec<_>>());
        assert_sound(&db).await;
        drop((tree, other));
        db.close().await.unwrap();
        let (db, tree) = open(&home).await;
        assert_eq!(all(&tree).await, model.into_iter().collect::<Vec<_>>());
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

#[test]
fn t17_a_violated_condition_of_a_big_batch_is_named_and_nothing_is_changed() {
    block_on(async {
        let home = Home::new();
        let (db, tree) = open(&home).await;
        tree.put(key(20_000), b"there").await.unwrap();
        let space = db.stats().space;
        let mut batch = db.batch();
        for number in 0..30_000 {
            batch.insert(&tree, key(number), value(number));
        }
        let error = batch.commit().await.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::KeyExists, Some(20_000)));
        assert_eq!(all(&tree).await, [(key(20_000), b"there".to_vec())]);
        db.checkpoint().await.unwrap();
        db.checkpoint().await.unwrap();
        assert!(db.stats().space.used <= space.used + 8 * PAGE as u64, "its body is given back");
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

#[test]
fn a_range_is_gone_at_once_and_its_space_comes_back() {
    block_on(async {
        let home = Home::new();
        let (db, tree) = open(&home).await;
        let mut batch = db.batch();
        for number in 0..20_000 {
            batch.put(&tree, key(number), value(number));
        }
        batch.commit().await.unwrap();
        assert_sound(&db).await;
        let before = db.verify().await.unwrap().pages;
        tree.delete_range(key(100)..key(19_900)).await.unwrap();
        assert_eq!(tree.get(key(100)).await.unwrap(), None);
        assert!(tree.get(key(99)).await.unwrap().is_some());
        let keys: Vec<_> = all(&tree).await.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, (0..100).chain(19_900..20_000).map(key).collect::<Vec<_>>());
        tree.put(key(5_000), b"new").await.unwrap();
        assert_eq!(tree.get(key(5_000)).await.unwrap().as_deref(), Some(&b"new"[..]));
        assert_sound(&db).await;
        db.tidy().await.unwrap();
        let after = db.verify().await.unwrap().pages;
        assert!(after * 10 < before, "{after} of {before} pages");
        tree.delete_range(..).await.unwrap();
        assert!(all(&tree).await.is_empty());
        db.close().await.unwrap();
    });
}

/// Bounds longer than any key did not fit into the catalog, and the engine's task ended over them.
#[test]
fn a_range_is_deleted_whatever_the_length_of_its_bounds() {
    on_tokio(2, "a range with long bounds", async {
        let home = Home::new();
        let (mut db, mut tree) = open(&home).await;
        let longest = PAGE / 4;
        let keys = [vec![b'a'], vec![b'k'; longest], vec![b'l'; longest], vec![b'z'; longest]];
        for len in [longest, longest + 1, longest + 2, PAGE, 100_000] {
            let bounds = [b'j', b'k', b'l', b'z'].map(|byte| vec![byte; len]);
            for from in &bounds {
                for to in &bounds {
                    let mut expected: BTreeMap<_, _> =
                        keys.iter().map(|key| (key.clone(), b"value".to_vec())).collect();
                    for key in &keys {
                        tree.put(key, b"value").durability(Durability::None).await.unwrap();
                    }
                    tree.delete_range(from..to).await.unwrap();
                    expected.retain(|key, _| !(from..to).contains(&key));
                    assert!(all(&tree).await.into_iter().eq(expected), "{len} {from:?} {to:?}");
                }
            }
            assert_sound(&db).await;
            drop((tree, db));
            (db, tree) = open(&home).await;
        }
        db.close().await.unwrap();
    });
}

#[test]
fn a_dropped_tree_is_gone_its_space_comes_back_and_its_name_is_free() {
    block_on(async {
        let home = Home::new();
        let (db, tree) = open(&home).await;
        let kept = db.tree("kept").await.unwrap();
        kept.put("k", "v").await.unwrap();
        let mut batch = db.batch();
        for number in 0..20_000 {
            batch.put(&tree, key(number), value(number));
        }
        batch.commit().await.unwrap();
        db.drop_tree("t").await.unwrap();
        assert_eq!(db.drop_tree("t").await.unwrap_err().kind(), ErrorKind::NoSuchTree);
        assert_eq!(tree.get(key(1)).await.unwrap_err().kind(), ErrorKind::NoSuchTree);
        assert_eq!(tree.put(key(1), b"").await.unwrap_err().kind(), ErrorKind::NoSuchTree);
        let again = db.tree("t").await.unwrap();
        assert!(all(&again).await.is_empty());
        again.put("a", "b").await.unwrap();
        // Reopening goes on with what is left.
        drop((tree, kept, again));
        db.close().await.unwrap();
        let (db, again) = open(&home).await;
        assert_eq!(all(&again).await, [(b"a".to_vec(), b"b".to_vec())]);
        for _ in 0..50 {
            if db.verify().await.unwrap().pages <= 3 {
                break;
            }
            db.tidy().await.unwrap();
        }
        let report = db.verify().await.unwrap();
        assert_eq!(report.pages, 3, "the roots of the catalog and of two trees: {report:?}");
        assert_sound(&db).await;
        let compacted = db.compact().await.unwrap();
        assert!(compacted.after < 128 * PAGE as u64, "{compacted:?}");
        db.close().await.unwrap();
    });
}

#[test]
fn other_work_goes_on_beside_big_batches() {
    let home = Home::new();
    on_tokio(4, "big batches beside single writes", async {
        let (db, tree) = open(&home).await;
        let mut tasks = Vec::new();
        for id in 0..4u32 {
            let tree = tree.clone();
            tasks.push(tokio::spawn(async move {
                // Keys of their own, and the same keys as the batches'.
                for round in 0..300u32 {
                    let own = format!("own {id} {round}");
                    tree.put(&own, b"x").durability(Durability::None).await.unwrap();
                    let shared = key(round * 7 % 5_000);
                    let value = format!("task {id} {round}");
                    tree.put(&shared, &value).durability(Durability::None).await.unwrap();
                    assert!(tree.get(&own).await.unwrap().is_some());
                }
            }));
        }
        for round in 0..6u32 {
            let mut batch = db.batch();
            for number in 0..5_000 {
                batch.put(&tree, key(number), format!("batch {round}"));
            }
            batch.commit().durability(Durability::None).await.unwrap();
        }
        for task in tasks {
            task.await.unwrap();
        }
        let pairs = all(&tree).await;
        assert_eq!(pairs.len(), 5_000 + 4 * 300);
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

/// A batch that is too large for one step asks that a key be absent. Whoever makes that key before the
/// batch holds makes it fail: nobody gets in between the answer and the commit.
#[test]
fn t17_what_a_big_batch_asks_about_stays_so_until_it_holds() {
    on_tokio(2, "a batch and an insert that exclude each other", async {
        let home = Home::new();
        // The smallest pool: all that the batch looks at has to be read.
        let db = tiny(PAGE, 16).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        for number in 0..4000 {
            tree.put(key(number), b"old").durability(Durability::None).await.unwrap();
        }
        let mut held = [0; 2];
        for round in 0..60 {
            let (asked, made) = (format!("{round} asked"), format!("{round} made"));
            let mut large = db.batch();
            large.require_absent(&tree, &asked).put(&tree, &made, "");
            for number in (0..4000).step_by(20) {
                large.put(&tree, key(number), value(number + round));
            }
            let large = tokio::spawn(large.commit().durability(Durability::None).into_future());
            // The moments differ from round to round.
            for _ in 0..round % 15 {
                tree.put("meanwhile", "").await.unwrap();
            }
            tree.insert(&asked, "").durability(Durability::None).await.unwrap();
            let first = tree.contains(&made).await.unwrap();
            let result = large.await.unwrap();
            match &result {
                Ok(_) => assert!(first, "round {round}: it held only after what it forbids"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::KeyExists, "{error}"),
            }
            assert_eq!(tree.contains(&made).await.unwrap(), result.is_ok());
            held[usize::from(result.is_ok())] += 1;
        }
        assert!(held.iter().all(|rounds| *rounds > 0), "{held:?}");
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}
