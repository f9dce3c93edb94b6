//! Many tasks, few frames: nothing is lost, nothing comes back, nothing is seen twice.
//!
//! Each task owns keys that nobody else writes, lying between everybody else's in the same leaves,
//! and knows their exact state at any time. Counters are shared and changed by compare-and-swap
//! batches, whose number is exact, and money is moved between accounts, whose sum is.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common::{Home, all, assert_sound, on_tokio, tiny};
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
