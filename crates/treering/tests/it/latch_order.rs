//! The story: a batch had found two keys in one leaf, which was then split three ways. It latched
//! the part with the first key, and looked at the low fence of the old leaf to see whether that lay
//! further right; the look waited for the old leaf's latch, whose holder was waiting for the part
//! that the batch held (I11). Ascending page splits under many batches of random keys showed it in
//! one run of twenty.

use treering::{Durability, Options};

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn batches_over_leaves_that_split_under_them_come_to_an_end() {
    for round in 0..4u64 {
        let folder = tempfile::tempdir().unwrap();
        let options = || Options::new().cache_size(64 << 20).log_size(64 << 20);
        let small = options().page_size(512).open(folder.path().join("small.tr")).await;
        let db = match small {
            Ok(db) => db,
            // A device with blocks of 4096 bytes.
            Err(_) => options().open(folder.path().join("data.tr")).await.unwrap(),
        };
        let tree = db.tree("t").await.unwrap();
        let tasks: Vec<_> = (0..64u64)
            .map(|task| {
                let (db, tree) = (db.clone(), tree.clone());
                tokio::spawn(async move {
                    let mut state = round * 1000 + task + 1;
                    for _ in 0..8 {
                        let mut batch = db.batch();
                        for _ in 0..60 {
                            // Knuth's MMIX generator: keys all over the tree.
                            state = state
                                .wrapping_mul(6_364_136_223_846_793_005)
                                .wrapping_add(1_442_695_040_888_963_407);
                            batch.put(&tree, state.to_be_bytes(), [7; 88]);
                        }
                        batch.commit().durability(Durability::None).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let report = db.verify().await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(report.keys, 64 * 8 * 60);
        db.close().await.unwrap();
    }
}
