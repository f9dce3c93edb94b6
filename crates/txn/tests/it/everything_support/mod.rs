//! The operations of the model of everything: each is done by the engine and on maps, and compared.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join;
use treering_blink::{Chunk, Direction, From, Kind, Nearest, Scan, TreeRef};
use treering_txn::{Batch, Durability, Engine, Error, OpKind, duplicates};

use crate::engine_support::{MAX_RECORD, Op, Rng, apply, key, large_value, value};

pub type Map = BTreeMap<Vec<u8>, Vec<u8>>;
/// Trees by name.
pub type Trees = BTreeMap<String, Map>;

/// The tree with duplicates; it is never dropped.
pub const MULTI: &str = "multi";
/// What has to occur.
pub const KINDS: &[&str] = &[
    "single",
    "batch",
    "violated",
    "swapped",
    "old values",
    "big batch",
    "big batch violated",
    "range",
    "range to the end",
    "insert dup",
    "delete dup",
    "delete value",
    "delete all",
    "cursor",
    "cursor back",
    "scan",
    "scan back",
    "large value",
    "part of a value",
    "get many",
    "create",
    "rename",
    "drop",
    "compact",
    "checkpoint",
    "tidy",
    "close",
    "stop",
    "crash",
    "crash in a change",
    "change survived",
    "merge",
];

/// What there is, and what has occurred.
#[derive(Default)]
pub struct World {
    pub now: Trees,
    /// What there was before, as far back as a crash may go.
    pub before: Vec<Trees>,
    /// What there may be instead, while a change is under way.
    pub next: Option<Trees>,
    pub events: BTreeMap<&'static str, u64>,
}

impl World {
    /// Something of this kind has occurred.
    pub fn count(&mut self, event: &'static str) {
        assert!(KINDS.contains(&event), "{event}");
        *self.events.entry(event).or_default() += 1;
    }
}

/// One life's view of the engine.
pub struct Life<'s> {
    pub engine: Arc<Engine>,
    pub world: &'s mut World,
    pub rng: &'s mut Rng,
}

/// What a step comes to; an error is the disk's.
pub type Done = Result<(), Error>;

impl Life<'_> {
    /// So many operations, each compared with what the maps say.
    pub async fn steps(&mut self, count: usize) -> Done {
        for _ in 0..count {
            match self.rng.below(100) {
                0..=29 => self.commit(1, "single").await?,
                30..=39 => {
                    let count = 2 + self.rng.below(10);
                    self.commit(count, "batch").await?;
                }
                40..=44 => {
                    let count = 60 + self.rng.below(120);
                    self.commit(count, "big batch").await?;
                }
                45..=48 => self.swap().await?,
                49..=53 => self.delete_range().await?,
                54..=60 => self.insert_duplicates().await?,
                61..=65 => self.delete_duplicates().await?,
                66..=72 => self.walk().await?,
                73..=80 => self.scan().await?,
                81..=87 => self.get().await?,
                88..=94 => self.change_trees().await?,
                _ => self.look_after().await?,
            }
        }
        Ok(())
    }

    fn durability(&mut self) -> Durability {
        *self.rng.pick(&[
            Durability::Durable,
            Durability::Buffered,
            Durability::None,
            Durability::None,
        ])
    }

    fn tree(&self, name: &str) -> TreeRef {
        self.engine.find_tree(name.as_bytes()).unwrap()
    }

    /// A tree without duplicates.
    fn some_tree(&mut self) -> String {
        let names: Vec<&String> = self.world.now.keys().filter(|name| *name != MULTI).collect();
        (*self.rng.pick(&names)).clone()
    }

    fn some_key(&mut self, tree: &str) -> Vec<u8> {
        let map = &self.world.now[tree];
        if !map.is_empty() && self.rng.chance(60) {
            return map.keys().nth(self.rng.below(map.len())).unwrap().clone();
        }
        key(self.rng)
    }

    /// Makes a change: while it is under way, both what was and what will be may be there.
    async fn change<T>(
        &mut self,
        next: Trees,
        durable: bool,
        change: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.world.next = Some(next);
        let done = change.await?;
        let next = self.world.next.take().unwrap();
        self.made(next, durable);
        Ok(done)
    }

    fn made(&mut self, next: Trees, durable: bool) {
        let before = std::mem::replace(&mut self.world.now, next);
        self.world.before.push(before);
        if durable {
            self.world.before.clear();
        }
    }

    async fn commit(&mut self, count: usize, event: &'static str) -> Done {
        let names: Vec<String> =
            self.world.now.keys().filter(|name| *name != MULTI).cloned().collect();
        let conditions = count < 20 || self.rng.chance(30);
        let mut ops = Vec::new();
        for _ in 0..count {
            let tree = self.rng.below(names.len());
            let key = self.some_key(&names[tree]);
            let there = self.world.now[&names[tree]].get(&key);
            let kind = match self.rng.below(if conditions { 100 } else { 70 }) {
                0..=39 => OpKind::Put,
                40..=69 => OpKind::Delete,
                // In a batch of many, conditions that hold, mostly.
                _ if count > 1 && self.rng.chance(100 - 60 / count) => match there {
                    Some(_) => *self.rng.pick(&[OpKind::Update, OpKind::RequirePresent]),
                    None => *self.rng.pick(&[OpKind::Insert, OpKind::RequireAbsent]),
                },
                70..=84 => OpKind::Insert,
                85..=94 => OpKind::Update,
                _ => OpKind::RequireValue,
            };
            let mut value = value(self.rng, &key);
            if self.rng.chance(3) {
                value = large_value(self.rng);
                value.truncate(MAX_RECORD + 1 + self.rng.below(4000));
                self.world.count("large value");
            }
            ops.push(Op { tree, kind, key, value });
        }
        self.commit_ops(&names, &ops, event).await
    }

    async fn commit_ops(&mut self, names: &[String], ops: &[Op], event: &'static str) -> Done {
        let mut maps: Vec<Map> = names.iter().map(|name| self.world.now[name].clone()).collect();
        let expected = apply(&mut maps, ops);
        let mut next = self.world.now.clone();
        next.extend(names.iter().cloned().zip(maps));
        let mut batch = Batch::new();
        for op in ops {
            batch.push(self.tree(&names[op.tree]), op.kind, &op.key, &op.value);
        }
        let keeps_old = self.rng.chance(20);
        if keeps_old {
            batch.keep_old();
        }
        let durability = self.durability();
        let engine = Arc::clone(&self.engine);
        let committed =
            self.change(next, durability == Durability::Durable, engine.commit(batch, durability));
        match (committed.await, expected) {
            (Ok(outcome), Ok(before)) => {
                self.world.count(event);
                if keeps_old {
                    self.world.count("old values");
                    assert_eq!(outcome.old, before, "{ops:?}");
                }
                let existed: Vec<bool> = before.iter().map(Option::is_some).collect();
                assert_eq!(outcome.existed, existed, "{ops:?}");
                Ok(())
            }
            (Err(Error::Violated { operation, violation, .. }), Err(expected)) => {
                self.world.next = None;
                let big = event == "big batch";
                self.world.count(if big { "big batch violated" } else { "violated" });
                assert_eq!((operation, violation), expected, "{ops:?}");
                // It is told only when what it saw is durable.
                if durability == Durability::Durable {
                    self.world.before.clear();
                }
                Ok(())
            }
            (Err(error), _) => Err(error),
            (Ok(_), Err(expected)) => panic!("{expected:?} was expected of {ops:?}"),
        }
    }

    /// Compares and swaps, in a batch across two trees.
    async fn swap(&mut self) -> Done {
        let (tree, other) = (self.some_tree(), self.some_tree());
        let map = &self.world.now[&tree];
        let Some((key, there)) = map.iter().nth(self.rng.below(map.len().max(1))) else {
            return Ok(());
        };
        let (key, mut expected) = (key.clone(), there.clone());
        if self.rng.chance(20) {
            expected.push(1);
        }
        let new = value(self.rng, &key);
        let op =
            |tree, kind, value: &[u8]| Op { tree, kind, key: key.clone(), value: value.into() };
        let mut ops = vec![op(0, OpKind::RequireValue, &expected), op(0, OpKind::Put, &new)];
        let mut names = vec![tree];
        if other != names[0] {
            names.push(other);
            ops.push(op(1, OpKind::Put, &new));
        }
        self.commit_ops(&names, &ops, "swapped").await
    }

    async fn delete_range(&mut self) -> Done {
        let name = self.some_tree();
        let (mut from, mut to) = (self.some_key(&name), self.some_key(&name));
        if from > to {
            std::mem::swap(&mut from, &mut to);
        }
        let to = (!self.rng.chance(10)).then_some(to);
        let mut next = self.world.now.clone();
        let gone = |key: &Vec<u8>| *key >= from && to.as_ref().is_none_or(|to| key < to);
        next.get_mut(&name).unwrap().retain(|key, _| !gone(key));
        let (tree, durability) = (self.tree(&name), self.durability());
        // An empty range has nothing to wait for.
        let durable = durability == Durability::Durable && to.as_ref() != Some(&from);
        self.world.count(if to.is_some() { "range" } else { "range to the end" });
        let engine = Arc::clone(&self.engine);
        self.change(next, durable, engine.delete_range(tree, from.clone(), to.clone(), durability))
            .await
    }

    async fn insert_duplicates(&mut self) -> Done {
        let tree = self.tree(MULTI);
        let (mut batch, mut added) = (Batch::new(), Vec::new());
        let count = if self.rng.chance(15) { 80 } else { 1 + self.rng.below(3) };
        for number in 0..count {
            let key = vec![b'd' + self.rng.below(4) as u8; self.rng.below(3)];
            let value = vec![self.rng.below(3) as u8; 1 + self.rng.below(2)];
            batch.push(tree, OpKind::InsertDup, &key, &value);
            added.push((key, u64::MAX - count as u64 + number as u64, value));
        }
        let with = |mut trees: Trees, added: &[(Vec<u8>, u64, Vec<u8>)]| {
            let stored = |(key, sequence, value): &(Vec<u8>, u64, Vec<u8>)| {
                (duplicates::stored(key, *sequence), value.clone())
            };
            trees.get_mut(MULTI).unwrap().extend(added.iter().map(stored));
            trees
        };
        self.world.next = Some(with(self.world.now.clone(), &added));
        let durability = self.durability();
        let outcome = self.engine.commit(batch, durability).await?;
        self.world.next = None;
        for (added, sequence) in added.iter_mut().zip(outcome.duplicates) {
            added.1 = sequence;
        }
        self.world.count("insert dup");
        let next = with(self.world.now.clone(), &added);
        self.made(next, durability == Durability::Durable);
        Ok(())
    }

    /// One duplicate, one with a value, or all of a key.
    async fn delete_duplicates(&mut self) -> Done {
        let names = [MULTI.to_owned()];
        let map = &self.world.now[MULTI];
        let Some((stored, value)) = map.iter().nth(self.rng.below(map.len().max(1))) else {
            return Ok(());
        };
        let (stored, value) = (stored.clone(), value.clone());
        let op = |kind, key: &[u8]| {
            let (key, value) = (key.to_vec(), value.clone());
            Op { tree: 0, kind, key, value }
        };
        if self.rng.chance(40) {
            let ops = [op(OpKind::Delete, &stored)];
            return self.commit_ops(&names, &ops, "delete dup").await;
        }
        let mut key = Vec::new();
        duplicates::split(&stored, &mut key).unwrap();
        let (from, to) = (duplicates::head(&key), duplicates::tail(&key));
        let of_key = map.range(from.clone()..to.clone());
        if self.rng.chance(50) {
            let mut with_value = of_key.filter(|(_, other)| **other == value);
            let first = with_value.next().unwrap().0;
            let ops = [op(OpKind::RequireValue, first), op(OpKind::Delete, first)];
            return self.commit_ops(&names, &ops, "delete value").await;
        }
        let mut next = self.world.now.clone();
        next.get_mut(MULTI).unwrap().retain(|key, _| *key < from || *key >= to);
        self.world.count("delete all");
        let (tree, engine) = (self.tree(MULTI), Arc::clone(&self.engine));
        let durability = self.durability();
        let durable = durability == Durability::Durable;
        self.change(next, durable, engine.delete_range(tree, from, Some(to), durability)).await
    }

    /// A cursor in both directions, with writes in between.
    async fn walk(&mut self) -> Done {
        let name = self.some_tree();
        let mut at = self.some_key(&name);
        for _ in 0..12 {
            let direction = *self.rng.pick(&[Direction::Forward, Direction::Backward]);
            let mut search = Nearest::new(self.tree(&name));
            search.aim(direction, From::Past(at.clone()));
            let (search, found) = Arc::clone(&self.engine).nearest(search).await?;
            let map = &self.world.now[&name];
            let expected = match direction {
                Direction::Forward => map.range(at.clone()..).find(|(key, _)| **key != at),
                Direction::Backward => map.range(..at.clone()).next_back(),
            };
            let key = found.then_some(search.key());
            assert_eq!(key, expected.map(|(key, _)| key.as_slice()), "past {at:?}, {direction:?}");
            if let Some((key, value)) = expected {
                assert!(search.kind() == Kind::Overflow || search.value() == value);
                at.clone_from(key);
            }
            self.world.count(match direction {
                Direction::Forward => "cursor",
                Direction::Backward => "cursor back",
            });
            if self.rng.chance(30) {
                self.commit(1, "single").await?;
            }
        }
        Ok(())
    }

    /// All that begins with a prefix.
    async fn scan(&mut self) -> Done {
        let name = self.some_tree();
        let mut prefix = self.some_key(&name);
        prefix.truncate(self.rng.below(3));
        let map = &self.world.now[&name];
        let all = map.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        let mut expected: Vec<_> = all.map(|(key, value)| (key.clone(), value.clone())).collect();
        let back = self.rng.chance(50);
        let (direction, from) = match expected.last() {
            Some((last, _)) if back => (Direction::Backward, From::At(last.clone())),
            _ if back => return Ok(()),
            _ => (Direction::Forward, From::At(prefix.clone())),
        };
        if back {
            expected.reverse();
        }
        self.world.count(if back { "scan back" } else { "scan" });
        let tree = self.tree(&name);
        let (mut scan, mut chunk) = (Scan::new(tree, direction, from), Chunk::default());
        let mut found = Vec::new();
        while scan.next().is_some() && found.len() <= expected.len() {
            (scan, chunk) = Arc::clone(&self.engine).scan(scan, chunk).await?;
            for (index, (key, value)) in chunk.iter().enumerate() {
                let engine = Arc::clone(&self.engine);
                let value = match chunk.kind(index) {
                    Kind::Inline => value.to_vec(),
                    Kind::Overflow => engine.get_large(tree, key, value).await?.unwrap(),
                };
                found.push((key.to_vec(), value));
            }
        }
        found.truncate(found.iter().take_while(|(key, _)| key.starts_with(&prefix)).count());
        assert_eq!(found, expected, "{prefix:?}, {direction:?}");
        Ok(())
    }

    async fn get(&mut self) -> Done {
        let name = self.some_tree();
        let (tree, engine) = (self.tree(&name), Arc::clone(&self.engine));
        let keys: Vec<_> = (0..1 + self.rng.below(20)).map(|_| self.some_key(&name)).collect();
        let map = &self.world.now[&name];
        let expected: Vec<_> = keys.iter().map(|key| map.get(key).cloned()).collect();
        assert_eq!(Arc::clone(&engine).get_many(tree, &keys).await?, expected);
        assert_eq!(Arc::clone(&engine).get(tree, &keys[0]).await?, expected[0]);
        let Some((key, value)) = map.iter().max_by_key(|(_, value)| value.len()) else {
            return Ok(());
        };
        let (first, second) = (self.rng.below(value.len() + 1), self.rng.below(value.len() + 1));
        let (start, end) = (first.min(second), first.max(second));
        let range = start as u64..end as u64;
        let part = Arc::clone(&engine).get_range(tree, key, range).await?;
        assert_eq!(part.as_deref(), Some(&value[start..end]));
        assert_eq!(engine.value_len(tree, key).await?, Some(value.len() as u64));
        self.world.count("get many");
        self.world.count("part of a value");
        Ok(())
    }

    async fn change_trees(&mut self) -> Done {
        let engine = Arc::clone(&self.engine);
        let new = format!("tree {}", self.rng.below(1000));
        let mut next = self.world.now.clone();
        let count = next.len();
        let free = !next.contains_key(&new);
        match self.rng.below(3) {
            0 if count < 6 && free => {
                next.insert(new.clone(), Map::new());
                self.change(next, true, engine.tree(new.as_bytes())).await?;
                self.world.count("create");
            }
            1 if free => {
                let old = self.some_tree();
                let map = next.remove(&old).unwrap();
                next.insert(new.clone(), map);
                self.change(next, true, engine.rename(old.as_bytes(), new.as_bytes())).await?;
                self.world.count("rename");
            }
            _ if count > 3 => {
                let old = self.some_tree();
                let handle = self.tree(&old);
                next.remove(&old);
                self.change(next, true, engine.drop_tree(old.as_bytes())).await?;
                self.world.count("drop");
                let gone = Arc::clone(&engine).get(handle, b"k").await;
                assert!(matches!(gone, Err(Error::NoSuchTree { .. })), "{gone:?}");
            }
            _ => {}
        }
        Ok(())
    }

    /// What the engine does for itself, beside a commit.
    async fn look_after(&mut self) -> Done {
        let engine = Arc::clone(&self.engine);
        match self.rng.below(5) {
            0..=2 => {
                let (before, checkpoint) = (self.world.before.len(), engine.checkpoint());
                let (committed, checkpoint) = join(self.commit(1, "single"), checkpoint).await;
                checkpoint?;
                committed?;
                // All that was made before it began is durable.
                let before = before.min(self.world.before.len());
                self.world.before.drain(..before);
                self.world.count("checkpoint");
            }
            3 => {
                let (committed, compacted) = join(self.commit(3, "batch"), engine.compact()).await;
                compacted?;
                committed?;
                self.world.count("compact");
            }
            _ => {
                engine.tidy().await?;
                self.world.count("tidy");
            }
        }
        Ok(())
    }
}
