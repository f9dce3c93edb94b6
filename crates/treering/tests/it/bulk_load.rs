//! Bulk load through the face: whatever order keys come in and whatever the tree has, it ends up with the
//! last value of each; into an empty tree at once, with full pages; and not at all if it is given up.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;

use crate::common::{Home, all, assert_sound, on_tokio};
use futures::future::join_all;
use treering::{Database, Durability, ErrorKind, LoadReport, Options, Tree};

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Records whose keys ascend, or do not.
fn records(count: u64, ascending: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let record = |n: u64| {
        // An odd factor: no two numbers become one.
        let n = if ascending { n } else { n.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        (n.to_be_bytes().to_vec(), vec![n as u8; 20 + (n % 60) as usize])
    };
    (0..count).map(record).collect()
}

fn options() -> Options {
    Options::new().cache_size(4 << 20).load_memory(100 << 10).durability(Durability::None)
}

async fn load(tree: &Tree, records: &[(Vec<u8>, Vec<u8>)]) -> Result<LoadReport, treering::Error> {
    let mut loader = tree.load();
    for (key, value) in records {
        loader.put(key, value).await?;
    }
    loader.finish().await
}

async fn assert_has(tree: &Tree, pairs: &Pairs) {
    let found = all(tree).await;
    assert_eq!(found.len(), pairs.len());
    assert!(found.iter().map(|(key, value)| (key, value)).eq(pairs));
}

/// Pages of leaves and above that the database has, and the least that its records would fill.
async fn pages(db: &Database, pairs: &Pairs) -> (u64, u64) {
    let report = db.verify().await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len() + 10).sum();
    (report.pages, bytes.div_ceil(db.stats().page_size) as u64)
}

fn test<F: Future<Output = ()>>(what: &str, run: impl FnOnce(Home) -> F) {
    let home = Home::new();
    on_tokio(2, what, run(home));
}

#[test]
fn sorted_input_becomes_full_pages_and_is_never_spilled() {
    test("a sorted load", async |home| {
        let db = options().open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let records = records(60_000, true);
        let report = load(&tree, &records).await.unwrap();
        assert_eq!((report.keys, report.at_once, report.spilled), (60_000, true, 0));
        let pairs = records.into_iter().collect();
        assert_has(&tree, &pairs).await;
        let (pages, least) = pages(&db, &pairs).await;
        assert!(pages * 9 <= least * 10 + 30, "{pages} pages for what {least} could hold");

        // It is a tree as any other.
        tree.put([0; 3], "new").await.unwrap();
        tree.delete(7u64.to_be_bytes()).await.unwrap();
        assert_sound(&db).await;
        db.close().await.unwrap();
        let db = options().open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        assert_eq!(tree.get([0; 3]).await.unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(all(&tree).await.len(), 60_000);
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

#[test]
fn unsorted_input_is_sorted_outside_memory() {
    test("an unsorted load", async |home| {
        let db = options().open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let records = records(150_000, false);
        let report = load(&tree, &records).await.unwrap();
        assert_eq!((report.keys, report.at_once), (150_000, true));
        let bytes: usize = records.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        assert!(report.spilled > bytes as u64 * 5 / 4, "no runs were merged before the end");
        let pairs = records.into_iter().collect();
        assert_has(&tree, &pairs).await;
        let (pages, least) = pages(&db, &pairs).await;
        assert!(pages * 9 <= least * 10 + 30, "{pages} pages for what {least} could hold");
        let left = std::fs::read_dir(home.path.join("tmp")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "temporary files are left");
        db.close().await.unwrap();
    });
}

#[test]
fn of_equal_keys_the_last_value_wins_sorted_or_not() {
    test("equal keys", async |home| {
        let db = options().open(&home.path).await.unwrap();
        for (name, count) in [("few", 100u32), ("many", 40_000)] {
            for ascending in [true, false] {
                let tree = db.tree(format!("{name} {ascending}")).await.unwrap();
                let (mut loader, mut pairs) = (tree.load(), Pairs::new());
                for n in 0..count {
                    let key = if ascending { n / 3 } else { n * 7919 % (count / 3) };
                    let (key, value) = (key.to_be_bytes(), n.to_le_bytes());
                    loader.put(key, value).await.unwrap();
                    pairs.insert(key.to_vec(), value.to_vec());
                }
                let report = loader.finish().await.unwrap();
                assert_eq!(report.keys, pairs.len() as u64, "{name}, {ascending}");
                assert_has(&tree, &pairs).await;
            }
        }
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

#[test]
fn input_that_ascends_for_long_and_then_does_not() {
    test("a late surprise", async |home| {
        let db = options().open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let mut records = records(40_000, true);
        records.extend([(b"\0".to_vec(), b"late".to_vec()), (vec![0; 8], b"again".to_vec())]);
        records.push((5u64.to_be_bytes().to_vec(), vec![9; 20_000]));
        records.push((vec![255; 9], vec![8; 100_000]));
        let report = load(&tree, &records).await.unwrap();
        assert_eq!((report.keys, report.at_once), (40_002, true));
        assert_has(&tree, &records.into_iter().collect()).await;
        assert_sound(&db).await;
        db.close().await.unwrap();
        let db = options().open(&home.path).await.unwrap();
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

#[test]
fn a_tree_that_has_keys_gets_batches() {
    test("a load into a tree with keys", async |home| {
        let db = options().open(&home.path).await.unwrap();
        for ascending in [true, false] {
            let tree = db.tree(format!("{ascending}")).await.unwrap();
            let mut pairs = Pairs::new();
            for (key, _) in records(2000, ascending).iter().step_by(10) {
                tree.put(key, "old").await.unwrap();
                pairs.insert(key.clone(), b"old".to_vec());
            }
            tree.put("other", "stays").await.unwrap();
            pairs.insert(b"other".to_vec(), b"stays".to_vec());
            let records = records(20_000, ascending);
            let report = load(&tree, &records).await.unwrap();
            assert_eq!((report.keys, report.at_once, report.pages), (20_000, false, 0));
            pairs.extend(records);
            assert_has(&tree, &pairs).await;
        }
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

#[test]
fn a_loader_that_is_dropped_has_loaded_nothing() {
    test("dropped loads", async |home| {
        let db = options().open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        for ascending in [true, false] {
            let mut loader = tree.load();
            for (key, value) in records(30_000, ascending) {
                loader.put(key, value).await.unwrap();
            }
            drop(loader);
            assert_eq!(all(&tree).await.len(), 0);
        }
        drop(tree.load());
        // Whatever of it is under way, the database is sound, and stays so without it.
        assert_sound(&db).await;
        db.close().await.unwrap();
        let db = options().open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        assert_eq!(all(&tree).await.len(), 0);
        let report = db.verify().await.unwrap();
        assert_eq!((report.problems.len(), report.pages < 10), (0, true));
        db.close().await.unwrap();
    });
}

#[test]
fn readers_beside_a_load_find_all_keys_or_none() {
    test("readers beside a load", async |home| {
        let db = options().open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let records = records(30_000, true);
        let loading = tokio::spawn({
            let (tree, records) = (tree.clone(), records.clone());
            async move { load(&tree, &records).await }
        });
        let readers = (0..4).map(|_| {
            let tree = tree.clone();
            tokio::spawn(async move {
                let (mut empty, mut last) = (0, 0);
                while last == 0 {
                    // Once one key is there, all are.
                    let one = tree.contains(29_999u64.to_be_bytes()).await.unwrap();
                    last = all(&tree).await.len();
                    assert!(last == 30_000 || last == 0 && !one, "{last} keys, {one}");
                    empty += u64::from(last == 0);
                    // Reads of an empty tree never wait, and the load wants a thread, too.
                    tokio::task::yield_now().await;
                }
                empty
            })
        });
        let empty: Vec<u64> = join_all(readers).await.into_iter().map(Result::unwrap).collect();
        assert!(empty.iter().sum::<u64>() > 0, "no reader came before the load's end");
        assert_eq!(loading.await.unwrap().unwrap().keys, 30_000);
        assert_has(&tree, &records.into_iter().collect()).await;
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

#[test]
fn a_key_that_is_too_long_ends_the_load_and_nothing_is_loaded() {
    test("a key too long", async |home| {
        let db = options().open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        for count in [10, 30_000] {
            let mut records = records(count, true);
            records.push((vec![255; 5000], Vec::new()));
            let error = load(&tree, &records).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert_eq!(all(&tree).await.len(), 0);
        }
        assert_eq!(load(&tree, &[]).await.unwrap(), LoadReport::default());
        let one = [(b"one".to_vec(), b"1".to_vec())];
        assert_eq!(load(&tree, &one).await.unwrap().keys, 1);
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}
