//! What every key has been, so that whoever looks can say whether he may see what he sees.
//!
//! Each key has one writer, so its states come one after the other, each by a *change*: a put, a
//! delete, or a batch over several keys. A change has *begun* before it is asked for, and is *done*
//! when it was acknowledged. Whoever looks at a key must find one of the states
//!
//! * not older than the last one that was done when the look began, and
//! * not newer than the last one that had begun when it ended.
//!
//! A value carries the number of its change, and every byte of it follows from that number and the
//! key, so that a mixture of two values is neither. Who sees any effect of a batch makes it done:
//! every look that begins afterwards must see all of it.
//!
//! The same bounds hold for what a crash leaves: not older than what was acknowledged as durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of a change; 0 is what was there before.
pub(crate) type Change = u32;

/// A key's states so far: by which change, and how long a value it left, if any.
struct Past {
    states: Vec<(Change, Option<usize>)>,
    /// Index of the oldest state that may still be seen.
    done: usize,
    /// Index of the oldest state that a crash may leave.
    durable: usize,
}

#[derive(Default)]
struct Pasts {
    keys: BTreeMap<Vec<u8>, Past>,
    /// The keys of each change, and which of their states it made.
    changes: Vec<Vec<(Vec<u8>, usize)>>,
}

/// The histories of all keys.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<Pasts>>);

/// For each key, the oldest state that may be seen from now on.
pub(crate) type Since = BTreeMap<Vec<u8>, usize>;

/// The value of a key after a change.
pub(crate) fn value_of(key: &[u8], change: Change, len: usize) -> Vec<u8> {
    let mut bytes = change.to_le_bytes().to_vec();
    let salt =
        key.iter().fold(change as u8, |salt, byte| salt.wrapping_mul(31).wrapping_add(*byte));
    bytes.extend((0..len).map(|at| salt.wrapping_add(at as u8)));
    bytes
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Pasts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key that is to be written, or looked at; absent at first.
    pub(crate) fn add_key(&self, key: &[u8]) {
        let past = Past { states: vec![(0, None)], done: 0, durable: 0 };
        self.lock().keys.insert(key.to_vec(), past);
    }

    /// Begins a change; `after` says how long a value each of its keys, which differ, will have. The
    /// values have to be those of [`value_of`] this change.
    pub(crate) fn begin(&self, after: &[(Vec<u8>, Option<usize>)]) -> Change {
        let mut pasts = self.lock();
        if pasts.changes.is_empty() {
            pasts.changes.push(Vec::new());
        }
        let change = pasts.changes.len() as Change;
        let mut made = Vec::new();
        for (key, len) in after {
            let past = pasts.keys.get_mut(key).unwrap_or_else(|| panic!("an unknown key"));
            past.states.push((change, *len));
            made.push((key.clone(), past.states.len() - 1));
        }
        pasts.changes.push(made);
        change
    }

    /// A change was acknowledged, or seen.
    pub(crate) fn done(&self, change: Change) {
        self.lock().done(change);
    }

    /// What may be seen from now on.
    pub(crate) fn since(&self) -> Since {
        let pasts = self.lock();
        pasts.keys.iter().map(|(key, past)| (key.clone(), past.done)).collect()
    }

    /// Whatever was done at `since` is durable, and with it `change`.
    pub(crate) fn durable(&self, since: &Since, change: Option<Change>) {
        let mut pasts = self.lock();
        for (key, done) in since {
            if let Some(past) = pasts.keys.get_mut(key) {
                past.durable = past.durable.max(*done);
            }
        }
        for (key, state) in pasts.made_by(change.unwrap_or(0)) {
            if let Some(past) = pasts.keys.get_mut(&key) {
                past.durable = past.durable.max(state);
            }
        }
    }

    /// What a crash must leave just now, and what it may leave at most.
    pub(crate) fn durable_now(&self) -> (Since, Since) {
        let pasts = self.lock();
        let durable = pasts.keys.iter().map(|(key, past)| (key.clone(), past.durable)).collect();
        let begun = |past: &Past| past.states.len() - 1;
        let begun = pasts.keys.iter().map(|(key, past)| (key.clone(), begun(past))).collect();
        (durable, begun)
    }

    /// Somebody who began to look at `since` has found `value` under `key`.
    ///
    /// # Panics
    /// If it could not have been there.
    pub(crate) fn saw(&self, key: &[u8], value: Option<&[u8]>, since: &Since, who: &str) {
        let mut pasts = self.lock();
        let seen = pasts.check(key, value, since, usize::MAX, who);
        pasts.done(seen);
    }

    /// Somebody who began to look at `since` has found nothing between two keys, which do not
    /// themselves count.
    ///
    /// # Panics
    /// If a key must have been there.
    pub(crate) fn saw_nothing_between(
        &self,
        low: Option<&[u8]>,
        high: Option<&[u8]>,
        since: &Since,
        who: &str,
    ) {
        let mut pasts = self.lock();
        let above = |key: &&Vec<u8>| low.is_none_or(|low| key.as_slice() > low);
        let below = |key: &&Vec<u8>| high.is_none_or(|high| key.as_slice() < high);
        let between: Vec<_> = pasts.keys.keys().filter(above).filter(below).cloned().collect();
        for key in between {
            pasts.check(&key, None, since, usize::MAX, who);
        }
    }

    /// Everything that a tree has is what it must have: not older than `durable` nor newer than
    /// `begun`, and of each change all or nothing.
    ///
    /// # Panics
    /// If not.
    pub(crate) fn check_all(
        &self,
        found: &BTreeMap<Vec<u8>, Vec<u8>>,
        durable: &Since,
        begun: &Since,
        who: &str,
    ) {
        let mut pasts = self.lock();
        let keys: Vec<_> = pasts.keys.keys().cloned().collect();
        let mut at_least = durable.clone();
        let mut at = Since::new();
        for key in &keys {
            let newest = begun.get(key).copied().unwrap_or(0);
            let value = found.get(key).map(Vec::as_slice);
            let change = pasts.check(key, value, durable, newest, who);
            for (other, state) in pasts.made_by(change) {
                let least = at_least.entry(other).or_default();
                *least = (*least).max(state);
            }
            at.insert(key.clone(), newest);
        }
        for key in &keys {
            let newest = at.get(key).copied().unwrap_or(0);
            pasts.check(key, found.get(key).map(Vec::as_slice), &at_least, newest, who);
        }
        if let Some(key) = found.keys().find(|key| !pasts.keys.contains_key(*key)) {
            panic!("{who}: found the key \"{}\", which nobody wrote", key.escape_ascii());
        }
    }
}

impl Pasts {
    fn made_by(&self, change: Change) -> Vec<(Vec<u8>, usize)> {
        self.changes.get(change as usize).cloned().unwrap_or_default()
    }

    fn done(&mut self, change: Change) {
        for (key, state) in self.made_by(change) {
            if let Some(past) = self.keys.get_mut(&key) {
                past.done = past.done.max(state);
            }
        }
    }

    /// The change that left what was found, or 0 if it is not certain.
    fn check(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        since: &Since,
        newest: usize,
        who: &str,
    ) -> Change {
        let name = key.escape_ascii();
        let Some(past) = self.keys.get(key) else {
            panic!("{who}: found the key \"{name}\", which nobody wrote");
        };
        let oldest = since.get(key).copied().unwrap_or(0);
        let newest = newest.min(past.states.len() - 1);
        let possible = &past.states[oldest.min(newest)..=newest];
        let Some(value) = value else {
            let mut absent = possible.iter().filter(|(_, len)| len.is_none());
            return match (absent.next(), absent.next()) {
                (None, _) => panic!("{who}: \"{name}\" is not there; it was {possible:?}"),
                (Some((change, _)), None) => *change,
                // One of several: nothing follows.
                (Some(_), Some(_)) => 0,
            };
        };
        let number = value.first_chunk::<4>().map(|bytes| Change::from_le_bytes(*bytes));
        let by = number.and_then(|number| possible.iter().find(|(change, _)| *change == number));
        match by {
            Some((change, Some(len))) if value_of(key, *change, *len) == value => *change,
            _ => panic!(
                "{who}: \"{name}\" has \"{}\", by change {number:?}; it was {possible:?}",
                value.escape_ascii()
            ),
        }
    }
}
