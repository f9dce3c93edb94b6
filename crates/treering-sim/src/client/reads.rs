//! Reads: of the client's own keys, whose values it knows, and of everybody's, which have to be in order
//! and, where they hold lists, fit all other reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use treering::{Error, Tree};

use super::{Client, Done, Gone, KEYS};
use crate::journal::{Place, show};
use crate::lists::decode;
use crate::world::{SHARED, is_end, is_list, own_key};

impl Client {
    /// A handle, if the engine is there.
    pub(super) fn tree(&self, name: &str) -> Option<Tree> {
        match self.db.find_tree(name) {
            Ok(Some(tree)) => Some(tree),
            Ok(None) => self.wrong(&format!("there is no tree {name:?}")),
            Err(_) => None,
        }
    }

    /// Any own place, also one that is in limbo.
    fn any_place(&mut self) -> Place {
        let tree: Arc<str> = (*self.chance.pick(&SHARED)).into();
        Place { tree, key: own_key(self.number, self.chance.below(KEYS)) }
    }

    pub(super) async fn read_one(&mut self) -> Done {
        let place = self.any_place();
        let Some(tree) = self.tree(&place.tree) else { return Err(Gone) };
        self.world.count("read");
        if self.chance.one_in(4) {
            return self.read_part(&tree, &place).await;
        }
        let key = place.key.clone();
        let reading = async move { tree.get(key).await }.boxed();
        match self.drive(reading).await {
            Some(Ok(value)) => self.see(&place, value.as_deref()),
            Some(Err(error)) => return self.excuse(&error),
            None => {}
        }
        Ok(())
    }

    async fn read_part(&mut self, tree: &Tree, place: &Place) -> Done {
        let known = self.journal().now().get(place).cloned();
        let Some(known) = known.filter(|_| !self.journal().in_limbo(place)) else {
            return Ok(());
        };
        let mut ends = [0, 1].map(|_| self.chance.below(known.len() + 1));
        ends.sort_unstable();
        let [from, to] = ends;
        let part = match tree.get_range(&place.key, from as u64..to as u64).await {
            Ok(part) => part,
            Err(error) => return self.excuse(&error),
        };
        if part.as_deref() != Some(&known[from..to]) {
            self.wrong(&format!("bytes {from} to {to} of {} are others", show(place)));
        }
        self.world.count("part read");
        Ok(())
    }

    pub(super) async fn read_many(&mut self) -> Done {
        let count = 2 + self.chance.below(20);
        let tree: Arc<str> = (*self.chance.pick(&SHARED)).into();
        let keys: Vec<Vec<u8>> =
            (0..count).map(|_| own_key(self.number, self.chance.below(KEYS))).collect();
        let Some(handle) = self.tree(&tree) else { return Err(Gone) };
        let asked = keys.clone();
        let reading = async move { handle.get_many(asked).await }.boxed();
        match self.drive(reading).await {
            Some(Ok(values)) => {
                self.world.count("many read");
                let places = keys.into_iter().map(|key| Place { tree: Arc::clone(&tree), key });
                let look = places.zip(values.iter().map(Option::as_deref));
                self.see_all(&look.collect::<Vec<_>>());
                Ok(())
            }
            Some(Err(error)) => self.excuse(&error),
            None => Ok(()),
        }
    }

    /// Some of a range, in either direction.
    pub(super) async fn read_range(&mut self) -> Done {
        let tree: Arc<str> = (*self.chance.pick(&SHARED)).into();
        let Some(handle) = self.tree(&tree) else { return Err(Gone) };
        let began = self.world.lists().tick();
        let mut ends = [0, 1].map(|_| own_key(self.chance.below(8), self.chance.below(KEYS)));
        ends.sort();
        let [from, to] = ends;
        let backwards = self.chance.one_in(2);
        let most = 10 + self.chance.below(300);
        let (begin, end) = (from.clone(), to.clone());
        let reading = async move {
            let mut range = handle.range(begin..end);
            if backwards {
                range = range.rev();
            }
            let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            while pairs.len() < most {
                let Some(chunk) = range.next_chunk().await? else { return Ok((pairs, true)) };
                pairs.extend(chunk.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
            }
            Ok::<_, Error>((pairs, false))
        };
        let (pairs, whole) = match self.drive(reading.boxed()).await {
            Some(Ok(read)) => read,
            Some(Err(error)) => return self.excuse(&error),
            None => return Ok(()),
        };
        self.world.count(if backwards { "range backwards" } else { "range" });
        let ordered = match backwards {
            true => pairs.is_sorted_by(|a, b| a.0 > b.0),
            false => pairs.is_sorted_by(|a, b| a.0 < b.0),
        };
        if !ordered || pairs.iter().any(|(key, _)| *key < from || *key >= to) {
            self.wrong(&format!("a range of {tree:?} is not in order"));
        }
        // Whose end it did not reach, it only speaks for what it passed.
        let passed = |key: &Vec<u8>| match pairs.last() {
            _ if whole => true,
            Some((last, _)) => {
                if backwards {
                    key >= last
                } else {
                    key <= last
                }
            }
            None => false,
        };
        let mut own: BTreeSet<Vec<u8>> = (0..KEYS)
            .map(|number| own_key(self.number, number))
            .filter(|key| *key >= from && *key < to && passed(key))
            .collect();
        let mut look = Vec::new();
        for (key, value) in &pairs {
            let place = Place { tree: Arc::clone(&tree), key: key.clone() };
            if is_list(key) {
                self.see_list(&place, value, began);
            } else if own.remove(key) {
                look.push((place, Some(value.as_slice())));
            }
        }
        look.extend(own.into_iter().map(|key| (Place { tree: Arc::clone(&tree), key }, None)));
        self.see_all(&look);
        Ok(())
    }

    fn see_list(&self, place: &Place, value: &[u8], began: u64) {
        let list = decode(value).unwrap_or_else(|why| self.wrong(&why));
        let read = self.world.lists().read(place, &list, began);
        read.unwrap_or_else(|why| self.wrong(&why));
    }

    /// A cursor, some steps to and fro.
    pub(super) async fn walk(&mut self) -> Done {
        let tree: Arc<str> = (*self.chance.pick(&SHARED)).into();
        let Some(handle) = self.tree(&tree) else { return Err(Gone) };
        let mut cursor = handle.cursor();
        let mut at = own_key(self.number, self.chance.below(KEYS));
        let found = cursor.seek(&at).await;
        let mut ahead = true;
        let mut found = match found {
            Ok(found) => found,
            Err(error) => return self.excuse(&error),
        };
        // The first step may stay where it is.
        let mut inclusive = true;
        for _ in 0..2 + self.chance.below(12) {
            let entry = if found { cursor.entry() } else { None };
            let entry = entry.map(|(key, value)| (key.to_vec(), value.to_vec()));
            self.see_step(&tree, &at, entry.as_ref(), ahead, inclusive);
            let Some((key, _)) = entry else { break };
            (at, inclusive) = (key, false);
            ahead = self.chance.one_in(2);
            let stepped = if ahead { cursor.next().await } else { cursor.prev().await };
            found = match stepped {
                Ok(found) => found,
                Err(error) if is_end(&error) => return Err(Gone),
                Err(error) => return self.excuse(&error),
            };
        }
        self.world.count("walk");
        Ok(())
    }

    /// Between `from` and where the cursor came to there is nothing of what the client knows.
    fn see_step(
        &self,
        tree: &Arc<str>,
        from: &[u8],
        entry: Option<&(Vec<u8>, Vec<u8>)>,
        ahead: bool,
        inclusive: bool,
    ) {
        let beyond = |key: &[u8]| match ahead {
            true => key > from || (inclusive && key == from),
            false => key < from,
        };
        let mut look = Vec::new();
        if let Some((key, value)) = entry {
            if !beyond(key) {
                self.wrong(&format!("a step from \"{}\" went the wrong way", from.escape_ascii()));
            }
            let place = Place { tree: Arc::clone(tree), key: key.clone() };
            if (0..KEYS).any(|number| own_key(self.number, number) == *key) {
                look.push((place, Some(value.as_slice())));
            }
        }
        for number in 0..KEYS {
            let key = own_key(self.number, number);
            let skipped = beyond(&key)
                && entry.is_none_or(|(to, _)| if ahead { key < *to } else { key > *to });
            if skipped {
                look.push((Place { tree: Arc::clone(tree), key }, None));
            }
        }
        self.see_all(&look);
    }
}
