//! What a workload consists of: a database to begin with, and a few operations.

use std::cell::Cell;
use std::collections::BTreeMap;

use treering::{Database, Durability};
use treering_pagefile::sim::SimImage;
use treering_txn::OpKind;

use super::life::{Mode, Start, live};
use super::machine::{Machine, Planted};
use super::model::Journal;
use super::step::{Op, Step};

/// How the database that a workload begins with came to be.
#[derive(Clone, Debug)]
pub enum Before {
    /// There is none: the workload makes it.
    Nothing,
    /// It was made with these steps, one after the other, and closed.
    Closed(Vec<Step>),
    /// It was made with these steps and its process was killed: they are in the log.
    Killed(Vec<Step>),
}

/// A database and a few operations on it.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name, for the command line.
    pub name: &'static str,
    /// The database that it begins with.
    pub before: Before,
    /// What is done to it, one group after the other; the steps of a group run at the same time.
    pub groups: Vec<Vec<Step>>,
    /// Frames of the pool, 16 at least.
    pub frames: usize,
    /// Crashes and failures begin with the first I/O of the opening, not behind it.
    pub from_opening: bool,
    /// Whether a database that had the first shape, and then the second, has seen what the name of
    /// the workload says.
    pub shows: fn(&Shape, &Shape) -> bool,
}

/// What a database looks like from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Trees.
    pub trees: usize,
    /// Pages in use.
    pub pages: u64,
    /// Levels of the highest tree.
    pub height: u8,
    /// Keys of all trees.
    pub keys: u64,
    /// Keys among them with large values.
    pub large_values: u64,
    /// Merges of this life.
    pub merges: u64,
    /// Checkpoints of this life.
    pub checkpoints: u64,
    /// Records that the opening replayed.
    pub replayed: u64,
}

impl Workload {
    /// These steps, one after the other, on that database.
    pub fn new(name: &'static str, before: Before, steps: Vec<Step>) -> Self {
        let groups = steps.into_iter().map(|step| vec![step]).collect();
        Self { name, before, groups, frames: 32, from_opening: false, shows: |_, _| true }
    }

    /// The same, whose steps run at the same time.
    pub fn beside(mut self) -> Self {
        self.groups = vec![self.groups.into_iter().flatten().collect()];
        self
    }

    /// The same with another size of pool.
    pub fn frames(mut self, frames: usize) -> Self {
        self.frames = frames;
        self
    }

    /// The same with crashes and failures from the first I/O on.
    pub fn from_opening(mut self) -> Self {
        self.from_opening = true;
        self
    }

    /// The same with a proof that it does what its name says.
    pub fn shows(mut self, shows: fn(&Shape, &Shape) -> bool) -> Self {
        self.shows = shows;
        self
    }

    /// Whether the last step leaves no open database.
    pub fn closes(&self) -> bool {
        self.groups.last().is_some_and(|group| group.contains(&Step::Close))
    }

    /// Prepares the database.
    pub fn prepare(&self) -> Result<Start, String> {
        let (steps, closed) = match &self.before {
            Before::Nothing => {
                return Ok(Start { image: SimImage::default(), states: Vec::new(), life: 1 });
            }
            Before::Closed(steps) => (steps, true),
            Before::Killed(steps) => (steps, false),
        };
        let last = if closed { Step::Close } else { Step::Sync };
        let steps = steps.iter().cloned().chain([last]).collect();
        let making = Workload::new(self.name, Before::Nothing, steps).frames(64);
        let machine = Machine::new(&SimImage::default(), 1, 1, Planted::Nothing);
        let journal = Journal::new(&[], Planted::Nothing);
        let opened = Cell::new(None);
        let lived = live(&making, &machine, &journal, &opened, Mode::Crash);
        let lived = machine.sim().run(lived);
        let _db = lived.map_err(|stalled| format!("preparing {}: {stalled}", self.name))??;
        let image = match closed {
            true => machine.sim().disk().image_visible(),
            // What is on the disk so far, and all of it: not what the engine's end would write.
            false => machine.sim().disk().image_everything(),
        };
        Ok(Start { image, states: journal.now(), life: 2 })
    }
}

impl Workload {
    /// What the database looks like before the steps and after them.
    pub fn shapes(&self) -> Result<(Shape, Shape), String> {
        let start = self.prepare()?;
        let nothing = Workload::new(self.name, Before::Nothing, Vec::new());
        Ok((nothing.shape_after(&start)?, self.shape_after(&start)?))
    }

    fn shape_after(&self, start: &Start) -> Result<Shape, String> {
        let (machine, journal) = start.begin(1, Planted::Nothing);
        let opened = Cell::new(None);
        let shape = machine.sim().run(async {
            let lived = live(self, &machine, &journal, &opened, Mode::Whole).await?;
            match lived.filter(|_| !self.closes()) {
                Some(db) => Shape::of(&db).await,
                None => Ok(Shape::default()),
            }
        });
        shape.map_err(|stalled| stalled.to_string())?
    }
}

impl Shape {
    /// What this database looks like.
    pub async fn of(db: &Database) -> Result<Self, String> {
        let report = db.verify().await.map_err(|error| format!("verifying: {error}"))?;
        if let Some(problem) = report.problems.first() {
            return Err(problem.clone());
        }
        let stats = db.stats();
        Ok(Self {
            trees: report.trees,
            pages: report.pages,
            height: report.height,
            keys: report.keys,
            large_values: report.large_values,
            merges: stats.merges,
            checkpoints: stats.checkpoints,
            replayed: db.recovery().replayed,
        })
    }
}

/// Keys in order, of a length that depends on the number, so that separators have many lengths, too.
pub fn key(number: usize) -> Vec<u8> {
    let mut key = format!("{:04}", number * 10).into_bytes();
    key.extend(std::iter::repeat_n(b'-', number % 4 * 12));
    key
}

/// A key right behind [`key`] of that number.
pub fn key_behind(number: usize) -> Vec<u8> {
    format!("{:04}", number * 10 + 5).into_bytes()
}

/// A value of that length.
pub fn value(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 31 + at * 7) as u8).collect()
}

/// One put.
pub fn put_op(tree: &'static str, key: Vec<u8>, value: Vec<u8>) -> Op {
    Op { tree, kind: OpKind::Put, key, value }
}

/// A durable put.
pub fn put(tree: &'static str, key: Vec<u8>, value: Vec<u8>) -> Step {
    Step::Commit(vec![put_op(tree, key, value)], Durability::Durable)
}

/// An operation that takes a key away.
pub fn delete_op(tree: &'static str, number: usize) -> Op {
    Op { tree, kind: OpKind::Delete, key: key(number), value: Vec::new() }
}

/// Makes a tree and gives it these keys, each with a value of that length.
pub fn filled(
    tree: &'static str,
    numbers: impl IntoIterator<Item = usize>,
    value_len: usize,
) -> Vec<Step> {
    let puts =
        numbers.into_iter().map(|number| put_op(tree, key(number), value(number, value_len)));
    let puts: Vec<Op> = puts.collect();
    let batches = puts.chunks(8).map(|ops| Step::Commit(ops.to_vec(), Durability::None));
    [Step::CreateTree(tree)].into_iter().chain(batches).collect()
}

/// What a bulk load gets.
pub fn pairs(numbers: std::ops::Range<usize>, value_len: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    numbers.map(|number| (key(number), value(number, value_len))).collect()
}
