//! Many tasks, few frames: nothing is lost, nothing comes back, nothing is seen twice.
//!
//! Each task owns keys that nobody else writes, lying between everybody else's in the same leaves,
//! and knows their exact state at any time. Counters are shared and changed by compare-and-swap
//! batches, whose number is exact, and money is moved between accounts, whose sum is.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use crate::common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Home, all, assert_sound, on_tokio, tiny};
use futures::TryStreamExt;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::{Database, Durability, ErrorKind, Io, Tree};

const TASKS: u16 = 64;
const THREADS: usize = 8;
const KEYS_OF_A_TASK: u16 = 32;
const ACCOUNTS: u64 = 8;
const MONEY: i64 = 1000;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys of all tasks lie between each other: the number of the key comes first.
fn key_of(task: u16, number: u16) -> Vec<u8> {
    format!("{number:03}/{task:02}").into_bytes()
}

fn owner_of(key: &[u8]) -> Option<u16> {
    std::str::from_utf8(key).ok()?.split_once('/')?.1.parse().ok()
}

fn counter(number: u64) -> String {
    format!("counter {number}")
}

struct Worker {
    task: u16,
    db: Database,
    keys: Tree,
    shared: Tree,
    rng: SmallRng,
    model: Model,
    value_max: usize,
    /// A batch may touch an eighth of the pool's frames.
    batch_max: usize,
    increments: Arc<AtomicU64>,
}

impl Worker {
    async fn run(mut self, rounds: usize) -> Model {
        for _ in 0..rounds {
            match self.rng.random_range(0..14) {
                0 | 1 => self.insert().await,
                2 => self.update().await,
                3 => self.put().await,
                4 => self.replace().await,
                5 => self.delete().await,
                6 => self.take().await,
                7 | 8 => self.get().await,
                9 => self.get_many().await,
                10 => self.scan().await,
                11 => self.batch().await,
                12 => self.increment().await,
                _ => self.transfer().await,
            }
        }
        self.model
    }

    fn key(&mut self) -> Vec<u8> {
        key_of(self.task, self.rng.random_range(0..KEYS_OF_A_TASK))
    }

    fn value(&mut self) -> Vec<u8> {
        let len = self.rng.random_range(0..=self.value_max);
        vec![self.rng.random(); len]
    }

    fn durability(&mut self) -> Durability {
        match self.rng.random_range(0..4) {
            0 | 1 => Durability::Durable,
            2 => Durability::Buffered,
            _ => Durability::None,
        }
    }

    async fn insert(&mut self) {
        let (key, value, durability) = (self.key(), self.value(), self.durability());
        match self.keys.insert(&key, &value).durability(durability).await {
            Ok(()) => assert_eq!(self.model.insert(key, value), None),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::KeyExists, "{error}");
                assert!(self.model.contains_key(&key));
            }
        }
    }

    async fn update(&mut self) {
        let (key, value, durability) = (self.key(), self.value(), self.durability());
        match self.keys.update(&key, &value).durability(durability).await {
            Ok(()) => assert!(self.model.insert(key, value).is_some()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::KeyMissing, "{error}");
                assert!(!self.model.contains_key(&key));
            }
        }
    }

    async fn put(&mut self) {
        let (key, value, durability) = (self.key(), self.value(), self.durability());
        self.keys.put(&key, &value).durability(durability).await.unwrap();
        self.model.insert(key, value);
    }

    async fn replace(&mut self) {
        let (key, value, durability) = (self.key(), self.value(), self.durability());
        let old = self.keys.replace(&key, &value).durability(durability).await.unwrap();
        assert_eq!(old.as_deref(), self.model.insert(key, value).as_deref());
    }

    async fn delete(&mut self) {
        let (key, durability) = (self.key(), self.durability());
        let existed = self.keys.delete(&key).durability(durability).await.unwrap();
        assert_eq!(existed, self.model.remove(&key).is_some());
    }

    async fn take(&mut self) {
        let (key, durability) = (self.key(), self.durability());
        let old = self.keys.take(&key).durability(durability).await.unwrap();
        assert_eq!(old.as_deref(), self.model.remove(&key).as_deref());
    }

    async fn get(&mut self) {
        let key = self.key();
        let expected = self.model.get(&key);
        assert_eq!(self.keys.get(&key).await.unwrap().as_deref(), expected.map(Vec::as_slice));
        let len = self.keys.get_with(&key, <[u8]>::len).await.unwrap();
        assert_eq!(len, expected.map(Vec::len));
    }

    async fn get_many(&mut self) {
        let keys: Vec<_> = (0..8).map(|_| self.key()).collect();
        let values = self.keys.get_many(&keys).await.unwrap();
        for (key, value) in keys.iter().zip(values) {
            assert_eq!(value.as_deref(), self.model.get(key).map(Vec::as_slice));
        }
    }

    /// A window of the keys of all, in either direction, in order, with exactly what is ours.
    async fn scan(&mut self) {
        let low = self.rng.random_range(0..KEYS_OF_A_TASK);
        let high = (low + 4).min(KEYS_OF_A_TASK);
        let (low, high) = (key_of(0, low), key_of(0, high));
        let range = self.keys.range(&low..&high);
        let backward = self.rng.random();
        let range = if backward { range.rev() } else { range };
        let mut pairs: Vec<_> = range.try_collect().await.unwrap();
        if backward {
            pairs.reverse();
        }
        assert!(pairs.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, each once");
        let mine = pairs.into_iter().filter(|(key, _)| owner_of(key) == Some(self.task));
        let mine: Vec<_> = mine.map(|(key, value)| (key.into_vec(), value.into_vec())).collect();
        let expected = self.model.range(low..high).map(|(key, value)| (key.clone(), value.clone()));
        assert_eq!(mine, expected.collect::<Vec<_>>());
    }

    /// Some of our keys at once; sometimes with a condition that does not hold.
    async fn batch(&mut self) {
        let mut batch = self.db.batch();
        let mut after = self.model.clone();
        for _ in 0..self.rng.random_range(1..self.batch_max) {
            let key = self.key();
            if self.rng.random_ratio(1, 3) {
                batch.delete(&self.keys, &key);
                after.remove(&key);
            } else {
                let value = self.value();
                batch.put(&self.keys, &key, &value);
                after.insert(key, value);
            }
        }
        let key = self.key();
        let impossible = self.rng.random_ratio(1, 4);
        match (after.contains_key(&key), impossible) {
            (true, false) | (false, true) => batch.require_present(&self.keys, &key),
            (true, true) | (false, false) => batch.require_absent(&self.keys, &key),
        };
        let last = batch.len() - 1;
        let durability = self.durability();
        match batch.commit().durability(durability).await {
            Ok(()) => {
                assert!(!impossible);
                self.model = after;
            }
            Err(error) => {
                assert!(impossible, "{error}");
                assert_eq!(error.operation(), Some(last));
            }
        }
    }

    /// Compare-and-swap until it succeeds, which is counted beside the database.
    async fn increment(&mut self) {
        let key = counter(self.rng.random_range(0..4));
        loop {
            let seen = self.shared.get(&key).await.unwrap().unwrap();
            let next = number(&seen) + 1;
            let mut batch = self.db.batch();
            batch.require_value(&self.shared, &key, &seen);
            batch.put(&self.shared, &key, next.to_le_bytes());
            let durability = self.durability();
            match batch.commit().durability(durability).await {
                Ok(()) => {
                    self.increments.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::ValueDiffers, "{error}"),
            }
        }
    }

    /// Moves money between two accounts, in two trees' leaves, if nobody was faster.
    async fn transfer(&mut self) {
        let (from, to) = (self.rng.random_range(0..ACCOUNTS), self.rng.random_range(0..ACCOUNTS));
        if from == to {
            return;
        }
        let (from, to) = (format!("account {from}"), format!("account {to}"));
        let seen = self.shared.get_many([&from, &to]).await.unwrap();
        let [Some(has), Some(gets)] = seen.as_slice() else { panic!("accounts stay") };
        let mut batch = self.db.batch();
        batch
            .require_value(&self.shared, &from, has)
            .require_value(&self.shared, &to, gets)
            .put(&self.shared, &from, (number(has) - 1).to_le_bytes())
            .put(&self.shared, &to, (number(gets) + 1).to_le_bytes());
        let durability = self.durability();
        if let Err(error) = batch.commit().durability(durability).await {
            assert_eq!(error.kind(), ErrorKind::ValueDiffers, "{error}");
        }
    }
}

fn number(value: &[u8]) -> i64 {
    i64::from_le_bytes(value.try_into().unwrap())
}

async fn check(db: &Database, models: &Model, increments: u64) {
    let keys = db.find_tree("keys").unwrap().unwrap();
    let expected: Vec<_> = models.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    assert_eq!(all(&keys).await, expected);
    let shared = db.find_tree("shared").unwrap().unwrap();
    let (mut count, mut money) = (0, 0);
    for (key, value) in all(&shared).await {
        *if key.starts_with(b"counter") { &mut count } else { &mut money } += number(&value);
    }
    assert_eq!(count, increments as i64, "each successful compare-and-swap counts once");
    assert_eq!(money, ACCOUNTS as i64 * MONEY, "money is moved, not made");
    assert_sound(db).await;
}

struct Storm {
    io: Io,
    page_size: usize,
    frames: usize,
    rounds: usize,
    close: bool,
}

/// The storm: 64 tasks, checkpoints all the time, then the same contents in memory, after a close
/// (or a drop), and after another opening.
async fn storm(Storm { io, page_size, frames, rounds, close }: Storm) {
    let home = Home::new();
    let open = || tiny(page_size, frames).io(io).open(&home.path);
    let db = open().await.unwrap();
    let (keys, shared) = (db.tree("keys").await.unwrap(), db.tree("shared").await.unwrap());
    for n in 0..4 {
        shared.put(counter(n), 0i64.to_le_bytes()).await.unwrap();
    }
    for n in 0..ACCOUNTS {
        shared.put(format!("account {n}"), MONEY.to_le_bytes()).await.unwrap();
    }
    let increments = Arc::new(AtomicU64::new(0));
    let workers = (0..TASKS).map(|task| {
        let worker = Worker {
            task,
            db: db.clone(),
            keys: keys.clone(),
            shared: shared.clone(),
            rng: SmallRng::seed_from_u64(u64::from(task)),
            model: Model::new(),
            value_max: page_size / 10,
            batch_max: (frames / 8).min(6),
            increments: Arc::clone(&increments),
        };
        tokio::spawn(worker.run(rounds))
    });
    let workers: Vec<_> = workers.collect();
    let over = Arc::new(AtomicBool::new(false));
    let checkpoints = tokio::spawn({
        let (db, over) = (db.clone(), Arc::clone(&over));
        async move {
            while !over.load(Ordering::Relaxed) {
                db.checkpoint().await.unwrap();
            }
        }
    });
    let mut models = Model::new();
    for worker in workers {
        models.extend(worker.await.unwrap());
    }
    over.store(true, Ordering::Relaxed);
    checkpoints.await.unwrap();
    let increments = increments.load(Ordering::Relaxed);
    check(&db, &models, increments).await;
    let stats = db.stats();
    assert!(stats.checkpoints > 1 && stats.pool.evictions > 0, "{stats:?}");

    if close {
        db.close().await.unwrap();
    } else {
        db.sync().await.unwrap();
    }
    drop((db, keys, shared));
    for _ in 0..2 {
        check(&open().await.unwrap(), &models, increments).await;
    }
}

fn storm_of(storm_like: Storm) {
    on_tokio(THREADS, "the storm", storm(storm_like));
}

#[test]
fn a_storm_over_the_smallest_pool_loses_nothing_on_io_uring() {
    storm_of(Storm { io: Io::Uring, page_size: 4096, frames: 16, rounds: 300, close: true });
}

#[test]
fn a_storm_over_the_smallest_pool_loses_nothing_on_threads() {
    storm_of(Storm { io: Io::Threads, page_size: 4096, frames: 16, rounds: 300, close: false });
}

#[test]
fn a_storm_over_a_small_pool_loses_nothing_on_io_uring() {
    storm_of(Storm { io: Io::Uring, page_size: 4096, frames: 56, rounds: 400, close: false });
}

#[test]
fn a_storm_over_a_small_pool_loses_nothing_on_threads() {
    storm_of(Storm { io: Io::Threads, page_size: 4096, frames: 56, rounds: 400, close: true });
}

#[test]
fn a_storm_over_a_deep_tree_of_small_pages_loses_nothing_on_io_uring() {
    deep(Io::Uring);
}

#[test]
fn a_storm_over_a_deep_tree_of_small_pages_loses_nothing_on_threads() {
    deep(Io::Threads);
}

fn deep(io: Io) {
    let home = Home::new();
    let opened = futures::executor::block_on(tiny(512, 64).io(io).open(&home.path));
    if let Err(error) = opened {
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        println!("skipped: no pages of 512 bytes here: {error}");
        return;
    }
    storm_of(Storm { io, page_size: 512, frames: 64, rounds: 150, close: true });
}

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
