//! Trees by name through the face: options that have to agree, renaming, listing.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Home, on_tokio, tiny};
use treering::{Durability, ErrorKind, Gap, TreeOptions};

#[test]
fn p3_a_tree_is_opened_as_it_was_made_unique_or_not_or_not_at_all() {
    on_tokio(2, "options", async {
        let home = Home::new();
        let multi = || TreeOptions::new().duplicates(true);
        let typed = || TreeOptions::new().key_type("u64", 1);
        for life in 0..2 {
            let db = tiny(512, 64).open(&home.path).await.unwrap();
            db.tree("unique").await.unwrap();
            db.tree_with("multi", multi().gap(Gap::None)).await.unwrap();
            db.tree_with("typed", typed()).await.unwrap();
            for (name, options, said) in [
                ("unique", multi(), "are unique"),
                ("unique", typed(), "plain bytes"),
                ("multi", TreeOptions::new(), "option `duplicates`"),
                ("typed", TreeOptions::new(), "u64 version 1"),
                ("typed", TreeOptions::new().key_type("u64", 2), "u64 version 2"),
            ] {
                let error = db.tree_with(name, options).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TreeMismatch, "life {life}: {error}");
                assert!(error.to_string().contains(said), "life {life}: {error}");
            }
            let error = db.find_tree("typed").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TreeMismatch);
            // Tools may look at the bytes of anything, and make nothing.
            let raw = db.raw_tree("typed").unwrap().unwrap();
            assert_eq!(raw.get(b"x").await.unwrap(), None);
            assert!(db.raw_tree("absent").unwrap().is_none());
            let expected = [
                ("multi".to_owned(), multi().gap(Gap::None)),
                ("typed".to_owned(), typed()),
                ("unique".to_owned(), TreeOptions::new()),
            ];
            assert_eq!(db.trees(), expected, "life {life}");
            db.close().await.unwrap();
        }
    });
}

#[test]
fn a_renamed_tree_is_the_same_tree() {
    on_tokio(2, "renaming", async {
        let home = Home::new();
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        let tree = db.tree("draft").await.unwrap();
        tree.put("k", "1").await.unwrap();
        db.rename_tree("draft", "final").await.unwrap();
        tree.put("k", "2").await.unwrap();
        assert_eq!(tree.name(), "draft", "the name that it was opened with");
        db.tree("other").await.unwrap();
        for (old, new, expected) in [
            ("draft", "x", ErrorKind::NoSuchTree),
            ("final", "other", ErrorKind::InvalidInput),
            ("final", "", ErrorKind::InvalidInput),
        ] {
            let error = db.rename_tree(old, new).await.unwrap_err();
            assert_eq!(error.kind(), expected, "{old} {new}: {error}");
        }
        drop((tree, db));

        // Not closed: the log says it again.
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        assert_eq!(db.tree_names(), ["final", "other"]);
        let tree = db.find_tree("final").unwrap().unwrap();
        assert_eq!(tree.get("k").await.unwrap().as_deref(), Some(&b"2"[..]));
        db.close().await.unwrap();
    });
}

/// The task that frees a dropped tree loads its root, and must not be the one who keeps it pinned.
#[test]
fn t8_the_root_of_a_dropped_tree_is_freed_though_the_pool_had_pushed_it_out() {
    on_tokio(2, "drops in a pool that is never at rest", async {
        let home = Home::new();
        let db = tiny(512, 16).open(&home.path).await.unwrap();
        let busy = db.tree("busy").await.unwrap();
        for number in 0..2000u32 {
            busy.put(number.to_be_bytes(), [1; 100]).durability(Durability::None).await.unwrap();
        }
        db.tidy().await.unwrap();
        let before = db.verify().await.unwrap().pages;
        let ended = Arc::new(AtomicBool::new(false));
        let readers = (0..24u32).map(|reader| {
            let (busy, ended) = (busy.clone(), Arc::clone(&ended));
            tokio::spawn(async move {
                for number in (0..2000u32).cycle() {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = (number * 37 + reader * 61) % 2000;
                    assert!(busy.get(key.to_be_bytes()).await.unwrap().is_some());
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        // Enough of them for a catalog of several leaves.
        for round in 0..3u32 {
            let trees = (0..40u32).map(|n| {
                let db = db.clone();
                tokio::spawn(async move {
                    let name = format!("a tree that lives for a short time only {n:02}");
                    let tree = db.tree(&name).await.unwrap();
                    for number in 0..(n + round) % 9 {
                        let put = tree.put(number.to_be_bytes(), [2; 100]);
                        put.durability(Durability::None).await.unwrap();
                    }
                    db.drop_tree(&name).await.unwrap();
                })
            });
            for tree in trees.collect::<Vec<_>>() {
                tree.await.unwrap();
            }
        }
        // Drops free pages behind their answers; compacting waits for that.
        db.compact().await.unwrap();
        ended.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await.unwrap();
        }
        let after = db.verify().await.unwrap().pages;
        // How often pages of the catalog and of the busy tree merged is a matter of luck.
        assert!(after < before + 10, "120 trees are gone: {after} pages, before them {before}");
        db.close().await.unwrap();
    });
}
