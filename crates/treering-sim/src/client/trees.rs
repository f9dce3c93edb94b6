//! Trees that come and go, and keys with several values.

use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use treering::Error;
use treering_txn::{Durability, OpKind, duplicates};

use super::writes::Op;
use super::{Client, Done, Gone};
use crate::journal::{Bytes, Change, Place};
use crate::world::{MULTI, is_end, own_tree};

impl Client {
    /// Makes the client's own tree, gives it another name, or drops it.
    pub(super) async fn change_trees(&mut self) -> Done {
        let named = |name: &str| Place { tree: "".into(), key: name.as_bytes().to_vec() };
        let empty: Bytes = Arc::from(&[][..]);
        let names = [0, 1].map(|generation| own_tree(self.number, generation));
        if let Some(name) = names.iter().find(|name| self.journal().in_limbo(&named(name))) {
            let there = self.db.engine().find_tree(name.as_bytes()).map(|_| &[][..]);
            self.see(&named(name), there);
            return Ok(());
        }
        let Some(name) = self.own_tree() else {
            let name = self.chance.pick(&names).clone();
            let (db, change) = (self.db.clone(), Change::from([(named(&name), Some(empty))]));
            self.world.count("tree made");
            let making = async move { db.tree(name).await.map(drop) };
            return self.make(change, making.boxed(), Durability::Durable).await;
        };
        let keys: Vec<(Place, Bytes)> = {
            let journal = self.journal();
            let in_it = journal.now().iter().filter(|(place, _)| place.tree == name);
            in_it.map(|(place, value)| (place.clone(), value.clone())).collect()
        };
        let mut change: Change = keys.iter().map(|(place, _)| (place.clone(), None)).collect();
        change.insert(named(&name), None);
        // Not while somebody may still write there.
        if self.limbo_in(&name) {
            return Ok(());
        }
        let db = self.db.clone();
        if self.chance.one_in(3) {
            self.world.count("tree dropped");
            let dropping = async move { db.drop_tree(&*name).await };
            return self.make(change, dropping.boxed(), Durability::Durable).await;
        }
        let Some(other) = names.iter().find(|other| **other != *name).cloned() else {
            return Ok(());
        };
        let tree: Arc<str> = other.as_str().into();
        for (place, value) in keys {
            change.insert(Place { tree: Arc::clone(&tree), key: place.key }, Some(value));
        }
        change.insert(named(&other), Some(empty));
        self.world.count("tree renamed");
        let renaming = async move { db.rename_tree(&*name, other).await };
        self.make(change, renaming.boxed(), Durability::Durable).await
    }

    fn limbo_in(&self, tree: &Arc<str>) -> bool {
        let journal = self.journal();
        (0..super::KEYS).any(|number| {
            let key = crate::world::own_key(self.number, number);
            journal.in_limbo(&Place { tree: Arc::clone(tree), key })
        })
    }

    /// Adds a value to one of the client's keys, takes one away, or reads all.
    pub(super) async fn change_duplicates(&mut self) -> Done {
        let key = format!("tag{}-{}", self.chance.below(4), self.number).into_bytes();
        let multi: Arc<str> = MULTI.into();
        let (head, tail) = (duplicates::head(&key), duplicates::tail(&key));
        let place = |key| Place { tree: Arc::clone(&multi), key };
        let there: Vec<(Place, Bytes)> = {
            let journal = self.journal();
            let all = journal.now().range(place(head)..place(tail));
            all.map(|(place, value)| (place.clone(), value.clone())).collect()
        };
        if there.iter().any(|(place, _)| self.journal().in_limbo(place)) {
            return Ok(());
        }
        match self.chance.below(4) {
            0 | 1 if there.len() < 30 => self.insert_duplicate(key, multi).await,
            2 if !there.is_empty() => {
                let (place, _) = self.chance.pick(&there).clone();
                let value: Bytes = Arc::from(&[][..]);
                let op = Op { kind: OpKind::Delete, place, value };
                self.commit(vec![op], "duplicate deleted").await
            }
            _ => self.read_duplicates(key, there).await,
        }
    }

    /// The future is not given up: nobody would know the sequence.
    async fn insert_duplicate(&mut self, key: Vec<u8>, multi: Arc<str>) -> Done {
        let tree = match self.db.multi_tree(MULTI).await {
            Ok(tree) => tree,
            Err(error) => return self.excuse_write(&error),
        };
        let len = self.chance.below(60);
        let (value, durability) = (self.value(len), self.durability());
        self.journal().inserting(Some((Arc::clone(&multi), key.clone(), value.clone())));
        match tree.insert_dup(&key, &value).durability(durability).await {
            Ok(sequence) => {
                self.world.count("duplicate inserted");
                let place = Place { tree: multi, key: duplicates::stored(&key, sequence) };
                let mut journal = self.journal();
                journal.inserting(None);
                let step = journal.begin(Change::from([(place, Some(value))]));
                journal.applied(step, None, durability == Durability::Durable);
                Ok(())
            }
            Err(error) if is_end(&error) => Err(Gone),
            Err(error) => {
                self.journal().inserting(None);
                self.excuse_write(&error)
            }
        }
    }

    async fn read_duplicates(&mut self, key: Vec<u8>, there: Vec<(Place, Bytes)>) -> Done {
        let tree = match self.db.multi_tree(MULTI).await {
            Ok(tree) => tree,
            Err(error) => return self.excuse_write(&error),
        };
        let all: Vec<Result<_, Error>> = tree.get_all(&key).collect().await;
        let mut found = Vec::new();
        for pair in all {
            match pair {
                Ok((sequence, value)) => {
                    found.push((duplicates::stored(&key, sequence), value.to_vec()));
                }
                Err(error) => return self.excuse(&error),
            }
        }
        self.world.count("duplicates read");
        let expected = there.iter().map(|(place, value)| (&place.key, &**value));
        if !found.iter().map(|(key, value)| (key, value.as_slice())).eq(expected) {
            self.wrong(&format!("\"{}\" has other values than {there:?}", key.escape_ascii()));
        }
        Ok(())
    }
}
