//! What one client knows of the keys that only it writes, and what may therefore be there after a crash.
//!
//! A client makes one change after the other, each all or nothing. So what is there after a crash is a
//! prefix of its changes, and the same prefix for all clients: a commit says its sequence, and all that
//! is recovered up to sequence S is there and nothing behind it. What is open is only
//!
//! * a change that was under way: it is there, or it is not;
//! * a change whose future was dropped or is never polled again: it has happened, or will, or never. It
//!   is in *limbo*. The client leaves its keys alone until it sees that it has happened;
//! * a change that was acknowledged without a sequence, where it lies between a commit that is there and
//!   one that is not.
//!
//! Few of them are open at a time, so a crash is judged by trying.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A value; cloning is cheap.
pub type Bytes = Arc<[u8]>;

/// A key of a tree. The tree without a name has the names of all trees of the client's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The tree's name.
    pub tree: Arc<str>,
    /// The key.
    pub key: Vec<u8>,
}

/// What is there.
pub type State = BTreeMap<Place, Bytes>;

/// What a change makes of some keys.
pub type Change = BTreeMap<Place, Option<Bytes>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nobody knows.
    Open,
    /// As `Open`, and the client does not wait for it.
    Limbo,
    Applied,
    /// Said to be durable.
    Durable,
    Refused,
}

#[derive(Clone, Debug)]
struct Step {
    change: Change,
    fate: Fate,
    sequence: Option<u64>,
    /// It was in limbo once: it may have happened at any time after it began.
    late: bool,
}

/// The changes of one client in one life of the database.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    base: State,
    now: State,
    steps: Vec<Step>,
    /// A duplicate whose insert is under way: its tree, key and value. Its sequence is not known yet.
    inserting: Option<(Arc<str>, Vec<u8>, Bytes)>,
}

/// More changes than this are never open at once; if they were, judging would take for ever.
const OPEN_MAX: usize = 12;

impl Journal {
    /// Begins a life with what was found.
    pub fn new(base: State) -> Self {
        Self { now: base.clone(), base, ..Self::default() }
    }

    /// What is there, but for what is in limbo.
    pub fn now(&self) -> &State {
        &self.now
    }

    /// A change begins; its number.
    pub fn begin(&mut self, change: Change) -> usize {
        self.steps.push(Step { change, fate: Fate::Open, sequence: None, late: false });
        self.steps.len() - 1
    }

    /// The insert of a duplicate begins or has ended, of which the change will be known afterwards.
    pub fn inserting(&mut self, what: Option<(Arc<str>, Vec<u8>, Bytes)>) {
        self.inserting = what;
    }

    /// A change was acknowledged.
    pub fn applied(&mut self, number: usize, sequence: Option<u64>, durable: bool) {
        let step = &mut self.steps[number];
        step.fate = if durable { Fate::Durable } else { Fate::Applied };
        if step.change.iter().all(|(place, value)| self.now.get(place) == value.as_ref()) {
            // It changed nothing, and its sequence is that of what it saw, which says nothing of the
            // changes before it.
            step.change.clear();
            return;
        }
        step.sequence = sequence;
        apply(&mut self.now, &step.change);
    }

    /// A change was refused: it has not happened, and never will.
    pub fn refused(&mut self, number: usize) {
        self.steps[number].fate = Fate::Refused;
    }

    /// The future of a change was dropped, or is left alone.
    pub fn abandoned(&mut self, number: usize) {
        let step = &mut self.steps[number];
        (step.fate, step.late) = (Fate::Limbo, true);
    }

    /// Whether a change in limbo is about this place.
    pub fn in_limbo(&self, place: &Place) -> bool {
        self.limbo(place).is_some()
    }

    fn limbo(&self, place: &Place) -> Option<usize> {
        let about = |step: &Step| step.fate == Fate::Limbo && step.change.contains_key(place);
        self.steps.iter().position(about)
    }

    /// How many changes are in limbo.
    pub fn limbo_count(&self) -> usize {
        self.steps.iter().filter(|step| step.fate == Fate::Limbo).count()
    }

    /// The client sees what is at some places, in one look that takes its time: a change in limbo may
    /// happen in the middle of it.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn see(&mut self, look: &[(Place, Option<&[u8]>)]) -> Result<(), String> {
        let mut happened = BTreeSet::new();
        for (place, found) in look {
            let known = self.now.get(place).map(|bytes| &**bytes);
            if *found == known {
                continue;
            }
            match self.limbo(place) {
                Some(number) if *found == self.steps[number].change[place].as_deref() => {
                    happened.insert(number);
                }
                _ => {
                    let (place, found, known) = (show(place), sketch(*found), sketch(known));
                    return Err(format!("{place} holds {found}, not {known}"));
                }
            }
        }
        for number in happened {
            self.applied(number, None, false);
        }
        Ok(())
    }

    /// How many changes have begun before the one that is under way, if one is.
    pub fn ended(&self) -> usize {
        let open = self.steps.last().is_some_and(|step| step.fate == Fate::Open);
        self.steps.len() - usize::from(open)
    }

    /// Whether `found` may be there after a crash, recovered up to `sequence`.
    ///
    /// # Errors
    /// Why it may not.
    pub fn judge(&self, found: &State, sequence: u64) -> Result<(), String> {
        self.judge_copy(found, sequence, usize::MAX)
    }

    /// Whether `found` may be in a copy of everything up to `sequence` whose making began when so
    /// many changes had ended.
    ///
    /// # Errors
    /// Why it may not.
    pub fn judge_copy(&self, found: &State, sequence: u64, ended: usize) -> Result<(), String> {
        let mut journal = self.clone();
        journal.admit_insert(found);
        let is = |step: &Step, included: bool| match included {
            true => step.sequence.is_some_and(|own| own <= sequence) && !step.late,
            false => step.sequence.is_some_and(|own| own > sequence) && !step.late,
        };
        // What lies before one that is there is there, and what lies behind one that is not is not.
        let last = journal.steps.iter().rposition(|step| is(step, true));
        let first = journal.steps.iter().position(|step| is(step, false));
        let mut certain = vec![Some(false); journal.steps.len()];
        for (number, step) in journal.steps.iter().enumerate() {
            certain[number] = match step.fate {
                Fate::Refused => Some(false),
                _ if step.change.is_empty() => Some(false),
                Fate::Durable if number < ended => Some(true),
                _ if is(step, true) => Some(true),
                _ if is(step, false) => Some(false),
                _ if first.is_some_and(|first| number > first) => Some(false),
                Fate::Applied | Fate::Durable
                    if !step.late && last.is_some_and(|last| number < last) =>
                {
                    Some(true)
                }
                _ => None,
            };
        }
        let open: Vec<usize> = (0..certain.len()).filter(|step| certain[*step].is_none()).collect();
        if open.len() > OPEN_MAX {
            return Err(format!("{} changes are open, which are too many to judge", open.len()));
        }
        let mut closest: Option<String> = None;
        for chosen in 0..1_u32 << open.len() {
            for (bit, number) in open.iter().enumerate() {
                certain[*number] = Some(chosen >> bit & 1 == 1);
            }
            let mut state = journal.base.clone();
            for (step, there) in journal.steps.iter().zip(&certain) {
                if *there == Some(true) {
                    apply(&mut state, &step.change);
                }
            }
            match difference(found, &state) {
                None => return Ok(()),
                Some(difference) => closest = Some(difference),
            }
        }
        let difference = closest.unwrap_or_default();
        Err(format!("recovered up to {sequence}, with {} changes open: {difference}", open.len()))
    }

    /// A duplicate that was being inserted may be there, with a sequence that nobody was told.
    fn admit_insert(&mut self, found: &State) {
        let Some((tree, key, value)) = self.inserting.take() else { return };
        let mut own = Vec::new();
        let new = found.iter().find(|(place, there)| {
            own.clear();
            place.tree == tree
                && **there == value
                && treering_txn::duplicates::split(&place.key, &mut own).is_some()
                && own == key
                && !self.base.contains_key(place)
                && !self.steps.iter().any(|step| step.change.contains_key(place))
        });
        if let Some((place, there)) = new {
            let change = Change::from([(place.clone(), Some(there.clone()))]);
            self.begin(change);
        }
    }
}

/// Makes a change to a state.
pub fn apply(state: &mut State, change: &Change) {
    for (place, value) in change {
        match value {
            Some(value) => drop(state.insert(place.clone(), value.clone())),
            None => drop(state.remove(place)),
        }
    }
}

fn difference(found: &State, expected: &State) -> Option<String> {
    for (place, value) in expected {
        match found.get(place) {
            Some(there) if there == value => {}
            Some(there) => {
                let (place, there) = (show(place), sketch(Some(there)));
                return Some(format!("{place} holds {there}, not {}", sketch(Some(value))));
            }
            None => return Some(format!("{} is lost", show(place))),
        }
    }
    let more = found.keys().find(|place| !expected.contains_key(*place))?;
    Some(format!("{} is there and should not", show(more)))
}

/// A place in words.
pub fn show(place: &Place) -> String {
    format!("key \"{}\" of tree {:?}", place.key.escape_ascii(), place.tree)
}

/// A value in a few words.
pub fn sketch(value: Option<&[u8]>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(bytes) => {
            let head = &bytes[..bytes.len().min(12)];
            format!("{} bytes \"{}\"", bytes.len(), head.escape_ascii())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: &str) -> Place {
        Place { tree: "tree".into(), key: key.as_bytes().to_vec() }
    }

    fn put(key: &str, value: &str) -> Change {
        Change::from([(place(key), Some(value.as_bytes().into()))])
    }

    fn state(pairs: &[(&str, &str)]) -> State {
        pairs.iter().map(|(key, value)| (place(key), value.as_bytes().into())).collect()
    }

    #[test]
    fn a_crash_leaves_exactly_what_the_sequence_says() {
        let mut journal = Journal::new(state(&[("a", "0")]));
        for (sequence, value) in [(5, "1"), (7, "2")] {
            let number = journal.begin(put("a", value));
            journal.applied(number, Some(sequence), false);
        }
        assert!(journal.judge(&state(&[("a", "0")]), 4).is_ok());
        assert!(journal.judge(&state(&[("a", "1")]), 6).is_ok());
        assert!(journal.judge(&state(&[("a", "1")]), 7).is_err());
        assert!(journal.judge(&state(&[("a", "2")]), 6).is_err());
        assert!(journal.judge(&state(&[]), 7).is_err());
    }

    #[test]
    fn what_was_said_to_be_durable_is_there_and_what_is_open_is_there_or_not() {
        let mut journal = Journal::new(State::new());
        let durable = journal.begin(put("a", "1"));
        journal.applied(durable, None, true);
        let mut both = put("b", "2");
        both.extend(put("c", "2"));
        journal.begin(both);
        assert!(journal.judge(&state(&[("a", "1")]), 9).is_ok());
        assert!(journal.judge(&state(&[("a", "1"), ("b", "2"), ("c", "2")]), 9).is_ok());
        assert!(journal.judge(&state(&[("a", "1"), ("b", "2")]), 9).is_err(), "torn");
        assert!(journal.judge(&state(&[("b", "2"), ("c", "2")]), 9).is_err(), "lost");
    }

    #[test]
    fn a_change_in_limbo_may_happen_later_but_not_be_undone() {
        let mut journal = Journal::new(state(&[("a", "0")]));
        let number = journal.begin(put("a", "1"));
        journal.abandoned(number);
        let mut see = |found: Option<&[u8]>| journal.see(&[(place("a"), found)]).is_ok();
        assert!(see(Some(b"0")));
        assert!(see(Some(b"1")));
        assert!(!see(Some(b"0")));
        assert!(!see(None));
    }
}
