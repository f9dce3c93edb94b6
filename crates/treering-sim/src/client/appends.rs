//! Transactions on the keys that all write: see [`crate::lists`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use treering::Error;
use treering_txn::{Batch, Durability, OpKind};

use super::{Client, Done, Gone};
use crate::faults::Planted;
use crate::journal::Place;
use crate::lists::{Id, decode, encode};
use crate::world::{SHARED, is_end, list_key};

/// Lists that are appended to at a time.
const LISTS: usize = 5;
/// A list that is longer is left alone, and the next one begun.
const LONGEST: usize = 40;

impl Client {
    fn some_list(&mut self) -> (usize, Place) {
        let number = self.chance.below(LISTS);
        let generation = *self.generations.entry(number).or_default();
        let tree: Arc<str> = SHARED[number % SHARED.len()].into();
        (number, Place { tree, key: list_key(number, generation) })
    }

    /// Reads some lists, and appends to some of them if they still are what was read.
    pub(super) async fn append(&mut self) -> Done {
        let mut lists: BTreeMap<Place, Vec<Id>> = BTreeMap::new();
        for _ in 0..1 + self.chance.below(3) {
            let (number, place) = self.some_list();
            let Some(list) = self.list(&place).await? else { return Ok(()) };
            if list.len() >= LONGEST {
                *self.generations.entry(number).or_default() += 1;
                continue;
            }
            lists.insert(place, list);
        }
        let reads_only = self.chance.one_in(5);
        let writes: BTreeSet<Place> =
            lists.keys().filter(|_| !reads_only && !self.chance.one_in(3)).cloned().collect();
        let lengths = lists.iter().map(|(place, list)| (place.clone(), list.len())).collect();
        let (at, id) = self.world.lists().begin(lengths, writes.clone());
        let engine = Arc::clone(self.db.engine());
        let mut batch = Batch::new();
        for (place, mut list) in lists {
            let Some(tree) = engine.find_tree(place.tree.as_bytes()) else { return Err(Gone) };
            match list.is_empty() {
                true => batch.push(tree, OpKind::RequireAbsent, &place.key, b""),
                false => batch.push(tree, OpKind::RequireValue, &place.key, &encode(&list)),
            }
            if writes.contains(&place) {
                list.push(id);
                batch.push(tree, OpKind::Put, &place.key, &encode(&list));
            }
        }
        let durability = self.durability();
        let committing = async move { engine.commit(batch, durability).await };
        match self.drive(committing.boxed()).await {
            None => Ok(()),
            Some(Ok(outcome)) => {
                self.world.count("appended");
                self.world.tell(outcome.sequence, durability == Durability::Durable);
                let mut sequence = outcome.sequence;
                if self.world.planted == Some(Planted::CommitsInAnotherOrder) {
                    sequence += 1;
                }
                self.world.lists().committed(at, sequence);
                Ok(())
            }
            Some(Err(error)) => {
                let error = Error::from(error);
                if is_end(&error) {
                    return Err(Gone);
                }
                self.world.lists().refused(at);
                if error.operation().is_some() {
                    self.world.count("somebody else appended");
                    return Ok(());
                }
                self.excuse_write(&error)
            }
        }
    }

    pub(super) async fn read_list(&mut self) -> Done {
        let (_, place) = self.some_list();
        self.list(&place).await.map(drop)
    }

    /// What a list holds, if it can be read.
    async fn list(&mut self, place: &Place) -> Result<Option<Vec<Id>>, Gone> {
        let Some(tree) = self.tree(&place.tree) else { return Err(Gone) };
        let began = self.world.lists().tick();
        let list = match tree.get(&place.key).await {
            Ok(Some(value)) => decode(&value).unwrap_or_else(|why| self.wrong(&why)),
            Ok(None) => Vec::new(),
            Err(error) => return self.excuse(&error).map(|()| None),
        };
        let read = self.world.lists().read(place, &list, began);
        read.unwrap_or_else(|why| self.wrong(&why));
        Ok(Some(list))
    }
}
