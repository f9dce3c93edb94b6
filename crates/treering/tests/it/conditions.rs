//! Conditions: what a write that depends on what is there finds, changes and hands back.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use crate::common::{Home, all, on_tokio, tiny};
use futures::executor::block_on;
use treering::{Database, Durability, ErrorKind, Tree};

async fn open(home: &Home) -> (Database, Tree) {
    let db = tiny(512, 64).open(&home.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    (db, tree)
}

#[test]
fn p3_j3_an_insert_says_done_or_hands_back_what_is_there_and_a_replace_what_it_overwrote() {
    block_on(async {
        let home = Home::new();
        let (_db, tree) = open(&home).await;
        tree.insert("k", "1").await.unwrap();
        let duplicate = tree.insert("k", "2").await.unwrap_err();
        assert_eq!(duplicate.kind(), ErrorKind::KeyExists);
        assert_eq!(duplicate.existing(), Some(&b"1"[..]));
        assert_eq!(
            tree.replace("k", "3").await.unwrap().as_deref(),
            Some(&b"1"[..]),
            "overwritten"
        );
        assert_eq!(tree.replace("other", "4").await.unwrap(), None, "done");
        // Removal hands back what was there, or says that the key is missing.
        assert_eq!(tree.take("k").await.unwrap().as_deref(), Some(&b"3"[..]));
        assert_eq!(tree.take("k").await.unwrap(), None);
        assert!(!tree.delete("k").await.unwrap());
        let missing = tree.update("k", "5").await.unwrap_err();
        assert_eq!((missing.kind(), missing.existing()), (ErrorKind::KeyMissing, None));
    });
}

#[test]
fn t17_compare_and_swap_changes_what_is_expected_and_else_says_what_is_there() {
    block_on(async {
        let home = Home::new();
        let (_db, tree) = open(&home).await;
        let swap = async |expected: Option<&str>, new: Option<&str>| {
            let (expected, new) = (expected.map(str::as_bytes), new.map(str::as_bytes));
            tree.compare_and_swap("k", expected, new).await.unwrap()
        };
        assert_eq!(swap(Some("1"), Some("2")).await, Err(None));
        assert_eq!(swap(None, None).await, Ok(()));
        assert_eq!(swap(None, Some("1")).await, Ok(()));
        assert_eq!(swap(None, Some("2")).await, Err(Some(b"1".to_vec().into())));
        assert_eq!(swap(None, None).await, Err(Some(b"1".to_vec().into())));
        assert_eq!(swap(Some("2"), None).await, Err(Some(b"1".to_vec().into())));
        assert_eq!(all(&tree).await, [(b"k".to_vec(), b"1".to_vec())]);
        assert_eq!(swap(Some("1"), Some("2")).await, Ok(()));
        assert_eq!(swap(Some("2"), None).await, Ok(()));
        assert_eq!(all(&tree).await, []);
        let too_long = tree.compare_and_swap([0; 300], None, Some(b"")).await.unwrap_err();
        assert_eq!(too_long.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn j3_get_or_insert_returns_what_is_there_from_now_on() {
    block_on(async {
        let home = Home::new();
        let (_db, tree) = open(&home).await;
        let (value, inserted) = tree.get_or_insert("k", "1").await.unwrap();
        assert_eq!((&*value, inserted), (&b"1"[..], true));
        let (value, inserted) = tree.get_or_insert("k", "2").await.unwrap();
        assert_eq!((&*value, inserted), (&b"1"[..], false));
        assert_eq!(tree.get("k").await.unwrap().as_deref(), Some(&b"1"[..]));
    });
}

#[test]
fn t17_modify_counts_exactly_beside_others() {
    const TASKS: u64 = 16;
    const ROUNDS: u64 = 50;
    let increment = |old: Option<&[u8]>| {
        let old = old.map_or(0, |old| u64::from_le_bytes(old.try_into().unwrap()));
        Some((old + 1).to_le_bytes())
    };
    on_tokio(4, "modifications of one key", async move {
        let home = Home::new();
        let (db, tree) = open(&home).await;
        let tasks = (0..TASKS).map(|task| {
            let tree = tree.clone();
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let how = [Durability::Durable, Durability::None][(task + round) as usize % 2];
                    tree.modify("count", increment).durability(how).await.unwrap();
                }
            })
        });
        for task in futures::future::join_all(tasks).await {
            task.unwrap();
        }
        let old = tree.modify("count", |_| None::<Vec<u8>>).await.unwrap();
        assert_eq!(old.as_deref(), Some(&(TASKS * ROUNDS).to_le_bytes()[..]));
        assert_eq!(tree.get("count").await.unwrap(), None);
        assert_eq!(tree.modify("count", |_| None::<Vec<u8>>).await.unwrap(), None);
        db.close().await.unwrap();
    });
}

/// Conditions of a batch across trees, each of which is the only one that does not hold.
#[test]
fn t17_a_batch_names_the_condition_that_does_not_hold_by_its_position() {
    block_on(async {
        let home = Home::new();
        let (db, first) = open(&home).await;
        let second = db.tree("second").await.unwrap();
        first.put("there", "1").await.unwrap();
        second.put("there", "2").await.unwrap();
        for broken in 0..6 {
            // In an order that is not that of the trees and keys.
            let absent = |position| if broken == position { "there" } else { "absent" };
            let there = |position| if broken == position { "absent" } else { "there" };
            let value = |position, right| if broken == position { "wrong" } else { right };
            let mut batch = db.batch();
            batch
                .require_value(&second, "there", value(0, "2"))
                .require_absent(&first, absent(1))
                .insert(&second, if broken == 2 { "there" } else { "new" }, "3")
                .require_present(&first, there(3))
                .require_value(&first, "there", value(4, "1"))
                .update(&second, there(5), "4")
                .put(&first, "a", "5")
                .delete(&second, "there");
            let error = batch.commit().await.unwrap_err();
            assert_eq!(error.operation(), Some(broken), "{error}");
            let (kind, existing) = match broken {
                0 => (ErrorKind::ValueDiffers, Some(&b"2"[..])),
                4 => (ErrorKind::ValueDiffers, Some(&b"1"[..])),
                1 => (ErrorKind::KeyExists, Some(&b"1"[..])),
                2 => (ErrorKind::KeyExists, Some(&b"2"[..])),
                _ => (ErrorKind::KeyMissing, None),
            };
            assert_eq!((error.kind(), error.existing()), (kind, existing), "{error}");
        }
        assert_eq!(all(&first).await, [(b"there".to_vec(), b"1".to_vec())]);
        assert_eq!(all(&second).await, [(b"there".to_vec(), b"2".to_vec())]);
        // Of two that do not hold it is the first; and what the batch itself wrote is there.
        let mut batch = db.batch();
        batch.put(&second, "x", "6").require_absent(&second, "x").require_present(&first, "y");
        let error = batch.commit().await.unwrap_err();
        assert_eq!((error.operation(), error.existing()), (Some(1), Some(&b"6"[..])));
    });
}
