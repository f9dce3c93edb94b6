//! What the tests of the whole engine share: chance, operations, their model, and a journal of what
//! users were told.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod journal;
pub mod power;
pub mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use treering_blink::{Chunk, Direction, From, Kind, Scan, TreeRef};
use treering_pagefile::Disk;
use treering_pagefile::sim::{Patience, Sim};
use treering_txn::{Batch, Engine, EngineOptions, Error, LogOptions, OpKind, Violation};

/// The page size of these tests: the smallest, so that trees are deep and splits many.
pub const PAGE: usize = 512;
/// The longest key with pages of that size, and the longest key and value together.
pub const MAX_KEY: usize = 128;
pub const MAX_RECORD: usize = 176;

/// Chance, a function of its seed.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// So many seeds, from `first` on. `TREERING_SOAK=10` makes it ten times as many, beyond those that
/// every run tries.
pub fn seeds(first: u64, count: u64) -> impl Iterator<Item = u64> {
    let soak = std::env::var("TREERING_SOAK").map_or(1, |times| times.parse().unwrap());
    (0..count * soak).map(move |number| first + number % count + number / count * 1_000_000)
}

/// Options with so many frames, and the smallest log.
pub fn options(frames: usize, entropy: u64) -> EngineOptions {
    EngineOptions {
        page_size: Some(PAGE),
        cache_size: (frames * PAGE) as u64,
        log: small_log(4),
        create: true,
        entropy,
        observer: None,
    }
}

/// Segments of 16 KiB, groups of up to 8 KiB.
pub fn small_log(max_segments: usize) -> LogOptions {
    LogOptions {
        segment_size: 16 << 10,
        max_segments,
        buffer_size: 8 << 10,
        flush_delay: Duration::from_millis(1),
    }
}

/// A machine that calls what takes two virtual minutes a livelock.
pub fn machine(seed: u64) -> Sim {
    patient(Sim::new(seed))
}

pub fn patient(mut sim: Sim) -> Sim {
    sim.set_patience(Patience { polls: 200_000, jumps: 10_000, time: Duration::from_secs(120) });
    sim
}

/// Opens the database on the machine's disk.
pub async fn open(sim: &Sim, options: EngineOptions) -> Result<Arc<Engine>, Error> {
    let disk: Arc<dyn Disk> = sim.disk();
    Engine::open(disk, sim.runtime(), options, Box::new(())).await
}

/// One operation on the tree with this index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    pub tree: usize,
    pub kind: OpKind,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Op {
    pub fn put(tree: usize, key: &[u8], value: &[u8]) -> Self {
        Self { tree, kind: OpKind::Put, key: key.to_vec(), value: value.to_vec() }
    }
}

pub fn batch(trees: &[TreeRef], ops: &[Op]) -> Batch {
    let mut batch = Batch::new();
    for op in ops {
        batch.push(trees[op.tree], op.kind, &op.key, &op.value);
    }
    batch
}

/// What is in each tree.
pub type Model = Vec<BTreeMap<Vec<u8>, Vec<u8>>>;

/// What was there before each operation.
pub type Before = Vec<Option<Vec<u8>>>;

/// Applies a batch to the model, all or nothing.
pub fn apply(model: &mut Model, ops: &[Op]) -> Result<Before, (usize, Violation)> {
    let mut changed = model.clone();
    let mut before = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        let tree = &mut changed[op.tree];
        let there = tree.get(&op.key).cloned();
        let violation = match op.kind {
            OpKind::Insert | OpKind::RequireAbsent if there.is_some() => Some(Violation::KeyExists),
            OpKind::Update | OpKind::RequirePresent | OpKind::RequireValue if there.is_none() => {
                Some(Violation::KeyMissing)
            }
            OpKind::RequireValue if there.as_ref() != Some(&op.value) => {
                Some(Violation::ValueDiffers)
            }
            _ => None,
        };
        if let Some(violation) = violation {
            return Err((index, violation));
        }
        match op.kind {
            OpKind::Put | OpKind::Insert | OpKind::Update => {
                tree.insert(op.key.clone(), op.value.clone());
            }
            OpKind::Delete => {
                tree.remove(&op.key);
            }
            OpKind::RequireAbsent | OpKind::RequirePresent | OpKind::RequireValue => {}
            OpKind::InsertDup => panic!("this model has no duplicates"),
        }
        before.push(there);
    }
    *model = changed;
    Ok(before)
}

/// A key of one of the shapes that matter: empty, short (so that many repeat), with a long prefix
/// that many share, of any length up to the limit.
pub fn key(rng: &mut Rng) -> Vec<u8> {
    match rng.below(100) {
        0 => Vec::new(),
        1..=39 => (0..1 + rng.below(3)).map(|_| b'a' + rng.below(6) as u8).collect(),
        40..=69 => {
            let mut key = vec![b'p'; [3, 60, 100, MAX_KEY - 2][rng.below(4)]];
            key.extend([b'a' + rng.below(8) as u8, b'a' + rng.below(8) as u8]);
            key
        }
        70..=84 => format!("k{:05}", rng.below(400)).into_bytes(),
        _ => {
            let (len, byte) = (rng.below(MAX_KEY + 1), rng.below(256) as u8);
            let mut key = vec![byte; len];
            if let Some(last) = key.last_mut() {
                *last = rng.below(4) as u8;
            }
            key
        }
    }
}

/// A value that does not fit into a page: up to a hundred pages of it.
pub fn large_value(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(4) {
        0 => MAX_RECORD + 1 + rng.below(PAGE),
        1 => (1 + rng.below(20)) * (PAGE - 32) + rng.below(3) - 1,
        _ => MAX_RECORD + 1 + rng.below(100 * (PAGE - 32) - MAX_RECORD),
    };
    let len = len.max(MAX_RECORD + 1);
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| rng.next().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

/// A value that fits beside the key.
pub fn value(rng: &mut Rng, key: &[u8]) -> Vec<u8> {
    let room = MAX_RECORD - key.len();
    let len = match rng.below(10) {
        0 => 0,
        1 => room,
        2..=4 => rng.below(room + 1),
        _ => rng.below(room.min(30) + 1),
    };
    let byte = rng.next() as u8;
    vec![byte; len]
}

pub fn op(rng: &mut Rng, trees: usize, model: &Model) -> Op {
    let tree = rng.below(trees);
    // Half of the time a key that is there, if there is any.
    let key = match model[tree].len() {
        len if len > 0 && rng.chance(40) => model[tree].keys().nth(rng.below(len)).unwrap().clone(),
        _ => key(rng),
    };
    let kind = match rng.below(100) {
        0..=44 => OpKind::Put,
        45..=59 => OpKind::Insert,
        60..=69 => OpKind::Update,
        70..=89 => OpKind::Delete,
        90..=92 => OpKind::RequireAbsent,
        93..=95 => OpKind::RequirePresent,
        _ => OpKind::RequireValue,
    };
    let known = model[tree].get(&key);
    let value = match (kind, known) {
        (OpKind::RequireValue, Some(known)) if rng.chance(70) => known.clone(),
        _ => value(rng, &key),
    };
    Op { tree, kind, key, value }
}

/// All pairs of a tree, by scanning.
pub async fn scan_all(
    engine: &Arc<Engine>,
    tree: TreeRef,
    direction: Direction,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
    let mut pairs = Vec::new();
    let mut scan = Scan::new(tree, direction, From::End);
    let mut chunk = Chunk::default();
    while scan.next().is_some() {
        (scan, chunk) = Arc::clone(engine).scan(scan, chunk).await?;
        for (index, (key, value)) in chunk.iter().enumerate() {
            let value = match chunk.kind(index) {
                Kind::Inline => Some(value.to_vec()),
                Kind::Overflow => Arc::clone(engine).get_large(tree, key, value).await?,
            };
            // Otherwise somebody has just deleted it.
            pairs.extend(value.map(|value| (key.to_vec(), value)));
        }
    }
    Ok(pairs)
}

/// What is in the trees with these names, by scanning; a tree that is not there is empty.
pub async fn contents(engine: &Arc<Engine>, names: &[&str]) -> Result<Model, Error> {
    let mut model = Model::new();
    for name in names {
        model.push(match engine.find_tree(name.as_bytes()) {
            Some(tree) => {
                let pairs = scan_all(engine, tree, Direction::Forward).await?;
                assert!(pairs.is_sorted_by(|a, b| a.0 < b.0), "a scan ascends");
                pairs.into_iter().collect()
            }
            None => BTreeMap::new(),
        });
    }
    Ok(model)
}

/// Fails unless `verify` finds nothing wrong; gives the number of keys.
pub async fn assert_clean(engine: &Arc<Engine>, context: &str) -> u64 {
    let report = engine.verify().await.unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(report.problems.is_empty(), "{context}: {:#?}", report.problems);
    report.keys
}

/// Compares two models, naming the first difference.
pub fn assert_same(found: &Model, expected: &Model, context: &str) {
    if found == expected {
        return;
    }
    for (tree, (found, expected)) in found.iter().zip(expected).enumerate() {
        for (key, value) in expected {
            let key_name = key.escape_ascii();
            match found.get(key) {
                Some(there) if there == value => {}
                Some(_) => panic!("{context}: tree {tree}, key \"{key_name}\": another value"),
                None => panic!("{context}: tree {tree}, key \"{key_name}\" is lost"),
            }
        }
        if let Some(key) = found.keys().find(|key| !expected.contains_key(*key)) {
            panic!("{context}: tree {tree} has key \"{}\" too many", key.escape_ascii());
        }
    }
    panic!("{context}: {} trees found, {} expected", found.len(), expected.len());
}
