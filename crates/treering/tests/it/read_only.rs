//! Reading only: many may, nothing in the folder changes, and what is in the log is there.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use crate::common::{Home, all, assert_sound, both_io, tiny};
use futures::executor::block_on;
use treering::{Database, Durability, ErrorKind, Options, Tree};
use treering_pagefile::DirectoryLock;

fn reading(frames: usize) -> Options {
    tiny(512, frames).read_only(true)
}

async fn load(tree: &Tree, from: u32, to: u32) {
    for number in from..to {
        let value = vec![number as u8; 60];
        let put = tree.put(format!("{number:06}"), value).durability(Durability::None);
        put.await.unwrap();
    }
}

/// Every file with its bytes and when it was last changed.
fn files(folder: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let changed = entry.metadata().unwrap().modified().unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, (fs::read(entry.path()).unwrap(), changed))
    });
    entries.collect()
}

/// A folder as a killed process leaves it: 500 records in the page file, and as many in the log.
async fn killed(home: &Home) -> Vec<(Vec<u8>, Vec<u8>)> {
    let live = Home::new();
    let db = tiny(512, 512).open(&live.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    load(&tree, 0, 500).await;
    tree.put("large/1", vec![1; 5_000]).await.unwrap();
    tree.put("large/2", vec![2; 5_000]).await.unwrap();
    db.checkpoint().await.unwrap();
    load(&tree, 500, 1_000).await;
    tree.put("large/2", vec![3; 7_000]).await.unwrap();
    tree.put("large/3", vec![4; 9_000]).await.unwrap();
    tree.delete("large/1").await.unwrap();
    for number in 0..100 {
        tree.delete(format!("{number:06}")).durability(Durability::None).await.unwrap();
    }
    db.tree("late").await.unwrap();
    db.sync().await.unwrap();
    fs::create_dir(&home.path).unwrap();
    for (name, (bytes, _)) in files(&live.path) {
        fs::write(home.path.join(name), bytes).unwrap();
    }
    let pairs = all(&tree).await;
    db.close().await.unwrap();
    pairs
}

async fn assert_refuses_changes(db: &Database, tree: &Tree) {
    let mut batch = db.batch();
    batch.put(tree, "key", "value");
    let refused = [
        tree.put("key", "value").await.map(drop).unwrap_err(),
        tree.put("key", vec![1; 5_000]).await.map(drop).unwrap_err(),
        tree.write_stream("key").map(drop).unwrap_err(),
        tree.delete_range(..).await.map(drop).unwrap_err(),
        db.drop_tree("t").await.map(drop).unwrap_err(),
        tree.delete("000500").await.map(drop).unwrap_err(),
        batch.commit().await.map(drop).unwrap_err(),
        db.tree("new").await.map(drop).unwrap_err(),
        db.rename_tree("t", "u").await.unwrap_err(),
        db.checkpoint().await.unwrap_err(),
        db.compact().await.map(drop).unwrap_err(),
        db.tidy().await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
    }
    let copy = Home::new();
    let error = db.backup(&copy.path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
}

#[test]
fn a_database_that_was_closed_is_read_and_left_as_it_is() {
    for io in both_io() {
        block_on(async {
            let home = Home::new();
            let db = tiny(512, 128).open(&home.path).await.unwrap();
            let tree = db.tree("t").await.unwrap();
            load(&tree, 0, 1_000).await;
            let pairs = all(&tree).await;
            db.close().await.unwrap();
            let before = files(&home.path);

            // Fewer frames than pages.
            let db = reading(32).io(io).open(&home.path).await.unwrap();
            let tree = db.tree("t").await.unwrap();
            assert_eq!(all(&tree).await, pairs);
            assert_refuses_changes(&db, &tree).await;
            assert_sound(&db).await;
            assert_eq!(tree.get("000500").await.unwrap().as_deref(), Some(&[244; 60][..]));
            db.sync().await.unwrap();
            db.close().await.unwrap();
            assert_eq!(tree.get("000500").await.unwrap_err().kind(), ErrorKind::Closed);
            assert!(files(&home.path) == before, "something in the folder has changed");
        });
    }
}

#[test]
fn what_a_killed_process_left_in_the_log_is_there_for_every_reader() {
    for io in both_io() {
        block_on(async {
            let home = Home::new();
            let pairs = killed(&home).await;
            let before = files(&home.path);
            // Several at once, each with its own replay.
            let mut readers = Vec::new();
            for _ in 0..3 {
                readers.push(reading(512).io(io).open(&home.path).await.unwrap());
            }
            for db in &readers {
                assert!(db.recovery().replayed >= 600, "{:?}", db.recovery());
                assert_eq!(db.tree_names(), ["late", "t"]);
                let tree = db.tree("t").await.unwrap();
                assert_eq!(all(&tree).await, pairs);
                assert_refuses_changes(db, &tree).await;
                assert_sound(db).await;
            }
            for db in readers {
                db.close().await.unwrap();
            }
            assert!(files(&home.path) == before, "something in the folder has changed");

            // A writer recovers from the same log.
            let db = tiny(512, 64).io(io).open(&home.path).await.unwrap();
            assert_eq!(all(&db.tree("t").await.unwrap()).await, pairs);
            assert_sound(&db).await;
            db.close().await.unwrap();
        });
    }
}

#[test]
fn a_log_that_does_not_fit_into_the_cache_is_an_error_that_says_so() {
    block_on(async {
        let home = Home::new();
        let pairs = killed(&home).await;
        let before = files(&home.path);
        for frames in [16, 32, 64] {
            let error = reading(frames).open(&home.path).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{frames} frames: {error}");
            assert!(error.to_string().contains("larger cache"), "{error}");
        }
        assert!(files(&home.path) == before, "something in the folder has changed");
        // The smallest cache that will do has a few frames left, which is enough for any number of
        // reads at once.
        let mut frames = 64;
        let db = loop {
            match reading(frames).open(&home.path).await {
                Ok(db) => break db,
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}"),
            }
            frames += 8;
        };
        let tree = db.tree("t").await.unwrap();
        let pool = db.stats().pool;
        assert!(pool.dirty > frames / 2 && pool.dirty < frames, "{pool:?}");
        let reads = pairs.iter().map(|(key, _)| tree.get(key));
        let values = futures::future::join_all(reads).await;
        for ((_, value), found) in pairs.iter().zip(values) {
            assert_eq!(found.unwrap().as_deref(), Some(&value[..]));
        }
        assert_eq!(all(&tree).await, pairs);
        assert_eq!(db.stats().pool.writes, 0);
        db.close().await.unwrap();
    });
}

#[test]
fn a_writer_excludes_readers_and_they_exclude_it() {
    block_on(async {
        let home = Home::new();
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        let error = reading(64).open(&home.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        db.close().await.unwrap();

        let db = reading(64).open(&home.path).await.unwrap();
        let other = reading(64).open(&home.path).await.unwrap();
        let error = tiny(512, 64).open(&home.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        db.close().await.unwrap();
        let error = tiny(512, 64).open(&home.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "one is left: {error}");
        // Whoever opens it next waits for the one that is just ending.
        drop(other);
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        db.close().await.unwrap();

        // As if from another process: the file's lock alone.
        let writer = DirectoryLock::acquire(&home.path).unwrap();
        let error = reading(64).open(&home.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        drop(writer);
        let reader = DirectoryLock::share(&home.path).unwrap();
        let error = tiny(512, 64).open(&home.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        assert!(error.to_string().contains("reads"), "{error}");
        reading(64).open(&home.path).await.unwrap().close().await.unwrap();
        drop(reader);
        tiny(512, 64).open(&home.path).await.unwrap().close().await.unwrap();
    });
}

#[test]
fn a_folder_without_permission_to_write_is_enough() {
    block_on(async {
        let home = Home::new();
        let pairs = killed(&home).await;
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let paths: Vec<_> = fs::read_dir(&home.path).unwrap().map(|e| e.unwrap().path()).collect();
        paths.iter().for_each(|path| set(path, 0o444));
        set(&home.path, 0o555);
        let db = reading(512).open(&home.path).await.unwrap();
        assert_eq!(all(&db.tree("t").await.unwrap()).await, pairs);
        db.close().await.unwrap();
        set(&home.path, 0o755);
    });
}

#[test]
fn nothing_is_made_where_there_is_nothing() {
    block_on(async {
        let home = Home::new();
        let error = reading(64).open(&home.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        assert!(!home.path.exists());
        fs::create_dir(&home.path).unwrap();
        let error = reading(64).open(&home.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        assert_eq!(fs::read_dir(&home.path).unwrap().count(), 0);
    });
}
