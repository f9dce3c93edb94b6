//! One client's story of big batches, range deletes and dropped trees, with a checkpoint and another
//! writer beside it; and how it is judged what is there after a crash of it.
//!
//! The client makes one change after the other, so what is recovered has to be what there was after
//! one of them: of each change all or nothing, no earlier one than was acknowledged as durable, and
//! what was written after a big change on top of it. Then nothing of the changes may be left, no page
//! and no entry of the catalog; the trees go on, and give all their space back.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::engine_support::{
    Op, Rng, assert_clean, batch, large_value, machine, open, options, patient, scan_all,
};
use futures::future::join3;
use treering_blink::{Direction, TreeRef};
use treering_pagefile::PageId;
use treering_pagefile::sim::{Sim, SimImage};
use treering_txn::{Durability, Engine, Error, OpKind};

const NAMES: [&str; 2] = ["users", "orders"];
/// The tree of the other writer.
const OTHERS: &str = "others";

/// What is in each tree; `None` where there is no tree.
type State = [Option<BTreeMap<Vec<u8>, Vec<u8>>>; 2];

/// A change that the client makes.
#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Op>),
    Range(usize, Vec<u8>, Option<Vec<u8>>),
    Drop(usize),
    Create(usize),
}

fn key(number: usize) -> Vec<u8> {
    let mut key = format!("{number:04}").into_bytes();
    key.extend(std::iter::repeat_n(b'-', number % 4 * 25));
    key
}

fn value(rng: &mut Rng) -> Vec<u8> {
    vec![rng.next() as u8; rng.below(40)]
}

/// A run of the steps, each time with the same outcome as far as it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Story {
    pub(crate) seed: u64,
    pub(crate) frames: usize,
    /// Operations of a big batch.
    pub(crate) ops: usize,
    pub(crate) keys: usize,
    /// Of a hundred values of a big batch, so many are large.
    pub(crate) large: usize,
    /// Checkpoints that are written beside.
    pub(crate) checkpoints: usize,
    /// Changes of the other writer.
    pub(crate) others: usize,
    pub(crate) drops: bool,
    pub(crate) ranges: bool,
}

/// What the clients were told.
#[derive(Clone, Default)]
pub(crate) struct Told {
    begun: usize,
    made: usize,
    durable: usize,
    others_begun: usize,
    others_durable: usize,
}

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            frames: 24,
            ops: 160,
            keys: 110,
            large: 0,
            checkpoints: 0,
            others: 0,
            drops: true,
            ranges: true,
        }
    }

    /// The steps, and what there is after each.
    fn steps(&self) -> (Vec<Step>, Vec<State>) {
        let mut rng = Rng::new(self.seed);
        let mut steps = vec![Step::Batch(self.big(&mut rng))];
        let single = |rng: &mut Rng, tree| {
            let key = key(rng.below(self.keys));
            Step::Batch(vec![Op::put(tree, &key, &value(rng))])
        };
        steps.push(single(&mut rng, 0));
        if self.ranges {
            let (from, to) = (key(self.keys / 6), key(self.keys * 5 / 6));
            steps.push(Step::Range(0, from, Some(to)));
            steps.push(single(&mut rng, 0));
            steps.push(Step::Range(1, key(self.keys / 3), None));
            steps.push(single(&mut rng, 1));
        }
        if self.drops {
            steps.extend([Step::Drop(1), Step::Create(1)]);
        }
        steps.push(Step::Batch(self.big(&mut rng)));
        steps.push(single(&mut rng, 1));
        if self.drops {
            steps.push(Step::Drop(0));
        }
        let mut states = vec![self.first()];
        for step in &steps {
            let mut state = states[states.len() - 1].clone();
            match step {
                Step::Batch(ops) => ops.iter().for_each(|op| {
                    let tree = state[op.tree].as_mut().unwrap();
                    match op.kind {
                        OpKind::Delete => drop(tree.remove(&op.key)),
                        _ => drop(tree.insert(op.key.clone(), op.value.clone())),
                    }
                }),
                Step::Range(tree, from, to) => state[*tree]
                    .as_mut()
                    .unwrap()
                    .retain(|key, _| key < from || to.as_ref().is_some_and(|to| key >= to)),
                Step::Drop(tree) => state[*tree] = None,
                Step::Create(tree) => state[*tree] = Some(BTreeMap::new()),
            }
            states.push(state);
        }
        (steps, states)
    }

    fn big(&self, rng: &mut Rng) -> Vec<Op> {
        let op = |_| {
            let (tree, key) = (rng.below(2), key(rng.below(self.keys)));
            let mut op = Op::put(tree, &key, &value(rng));
            if rng.chance(self.large) {
                op.value = large_value(rng);
            } else if rng.chance(25) {
                op.kind = OpKind::Delete;
            }
            op
        };
        (0..self.ops).map(op).collect()
    }

    /// What there is before the first step.
    fn first(&self) -> State {
        let mut rng = Rng::new(self.seed ^ 0xf1f1);
        [(); 2].map(|()| {
            Some((0..self.keys).step_by(2).map(|at| (key(at), value(&mut rng))).collect())
        })
    }

    pub(crate) fn start(&self) -> SimImage {
        let sim = machine(self.seed);
        sim.run(async {
            let engine = open(&sim, options(64, self.seed)).await.unwrap();
            let trees = trees(&engine).await;
            for (tree, pairs) in self.first().iter().enumerate() {
                let pairs = pairs.iter().flatten();
                let ops: Vec<Op> = pairs.map(|(key, value)| Op::put(tree, key, value)).collect();
                engine.commit(batch(&trees, &ops), Durability::None).await.unwrap();
            }
            engine.tree(OTHERS.as_bytes()).await.unwrap();
            assert_clean(&engine, "before").await;
            engine.close().await.unwrap();
        })
        .unwrap();
        sim.disk().image_visible()
    }

    /// One life; all steps that are not made yet, as `told` has it.
    pub(crate) async fn run(&self, sim: &Sim, told: &Mutex<Told>) -> Result<(), Error> {
        let engine = open(sim, options(self.frames, self.seed ^ 0x5eed)).await?;
        let main = self.make(&engine, told);
        let checkpoints = async {
            for _ in 0..self.checkpoints {
                let before = told.lock().unwrap().made;
                engine.checkpoint().await?;
                let mut told = told.lock().unwrap();
                told.durable = told.durable.max(before);
            }
            Ok(())
        };
        let others = self.write_beside(&engine, told);
        let (main, checkpoints, others) = join3(main, checkpoints, others).await;
        main.and(checkpoints).and(others)?;
        engine.close().await?;
        let mut told = told.lock().unwrap();
        told.durable = told.made;
        Ok(())
    }

    async fn make(&self, engine: &Arc<Engine>, told: &Mutex<Told>) -> Result<(), Error> {
        let mut rng = Rng::new(self.seed + 77);
        for (at, step) in self.steps().0.iter().enumerate() {
            told.lock().unwrap().begun = at + 1;
            let durability =
                *rng.pick(&[Durability::Durable, Durability::Buffered, Durability::None]);
            let tree = |tree: usize| engine.find_tree(NAMES[tree].as_bytes());
            let durable = match step {
                Step::Batch(ops) => {
                    // One of the trees may be gone, and no operation is about it then.
                    let nowhere = TreeRef::new(u32::MAX, PageId(0));
                    let trees = [0, 1].map(|at| tree(at).unwrap_or(nowhere));
                    engine.commit(batch(&trees, ops), durability).await?;
                    durability == Durability::Durable
                }
                Step::Range(at, from, to) => {
                    let (from, to) = (from.clone(), to.clone());
                    engine.delete_range(tree(*at).unwrap(), from, to, durability).await?;
                    durability == Durability::Durable
                }
                Step::Drop(at) => {
                    engine.drop_tree(NAMES[*at].as_bytes()).await?;
                    true
                }
                Step::Create(at) => {
                    engine.tree(NAMES[*at].as_bytes()).await?;
                    true
                }
            };
            let mut told = told.lock().unwrap();
            told.made = at + 1;
            if durable {
                told.durable = at + 1;
            }
        }
        Ok(())
    }

    async fn write_beside(&self, engine: &Arc<Engine>, told: &Mutex<Told>) -> Result<(), Error> {
        for number in 0..self.others {
            let tree = engine.tree(OTHERS.as_bytes()).await?;
            told.lock().unwrap().others_begun = number + 1;
            let ops = [Op::put(0, format!("{number:04}").as_bytes(), &[7; 60])];
            engine.commit(batch(&[tree], &ops), Durability::Durable).await?;
            told.lock().unwrap().others_durable = number + 1;
        }
        Ok(())
    }

    /// Opens what is left; it has to be what there was after one of the steps.
    pub(crate) fn judge(&self, image: &SimImage, told: &Told, seed: u64, context: &str) {
        let (_, states) = self.steps();
        let mut sim = patient(Sim::from_image(image, seed));
        let ended = sim.run(async {
            let options = options(self.frames.max(24), 1 << 40 | seed);
            let engine = open(&sim, options).await.unwrap_or_else(|e| panic!("{context}: {e}"));
            let found = state(&engine).await;
            let after = (told.durable..=told.begun).find(|after| states[*after] == found);
            assert!(
                after.is_some(),
                "{context}: not what there was after step {} to {}, {:?}; {}",
                told.durable,
                told.begun,
                states.iter().position(|state| *state == found),
                sizes(&found)
            );
            let others = engine.find_tree(OTHERS.as_bytes()).unwrap();
            let others = scan_all(&engine, others, Direction::Forward).await.unwrap().len();
            assert!((told.others_durable..=told.others_begun).contains(&others), "{context}");
            assert_clean(&engine, context).await;
            go_on(&sim, &engine, seed, context).await;
            engine.close().await.unwrap();
        });
        ended.unwrap_or_else(|stalled| panic!("{context}, going on: {stalled}"));
        let image = sim.disk().image_visible();
        sim.restart(&image, seed + 1);
        let ended = sim.run(async {
            let engine = open(&sim, options(16, 1 << 42 | seed)).await.unwrap();
            assert_eq!(assert_clean(&engine, context).await, 0, "{context}");
            engine.close().await.unwrap();
        });
        ended.unwrap_or_else(|stalled| panic!("{context}, once more: {stalled}"));
    }
}

async fn trees(engine: &Arc<Engine>) -> Vec<TreeRef> {
    let mut trees = Vec::new();
    for name in NAMES {
        trees.push(engine.tree(name.as_bytes()).await.unwrap());
    }
    trees
}

async fn state(engine: &Arc<Engine>) -> State {
    let mut state = State::default();
    for (name, state) in NAMES.iter().zip(&mut state) {
        if let Some(tree) = engine.find_tree(name.as_bytes()) {
            let pairs = scan_all(engine, tree, Direction::Forward).await.unwrap();
            let backward = scan_all(engine, tree, Direction::Backward).await.unwrap();
            assert!(pairs.iter().eq(backward.iter().rev()));
            *state = Some(pairs.into_iter().collect());
        }
    }
    state
}

fn sizes(state: &State) -> String {
    format!("{:?} keys", state.each_ref().map(|tree| tree.as_ref().map(BTreeMap::len)))
}

/// Another big batch over what there is; then all is taken away, and nothing stays but the roots.
async fn go_on(sim: &Sim, engine: &Arc<Engine>, seed: u64, context: &str) {
    let mut all = trees(engine).await;
    all.push(engine.tree(OTHERS.as_bytes()).await.unwrap());
    let ops: Vec<Op> =
        (0..150).map(|number| Op::put(number % 2, &key(number), &[seed as u8; 30])).collect();
    engine.commit(batch(&all, &ops), Durability::Durable).await.unwrap();
    let there = Arc::clone(engine).get(all[0], &key(148)).await.unwrap();
    assert_eq!(there, Some(vec![seed as u8; 30]), "{context}");
    engine.delete_range(all[0], Vec::new(), None, Durability::None).await.unwrap();
    for &tree in &all[1..] {
        let pairs = scan_all(engine, tree, Direction::Forward).await.unwrap();
        let delete = |(key, _)| Op { tree: 0, kind: OpKind::Delete, key, value: Vec::new() };
        let ops: Vec<Op> = pairs.into_iter().map(delete).collect();
        engine.commit(batch(&[tree], &ops), Durability::None).await.unwrap();
    }
    let mut pages = u64::MAX;
    for _ in 0..200 {
        engine.tidy().await.unwrap();
        let report = engine.verify().await.unwrap();
        assert!(report.problems.is_empty(), "{context}: {:#?}", report.problems);
        pages = report.pages;
        if pages == 1 + all.len() as u64 {
            break;
        }
        // Trees that were dropped are given back behind everything else.
        sim.runtime().sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(pages, 1 + all.len() as u64, "{context}: pages are left behind");
    let catalog = TreeRef::new(0, PageId(1));
    let entries = scan_all(engine, catalog, Direction::Forward).await.unwrap();
    let left = entries.iter().filter(|(key, _)| key[0] == 2).count();
    assert_eq!(left, 0, "{context}: entries of deferred changes are left behind");
}
