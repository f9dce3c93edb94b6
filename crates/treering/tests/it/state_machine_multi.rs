//! A tree with duplicates against a map from keys to lists, operation by operation, with keys that
//! get more values than many leaves hold and lose them again, so that pages split, borrow and merge
//! within the duplicates of one key; closed, dropped and compacted in between. In the end all of it
//! is deleted, and no page is left behind.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{Home, assert_sound, tiny};
use futures::TryStreamExt;
use futures::executor::block_on;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use treering::{Database, Durability, Error, MultiTree};

/// Merges of all cases.
static MERGES: AtomicU64 = AtomicU64::new(0);

const KEYS: u8 = 10;

/// Keys with the bytes that are escaped when they are stored, and of different lengths.
fn key(number: u8) -> Vec<u8> {
    let mut key = vec![0, number / 2];
    key.extend(std::iter::repeat_n(number % 3, number as usize * 3));
    key
}

fn value(number: u8) -> Vec<u8> {
    vec![number; number as usize % 60]
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u8),
    /// So many values, one after the other.
    Fill(u8, u8),
    /// In one batch so many inserts, and the deletion of this one of the duplicates there are.
    Batch(u8, u8, usize),
    DeleteDup(u8, usize),
    TakeDup(u8, usize),
    DeleteValue(u8, u8),
    /// Every other one of the duplicates.
    Thin(u8),
    DeleteAll(u8),
    Get(u8),
    GetAll(u8, bool),
    All(bool),
    Walk(u8, bool, u8),
    Checkpoint,
    Compact,
    Verify,
    Close,
    Drop,
}

/// One duplicate: its key, its number in the order of all inserts, and its value.
type Triple = (Vec<u8>, usize, Vec<u8>);

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Done,
    Flag(bool),
    Count(u64),
    Value(Option<Vec<u8>>),
    Which(Option<usize>),
    Triples(Vec<Triple>),
}

#[derive(Clone, Debug)]
struct Model {
    /// By key and number: numbers rise as sequences do.
    map: BTreeMap<(Vec<u8>, usize), Vec<u8>>,
    inserts: usize,
    answer: Answer,
}

impl Model {
    fn insert(&mut self, number: u8, new: u8) {
        self.map.insert((key(number), self.inserts), value(new));
        self.inserts += 1;
    }

    fn of(&self, number: u8) -> Vec<usize> {
        let key = key(number);
        self.map.keys().filter(|(other, _)| *other == key).map(|(_, which)| *which).collect()
    }

    fn pick(&self, number: u8, at: usize) -> Option<usize> {
        let of = self.of(number);
        (!of.is_empty()).then(|| of[at % of.len()])
    }

    fn triples(&self) -> impl DoubleEndedIterator<Item = Triple> {
        self.map.iter().map(|((key, which), value)| (key.clone(), *which, value.clone()))
    }

    fn run(&mut self, step: &Step) -> Answer {
        match *step {
            Step::Insert(number, new) => {
                self.insert(number, new);
                Answer::Done
            }
            Step::Fill(number, count) => {
                (0..count).for_each(|new| self.insert(number, new));
                Answer::Done
            }
            Step::Batch(number, count, at) => {
                if let Some(which) = self.pick(number, at) {
                    self.map.remove(&(key(number), which));
                }
                (0..count).for_each(|new| self.insert(number, new));
                Answer::Done
            }
            Step::DeleteDup(number, at) => {
                let which = self.pick(number, at);
                let gone = which.and_then(|which| self.map.remove(&(key(number), which)));
                Answer::Flag(gone.is_some())
            }
            Step::TakeDup(number, at) => {
                let which = self.pick(number, at);
                Answer::Value(which.and_then(|which| self.map.remove(&(key(number), which))))
            }
            Step::DeleteValue(number, wanted) => {
                let mut of = self.of(number).into_iter();
                let which = of.find(|which| self.map[&(key(number), *which)] == value(wanted));
                if let Some(which) = which {
                    self.map.remove(&(key(number), which));
                }
                Answer::Which(which)
            }
            Step::Thin(number) => {
                for which in self.of(number).into_iter().step_by(2) {
                    self.map.remove(&(key(number), which));
                }
                Answer::Done
            }
            Step::DeleteAll(number) => {
                let of = self.of(number);
                of.iter().for_each(|which| drop(self.map.remove(&(key(number), *which))));
                Answer::Count(of.len() as u64)
            }
            Step::Get(number) => {
                let first = self.pick(number, 0);
                Answer::Value(first.map(|which| self.map[&(key(number), which)].clone()))
            }
            Step::GetAll(number, backward) => {
                let key = key(number);
                turned(self.triples().filter(|(other, ..)| *other == key), backward)
            }
            Step::All(backward) => turned(self.triples(), backward),
            Step::Walk(number, backward, count) => {
                let (key, count) = (key(number), count as usize);
                let triples = self.triples();
                Answer::Triples(match backward {
                    true => {
                        triples.rev().skip_while(|(other, ..)| *other > key).take(count).collect()
                    }
                    false => triples.skip_while(|(other, ..)| *other < key).take(count).collect(),
                })
            }
            Step::Checkpoint | Step::Compact | Step::Verify | Step::Close | Step::Drop => {
                Answer::Done
            }
        }
    }
}

fn turned(triples: impl DoubleEndedIterator<Item = Triple>, backward: bool) -> Answer {
    Answer::Triples(if backward { triples.rev().collect() } else { triples.collect() })
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self { map: BTreeMap::new(), inserts: 0, answer: Answer::Done }).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let (number, any_at) = (|| 0..KEYS, any::<usize>);
        prop_oneof![
            4 => (number(), any::<u8>()).prop_map(|(key, new)| Step::Insert(key, new)),
            3 => (number(), 10..80u8).prop_map(|(key, count)| Step::Fill(key, count)),
            2 => (number(), 0..4u8, any_at()).prop_map(|(key, n, at)| Step::Batch(key, n, at)),
            3 => (number(), any_at()).prop_map(|(key, at)| Step::DeleteDup(key, at)),
            1 => (number(), any_at()).prop_map(|(key, at)| Step::TakeDup(key, at)),
            2 => (number(), 0..80u8).prop_map(|(key, value)| Step::DeleteValue(key, value)),
            3 => number().prop_map(Step::Thin),
            2 => number().prop_map(Step::DeleteAll),
            1 => number().prop_map(Step::Get),
            2 => (number(), any::<bool>()).prop_map(|(key, rev)| Step::GetAll(key, rev)),
            1 => any::<bool>().prop_map(Step::All),
            2 => (number(), any::<bool>(), 0..30u8)
                .prop_map(|(key, rev, count)| Step::Walk(key, rev, count)),
            1 => prop_oneof![
                3 => Just(Step::Checkpoint),
                2 => Just(Step::Compact),
                2 => Just(Step::Verify),
                1 => Just(Step::Close),
                1 => Just(Step::Drop),
            ],
        ]
        .boxed()
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        state.answer = state.run(step);
        state
    }
}

struct Engine {
    home: Home,
    db: Database,
    tree: MultiTree,
    /// The sequence of each insert, by its number.
    sequences: Vec<u64>,
}

impl Engine {
    fn open(home: Home, sequences: Vec<u64>) -> Self {
        let options = tiny(512, 48).durability(Durability::None);
        let (db, tree) = block_on(async {
            let db = options.open(&home.path).await.unwrap();
            let tree = db.multi_tree("t").await.unwrap();
            (db, tree)
        });
        Self { home, db, tree, sequences }
    }

    fn note(&mut self, sequence: u64) {
        let before = self.sequences.last();
        assert!(before.is_none_or(|before| *before < sequence), "sequences only grow");
        self.sequences.push(sequence);
    }

    /// The number of the insert that got this sequence.
    fn which(&self, sequence: u64) -> usize {
        self.sequences.binary_search(&sequence).unwrap()
    }

    async fn of(&self, number: u8) -> Result<Vec<u64>, Error> {
        let values: Vec<_> = self.tree.get_all(key(number)).try_collect().await?;
        Ok(values.into_iter().map(|(sequence, _)| sequence).collect())
    }

    async fn pick(&self, number: u8, at: usize) -> Result<Option<u64>, Error> {
        let of = self.of(number).await?;
        Ok((!of.is_empty()).then(|| of[at % of.len()]))
    }

    async fn run(&mut self, step: Step) -> Result<Answer, Error> {
        let tree = self.tree.clone();
        Ok(match step {
            Step::Insert(number, new) => {
                let sequence = tree.insert_dup(key(number), value(new)).await?;
                self.note(sequence);
                Answer::Done
            }
            Step::Fill(number, count) => {
                for new in 0..count {
                    let sequence = tree.insert_dup(key(number), value(new)).await?;
                    self.note(sequence);
                }
                Answer::Done
            }
            Step::Batch(number, count, at) => {
                let mut batch = self.db.batch();
                if let Some(sequence) = self.pick(number, at).await? {
                    batch.delete_dup(&tree, key(number), sequence);
                }
                for new in 0..count {
                    batch.insert_dup(&tree, key(number), value(new));
                }
                let sequences = batch.commit().sequences().await?;
                sequences.into_iter().for_each(|sequence| self.note(sequence));
                Answer::Done
            }
            Step::DeleteDup(number, at) => Answer::Flag(match self.pick(number, at).await? {
                Some(sequence) => tree.delete_dup(key(number), sequence).await?,
                None => false,
            }),
            Step::TakeDup(number, at) => Answer::Value(match self.pick(number, at).await? {
                Some(sequence) => {
                    tree.take_dup(key(number), sequence).await?.map(treering::ValueBytes::into_vec)
                }
                None => None,
            }),
            Step::DeleteValue(number, wanted) => {
                let gone = tree.delete_value(key(number), value(wanted)).await?;
                Answer::Which(gone.map(|sequence| self.which(sequence)))
            }
            Step::Thin(number) => {
                for sequence in self.of(number).await?.into_iter().step_by(2) {
                    assert!(tree.delete_dup(key(number), sequence).await?);
                }
                Answer::Done
            }
            Step::DeleteAll(number) => Answer::Count(tree.delete_all(key(number)).await?),
            Step::Get(number) => {
                Answer::Value(tree.get(key(number)).await?.map(treering::ValueBytes::into_vec))
            }
            Step::GetAll(number, backward) => {
                let values = tree.get_all(key(number));
                let values = if backward { values.rev() } else { values };
                let values: Vec<_> = values.try_collect().await?;
                let triple = |(sequence, value): (u64, treering::ValueBytes)| {
                    (key(number), self.which(sequence), value.to_vec())
                };
                Answer::Triples(values.into_iter().map(triple).collect())
            }
            Step::All(backward) => {
                let range = tree.range(..);
                let range = if backward { range.rev() } else { range };
                let all: Vec<_> = range.try_collect().await?;
                let triple =
                    |(key, sequence, value): (treering::KeyBytes, u64, treering::ValueBytes)| {
                        (key.to_vec(), self.which(sequence), value.to_vec())
                    };
                Answer::Triples(all.into_iter().map(triple).collect())
            }
            Step::Walk(number, backward, count) => {
                let (mut cursor, mut triples) = (tree.cursor(), Vec::new());
                let mut more = match backward {
                    true => cursor.seek_for_prev(key(number)).await?,
                    false => cursor.seek(key(number)).await?,
                };
                while more && triples.len() < count as usize {
                    let (key, sequence, value) = cursor.entry().unwrap();
                    triples.push((key.to_vec(), self.which(sequence), value.to_vec()));
                    more = if backward { cursor.prev().await? } else { cursor.next().await? };
                }
                Answer::Triples(triples)
            }
            Step::Checkpoint => {
                self.db.checkpoint().await?;
                Answer::Done
            }
            Step::Compact => {
                self.db.compact().await?;
                Answer::Done
            }
            Step::Verify => {
                assert_sound(&self.db).await;
                Answer::Done
            }
            Step::Close | Step::Drop => unreachable!("that takes all of it"),
        })
    }

    /// Ends it in order or not, and opens it again.
    fn again(self, close: bool) -> Self {
        MERGES.fetch_add(self.db.stats().merges, Ordering::Relaxed);
        let Self { home, db, tree, sequences } = self;
        match close {
            true => block_on(db.close()).unwrap(),
            // What was not durable may be lost.
            false => block_on(db.sync()).unwrap(),
        }
        drop((tree, db));
        Self::open(home, sequences)
    }
}

struct Machine;

impl StateMachineTest for Machine {
    type SystemUnderTest = Engine;
    type Reference = Model;

    fn init_test(_: &Model) -> Engine {
        Engine::open(Home::new(), Vec::new())
    }

    fn apply(mut engine: Engine, model: &Model, step: Step) -> Engine {
        match step {
            Step::Close => engine.again(true),
            Step::Drop => engine.again(false),
            step => {
                let what = format!("{step:?}");
                let answer = block_on(engine.run(step)).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(answer, model.answer, "{what}");
                engine
            }
        }
    }

    /// When all is deleted, two leaves are left: the tree's and the catalog's.
    fn teardown(mut engine: Engine, model: Model) {
        block_on(async {
            let all = engine.run(Step::All(false)).await.unwrap();
            assert_eq!(all, Answer::Triples(model.triples().collect()));
            for number in 0..KEYS {
                engine.tree.delete_all(key(number)).await.unwrap();
            }
            engine.db.tidy().await.unwrap();
            let report = engine.db.verify().await.unwrap();
            assert_eq!(report.problems, Vec::<String>::new());
            assert_eq!((report.keys, report.pages), (0, 2));
            MERGES.fetch_add(engine.db.stats().merges, Ordering::Relaxed);
            engine.db.close().await.unwrap();
        });
    }
}

#[test]
fn t11_t14_p3_p4_a_tree_with_duplicates_answers_as_lists_do_while_its_pages_split_and_merge() {
    let soak: u32 = std::env::var("TREERING_SOAK").map_or(1, |times| times.parse().unwrap());
    let config = Config {
        cases: 12 * soak,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let run = TestRunner::new(config.clone()).run(
        &Model::sequential_strategy(20..100),
        |(model, steps, seen)| {
            Machine::test_sequential(config.clone(), model, steps, seen);
            Ok(())
        },
    );
    run.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(MERGES.load(Ordering::Relaxed) > 0, "no page has merged");
}
