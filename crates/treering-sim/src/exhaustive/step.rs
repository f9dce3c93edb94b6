//! The operations that workloads are made of: what each does to the model, and what it must answer.
//! How a database is asked to do them is in `perform`.

use std::collections::BTreeMap;

use treering::{Durability, ErrorKind};
use treering_txn::OpKind;

use super::model::{Contents, State};

/// One operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// The tree, by name.
    pub tree: &'static str,
    /// What it does.
    pub kind: OpKind,
    /// The key.
    pub key: Vec<u8>,
    /// The value, where there is one.
    pub value: Vec<u8>,
}

/// Something that a workload asks of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A batch.
    Commit(Vec<Op>, Durability),
    /// The delete of one key, which says whether it was there.
    Delete(&'static str, Vec<u8>),
    /// All keys from the first to before the second.
    DeleteRange(&'static str, Vec<u8>, Vec<u8>),
    /// A value that is written piece by piece.
    Stream(&'static str, Vec<u8>, Vec<u8>),
    /// A bulk load of an empty tree.
    Load(&'static str, BTreeMap<Vec<u8>, Vec<u8>>),
    /// A duplicate is added.
    InsertDuplicate(&'static str, Vec<u8>, Vec<u8>),
    /// The first duplicate that has this value goes.
    DeleteDuplicate(&'static str, Vec<u8>, Vec<u8>),
    /// A tree is made.
    CreateTree(&'static str),
    /// A tree with duplicates is made.
    CreateMultiTree(&'static str),
    /// A tree is dropped.
    DropTree(&'static str),
    /// A tree gets another name.
    RenameTree(&'static str, &'static str),
    /// Everything so far is made durable.
    Sync,
    /// A checkpoint.
    Checkpoint,
    /// Underfull pages are merged.
    Tidy,
    /// The file is made as short as it gets.
    Compact,
    /// The database is copied.
    Backup,
    /// The database is closed, and opened again.
    Reopen,
    /// The database is closed. The last step there can be.
    Close,
}

/// What the database says when a step has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It is done; whether something was there.
    Was(bool),
    /// It was refused, for what the database holds.
    Refused(ErrorKind, Option<usize>),
}

const NO_SUCH_TREE: Answer = Answer::Refused(ErrorKind::NoSuchTree, None);

impl Step {
    /// Whether its acknowledgement says that it is durable, and everything acknowledged before it.
    pub fn settles(&self) -> bool {
        match self {
            Step::Commit(_, durability) => *durability == Durability::Durable,
            // Nothing is promised of these.
            Step::Tidy | Step::Compact => false,
            _ => true,
        }
    }

    /// Does it to the model.
    pub fn apply(&self, state: &mut State) -> Answer {
        match self {
            Step::Commit(ops, _) => commit(state, ops),
            Step::Delete(tree, key) => match state.get_mut(*tree) {
                Some(Contents::Unique(pairs)) => Answer::Was(pairs.remove(key).is_some()),
                _ => NO_SUCH_TREE,
            },
            Step::DeleteRange(tree, from, to) => change(state, tree, |pairs| {
                pairs.retain(|key, _| key < from || key >= to);
            }),
            Step::Stream(tree, key, value) => change(state, tree, |pairs| {
                pairs.insert(key.clone(), value.clone());
            }),
            Step::Load(tree, load) => change(state, tree, |pairs| {
                pairs.extend(load.iter().map(|(key, value)| (key.clone(), value.clone())));
            }),
            Step::InsertDuplicate(tree, key, value) => match state.get_mut(*tree) {
                Some(Contents::Duplicates(keys)) => {
                    keys.entry(key.clone()).or_default().push(value.clone());
                    Answer::Done
                }
                _ => NO_SUCH_TREE,
            },
            Step::DeleteDuplicate(tree, key, value) => delete_duplicate(state, tree, key, value),
            Step::CreateTree(name) => {
                let empty = || Contents::Unique(BTreeMap::new());
                state.entry((*name).to_owned()).or_insert_with(empty);
                Answer::Done
            }
            Step::CreateMultiTree(name) => {
                let empty = || Contents::Duplicates(BTreeMap::new());
                state.entry((*name).to_owned()).or_insert_with(empty);
                Answer::Done
            }
            Step::DropTree(name) => match state.remove(*name) {
                Some(_) => Answer::Done,
                None => NO_SUCH_TREE,
            },
            Step::RenameTree(old, new) => rename(state, old, new),
            Step::Sync
            | Step::Checkpoint
            | Step::Tidy
            | Step::Compact
            | Step::Backup
            | Step::Reopen
            | Step::Close => Answer::Done,
        }
    }
}

fn change(
    state: &mut State,
    tree: &str,
    how: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>),
) -> Answer {
    match state.get_mut(tree) {
        Some(Contents::Unique(pairs)) => {
            how(pairs);
            Answer::Done
        }
        _ => NO_SUCH_TREE,
    }
}

/// All or nothing; each operation sees those before it.
fn commit(state: &mut State, ops: &[Op]) -> Answer {
    let mut changed = state.clone();
    let missing = |op: &Op| !matches!(state.get(op.tree), Some(Contents::Unique(_)));
    if ops.iter().any(missing) {
        return NO_SUCH_TREE;
    }
    for (number, op) in ops.iter().enumerate() {
        let Some(Contents::Unique(pairs)) = changed.get_mut(op.tree) else { return NO_SUCH_TREE };
        let there = pairs.get(&op.key);
        let refused = match op.kind {
            OpKind::Insert | OpKind::RequireAbsent if there.is_some() => Some(ErrorKind::KeyExists),
            OpKind::Update | OpKind::RequirePresent | OpKind::RequireValue if there.is_none() => {
                Some(ErrorKind::KeyMissing)
            }
            OpKind::RequireValue if there != Some(&op.value) => Some(ErrorKind::ValueDiffers),
            _ => None,
        };
        if let Some(kind) = refused {
            return Answer::Refused(kind, Some(number));
        }
        match op.kind {
            OpKind::Put | OpKind::Insert | OpKind::Update => {
                pairs.insert(op.key.clone(), op.value.clone());
            }
            OpKind::Delete => {
                pairs.remove(&op.key);
            }
            _ => {}
        }
    }
    *state = changed;
    Answer::Done
}

fn delete_duplicate(state: &mut State, tree: &str, key: &[u8], value: &[u8]) -> Answer {
    let Some(Contents::Duplicates(keys)) = state.get_mut(tree) else { return NO_SUCH_TREE };
    let Some(values) = keys.get_mut(key) else { return Answer::Was(false) };
    let Some(at) = values.iter().position(|there| there == value) else {
        return Answer::Was(false);
    };
    values.remove(at);
    if values.is_empty() {
        keys.remove(key);
    }
    Answer::Was(true)
}

fn rename(state: &mut State, old: &str, new: &str) -> Answer {
    if !state.contains_key(old) {
        return NO_SUCH_TREE;
    }
    if state.contains_key(new) {
        return Answer::Refused(ErrorKind::InvalidInput, None);
    }
    if let Some(contents) = state.remove(old) {
        state.insert(new.to_owned(), contents);
    }
    Answer::Done
}
