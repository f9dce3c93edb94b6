//! A cursor goes where a `BTreeMap` says, whatever mix of steps it takes and whatever is written in
//! between, on the smallest pages and with a pool that has to load them again and again.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::common::{Home, assert_sound, tiny};
use futures::executor::block_on;
use proptest::collection::vec;
use proptest::prelude::*;
use treering::{Cursor, Database, Durability, Tree};

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Seek(Vec<u8>),
    SeekForPrev(Vec<u8>),
    First,
    Last,
    Next(u8),
    Prev(u8),
    Put(Vec<u8>, usize),
    Delete(Vec<u8>),
    /// The key that the cursor stands on.
    DeleteHere,
    /// Many keys at once: first number, how many.
    Fill(u16, u16),
    /// As many gone, and with them all that some leaves have.
    Clear(u16, u16),
    /// A step that is dropped before it ends, or at once.
    Abandon,
}

/// Where the cursor should stand.
#[derive(Clone, Debug, PartialEq)]
enum Stand {
    Nowhere,
    On(Vec<u8>, Vec<u8>),
    BeforeFirst,
    BehindLast,
}

fn numbered(number: u16) -> Vec<u8> {
    format!("key {number:04}").into_bytes()
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        8 => (0u16..600).prop_map(numbered),
        2 => vec(0u8..3, 0..4),
        1 => vec(any::<u8>(), 0..100),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => key().prop_map(Step::Seek),
        4 => key().prop_map(Step::SeekForPrev),
        2 => Just(Step::First),
        2 => Just(Step::Last),
        8 => (1u8..30).prop_map(Step::Next),
        8 => (1u8..30).prop_map(Step::Prev),
        4 => (key(), 0usize..48).prop_map(|(key, len)| Step::Put(key, len)),
        2 => key().prop_map(Step::Delete),
        3 => Just(Step::DeleteHere),
        3 => (0u16..600, 1u16..80).prop_map(|(from, count)| Step::Fill(from, count)),
        2 => (0u16..600, 1u16..80).prop_map(|(from, count)| Step::Clear(from, count)),
        2 => Just(Step::Abandon),
    ]
}

struct Subject {
    db: Database,
    tree: Tree,
    cursor: Cursor,
    model: Pairs,
    stand: Stand,
}

impl Subject {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Seek(key) => {
                let expected = self.at_or_after(Bound::Included(&key));
                self.expect(expected, Stand::BehindLast);
                let found = self.cursor.seek(&key).await.unwrap();
                self.check(found);
            }
            Step::SeekForPrev(key) => {
                let expected = self.at_or_before(Bound::Included(&key));
                self.expect(expected, Stand::BeforeFirst);
                let found = self.cursor.seek_for_prev(&key).await.unwrap();
                self.check(found);
            }
            Step::First => {
                self.expect(self.at_or_after(Bound::Unbounded), Stand::BehindLast);
                let found = self.cursor.first().await.unwrap();
                self.check(found);
            }
            Step::Last => {
                self.expect(self.at_or_before(Bound::Unbounded), Stand::BeforeFirst);
                let found = self.cursor.last().await.unwrap();
                self.check(found);
            }
            Step::Next(times) => {
                for _ in 0..times {
                    self.next().await;
                }
            }
            Step::Prev(times) => {
                for _ in 0..times {
                    self.prev().await;
                }
            }
            Step::Put(key, len) => self.put(vec![(key, vec![7; len])]).await,
            Step::Delete(key) => self.delete(vec![key]).await,
            Step::DeleteHere => {
                if let Stand::On(key, _) = &self.stand {
                    let key = key.clone();
                    self.delete(vec![key]).await;
                }
            }
            Step::Fill(from, count) => {
                let pair = |number| (numbered(number), vec![number as u8; 20]);
                self.put((from..from + count).map(pair).collect()).await;
            }
            Step::Clear(from, count) => {
                self.delete((from..from + count).map(numbered).collect()).await;
            }
            Step::Abandon => {
                let waker = futures::task::noop_waker();
                let mut cx = std::task::Context::from_waker(&waker);
                // Never polled, and polled once: the latter may complete.
                drop(self.cursor.prev());
                let mut pending = Box::pin(self.cursor.last());
                let polled = pending.as_mut().poll(&mut cx);
                drop(pending);
                if let std::task::Poll::Ready(found) = polled {
                    self.expect(self.at_or_before(Bound::Unbounded), Stand::BeforeFirst);
                    self.check(found.unwrap());
                }
            }
        }
        let entry = self.cursor.entry();
        match &self.stand {
            Stand::On(key, value) => assert_eq!(entry, Some((key.as_slice(), value.as_slice()))),
            _ => assert_eq!(entry, None),
        }
    }

    async fn next(&mut self) {
        match self.stand.clone() {
            Stand::On(key, _) => {
                self.expect(self.at_or_after(Bound::Excluded(&key)), Stand::BehindLast);
            }
            Stand::BehindLast => {}
            Stand::Nowhere | Stand::BeforeFirst => {
                self.expect(self.at_or_after(Bound::Unbounded), Stand::BehindLast);
            }
        }
        let found = self.cursor.next().await.unwrap();
        self.check(found);
    }

    async fn prev(&mut self) {
        match self.stand.clone() {
            Stand::On(key, _) => {
                self.expect(self.at_or_before(Bound::Excluded(&key)), Stand::BeforeFirst);
            }
            Stand::BeforeFirst => {}
            Stand::Nowhere | Stand::BehindLast => {
                self.expect(self.at_or_before(Bound::Unbounded), Stand::BeforeFirst);
            }
        }
        let found = self.cursor.prev().await.unwrap();
        self.check(found);
    }

    fn at_or_after(&self, bound: Bound<&Vec<u8>>) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut range = self.model.range::<Vec<u8>, _>((bound, Bound::Unbounded));
        range.next().map(|(key, value)| (key.clone(), value.clone()))
    }

    fn at_or_before(&self, bound: Bound<&Vec<u8>>) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut range = self.model.range::<Vec<u8>, _>((Bound::Unbounded, bound));
        range.next_back().map(|(key, value)| (key.clone(), value.clone()))
    }

    fn expect(&mut self, entry: Option<(Vec<u8>, Vec<u8>)>, none: Stand) {
        self.stand = entry.map_or(none, |(key, value)| Stand::On(key, value));
    }

    fn check(&self, found: bool) {
        assert_eq!(found, matches!(self.stand, Stand::On(..)), "{:?}", self.stand);
    }

    async fn put(&mut self, pairs: Vec<(Vec<u8>, Vec<u8>)>) {
        for pairs in pairs.chunks(8) {
            let mut batch = self.db.batch();
            for (key, value) in pairs {
                batch.put(&self.tree, key, value);
            }
            batch.commit().durability(Durability::None).await.unwrap();
        }
        self.model.extend(pairs);
    }

    async fn delete(&mut self, keys: Vec<Vec<u8>>) {
        for key in keys {
            self.tree.delete(&key).durability(Durability::None).await.unwrap();
            self.model.remove(&key);
        }
    }
}

/// All pairs by a cursor, in both directions: as a browser that is placed before the first.
async fn walk(tree: &Tree, model: &Pairs) {
    let pairs: Vec<_> = model.clone().into_iter().collect();
    let (mut cursor, mut forward, mut backward) = (tree.cursor(), Vec::new(), Vec::new());
    while cursor.next().await.unwrap() {
        let (key, value) = cursor.entry().unwrap();
        forward.push((key.to_vec(), value.to_vec()));
        assert!(forward.len() <= pairs.len(), "it goes round in circles");
    }
    while cursor.prev().await.unwrap() {
        let (key, value) = cursor.entry().unwrap();
        backward.push((key.to_vec(), value.to_vec()));
        assert!(backward.len() <= pairs.len(), "it goes round in circles");
    }
    assert_eq!(forward, pairs);
    backward.reverse();
    assert_eq!(backward, pairs);
}

async fn run(steps: Vec<Step>, frames: usize) {
    let home = Home::new();
    let db = tiny(512, frames).open(&home.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    let (cursor, model) = (tree.cursor(), Pairs::new());
    let mut subject = Subject { db, tree, cursor, model, stand: Stand::Nowhere };
    for step in steps {
        subject.step(step).await;
    }
    walk(&subject.tree, &subject.model).await;
    assert_sound(&subject.db).await;
    subject.db.close().await.unwrap();
    let db = tiny(512, frames).open(&home.path).await.unwrap();
    walk(&db.tree("t").await.unwrap(), &subject.model).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn t16_j5_any_mix_of_steps_goes_where_the_model_says(steps in vec(step(), 1..120)) {
        block_on(run(steps, 16));
    }
}

#[test]
fn t16_a_cursor_leaves_either_end_and_comes_back() {
    block_on(async {
        let home = Home::new();
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let mut cursor = tree.cursor();
        assert!(!cursor.next().await.unwrap() && !cursor.prev().await.unwrap());
        for key in ["b", "d", "f"] {
            tree.put(key, key).await.unwrap();
        }
        // It stood before the first.
        assert!(!cursor.prev().await.unwrap());
        assert!(cursor.next().await.unwrap());
        assert_eq!(cursor.key(), Some(&b"b"[..]));
        assert!(cursor.seek("c").await.unwrap());
        assert_eq!(cursor.key(), Some(&b"d"[..]));
        assert!(cursor.seek_for_prev("c").await.unwrap());
        assert_eq!(cursor.key(), Some(&b"b"[..]));
        assert!(!cursor.seek("g").await.unwrap());
        assert_eq!(cursor.entry(), None);
        assert!(!cursor.next().await.unwrap());
        assert!(cursor.prev().await.unwrap());
        assert_eq!(cursor.value(), Some(&b"f"[..]));
        // The key it stands on goes away, and another comes between.
        tree.delete("f").await.unwrap();
        tree.put("e", "e").await.unwrap();
        assert_eq!(cursor.value(), Some(&b"f"[..]));
        assert!(cursor.prev().await.unwrap());
        assert_eq!(cursor.key(), Some(&b"e"[..]));
        assert!(!cursor.next().await.unwrap());
    });
}

#[test]
fn a_step_completes_in_its_first_poll_when_all_is_in_memory() {
    block_on(async {
        let home = Home::new();
        let db = tiny(512, 256).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        for number in 0..200 {
            tree.put(numbered(number), [1; 30]).durability(Durability::None).await.unwrap();
        }
        let mut cursor = tree.cursor();
        for number in 0..200 {
            let ready = futures::FutureExt::now_or_never(cursor.next());
            assert!(ready.expect("in the first poll").unwrap());
            assert_eq!(cursor.key(), Some(numbered(number).as_slice()));
        }
    });
}

/// Leaves of so many entries have fillers between them, which show the key to their right.
#[test]
fn t16_t12_a_cursor_steps_over_fillers_in_both_directions() {
    block_on(async {
        let home = Home::new();
        let db = tiny(32 << 10, 64).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let mut model = Pairs::new();
        // A permutation, so that leaves split in the middle and are filled again.
        let numbers = || (0..6000u32).map(|number| number * 2657 % 6000);
        let key = |number: u32| format!("{number:04}").into_bytes();
        for number in numbers() {
            tree.put(key(number), [1; 8]).durability(Durability::None).await.unwrap();
            model.insert(key(number), vec![1; 8]);
        }
        db.checkpoint().await.unwrap();
        // Leaves, level 0, that say that they have fillers: bit 2 of the flags.
        let bytes = std::fs::read(home.path.join("pages")).unwrap();
        let mut pages = bytes.chunks_exact(32 << 10);
        assert!(pages.any(|page| page[20] == 0 && page[21] & 4 != 0), "no fillers to step over");
        walk(&tree, &model).await;
        for number in numbers().filter(|number| number % 3 == 0) {
            tree.delete(key(number)).durability(Durability::None).await.unwrap();
            model.remove(&key(number));
        }
        walk(&tree, &model).await;
        let mut cursor = tree.cursor();
        for number in numbers().filter(|number| *number < 5998).take(500) {
            assert!(cursor.seek(key(number)).await.unwrap());
            assert_eq!(cursor.key(), model.range(key(number)..).next().map(|(key, _)| &key[..]));
            let found = cursor.seek_for_prev(key(number)).await.unwrap();
            let expected = model.range(..=key(number)).next_back();
            assert_eq!(found, expected.is_some());
            assert_eq!(cursor.key(), expected.map(|(key, _)| &key[..]));
        }
    });
}
