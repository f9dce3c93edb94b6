//! What a database may hold after a crash: its states since the last one that is surely durable.

use std::collections::BTreeMap;

/// The trees, and what is in each.
pub(crate) type State = [BTreeMap<Vec<u8>, Vec<u8>>; 2];

/// All states of a database that a crash may bring back, oldest first: commits are in order, and what
/// survives is a prefix of them (I6).
pub(crate) struct History {
    states: Vec<State>,
    /// States from here on may be the one.
    durable: usize,
    /// What is there besides if a change whose outcome nobody was told has happened.
    maybe: Option<State>,
}

impl History {
    pub(crate) fn new(state: State) -> Self {
        Self { states: vec![state], durable: 0, maybe: None }
    }

    /// What is there while the engine is up.
    pub(crate) fn now(&self) -> &State {
        &self.states[self.states.len() - 1]
    }

    /// A change was acknowledged.
    pub(crate) fn changed(&mut self, state: State, durable: bool) {
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
    pub(crate) fn uncertain(&mut self, state: State) {
        self.maybe = Some(state);
    }

    /// A change that was given up has come to rest, and this is there.
    ///
    /// # Panics
    /// If it has happened in part.
    pub(crate) fn settled(&mut self, state: State) {
        if self.now() != &state {
            assert!(self.maybe.as_ref() == Some(&state), "half of a change has happened");
            self.states.push(state);
        }
        self.maybe = None;
    }

    /// After a restart this is there, for good.
    ///
    /// # Panics
    /// If that cannot be.
    pub(crate) fn recovered(&mut self, state: State) {
        let known = self.states[self.durable..].contains(&state);
        assert!(known || self.maybe.as_ref() == Some(&state), "what was recovered never was");
        *self = Self::new(state);
    }
}
