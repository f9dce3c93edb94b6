//! Random operations on a whole engine against a `BTreeMap`, with pages of 512 bytes, pools of a few
//! dozen frames, checkpoints in between, and every way of ending a life but a power loss: closed,
//! stopped, and killed while the machine stays up.

#![allow(missing_docs, clippy::unwrap_used)]

use std::ops::Bound;
use std::sync::Arc;

use crate::engine_support::journal::Journal;
use crate::engine_support::{
    MAX_KEY, MAX_RECORD, Model, Op, Rng, apply, assert_clean, assert_same, batch, contents, key,
    machine, op, open, options, scan_all, seeds,
};
use treering_blink::{Chunk, Direction, From, Scan, TreeRef};
use treering_pagefile::sim::Sim;
use treering_txn::{Durability, Engine, Error};

const NAMES: [&str; 3] = ["users", "orders", "an-index-with-a-longer-name"];

/// One life's view of the engine.
struct Life<'s> {
    engine: Arc<Engine>,
    trees: Vec<TreeRef>,
    journal: &'s Journal,
    model: &'s mut Model,
    rng: &'s mut Rng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Stop,
    Kill,
}

impl Life<'_> {
    async fn steps(&mut self, count: usize) {
        for _ in 0..count {
            match self.rng.below(100) {
                0..=54 => self.commit(1).await,
                55..=74 => {
                    let ops = 1 + self.rng.below(12);
                    self.commit(ops).await;
                }
                75..=84 => self.get().await,
                85..=88 => self.get_many().await,
                89..=95 => self.scan().await,
                96..=97 => self.too_long().await,
                98 => {
                    self.engine.sync().await.unwrap();
                    self.journal.durable(self.engine.stats().sequence);
                }
                _ => {
                    self.engine.checkpoint().await.unwrap();
                    self.journal.durable(self.engine.stats().sequence);
                }
            }
        }
    }

    async fn commit(&mut self, count: usize) {
        let ops: Vec<Op> = (0..count).map(|_| op(self.rng, self.trees.len(), self.model)).collect();
        let durability = *self.rng.pick(&[
            Durability::Durable,
            Durability::Buffered,
            Durability::None,
            Durability::None,
        ]);
        if self.rng.chance(20) {
            return self.commit_keeping_old(&ops).await;
        }
        let expected = apply(&mut self.model.clone(), &ops);
        match self.journal.commit(&self.engine, &self.trees, &ops, durability).await {
            Ok(_) => {
                expected.unwrap();
                apply(self.model, &ops).unwrap();
            }
            Err(Error::Violated { operation, violation, .. }) => {
                assert_eq!(expected, Err((operation, violation)), "{ops:?}");
            }
            // With so few frames a batch may touch two leaves only.
            Err(Error::BatchTooLarge { .. }) if count > 2 => {}
            Err(error) => panic!("{error}: {ops:?}"),
        }
    }

    async fn commit_keeping_old(&mut self, ops: &[Op]) {
        let mut batch = batch(&self.trees, ops);
        batch.keep_old();
        let expected = apply(&mut self.model.clone(), ops);
        match self.engine.commit(batch, Durability::Durable).await {
            Ok(outcome) => {
                let before = expected.unwrap();
                let existed: Vec<bool> = before.iter().map(Option::is_some).collect();
                assert_eq!((&outcome.existed, &outcome.old), (&existed, &before), "{ops:?}");
                apply(self.model, ops).unwrap();
                self.journal.note(outcome.sequence, ops);
                self.journal.durable(outcome.sequence);
            }
            Err(Error::Violated { operation, violation, .. }) => {
                assert_eq!(expected, Err((operation, violation)), "{ops:?}");
            }
            Err(Error::BatchTooLarge { .. }) if ops.len() > 2 => {}
            Err(error) => panic!("{error}: {ops:?}"),
        }
    }

    fn some_key(&mut self, tree: usize) -> Vec<u8> {
        let len = self.model[tree].len();
        if len > 0 && self.rng.chance(60) {
            return self.model[tree].keys().nth(self.rng.below(len)).unwrap().clone();
        }
        key(self.rng)
    }

    async fn get(&mut self) {
        let tree = self.rng.below(self.trees.len());
        let key = self.some_key(tree);
        let engine = Arc::clone(&self.engine);
        let found = engine.get(self.trees[tree], &key).await.unwrap();
        assert_eq!(found.as_ref(), self.model[tree].get(&key), "get \"{}\"", key.escape_ascii());
    }

    async fn get_many(&mut self) {
        let tree = self.rng.below(self.trees.len());
        let keys: Vec<_> = (0..self.rng.below(40)).map(|_| self.some_key(tree)).collect();
        let engine = Arc::clone(&self.engine);
        let found = engine.get_many(self.trees[tree], &keys).await.unwrap();
        let expected: Vec<_> = keys.iter().map(|key| self.model[tree].get(key).cloned()).collect();
        assert_eq!(found, expected);
    }

    async fn scan(&mut self) {
        let tree = self.rng.below(self.trees.len());
        let key = self.some_key(tree);
        let direction = *self.rng.pick(&[Direction::Forward, Direction::Backward]);
        let from = match self.rng.below(3) {
            0 => From::End,
            1 => From::At(key),
            _ => From::Past(key),
        };
        let limit = 1 + self.rng.below(100);
        let model = &self.model[tree];
        let expected: Vec<_> = match (direction, &from) {
            (_, From::End) => model.range::<Vec<u8>, _>(..),
            (Direction::Forward, From::At(key)) => model.range::<Vec<u8>, _>(key.clone()..),
            (Direction::Forward, From::Past(key)) => {
                model.range::<Vec<u8>, _>((Bound::Excluded(key.clone()), Bound::Unbounded))
            }
            (Direction::Backward, From::At(key)) => model.range::<Vec<u8>, _>(..=key.clone()),
            (Direction::Backward, From::Past(key)) => model.range::<Vec<u8>, _>(..key.clone()),
        }
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
        let expected: Vec<_> = match direction {
            Direction::Forward => expected.into_iter().take(limit).collect(),
            Direction::Backward => expected.into_iter().rev().take(limit).collect(),
        };
        let mut found = Vec::new();
        let scan = Scan::new(self.trees[tree], direction, from);
        let (mut scan, mut chunk) = (scan, Chunk::default());
        while scan.next().is_some() && found.len() < limit {
            let engine = Arc::clone(&self.engine);
            (scan, chunk) = engine.scan(scan, chunk).await.unwrap();
            found.extend(chunk.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        }
        found.truncate(limit);
        assert_eq!(found, expected);
    }

    async fn too_long(&mut self) {
        let value = vec![7; self.rng.below(2 * MAX_RECORD)];
        let result = self
            .engine
            .commit(
                batch(&self.trees, &[Op::put(0, &[7; MAX_KEY + 1], &value)]),
                Durability::Durable,
            )
            .await;
        assert!(matches!(result, Err(Error::KeyTooLong { .. })), "{result:?}");
    }

    async fn compare(&self, context: &str) {
        let found = contents(&self.engine, &NAMES).await.unwrap();
        assert_same(&found, self.model, context);
        for (tree, pairs) in self.trees.iter().zip(self.model.iter()) {
            let backward = scan_all(&self.engine, *tree, Direction::Backward).await.unwrap();
            let expected: Vec<_> = pairs.clone().into_iter().rev().collect();
            assert_eq!(backward, expected, "{context}: backwards");
        }
        let keys = assert_clean(&self.engine, context).await;
        assert_eq!(keys, self.model.iter().map(|tree| tree.len() as u64).sum::<u64>());
    }
}

/// A database's story: several lives, each with steps and an end.
fn story(seed: u64, frames: usize, lives: usize, steps: usize) {
    let mut rng = Rng::new(seed);
    let mut sim = machine(seed);
    let mut model: Model = vec![Default::default(); NAMES.len()];
    let journal = Journal::default();
    let mut last_end = None;
    for life in 0..lives {
        let context = format!("seed {seed}, life {life} after {last_end:?}");
        let end = *rng.pick(&[End::Close, End::Stop, End::Kill]);
        let outcome = sim.run(async {
            let engine = open(&sim, options(frames, seed * 1000 + life as u64)).await.unwrap();
            if last_end == Some(End::Close) {
                assert_eq!(engine.recovery().replayed, 0, "{context}: a closed one has no log");
            }
            if last_end == Some(End::Kill) {
                let found = contents(&engine, &NAMES).await.unwrap();
                let sequence = engine.recovery().sequence;
                journal.judge(&found, sequence).unwrap_or_else(|e| panic!("{context}: {e}"));
                model.clone_from(&found);
            }
            let mut trees = Vec::new();
            for name in NAMES {
                trees.push(engine.tree(name.as_bytes()).await.unwrap());
            }
            journal.settle(&model, engine.stats().sequence);
            let mut life =
                Life { engine, trees, journal: &journal, model: &mut model, rng: &mut rng };
            life.compare(&context).await;
            life.steps(steps).await;
            if end != End::Kill || life.rng.chance(50) {
                life.compare(&context).await;
                life.steps(steps / 8).await;
            }
            match end {
                End::Close => life.engine.close().await.unwrap(),
                End::Stop => life.engine.stop(),
                End::Kill => {}
            }
        });
        outcome.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
        if end != End::Kill {
            sim.settle().unwrap();
        }
        let image = sim.disk().image_visible();
        restart(&mut sim, &image, seed + life as u64);
        last_end = Some(end);
    }
}

fn restart(sim: &mut Sim, image: &treering_pagefile::sim::SimImage, seed: u64) {
    sim.restart(image, seed);
}

#[test]
fn with_sixteen_frames_it_is_a_btreemap() {
    for seed in seeds(0, 12) {
        story(seed, 16, 4, 150);
    }
}

#[test]
fn with_twenty_four_frames_it_is_a_btreemap() {
    for seed in seeds(100, 12) {
        story(seed, 24, 4, 150);
    }
}

#[test]
fn with_sixty_four_frames_it_is_a_btreemap() {
    for seed in seeds(200, 12) {
        story(seed, 64, 4, 250);
    }
}
