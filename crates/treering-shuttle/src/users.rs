//! The users of the database: a thread each, which knows what it may see.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::{Cursor, Database, Durability, ErrorKind, Tree};
use treering_pagefile::sim::SimImage;

use crate::history::{History, Since, value_of};
use crate::machine::BusyDisk;

/// What all users have.
#[derive(Clone)]
pub(crate) struct Town {
    pub(crate) db: Database,
    pub(crate) tree: Tree,
    pub(crate) history: History,
    /// Values have at most so many bytes.
    pub(crate) value_max: usize,
    /// A batch has at most so many keys.
    pub(crate) batch_max: usize,
    /// Whether all that anybody does is batches, in the same place.
    pub(crate) crowded: bool,
    /// How often each does something.
    pub(crate) rounds: usize,
}

/// The key that all writers count up.
const COUNTER: &[u8] = b"012 counter";

/// Waits for what a future comes to.
pub(crate) fn wait<F: IntoFuture>(future: F) -> F::Output {
    shuttle::future::block_on(future.into_future())
}

/// By how much the crowd moves on at a time.
const CROWD_STEP: usize = 3;

/// Keys of all writers lie between each other: the number comes first.
pub(crate) fn key_of(owner: usize, number: usize) -> Vec<u8> {
    format!("{number:03}/{owner}").into_bytes()
}

pub(crate) fn is_counter(key: &[u8]) -> bool {
    key == COUNTER
}

/// Writes keys of its own and knows each of them at any time.
pub(crate) struct Writer {
    town: Town,
    owner: usize,
    keys: usize,
    rng: SmallRng,
    counted: u64,
    /// Which of its keys are there.
    there: BTreeMap<Vec<u8>, bool>,
}

impl Writer {
    pub(crate) fn new(town: Town, owner: usize, keys: usize, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self { town, owner, keys, rng, counted: 0, there: BTreeMap::new() }
    }

    /// Runs to the end; says how often it counted.
    pub(crate) fn run(mut self) -> u64 {
        if self.town.crowded {
            self.crowd();
            return 0;
        }
        for _ in 0..self.town.rounds {
            match self.rng.random_range(0..12) {
                0..3 => self.change(1),
                3..6 => {
                    let count = self.rng.random_range(2..=self.town.batch_max);
                    self.change(count);
                }
                6 => self.clear(),
                7 | 8 => self.fill(),
                9 => self.look(),
                10 => self.count(),
                _ => self.walk_own(),
            }
        }
        self.counted
    }

    fn key(&mut self) -> Vec<u8> {
        key_of(self.owner, self.rng.random_range(0..self.keys))
    }

    fn durability(&mut self) -> Durability {
        if self.town.crowded {
            return Durability::None;
        }
        match self.rng.random_range(0..4) {
            0 => Durability::Durable,
            1 => Durability::Buffered,
            _ => Durability::None,
        }
    }

    /// Puts or deletes some of its keys in one batch: anywhere, or within a few leaves.
    fn change(&mut self, count: usize) {
        let mut after = BTreeMap::new();
        let window = match self.rng.random() {
            true => 0..self.keys,
            false => {
                let from = self.rng.random_range(0..self.keys);
                from..self.keys.min(from + 2 * count)
            }
        };
        for _ in 0..count {
            let number = self.rng.random_range(window.clone());
            let len = self.rng.random_range(0..=self.town.value_max);
            let key = key_of(self.owner, number);
            after.insert(key, self.rng.random_ratio(2, 3).then_some(len));
        }
        self.commit(after.into_iter().collect());
    }

    /// Batches that go with everybody else's to the same few leaves, which split three ways under them:
    /// whoever has found his leaves finds them elsewhere when he latches them.
    fn crowd(&mut self) {
        for round in 0..self.town.rounds {
            let from = round * CROWD_STEP;
            let mut after = BTreeMap::new();
            for _ in 0..self.rng.random_range(2..=self.town.batch_max) {
                let number = self.rng.random_range(from..self.keys.min(from + 3 * CROWD_STEP));
                let len = self.rng.random_range(self.town.value_max / 2..=self.town.value_max);
                after.insert(key_of(self.owner, number), Some(len));
            }
            self.commit(after.into_iter().collect());
        }
    }

    /// Deletes keys in a row, one by one: pages become empty and are merged.
    fn clear(&mut self) {
        let from = self.rng.random_range(0..self.keys);
        for number in from..self.keys.min(from + 6) {
            self.commit(vec![(key_of(self.owner, number), None)]);
        }
    }

    /// Puts keys in a row, one by one: pages are split.
    fn fill(&mut self) {
        let from = self.rng.random_range(0..self.keys);
        for number in from..self.keys.min(from + 6) {
            self.commit(vec![(key_of(self.owner, number), Some(self.town.value_max))]);
        }
    }

    fn commit(&mut self, after: Vec<(Vec<u8>, Option<usize>)>) {
        let durability = self.durability();
        let Town { db, tree, history, .. } = &self.town;
        let (since, change) = (history.since(), history.begin(&after));
        if let [(key, None)] = &after[..] {
            let existed = wait(tree.delete(key).durability(durability));
            let existed = existed.unwrap_or_else(|error| panic!("deleting: {error}"));
            let expected = self.there.get(key).copied().unwrap_or(false);
            assert_eq!(existed, expected, "whether \"{}\" was there", key.escape_ascii());
        } else {
            let mut batch = db.batch();
            for (key, len) in &after {
                match len {
                    Some(len) => batch.put(tree, key, value_of(key, change, *len)),
                    None => batch.delete(tree, key),
                };
            }
            wait(batch.commit().durability(durability))
                .unwrap_or_else(|error| panic!("committing: {error}"));
        }
        self.town.history.done(change);
        if durability == Durability::Durable {
            self.town.history.durable(&since, Some(change));
        }
        self.there.extend(after.into_iter().map(|(key, len)| (key, len.is_some())));
    }

    /// Gets any keys, its own and others'.
    fn look(&mut self) {
        for _ in 0..4 {
            let (owner, number) = (self.rng.random_range(0..=self.owner), self.key());
            let key = [&number[..4], owner.to_string().as_bytes()].concat();
            let since = self.town.history.since();
            let value = wait(self.town.tree.get(&key));
            let value = value.unwrap_or_else(|error| panic!("getting: {error}"));
            self.town.history.saw(&key, value.as_deref(), &since, "a get");
        }
    }

    /// Counts the counter up by compare-and-swap.
    fn count(&mut self) {
        let durability = self.durability();
        let tree = &self.town.tree;
        let old = wait(tree.get(COUNTER)).unwrap_or_else(|error| panic!("getting: {error}"));
        let number =
            old.as_deref().and_then(|old| old.try_into().ok()).map_or(0, u64::from_le_bytes);
        let new = (number + 1).to_le_bytes();
        let swapped = tree.compare_and_swap(COUNTER, old.as_deref(), Some(&new));
        let swapped = wait(swapped.durability(durability));
        let swapped = swapped.unwrap_or_else(|error| panic!("swapping: {error}"));
        self.counted += u64::from(swapped.is_ok());
    }

    /// Steps to and fro around its own keys.
    fn walk_own(&mut self) {
        let key = self.key();
        walk(&self.town, &mut self.rng, &key, 6);
    }
}

/// Steps of a cursor from `key` on.
fn walk(town: &Town, rng: &mut SmallRng, key: &[u8], steps: usize) {
    let mut cursor = town.tree.cursor();
    let since = town.history.since();
    let found = wait(cursor.seek(key)).unwrap_or_else(|error| panic!("seeking: {error}"));
    check_step(town, &cursor, found, Some(key), true, true, &since);
    let mut forward: bool = rng.random();
    for _ in 0..steps {
        if rng.random_ratio(1, 4) {
            forward = !forward;
        }
        let Some(from) = cursor.key().map(<[u8]>::to_vec) else { return };
        let since = town.history.since();
        let found = match forward {
            true => wait(cursor.next()),
            false => wait(cursor.prev()),
        };
        let found = found.unwrap_or_else(|error| panic!("stepping: {error}"));
        check_step(town, &cursor, found, Some(&from), false, forward, &since);
    }
}

/// A cursor stepped from one key, or to it, to another, with nothing between.
fn check_step(
    town: &Town,
    cursor: &Cursor,
    found: bool,
    from: Option<&[u8]>,
    may_stay: bool,
    forward: bool,
    since: &Since,
) {
    let who = if forward { "a cursor's next" } else { "a cursor's prev" };
    let to = cursor.entry().filter(|_| found);
    if let (Some((to, _)), Some(from)) = (to, from) {
        let ordered = if forward { to > from } else { to < from };
        assert!(ordered || (may_stay && to == from), "{who} went the wrong way");
    }
    let key = to.map(|(key, _)| key);
    if let Some(from) = from.filter(|from| may_stay && key != Some(*from)) {
        town.history.saw(from, None, since, who);
    }
    match forward {
        true => town.history.saw_nothing_between(from, key, since, who),
        false => town.history.saw_nothing_between(key, from, since, who),
    }
    if let Some((key, value)) = to
        && !is_counter(key)
    {
        town.history.saw(key, Some(value), since, who);
    }
}

/// Reads in both directions.
pub(crate) fn read(town: &Town, keys: usize, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..town.rounds.div_ceil(4) {
        match rng.random_range(0..3) {
            0 => scan(town, true),
            1 => scan(town, false),
            _ => {
                let key = key_of(0, rng.random_range(0..keys));
                walk(town, &mut rng, &key, 16);
            }
        }
    }
}

/// Scans everything.
fn scan(town: &Town, forward: bool) {
    let who = if forward { "a scan" } else { "a scan backwards" };
    let mut range = town.tree.range(..);
    if !forward {
        range = range.rev();
    }
    let began = town.history.since();
    let mut last: Option<Vec<u8>> = None;
    loop {
        let since = town.history.since();
        let chunk = wait(range.next_chunk());
        let Some(chunk) = chunk.unwrap_or_else(|error| panic!("scanning: {error}")) else { break };
        for (key, value) in chunk.iter() {
            match (&last, forward) {
                (Some(last), true) => assert!(key > last.as_slice(), "{who} does not ascend"),
                (Some(last), false) => assert!(key < last.as_slice(), "{who} does not descend"),
                (None, _) => {}
            }
            match forward {
                true => town.history.saw_nothing_between(last.as_deref(), Some(key), &began, who),
                false => town.history.saw_nothing_between(Some(key), last.as_deref(), &began, who),
            }
            if !is_counter(key) {
                town.history.saw(key, Some(value), &since, who);
            }
            last = Some(key.to_vec());
        }
    }
    match forward {
        true => town.history.saw_nothing_between(last.as_deref(), None, &began, who),
        false => town.history.saw_nothing_between(None, last.as_deref(), &began, who),
    }
}

/// Checkpoints, tidies and syncs beside the others.
pub(crate) fn keep_house(town: &Town, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..town.rounds.div_ceil(3) {
        let since = town.history.since();
        let (what, result) = match rng.random_range(0..4) {
            0 | 1 => ("a checkpoint", wait(town.db.checkpoint())),
            2 => ("tidying", wait(town.db.tidy())),
            _ => ("a sync", wait(town.db.sync())),
        };
        result.unwrap_or_else(|error| panic!("{what}: {error}"));
        if what != "tidying" {
            town.history.durable(&since, None);
        }
    }
}

/// What a crash at some moment would leave, and what it must and may have.
pub(crate) struct Photo {
    pub(crate) image: SimImage,
    pub(crate) durable: Since,
    pub(crate) begun: Since,
}

/// Takes a picture of the disk after a while.
pub(crate) fn photograph(town: &Town, disk: &Arc<BusyDisk>, seed: u64) -> Photo {
    let mut rng = SmallRng::seed_from_u64(seed);
    let doublings = rng.random_range(0..10);
    for _ in 0..rng.random_range(0..1 << doublings) {
        shuttle::thread::yield_now();
    }
    // One step: there is no point between the two at which others could go on.
    let (durable, begun) = town.history.durable_now();
    let image = disk.sim.image_by_seed(rng.random());
    Photo { image, durable, begun }
}

/// What a full tree's counter says.
pub(crate) fn counter(town: &Town) -> u64 {
    match wait(town.tree.get(COUNTER)) {
        Ok(value) => {
            value.as_deref().and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes)
        }
        Err(error) if error.kind() == ErrorKind::KeyMissing => 0,
        Err(error) => panic!("getting the counter: {error}"),
    }
}
