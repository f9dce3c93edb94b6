//! Futures that are dropped after any of their polls, or polled and then never again: what they
//! wanted is wholly there or wholly absent, and nobody else waits for them.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{Home, all, assert_sound, on_tokio, polled, tiny};
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use treering::{Database, Durability, Error, ErrorKind, Io, Options, Tree};

const KEYS: usize = 1500;
/// Leaves are far apart, so that most of what is asked for is not in memory.
const STRIDE: usize = 389;

fn options(io: Io) -> Options {
    // The smallest pool, and a log whose buffer takes a few dozen commits.
    tiny(4096, 16).io(io).log_buffer(8 << 10)
}

fn base(number: usize) -> String {
    format!("base {:05}", number * STRIDE % KEYS)
}

async fn filled(io: Io, home: &Home) -> (Database, Tree) {
    let db = options(io).open(&home.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    for number in 0..KEYS {
        let put = tree.put(base(number), [b'b'; 150]);
        put.durability(Durability::None).await.unwrap();
    }
    db.checkpoint().await.unwrap();
    (db, tree)
}

/// Every kind of operation, by its number.
const KINDS: usize = 33;
/// Bytes of a value that has pages of its own.
const LARGE: usize = 20_000;
/// Operations of a batch that is larger than the log's buffer.
const MANY: usize = 60;

/// Operation `number` of a kind, which owns all that it needs. What it writes has its number in it.
fn operation(
    kind: usize,
    number: usize,
    db: &Database,
    tree: &Tree,
) -> BoxFuture<'static, Result<(), Error>> {
    let (db, tree) = (db.clone(), tree.clone());
    let (near, own) = (base(number), format!("base {:05}/{number:05}", number * STRIDE % KEYS));
    let value = vec![b'x'; 100 + number % 100];
    async move {
        match kind {
            0 => drop(tree.get(near).await?),
            1 => drop(tree.get_with(near, <[u8]>::len).await?),
            2 => drop(tree.contains(near).await?),
            3 => drop(tree.get_many((0..6).map(|n| base(number + n))).await?),
            4 => drop(tree.range(near..).try_next().await?),
            5 => drop(tree.range(..near).rev().next_chunk().await?),
            6 => drop(tree.range(near..).try_fold(0, |n, _| async move { Ok(n + 1) }).await?),
            7 => tree.put(own, value).await?,
            8 => tree.insert(own, value).await?,
            9 => tree.update(near, [b'b'; 150]).await?,
            10 => drop(tree.replace(own, value).await?),
            11 => drop(tree.delete(own).await?),
            12 => drop(tree.take(own).await?),
            13 => tree.put(own, value).durability(Durability::Buffered).await?,
            14 => tree.put(own, value).durability(Durability::None).await?,
            15 => pair(&db, &tree, number).commit().await?,
            16 => drop(db.tree(format!("tree {}", number % 40)).await?),
            17..30 => newer(kind, number, &db, &tree, near).await?,
            30 => db.sync().await?,
            31 => db.checkpoint().await?,
            _ => drop(db.verify().await?),
        }
        Ok(())
    }
    .boxed()
}

/// What is more than a plain key and a small value.
async fn newer(
    kind: usize,
    number: usize,
    db: &Database,
    tree: &Tree,
    near: String,
) -> Result<(), Error> {
    match kind {
        17 => {
            let mut cursor = tree.cursor();
            cursor.seek(&near).await?;
            cursor.prev().await?;
            cursor.seek_for_prev(&near).await?;
            cursor.next().await?;
        }
        18 => {
            let multi = db.multi_tree("m").await?;
            multi.insert_dup(&near, number.to_string()).await?;
            multi.get_all(&near).try_fold(0, |n, _| async move { Ok(n + 1) }).await?;
            multi.delete_value(&near, number.to_string()).await?;
        }
        19 => drop(db.multi_tree("m").await?.delete_all(&near).await?),
        20 => tree.put(format!("large {number:05}"), [b'l'; LARGE]).await?,
        21 => {
            let mut writer = tree.write_stream(format!("large {number:05}"))?;
            for _ in 0..LARGE / 1000 {
                writer.write(&[b'l'; 1000]).await?;
            }
            writer.commit().await?;
        }
        22 => {
            let near = format!("large {:05}", number.saturating_sub(KINDS));
            tree.get_range(&near, 5_000..15_000).await?;
            tree.delete(&near).await?;
        }
        23 => drop(tree.compare_and_swap(&near, Some(&[b'b'; 150]), Some(&[b'b'; 150])).await?),
        24 => drop(tree.get_or_insert(&near, [b'b'; 150]).await?),
        25 => drop(tree.modify(&near, |old| old.map(<[u8]>::to_vec)).await?),
        26 => many(db, tree, number).commit().await?,
        27 => {
            many(db, tree, number).commit().await?;
            tree.delete_range(many_key(number, "")..many_key(number, "~")).await?;
        }
        28 => {
            let name = format!("other {}", number % 7);
            db.tree(&name).await?.put(&near, [b'o'; 150]).await?;
            db.drop_tree(&name).await?;
        }
        _ => {
            let folder = tempfile::tempdir().unwrap();
            db.backup(folder.path().join("copy.tr")).await?;
            db.compact().await?;
        }
    }
    Ok(())
}

/// Two keys, far apart, that are there together or not at all.
fn pair(db: &Database, tree: &Tree, number: usize) -> treering::Batch {
    let mut batch = db.batch();
    batch.put(tree, format!("a pair {number:05}"), [b'p'; 200]).put(
        tree,
        format!("z pair {number:05}"),
        [b'p'; 200],
    );
    batch
}

/// Keys beside each other, more than a commit takes at once, that are there together or not at all.
fn many(db: &Database, tree: &Tree, number: usize) -> treering::Batch {
    let mut batch = db.batch();
    for index in 0..MANY {
        batch.put(tree, many_key(number, &format!("{index:02}")), [b'm'; 200]);
    }
    batch
}

fn many_key(number: usize, index: &str) -> String {
    format!("many {number:05} {index}")
}

fn allowed(result: Result<(), Error>) {
    if let Err(error) = result {
        // Others insert the same key, and drop the same tree.
        let kind = error.kind();
        assert!(matches!(kind, ErrorKind::KeyExists | ErrorKind::NoSuchTree), "{error}");
    }
}

/// What the tree may hold: all of its base, and of each operation all or nothing.
async fn check(db: &Database) {
    let tree = db.find_tree("t").unwrap().unwrap();
    let pairs = all(&tree).await;
    let (mut base, mut a, mut z) = (0, Vec::new(), Vec::new());
    let mut many = BTreeMap::<String, usize>::new();
    for (key, value) in pairs {
        let key = String::from_utf8(key).unwrap();
        if let Some(number) = key.strip_prefix("a pair ") {
            a.push(number.to_owned());
        } else if let Some(number) = key.strip_prefix("z pair ") {
            z.push(number.to_owned());
        } else if let Some(number) = key.strip_prefix("many ") {
            *many.entry(number[..5].to_owned()).or_default() += 1;
        } else if key.starts_with("large ") {
            assert_eq!(value, [b'l'; LARGE], "{key} is wholly there");
        } else if let Some((_, number)) = key.split_once('/') {
            let number: usize = number.parse().unwrap();
            assert_eq!(value, vec![b'x'; 100 + number % 100], "{key} is wholly there");
        } else {
            assert_eq!(value, [b'b'; 150], "{key}");
            base += 1;
        }
    }
    assert_eq!(base, KEYS);
    assert_eq!(a, z, "pairs are there together or not at all");
    assert!(many.values().all(|&found| found == MANY), "{MANY} or none of each: {many:?}");
    assert_sound(db).await;
}

#[test]
fn futures_dropped_after_each_of_their_polls_leave_all_or_nothing_on_io_uring() {
    drop_after_each_poll(Io::Uring);
}

#[test]
fn futures_dropped_after_each_of_their_polls_leave_all_or_nothing_on_threads() {
    drop_after_each_poll(Io::Threads);
}

fn drop_after_each_poll(io: Io) {
    const POLLS_MAX: usize = 60;
    let home = Home::new();
    on_tokio(4, "operations beside dropped ones", async {
        let (db, tree) = filled(io, &home).await;
        let mut number = 0;
        for kind in 0..KINDS {
            for times in 0..POLLS_MAX {
                number += 1;
                if let Ok(result) = polled(operation(kind, number, &db, &tree), times).await {
                    allowed(result);
                    break;
                }
            }
        }
        // Eight at a time, of all kinds, given up at any point, so that the pool is never at rest.
        let next = Arc::new(AtomicUsize::new(number));
        let tasks = (0..8).map(|task| {
            let (db, tree, next) = (db.clone(), tree.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                for round in 0..120 {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    // All but verify, which takes long.
                    let kind = (task * 7 + round) % (KINDS - 1);
                    let operation = operation(kind, number, &db, &tree);
                    if let Ok(result) = polled(operation, (round + task) % 5).await {
                        allowed(result);
                    }
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        // A record that an abandoned future left behind ends before the close does.
        db.close().await.unwrap();
        drop((db, tree));
        check(&options(io).open(&home.path).await.unwrap()).await;
    });
}

#[test]
fn two_hundred_futures_of_every_kind_held_unpolled_keep_nobody_waiting_on_io_uring() {
    hold(Io::Uring, 1);
}

#[test]
fn two_hundred_futures_of_every_kind_held_unpolled_keep_nobody_waiting_on_threads() {
    hold(Io::Threads, 1);
}

#[test]
fn futures_held_after_their_second_and_third_poll_keep_nobody_waiting() {
    hold(Io::Uring, 2);
    hold(Io::Uring, 3);
}

fn hold(io: Io, polls: usize) {
    let held_of_a_kind = 200 / polls;
    let home = Home::new();
    on_tokio(4, "operations beside futures that are held unpolled", async {
        let (db, tree) = filled(io, &home).await;
        let mut held = Vec::new();
        for number in 0..held_of_a_kind {
            for kind in 0..KINDS {
                // Those that are over already hold nothing.
                let operation = operation(kind, number * KINDS + kind, &db, &tree);
                held.extend(polled(operation, polls).await.err());
            }
        }
        let least = if polls == 1 { held_of_a_kind } else { 1 };
        assert!(held.len() >= least, "only {} are pending", held.len());

        let tasks = (0..20).map(|task| {
            let (db, tree) = (db.clone(), tree.clone());
            tokio::spawn(async move {
                for round in 0..50 {
                    let number = held_of_a_kind * KINDS + task * 50 + round;
                    allowed(operation((task + round) % (KINDS - 2), number, &db, &tree).await);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        db.checkpoint().await.unwrap();
        assert_sound(&db).await;
        db.close().await.unwrap();
        // They hold handles of the old database, which keep nobody from opening it.
        let again = options(io).open(&home.path).await.unwrap();
        check(&again).await;
        drop(held);
        check(&again).await;
        again.close().await.unwrap();
    });
}

/// Whoever gives up waiting for the close has still closed it.
#[test]
fn a_close_that_was_given_up_goes_on() {
    let home = Home::new();
    on_tokio(2, "the end of a database", async {
        for times in 0..6 {
            let (db, tree) = {
                let db = options(Io::Auto).open(&home.path).await.unwrap();
                let tree = db.tree("t").await.unwrap();
                (db, tree)
            };
            tree.put([times as u8], [1; 100]).durability(Durability::Buffered).await.unwrap();
            let _ = polled(Box::pin(db.close()), times).await;
            drop((db, tree));
        }
        let db = options(Io::Auto).open(&home.path).await.unwrap();
        assert_eq!(all(&db.tree("t").await.unwrap()).await.len(), 6);
    });
}
