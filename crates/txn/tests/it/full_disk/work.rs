//! A life that takes space in every way there is, and the model of what it was told.
//!
//! Each step is acknowledged, and is then in the model, or it is refused since the disk is full, and is
//! not. Steps that give space back are never refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use treering_pagefile::sim::Sim;
use treering_txn::{Batch, Durability, Engine, Error, Finished, OpKind};

use super::full;
use crate::backup_support::{Folder, target};
use crate::engine_support::{MAX_RECORD, Op, Rng, contents, key, large_value, value};

/// Keys that can be deleted together on any disk.
const FEW: usize = 8;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) struct Work<'s> {
    pub(super) sim: &'s Sim,
    pub(super) engine: Arc<Engine>,
    /// What was acknowledged, by tree.
    pub(super) model: BTreeMap<String, Map>,
    pub(super) refused: usize,
    rng: Rng,
    context: String,
    made: usize,
}

/// The error names what was being done, and says what to do.
pub(super) fn assert_helpful(error: &Error, context: &str) {
    let said = error.to_string();
    assert!(said.len() > 20 && said.contains("full"), "{context}: \"{said}\" helps nobody");
}

impl<'s> Work<'s> {
    pub(super) fn new(sim: &'s Sim, engine: Arc<Engine>, seed: u64, context: &str) -> Self {
        let (model, context) = (BTreeMap::new(), context.to_owned());
        Self { sim, engine, model, refused: 0, rng: Rng::new(seed), context, made: 0 }
    }

    pub(super) async fn run(&mut self) {
        for round in 0..3 {
            self.create().await;
            for _ in 0..4 {
                self.puts(12).await;
                self.batch(8).await;
            }
            self.large().await;
            self.stream().await;
            self.batch(90).await;
            self.deletes().await;
            self.at_the_same_time().await;
            self.load().await;
            self.checkpoint().await;
            self.backup(round).await;
            self.big_delete().await;
            self.delete_range().await;
            self.rename().await;
            self.puts(20).await;
            self.drop_tree().await;
            self.engine.tidy().await.unwrap_or_else(|e| panic!("{}: tidying: {e}", self.context));
            self.compact().await;
        }
    }

    /// Whether a step was done; else it was refused, and it may be.
    fn done<T>(&mut self, what: &str, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(error) => {
                assert!(full(&error), "{}: {what}: {error}", self.context);
                assert_helpful(&error, &self.context);
                self.refused += 1;
                None
            }
        }
    }

    fn some_tree(&mut self) -> Option<String> {
        let names: Vec<String> = self.model.keys().cloned().collect();
        (!names.is_empty()).then(|| self.rng.pick(&names).clone())
    }

    fn some_keys(&mut self, name: &str, count: usize) -> Vec<Vec<u8>> {
        let keys: Vec<Vec<u8>> = self.model[name].keys().cloned().collect();
        let from = if keys.is_empty() { 0 } else { self.rng.below(keys.len()) };
        keys.into_iter().skip(from).take(count).collect()
    }

    pub(super) async fn commit(&self, name: &str, ops: &[Op]) -> Result<u64, Error> {
        let tree = self.engine.find_tree(name.as_bytes()).unwrap();
        let mut batch = Batch::new();
        for op in ops {
            batch.push(tree, op.kind, &op.key, &op.value);
        }
        Ok(self.engine.commit(batch, Durability::Durable).await?.sequence)
    }

    fn apply(&mut self, name: &str, ops: &[Op]) {
        let map = self.model.get_mut(name).unwrap();
        for op in ops {
            match op.kind {
                OpKind::Delete => drop(map.remove(&op.key)),
                _ => drop(map.insert(op.key.clone(), op.value.clone())),
            }
        }
    }

    async fn put(&mut self, what: &str, ops: &[Op]) {
        let Some(name) = self.some_tree() else { return };
        let committed = self.commit(&name, ops).await;
        if self.done(what, committed).is_some() {
            self.apply(&name, ops);
        }
    }

    /// Deletes go on, whatever the disk: one, or a few together. Only many together need space
    /// for their outcomes, as a big batch, and may be refused.
    pub(super) async fn delete(&mut self, name: &str, keys: &[Vec<u8>]) {
        let ops: Vec<Op> = keys.iter().map(|key| delete(key)).collect();
        let deleted = self.commit(name, &ops).await;
        let (context, count) = (&self.context, keys.len());
        if count > FEW {
            if self.done("many deletes", deleted).is_none() {
                return;
            }
        } else {
            deleted.unwrap_or_else(|e| panic!("{context}: deleting {count} keys of {name}: {e}"));
        }
        self.apply(name, &ops);
    }

    async fn create(&mut self) {
        for _ in 0..2 {
            self.made += 1;
            let name = format!("tree {}", self.made);
            let created = self.engine.tree(name.as_bytes()).await;
            if self.done("creating a tree", created).is_some() {
                self.model.insert(name, Map::new());
            }
        }
    }

    /// Keys with values that fill their leaves, one by one.
    async fn puts(&mut self, count: usize) {
        for _ in 0..count {
            let key = key(&mut self.rng);
            let value = vec![7; MAX_RECORD - key.len()];
            self.put("a put", &[Op::put(0, &key, &value)]).await;
        }
    }

    async fn batch(&mut self, count: usize) {
        let mut ops = BTreeMap::new();
        for _ in 0..count {
            let key = key(&mut self.rng);
            ops.insert(key.clone(), Op::put(0, &key, &value(&mut self.rng, &key)));
        }
        let ops: Vec<Op> = ops.into_values().collect();
        self.put("a batch", &ops).await;
    }

    async fn large(&mut self) {
        for number in 0..2 {
            let op = Op::put(0, format!("large {number}").as_bytes(), &large_value(&mut self.rng));
            self.put("a large value", &[op]).await;
        }
    }

    async fn stream(&mut self) {
        let Some(name) = self.some_tree() else { return };
        let tree = self.engine.find_tree(name.as_bytes()).unwrap();
        let (key, value) = (b"stream".to_vec(), large_value(&mut self.rng));
        let engine = Arc::clone(&self.engine);
        let written = async {
            let mut writer = engine.write_stream(tree, &key)?;
            for part in value.chunks(3000) {
                writer.write(part).await?;
            }
            writer.commit(Durability::Durable).await
        };
        let written = written.await;
        if self.done("a stream", written).is_some() {
            self.apply(&name, &[Op::put(0, &key, &value)]);
        }
    }

    async fn deletes(&mut self) {
        let Some(name) = self.some_tree() else { return };
        for key in self.some_keys(&name, 8) {
            self.delete(&name, &[key]).await;
        }
        let keys = self.some_keys(&name, 6);
        self.delete(&name, &keys).await;
    }

    /// More deletes than one step takes.
    async fn big_delete(&mut self) {
        let Some(name) = self.some_tree() else { return };
        let keys = self.some_keys(&name, 60);
        self.delete(&name, &keys).await;
    }

    /// Deletes beside puts of other keys, all of them waiting for space at once.
    pub(super) async fn at_the_same_time(&mut self) {
        let Some(name) = self.some_tree() else { return };
        let gone = self.some_keys(&name, 24);
        let mut ops: Vec<Op> = gone.iter().map(|key| delete(key)).collect();
        for index in 0..12 {
            // Never one of those that are deleted: nobody could say which came first.
            self.made += 1;
            let key = format!("beside {}", self.made);
            let value = vec![9; MAX_RECORD - key.len()];
            ops.insert((index * 3).min(ops.len()), Op::put(0, key.as_bytes(), &value));
        }
        let this = &*self;
        let commits = ops.iter().map(|op| this.commit(&name, std::slice::from_ref(op)));
        for (op, committed) in ops.iter().zip(join_all(commits).await) {
            if op.kind == OpKind::Delete {
                let context = &self.context;
                committed.unwrap_or_else(|e| panic!("{context}: deleting beside others: {e}"));
            } else if self.done("a put beside others", committed).is_none() {
                continue;
            }
            self.apply(&name, std::slice::from_ref(op));
        }
    }

    pub(super) async fn delete_range(&mut self) {
        let Some(name) = self.some_tree() else { return };
        let keys = self.some_keys(&name, 30);
        let (Some(from), Some(to)) = (keys.first(), keys.last()) else { return };
        let tree = self.engine.find_tree(name.as_bytes()).unwrap();
        let (from, to, durability) = (from.clone(), to.clone(), Durability::Durable);
        let deleted = self.engine.delete_range(tree, from.clone(), Some(to.clone()), durability);
        let context = &self.context;
        deleted.await.unwrap_or_else(|e| panic!("{context}: deleting a range: {e}"));
        self.model.get_mut(&name).unwrap().retain(|key, _| *key < from || *key >= to);
    }

    async fn rename(&mut self) {
        let Some(old) = self.some_tree() else { return };
        let new = format!("{old} renamed");
        let renamed = self.engine.rename(old.as_bytes(), new.as_bytes()).await;
        if self.done("renaming a tree", renamed).is_some() {
            let map = self.model.remove(&old).unwrap();
            self.model.insert(new, map);
        }
    }

    async fn drop_tree(&mut self) {
        if self.model.len() < 3 {
            return;
        }
        let name = self.some_tree().unwrap();
        let dropped = self.engine.drop_tree(name.as_bytes()).await;
        dropped.unwrap_or_else(|e| panic!("{}: dropping a tree: {e}", self.context));
        self.model.remove(&name);
    }

    async fn load(&mut self) {
        self.made += 1;
        let name = format!("loaded {}", self.made);
        let created = self.engine.tree(name.as_bytes()).await;
        let Some(tree) = self.done("creating a tree", created) else { return };
        self.model.insert(name.clone(), Map::new());
        let mut pairs = Map::new();
        for number in 0..120 {
            let long = number % 40 == 39;
            let value = if long { large_value(&mut self.rng) } else { vec![5; 60] };
            pairs.insert(format!("{number:04}").into_bytes(), value);
        }
        let engine = Arc::clone(&self.engine);
        let loaded = async {
            let mut load = engine.load(tree)?;
            for (key, value) in &pairs {
                load.push(key, value).await?;
            }
            let Finished::Committed { sequence } = load.finish().await? else {
                panic!("the tree was empty");
            };
            engine.settle(sequence, Durability::Durable).await
        };
        let loaded = loaded.await;
        if self.done("a bulk load", loaded).is_some() {
            self.model.insert(name, pairs);
        }
    }

    async fn checkpoint(&mut self) {
        let written = self.engine.checkpoint().await;
        written.unwrap_or_else(|e| panic!("{}: a checkpoint: {e}", self.context));
    }

    /// To another folder of the same disk, which takes room from the database.
    async fn backup(&mut self, round: usize) {
        let folder = Folder::new(self.sim.disk(), ["copy 0/", "copy 1/", "copy 2/"][round]);
        let copied = self.engine.backup(target(&folder, round as u64)).await;
        self.done("a backup", copied);
    }

    async fn compact(&mut self) {
        let compacted = self.engine.compact().await;
        self.done("compacting", compacted);
    }

    /// What the database has, compared with the model, by scans and one by one.
    pub(super) async fn check(&self, engine: &Arc<Engine>, what: &str) {
        let context = &self.context;
        let names: Vec<&str> = self.model.keys().map(String::as_str).collect();
        let found = contents(engine, &names).await;
        let found = found.unwrap_or_else(|e| panic!("{context}, {what}: a scan: {e}"));
        let expected: Vec<Map> = self.model.values().cloned().collect();
        crate::engine_support::assert_same(&found, &expected, &format!("{context}, {what}"));
        assert_eq!(engine.trees().len(), names.len(), "{context}, {what}: trees");
        for (name, map) in &self.model {
            let tree = engine.find_tree(name.as_bytes()).unwrap();
            for (key, value) in map.iter().step_by(7) {
                let got = Arc::clone(engine).get(tree, key).await;
                let got = got.unwrap_or_else(|e| panic!("{context}, {what}: a get: {e}"));
                assert!(got.as_ref() == Some(value), "{context}, {what}: a get");
            }
        }
        crate::engine_support::assert_clean(engine, &format!("{context}, {what}")).await;
    }
}

fn delete(key: &[u8]) -> Op {
    Op { kind: OpKind::Delete, ..Op::put(0, key, b"") }
}
