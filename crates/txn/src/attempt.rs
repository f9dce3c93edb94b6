//! One try at applying a batch: synchronous, within one poll, all or nothing (I2).
//!
//! In this order: the leaves are latched (I11); every condition is checked under the latches, and
//! what the batch comes to is decided key by key; everything that the change needs is taken by
//! `try`; the log record is appended, which draws sequence and epoch; the pages are changed; the
//! latches are released; parents are told of splits. Up to the append nothing has happened, and from
//! there on nothing can fail.

use treering_blink::{Blocked, Edit, Epochs, Leaves, Way};
use treering_bufpool::Refusal;
use treering_pagefile::PageId;

use crate::batch::{Batch, OpKind};
use crate::body::{Entry, encode};
use crate::engine::Engine;
use crate::error::{Error, Violation};
use crate::log::{AppendError, Applying, Log};

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
    /// Something moved in between.
    Moved,
    Refused(Refusal),
    NoRoom,
    Failed(Error),
}

impl From<Blocked> for Attempt {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::Fetch(pages) => Attempt::Absent(pages),
            Blocked::Refused(refusal) => Attempt::Refused(refusal),
            Blocked::Moved => Attempt::Moved,
            Blocked::TooManyLeaves => Attempt::Failed(Error::BatchTooLarge {
                what: "it touches more leaves than can be changed at once with this cache".into(),
            }),
        }
    }
}

impl From<AppendError> for Attempt {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::EpochChanged => Attempt::Moved,
            AppendError::NoRoom => Attempt::NoRoom,
            AppendError::TooLarge { len, max } => Attempt::Failed(Error::BatchTooLarge {
                what: format!("its log record has {len} bytes of {max}"),
            }),
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
    /// Tries to apply a batch, whose operations are taken in `order` (sorted by tree and key).
    /// `ways` remembers how far it came.
    pub(crate) fn attempt(&self, batch: &Batch, order: &[usize], ways: &mut Vec<Way>) -> Attempt {
        match self.try_apply(batch, order, ways) {
            Ok(outcome) => Attempt::Applied(outcome),
            Err(attempt) => attempt,
        }
    }

    fn try_apply(
        &self,
        batch: &Batch,
        order: &[usize],
        ways: &mut Vec<Way>,
    ) -> Result<Outcome, Attempt> {
        let _entered = self.enter().map_err(Attempt::Failed)?;
        let keys = order.iter().map(|&index| {
            let op = batch.op(index);
            (op.tree, op.key)
        });
        let leaves = self.forest.latch_leaves(keys, ways, self.limits.batch_leaves);
        let leaves = leaves.map_err(|error| Attempt::Failed(error.into()))??;
        let mut decided = Decided::default();
        let decision = decided.decide(batch, order, &leaves);
        let (edits, mut outcome) = match decision {
            Ok(decision) => decision,
            // What was seen is no later than the last sequence, as every change of these leaves
            // drew its own before it let go of the latches that are held here.
            Err(error) => {
                return Err(Attempt::Violated { sequence: self.log.last_sequence(), error });
            }
        };
        if edits.is_empty() {
            outcome.sequence = self.log.last_sequence();
            return Ok(outcome);
        }
        let mut body = Vec::new();
        for edit in &edits {
            let (tree, key) = (batch.op(order[edit.index]).tree.id, edit.key);
            match edit.value {
                Some(value) => encode(Entry::Put { tree, key, value }, &mut body),
                None => encode(Entry::Delete { tree, key }, &mut body),
            }
        }
        let epoch = self.log.epoch();
        let plan = leaves.plan(epoch, &edits)?;
        let applying = self.log.try_append(epoch, &body)?;
        outcome.sequence = applying.sequence();
        let split = plan.commit(epoch);
        drop(applying);
        self.forest.post_now(|id| self.catalog.by_id(id), split, &*self.log);
        Ok(outcome)
    }
}

/// Room for values that are looked at while the batch is decided.
#[derive(Default)]
struct Decided {
    value: Vec<u8>,
}

impl Decided {
    /// Checks all conditions and finds what each key comes to.
    fn decide<'b>(
        &mut self,
        batch: &'b Batch,
        order: &[usize],
        leaves: &Leaves<'_>,
    ) -> Result<(Vec<Edit<'b>>, Outcome), Error> {
        let mut outcome = Outcome { existed: vec![false; batch.len()], ..Outcome::default() };
        if batch.keeps_old() {
            outcome.old = vec![None; batch.len()];
        }
        let mut edits = Vec::with_capacity(order.len());
        let mut violated: Option<(usize, Error)> = None;
        let mut from = 0;
        let same_key = |a: &usize, b: &usize| {
            let (a, b) = (batch.op(*a), batch.op(*b));
            a.tree == b.tree && a.key == b.key
        };
        for run in order.chunk_by(same_key) {
            let key = batch.op(run[0]).key;
            let was_there = leaves.contains(from, key);
            // What the operations so far have made of the key: `None` while it is as it was.
            let mut now: Option<Option<&'b [u8]>> = None;
            for &index in run {
                let op = batch.op(index);
                let present = now.map_or(was_there, |value| value.is_some());
                outcome.existed[index] = present;
                if present && (batch.keeps_old() || op.kind.asks_for_value()) {
                    self.value.clear();
                    match now.flatten() {
                        Some(value) => self.value.extend_from_slice(value),
                        None => drop(leaves.get(from, key, &mut self.value)),
                    }
                    if batch.keeps_old() {
                        outcome.old[index] = Some(self.value.clone());
                    }
                }
                match violation(op.kind, present, op.value, &self.value) {
                    // The first in the order of the batch is the one to name.
                    Some(violation)
                        if violated.as_ref().is_none_or(|(first, _)| index < *first) =>
                    {
                        let there = present.then(|| self.value.as_slice().into());
                        let key = key.into();
                        let error = Error::Violated { operation: index, key, violation, there };
                        violated = Some((index, error));
                    }
                    Some(_) => {}
                    None => match op.kind {
                        OpKind::Put | OpKind::Insert | OpKind::InsertDup | OpKind::Update => {
                            now = Some(Some(op.value));
                        }
                        OpKind::Delete => now = Some(None),
                        _ => {}
                    },
                }
            }
            match now {
                Some(Some(value)) => edits.push(Edit { index: from, key, value: Some(value) }),
                Some(None) if was_there => edits.push(Edit { index: from, key, value: None }),
                Some(None) | None => {}
            }
            from += run.len();
        }
        match violated {
            Some((_, error)) => Err(error),
            None => Ok((edits, outcome)),
        }
    }
}

fn violation(kind: OpKind, present: bool, value: &[u8], there: &[u8]) -> Option<Violation> {
    match kind {
        OpKind::Insert | OpKind::RequireAbsent if present => Some(Violation::KeyExists),
        OpKind::Update | OpKind::RequirePresent | OpKind::RequireValue if !present => {
            Some(Violation::KeyMissing)
        }
        OpKind::RequireValue if value != there => Some(Violation::ValueDiffers),
        _ => None,
    }
}
