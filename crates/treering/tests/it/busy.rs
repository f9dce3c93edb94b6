//! A database at its busiest: scans, checks, closes and drops in the middle of what many tasks do.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Home, all, assert_sound, on_tokio, tiny};
use futures::TryStreamExt;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::{Durability, ErrorKind, Io};

const TASKS: u16 = 64;
const THREADS: usize = 8;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys that are there all along, between keys that come and go and so split the leaves that the
/// scans stand in.
#[test]
fn a_scan_beside_writers_returns_what_was_there_throughout_exactly_once_and_in_order() {
    const STABLE: usize = 500;
    let home = Home::new();
    on_tokio(THREADS, "scans beside writers", async {
        let db = tiny(4096, 32).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let stable: Vec<_> = (0..STABLE).map(|n| format!("{n:05}").into_bytes()).collect();
        for key in &stable {
            tree.put(key, b"stays").durability(Durability::None).await.unwrap();
        }
        let over = Arc::new(AtomicBool::new(false));
        let writers = (0..16).map(|writer| {
            let (tree, over) = (tree.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut rng = SmallRng::seed_from_u64(writer);
                while !over.load(Ordering::Relaxed) {
                    let key = format!("{:05}/{writer}", rng.random_range(0..STABLE));
                    let value = vec![b'g'; rng.random_range(0..400)];
                    if rng.random_ratio(2, 3) {
                        tree.put(key, value).durability(Durability::None).await.unwrap();
                    } else {
                        tree.delete(key).durability(Durability::None).await.unwrap();
                    }
                    tokio::task::yield_now().await;
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        let scanners = (0..8).map(|scanner| {
            let (tree, stable) = (tree.clone(), stable.clone());
            tokio::spawn(async move {
                for _ in 0..6 {
                    let range = tree.range(..);
                    let backward = scanner % 2 == 1;
                    let range = if backward { range.rev() } else { range };
                    let mut pairs: Vec<_> = range.try_collect().await.unwrap();
                    if backward {
                        pairs.reverse();
                    }
                    assert!(pairs.windows(2).all(|pair| pair[0].0 < pair[1].0));
                    let kept = pairs.into_iter().filter(|(key, _)| key.len() == 5);
                    let kept: Vec<_> = kept.map(|(key, _)| key.into_vec()).collect();
                    assert_eq!(kept, stable);
                }
            })
        });
        for scanner in scanners.collect::<Vec<_>>() {
            scanner.await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

/// With more tasks than frames, pages were once evicted for the next load before those who had asked
/// for them were polled: out of a hundred reads, one was of use.
#[test]
fn loads_do_not_outrun_the_tasks_that_wait_for_them() {
    const KEYS: usize = 4000;
    const GETS: usize = 40;
    for io in [Io::Uring, Io::Threads] {
        let home = Home::new();
        on_tokio(THREADS, "gets", async {
            let db = tiny(4096, 16).io(io).open(&home.path).await.unwrap();
            let tree = db.tree("t").await.unwrap();
            for n in 0..KEYS {
                tree.put(format!("{n:05}"), [1; 200]).durability(Durability::None).await.unwrap();
            }
            db.checkpoint().await.unwrap();
            let before = db.stats().pool.loads;
            let readers = (0..TASKS).map(|reader| {
                let tree = tree.clone();
                tokio::spawn(async move {
                    let mut rng = SmallRng::seed_from_u64(u64::from(reader));
                    for _ in 0..GETS {
                        let key = format!("{:05}", rng.random_range(0..KEYS));
                        assert!(tree.get(key).await.unwrap().is_some());
                    }
                })
            });
            for reader in readers.collect::<Vec<_>>() {
                reader.await.unwrap();
            }
            let (gets, loads) = (u64::from(TASKS) * GETS as u64, db.stats().pool.loads - before);
            assert!(loads < 4 * gets, "{loads} pages were read for {gets} gets");
            db.close().await.unwrap();
        });
    }
}

/// Whoever is told that a commit is durable finds it again, also when the close came right behind;
/// everybody else is told that the database is closed. Nobody waits for ever.
#[test]
fn a_close_in_the_middle_of_a_storm_ends_and_keeps_what_was_acknowledged() {
    for io in [Io::Uring, Io::Threads] {
        let home = Home::new();
        on_tokio(THREADS, "a close beside writers", async {
            let mut acknowledged = Model::new();
            for round in 0..4u32 {
                let db = tiny(4096, 16).io(io).open(&home.path).await.unwrap();
                let tree = db.tree("t").await.unwrap();
                let writers = (0..TASKS).map(|writer| {
                    let tree = tree.clone();
                    tokio::spawn(async move {
                        let mut done = Model::new();
                        for n in 0.. {
                            let key = format!("{n:04}/{writer:02}/{round}").into_bytes();
                            let read = tree.get(&key).await;
                            let written = tree.put(&key, [writer as u8; 300]).await;
                            match read.map(drop).and(written) {
                                Ok(()) => drop(done.insert(key, vec![writer as u8; 300])),
                                Err(error) => {
                                    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                                    return done;
                                }
                            }
                        }
                        done
                    })
                });
                let writers: Vec<_> = writers.collect();
                while db.stats().sequence < u64::from(round + 1) * 400 {
                    db.sync().await.unwrap();
                }
                db.close().await.unwrap();
                for writer in writers {
                    acknowledged.extend(writer.await.unwrap());
                }
            }
            let db = tiny(4096, 16).io(io).open(&home.path).await.unwrap();
            let found: Model = all(&db.tree("t").await.unwrap()).await.into_iter().collect();
            for (key, value) in acknowledged {
                assert_eq!(found.get(&key), Some(&value), "{}", key.escape_ascii());
            }
            assert_sound(&db).await;
        });
    }
}

/// The last handle goes while pages are on their way to the disk. They must not land in what the
/// next opening makes of the file.
#[test]
fn a_database_dropped_with_page_writes_in_flight_is_sound_when_opened_at_once() {
    for io in [Io::Uring, Io::Threads] {
        let home = Home::new();
        on_tokio(4, "reopening", async {
            for round in 0..12u32 {
                let db = tiny(4096, 16).io(io).open(&home.path).await.unwrap();
                assert_sound(&db).await;
                let tree = db.tree("t").await.unwrap();
                for n in 0..400u32 {
                    let key = (n * 7919 % 4000).to_be_bytes();
                    let put = tree.put(key, [round as u8; 150]);
                    put.durability(Durability::None).await.unwrap();
                }
            }
            let db = tiny(4096, 16).io(io).open(&home.path).await.unwrap();
            // Dropping is no crash: what was in the log's buffer has been written.
            let pairs = all(&db.tree("t").await.unwrap()).await;
            assert_eq!(pairs.len(), 400);
            assert!(pairs.iter().all(|(_, value)| *value == [11; 150]));
        });
    }
}

/// Writers split pages and trees are made while every page is being checked.
#[test]
fn verify_finds_nothing_wrong_in_the_middle_of_a_storm() {
    let home = Home::new();
    on_tokio(THREADS, "verify beside writers", async {
        let db = tiny(4096, 40).open(&home.path).await.unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let writers = (0..16u32).map(|writer| {
            let (db, over) = (db.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut rng = SmallRng::seed_from_u64(u64::from(writer));
                let mut round = 0;
                while !over.load(Ordering::Relaxed) {
                    let tree = db.tree(format!("tree {}", (writer + round) % 30)).await.unwrap();
                    for _ in 0..20 {
                        let (key, len) = (rng.random_range(0..300u16), rng.random_range(0..600));
                        let put = tree.put(key.to_be_bytes(), vec![1; len]);
                        put.durability(Durability::None).await.unwrap();
                    }
                    round += 1;
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        for _ in 0..8 {
            assert_sound(&db).await;
        }
        over.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}
