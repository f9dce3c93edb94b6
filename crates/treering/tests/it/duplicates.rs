//! Trees with duplicates: in the order of insertion, one at a time or all at once, beside others.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeSet;

use crate::common::{Home, assert_sound, on_tokio, tiny};
use futures::TryStreamExt;
use futures::executor::block_on;
use treering::{Durability, ErrorKind, MultiTree};

async fn values(tree: &MultiTree, key: &str) -> Vec<(u64, Vec<u8>)> {
    let values: Vec<_> = tree.get_all(key).try_collect().await.unwrap();
    values.into_iter().map(|(sequence, value)| (sequence, value.into_vec())).collect()
}

#[test]
fn t11_t15_the_first_duplicate_is_the_oldest_that_is_there() {
    block_on(async {
        let home = Home::new();
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        let tree = db.multi_tree("t").await.unwrap();
        assert_eq!(tree.get("k").await.unwrap(), None);
        let z = tree.insert_dup("k", "z").await.unwrap();
        let a = tree.insert_dup("k", "a").await.unwrap();
        tree.insert_dup("j", "before").await.unwrap();
        tree.insert_dup("k\0", "behind").await.unwrap();
        assert!(z < a);
        assert_eq!(values(&tree, "k").await, [(z, b"z".to_vec()), (a, b"a".to_vec())]);
        assert_eq!(tree.get("k").await.unwrap().as_deref(), Some(&b"z"[..]));
        assert_eq!(tree.take_dup("k", z).await.unwrap().as_deref(), Some(&b"z"[..]));
        assert_eq!(tree.get("k").await.unwrap().as_deref(), Some(&b"a"[..]));
        assert!(tree.delete_dup("k", a).await.unwrap());
        assert!(!tree.delete_dup("k", a).await.unwrap());
        assert!(!tree.contains("k").await.unwrap());
        assert!(tree.contains("j").await.unwrap());
    });
}

#[test]
fn p4_one_of_several_duplicates_goes_by_its_value() {
    block_on(async {
        let home = Home::new();
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        let tree = db.multi_tree("t").await.unwrap();
        let mut sequences = Vec::new();
        for value in ["x", "y", "x", "x"] {
            sequences.push(tree.insert_dup("k", value).await.unwrap());
        }
        assert_eq!(tree.delete_value("k", "x").await.unwrap(), Some(sequences[0]));
        assert_eq!(tree.delete_value("k", "x").await.unwrap(), Some(sequences[2]));
        assert_eq!(tree.delete_value("k", "z").await.unwrap(), None);
        assert_eq!(tree.delete_value("other", "x").await.unwrap(), None);
        let left = [(sequences[1], b"y".to_vec()), (sequences[3], b"x".to_vec())];
        assert_eq!(values(&tree, "k").await, left);
    });
}

#[test]
fn p3_a_tree_is_unique_or_not_for_its_life() {
    block_on(async {
        let home = Home::new();
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        db.multi_tree("multi").await.unwrap();
        db.tree("unique").await.unwrap();
        assert_eq!(db.tree("multi").await.unwrap_err().kind(), ErrorKind::TreeMismatch);
        assert_eq!(db.multi_tree("unique").await.unwrap_err().kind(), ErrorKind::TreeMismatch);
    });
}

#[test]
fn t11_a_key_too_long_for_its_sequence_is_an_error_that_says_so() {
    block_on(async {
        let home = Home::new();
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        let tree = db.multi_tree("t").await.unwrap();
        // A quarter of a page, less two bytes of end and eight of sequence.
        let longest = vec![b'k'; 118];
        let sequence = tree.insert_dup(&longest, "v").await.unwrap();
        assert!(tree.delete_dup(&longest, sequence).await.unwrap());
        for key in [vec![b'k'; 119], vec![0; 60]] {
            let error = tree.insert_dup(&key, "v").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("in a tree with duplicates"), "{error}");
            assert_eq!(tree.get(&key).await.unwrap(), None);
        }
    });
}

#[test]
fn t11_thousands_of_duplicates_of_one_key_come_in_order_and_go_at_once() {
    block_on(async {
        let home = Home::new();
        let db = tiny(512, 16).open(&home.path).await.unwrap();
        let tree = db.multi_tree("t").await.unwrap();
        for key in ["a", "k", "z"] {
            for number in 0u32..2000 {
                let write = tree.insert_dup(key, number.to_le_bytes());
                write.durability(Durability::None).await.unwrap();
            }
        }
        let found = values(&tree, "k").await;
        assert!(found.is_sorted_by(|a, b| a.0 < b.0));
        let numbers = (0u32..2000).map(|number| number.to_le_bytes().to_vec());
        assert!(found.into_iter().map(|(_, value)| value).eq(numbers));
        assert_eq!(tree.delete_all("k").await.unwrap(), 2000);
        assert_eq!(values(&tree, "k").await, []);
        assert_eq!((values(&tree, "a").await.len(), values(&tree, "z").await.len()), (2000, 2000));
        assert_sound(&db).await;
    });
}

/// Queues: some insert, some take what they find; nothing is lost and nothing is taken twice.
#[test]
fn t11_p4_what_many_insert_and_take_at_once_is_taken_once() {
    const TASKS: u64 = 8;
    const EACH: u64 = 150;
    on_tokio(4, "inserting and taking", async {
        let home = Home::new();
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        let tree = db.multi_tree("t").await.unwrap();
        let inserts = (0..TASKS).map(|task| {
            let tree = tree.clone();
            tokio::spawn(async move {
                let mut sequences = Vec::new();
                for number in 0..EACH {
                    // Every value twice, so that takers meet over it.
                    let write = tree.insert_dup("queue", (number / 2 * TASKS + task).to_le_bytes());
                    sequences.push(write.durability(Durability::None).await.unwrap());
                }
                assert!(sequences.is_sorted_by(|a, b| a < b), "in the order of one's own inserts");
                sequences
            })
        });
        let inserts: Vec<_> = inserts.collect();
        let takers = (0..TASKS).map(|task| {
            let tree = tree.clone();
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while taken.len() < EACH as usize / 2 {
                    let mine = if task % 2 == 0 {
                        tree.get_all("queue")
                    } else {
                        tree.get_all("queue").rev()
                    };
                    let seen: Vec<_> = mine.try_collect().await.unwrap();
                    for (sequence, value) in seen.into_iter().take(20) {
                        let gone = if task % 3 == 0 {
                            tree.delete_value("queue", &value).await.unwrap()
                        } else {
                            tree.delete_dup("queue", sequence).await.unwrap().then_some(sequence)
                        };
                        taken.extend(gone);
                    }
                    tokio::task::yield_now().await;
                }
                taken
            })
        });
        let takers: Vec<_> = takers.collect();
        let mut inserted = BTreeSet::new();
        for insert in inserts {
            for sequence in insert.await.unwrap() {
                assert!(inserted.insert(sequence), "{sequence} was given twice");
            }
        }
        let mut taken = BTreeSet::new();
        for taker in takers {
            for sequence in taker.await.unwrap() {
                assert!(taken.insert(sequence), "{sequence} was taken twice");
            }
        }
        let left: BTreeSet<_> =
            values(&tree, "queue").await.into_iter().map(|(sequence, _)| sequence).collect();
        assert!(taken.is_disjoint(&left));
        assert_eq!(taken.union(&left).copied().collect::<BTreeSet<_>>(), inserted);
        assert_sound(&db).await;
    });
}
