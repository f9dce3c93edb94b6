//! Walks through trees with anything between their steps: ranges that are read chunk by chunk, and cursors.

use std::collections::BTreeSet;
use std::ops::Bound;

use treering::{Cursor, Range};

use super::history::State;
use super::reads::tail;
use super::{Run, key};
use crate::base::Pair;
use crate::input::Input;

/// A range that is being read.
pub(super) struct Walk {
    range: Range,
    tree: u8,
    from: Vec<u8>,
    backward: bool,
    /// The history's state when it began.
    since: usize,
    /// The last key that came.
    last: Option<Vec<u8>>,
    /// Keys that were there at the beginning and have not come.
    waiting: BTreeSet<Vec<u8>>,
}

/// A cursor, and where it stands by the model.
pub(super) struct Standing {
    cursor: Cursor,
    tree: u8,
    at: At,
}

#[derive(Clone, PartialEq, Eq)]
enum At {
    Nowhere,
    On(Vec<u8>),
    BeforeFirst,
    BehindLast,
}

impl Run {
    pub(super) fn begin_walk(&mut self, input: &mut Input<'_>) {
        let (tree, from, backward) = (input.below(2) as u8, key(input), input.flag());
        let bounds = (Bound::Included(from.clone()), Bound::Unbounded);
        let range = self.up().trees[usize::from(tree)].range(bounds);
        let range = if backward { range.rev() } else { range };
        let there = tail(self.history.now(), tree, from.clone());
        let waiting = there.map(|(key, _)| key.clone()).collect();
        let since = self.history.count();
        let walk = Walk { range, tree, from, backward, since, last: None, waiting };
        if let Some(up) = &mut self.up {
            up.walk = Some(walk);
        }
    }

    /// Reads the next chunk of the walk that is under way. Keys that are there all along come exactly once,
    /// in order, and all others with what they have, or had since it began, or not at all.
    pub(super) fn go_on_walking(&mut self) {
        let Some(mut walk) = self.up.as_mut().and_then(|up| up.walk.take()) else { return };
        let end = self.run(async {
            let chunk = walk.range.next_chunk().await?;
            let owned = |(key, value): (&[u8], &[u8])| (key.to_vec(), value.to_vec());
            Ok(chunk.map(|chunk| chunk.iter().map(owned).collect::<Vec<Pair>>()))
        });
        let Some(chunk) = self.ended(end) else { return };
        let meanwhile = self.history.since(walk.since);
        let Some(chunk) = chunk else {
            let stayed = |key: &&Vec<u8>| {
                let place = (walk.tree, (*key).clone());
                meanwhile.iter().all(|state| state.contains_key(&place))
            };
            let missed = walk.waiting.iter().find(stayed);
            return assert!(missed.is_none(), "a walk has not come by {missed:?}");
        };
        for (key, value) in chunk {
            assert!(key >= walk.from, "a walk outside of its range");
            let passed = |last: &Vec<u8>| if walk.backward { *last > key } else { *last < key };
            assert!(walk.last.as_ref().is_none_or(passed), "a walk in order");
            let place = (walk.tree, key.clone());
            let was = meanwhile.iter().any(|state| state.get(&place) == Some(&value));
            assert!(was, "a walk found what never was there: {key:?}");
            walk.waiting.remove(&key);
            walk.last = Some(key);
        }
        if let Some(up) = &mut self.up {
            up.walk = Some(walk);
        }
    }

    /// One step of one of the cursors.
    pub(super) fn move_cursor(&mut self, input: &mut Input<'_>) {
        let (slot, step) = (input.below(2), input.byte() % 8);
        let Some(up) = &mut self.up else { return };
        let mut standing = match up.standing[slot].take() {
            Some(standing) if step != 7 => standing,
            _ => {
                let tree = input.below(2) as u8;
                let cursor = up.trees[usize::from(tree)].cursor();
                Standing { cursor, tree, at: At::Nowhere }
            }
        };
        let target = if matches!(step, 0 | 1) { key(input) } else { Vec::new() };
        let cursor = &mut standing.cursor;
        let end = self.run(async {
            let found = match step {
                0 => cursor.seek(&target).await?,
                1 => cursor.seek_for_prev(&target).await?,
                2 => cursor.first().await?,
                3 => cursor.last().await?,
                4 | 5 => cursor.next().await?,
                _ => cursor.prev().await?,
            };
            let entry = cursor.entry().map(|(key, value)| (key.to_vec(), value.to_vec()));
            assert_eq!(found, entry.is_some(), "a cursor stands where it has found something");
            Ok(entry)
        });
        let Some(entry) = self.ended(end) else { return };
        let expected = standing.expect(step, target, self.history.now());
        assert!(entry == expected, "a step of a cursor: {entry:?}, not {expected:?}");
        if let Some(up) = &mut self.up {
            up.standing[slot] = Some(standing);
        }
    }
}

impl Standing {
    /// Makes the step in the model: where it comes to stand.
    fn expect(&mut self, step: u8, target: Vec<u8>, now: &State) -> Option<Pair> {
        let next = matches!(step, 4 | 5);
        let (forward, from) = match (step, &self.at) {
            (0, _) => (true, Bound::Included(target)),
            (1, _) => (false, Bound::Included(target)),
            (2, _) => (true, Bound::Unbounded),
            (3, _) => (false, Bound::Unbounded),
            (_, At::BehindLast) if next => return None,
            (_, At::BeforeFirst) if !next => return None,
            (_, At::On(key)) => (next, Bound::Excluded(key.clone())),
            _ => (next, Bound::Unbounded),
        };
        let inside = |key: &[u8]| match &from {
            Bound::Unbounded => true,
            Bound::Included(from) if forward => key >= from.as_slice(),
            Bound::Included(from) => key <= from.as_slice(),
            Bound::Excluded(from) if forward => key > from.as_slice(),
            Bound::Excluded(from) => key < from.as_slice(),
        };
        let mut pairs = tail(now, self.tree, Vec::new()).filter(|(key, _)| inside(key));
        let found = if forward { pairs.next() } else { pairs.last() };
        self.at = match found {
            Some((key, _)) => At::On(key.clone()),
            None if forward => At::BehindLast,
            None => At::BeforeFirst,
        };
        found.map(|(key, value)| (key.clone(), value.clone()))
    }
}
