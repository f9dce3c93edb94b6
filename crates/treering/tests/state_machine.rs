//! One tree of a database against a `BTreeMap`, operation by operation: every write, batches with
//! conditions, ranges in both directions, a cursor that lives through all of it, checkpoints,
//! compaction, closing and dropping. Pages are as small as they get and stretches of keys come and
//! go, so that pages split, borrow and merge all the time. A failing sequence is shrunk to a short one.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

mod common;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Home, all, assert_sound, tiny};
use futures::executor::block_on;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use treering::{Cursor, Database, Durability, Error, ErrorKind, Tree};

const KEYS: u16 = 240;
const FRAMES: usize = 48;

/// Merges of all cases.
static MERGES: AtomicU64 = AtomicU64::new(0);

/// Keys of very different lengths, so that separators are, too.
fn key(number: u16) -> Vec<u8> {
    let mut key = format!("{number:03}").into_bytes();
    key.extend(std::iter::repeat_n(b'-', number as usize % 7 * 14));
    key
}

fn value(number: u8) -> Vec<u8> {
    vec![number; number as usize % 80]
}

/// One step of a batch.
#[derive(Clone, Copy, Debug)]
enum Part {
    Put(u8),
    Insert(u8),
    Update(u8),
    Delete,
    RequireAbsent,
    RequirePresent,
    /// That the key has the value that it has, or this one.
    RequireValue(Option<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    Get(u16),
    Put(u16, u8),
    Insert(u16, u8),
    Update(u16, u8),
    Replace(u16, u8),
    Delete(u16),
    Take(u16),
    /// Expecting what is there, or something else.
    Swap(u16, bool, Option<u8>),
    GetOrInsert(u16, u8),
    Batch(Vec<(u16, Part)>),
    Fill(u16, u16, u8),
    Clear(u16, u16),
    Range(Bound<u16>, Bound<u16>, bool),
    Prefix(u16, bool),
    Seek(u16),
    SeekForPrev(u16),
    First,
    Last,
    Next,
    Prev,
    Checkpoint,
    Tidy,
    Compact,
    Verify,
    Close,
    Drop,
}

type Pair = (Vec<u8>, Vec<u8>);

/// What a step is answered.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Done,
    Flag(bool),
    Value(Option<Vec<u8>>),
    Differs(Option<Vec<u8>>),
    Kept(Vec<u8>, bool),
    Failed(ErrorKind, usize, Option<Vec<u8>>),
    Pairs(Vec<Pair>),
    Stands(bool, Option<Pair>),
}

#[derive(Clone, Debug, Default)]
enum Stand {
    #[default]
    Nowhere,
    On(Pair),
    BeforeFirst,
    BehindLast,
}

#[derive(Clone, Debug)]
struct Model {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    stand: Stand,
    answer: Answer,
}

impl Model {
    fn run(&mut self, step: &Step) -> Answer {
        let map = &mut self.map;
        match step {
            Step::Get(number) => Answer::Value(map.get(&key(*number)).cloned()),
            Step::Put(number, new) => {
                map.insert(key(*number), value(*new));
                Answer::Done
            }
            Step::Insert(..) | Step::Update(..) => {
                let (number, part) = match step {
                    Step::Insert(number, new) => (*number, Part::Insert(*new)),
                    Step::Update(number, new) => (*number, Part::Update(*new)),
                    _ => unreachable!(),
                };
                run_batch(map, &[(number, part)])
            }
            Step::Replace(number, new) => Answer::Value(map.insert(key(*number), value(*new))),
            Step::Delete(number) => Answer::Flag(map.remove(&key(*number)).is_some()),
            Step::Take(number) => Answer::Value(map.remove(&key(*number))),
            Step::Swap(number, right, new) => {
                let there = map.get(&key(*number)).cloned();
                if !right {
                    return Answer::Differs(there);
                }
                match new {
                    Some(new) => drop(map.insert(key(*number), value(*new))),
                    None => drop(map.remove(&key(*number))),
                }
                Answer::Done
            }
            Step::GetOrInsert(number, new) => {
                let is_new = !map.contains_key(&key(*number));
                let kept = map.entry(key(*number)).or_insert_with(|| value(*new));
                Answer::Kept(kept.clone(), is_new)
            }
            Step::Batch(parts) => run_batch(map, parts),
            Step::Fill(from, count, new) => {
                map.extend(stretch(*from, *count).map(|number| (key(number), value(*new))));
                Answer::Done
            }
            Step::Clear(from, count) => {
                stretch(*from, *count).for_each(|number| drop(map.remove(&key(number))));
                Answer::Done
            }
            Step::Range(start, end, backward) => {
                let (start, end) = (start.map(key), end.map(key));
                let above = |key: &Vec<u8>| match &start {
                    Bound::Included(start) => key >= start,
                    Bound::Excluded(start) => key > start,
                    Bound::Unbounded => true,
                };
                let below = |key: &Vec<u8>| match &end {
                    Bound::Included(end) => key <= end,
                    Bound::Excluded(end) => key < end,
                    Bound::Unbounded => true,
                };
                pairs(map.iter().filter(|(key, _)| above(key) && below(key)), *backward)
            }
            Step::Prefix(number, backward) => {
                let prefix = prefix(*number);
                pairs(map.iter().filter(|(key, _)| key.starts_with(&prefix)), *backward)
            }
            Step::Seek(_)
            | Step::SeekForPrev(_)
            | Step::First
            | Step::Last
            | Step::Next
            | Step::Prev => self.walk(step),
            Step::Checkpoint | Step::Tidy | Step::Compact | Step::Verify => Answer::Done,
            Step::Close | Step::Drop => {
                self.stand = Stand::Nowhere;
                Answer::Done
            }
        }
    }

    fn walk(&mut self, step: &Step) -> Answer {
        use Bound::{Excluded, Included, Unbounded};
        let (forward, bound) = match (step, &self.stand) {
            (Step::Seek(number), _) => (true, Included(key(*number))),
            (Step::SeekForPrev(number), _) => (false, Included(key(*number))),
            (Step::First, _) => (true, Unbounded),
            (Step::Last, _) => (false, Unbounded),
            (Step::Next, Stand::On((key, _))) => (true, Excluded(key.clone())),
            (Step::Prev, Stand::On((key, _))) => (false, Excluded(key.clone())),
            (Step::Next, Stand::BehindLast) | (Step::Prev, Stand::BeforeFirst) => {
                return Answer::Stands(false, None);
            }
            (Step::Next, _) => (true, Unbounded),
            _ => (false, Unbounded),
        };
        let found = match forward {
            true => self.map.range((bound, Unbounded)).next(),
            false => self.map.range((Unbounded, bound)).next_back(),
        };
        let found = found.map(|(key, value)| (key.clone(), value.clone()));
        self.stand = match (&found, forward) {
            (Some(pair), _) => Stand::On(pair.clone()),
            (None, true) => Stand::BehindLast,
            (None, false) => Stand::BeforeFirst,
        };
        Answer::Stands(found.is_some(), found)
    }
}

fn stretch(from: u16, count: u16) -> impl Iterator<Item = u16> {
    from..KEYS.min(from + count)
}

fn prefix(number: u16) -> Vec<u8> {
    format!("{:02}", number / 10).into_bytes()
}

fn pairs<'a>(
    pairs: impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    backward: bool,
) -> Answer {
    let mut pairs: Vec<Pair> = pairs.map(|(key, value)| (key.clone(), value.clone())).collect();
    if backward {
        pairs.reverse();
    }
    Answer::Pairs(pairs)
}

/// What [`Part::RequireValue`] asks for.
fn required(map: &BTreeMap<Vec<u8>, Vec<u8>>, number: u16, other: Option<u8>) -> Vec<u8> {
    let there = || map.get(&key(number)).cloned().unwrap_or_default();
    other.map_or_else(there, value)
}

fn run_batch(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, parts: &[(u16, Part)]) -> Answer {
    let mut after = map.clone();
    for (index, (number, part)) in parts.iter().enumerate() {
        let there = after.get(&key(*number)).cloned();
        let violated = match part {
            Part::Insert(_) | Part::RequireAbsent if there.is_some() => Some(ErrorKind::KeyExists),
            Part::Update(_) | Part::RequirePresent | Part::RequireValue(_) if there.is_none() => {
                Some(ErrorKind::KeyMissing)
            }
            Part::RequireValue(other)
                if there.as_ref() != Some(&required(map, *number, *other)) =>
            {
                Some(ErrorKind::ValueDiffers)
            }
            _ => None,
        };
        if let Some(kind) = violated {
            return Answer::Failed(kind, index, there);
        }
        match part {
            Part::Put(new) | Part::Insert(new) | Part::Update(new) => {
                after.insert(key(*number), value(*new));
            }
            Part::Delete => drop(after.remove(&key(*number))),
            Part::RequireAbsent | Part::RequirePresent | Part::RequireValue(_) => {}
        }
    }
    *map = after;
    Answer::Done
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self { map: BTreeMap::new(), stand: Stand::Nowhere, answer: Answer::Done }).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let number = || 0..KEYS;
        let new = any::<u8>;
        let end = || {
            prop_oneof![
                number().prop_map(Bound::Included),
                number().prop_map(Bound::Excluded),
                Just(Bound::Unbounded),
            ]
        };
        let part = prop_oneof![
            3 => new().prop_map(Part::Put),
            1 => new().prop_map(Part::Insert),
            1 => new().prop_map(Part::Update),
            3 => Just(Part::Delete),
            1 => Just(Part::RequireAbsent),
            1 => Just(Part::RequirePresent),
            1 => proptest::option::weighted(0.3, new()).prop_map(Part::RequireValue),
        ];
        let writes = prop_oneof![
            (number(), new()).prop_map(|(key, new)| Step::Put(key, new)),
            (number(), new()).prop_map(|(key, new)| Step::Insert(key, new)),
            (number(), new()).prop_map(|(key, new)| Step::Update(key, new)),
            (number(), new()).prop_map(|(key, new)| Step::Replace(key, new)),
            number().prop_map(Step::Delete),
            number().prop_map(Step::Take),
            (number(), any::<bool>(), proptest::option::of(new()))
                .prop_map(|(key, right, new)| Step::Swap(key, right, new)),
            (number(), new()).prop_map(|(key, new)| Step::GetOrInsert(key, new)),
        ];
        let reads = prop_oneof![
            number().prop_map(Step::Get),
            (end(), end(), any::<bool>()).prop_map(|(a, b, rev)| Step::Range(a, b, rev)),
            (number(), any::<bool>()).prop_map(|(number, rev)| Step::Prefix(number, rev)),
        ];
        let steps = prop_oneof![
            1 => number().prop_map(Step::Seek),
            1 => number().prop_map(Step::SeekForPrev),
            1 => Just(Step::First),
            1 => Just(Step::Last),
            4 => Just(Step::Next),
            4 => Just(Step::Prev),
        ];
        let lives = prop_oneof![
            4 => Just(Step::Checkpoint),
            4 => Just(Step::Tidy),
            2 => Just(Step::Compact),
            4 => Just(Step::Verify),
            1 => Just(Step::Close),
            1 => Just(Step::Drop),
        ];
        prop_oneof![
            8 => writes,
            4 => reads,
            5 => steps,
            3 => proptest::collection::vec((number(), part), 2..6).prop_map(Step::Batch),
            3 => (number(), 20..120u16, new()).prop_map(|(a, n, new)| Step::Fill(a, n, new)),
            4 => (number(), 20..120u16).prop_map(|(from, count)| Step::Clear(from, count)),
            2 => lives,
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
    tree: Tree,
    cursor: Cursor,
}

impl Engine {
    fn open(home: Home) -> Self {
        let options = tiny(512, FRAMES).durability(Durability::None);
        let (db, tree) = block_on(async {
            let db = options.open(&home.path).await.unwrap();
            let tree = db.tree("t").await.unwrap();
            (db, tree)
        });
        let cursor = tree.cursor();
        Self { home, db, tree, cursor }
    }

    async fn run(&mut self, step: Step) -> Result<Answer, Error> {
        let Self { db, tree, cursor, .. } = self;
        let vec = |value: Option<treering::Value>| value.map(|value| value.to_vec());
        Ok(match step {
            Step::Get(number) => Answer::Value(vec(tree.get(key(number)).await?)),
            Step::Put(number, new) => {
                tree.put(key(number), value(new)).await?;
                Answer::Done
            }
            Step::Insert(number, new) => failed(tree.insert(key(number), value(new)).await)?,
            Step::Update(number, new) => failed(tree.update(key(number), value(new)).await)?,
            Step::Replace(number, new) => {
                Answer::Value(vec(tree.replace(key(number), value(new)).await?))
            }
            Step::Delete(number) => Answer::Flag(tree.delete(key(number)).await?),
            Step::Take(number) => Answer::Value(vec(tree.take(key(number)).await?)),
            Step::Swap(number, right, new) => {
                let there = vec(tree.get(key(number)).await?);
                let expected = if right { there } else { Some(b"something else".to_vec()) };
                let new = new.map(value);
                let swap = tree.compare_and_swap(key(number), expected.as_deref(), new.as_deref());
                swap.await?.map_or_else(|there| Answer::Differs(vec(there)), |()| Answer::Done)
            }
            Step::GetOrInsert(number, new) => {
                let (kept, is_new) = tree.get_or_insert(key(number), value(new)).await?;
                Answer::Kept(kept.to_vec(), is_new)
            }
            Step::Batch(parts) => {
                let mut batch = db.batch();
                for (number, part) in parts {
                    let there = tree.get(key(number)).await?.unwrap_or_default();
                    let key = key(number);
                    match part {
                        Part::Put(new) => batch.put(tree, key, value(new)),
                        Part::Insert(new) => batch.insert(tree, key, value(new)),
                        Part::Update(new) => batch.update(tree, key, value(new)),
                        Part::Delete => batch.delete(tree, key),
                        Part::RequireAbsent => batch.require_absent(tree, key),
                        Part::RequirePresent => batch.require_present(tree, key),
                        Part::RequireValue(other) => {
                            let required = other.map_or_else(|| there.to_vec(), value);
                            batch.require_value(tree, key, required)
                        }
                    };
                }
                failed(batch.commit().await)?
            }
            Step::Fill(from, count, new) => {
                for number in stretch(from, count) {
                    tree.put(key(number), value(new)).await?;
                }
                Answer::Done
            }
            Step::Clear(from, count) => {
                for number in stretch(from, count) {
                    tree.delete(key(number)).await?;
                }
                Answer::Done
            }
            Step::Range(start, end, backward) => {
                walked(tree.range((start.map(key), end.map(key))), backward).await?
            }
            Step::Prefix(number, backward) => walked(tree.prefix(prefix(number)), backward).await?,
            Step::Seek(number) => stands(cursor.seek(key(number)).await?, cursor),
            Step::SeekForPrev(number) => stands(cursor.seek_for_prev(key(number)).await?, cursor),
            Step::First => stands(cursor.first().await?, cursor),
            Step::Last => stands(cursor.last().await?, cursor),
            Step::Next => stands(cursor.next().await?, cursor),
            Step::Prev => stands(cursor.prev().await?, cursor),
            Step::Checkpoint => {
                db.checkpoint().await?;
                Answer::Done
            }
            Step::Tidy => {
                db.tidy().await?;
                Answer::Done
            }
            Step::Compact => {
                let compacted = db.compact().await?;
                assert!(compacted.after <= compacted.before, "{compacted:?}");
                Answer::Done
            }
            Step::Verify => {
                assert_sound(db).await;
                Answer::Done
            }
            Step::Close | Step::Drop => unreachable!("that takes all of it"),
        })
    }

    /// Ends it in order or not, and opens it again.
    fn again(self, close: bool) -> Self {
        MERGES.fetch_add(self.db.stats().merges, Ordering::Relaxed);
        let Self { home, db, tree, cursor } = self;
        match close {
            true => block_on(db.close()).unwrap(),
            // What was not durable may be lost.
            false => block_on(db.sync()).unwrap(),
        }
        drop((tree, cursor, db));
        Self::open(home)
    }
}

fn failed(result: Result<(), Error>) -> Result<Answer, Error> {
    match result {
        Ok(()) => Ok(Answer::Done),
        Err(error) => match error.operation() {
            Some(operation) => {
                Ok(Answer::Failed(error.kind(), operation, error.existing().map(<[u8]>::to_vec)))
            }
            None => Err(error),
        },
    }
}

fn stands(found: bool, cursor: &Cursor) -> Answer {
    Answer::Stands(found, cursor.entry().map(|(key, value)| (key.to_vec(), value.to_vec())))
}

async fn walked(range: treering::Range, backward: bool) -> Result<Answer, Error> {
    let mut range = if backward { range.rev() } else { range };
    let mut pairs = Vec::new();
    while let Some(chunk) = range.next_chunk().await? {
        pairs.extend(chunk.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
    Ok(Answer::Pairs(pairs))
}

struct Machine;

impl StateMachineTest for Machine {
    type SystemUnderTest = Engine;
    type Reference = Model;

    fn init_test(_: &Model) -> Engine {
        Engine::open(Home::new())
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

    /// In the end all is as it should be, and when all is deleted, two leaves are left: the tree's
    /// and the catalog's.
    fn teardown(engine: Engine, model: Model) {
        block_on(async {
            let Engine { db, tree, .. } = &engine;
            assert_eq!(all(tree).await, model.map.clone().into_iter().collect::<Vec<_>>());
            assert_sound(db).await;
            for key in model.map.keys() {
                assert!(tree.delete(key).await.unwrap());
            }
            db.tidy().await.unwrap();
            let report = db.verify().await.unwrap();
            assert_eq!(report.problems, Vec::<String>::new());
            assert_eq!((report.keys, report.pages), (0, 2));
            MERGES.fetch_add(db.stats().merges, Ordering::Relaxed);
            db.close().await.unwrap();
        });
    }
}

#[test]
fn t10_t14_t16_t17_a_tree_answers_as_a_map_does_while_its_pages_split_and_merge() {
    let soak: u32 = std::env::var("TREERING_SOAK").map_or(1, |times| times.parse().unwrap());
    let config = Config {
        cases: 12 * soak,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let run = TestRunner::new(config.clone()).run(
        &Model::sequential_strategy(40..200),
        |(model, steps, seen)| {
            Machine::test_sequential(config.clone(), model, steps, seen);
            Ok(())
        },
    );
    run.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(MERGES.load(Ordering::Relaxed) > 0, "no page has merged");
}
