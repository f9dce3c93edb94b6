//! Bulk loads while others write to the same tree, on real threads and with a cache far smaller than
//! what is loaded: nobody's keys are lost, whoever comes first.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Home, all, assert_sound, on_tokio, tiny};
use treering::{Durability, Error, ErrorKind, LoadReport, Tree};

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Every key whose number leaves `rest` when divided by 3.
fn pairs(count: u32, rest: u32) -> Pairs {
    let number = |n: u32| (n * 3 + rest).to_be_bytes().to_vec();
    (0..count).map(|n| (number(n), vec![rest as u8; 10 + n as usize % 90])).collect()
}

async fn load(tree: &Tree, pairs: &Pairs) -> Result<LoadReport, Error> {
    let mut loader = tree.load();
    for (key, value) in pairs {
        loader.put(key, value).await?;
    }
    loader.finish().await
}

#[test]
fn what_a_writer_puts_while_a_load_runs_is_there_beside_what_was_loaded() {
    let mut at_once = [0, 0];
    for round in 0..8 {
        let home = Home::new();
        on_tokio(2, "a load beside a writer", async {
            let db = tiny(1024, 256).load_memory(64 << 10).open(&home.path).await.unwrap();
            let tree = db.tree("t").await.unwrap();
            let ended = Arc::new(AtomicBool::new(false));
            let (began, begun) = tokio::sync::oneshot::channel();
            let writer = tokio::spawn({
                let (tree, ended) = (tree.clone(), Arc::clone(&ended));
                async move {
                    let (mut written, mut began) = (Pairs::new(), Some(began));
                    // Every other time the load's end comes before the first write.
                    while round % 2 == 1 && !ended.load(Ordering::SeqCst) {
                        tokio::task::yield_now().await;
                    }
                    for number in 0u32.. {
                        let (key, value) = ((number * 3 + 1).to_be_bytes(), number.to_le_bytes());
                        tree.put(key, value).durability(Durability::None).await.unwrap();
                        written.insert(key.to_vec(), value.to_vec());
                        began.take().map(|began| began.send(()));
                        if ended.load(Ordering::SeqCst) && written.len() > 20 {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                    written
                }
            });
            let loaded = pairs(20_000, 0);
            let mut loader = tree.load();
            for (key, value) in &loaded {
                loader.put(key, value).await.unwrap();
            }
            if round % 2 == 0 {
                begun.await.unwrap();
            }
            let report = loader.finish().await.unwrap();
            ended.store(true, Ordering::SeqCst);
            let mut expected = writer.await.unwrap();
            expected.extend(loaded);
            assert_eq!(report.keys, 20_000);
            at_once[usize::from(report.at_once)] += 1;
            assert!(all(&tree).await.into_iter().eq(expected));
            assert_sound(&db).await;
            db.close().await.unwrap();
        });
    }
    assert_eq!(at_once, [4, 4]);
}

#[test]
fn two_loads_at_once_both_end_up_in_the_tree() {
    let home = Home::new();
    on_tokio(2, "two loads at once", async {
        let db = tiny(512, 128).load_memory(64 << 10).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let (a, b) = (pairs(15_000, 0), pairs(15_000, 2));
        let (first, second) = futures::join!(load(&tree, &a), load(&tree, &b));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(first.at_once != second.at_once, "{first:?}, {second:?}");
        assert!(all(&tree).await.into_iter().eq(a.into_iter().chain(b).collect::<Pairs>()));
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

#[test]
fn a_load_through_a_cache_of_64_pages() {
    let home = Home::new();
    on_tokio(2, "a load through a small cache", async {
        let db = tiny(4096, 64).load_memory(256 << 10).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let value = |n: u64| vec![n as u8; if n.is_multiple_of(1000) { 50_000 } else { 200 }];
        let mut loader = tree.load();
        for n in 0..200_000u64 {
            loader.put(n.to_be_bytes(), value(n)).await.unwrap();
        }
        let report = loader.finish().await.unwrap();
        assert_eq!((report.keys, report.at_once, report.spilled), (200_000, true, 0));
        for n in (0..200_000u64).step_by(997).chain([1000, 199_000]) {
            let found = tree.get(n.to_be_bytes()).await.unwrap().unwrap();
            assert!(*found == value(n)[..], "key {n}");
        }
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

#[test]
fn a_load_of_a_tree_that_is_dropped_meanwhile_is_an_error_and_leaves_nothing() {
    let home = Home::new();
    on_tokio(2, "a load of a dropped tree", async {
        let db = tiny(512, 128).load_memory(64 << 10).open(&home.path).await.unwrap();
        for ascending in [true, false] {
            let tree = db.tree("t").await.unwrap();
            let mut loader = tree.load();
            for n in 0..20_000u32 {
                let key = if ascending { n } else { n.wrapping_mul(0x9e37_79b1) };
                loader.put(key.to_be_bytes(), [7; 30]).await.unwrap();
            }
            db.drop_tree("t").await.unwrap();
            let error = loader.finish().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSuchTree, "{error}");
        }
        db.close().await.unwrap();
        let db = tiny(512, 128).open(&home.path).await.unwrap();
        assert_sound(&db).await;
        db.compact().await.unwrap();
        db.close().await.unwrap();
    });
}
