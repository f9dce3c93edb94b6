//! One tree of a database against a `BTreeMap`, operation by operation: every write, batches with
//! conditions, ranges in both directions, a cursor that lives through all of it, checkpoints,
//! compaction, closing and dropping. Pages are as small as they get and stretches of keys come and
//! go, so that pages split, borrow and merge all the time. A failing sequence is shrunk to a short one.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{Home, all, assert_sound, tiny};
use crate::machine::{Answer, Model, Part, Step, key, prefix, stretch, value};
use futures::executor::block_on;
use proptest::test_runner::{Config, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use treering::{Cursor, Database, Durability, Error, Tree};

const FRAMES: usize = 48;

/// Merges of all cases.
static MERGES: AtomicU64 = AtomicU64::new(0);

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
        let vec = |value: Option<treering::ValueBytes>| value.map(|value| value.to_vec());
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
