//! Real threads write keys just when a big batch, or the deletion of a range, claims them. Whoever
//! wins in the pages has to win in the log: what a replay makes of the log is what was there.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Home, all, assert_sound, on_tokio, tiny};
use treering::Durability;

const KEYS: u32 = 400;

fn key(number: u32) -> Vec<u8> {
    format!("key {number:04}").into_bytes()
}

/// Opens a copy of the files as they are, and compares.
#[test]
fn a_replay_finds_the_order_in_which_a_big_change_and_single_writes_were_made() {
    let home = Home::new();
    on_tokio(4, "big changes beside writes of the same keys", async {
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        for round in 0..8u32 {
            // An empty log, so that all of it is replayed.
            db.checkpoint().await.unwrap();
            let stop = Arc::new(AtomicBool::new(false));
            let writers = (0..3u32).map(|id| {
                let (tree, stop) = (tree.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    let (mut number, mut written) = (id * 131, 0);
                    while !stop.load(Ordering::Relaxed) && written < 3_000 {
                        number = (number + 7) % KEYS;
                        written += 1;
                        let value = format!("{round} {id} {written}");
                        let put = tree.put(key(number), value).durability(Durability::None);
                        put.await.unwrap();
                    }
                })
            });
            let writers: Vec<_> = writers.collect();
            for turn in 0..4 {
                let mut batch = db.batch();
                for number in 0..KEYS {
                    batch.put(&tree, key(number), format!("{round} batch {turn}"));
                }
                batch.commit().durability(Durability::None).await.unwrap();
                tree.delete_range(key(100)..key(300)).await.unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.await.unwrap();
            }
            let there = all(&tree).await;
            db.sync().await.unwrap();
            let copy = Home::new();
            copy_files(&home, &copy);
            let copied = tiny(512, 64).open(&copy.path).await.unwrap();
            let replayed = all(&copied.tree("t").await.unwrap()).await;
            for (there, replayed) in there.iter().zip(&replayed) {
                assert_eq!(there, replayed, "round {round}");
            }
            assert_eq!(there.len(), replayed.len(), "round {round}");
            copied.close().await.unwrap();
        }
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

fn copy_files(from: &Home, to: &Home) {
    std::fs::create_dir_all(&to.path).unwrap();
    for file in std::fs::read_dir(&from.path).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.path.join(file.file_name())).unwrap();
    }
}
