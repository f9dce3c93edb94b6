//! The checker: Wing and Gong (1993), with Lowe's memory of where the search has been (2017).
//!
//! A depth-first search for an order. At each point the calls that may come next are those that
//! began before the first return of any call that is still to be placed. One is placed, if the map
//! then answers as it was answered; where none fits, the last one placed is taken back. A set of
//! placed calls together with the state that they led to is never explored twice.
//!
//! Three things keep the search short, and none changes its result:
//! * Keys that no operation touches together are checked on their own: linearizability is local.
//! * A call whose answer says that it has changed nothing is placed as soon as it fits, without an
//!   alternative: whatever order there is otherwise, there is one with it here. (Not so one that
//!   merely would change nothing just here: elsewhere it may have to.)
//! * A call that nobody waited for may have had its effect at any time after it began, or never. It
//!   is tried when nothing else fits, and left out when it would have no effect. And where the search
//!   has been with some of them placed, it need not go with more of them placed.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::model::{Answer, Key, Op, State};

/// One operation of a history.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) client: usize,
    pub(crate) op: Op,
    /// Moments: one counter for all clients, drawn before the call and after the return.
    pub(crate) began: u64,
    /// When it returned and what, if anybody waited for that.
    pub(crate) ended: Option<(u64, Answer)>,
}

/// Why a history was not accepted.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// No order explains it.
    Impossible(String),
    /// The search was given up.
    Undecided(String),
}

/// Looks for an order of `calls`, on keys that hold `start` at first.
pub(crate) fn check(start: &State, calls: &[Call]) -> Result<(), Verdict> {
    for part in partition(calls) {
        let keys: HashSet<Key> = part.iter().flat_map(|call| call.op.keys()).collect();
        let start = start.iter().filter(|(key, _)| keys.contains(key));
        let start: State = start.map(|(key, value)| (*key, *value)).collect();
        Search::new(part).run(start)?;
    }
    Ok(())
}

/// The calls by what hangs together: keys that some operation touches together.
fn partition(calls: &[Call]) -> Vec<Vec<Call>> {
    let mut root_of: BTreeMap<Key, Key> = BTreeMap::new();
    fn root(root_of: &mut BTreeMap<Key, Key>, key: Key) -> Key {
        let above = *root_of.entry(key).or_insert(key);
        if above == key { key } else { root(root_of, above) }
    }
    for call in calls {
        let keys = call.op.keys();
        for pair in keys.windows(2) {
            let (a, b) = (root(&mut root_of, pair[0]), root(&mut root_of, pair[1]));
            root_of.insert(a, b);
        }
    }
    let mut parts: BTreeMap<Key, Vec<Call>> = BTreeMap::new();
    for call in calls {
        let root = root(&mut root_of, call.op.keys()[0]);
        parts.entry(root).or_default().push(call.clone());
    }
    let mut parts: Vec<_> = parts.into_values().collect();
    parts.iter_mut().for_each(|part| part.sort_by_key(|call| call.began));
    parts
}

/// Which calls have been placed.
type Placed = Vec<u64>;

struct Search {
    /// By the moment at which they began.
    calls: Vec<Call>,
    /// By the placed calls that were answered, and the state: the sets of others placed beside.
    been: HashMap<(Placed, State), Vec<Placed>>,
    placed: Placed,
    /// The calls that were answered.
    answered: Placed,
    /// How many calls with an answer have not been placed.
    left: usize,
    /// The most that were ever placed, and where the search was stuck then.
    furthest: (usize, String),
}

/// A point of the search at which there was a choice.
struct Point {
    state: State,
    /// Calls that were placed without a choice, and then the chosen one.
    took: Vec<usize>,
    /// Calls still to be tried here instead of it.
    others: Vec<usize>,
}

/// More points than any of these histories needs, by far.
const POINTS_MAX: usize = 3_000_000;

impl Search {
    fn new(calls: Vec<Call>) -> Self {
        let placed = vec![0; calls.len().div_ceil(64)];
        let mut answered = placed.clone();
        for (index, _) in calls.iter().enumerate().filter(|(_, call)| call.ended.is_some()) {
            answered[index / 64] |= 1 << (index % 64);
        }
        let left = calls.iter().filter(|call| call.ended.is_some()).count();
        let been = HashMap::new();
        Self { calls, been, placed, answered, left, furthest: (0, String::new()) }
    }

    fn run(mut self, start: State) -> Result<(), Verdict> {
        let mut points: Vec<Point> = Vec::new();
        let mut state = start;
        for _ in 0..POINTS_MAX {
            let mut took = self.place_idle(&state);
            if self.left == 0 {
                return Ok(());
            }
            let mut others = if self.is_new(&state) { self.candidates(&state) } else { Vec::new() };
            if others.is_empty() {
                self.note_stuck(&state);
            }
            // Back to the last point where there is another choice.
            let mut here = std::mem::take(&mut state);
            while others.is_empty() {
                took.iter().for_each(|&index| self.take_back(index));
                let Some(point) = points.pop() else {
                    return Err(Verdict::Impossible(self.furthest.1));
                };
                (here, took, others) = (point.state, point.took, point.others);
                if let Some(chosen) = took.pop() {
                    self.take_back(chosen);
                }
            }
            let Some(chosen) = others.pop() else { continue };
            self.place(chosen);
            took.push(chosen);
            state = here.clone();
            self.calls[chosen].op.apply(&mut state);
            points.push(Point { state: here, took, others });
        }
        Err(Verdict::Undecided(self.furthest.1))
    }

    /// Whether the search has not been here yet, with no more calls placed than now.
    fn is_new(&mut self, state: &State) -> bool {
        let both = self.placed.iter().zip(&self.answered);
        let answered: Placed = both.clone().map(|(placed, mask)| placed & mask).collect();
        let others: Placed = both.map(|(placed, mask)| placed & !mask).collect();
        let known = self.been.entry((answered, state.clone())).or_default();
        let within = |set: &Placed| set.iter().zip(&others).all(|(a, b)| a & !b == 0);
        if known.iter().any(within) {
            return false;
        }
        known.push(others);
        true
    }

    fn is_placed(&self, index: usize) -> bool {
        self.placed[index / 64] >> (index % 64) & 1 == 1
    }

    fn place(&mut self, index: usize) {
        self.placed[index / 64] |= 1 << (index % 64);
        self.left -= usize::from(self.calls[index].ended.is_some());
    }

    fn take_back(&mut self, index: usize) {
        self.placed[index / 64] &= !(1 << (index % 64));
        self.left += usize::from(self.calls[index].ended.is_some());
    }

    /// The calls that may come next: begun before any call that is not placed returned.
    fn next(&self) -> Vec<usize> {
        let mut first_return = u64::MAX;
        let mut next = Vec::new();
        for (index, call) in self.calls.iter().enumerate() {
            if call.began > first_return {
                break;
            }
            if !self.is_placed(index) {
                next.push(index);
                first_return = first_return.min(call.ended.map_or(u64::MAX, |(ended, _)| ended));
            }
        }
        next.retain(|&index| self.calls[index].began < first_return);
        next
    }

    /// Places all calls that fit and, by their answers, change nothing.
    fn place_idle(&mut self, state: &State) -> Vec<usize> {
        let mut took = Vec::new();
        loop {
            let before = took.len();
            for index in self.next() {
                let call = &self.calls[index];
                let Some((_, answer)) = call.ended else { continue };
                if call.op.only_read(answer) && call.op.apply(&mut state.clone()) == answer {
                    self.place(index);
                    took.push(index);
                }
            }
            if took.len() == before {
                return took;
            }
        }
    }

    /// The calls that fit next, in the order in which to try them from the last to the first.
    fn candidates(&self, state: &State) -> Vec<usize> {
        let mut fit: Vec<usize> = self.next();
        fit.retain(|&index| {
            let call = &self.calls[index];
            let mut after = state.clone();
            let answer = call.op.apply(&mut after);
            match call.ended {
                Some((_, answered)) => answer == answered,
                None => after != *state,
            }
        });
        // Those that returned first are tried first, those that nobody waited for last.
        let ended = |index: &usize| self.calls[*index].ended.map_or(u64::MAX, |(ended, _)| ended);
        fit.sort_by_key(|index| std::cmp::Reverse(ended(index)));
        fit
    }

    fn note_stuck(&mut self, state: &State) {
        let placed: usize = self.placed.iter().map(|word| word.count_ones() as usize).sum();
        if placed < self.furthest.0 || self.left == 0 {
            return;
        }
        let next = self.next();
        let mut text = format!(
            "{placed} of {} calls have an order that leads to {state:?}; none of these fits next:",
            self.calls.len()
        );
        for call in next.iter().take(12).map(|&index| &self.calls[index]) {
            let Call { client, op, began, ended } = call;
            text.push_str(&format!("\n  client {client}: {op:?} from {began}, {ended:?}"));
        }
        self.furthest = (placed, text);
    }
}
