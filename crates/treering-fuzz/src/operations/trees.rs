//! Trees that come and go, bulk loads, and the tree with duplicates.

use futures::TryStreamExt;
use treering::{Database, Durability, Error, ErrorKind, MultiTree, ValueBytes};
use treering_txn::{Finished, duplicates};

use super::history::{Change, TREES};
use super::writes::{change, some_keys};
use super::{End, MANY, NAMES, Run, key};
use crate::input::Input;

impl Run {
    /// Makes one of the trees that come and go, or drops it.
    pub(super) fn make_or_drop(&mut self, input: &mut Input<'_>) {
        let number = 2 + input.below(2) as u8;
        let (name, database) = (NAMES[usize::from(number)], self.up().database.clone());
        let (end, change) = match self.tree(number) {
            Some(_) => (self.run(database.drop_tree(name)), self.without_tree(number)),
            None => {
                let end = self.run(async { database.tree(name).await.map(drop) });
                (end, change((TREES, vec![number]), Some(Vec::new())))
            }
        };
        drop(database);
        self.changed(end, change, false);
    }

    /// What dropping a tree changes.
    pub(super) fn without_tree(&self, number: u8) -> Change {
        let all = self.history.now().keys();
        let mut change: Change =
            all.filter(|(of, _)| *of == number).map(|place| (place.clone(), None)).collect();
        change.insert((TREES, vec![number]), None);
        change
    }

    /// Gives one of the trees that come and go the other one's name.
    pub(super) fn rename(&mut self) {
        let (from, to) = match (self.tree(2), self.tree(3)) {
            (Some(_), None) => (2, 3),
            (None, Some(_)) => (3, 2),
            _ => return,
        };
        let mut change = self.without_tree(from);
        let moved = self.history.now().iter().filter(|((of, _), _)| *of == from);
        let moved = moved.map(|((_, key), value)| ((to, key.clone()), Some(value.clone())));
        change.extend(moved.collect::<Change>());
        change.insert((TREES, vec![to]), Some(Vec::new()));
        let database = self.up().database.clone();
        let names = [from, to].map(|number| NAMES[usize::from(number)]);
        let end = self.run(database.rename_tree(names[0], names[1]));
        drop(database);
        self.changed(end, change, false);
    }

    /// Fills one of the trees that come and go all at once; one that has keys gets a batch instead.
    pub(super) fn load(&mut self, input: &mut Input<'_>) {
        let mut change = some_keys(input, &[2, 3]);
        change.retain(|_, value| value.is_some());
        let number = change.keys().next().map_or(2, |(tree, _)| *tree);
        let Some(tree) = self.tree(number) else { return };
        let durable = input.flag();
        let keys = change.iter().filter_map(|((_, key), value)| Some((key, value.as_ref()?)));
        let is_empty = !self.history.now().keys().any(|(of, _)| *of == number);
        let end = match is_empty {
            true => {
                let database = self.up().database.clone();
                self.run(load(&database, NAMES[usize::from(number)], keys, durable))
            }
            false => {
                let mut batch = self.up().database.batch();
                for (key, value) in keys {
                    batch.put(&tree, key, value);
                }
                let durability = if durable { Durability::Durable } else { Durability::Buffered };
                match self.run(batch.commit().durability(durability).into_future()) {
                    End::Done(result) => End::Done(result.map(|()| true)),
                    End::Died => End::Died,
                }
            }
        };
        let change = if let End::Done(Ok(false)) = end { Change::new() } else { change };
        self.changed(end, change, durable);
    }

    /// One more value for a key. It is made durable by its tree's first use only.
    pub(super) fn insert_duplicate(&mut self, input: &mut Input<'_>) {
        let key = key(input);
        let Some(tree) = self.many() else { return };
        let (value, change) = self.new_duplicate(&key, input.below(60));
        let end = self.run(tree.insert_dup(&key, value).into_future());
        self.changed(end, change, true);
    }

    /// A value that no other duplicate has, and what inserting it changes.
    pub(super) fn new_duplicate(&mut self, key: &[u8], len: usize) -> (Vec<u8>, Change) {
        self.counter += 1;
        let mut value = self.counter.to_be_bytes().to_vec();
        value.resize(4 + len, 0);
        let place = (MANY, [key, &self.counter.to_be_bytes()].concat());
        (value, change(place, Some(Vec::new())))
    }

    /// All values of a key go, or only the first.
    pub(super) fn delete_duplicates(&mut self, input: &mut Input<'_>) {
        let (key, all) = (key(input), input.flag());
        let Some(tree) = self.many() else { return };
        let of_key = |place: &&(u8, Vec<u8>)| {
            place.0 == MANY && place.1.len() == key.len() + 4 && place.1.starts_with(&key)
        };
        let there: Vec<_> = self.history.now().keys().filter(of_key).cloned().collect();
        let end = self.run(tree.get_all(&key).try_collect::<Vec<_>>());
        let Some(found) = self.ended(end) else { return };
        assert!(found.is_sorted_by(|one, next| one.0 < next.0), "duplicates in order");
        let known =
            |(_, value): &(u64, ValueBytes)| there.iter().any(|place| ends_like(&place.1, value));
        assert!(found.len() == there.len() && found.iter().all(known), "the values of a key");
        let Some((sequence, first)) = found.first() else { return };
        if all {
            // A copy may have some of them.
            self.flying.iter_mut().for_each(|flight| flight.since = None);
            let end = self.run(tree.delete_all(&key));
            match end {
                // Each goes by itself.
                End::Done(Ok(count)) => {
                    assert_eq!(count, there.len() as u64, "how many went");
                    let change = there.into_iter().map(|place| (place, None)).collect();
                    self.changed(End::Done(Ok(())), change, true);
                }
                end => {
                    there.into_iter().for_each(|place| self.history.uncertain(change(place, None)));
                    match end {
                        End::Done(Err(error)) if error.kind() == ErrorKind::Full && self.full => {
                            self.look_again(0);
                        }
                        end => self.changed(end, Change::new(), false),
                    }
                }
            }
        } else {
            let end = self.run(tree.delete_dup(&key, *sequence).into_future());
            let gone = there.into_iter().find(|place| ends_like(&place.1, first));
            let change = gone.into_iter().map(|place| (place, None)).collect();
            self.changed(end, change, true);
        }
    }

    /// The tree with duplicates, which is made when it is first needed.
    pub(super) fn many(&mut self) -> Option<MultiTree> {
        let database = self.up().database.clone();
        let end = self.run(database.multi_tree(NAMES[usize::from(MANY)]));
        let (made, end) = match end {
            End::Done(Ok(tree)) => (Some(tree), End::Done(Ok(()))),
            End::Done(Err(error)) => (None, End::Done(Err(error))),
            End::Died => (None, End::Died),
        };
        drop(database);
        let place = (TREES, vec![MANY]);
        match self.history.now().contains_key(&place) && made.is_some() {
            true => {}
            false => self.changed(end, change(place, Some(Vec::new())), true),
        }
        made
    }
}

/// Loads an empty tree; false if pages that it had are not gone yet. The face sorts on a thread of its
/// own, which a simulation cannot have: the engine is asked itself.
pub(super) async fn load(
    database: &Database,
    name: &str,
    pairs: impl Iterator<Item = (&Vec<u8>, &Vec<u8>)>,
    durable: bool,
) -> Result<bool, Error> {
    let engine = database.engine();
    engine.check()?;
    let Some(tree) = engine.find_tree(name.as_bytes()) else { return Ok(false) };
    let mut load = engine.load(tree)?;
    for (key, value) in pairs {
        load.push(key, value).await?;
    }
    match load.finish().await? {
        Finished::Committed { sequence } if durable => {
            engine.settle(sequence, Durability::Durable).await?;
            Ok(true)
        }
        Finished::Committed { .. } => Ok(true),
        Finished::NotEmpty => Ok(false),
    }
}

/// What the model has for a duplicate: its key, and what its value begins with.
pub(super) fn duplicate(stored: &[u8], value: &[u8]) -> Vec<u8> {
    let mut key = Vec::new();
    assert!(duplicates::split(stored, &mut key).is_some(), "no stored duplicate: {stored:?}");
    key.extend_from_slice(&value[..4]);
    key
}

fn ends_like(place: &[u8], value: &[u8]) -> bool {
    place.ends_with(&value[..4])
}
