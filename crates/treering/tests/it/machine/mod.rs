//! The map that a tree is compared with, as a state machine: what may be done next, what it makes of
//! the map, and what it answers.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;
use treering::ErrorKind;

const KEYS: u16 = 240;

/// Keys of very different lengths, so that separators are, too.
pub(crate) fn key(number: u16) -> Vec<u8> {
    let mut key = format!("{number:03}").into_bytes();
    key.extend(std::iter::repeat_n(b'-', number as usize % 7 * 14));
    key
}

pub(crate) fn value(number: u8) -> Vec<u8> {
    vec![number; number as usize % 80]
}

/// One step of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Put(u8),
    Insert(u8),
    Update(u8),
    Delete,
    RequireAbsent,
    RequirePresent,
    /// That the key has the value that it has, or this one.
    RequireValue(Option<u8>),
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Get(u16),
    Put(u16, u8),
    Insert(u16, u8),
    Update(u16, u8),
    Replace(u16, u8),
    Delete(u16),
    Take(u16),
    /// Expecting what is there, or something else.
    Swap(u16, bool, Option<u8>),
    GetOrInsert(u16, u8),
    Batch(Vec<(u16, Part)>),
    Fill(u16, u16, u8),
    Clear(u16, u16),
    Range(Bound<u16>, Bound<u16>, bool),
    Prefix(u16, bool),
    Seek(u16),
    SeekForPrev(u16),
    First,
    Last,
    Next,
    Prev,
    Checkpoint,
    Tidy,
    Compact,
    Verify,
    Close,
    Drop,
}

pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// What a step is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Done,
    Flag(bool),
    Value(Option<Vec<u8>>),
    Differs(Option<Vec<u8>>),
    Kept(Vec<u8>, bool),
    Failed(ErrorKind, usize, Option<Vec<u8>>),
    Pairs(Vec<Pair>),
    Stands(bool, Option<Pair>),
}

#[derive(Clone, Debug, Default)]
pub(crate) enum Stand {
    #[default]
    Nowhere,
    On(Pair),
    BeforeFirst,
    BehindLast,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) map: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) stand: Stand,
    /// What the last step was answered.
    pub(crate) answer: Answer,
}

impl Model {
    fn run(&mut self, step: &Step) -> Answer {
        let map = &mut self.map;
        match step {
            Step::Get(number) => Answer::Value(map.get(&key(*number)).cloned()),
            Step::Put(number, new) => {
                map.insert(key(*number), value(*new));
                Answer::Done
            }
            Step::Insert(..) | Step::Update(..) => {
                let (number, part) = match step {
                    Step::Insert(number, new) => (*number, Part::Insert(*new)),
                    Step::Update(number, new) => (*number, Part::Update(*new)),
                    _ => unreachable!(),
                };
                run_batch(map, &[(number, part)])
            }
            Step::Replace(number, new) => Answer::Value(map.insert(key(*number), value(*new))),
            Step::Delete(number) => Answer::Flag(map.remove(&key(*number)).is_some()),
            Step::Take(number) => Answer::Value(map.remove(&key(*number))),
            Step::Swap(number, right, new) => {
                let there = map.get(&key(*number)).cloned();
                if !right {
                    return Answer::Differs(there);
                }
                match new {
                    Some(new) => drop(map.insert(key(*number), value(*new))),
                    None => drop(map.remove(&key(*number))),
                }
                Answer::Done
            }
            Step::GetOrInsert(number, new) => {
                let is_new = !map.contains_key(&key(*number));
                let kept = map.entry(key(*number)).or_insert_with(|| value(*new));
                Answer::Kept(kept.clone(), is_new)
            }
            Step::Batch(parts) => run_batch(map, parts),
            Step::Fill(from, count, new) => {
                map.extend(stretch(*from, *count).map(|number| (key(number), value(*new))));
                Answer::Done
            }
            Step::Clear(from, count) => {
                stretch(*from, *count).for_each(|number| drop(map.remove(&key(number))));
                Answer::Done
            }
            Step::Range(start, end, backward) => {
                let (start, end) = (start.map(key), end.map(key));
                let above = |key: &Vec<u8>| match &start {
                    Bound::Included(start) => key >= start,
                    Bound::Excluded(start) => key > start,
                    Bound::Unbounded => true,
                };
                let below = |key: &Vec<u8>| match &end {
                    Bound::Included(end) => key <= end,
                    Bound::Excluded(end) => key < end,
                    Bound::Unbounded => true,
                };
                pairs(map.iter().filter(|(key, _)| above(key) && below(key)), *backward)
            }
            Step::Prefix(number, backward) => {
                let prefix = prefix(*number);
                pairs(map.iter().filter(|(key, _)| key.starts_with(&prefix)), *backward)
            }
            Step::Seek(_)
            | Step::SeekForPrev(_)
            | Step::First
            | Step::Last
            | Step::Next
            | Step::Prev => self.walk(step),
            Step::Checkpoint | Step::Tidy | Step::Compact | Step::Verify => Answer::Done,
            Step::Close | Step::Drop => {
                self.stand = Stand::Nowhere;
                Answer::Done
            }
        }
    }

    fn walk(&mut self, step: &Step) -> Answer {
        use Bound::{Excluded, Included, Unbounded};
        let (forward, bound) = match (step, &self.stand) {
            (Step::Seek(number), _) => (true, Included(key(*number))),
            (Step::SeekForPrev(number), _) => (false, Included(key(*number))),
            (Step::First, _) => (true, Unbounded),
            (Step::Last, _) => (false, Unbounded),
            (Step::Next, Stand::On((key, _))) => (true, Excluded(key.clone())),
            (Step::Prev, Stand::On((key, _))) => (false, Excluded(key.clone())),
            (Step::Next, Stand::BehindLast) | (Step::Prev, Stand::BeforeFirst) => {
                return Answer::Stands(false, None);
            }
            (Step::Next, _) => (true, Unbounded),
            _ => (false, Unbounded),
        };
        let found = match forward {
            true => self.map.range((bound, Unbounded)).next(),
            false => self.map.range((Unbounded, bound)).next_back(),
        };
        let found = found.map(|(key, value)| (key.clone(), value.clone()));
        self.stand = match (&found, forward) {
            (Some(pair), _) => Stand::On(pair.clone()),
            (None, true) => Stand::BehindLast,
            (None, false) => Stand::BeforeFirst,
        };
        Answer::Stands(found.is_some(), found)
    }
}

pub(crate) fn stretch(from: u16, count: u16) -> impl Iterator<Item = u16> {
    from..KEYS.min(from + count)
}

pub(crate) fn prefix(number: u16) -> Vec<u8> {
    format!("{:02}", number / 10).into_bytes()
}

fn pairs<'a>(
    pairs: impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    backward: bool,
) -> Answer {
    let mut pairs: Vec<Pair> = pairs.map(|(key, value)| (key.clone(), value.clone())).collect();
    if backward {
        pairs.reverse();
    }
    Answer::Pairs(pairs)
}

/// What [`Part::RequireValue`] asks for.
fn required(map: &BTreeMap<Vec<u8>, Vec<u8>>, number: u16, other: Option<u8>) -> Vec<u8> {
    let there = || map.get(&key(number)).cloned().unwrap_or_default();
    other.map_or_else(there, value)
}

fn run_batch(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, parts: &[(u16, Part)]) -> Answer {
    let mut after = map.clone();
    for (index, (number, part)) in parts.iter().enumerate() {
        let there = after.get(&key(*number)).cloned();
        let violated = match part {
            Part::Insert(_) | Part::RequireAbsent if there.is_some() => Some(ErrorKind::KeyExists),
            Part::Update(_) | Part::RequirePresent | Part::RequireValue(_) if there.is_none() => {
                Some(ErrorKind::KeyMissing)
            }
            Part::RequireValue(other)
                if there.as_ref() != Some(&required(map, *number, *other)) =>
            {
                Some(ErrorKind::ValueDiffers)
            }
            _ => None,
        };
        if let Some(kind) = violated {
            return Answer::Failed(kind, index, there);
        }
        match part {
            Part::Put(new) | Part::Insert(new) | Part::Update(new) => {
                after.insert(key(*number), value(*new));
            }
            Part::Delete => drop(after.remove(&key(*number))),
            Part::RequireAbsent | Part::RequirePresent | Part::RequireValue(_) => {}
        }
    }
    *map = after;
    Answer::Done
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self { map: BTreeMap::new(), stand: Stand::Nowhere, answer: Answer::Done }).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let number = || 0..KEYS;
        let new = any::<u8>;
        let end = || {
            prop_oneof![
                number().prop_map(Bound::Included),
                number().prop_map(Bound::Excluded),
                Just(Bound::Unbounded),
            ]
        };
        let part = prop_oneof![
            3 => new().prop_map(Part::Put),
            1 => new().prop_map(Part::Insert),
            1 => new().prop_map(Part::Update),
            3 => Just(Part::Delete),
            1 => Just(Part::RequireAbsent),
            1 => Just(Part::RequirePresent),
            1 => proptest::option::weighted(0.3, new()).prop_map(Part::RequireValue),
        ];
        let writes = prop_oneof![
            (number(), new()).prop_map(|(key, new)| Step::Put(key, new)),
            (number(), new()).prop_map(|(key, new)| Step::Insert(key, new)),
            (number(), new()).prop_map(|(key, new)| Step::Update(key, new)),
            (number(), new()).prop_map(|(key, new)| Step::Replace(key, new)),
            number().prop_map(Step::Delete),
            number().prop_map(Step::Take),
            (number(), any::<bool>(), proptest::option::of(new()))
                .prop_map(|(key, right, new)| Step::Swap(key, right, new)),
            (number(), new()).prop_map(|(key, new)| Step::GetOrInsert(key, new)),
        ];
        let reads = prop_oneof![
            number().prop_map(Step::Get),
            (end(), end(), any::<bool>()).prop_map(|(a, b, rev)| Step::Range(a, b, rev)),
            (number(), any::<bool>()).prop_map(|(number, rev)| Step::Prefix(number, rev)),
        ];
        let steps = prop_oneof![
            1 => number().prop_map(Step::Seek),
            1 => number().prop_map(Step::SeekForPrev),
            1 => Just(Step::First),
            1 => Just(Step::Last),
            4 => Just(Step::Next),
            4 => Just(Step::Prev),
        ];
        let lives = prop_oneof![
            4 => Just(Step::Checkpoint),
            4 => Just(Step::Tidy),
            2 => Just(Step::Compact),
            4 => Just(Step::Verify),
            1 => Just(Step::Close),
            1 => Just(Step::Drop),
        ];
        prop_oneof![
            8 => writes,
            4 => reads,
            5 => steps,
            3 => proptest::collection::vec((number(), part), 2..6).prop_map(Step::Batch),
            3 => (number(), 20..120u16, new()).prop_map(|(a, n, new)| Step::Fill(a, n, new)),
            4 => (number(), 20..120u16).prop_map(|(from, count)| Step::Clear(from, count)),
            2 => lives,
        ]
        .boxed()
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        state.answer = state.run(step);
        state
    }
}
