//! A tree with duplicates does what a map from keys to lists does, on the smallest pages, closed or
//! dropped and opened again in between; and its sequences only grow.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::common::{Home, assert_sound, tiny};
use futures::TryStreamExt;
use futures::executor::block_on;
use proptest::collection::vec;
use proptest::prelude::*;
use treering::{Database, MultiTree};

type Model = BTreeMap<Vec<u8>, Vec<(u64, Vec<u8>)>>;
type Triple = (Vec<u8>, u64, Vec<u8>);

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>, u8),
    /// So many values for one key: more than a leaf holds.
    InsertMany(Vec<u8>, u8),
    /// Inserts and deletes in one batch: how many inserts, and which duplicate goes.
    Batch(Vec<u8>, u8, usize),
    DeleteDup(Vec<u8>, usize),
    TakeDup(Vec<u8>, usize),
    DeleteValue(Vec<u8>, u8),
    DeleteAll(Vec<u8>),
    Get(Vec<u8>),
    GetAll(Vec<u8>, bool),
    Range(Bound<Vec<u8>>, Bound<Vec<u8>>, bool),
    Prefix(Vec<u8>),
    Seek(Vec<u8>, Vec<bool>),
    SeekForPrev(Vec<u8>, Vec<bool>),
    CloseAndOpen,
    SyncDropAndOpen,
}

/// Few keys, so that they get many values, with the bytes that are escaped or stand beside them.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => vec(prop_oneof![Just(0u8), Just(1), Just(b'a'), Just(255)], 0..3),
        2 => (0u8..12).prop_map(|number| format!("key {number}").into_bytes()),
    ]
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let walk = || vec(any::<bool>(), 0..12);
    prop_oneof![
        10 => (key(), 0u8..4).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => (key(), 20u8..60).prop_map(|(key, count)| Step::InsertMany(key, count)),
        3 => (key(), 0u8..5, any::<usize>()).prop_map(|(key, n, at)| Step::Batch(key, n, at)),
        3 => (key(), any::<usize>()).prop_map(|(key, at)| Step::DeleteDup(key, at)),
        3 => (key(), any::<usize>()).prop_map(|(key, at)| Step::TakeDup(key, at)),
        4 => (key(), 0u8..4).prop_map(|(key, value)| Step::DeleteValue(key, value)),
        2 => key().prop_map(Step::DeleteAll),
        4 => key().prop_map(Step::Get),
        4 => (key(), any::<bool>()).prop_map(|(key, backward)| Step::GetAll(key, backward)),
        4 => (bound(), bound(), any::<bool>()).prop_map(|(a, b, back)| Step::Range(a, b, back)),
        2 => key().prop_map(Step::Prefix),
        3 => (key(), walk()).prop_map(|(key, walk)| Step::Seek(key, walk)),
        3 => (key(), walk()).prop_map(|(key, walk)| Step::SeekForPrev(key, walk)),
        1 => Just(Step::CloseAndOpen),
        1 => Just(Step::SyncDropAndOpen),
    ]
}

fn value(byte: u8) -> Vec<u8> {
    vec![byte; usize::from(byte) * 4]
}

struct Subject {
    home: Home,
    open: Option<(Database, MultiTree)>,
    model: Model,
    greatest: u64,
}

impl Subject {
    async fn reopen(&mut self) {
        self.open = None;
        let db = tiny(512, 32).open(&self.home.path).await.unwrap();
        let tree = db.multi_tree("t").await.unwrap();
        self.open = Some((db, tree));
    }

    fn tree(&self) -> MultiTree {
        self.open.as_ref().unwrap().1.clone()
    }

    fn db(&self) -> Database {
        self.open.as_ref().unwrap().0.clone()
    }

    fn add(&mut self, key: Vec<u8>, sequence: u64, value: Vec<u8>) {
        assert!(sequence > self.greatest, "sequences only grow");
        self.greatest = sequence;
        self.model.entry(key).or_default().push((sequence, value));
    }

    /// The duplicate number `at` of a key; one that was never there if it has none.
    fn pick(&self, key: &[u8], at: usize) -> u64 {
        let values = self.model.get(key).map(Vec::as_slice).unwrap_or_default();
        values.get(at % values.len().max(1)).map_or(1, |(sequence, _)| *sequence)
    }

    fn remove(&mut self, key: &[u8], sequence: u64) -> Option<Vec<u8>> {
        let values = self.model.get_mut(key)?;
        let at = values.iter().position(|(there, _)| *there == sequence)?;
        let (_, value) = values.remove(at);
        if values.is_empty() {
            self.model.remove(key);
        }
        Some(value)
    }

    /// Everything in a range of keys, in order.
    fn triples(&self, start: Bound<Vec<u8>>, end: Bound<Vec<u8>>) -> Vec<Triple> {
        let inside = |key: &[u8]| {
            let after = match &start {
                Bound::Included(start) => key >= start.as_slice(),
                Bound::Excluded(start) => key > start.as_slice(),
                Bound::Unbounded => true,
            };
            after
                && match &end {
                    Bound::Included(end) => key <= end.as_slice(),
                    Bound::Excluded(end) => key < end.as_slice(),
                    Bound::Unbounded => true,
                }
        };
        let keys = self.model.iter().filter(|(key, _)| inside(key));
        let all = keys.flat_map(|(key, values)| {
            values.iter().map(|(sequence, value)| (key.clone(), *sequence, value.clone()))
        });
        all.collect()
    }

    async fn step(&mut self, step: Step) {
        let tree = self.tree();
        match step {
            Step::Insert(key, byte) => {
                let sequence = tree.insert_dup(&key, value(byte)).await.unwrap();
                self.add(key, sequence, value(byte));
            }
            Step::InsertMany(key, count) => {
                for number in 0..count {
                    let sequence = tree.insert_dup(&key, value(number % 8)).await.unwrap();
                    self.add(key.clone(), sequence, value(number % 8));
                }
            }
            Step::Batch(key, inserts, at) => self.batch(&tree, key, inserts, at).await,
            Step::DeleteDup(key, at) => {
                let sequence = self.pick(&key, at);
                let existed = tree.delete_dup(&key, sequence).await.unwrap();
                assert_eq!(existed, self.remove(&key, sequence).is_some());
            }
            Step::TakeDup(key, at) => {
                let sequence = self.pick(&key, at);
                let taken = tree.take_dup(&key, sequence).await.unwrap();
                assert_eq!(taken.as_deref(), self.remove(&key, sequence).as_deref());
            }
            Step::DeleteValue(key, byte) => {
                let values = self.model.get(&key).map(Vec::as_slice).unwrap_or_default();
                let first = values.iter().find(|(_, there)| *there == value(byte));
                let first = first.map(|(sequence, _)| *sequence);
                assert_eq!(tree.delete_value(&key, value(byte)).await.unwrap(), first);
                if let Some(sequence) = first {
                    self.remove(&key, sequence);
                }
            }
            Step::DeleteAll(key) => {
                let count = self.model.remove(&key).map_or(0, |values| values.len() as u64);
                assert_eq!(tree.delete_all(&key).await.unwrap(), count);
                assert_eq!(tree.delete_all(&key).await.unwrap(), 0);
            }
            Step::Get(key) => {
                let first = self.model.get(&key).map(|values| values[0].1.as_slice());
                assert_eq!(tree.get(&key).await.unwrap().as_deref(), first);
                assert_eq!(tree.contains(&key).await.unwrap(), first.is_some());
            }
            Step::GetAll(key, backward) => {
                let mut expected = self.model.get(&key).cloned().unwrap_or_default();
                let mut values = tree.get_all(&key);
                if backward {
                    expected.reverse();
                    values = values.rev();
                }
                let found: Vec<_> = values.try_collect().await.unwrap();
                let found = found.into_iter().map(|(sequence, value)| (sequence, value.into_vec()));
                assert_eq!(found.collect::<Vec<_>>(), expected);
            }
            Step::Range(start, end, backward) => {
                let mut expected = self.triples(start.clone(), end.clone());
                let mut range = tree.range((start, end));
                if backward {
                    expected.reverse();
                    range = range.rev();
                }
                assert_eq!(collect(range).await, expected);
            }
            Step::Prefix(prefix) => {
                let mut expected = self.triples(Bound::Unbounded, Bound::Unbounded);
                expected.retain(|(key, ..)| key.starts_with(&prefix));
                assert_eq!(collect(tree.prefix(&prefix)).await, expected);
            }
            Step::Seek(key, walk) => {
                let mut cursor = tree.cursor();
                let all = self.triples(Bound::Unbounded, Bound::Unbounded);
                let at = all.iter().position(|(there, ..)| *there >= key).unwrap_or(all.len());
                assert_eq!(cursor.seek(&key).await.unwrap(), at < all.len());
                walk_along(cursor, &all, at as isize, &walk).await;
            }
            Step::SeekForPrev(key, walk) => {
                let mut cursor = tree.cursor();
                let all = self.triples(Bound::Unbounded, Bound::Unbounded);
                let at = all.iter().rposition(|(there, ..)| *there <= key);
                assert_eq!(cursor.seek_for_prev(&key).await.unwrap(), at.is_some());
                walk_along(cursor, &all, at.map_or(-1, |at| at as isize), &walk).await;
            }
            Step::CloseAndOpen => {
                self.db().close().await.unwrap();
                drop(tree);
                self.reopen().await;
            }
            Step::SyncDropAndOpen => {
                self.db().sync().await.unwrap();
                drop(tree);
                self.reopen().await;
            }
        }
    }

    async fn batch(&mut self, tree: &MultiTree, key: Vec<u8>, inserts: u8, at: usize) {
        let goes = self.pick(&key, at);
        let mut batch = self.db().batch();
        for number in 0..inserts {
            batch.insert_dup(tree, &key, value(number));
        }
        batch.delete_dup(tree, &key, goes);
        let sequences = batch.commit().sequences().await.unwrap();
        assert_eq!(sequences.len(), usize::from(inserts));
        for (number, sequence) in (0..).zip(sequences) {
            self.add(key.clone(), sequence, value(number));
        }
        self.remove(&key, goes);
    }
}

async fn collect(range: treering::MultiRange) -> Vec<Triple> {
    let found: Vec<_> = range.try_collect().await.unwrap();
    let triple = |(key, sequence, value): (treering::KeyBytes, u64, treering::ValueBytes)| {
        (key.into_vec(), sequence, value.into_vec())
    };
    found.into_iter().map(triple).collect()
}

/// Steps with a cursor that stands on `all[at]`, or beside an end.
async fn walk_along(
    mut cursor: treering::MultiCursor,
    all: &[Triple],
    mut at: isize,
    walk: &[bool],
) {
    for &forward in walk {
        at = (at + if forward { 1 } else { -1 }).clamp(-1, all.len() as isize);
        let found = if forward { cursor.next().await } else { cursor.prev().await };
        let expected = usize::try_from(at).ok().and_then(|at| all.get(at));
        assert_eq!(found.unwrap(), expected.is_some());
        let expected = expected.map(|(key, sequence, value)| (&key[..], *sequence, &value[..]));
        assert_eq!(cursor.entry(), expected);
    }
}

async fn run(steps: Vec<Step>) {
    let mut subject = Subject { home: Home::new(), open: None, model: Model::new(), greatest: 0 };
    subject.reopen().await;
    for step in steps {
        subject.step(step).await;
    }
    subject.reopen().await;
    let all = subject.triples(Bound::Unbounded, Bound::Unbounded);
    assert_eq!(collect(subject.tree().range(..)).await, all);
    assert_sound(&subject.db()).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn t11_p3_p4_duplicates_are_what_the_model_says(steps in vec(step(), 1..100)) {
        block_on(run(steps));
    }
}
