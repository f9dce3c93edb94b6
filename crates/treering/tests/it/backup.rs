//! A backup of a real folder into another, beside tasks that write.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Home, all, assert_sound, both_io, on_tokio, tiny};
use futures::executor::block_on;
use treering::{Database, Durability, ErrorKind, Tree};

/// One commit: both halves of a pair get the same number.
async fn write(db: &Database, tree: &Tree, writer: u32, number: u32) {
    let mut batch = db.batch();
    let value = number.to_be_bytes();
    batch.put(tree, format!("left/{writer}/{:04}", number % 500), value);
    batch.put(tree, format!("right/{writer}/{:04}", number % 500), value);
    batch.commit().durability(Durability::None).await.unwrap();
}

#[test]
fn a_backup_beside_four_writers_opens_verifies_and_has_whole_commits_only() {
    for io in both_io() {
        let (home, copy) = (Home::new(), Home::new());
        on_tokio(2, "a backup beside writers", async {
            let db = tiny(512, 128).io(io).open(&home.path).await.unwrap();
            let tree = db.tree("pairs").await.unwrap();
            for number in 0..500 {
                write(&db, &tree, 0, number).await;
            }
            let large = db.tree("large").await.unwrap();
            large.put("old", vec![1; 300_000]).await.unwrap();
            large.put("new", vec![2; 5_000]).await.unwrap();
            let over = Arc::new(AtomicBool::new(false));
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let (db, tree, over) = (db.clone(), tree.clone(), Arc::clone(&over));
                    tokio::spawn(async move {
                        let mut number = 0;
                        while !over.load(Ordering::Relaxed) {
                            number += 1;
                            write(&db, &tree, writer, number).await;
                        }
                    })
                })
                .collect();
            let backed_up = db.backup(&copy.path).await.unwrap();
            over.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.await.unwrap();
            }
            assert!(backed_up.pages > 20 && backed_up.sequence >= 500, "{backed_up:?}");
            assert_sound(&db).await;

            // The copy is open beside the source, and goes its own way.
            let twin = tiny(512, 128).create(false).open(&copy.path).await.unwrap();
            assert_sound(&twin).await;
            assert_eq!(twin.recovery().sequence, backed_up.sequence);
            let values = all(&twin.tree("large").await.unwrap()).await;
            assert!(values == [(b"new".into(), vec![2; 5_000]), (b"old".into(), vec![1; 300_000])]);
            let pairs = all(&twin.tree("pairs").await.unwrap()).await;
            let (left, right) = pairs.split_at(pairs.len() / 2);
            assert!(left.len() >= 500);
            for (left, right) in left.iter().zip(right) {
                assert_eq!(left.0.strip_prefix(b"left"), right.0.strip_prefix(b"right"));
                assert_eq!(left.1, right.1, "half a commit: {}", left.0.escape_ascii());
            }
            write(&twin, &twin.tree("pairs").await.unwrap(), 9, 1).await;
            assert_eq!(tree.get("left/9/0001").await.unwrap(), None);
            twin.close().await.unwrap();
            db.close().await.unwrap();
        });
    }
}

#[test]
fn a_folder_with_something_in_it_takes_no_backup() {
    block_on(async {
        let (home, other) = (Home::new(), Home::new());
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        db.tree("t").await.unwrap().put("key", "value").await.unwrap();

        for own in [home.path.clone(), home.path.join("backup")] {
            let error = db.backup(&own).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        assert!(!home.path.join("backup").exists());
        std::fs::create_dir(&other.path).unwrap();
        std::fs::write(other.path.join("letters.txt"), "dear").unwrap();
        let error = db.backup(&other.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        let left: Vec<_> = std::fs::read_dir(&other.path).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing is left there: {left:?}");

        std::fs::remove_file(other.path.join("letters.txt")).unwrap();
        db.backup(&other.path).await.unwrap();
        let error = db.backup(&other.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        db.close().await.unwrap();
        assert_eq!(db.backup(&other.path).await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_dropped_future_leaves_the_backup_to_the_engine() {
    block_on(async {
        let (home, copy) = (Home::new(), Home::new());
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        tree.put("key", "value").await.unwrap();
        let mut backup = Box::pin(db.backup(&copy.path));
        assert!(futures::poll!(backup.as_mut()).is_pending());
        drop(backup);
        // A second one waits for nothing but says when the first has let go of the folder.
        let mut seen = db.backup(&copy.path).await.unwrap_err();
        while seen.kind() == ErrorKind::Locked {
            seen = db.backup(&copy.path).await.unwrap_err();
        }
        assert_eq!(seen.kind(), ErrorKind::InvalidOptions, "{seen}");
        let twin = tiny(512, 64).open(&copy.path).await.unwrap();
        let value = twin.tree("t").await.unwrap().get("key").await.unwrap();
        assert_eq!(value.as_deref(), Some(&b"value"[..]));
        twin.close().await.unwrap();
        db.close().await.unwrap();
    });
}
