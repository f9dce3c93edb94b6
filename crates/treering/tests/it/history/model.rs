//! The map that a linearizable tree behaves like: small keys to unique numbers.

use std::collections::BTreeMap;

/// A key by its number.
pub(crate) type Key = u16;
/// A value by its number. Each write has a number of its own, so that whoever reads it says which
/// write it has seen.
pub(crate) type Number = u32;

/// One step of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Put(Number),
    Insert(Number),
    Update(Number),
    Delete,
    RequireAbsent,
    RequirePresent,
    RequireValue(Number),
}

/// An operation of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Get(Key),
    Put(Key, Number),
    Replace(Key, Number),
    Insert(Key, Number),
    Update(Key, Number),
    Delete(Key),
    Take(Key),
    Swap(Key, Option<Number>, Option<Number>),
    GetOrInsert(Key, Number),
    Batch(Vec<(Key, Step)>),
}

/// What an operation is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done, and says nothing more.
    Done,
    /// What is, or was, there.
    Value(Option<Number>),
    /// Whether a key was there.
    Existed(bool),
    /// An insert found this value.
    Exists(Number),
    /// An update found nothing.
    Missing,
    /// A swap found this instead.
    Differs(Option<Number>),
    /// The value that is there now, and whether it is new.
    Kept(Number, bool),
    /// The condition of this step of a batch did not hold.
    Violated(usize),
}

/// What the keys hold.
pub(crate) type State = BTreeMap<Key, Number>;

impl Op {
    /// The keys that it concerns.
    pub(crate) fn keys(&self) -> Vec<Key> {
        match self {
            Op::Get(key)
            | Op::Put(key, _)
            | Op::Replace(key, _)
            | Op::Insert(key, _)
            | Op::Update(key, _)
            | Op::Delete(key)
            | Op::Take(key)
            | Op::Swap(key, ..)
            | Op::GetOrInsert(key, _) => vec![*key],
            Op::Batch(steps) => steps.iter().map(|(key, _)| *key).collect(),
        }
    }

    /// Whether it has changed nothing, whatever was there, if this was its answer.
    pub(crate) fn only_read(&self, answer: Answer) -> bool {
        match answer {
            Answer::Done => false,
            Answer::Value(there) => match self {
                Op::Take(_) => there.is_none(),
                op => matches!(op, Op::Get(_)),
            },
            Answer::Existed(existed) => !existed,
            Answer::Kept(_, is_new) => !is_new,
            Answer::Exists(_) | Answer::Missing | Answer::Differs(_) | Answer::Violated(_) => true,
        }
    }

    /// Applies it to the state; the answer.
    pub(crate) fn apply(&self, state: &mut State) -> Answer {
        match self {
            Op::Get(key) => Answer::Value(state.get(key).copied()),
            Op::Put(key, new) => {
                state.insert(*key, *new);
                Answer::Done
            }
            Op::Replace(key, new) => Answer::Value(state.insert(*key, *new)),
            Op::Insert(key, new) => match state.get(key) {
                Some(there) => Answer::Exists(*there),
                None => {
                    state.insert(*key, *new);
                    Answer::Done
                }
            },
            Op::Update(key, new) => match state.get_mut(key) {
                Some(there) => {
                    *there = *new;
                    Answer::Done
                }
                None => Answer::Missing,
            },
            Op::Delete(key) => Answer::Existed(state.remove(key).is_some()),
            Op::Take(key) => Answer::Value(state.remove(key)),
            Op::Swap(key, expected, new) => {
                let there = state.get(key).copied();
                if there != *expected {
                    return Answer::Differs(there);
                }
                set(state, *key, *new);
                Answer::Done
            }
            Op::GetOrInsert(key, new) => match state.get(key) {
                Some(there) => Answer::Kept(*there, false),
                None => {
                    state.insert(*key, *new);
                    Answer::Kept(*new, true)
                }
            },
            Op::Batch(steps) => apply_batch(steps, state),
        }
    }
}

fn set(state: &mut State, key: Key, value: Option<Number>) {
    match value {
        Some(value) => drop(state.insert(key, value)),
        None => drop(state.remove(&key)),
    }
}

/// All steps or none; each sees what those before it did.
fn apply_batch(steps: &[(Key, Step)], state: &mut State) -> Answer {
    let mut after = state.clone();
    for (index, (key, step)) in steps.iter().enumerate() {
        let there = after.get(key).copied();
        let holds = match step {
            Step::Put(_) | Step::Delete => true,
            Step::Insert(_) | Step::RequireAbsent => there.is_none(),
            Step::Update(_) | Step::RequirePresent => there.is_some(),
            Step::RequireValue(value) => there == Some(*value),
        };
        if !holds {
            return Answer::Violated(index);
        }
        match step {
            Step::Put(new) | Step::Insert(new) | Step::Update(new) => {
                set(&mut after, *key, Some(*new));
            }
            Step::Delete => set(&mut after, *key, None),
            Step::RequireAbsent | Step::RequirePresent | Step::RequireValue(_) => {}
        }
    }
    *state = after;
    Answer::Done
}
