//! What a database may hold, as somebody who only heard its answers knows it.
//!
//! # The protocol
//! Operations come in *groups* that run at the same time; most groups have one. While a group runs,
//! each of its operations is open, then answered, refused without effect, or in doubt (an error that
//! leaves open whether it happened). From that the journal derives two sets of states:
//!
//! * **now**: what a reader of the running database may find. Every answered operation is in, in some
//!   order in which all of them would have been answered as they were; those in doubt may be.
//! * **survivors**: what a crash may leave. As long as no operation of the group was acknowledged as
//!   durable, everything that might have survived before; and each state on the way through each order
//!   that contains all operations that were. So what survives is a prefix of the log: an operation
//!   is never there without those that were answered before it began.
//!
//! An empty set of states means that no order explains the answers: a wrong answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::machine::Planted;
use super::step::{Answer, Step};

/// What a tree holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Contents {
    /// Of a tree whose keys are there once at most.
    Unique(BTreeMap<Vec<u8>, Vec<u8>>),
    /// Of a tree with duplicates: the values of each key, in order.
    Duplicates(BTreeMap<Vec<u8>, Vec<Vec<u8>>>),
}

/// What a database holds: its trees by name.
pub type State = BTreeMap<String, Contents>;

/// What has become of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has begun.
    Open,
    /// The database has answered.
    Answered(Answer),
    /// It failed, and nothing was changed.
    Nothing,
    /// It failed, and nobody knows.
    InDoubt,
}

struct Entry {
    step: Step,
    outcome: Outcome,
}

/// What was asked of a database and what it answered, with what follows from it. It outlives the
/// machine on which the database runs.
pub struct Journal(Mutex<Inner>);

struct Inner {
    now: Vec<State>,
    /// What might have survived when the group began.
    before: Vec<State>,
    group: Vec<Entry>,
    opened: bool,
    durable_sequence: u64,
    /// What a backup may hold, if one was asked for.
    copy: Vec<State>,
    copied: bool,
    planted: Planted,
    first: Vec<State>,
}

impl Journal {
    /// Of a database that holds one of these; no state stands for one that does not exist. What is
    /// `planted` makes it wrong.
    pub fn new(states: &[State], planted: Planted) -> Self {
        let now = match states {
            [] => vec![State::new()],
            states => states.to_vec(),
        };
        Self(Mutex::new(Inner {
            planted,
            first: now.clone(),
            before: now.clone(),
            now,
            group: Vec::new(),
            opened: !states.is_empty(),
            durable_sequence: 0,
            copy: Vec::new(),
            copied: false,
        }))
    }

    /// The database has been opened: from now on it exists.
    pub fn opened(&self) {
        self.lock().opened = true;
    }

    /// Whether it must be there, whatever happens.
    pub fn exists(&self) -> bool {
        self.lock().opened
    }

    /// The database has said that everything up to this sequence is durable.
    pub fn durable_up_to(&self, sequence: u64) {
        let mut inner = self.lock();
        inner.durable_sequence = inner.durable_sequence.max(sequence);
    }

    /// The last sequence that the database called durable.
    pub fn durable_sequence(&self) -> u64 {
        self.lock().durable_sequence
    }

    /// These operations begin, all at the same time.
    pub fn begin(&self, steps: &[Step]) {
        let entry = |step: &Step| Entry { step: step.clone(), outcome: Outcome::Open };
        self.lock().group = steps.iter().map(entry).collect();
    }

    /// The operation of the group with this number has come to its end.
    pub fn end(&self, number: usize, outcome: Outcome) {
        let mut inner = self.lock();
        if inner.group[number].step == Step::Backup {
            inner.copied = matches!(outcome, Outcome::Answered(_));
            inner.copy = inner.arrangements(|_| false);
        }
        inner.group[number].outcome = outcome;
    }

    /// The group has come to its end. Fails if its answers cannot have been given.
    pub fn settle(&self) -> Result<(), String> {
        let mut inner = self.lock();
        let before = inner.survivors();
        let now = inner.arrangements(|entry| matches!(entry.outcome, Outcome::Answered(_)));
        if now.is_empty() {
            let told =
                inner.group.iter().map(|entry| format!("{:?}: {:?}", entry.step, entry.outcome));
            return Err(format!("no order explains: {}", told.collect::<Vec<_>>().join("; ")));
        }
        // What was not durable may be gone when a database was closed with an error and opened again.
        let reopened = inner.group.iter().any(|entry| {
            entry.step == Step::Reopen && !matches!(entry.outcome, Outcome::Answered(_))
        });
        inner.now = if reopened { before.clone() } else { now };
        inner.before = before;
        inner.group.clear();
        Ok(())
    }

    /// What a reader may find.
    pub fn now(&self) -> Vec<State> {
        self.lock().arrangements(|entry| matches!(entry.outcome, Outcome::Answered(_)))
    }

    /// What a crash may leave.
    pub fn survivors(&self) -> Vec<State> {
        self.lock().survivors()
    }

    /// What a backup may hold, if one was asked for: everything from before the call, and of what ran
    /// beside it any part; and whether there must be one.
    pub fn copy(&self) -> Option<(Vec<State>, bool)> {
        let inner = self.lock();
        if inner
            .group
            .iter()
            .any(|entry| entry.step == Step::Backup && entry.outcome == Outcome::Open)
        {
            return Some((inner.arrangements(|_| false), false));
        }
        (!inner.copy.is_empty()).then(|| (inner.copy.clone(), inner.copied))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn survivors(&self) -> Vec<State> {
        if self.planted == Planted::Forgets {
            return self.first.clone();
        }
        let durable = |entry: &Entry| {
            let settles = entry.step.settles() || self.planted == Planted::Impatient;
            settles && matches!(entry.outcome, Outcome::Answered(_))
        };
        let mut states = match self.group.iter().any(durable) {
            true => Vec::new(),
            false => self.before.clone(),
        };
        for state in self.arrangements(durable) {
            if !states.contains(&state) {
                states.push(state);
            }
        }
        states
    }

    /// The states after the operations of the group that `forced` wants, in any order, together with
    /// any of the others.
    fn arrangements(&self, forced: impl Fn(&Entry) -> bool) -> Vec<State> {
        let must = self.group.iter().enumerate().filter(|(_, entry)| forced(entry));
        let must = must.fold(0u32, |mask, (number, _)| mask | 1 << number);
        let mut found = Vec::new();
        for state in &self.now {
            self.arrange(state, 0, must, &mut found);
        }
        found
    }

    fn arrange(&self, state: &State, done: u32, must: u32, found: &mut Vec<State>) {
        if done & must == must && !found.contains(state) {
            found.push(state.clone());
        }
        for (number, Entry { step, outcome }) in self.group.iter().enumerate() {
            if done >> number & 1 == 1 || *outcome == Outcome::Nothing {
                continue;
            }
            let mut next = state.clone();
            let answer = step.apply(&mut next);
            if matches!(outcome, Outcome::Answered(told) if *told != answer) {
                continue;
            }
            self.arrange(&next, done | 1 << number, must, found);
        }
    }
}

/// Says how `found` differs from the state among these that is nearest to it.
pub fn difference(found: &State, allowed: &[State]) -> String {
    let differences = allowed.iter().map(|state| differences(found, state));
    let nearest = differences.min_by_key(Vec::len).unwrap_or_default();
    let first: Vec<&str> = nearest.iter().take(3).map(String::as_str).collect();
    format!("of {} states that may be, the nearest: {}", allowed.len(), first.join(", "))
}

fn differences(found: &State, expected: &State) -> Vec<String> {
    let mut list = Vec::new();
    for name in expected.keys().filter(|name| !found.contains_key(*name)) {
        list.push(format!("the tree {name:?} is missing"));
    }
    for (name, contents) in found {
        match (contents, expected.get(name)) {
            (_, None) => list.push(format!("there is a tree {name:?} too many")),
            (Contents::Unique(found), Some(Contents::Unique(expected))) => {
                differing(name, found, expected, &mut list);
            }
            (Contents::Duplicates(found), Some(Contents::Duplicates(expected))) => {
                differing(name, found, expected, &mut list);
            }
            _ => list.push(format!("the tree {name:?} is of another kind")),
        }
    }
    list
}

fn differing<V: PartialEq>(
    tree: &str,
    found: &BTreeMap<Vec<u8>, V>,
    expected: &BTreeMap<Vec<u8>, V>,
    list: &mut Vec<String>,
) {
    let mut say = |key: &[u8], what| {
        list.push(format!("the key \"{}\" of {tree:?} {what}", key.escape_ascii()));
    };
    for (key, value) in expected {
        match found.get(key) {
            None => say(key, "is lost"),
            Some(there) if there != value => say(key, "has another value"),
            Some(_) => {}
        }
    }
    for key in found.keys().filter(|key| !expected.contains_key(*key)) {
        say(key, "should not be there");
    }
}

#[cfg(test)]
mod tests {
    use treering::Durability;

    use super::super::workload::{key, put_op, value};
    use super::*;

    fn put(number: usize, durability: Durability) -> Step {
        Step::Commit(vec![put_op("t", key(number), value(number, 1))], durability)
    }

    fn empty() -> State {
        State::from([("t".to_owned(), Contents::Unique(BTreeMap::new()))])
    }

    fn after(steps: &[&Step]) -> State {
        let mut state = empty();
        for step in steps {
            step.apply(&mut state);
        }
        state
    }

    fn done(journal: &Journal, step: &Step) {
        journal.begin(std::slice::from_ref(step));
        journal.end(0, Outcome::Answered(Answer::Done));
        journal.settle().unwrap_or_else(|why| panic!("{why}"));
    }

    fn same(found: Vec<State>, expected: &[State]) {
        assert!(found.len() == expected.len() && expected.iter().all(|one| found.contains(one)));
    }

    #[test]
    fn what_is_not_durable_survives_as_a_prefix_until_something_durable_follows() {
        let journal = Journal::new(&[empty()], Planted::Nothing);
        let [a, b, c] = [1, 2, 3].map(|number| put(number, Durability::Buffered));
        done(&journal, &a);
        done(&journal, &b);
        same(journal.now(), &[after(&[&a, &b])]);
        let prefixes = [after(&[]), after(&[&a]), after(&[&a, &b])];
        same(journal.survivors(), &prefixes);
        journal.begin(std::slice::from_ref(&c));
        same(journal.survivors(), &[&prefixes[..], &[after(&[&a, &b, &c])]].concat());
        journal.end(0, Outcome::Nothing);
        same(journal.survivors(), &prefixes);
        journal.settle().unwrap_or_else(|why| panic!("{why}"));
        done(&journal, &Step::Sync);
        same(journal.survivors(), &[after(&[&a, &b])]);
    }

    #[test]
    fn of_what_runs_at_the_same_time_any_part_survives_in_any_order_with_all_that_is_durable() {
        let journal = Journal::new(&[empty()], Planted::Nothing);
        let durable = put(1, Durability::Durable);
        let beside = Step::Commit(vec![put_op("t", key(1), value(9, 9))], Durability::Buffered);
        journal.begin(&[durable.clone(), beside.clone()]);
        // The other way round the durable one is the last, as if it had been alone.
        let (first, second) = (after(&[&durable]), after(&[&durable, &beside]));
        same(journal.survivors(), &[after(&[]), first.clone(), second.clone()]);
        journal.end(1, Outcome::Answered(Answer::Done));
        journal.end(0, Outcome::Answered(Answer::Done));
        same(journal.survivors(), &[first.clone(), second.clone()]);
        same(journal.now(), &[first, second]);
    }

    #[test]
    fn an_answer_that_nothing_explains_is_wrong() {
        let journal = Journal::new(&[empty()], Planted::Nothing);
        let delete = Step::Delete("t", key(1));
        let put = put(1, Durability::Durable);
        journal.begin(std::slice::from_ref(&delete));
        journal.end(0, Outcome::Answered(Answer::Was(true)));
        assert!(journal.settle().is_err());
        // Beside a put, either answer has an order that explains it; behind it, one has.
        let journal = Journal::new(&[empty()], Planted::Nothing);
        journal.begin(&[put.clone(), delete.clone()]);
        journal.end(0, Outcome::Answered(Answer::Done));
        journal.end(1, Outcome::Answered(Answer::Was(true)));
        assert!(journal.settle().is_ok());
        same(journal.now(), &[after(&[])]);
        done(&journal, &put);
        journal.begin(std::slice::from_ref(&delete));
        journal.end(0, Outcome::Answered(Answer::Was(false)));
        assert!(journal.settle().is_err());
    }

    #[test]
    fn what_is_in_doubt_is_there_or_not_until_an_answer_tells() {
        let journal = Journal::new(&[empty()], Planted::Nothing);
        let put = put(1, Durability::Durable);
        journal.begin(std::slice::from_ref(&put));
        journal.end(0, Outcome::InDoubt);
        journal.settle().unwrap_or_else(|why| panic!("{why}"));
        same(journal.now(), &[after(&[]), after(&[&put])]);
        let delete = Step::Delete("t", key(1));
        journal.begin(std::slice::from_ref(&delete));
        journal.end(0, Outcome::Answered(Answer::Was(true)));
        journal.settle().unwrap_or_else(|why| panic!("{why}"));
        same(journal.survivors(), &[after(&[])]);
    }
}
