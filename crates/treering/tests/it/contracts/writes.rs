//! Operations that write, and what may be left of one that was given up.
//!
//! Each writes keys of its own, which have its number in them. All keys of a number are there or
//! none: each value says how many they are.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::TryStreamExt;
use treering::{Batch, Durability, ErrorKind, Tree};

use super::operations::kinds;
use super::{KEYS, Kind, LARGE, LOADED, World, base};
use crate::common::{all, assert_sound};

/// Operations of a batch that is larger than the log's buffer.
const MANY: usize = 60;
/// Where the keys of batches begin in the typed tree: even and odd ones come in pairs.
const PAIRS: u64 = 1 << 32;

pub(super) fn own(number: usize, part: usize) -> String {
    // Far apart, so that their leaves are not those that were just used.
    format!("own {:05}/{number:06}/{part:02}", number * 389 % KEYS)
}

/// The value of one of so many keys of a number.
pub(super) fn part(number: usize, parts: usize) -> Vec<u8> {
    vec![parts as u8; 100 + number % 100]
}

fn near(number: usize, part: usize) -> String {
    format!("near {number:06}/{part:02}")
}

/// Keys beside each other that are there together or not at all.
fn many(w: &World, number: usize, parts: usize) -> Batch {
    let mut batch = w.db.batch();
    for index in 0..parts {
        batch.put(&w.tree, near(number, index), vec![parts as u8; 200]);
    }
    batch
}

/// Writes of one key.
pub(super) const WRITING: &[Kind] = kinds! {
    "Tree::put" => |w, n| {
        w.tree.put(own(n, 0), part(n, 1)).await?;
        assert_eq!(w.tree.get(own(n, 0)).await?.as_deref(), Some(&*part(n, 1)));
    }
    "Tree::put" => |w, n| {
        w.tree.put(own(n, 0), part(n, 1)).durability(Durability::Buffered).await?;
    }
    "Tree::put" => |w, n| { w.tree.put(own(n, 0), vec![1; LARGE]).await? }
    "Tree::insert" => |w, n| {
        w.tree.insert(own(n, 0), part(n, 1)).await?;
        let again = w.tree.insert(own(n, 0), part(n, 1)).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::KeyExists);
    }
    "Tree::update" => |w, n| {
        w.tree.update(base(n), [b'b'; 150]).await?;
        let absent = w.tree.update(own(n, 0), part(n, 1)).await.unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::KeyMissing);
    }
    "Tree::replace" => |w, n| {
        assert!(w.tree.replace(own(n, 0), part(n, 1)).await?.is_none());
        assert_eq!(w.tree.replace(own(n, 0), part(n, 1)).await?.as_deref(), Some(&*part(n, 1)));
    }
    "Tree::delete" => |w, n| {
        w.tree.put(own(n, 0), part(n, 1)).durability(Durability::None).await?;
        assert!(w.tree.delete(own(n, 0)).await?);
        assert!(!w.tree.delete(own(n, 0)).await?);
    }
    "Tree::take" => |w, n| {
        w.tree.put(own(n, 0), vec![1; LARGE]).durability(Durability::None).await?;
        assert_eq!(w.tree.take(own(n, 0)).await?.map(|value| value.len()), Some(LARGE));
    }
    "Tree::compare_and_swap" => |w, n| {
        let same = Some(&[b'b'; 150][..]);
        assert_eq!(w.tree.compare_and_swap(base(n), same, same).await?, Ok(()));
        assert_eq!(w.tree.compare_and_swap(own(n, 0), None, Some(&part(n, 1))).await?, Ok(()));
    }
    "Tree::get_or_insert" => |w, n| {
        assert!(!w.tree.get_or_insert(base(n), "x").await?.1);
        assert!(w.tree.get_or_insert(own(n, 0), part(n, 1)).await?.1);
    }
    "Tree::modify" => |w, n| {
        w.tree.modify(base(n), |old| old.map(<[u8]>::to_vec)).await?;
        assert!(w.tree.modify(own(n, 0), |_| Some(part(n, 1))).await?.is_none());
    }
    "ValueWriter::write ValueWriter::commit" => |w, n| {
        let mut writer = w.tree.write_stream(own(n, 0))?;
        for _ in 0..LARGE / 1000 {
            writer.write(&[1; 1000]).await?;
        }
        writer.commit().await?;
        assert_eq!(w.tree.value_len(own(n, 0)).await?, Some(LARGE as u64));
    }
    "TypedTree::put TypedTree::insert TypedTree::update TypedTree::replace" => |w, n| {
        let key = n as u64;
        w.typed.put(key, "one").await?;
        assert!(w.typed.insert(key, "two").await.is_err());
        w.typed.update(key, "two").await?;
        assert_eq!(w.typed.replace(key, "one").await?.as_deref(), Some("two"));
    }
    "TypedTree::compare_and_swap TypedTree::get_or_insert TypedTree::delete TypedTree::take"
        => |w, n| {
        let key = n as u64;
        assert_eq!(w.typed.compare_and_swap(key, None, Some("one")).await?, Ok(()));
        assert_eq!(w.typed.get_or_insert(key, "two").await?, ("one".to_owned(), false));
        assert_eq!(w.typed.take(key).await?.as_deref(), Some("one"));
        assert!(!w.typed.delete(key).await?);
    }
};

/// Changes of more than one key, and of duplicates.
pub(super) const CHANGING: &[Kind] = kinds! {
    "Batch::commit" => |w, n| {
        let mut batch = w.db.batch();
        batch.put(&w.tree, own(n, 0), part(n, 3)).insert(&w.tree, near(n, 0), part(n, 3));
        batch.put(&w.tree, own(n, 1), part(n, 3)).require_present(&w.tree, base(n));
        batch.commit().await?;
    }
    "Batch::commit" => |w, n| {
        // A big one, changed once more, and deleted as it came.
        many(&w, n, MANY).commit().await?;
        let mut batch = w.db.batch();
        for index in 0..MANY {
            batch.delete(&w.tree, near(n, index));
        }
        batch.commit().await?;
        assert!(!w.tree.contains(near(n, MANY / 2)).await?);
    }
    "Tree::delete_range" => |w, n| {
        many(&w, n, MANY).commit().await?;
        w.tree.delete_range(near(n, 0)..=near(n, 99)).await?;
        assert_eq!(w.tree.prefix(format!("near {n:06}/")).try_next().await?, None);
    }
    "TypedTree::delete_range" => |w, n| {
        let (first, mut batch) = (PAIRS + (1 << 24) + 2 * n as u64, w.db.batch());
        batch.typed(&w.typed).put(first, "pair").put(first + 1, "pair");
        batch.commit().await?;
        w.typed.delete_range(first..first + 2).await?;
        assert_eq!(w.typed.get_many([first, first + 1]).await?, [None, None]);
    }
    "Commit::sequences" => |w, n| {
        let mut batch = w.db.batch();
        let key = format!("pair {n}");
        batch.insert_dup(&w.multi, &key, "one").insert_dup(&w.multi, &key, "two");
        let sequences = batch.commit().sequences().await?;
        assert!(sequences.len() == 2 && sequences[0] < sequences[1]);
    }
    "MultiTree::insert_dup MultiTree::delete_dup MultiTree::take_dup" => |w, n| {
        let key = format!("dup {n}");
        let sequence = w.multi.insert_dup(&key, "v").await?;
        assert_eq!(w.multi.take_dup(&key, sequence).await?.as_deref(), Some(&b"v"[..]));
        assert!(!w.multi.delete_dup(&key, sequence).await?);
    }
    "MultiTree::delete_value MultiTree::delete_all" => |w, n| {
        let key = format!("dup {n}");
        let mut sequences = Vec::new();
        for number in 0..4 {
            sequences.push(w.multi.insert_dup(&key, [number]).durability(Durability::None).await?);
        }
        assert_eq!(w.multi.delete_value(&key, [2]).await?, Some(sequences[2]));
        assert_eq!(w.multi.delete_all(&key).await?, 3);
    }
    "Batch::commit" => |w, n| {
        let (first, mut batch) = (PAIRS + 2 * n as u64, w.db.batch());
        batch.typed(&w.typed).put(first, "pair").put(first + 1, "pair");
        batch.commit().await?;
    }
    "Loader::put Loader::finish" => |w, n| {
        let name = format!("load {n:06}");
        let mut load = w.db.tree(&name).await?.load();
        for key in 0..LOADED {
            load.put(format!("{key:04}"), vec![b'v'; 1000]).await?;
        }
        assert_eq!(load.finish().await?.keys, LOADED as u64);
        w.db.drop_tree(&name).await?;
    }
};

impl World {
    /// Fails unless all that stays is there, and of each operation all or nothing.
    pub(super) async fn check(&self) {
        check_own(&self.tree).await;
        let stays: Vec<_> = self.multi.get_all("stays").try_collect().await.unwrap();
        assert_eq!(stays.len(), 3);
        let mut pairs = BTreeMap::<_, usize>::new();
        let mut found = self.multi.prefix("pair ");
        while let Some((key, ..)) = found.try_next().await.unwrap() {
            *pairs.entry(key.into_vec()).or_default() += 1;
        }
        assert!(pairs.values().all(|&count| count == 2), "duplicates of one batch: {pairs:?}");
        let typed: Vec<(u64, String)> = self.typed.range(PAIRS..).try_collect().await.unwrap();
        for pair in typed.chunks(2) {
            assert!(pair.len() == 2 && pair[0].0 % 2 == 0 && pair[1].0 == pair[0].0 + 1);
        }
        for name in self.db.tree_names() {
            if name.starts_with("load ") {
                let loaded = all(&self.db.find_tree(&name).unwrap().unwrap()).await.len();
                assert!(loaded == 0 || loaded == LOADED, "{loaded} records of a bulk load");
            }
        }
        assert_sound(&self.db).await;
    }
}

async fn check_own(tree: &Tree) {
    let (mut stay, mut parts) = (0, BTreeMap::<String, (usize, usize)>::new());
    for (key, value) in all(tree).await {
        let key = String::from_utf8(key).unwrap();
        let Some((what, rest)) = key.split_once('/') else {
            let (byte, len) = if key == "large" { (b'l', LARGE) } else { (b'b', 150) };
            assert_eq!(value, vec![byte; len], "{key}");
            stay += 1;
            continue;
        };
        let number = rest.split_once('/').map_or(&what[5..], |(number, _)| number);
        assert!(value.iter().all(|&byte| byte == value[0]), "{key} is wholly there");
        let there = parts.entry(number.to_owned()).or_insert((0, value[0].into()));
        assert_eq!(there.1, usize::from(value[0]), "{key}");
        there.0 += 1;
    }
    assert_eq!(stay, KEYS + 1);
    for (number, (found, written)) in parts {
        assert_eq!(found, written, "keys of operation {number}");
    }
}
