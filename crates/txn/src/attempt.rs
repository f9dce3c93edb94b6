//! One try at applying a batch: synchronous, within one poll, all or nothing (I2).
//!
//! In this order: the leaves are latched (I11); every condition is checked under the latches, and
//! what the batch comes to is decided key by key; everything that the change needs is taken by
//! `try`; the log record is appended, which draws sequence and epoch; the pages are changed, and
//! each is released when it is; parents are told of splits. Up to the append nothing has happened,
//! and from there on nothing can fail.

use std::sync::Arc;

use treering_blink::{Blocked, Edit, Epochs, Kind, Leaves, REFERENCE_LEN, Reference, Stored, Way};
use treering_bufpool::Refusal;
use treering_pagefile::PageId;

use crate::batch::{Batch, OpKind};
use crate::body::{ENTRY_OVERHEAD, Entry, encode, encode_runs};
use crate::engine::Engine;
use crate::error::{Error, Violation};
use crate::job::{Job, Known, Wanted};
use crate::log::{AppendError, Applying, Log};
use crate::replay_large::retire_values;

/// What a batch came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The log sequence up to which things must be durable before this outcome may be relied on:
    /// the batch's own, or, if it changed nothing, that of the last change it can have seen.
    pub sequence: u64,
    /// For each operation, whether its key was there before it.
    pub existed: Vec<bool>,
    /// For each operation the value that was there before it, if the batch keeps them.
    pub old: Vec<Option<Vec<u8>>>,
    /// The sequences of the duplicates that were inserted, in the order of the batch.
    pub duplicates: Vec<u64>,
}

/// What a try came to.
pub(crate) enum Attempt {
    Applied(Outcome),
    /// A condition does not hold, as of `sequence`.
    Violated {
        sequence: u64,
        error: Error,
    },
    Absent(Vec<PageId>),
    /// Large values that conditions or the outcome are about have to be read.
    Unknown(Vec<Wanted>),
    /// Something moved in between.
    Moved,
    Refused(Refusal),
    NoRoom,
    /// Some of its keys are pending ([`crate::overlay`]).
    Held,
    /// It is too large for one step.
    TooLarge,
    Failed(Error),
}

impl From<Blocked> for Attempt {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::Fetch(pages) => Attempt::Absent(pages),
            Blocked::Refused(refusal) => Attempt::Refused(refusal),
            Blocked::Moved => Attempt::Moved,
            Blocked::TooManyLeaves => Attempt::TooLarge,
        }
    }
}

impl From<AppendError> for Attempt {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::EpochChanged => Attempt::Moved,
            AppendError::NoRoom => Attempt::NoRoom,
            AppendError::TooLarge { .. } => Attempt::TooLarge,
            AppendError::Poisoned(error) => Attempt::Failed(Error::File(error)),
        }
    }
}

impl Epochs for Log {
    type Entered<'e> = Applying<'e>;

    fn current(&self) -> u64 {
        self.epoch()
    }

    fn try_enter(&self, epoch: u64) -> Option<Applying<'_>> {
        Log::try_enter(self, epoch)
    }
}

impl Engine {
    /// Tries to apply a batch, whose operations are taken in the job's order (sorted by tree and
    /// key). `ways` remembers how far it came.
    pub(crate) fn attempt(&self, job: &mut Job, ways: &mut Vec<Way>) -> Attempt {
        match self.try_apply(job, ways) {
            Ok(outcome) => Attempt::Applied(outcome),
            Err(attempt) => attempt,
        }
    }

    fn try_apply(&self, job: &mut Job, ways: &mut Vec<Way>) -> Result<Outcome, Attempt> {
        let _entered = self.enter().map_err(Attempt::Failed)?;
        let Job { batch, order, written: values, known, durable } = job;
        let keys = order.iter().map(|&index| {
            let op = batch.op(index);
            (op.tree, op.key)
        });
        let leaves = self.forest.latch_leaves(keys, ways, self.limits.batch_leaves);
        let leaves = leaves.map_err(|error| Attempt::Failed(error.into()))??;
        // Under the latches: whoever has made keys pending since finds these leaves changed.
        let mut trees = order.iter().map(|&index| batch.op(index).tree);
        trees.try_for_each(|tree| self.check_tree(tree)).map_err(Attempt::Failed)?;
        if let Some(overlay) = self.overlays.current() {
            let mut ops = order.iter().map(|&index| batch.op(index));
            if ops.any(|op| overlay.claims(op.tree.id, op.key)) {
                return Err(Attempt::Held);
            }
        }
        let mut decision = decide(batch, order, known, &leaves);
        if !decision.unknown.is_empty() {
            return Err(Attempt::Unknown(decision.unknown));
        }
        if let Some((_, error)) = decision.violated {
            // What was seen is no later than the last sequence, as every change of these leaves
            // drew its own before it let go of the latches that are held here.
            return Err(Attempt::Violated { sequence: self.log.last_sequence(), error });
        }
        if decision.changes.is_empty() {
            decision.outcome.sequence = self.log.last_sequence();
            let Decision { mut outcome, old_large, .. } = decision;
            fill_old(&mut outcome, &old_large, known);
            return Ok(outcome);
        }
        // Large values are in pages of their own, and a record has their references only.
        let bytes = if values.is_empty() { batch.bytes() } else { 0 };
        let body_len = bytes + decision.changes.len() * ENTRY_OVERHEAD;
        let mut body = Vec::with_capacity(body_len.min(self.log.max_body()));
        // Mostly none.
        let mut references = Vec::new();
        for (at, change) in decision.changes.iter().enumerate() {
            let op = batch.op(change.operation);
            let (tree, key) = (op.tree.id, op.key);
            let written = change.gives.then(|| values.get(&change.operation)).flatten();
            let reference = written.map(|written| written.value().to_bytes());
            match (written, &reference) {
                (Some(written), Some(value)) => {
                    let runs = &encode_runs(written.runs());
                    encode(Entry::PutLarge { tree, key, value, runs }, &mut body);
                }
                _ if change.gives => encode(Entry::Put { tree, key, value: op.value }, &mut body),
                _ => encode(Entry::Delete { tree, key }, &mut body),
            }
            if let Some(reference) = reference {
                references.resize(at, None);
                references.push(Some(reference));
            }
        }
        let edits: Vec<Edit<'_>> = decision
            .changes
            .iter()
            .enumerate()
            .map(|(at, change)| {
                let op = batch.op(change.operation);
                let value = match references.get(at).and_then(Option::as_ref) {
                    Some(reference) => Some(Stored::Overflow(reference)),
                    None => change.gives.then_some(Stored::Inline(op.value)),
                };
                Edit { index: change.index, key: op.key, value }
            })
            .collect();
        let epoch = self.log.epoch();
        let plan = leaves.plan(epoch, &edits)?;
        let applying = self.log.try_append(epoch, &body)?;
        if *durable && body.len() >= FLUSH_AHEAD_MIN {
            self.log.flush_ahead(applying.sequence());
        }
        let Decision { mut outcome, changes, old_large, .. } = decision;
        outcome.sequence = applying.sequence();
        for change in changes.iter().filter(|change| change.gives) {
            if let Some(written) = values.remove(&change.operation) {
                self.pool().publish_value(written, epoch);
            }
        }
        let retire = |references: &[_]| retire_values(self.pool(), references, epoch);
        let split = plan.commit(epoch, retire);
        drop(applying);
        self.forest.post_now(|id| self.catalog.by_id(id), split, &*self.log);
        self.pool().file().grow_ahead();
        fill_old(&mut outcome, &old_large, known);
        Ok(outcome)
    }
}

/// Bytes of a batch whose pages take about as long to change as its record to be written.
const FLUSH_AHEAD_MIN: usize = 64 << 10;

/// What becomes of one key.
struct Change {
    /// The number of the key's first operation among those that the leaves were latched for.
    index: usize,
    /// The operation that decides.
    operation: usize,
    /// Whether it gives the key its value, or takes the key away.
    gives: bool,
}

/// What a batch comes to.
#[derive(Default)]
struct Decision {
    /// In the order of their keys.
    changes: Vec<Change>,
    outcome: Outcome,
    /// Operations whose old value is a large one, which is known.
    old_large: Vec<(usize, Reference)>,
    /// The first operation, in the order of the batch, whose condition does not hold.
    violated: Option<(usize, Error)>,
    /// All large values that conditions or the outcome are about, if one of them is not known.
    unknown: Vec<Wanted>,
}

/// What is under a key before one of the batch's operations.
enum Before<'d> {
    Value(&'d [u8]),
    Large(Reference, &'d Vec<u8>),
    /// A large value that is not known.
    Unknown(Reference),
}

/// Checks all conditions and finds what each key comes to.
fn decide(batch: &Batch, order: &[usize], known: &Known, leaves: &Leaves<'_>) -> Decision {
    let mut decision = Decision::default();
    decision.outcome.existed = vec![false; batch.len()];
    if batch.keeps_old() {
        decision.outcome.old = vec![None; batch.len()];
    }
    let (mut wanted, mut all_known) = (Vec::new(), true);
    let mut room = Vec::new();
    let mut from = 0;
    let same_key = |a: &usize, b: &usize| {
        let (a, b) = (batch.op(*a), batch.op(*b));
        a.tree == b.tree && a.key == b.key
    };
    for run in order.chunk_by(same_key) {
        let (tree, key) = (batch.op(run[0]).tree.id, batch.op(run[0]).key);
        let was_there = leaves.contains(from, key);
        // The operation that decided last, and whether it gave a value: `None` while the key is as
        // it was.
        let mut now: Option<(usize, bool)> = None;
        for &index in run {
            let op = batch.op(index);
            let present = now.map_or(was_there, |(_, gives)| gives);
            decision.outcome.existed[index] = present;
            let mut there: Option<&[u8]> = None;
            if present && (batch.keeps_old() || op.kind.asks_for_value()) {
                let before = match now {
                    Some((by, _)) => Before::Value(batch.op(by).value),
                    None => before(known, leaves, from, key, &mut room),
                };
                match before {
                    Before::Value(value) => {
                        there = Some(value);
                        if batch.keeps_old() {
                            decision.outcome.old[index] = Some(value.to_vec());
                        }
                    }
                    Before::Large(reference, value) => {
                        there = Some(value);
                        wanted.push((tree, reference));
                        if batch.keeps_old() {
                            decision.old_large.push((index, reference));
                        }
                    }
                    Before::Unknown(reference) => {
                        wanted.push((tree, reference));
                        all_known = false;
                    }
                }
            }
            match violation(op.kind, present, there == Some(op.value)) {
                // The first in the order of the batch is the one to name.
                Some(violation)
                    if decision.violated.as_ref().is_none_or(|(first, _)| index < *first) =>
                {
                    let (key, there) = (key.into(), there.map(Arc::from));
                    let error = Error::Violated { operation: index, key, violation, there };
                    decision.violated = Some((index, error));
                }
                Some(_) => {}
                None if op.kind.gives_value() => now = Some((index, true)),
                None if op.kind == OpKind::Delete => now = Some((index, false)),
                None => {}
            }
        }
        if let Some((operation, gives)) = now
            && (gives || was_there)
        {
            decision.changes.push(Change { index: from, operation, gives });
        }
        from += run.len();
    }
    if !all_known {
        decision.unknown = wanted;
    }
    decision
}

/// What a leaf has under a key that is there.
fn before<'d>(
    known: &'d Known,
    leaves: &Leaves<'_>,
    index: usize,
    key: &[u8],
    room: &'d mut Vec<u8>,
) -> Before<'d> {
    room.clear();
    if leaves.get(index, key, room) != Some(Kind::Overflow) {
        return Before::Value(room);
    }
    // Whatever is not as long as a reference is none, and reading it will say so.
    let mut reference = [0; REFERENCE_LEN];
    let len = room.len().min(REFERENCE_LEN);
    reference[..len].copy_from_slice(&room[..len]);
    match known.get(&reference) {
        Some(value) => Before::Large(reference, value),
        None => Before::Unknown(reference),
    }
}

/// Puts old values that were large into the outcome.
fn fill_old(outcome: &mut Outcome, old: &[(usize, Reference)], known: &mut Known) {
    for (at, (index, reference)) in old.iter().enumerate() {
        let again = old[at + 1..].iter().any(|(_, other)| other == reference);
        outcome.old[*index] =
            if again { known.get(reference).cloned() } else { known.take(reference) };
    }
}

pub(crate) fn violation(kind: OpKind, present: bool, matches: bool) -> Option<Violation> {
    match kind {
        OpKind::Insert | OpKind::RequireAbsent if present => Some(Violation::KeyExists),
        OpKind::Update | OpKind::RequirePresent | OpKind::RequireValue if !present => {
            Some(Violation::KeyMissing)
        }
        OpKind::RequireValue if !matches => Some(Violation::ValueDiffers),
        _ => None,
    }
}
