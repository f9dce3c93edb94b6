//! What the tasks write: a function of the seed, the cycle, the task, and the number of the operation,
//! and of nothing else. So the process that checks knows what the process that was killed was doing.
//!
//! Each task has keys of its own, between those of the others, in three trees. Every value has a stamp
//! that no other has, and is filled from it, so that a piece of one cannot pass for another.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::Durability;

/// Trees, and how a task's keys lie in them: beside those of others, together, and large values.
pub(crate) const TREES: [&str; 3] = ["between", "together", "large"];
const BETWEEN: usize = 0;
pub(crate) const TOGETHER: usize = 1;
const LARGE: usize = 2;

/// Keys of a task in each tree.
const KEYS: [u16; 3] = [24, 32, 2];

/// A key of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) tree: usize,
    pub(crate) index: u16,
}

/// A value: all its bytes follow from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) stamp: u64,
    pub(crate) len: usize,
}

/// What one operation does; together or not at all.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) durability: Durability,
    pub(crate) changes: Vec<Change>,
    /// The value goes in piece by piece.
    pub(crate) streamed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Put(Place, Value),
    Delete(Place),
    /// All keys of [`TOGETHER`] from one index up to another, exclusive. Alone in its operation.
    DeleteRange(u16, u16),
}

/// What a task has.
pub(crate) type State = BTreeMap<Place, Value>;

/// What makes one run of the program differ from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) cycle: u64,
}

impl Plan {
    /// Operation `number` of a task.
    pub(crate) fn operation(self, task: u16, number: u32) -> Operation {
        let mut rng =
            SmallRng::seed_from_u64(mix(&[self.seed, self.cycle, task.into(), number.into()]));
        let mut durability = match rng.random_range(0..8) {
            0 => Durability::Buffered,
            1 => Durability::None,
            _ => Durability::Durable,
        };
        let mut changes = Vec::new();
        let mut streamed = false;
        match rng.random_range(0..100) {
            0..50 => changes.push(self.put(&mut rng, BETWEEN, 8..400)),
            50..62 => changes.push(Change::Delete(place(&mut rng, BETWEEN))),
            62..82 => self.batch(&mut rng, &mut changes),
            82..86 => changes.push(self.put(&mut rng, LARGE, 5_000..20_000)),
            86..88 => {
                changes.push(self.put(&mut rng, LARGE, 5_000..100_000));
                streamed = true;
            }
            88..90 => changes.push(Change::Delete(place(&mut rng, LARGE))),
            90..93 => self.big_batch(&mut rng, &mut changes),
            93..96 => {
                // A range has no choice.
                durability = Durability::Durable;
                let (one, other) =
                    (place(&mut rng, TOGETHER).index, place(&mut rng, TOGETHER).index);
                changes.push(Change::DeleteRange(one.min(other), one.max(other) + 1));
            }
            _ => changes.push(self.put(&mut rng, TOGETHER, 8..2000)),
        }
        Operation { durability, changes, streamed }
    }

    /// Some puts and deletes across the trees; of a key the last counts.
    fn batch(self, rng: &mut SmallRng, changes: &mut Vec<Change>) {
        for _ in 0..rng.random_range(2..9) {
            let tree = if rng.random_ratio(1, 12) { LARGE } else { rng.random_range(0..2) };
            changes.push(match rng.random_range(0..3) {
                0 => Change::Delete(place(rng, tree)),
                _ if tree == LARGE => self.put(rng, tree, 5_000..10_000),
                _ => self.put(rng, tree, 8..300),
            });
        }
    }

    /// More than the log's buffer takes.
    fn big_batch(self, rng: &mut SmallRng, changes: &mut Vec<Change>) {
        for index in 0..KEYS[TOGETHER] {
            let place = Place { tree: TOGETHER, index };
            changes.push(match rng.random_ratio(1, 8) {
                true => Change::Delete(place),
                false => {
                    Change::Put(place, Value { stamp: rng.random(), len: rng.random_range(8..700) })
                }
            });
        }
        changes.push(self.put(rng, BETWEEN, 8..100));
    }

    fn put(self, rng: &mut SmallRng, tree: usize, len: std::ops::Range<usize>) -> Change {
        let (place, stamp) = (place(rng, tree), rng.random());
        Change::Put(place, Value { stamp, len: rng.random_range(len) })
    }
}

fn place(rng: &mut SmallRng, tree: usize) -> Place {
    Place { tree, index: rng.random_range(0..KEYS[tree]) }
}

impl Operation {
    pub(crate) fn apply(&self, state: &mut State) {
        for change in &self.changes {
            match *change {
                Change::Put(place, value) => drop(state.insert(place, value)),
                Change::Delete(place) => drop(state.remove(&place)),
                Change::DeleteRange(from, to) => {
                    state.retain(|at, _| at.tree != TOGETHER || !(from..to).contains(&at.index));
                }
            }
        }
    }
}

impl Place {
    pub(crate) fn key(self, task: u16) -> String {
        match self.tree {
            TOGETHER => format!("{task:05}/{:03}", self.index),
            _ => format!("{:03}/{task:05}", self.index),
        }
    }

    /// The place and task of a key.
    pub(crate) fn parse(tree: usize, key: &[u8]) -> Option<(Self, u16)> {
        let (first, second) = std::str::from_utf8(key).ok()?.split_once('/')?;
        let (index, task) = if tree == TOGETHER { (second, first) } else { (first, second) };
        Some((Self { tree, index: index.parse().ok()? }, task.parse().ok()?))
    }
}

impl Value {
    pub(crate) fn bytes(self) -> Vec<u8> {
        let words = (0..self.len.div_ceil(8) as u64).map(|at| self.word(at).to_le_bytes());
        let mut bytes: Vec<u8> = words.flatten().collect();
        bytes.truncate(self.len);
        bytes
    }

    fn word(self, at: u64) -> u64 {
        match at {
            0 => self.stamp,
            _ => {
                (self.stamp ^ self.len as u64).wrapping_add(at).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            }
        }
    }

    /// The value that these bytes are, if they are one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let stamp = u64::from_le_bytes(*bytes.first_chunk()?);
        let value = Self { stamp, len: bytes.len() };
        (value.bytes() == bytes).then_some(value)
    }
}

fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |sum: u64, part| {
        let mut word = (sum ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word ^ (word >> 27)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_repeat_and_differ_from_each_other() {
        let (one, other) = (Plan { seed: 1, cycle: 2 }, Plan { seed: 1, cycle: 3 });
        let shown = |plan: Plan, number| format!("{:?}", plan.operation(7, number));
        assert_eq!(shown(one, 5), shown(one, 5));
        assert_ne!(shown(one, 5), shown(one, 6));
        assert_ne!(shown(one, 5), shown(other, 5));
    }

    #[test]
    fn bytes_of_two_values_are_none() {
        let (one, other) = (Value { stamp: 3, len: 100 }, Value { stamp: 4, len: 100 });
        assert_eq!(Value::parse(&one.bytes()), Some(one));
        let mixed = [&one.bytes()[..64], &other.bytes()[64..]].concat();
        assert_eq!(Value::parse(&mixed), None);
        assert_eq!(Value::parse(&one.bytes()[..99]), None);
    }

    #[test]
    fn keys_survive() {
        for tree in 0..TREES.len() {
            let place = Place { tree, index: 7 };
            assert_eq!(Place::parse(tree, place.key(255).as_bytes()), Some((place, 255)));
        }
    }
}
