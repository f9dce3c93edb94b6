//! What a database may hold after a crash: its states since the last one that is surely durable, and what
//! was under way.

use std::collections::BTreeMap;

/// A tree's number, and a key in it; or [`TREES`] and the number of a tree that is there.
pub(crate) type Place = (u8, Vec<u8>);
/// Everything that is there.
pub(crate) type State = BTreeMap<Place, Vec<u8>>;
/// What a change makes of some places: nothing, or this value.
pub(crate) type Change = BTreeMap<Place, Option<Vec<u8>>>;

/// The number of no tree: the places that say which trees there are.
pub(crate) const TREES: u8 = 9;

/// Makes the change.
pub(crate) fn apply(state: &mut State, change: &Change) {
    for (place, value) in change {
        match value {
            Some(value) => state.insert(place.clone(), value.clone()),
            None => state.remove(place),
        };
    }
}

/// All states of a database that a crash may bring back, oldest first: commits are in order, and what
/// survives is a prefix of them (I6).
pub(crate) struct History {
    states: Vec<State>,
    /// States from here on may be the one.
    durable: usize,
    /// Changes whose outcome nobody was told, at different places: each has happened or not.
    maybe: Vec<Change>,
}

impl History {
    pub(crate) fn new(state: State) -> Self {
        Self { states: vec![state], durable: 0, maybe: Vec::new() }
    }

    /// What is there while the engine is up.
    pub(crate) fn now(&self) -> &State {
        &self.states[self.states.len() - 1]
    }

    /// The number of what is there now, until the next restart.
    pub(crate) fn count(&self) -> usize {
        self.states.len() - 1
    }

    /// What was there since the one with this number.
    pub(crate) fn since(&self, number: usize) -> &[State] {
        &self.states[number..]
    }

    /// A change was acknowledged.
    pub(crate) fn changed(&mut self, change: &Change, durable: bool) {
        let mut state = self.now().clone();
        apply(&mut state, change);
        self.states.push(state);
        if durable {
            self.all_durable();
        }
    }

    /// Everything is on disk.
    pub(crate) fn all_durable(&mut self) {
        self.durable = self.states.len() - 1;
    }

    /// A change failed, or was cut short: it has happened or not.
    pub(crate) fn uncertain(&mut self, change: Change) {
        self.maybe.push(change);
    }

    /// Everything that was uncertain has come to rest, and this is there.
    ///
    /// # Panics
    /// If something has happened in part.
    pub(crate) fn settled(&mut self, state: State) {
        assert!(self.with_maybe(&state) == state, "half of a change has happened");
        if self.now() != &state {
            self.states.push(state);
        }
        self.maybe.clear();
    }

    /// Whether a restart may bring this back.
    pub(crate) fn allows(&self, state: &State) -> bool {
        self.states[self.durable..].contains(state) || self.with_maybe(state) == *state
    }

    /// After a restart this is there, for good.
    ///
    /// # Panics
    /// If that cannot be.
    pub(crate) fn recovered(&mut self, state: State) {
        if !self.allows(&state) {
            let now = self.now();
            let lost = now.keys().filter(|place| state.get(place) != now.get(place)).take(5);
            let new = state.keys().filter(|place| !now.contains_key(place)).take(5);
            let (lost, new) = (lost.collect::<Vec<_>>(), new.collect::<Vec<_>>());
            panic!("what was recovered never was: other than at last {lost:?}, new {new:?}");
        }
        *self = Self::new(state);
    }

    /// What is there now and besides those of the uncertain changes that `state` has wholly.
    fn with_maybe(&self, state: &State) -> State {
        let mut expected = self.now().clone();
        for change in &self.maybe {
            if change.iter().all(|(place, value)| state.get(place) == value.as_ref()) {
                apply(&mut expected, change);
            }
        }
        expected
    }
}
