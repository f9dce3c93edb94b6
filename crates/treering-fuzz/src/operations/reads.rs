//! Reads: single keys, many keys, parts of values, whole ranges.

use std::ops::Bound;

use treering::{Error, Tree};

use super::history::{Place, State};
use super::{Run, key};
use crate::base::Pair;
use crate::input::Input;

impl Run {
    pub(super) fn read(&mut self, input: &mut Input<'_>) {
        let (tree, key) = (input.below(2) as u8, key(input));
        let end = self.run(self.up().trees[usize::from(tree)].get(&key).into_future());
        if let Some(found) = self.ended(end) {
            let expected = self.history.now().get(&(tree, key));
            assert_eq!(found.as_deref(), expected.map(Vec::as_slice), "a read");
        }
    }

    pub(super) fn read_many(&mut self, input: &mut Input<'_>) {
        let tree = input.below(2) as u8;
        let keys: Vec<Vec<u8>> = (0..1 + input.below(12)).map(|_| key(input)).collect();
        let end = self.run(self.up().trees[usize::from(tree)].get_many(&keys));
        if let Some(found) = self.ended(end) {
            let now = self.history.now();
            let expected = keys.into_iter().map(|key| now.get(&(tree, key)).map(Vec::as_slice));
            assert!(found.iter().map(Option::as_deref).eq(expected), "a read of many keys");
        }
    }

    /// The length of a value, and a part of it.
    pub(super) fn read_parts(&mut self, input: &mut Input<'_>) {
        let (tree, key) = (input.below(2) as u8, key(input));
        let (from, to) = (u64::from(input.u16() % 8000), u64::from(input.u16() % 8000));
        let handle = &self.up().trees[usize::from(tree)];
        let end = self.run(async {
            Ok((handle.value_len(&key).await?, handle.get_range(&key, from..to).await?))
        });
        if let Some((len, part)) = self.ended(end) {
            let value = self.history.now().get(&(tree, key));
            assert_eq!(len, value.map(|value| value.len() as u64), "the length of a value");
            let expected = value.map(|value| {
                let to = value.len().min(to as usize);
                &value[to.min(from as usize)..to]
            });
            assert_eq!(part.as_deref(), expected, "a part of a value");
        }
    }

    pub(super) fn scan(&mut self, input: &mut Input<'_>) {
        let (tree, from, backward) = (input.below(2) as u8, key(input), input.flag());
        let handle = self.up().trees[usize::from(tree)].clone();
        let end = self.run(pairs(&handle, &from, backward));
        if let Some(mut pairs) = self.ended(end) {
            if backward {
                pairs.reverse();
            }
            let part = tail(self.history.now(), tree, from);
            assert!(part.eq(pairs.iter().map(|(key, value)| (key, value))), "a scan");
        }
    }
}

/// All keys of a tree from one on.
pub(super) fn tail(
    state: &State,
    tree: u8,
    from: Vec<u8>,
) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
    let bounds = (Bound::<Place>::Included((tree, from)), Bound::Excluded((tree + 1, Vec::new())));
    state.range(bounds).map(|((_, key), value)| (key, value))
}

/// All pairs of a tree from a key on, or in the other direction down to it.
pub(super) async fn pairs(tree: &Tree, from: &[u8], backward: bool) -> Result<Vec<Pair>, Error> {
    let range = tree.range((Bound::Included(from), Bound::Unbounded));
    let mut range = if backward { range.rev() } else { range };
    let mut pairs = Vec::new();
    while let Some(chunk) = range.next_chunk().await? {
        pairs.extend(chunk.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
    Ok(pairs)
}
