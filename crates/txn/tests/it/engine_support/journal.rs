//! What a client was told, and what may therefore be there after a crash.
//!
//! The log's order is the order of sequences, and a commit learns its own. So what is recovered up
//! to sequence S is the model after all commits up to S. Commits that never heard of their outcome
//! may be there or not; if they are, they have the sequences that nobody else has.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use treering_blink::TreeRef;
use treering_txn::{Durability, Engine, Error, OpKind};

use super::{Model, Op, apply, batch};

/// Shared by the clients of one engine, and outliving it.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Inner>>);

#[derive(Clone, Default)]
struct Inner {
    /// Commits whose sequence is known.
    known: Vec<(u64, Vec<Op>)>,
    /// Commits that have begun and not ended, by number.
    open: Vec<(usize, Vec<Op>)>,
    begun: usize,
    /// Everything up to this sequence was acknowledged as durable.
    durable: u64,
    /// Where [`Journal::settle`] began.
    base: u64,
}

impl Journal {
    /// Commits and notes what came of it.
    pub async fn commit(
        &self,
        engine: &Arc<Engine>,
        trees: &[TreeRef],
        ops: &[Op],
        durability: Durability,
    ) -> Result<u64, Error> {
        // What an engine refuses that is poisoned already has not been done.
        engine.check()?;
        let number = self.begin(ops);
        let outcome = engine.commit(batch(trees, ops), durability).await;
        let mut inner = self.0.lock().unwrap();
        match outcome {
            Ok(outcome) => {
                inner.open.retain(|(open, _)| *open != number);
                inner.known.push((outcome.sequence, ops.to_vec()));
                if durability == Durability::Durable {
                    inner.durable = inner.durable.max(outcome.sequence);
                }
                Ok(outcome.sequence)
            }
            Err(error) => {
                // Only a poisoned engine leaves open whether the batch is there.
                if error.file_kind() != Some(treering_pagefile::FileErrorKind::Poisoned) {
                    inner.open.retain(|(open, _)| *open != number);
                }
                Err(error)
            }
        }
    }

    /// A copy that goes its own way.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }

    /// Notes a commit that was made without the journal.
    pub fn note(&self, sequence: u64, ops: &[Op]) {
        self.0.lock().unwrap().known.push((sequence, ops.to_vec()));
    }

    fn begin(&self, ops: &[Op]) -> usize {
        let mut inner = self.0.lock().unwrap();
        inner.begun += 1;
        let number = inner.begun;
        inner.open.push((number, ops.to_vec()));
        number
    }

    /// Notes that everything up to `sequence` was said to be durable.
    pub fn durable(&self, sequence: u64) {
        let mut inner = self.0.lock().unwrap();
        inner.durable = inner.durable.max(sequence);
    }

    /// The last sequence that was acknowledged as durable.
    pub fn acknowledged(&self) -> u64 {
        self.0.lock().unwrap().durable
    }

    /// What the trees hold after all known commits.
    pub fn model(&self, trees: usize) -> Model {
        self.0.lock().unwrap().model(trees, u64::MAX, &[])
    }

    /// Whether `found` is what a database recovered up to `sequence` may hold; else why not.
    pub fn judge(&self, found: &Model, sequence: u64) -> Result<(), String> {
        let inner = self.0.lock().unwrap();
        if sequence < inner.durable {
            let durable = inner.durable;
            return Err(format!("{durable} was acknowledged, {sequence} recovered"));
        }
        let none = inner.model(found.len(), sequence, &[]);
        if *found == none {
            return Ok(());
        }
        // Some of the open commits are there, in some order, at sequences that no other has.
        let gaps: Vec<u64> =
            (inner.base + 1..=sequence).filter(|sequence| !inner.is_taken(*sequence)).collect();
        let open: Vec<&Vec<Op>> = inner.open.iter().map(|(_, ops)| ops).collect();
        if inner.place(found, sequence, &gaps, &open, &mut Vec::new()) {
            return Ok(());
        }
        Err(format!(
            "recovered up to {sequence}, it is the model neither without nor with any of the {} \
             open commits; {}",
            open.len(),
            difference(found, &none)
        ))
    }

    /// As [`Journal::judge`], quickly, for commits that all change something and of which no two touch
    /// the same key, so that their order does not show.
    pub fn judge_commuting(&self, found: &Model, sequence: u64) -> Result<(), String> {
        let inner = self.0.lock().unwrap();
        if sequence < inner.durable {
            let durable = inner.durable;
            return Err(format!("{durable} was acknowledged, {sequence} recovered"));
        }
        let known = inner.known.iter().map(|(sequence, _)| *sequence);
        let taken: BTreeSet<u64> =
            known.filter(|known| (inner.base + 1..=sequence).contains(known)).collect();
        let gaps = sequence - inner.base - taken.len() as u64;
        for chosen in 0..1_u32 << inner.open.len() {
            let open = inner.open.iter().enumerate();
            let there = open.filter(|(bit, _)| chosen >> bit & 1 == 1);
            let there: Vec<_> = there.map(|(_, (_, ops))| (sequence, ops)).collect();
            if there.len() as u64 <= gaps && *found == inner.model(found.len(), sequence, &there) {
                return Ok(());
            }
        }
        Err(format!(
            "recovered up to {sequence}, it is the model neither without nor with any of the {} \
             open commits; {}",
            inner.open.len(),
            difference(found, &inner.model(found.len(), sequence, &[]))
        ))
    }

    /// Forgets what was open and everything beyond `sequence`: the state found is the truth now.
    pub fn settle(&self, found: &Model, sequence: u64) {
        let mut inner = self.0.lock().unwrap();
        let mut ops = Vec::new();
        for (tree, pairs) in found.iter().enumerate() {
            ops.extend(pairs.iter().map(|(key, value)| Op::put(tree, key, value)));
        }
        inner.known = vec![(sequence, ops)];
        inner.open.clear();
        (inner.durable, inner.base) = (sequence, sequence);
    }
}

impl Inner {
    /// Whether a known commit has this sequence for itself. One that changed nothing was told that of
    /// the last change it can have seen, which may be an open one.
    fn is_taken(&self, sequence: u64) -> bool {
        let known = self.known.iter().filter(|(known, _)| *known == sequence);
        known.map(|(_, ops)| ops).any(|ops| {
            let deleted = |op: &Op| {
                ops.iter().any(|other| other.kind == OpKind::Delete && other.key == op.key)
            };
            ops.iter().any(|op| {
                matches!(op.kind, OpKind::Put | OpKind::Insert | OpKind::Update) && !deleted(op)
            })
        })
    }

    /// The model after the known commits up to `sequence` and these others.
    fn model(&self, trees: usize, sequence: u64, others: &[(u64, &Vec<Op>)]) -> Model {
        let known = self.known.iter().map(|(sequence, ops)| (*sequence, ops));
        let mut commits: Vec<_> =
            known.chain(others.iter().copied()).filter(|(at, _)| *at <= sequence).collect();
        commits.sort_by_key(|(at, _)| *at);
        let mut model = vec![Default::default(); trees];
        for (_, ops) in commits {
            // One that changed nothing has the sequence of what it saw, and needs no effect.
            let _ = apply(&mut model, ops);
        }
        model
    }

    fn place<'i>(
        &self,
        found: &Model,
        sequence: u64,
        gaps: &[u64],
        open: &[&'i Vec<Op>],
        placed: &mut Vec<(u64, &'i Vec<Op>)>,
    ) -> bool {
        if !placed.is_empty() && self.model(found.len(), sequence, placed) == *found {
            return true;
        }
        let Some((first, rest)) = open.split_first() else { return false };
        for &gap in gaps.iter().rev() {
            if placed.iter().any(|(taken, _)| *taken == gap) {
                continue;
            }
            placed.push((gap, first));
            if self.place(found, sequence, gaps, rest, placed) {
                return true;
            }
            placed.pop();
        }
        self.place(found, sequence, gaps, rest, placed)
    }
}

fn difference(found: &Model, expected: &Model) -> String {
    for (tree, (found, expected)) in found.iter().zip(expected).enumerate() {
        if let Some(key) = expected.keys().find(|key| found.get(*key) != expected.get(*key)) {
            return format!("tree {tree}, key \"{}\" is lost or differs", key.escape_ascii());
        }
        if let Some(key) = found.keys().find(|key| !expected.contains_key(*key)) {
            return format!("tree {tree} has key \"{}\" too many", key.escape_ascii());
        }
    }
    "no difference".to_owned()
}
