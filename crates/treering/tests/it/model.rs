//! Random operations through the face against a `BTreeMap`, with the database closed, or dropped
//! without being closed, and opened again in between.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::common::{Home, all, assert_sound, tiny};
use futures::TryStreamExt;
use futures::executor::block_on;
use proptest::collection::vec;
use proptest::prelude::*;
use treering::{Batch, Database, Durability, ErrorKind, Io, Options, Tree};

const PAGE_SIZE: usize = 512;
const FRAMES: usize = 64;
/// The longest key, and the longest key and value together, with such pages.
const KEY_MAX: usize = 128;
const RECORD_MAX: usize = 176;

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Put,
    Insert,
    Update,
    Delete,
    RequireAbsent,
    RequirePresent,
    /// Whether the value is the one that is there.
    RequireValue(bool),
}

#[derive(Clone, Debug)]
struct Op {
    kind: Kind,
    key: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    One(Op, Durability),
    Replace(Vec<u8>, Vec<u8>),
    Take(Vec<u8>),
    Batch(Vec<Op>, Durability),
    /// Many keys in one go, so that trees grow: first number, how many, length of the values.
    Fill(u16, u16, usize),
    Get(Vec<u8>),
    GetMany(Vec<Vec<u8>>),
    Range(Bound<Vec<u8>>, Bound<Vec<u8>>, bool),
    Checkpoint,
    Verify,
    CloseAndOpen,
    /// Without a close: as if killed, but for what `sync` made durable.
    SyncDropAndOpen,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        6 => (0u16..400).prop_map(numbered),
        3 => vec(0u8..3, 0..4),
        2 => vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 0..12),
        // A long prefix in common, up to the longest key.
        2 => (0usize..=KEY_MAX, any::<u8>()).prop_map(|(len, last)| {
            let mut key = vec![b'p'; len];
            if let Some(byte) = key.last_mut() {
                *byte = last;
            }
            key
        }),
    ]
}

fn numbered(number: u16) -> Vec<u8> {
    format!("key {number:04}").into_bytes()
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![Just(0usize), 1usize..20, Just(RECORD_MAX - KEY_MAX)];
    (any::<u8>(), len).prop_map(|(byte, len)| vec![byte; len])
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
    ]
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::Durable), Just(Durability::Buffered), Just(Durability::None)]
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        4 => Just(Kind::Put),
        3 => Just(Kind::Insert),
        2 => Just(Kind::Update),
        3 => Just(Kind::Delete),
        1 => Just(Kind::RequireAbsent),
        1 => Just(Kind::RequirePresent),
        2 => any::<bool>().prop_map(Kind::RequireValue),
    ];
    (kind, key(), value()).prop_map(|(kind, key, value)| Op { kind, key, value })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (op(), durability()).prop_map(|(op, durability)| Step::One(op, durability)),
        2 => (key(), value()).prop_map(|(key, value)| Step::Replace(key, value)),
        2 => key().prop_map(Step::Take),
        6 => (vec(op(), 0..7), durability()).prop_map(|(ops, how)| Step::Batch(ops, how)),
        2 => (0u16..300, 1u16..100, 0usize..60).prop_map(|(from, n, len)| Step::Fill(from, n, len)),
        4 => key().prop_map(Step::Get),
        2 => vec(key(), 0..20).prop_map(Step::GetMany),
        8 => (bound(), bound(), any::<bool>()).prop_map(|(a, b, back)| Step::Range(a, b, back)),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Verify),
        1 => Just(Step::CloseAndOpen),
        1 => Just(Step::SyncDropAndOpen),
    ]
}

/// What an operation does to the model; else the kind of its error.
fn apply(model: &mut Pairs, op: &Op) -> Result<(), ErrorKind> {
    let there = model.get(&op.key);
    match op.kind {
        Kind::Insert | Kind::RequireAbsent if there.is_some() => Err(ErrorKind::KeyExists),
        Kind::Update | Kind::RequirePresent | Kind::RequireValue(_) if there.is_none() => {
            Err(ErrorKind::KeyMissing)
        }
        Kind::RequireValue(_) if there != Some(&op.value) => Err(ErrorKind::ValueDiffers),
        Kind::RequireAbsent | Kind::RequirePresent | Kind::RequireValue(_) => Ok(()),
        Kind::Delete => {
            model.remove(&op.key);
            Ok(())
        }
        Kind::Put | Kind::Insert | Kind::Update => {
            model.insert(op.key.clone(), op.value.clone());
            Ok(())
        }
    }
}

fn push(batch: &mut Batch, tree: &Tree, Op { kind, key, value }: &Op) {
    match kind {
        Kind::Put => batch.put(tree, key, value),
        Kind::Insert => batch.insert(tree, key, value),
        Kind::Update => batch.update(tree, key, value),
        Kind::Delete => batch.delete(tree, key),
        Kind::RequireAbsent => batch.require_absent(tree, key),
        Kind::RequirePresent => batch.require_present(tree, key),
        Kind::RequireValue(_) => batch.require_value(tree, key, value),
    };
}

struct Subject {
    options: Options,
    home: Home,
    open: Option<(Database, Tree)>,
    model: Pairs,
}

impl Subject {
    async fn new(io: Io) -> Self {
        let options = tiny(PAGE_SIZE, FRAMES).io(io);
        let mut subject = Self { options, home: Home::new(), open: None, model: Pairs::new() };
        subject.reopen().await;
        subject
    }

    async fn reopen(&mut self) {
        self.open = None;
        let db = self.options.clone().open(&self.home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        self.open = Some((db, tree));
    }

    fn db(&self) -> &Database {
        &self.open.as_ref().unwrap().0
    }

    fn tree(&self) -> Tree {
        self.open.as_ref().unwrap().1.clone()
    }

    async fn step(&mut self, step: Step) {
        let tree = self.tree();
        match step {
            Step::One(op, durability) => self.one(&tree, self.aimed(op), durability).await,
            Step::Replace(key, value) => {
                let old = tree.replace(&key, &value).await.unwrap();
                assert_eq!(old.as_deref(), self.model.insert(key, value).as_deref());
            }
            Step::Take(key) => {
                let old = tree.take(&key).await.unwrap();
                assert_eq!(old.as_deref(), self.model.remove(&key).as_deref());
            }
            Step::Batch(ops, durability) => {
                let ops: Vec<_> = ops.into_iter().map(|op| self.aimed(op)).collect();
                self.batch(&tree, &ops, durability).await;
            }
            Step::Fill(from, count, len) => {
                for number in from..from + count {
                    let (key, value) = (numbered(number), vec![number as u8; len]);
                    tree.put(&key, &value).durability(Durability::None).await.unwrap();
                    self.model.insert(key, value);
                }
            }
            Step::Get(key) => {
                let expected = self.model.get(&key);
                let got = tree.get(&key).await.unwrap();
                assert_eq!(got.as_deref(), expected.map(Vec::as_slice));
                assert_eq!(tree.contains(&key).await.unwrap(), expected.is_some());
                let len = tree.get_with(&key, <[u8]>::len).await.unwrap();
                assert_eq!(len, expected.map(Vec::len));
            }
            Step::GetMany(keys) => {
                let got = tree.get_many(&keys).await.unwrap();
                let got: Vec<_> = got.iter().map(|value| value.as_deref()).collect();
                let expected = keys.iter().map(|key| self.model.get(key).map(Vec::as_slice));
                assert_eq!(got, expected.collect::<Vec<_>>());
            }
            Step::Range(start, end, backward) => self.range(&tree, start, end, backward).await,
            Step::Checkpoint => self.db().checkpoint().await.unwrap(),
            Step::Verify => assert_sound(self.db()).await,
            Step::CloseAndOpen => {
                drop(tree);
                self.db().close().await.unwrap();
                self.reopen().await;
            }
            Step::SyncDropAndOpen => {
                drop(tree);
                self.db().sync().await.unwrap();
                self.reopen().await;
            }
        }
    }

    /// `RequireValue(true)` asks for what is there.
    fn aimed(&self, mut op: Op) -> Op {
        if let (Kind::RequireValue(true), Some(value)) = (op.kind, self.model.get(&op.key)) {
            op.value.clone_from(value);
        }
        op
    }

    async fn one(&mut self, tree: &Tree, op: Op, durability: Durability) {
        let there = self.model.contains_key(&op.key);
        let expected = apply(&mut self.model, &op);
        let Op { kind, key, value } = &op;
        let done = match kind {
            Kind::Put => tree.put(key, value).durability(durability).await,
            Kind::Insert => tree.insert(key, value).durability(durability).await,
            Kind::Update => tree.update(key, value).durability(durability).await,
            Kind::Delete => {
                let existed = tree.delete(key).durability(durability).await.unwrap();
                assert_eq!(existed, there);
                Ok(())
            }
            _ => {
                let mut batch = self.db().batch();
                push(&mut batch, tree, &op);
                batch.commit().durability(durability).await
            }
        };
        assert_eq!(done.map_err(|error| error.kind()), expected);
    }

    async fn batch(&mut self, tree: &Tree, ops: &[Op], durability: Durability) {
        let mut after = self.model.clone();
        let failing = ops
            .iter()
            .enumerate()
            .find_map(|(index, op)| Some((Some(index), apply(&mut after, op).err()?)));
        let mut batch = self.db().batch();
        ops.iter().for_each(|op| push(&mut batch, tree, op));
        let done = batch.commit().durability(durability).await;
        let failed = done.err().map(|error| (error.operation(), error.kind()));
        assert_eq!(failed, failing, "the first operation that fails, and why: {ops:?}");
        if failing.is_none() {
            self.model = after;
        }
    }

    async fn range(&self, tree: &Tree, start: Bound<Vec<u8>>, end: Bound<Vec<u8>>, backward: bool) {
        let inside = |key: &[u8]| {
            let above = match &start {
                Bound::Included(start) => key >= start.as_slice(),
                Bound::Excluded(start) => key > start.as_slice(),
                Bound::Unbounded => true,
            };
            let below = match &end {
                Bound::Included(end) => key <= end.as_slice(),
                Bound::Excluded(end) => key < end.as_slice(),
                Bound::Unbounded => true,
            };
            above && below
        };
        // Bounds the wrong way round are an empty range, where a `BTreeMap` would panic.
        let mut expected: Vec<_> = self.model.iter().filter(|(key, _)| inside(key)).collect();
        if backward {
            expected.reverse();
        }
        let range = tree.range((start.clone(), end.clone()));
        let range = if backward { range.rev() } else { range };
        let got: Vec<_> = range.try_collect().await.unwrap();
        let got: Vec<_> = got.into_iter().map(|(k, v)| (k.into_vec(), v.into_vec())).collect();
        let got: Vec<_> = got.iter().map(|(key, value)| (key, value)).collect();
        assert_eq!(got, expected, "{start:?} {end:?} backward: {backward}");
    }

    async fn finish(mut self) {
        for _ in 0..2 {
            let expected: Vec<_> =
                self.model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            assert_eq!(all(&self.tree()).await, expected);
            assert_sound(self.db()).await;
            self.db().close().await.unwrap();
            self.reopen().await;
        }
    }
}

fn run(io: Io, steps: Vec<Step>) {
    block_on(async {
        let mut subject = Subject::new(io).await;
        for step in steps {
            subject.step(step).await;
        }
        subject.finish().await;
    });
}

/// Few cases, as each is long and every durable step waits for the disk.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 400, ..Default::default() }
}

proptest! {
    #![proptest_config(config(10))]

    #[test]
    fn t10_t15_t16_does_what_a_btreemap_does_on_io_uring(steps in vec(step(), 150..400)) {
        run(Io::Uring, steps);
    }
}

proptest! {
    #![proptest_config(config(5))]

    #[test]
    fn t10_t15_t16_does_what_a_btreemap_does_on_threads(steps in vec(step(), 150..400)) {
        run(Io::Threads, steps);
    }
}

/// Nothing is below the empty key; the scan once looked for the page there, for ever.
#[test]
fn a_backward_range_that_ends_before_the_empty_key_is_empty() {
    block_on(async {
        let mut subject = Subject::new(Io::Auto).await;
        for step in [
            Step::Range(Bound::Unbounded, Bound::Excluded(Vec::new()), true),
            Step::Replace(Vec::new(), Vec::new()),
            Step::Range(Bound::Unbounded, Bound::Excluded(Vec::new()), true),
            Step::Range(Bound::Unbounded, Bound::Included(Vec::new()), true),
            Step::Fill(0, 100, 40),
            Step::Range(Bound::Unbounded, Bound::Excluded(Vec::new()), true),
            Step::Range(Bound::Excluded(Vec::new()), Bound::Unbounded, true),
        ] {
            subject.step(step).await;
        }
        subject.finish().await;
    });
}
