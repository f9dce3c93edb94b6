//! Clients: tasks that run operations against a tree, now and then drop one that is under way, and
//! write down when each was called and what it was answered.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use futures::FutureExt;
use futures::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::{Database, Durability, Error, ErrorKind, Tree};

use super::check::Call;
use super::model::{Answer, Key, Number, Op, Step};

/// Keys that are only used one at a time: few, and the first ones most.
pub(crate) const SINGLE: Key = 6;
/// Keys behind them, of which batches take several.
pub(crate) const TOGETHER: Key = 4;
/// The key behind these, which only the first client writes.
pub(crate) const LONE: Key = SINGLE + TOGETHER;
/// How many keys there are.
pub(crate) const KEYS: Key = LONE + 1;
/// Keys of others between two of them.
pub(crate) const BETWEEN: u32 = 40;

/// A fault planted between the client and the tree, to show that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One read answers what was there before the last write.
    StaleRead,
    /// One write is said to be done and is not.
    LostUpdate,
}

/// The bytes of a key: they lie among those of [`between`].
pub(crate) fn key_bytes(key: Key) -> Vec<u8> {
    format!("k{:05}!", u32::from(key) * BETWEEN + BETWEEN / 2).into_bytes()
}

/// The bytes of a key that fills the space between two others.
pub(crate) fn between(number: u32) -> Vec<u8> {
    format!("k{number:05}").into_bytes()
}

/// The bytes of a value, of a length of its own.
fn value_bytes(number: Number) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(4 + number as usize * 7 % 90, number as u8);
    bytes
}

fn number_of(bytes: &[u8]) -> Number {
    let number = Number::from_le_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(bytes, value_bytes(number), "a value that nobody wrote");
    number
}

pub(crate) struct Client {
    id: usize,
    db: Database,
    tree: Tree,
    rng: SmallRng,
    clock: Arc<AtomicU64>,
    /// The number of its last write.
    number: Number,
    /// What it last knew of the keys.
    seen: BTreeMap<Key, Option<Number>>,
    fault: Option<Fault>,
    /// The most keys of a batch.
    batch_max: usize,
    calls: Vec<Call>,
    /// Futures that it will never poll again.
    forgotten: Vec<BoxFuture<'static, Result<Answer, Error>>>,
}

impl Client {
    pub(crate) fn new(
        id: usize,
        (db, tree): (&Database, &Tree),
        clock: &Arc<AtomicU64>,
        seed: u64,
        batch_max: usize,
        fault: Option<Fault>,
    ) -> Self {
        Self {
            id,
            db: db.clone(),
            tree: tree.clone(),
            rng: SmallRng::seed_from_u64(seed << 8 | id as u64),
            clock: Arc::clone(clock),
            number: id as Number * 1_000_000,
            seen: BTreeMap::new(),
            fault,
            batch_max,
            calls: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    /// Runs so many operations.
    pub(crate) async fn run(mut self, operations: usize) -> Vec<Call> {
        for number in 0..operations {
            if number == operations / 2 && self.id == 0 {
                self.write_alone().await;
            }
            let op = self.choose();
            // With many more of them there are too many orders to search through.
            if self.rng.random_range(0..100) < 3 {
                self.begin_and_leave(op).await;
            } else {
                self.run_one(op).await;
            }
        }
        self.calls
    }

    /// Reads all keys, one after the other.
    pub(crate) async fn read_all(mut self) -> Vec<Call> {
        for key in 0..KEYS {
            self.run_one(Op::Get(key)).await;
        }
        self.calls
    }

    /// Two writes and a read of a key that nobody else writes, and where the fault goes.
    async fn write_alone(&mut self) {
        let (old, new) = (self.next_number(), self.next_number());
        self.run_one(Op::Put(LONE, old)).await;
        if self.fault == Some(Fault::LostUpdate) {
            let (began, ended) = (self.tick(), self.tick());
            self.note(Op::Put(LONE, new), began, Some((ended, Answer::Done)));
        } else {
            self.run_one(Op::Put(LONE, new)).await;
        }
        self.run_one(Op::Get(LONE)).await;
        if self.fault == Some(Fault::StaleRead) {
            let last = self.calls.last_mut().unwrap();
            let (ended, _) = last.ended.unwrap();
            last.ended = Some((ended, Answer::Value(Some(old))));
        }
    }

    async fn run_one(&mut self, op: Op) {
        let began = self.tick();
        let answer = self.start(&op).await;
        let ended = self.tick();
        self.end(op, began, ended, answer);
    }

    fn end(&mut self, op: Op, began: u64, ended: u64, answer: Result<Answer, Error>) {
        match answer {
            Ok(answer) => self.note(op, began, Some((ended, answer))),
            // More leaves than one batch may touch: nothing has happened.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {}
            Err(error) => panic!("{op:?}: {error}"),
        }
    }

    /// Polls it a few times, and then drops it or leaves it lying.
    async fn begin_and_leave(&mut self, op: Op) {
        let began = self.tick();
        let mut future = self.start(&op);
        let mut left = self.rng.random_range(1..4);
        let over = poll_fn(|cx| {
            left -= 1;
            match future.poll_unpin(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        match over.await {
            Some(answer) => {
                let ended = self.tick();
                self.end(op, began, ended, answer);
            }
            None => {
                // A read that nobody waited for says nothing.
                if !matches!(op, Op::Get(_)) {
                    self.note(op, began, None);
                }
                if self.rng.random() {
                    self.forgotten.push(future);
                }
            }
        }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn note(&mut self, op: Op, began: u64, ended: Option<(u64, Answer)>) {
        let key = op.keys()[0];
        match (&op, ended.map(|(_, answer)| answer)) {
            (Op::Get(_), Some(Answer::Value(seen)))
            | (Op::Swap(..), Some(Answer::Differs(seen))) => drop(self.seen.insert(key, seen)),
            (Op::Insert(..), Some(Answer::Exists(seen)))
            | (Op::GetOrInsert(..), Some(Answer::Kept(seen, _))) => {
                self.seen.insert(key, Some(seen));
            }
            (Op::Put(_, new) | Op::Replace(_, new) | Op::Update(_, new), _) => {
                self.seen.insert(key, Some(*new));
            }
            _ => {}
        }
        self.calls.push(Call { client: self.id, op, began, ended });
    }

    fn next_number(&mut self) -> Number {
        self.number += 1;
        self.number
    }

    /// The first keys much more often than the others.
    fn choose_key(&mut self) -> Key {
        let keys = SINGLE + TOGETHER;
        let upper = self.rng.random_range(1..=keys);
        self.rng.random_range(0..upper)
    }

    fn choose(&mut self) -> Op {
        let key = self.choose_key();
        let number = self.next_number();
        let seen = self.seen.get(&key).copied().flatten();
        match self.rng.random_range(0..28) {
            0 => Op::Get(LONE),
            1..=7 => Op::Get(key),
            8..=10 => Op::Put(key, number),
            11 | 12 => Op::Replace(key, number),
            13 | 14 => Op::Insert(key, number),
            15 | 16 => Op::Update(key, number),
            17 | 18 => Op::Delete(key),
            19 => Op::Take(key),
            20 | 21 => Op::Swap(key, seen, Some(number)),
            22 => Op::Swap(key, seen, None),
            23 => Op::GetOrInsert(key, number),
            _ => self.choose_batch(),
        }
    }

    fn choose_batch(&mut self) -> Op {
        let count = self.rng.random_range(2..=self.batch_max.max(2));
        let steps = (0..count).map(|_| {
            let key = SINGLE + self.rng.random_range(0..TOGETHER);
            let number = self.next_number();
            let seen = self.seen.get(&key).copied().flatten();
            let step = match self.rng.random_range(0..12) {
                0 => Step::Insert(number),
                1 => Step::Update(number),
                2..=4 => Step::Delete,
                5 => Step::RequireAbsent,
                6 => Step::RequirePresent,
                7 => seen.map_or(Step::RequireAbsent, Step::RequireValue),
                _ => Step::Put(number),
            };
            (key, step)
        });
        Op::Batch(steps.collect())
    }

    /// The operation as a future that owns all it needs.
    fn start(&mut self, op: &Op) -> BoxFuture<'static, Result<Answer, Error>> {
        let levels =
            [Durability::None, Durability::None, Durability::Buffered, Durability::Durable];
        let durability = levels[self.rng.random_range(0..levels.len())];
        if let Op::Batch(steps) = op {
            return self.start_batch(steps, durability);
        }
        let (tree, op) = (self.tree.clone(), op.clone());
        let key = key_bytes(op.keys()[0]);
        async move {
            let read = |value: Option<treering::ValueBytes>| value.map(|value| number_of(&value));
            Ok(match op {
                Op::Get(_) => Answer::Value(read(tree.get(key).await?)),
                Op::Put(_, new) => {
                    tree.put(key, value_bytes(new)).durability(durability).await?;
                    Answer::Done
                }
                Op::Replace(_, new) => {
                    let old = tree.replace(key, value_bytes(new)).durability(durability).await?;
                    Answer::Value(read(old))
                }
                Op::Insert(_, new) => {
                    let inserted = tree.insert(key, value_bytes(new)).durability(durability).await;
                    match inserted {
                        Ok(()) => Answer::Done,
                        Err(error) if error.kind() == ErrorKind::KeyExists => {
                            Answer::Exists(number_of(error.existing().unwrap()))
                        }
                        Err(error) => return Err(error),
                    }
                }
                Op::Update(_, new) => {
                    let updated = tree.update(key, value_bytes(new)).durability(durability).await;
                    match updated {
                        Ok(()) => Answer::Done,
                        Err(error) if error.kind() == ErrorKind::KeyMissing => Answer::Missing,
                        Err(error) => return Err(error),
                    }
                }
                Op::Delete(_) => Answer::Existed(tree.delete(key).durability(durability).await?),
                Op::Take(_) => Answer::Value(read(tree.take(key).durability(durability).await?)),
                Op::Swap(_, expected, new) => {
                    let (expected, new) = (expected.map(value_bytes), new.map(value_bytes));
                    let swap = tree.compare_and_swap(key, expected.as_deref(), new.as_deref());
                    match swap.durability(durability).await? {
                        Ok(()) => Answer::Done,
                        Err(there) => Answer::Differs(read(there)),
                    }
                }
                Op::GetOrInsert(_, new) => {
                    let kept = tree.get_or_insert(key, value_bytes(new)).durability(durability);
                    let (value, is_new) = kept.await?;
                    Answer::Kept(number_of(&value), is_new)
                }
                Op::Batch(_) => unreachable!("batches are started elsewhere"),
            })
        }
        .boxed()
    }

    fn start_batch(
        &self,
        steps: &[(Key, Step)],
        durability: Durability,
    ) -> BoxFuture<'static, Result<Answer, Error>> {
        let mut batch = self.db.batch();
        for (key, step) in steps {
            let key = key_bytes(*key);
            match step {
                Step::Put(new) => batch.put(&self.tree, key, value_bytes(*new)),
                Step::Insert(new) => batch.insert(&self.tree, key, value_bytes(*new)),
                Step::Update(new) => batch.update(&self.tree, key, value_bytes(*new)),
                Step::Delete => batch.delete(&self.tree, key),
                Step::RequireAbsent => batch.require_absent(&self.tree, key),
                Step::RequirePresent => batch.require_present(&self.tree, key),
                Step::RequireValue(value) => {
                    batch.require_value(&self.tree, key, value_bytes(*value))
                }
            };
        }
        async move {
            match batch.commit().durability(durability).await {
                Ok(()) => Ok(Answer::Done),
                Err(error) => match error.operation() {
                    Some(operation) => Ok(Answer::Violated(operation)),
                    None => Err(error),
                },
            }
        }
        .boxed()
    }
}
