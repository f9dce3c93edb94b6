//! Keys that all clients write: lists of the numbers of who has appended to them.
//!
//! A transaction reads some of the keys, and then commits a batch on condition that they still hold what
//! it read, in which it appends its number to some of them. So each value says who has written the key,
//! and in which order, and each read says how much of that it has seen: whatever the order of all
//! transactions is, it can be had back from what was read (Kingsbury and Alvaro, Elle, 2020). What that
//! order has to be like is for [`isolation`] to say.

use std::collections::{BTreeMap, BTreeSet};

use crate::isolation::{self, Event};
use crate::journal::{Place, show};

/// The number of a transaction.
pub type Id = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Refused,
}

#[derive(Clone, Debug)]
struct Txn {
    id: Id,
    /// How long each key that it is about was.
    reads: BTreeMap<Place, usize>,
    writes: BTreeSet<Place>,
    began: u64,
    ended: Option<u64>,
    fate: Fate,
    sequence: Option<u64>,
}

/// All transactions of one life of the database.
#[derive(Default)]
pub struct Lists {
    /// What was there at the beginning.
    base: BTreeMap<Place, Vec<Id>>,
    /// The longest list of each key that was seen.
    seen: BTreeMap<Place, Vec<Id>>,
    txns: Vec<Txn>,
    clock: u64,
    last: Id,
}

impl Lists {
    /// Begins a life with what was found.
    pub fn begin_life(&mut self, found: BTreeMap<Place, Vec<Id>>) {
        self.txns.clear();
        (self.base, self.seen) = (found.clone(), found);
    }

    /// Begins a transaction that is about these keys, as long as they were read, and appends to some of
    /// them. Its place in the list, and its number.
    pub fn begin(&mut self, reads: BTreeMap<Place, usize>, writes: BTreeSet<Place>) -> (usize, Id) {
        self.last += 1;
        let (id, began) = (self.last, self.tick());
        let (ended, sequence) = (None, None);
        self.txns.push(Txn { id, reads, writes, began, ended, fate: Fate::Open, sequence });
        (self.txns.len() - 1, id)
    }

    /// A transaction was acknowledged.
    pub fn committed(&mut self, at: usize, sequence: u64) {
        let ended = self.tick();
        let txn = &mut self.txns[at];
        (txn.fate, txn.ended, txn.sequence) = (Fate::Committed, Some(ended), Some(sequence));
    }

    /// A transaction was refused.
    pub fn refused(&mut self, at: usize) {
        self.txns[at].fate = Fate::Refused;
    }

    /// The moment before a read.
    pub fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A read that began at `began` has seen this.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn read(&mut self, place: &Place, list: &[Id], began: u64) -> Result<(), String> {
        self.see(place, list)?;
        self.last += 1;
        let (id, ended) = (self.last, Some(self.tick()));
        self.txns.push(Txn {
            id,
            reads: BTreeMap::from([(place.clone(), list.len())]),
            writes: BTreeSet::new(),
            began,
            ended,
            fate: Fate::Committed,
            sequence: None,
        });
        Ok(())
    }

    fn see(&mut self, place: &Place, list: &[Id]) -> Result<(), String> {
        let longest = self.seen.entry(place.clone()).or_default();
        let common = longest.len().min(list.len());
        if longest[..common] != list[..common] {
            return Err(format!("{} was {longest:?} and is {list:?}", show(place)));
        }
        if list.len() > longest.len() {
            longest.clear();
            longest.extend_from_slice(list);
        }
        Ok(())
    }

    /// Whether the lists found may be there after the end of a life, of which everything up to `sequence`
    /// was recovered: what was acknowledged and what was seen fits an order of all transactions, of
    /// which those found are a beginning.
    ///
    /// # Errors
    /// Why they may not.
    pub fn judge(&mut self, found: &BTreeMap<Place, Vec<Id>>, sequence: u64) -> Result<(), String> {
        for (place, list) in found {
            self.see(place, list)?;
        }
        let lost = self
            .base
            .iter()
            .find(|(place, base)| found.get(*place).is_none_or(|found| !found.starts_with(base)));
        if let Some((place, _)) = lost {
            return Err(format!("{} has lost what it began with", show(place)));
        }
        for txn in &self.txns {
            self.judge_txn(txn, found, sequence)?;
        }
        let events: Vec<Event> = self.txns.iter().filter_map(|txn| self.event(txn)).collect();
        let lengths = self.base.iter().map(|(place, list)| (place.clone(), list.len())).collect();
        isolation::check(&lengths, &events)
    }

    /// A transaction is wholly among what was found, or not at all, as its sequence says.
    fn judge_txn(
        &self,
        txn: &Txn,
        found: &BTreeMap<Place, Vec<Id>>,
        sequence: u64,
    ) -> Result<(), String> {
        let mut there = txn.writes.iter().map(|place| {
            let list = found.get(place).map_or(&[][..], Vec::as_slice);
            let at = list.iter().position(|id| *id == txn.id);
            if at.is_some_and(|at| at != txn.reads[place]) {
                let (place, id) = (show(place), txn.id);
                return Err(format!("{place} is {list:?}: {id} appended at another place"));
            }
            Ok(at.is_some())
        });
        let Some(first) = there.next().transpose()? else { return Ok(()) };
        for other in there {
            if other? != first {
                return Err(format!("transaction {} was torn: {txn:?}", txn.id));
            }
        }
        let expected = match (txn.fate, txn.sequence) {
            (Fate::Refused, _) => Some(false),
            (Fate::Committed, Some(own)) => Some(own <= sequence),
            _ => None,
        };
        match expected {
            Some(expected) if expected != first => {
                let is = if first { "is there" } else { "is lost" };
                Err(format!("recovered up to {sequence}, a transaction {is}: {txn:?}"))
            }
            _ => Ok(()),
        }
    }

    /// A transaction that has happened, as far as anybody knows.
    fn event<'t>(&self, txn: &'t Txn) -> Option<Event<'t>> {
        let was_seen = || {
            let mut lists = txn.writes.iter().filter_map(|place| self.seen.get(place));
            lists.any(|list| list.contains(&txn.id))
        };
        let happened = match txn.fate {
            Fate::Committed => true,
            Fate::Open => was_seen(),
            Fate::Refused => false,
        };
        happened.then_some(Event {
            id: txn.id,
            reads: &txn.reads,
            writes: &txn.writes,
            began: txn.began,
            ended: txn.ended,
        })
    }
}

/// A list as it is stored.
pub fn encode(list: &[Id]) -> Vec<u8> {
    list.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// A list that was stored.
///
/// # Errors
/// Why these bytes are none.
pub fn decode(bytes: &[u8]) -> Result<Vec<Id>, String> {
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(format!("a list of {} bytes", bytes.len()));
    }
    Ok(words.iter().map(|word| Id::from_le_bytes(*word)).collect())
}
