//! What all clients of a history share, and what there is to know of its keys.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use treering::{Database, Error, ErrorKind};
use treering_txn::TreeOptions;

use crate::chance::Chance;
use crate::faults::Planted;
use crate::journal::{Journal, Place, State};
use crate::lists::{Id, Lists, decode};

/// Trees that all clients share.
pub const SHARED: [&str; 2] = ["orders", "users"];
/// The tree with duplicates.
pub const MULTI: &str = "tags";
/// Ends the keys that hold lists.
const LIST_MARK: &str = "-list";

/// What the clients of one database share, through all its lives.
#[derive(Default)]
pub struct World {
    /// By client.
    pub journals: Vec<Mutex<Journal>>,
    /// Keys that everybody writes.
    pub lists: Mutex<Lists>,
    /// Everything up to this sequence was said to be durable.
    floor: AtomicU64,
    /// The greatest sequence that anybody was told.
    told: AtomicU64,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// What each client is just doing.
    doing: Mutex<BTreeMap<usize, &'static str>>,
    /// What is planted among what the clients know.
    pub planted: Option<Planted>,
}

/// What is in a database, sorted by whose it is.
#[derive(Default)]
pub struct Found {
    /// By client.
    pub own: Vec<State>,
    /// The lists.
    pub lists: BTreeMap<Place, Vec<Id>>,
}

impl World {
    /// A world of so many clients.
    pub fn new(clients: usize, planted: Option<Planted>) -> Self {
        let journals = (0..clients).map(|_| Mutex::default()).collect();
        Self { journals, planted, ..Self::default() }
    }

    /// One client's journal.
    pub fn journal(&self, client: usize) -> MutexGuard<'_, Journal> {
        lock(&self.journals[client])
    }

    /// The lists.
    pub fn lists(&self) -> MutexGuard<'_, Lists> {
        lock(&self.lists)
    }

    /// Something of this kind has happened.
    pub fn count(&self, event: &'static str) {
        *lock(&self.counts).entry(event).or_default() += 1;
    }

    /// A client, or the keeper, whose number comes behind theirs, begins something, or has ended it.
    pub fn doing(&self, client: usize, what: Option<&'static str>) {
        let mut doing = lock(&self.doing);
        match what {
            Some(what) => drop(doing.insert(client, what)),
            None => drop(doing.remove(&client)),
        }
    }

    /// What everybody is just doing.
    pub fn scene(&self) -> String {
        format!("{:?}", lock(&self.doing))
    }

    /// What has happened how often.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.counts).clone()
    }

    /// Somebody was told a sequence.
    pub fn tell(&self, sequence: u64, durable: bool) {
        self.told.fetch_max(sequence, Ordering::Relaxed);
        if durable || self.planted == Some(Planted::BufferedTakenForDurable) {
            self.floor.fetch_max(sequence, Ordering::Relaxed);
        }
    }

    /// The greatest sequence that anybody was told.
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Everything up to this sequence was said to be durable.
    pub fn floor(&self) -> u64 {
        self.floor.load(Ordering::Relaxed)
    }

    /// Judges what was found at the beginning of a life, recovered up to `sequence`, and takes it for
    /// the truth.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn begin_life(&self, found: Found, sequence: u64) -> Result<(), String> {
        self.judge(&found, sequence)?;
        self.lists().begin_life(found.lists);
        for (journal, own) in self.journals.iter().zip(found.own) {
            *lock(journal) = Journal::new(own);
        }
        self.floor.store(sequence, Ordering::Relaxed);
        self.told.store(sequence, Ordering::Relaxed);
        Ok(())
    }

    fn judge(&self, found: &Found, sequence: u64) -> Result<(), String> {
        if sequence < self.floor() {
            let floor = self.floor();
            return Err(format!("{floor} was said to be durable, {sequence} was recovered"));
        }
        for (client, own) in found.own.iter().enumerate() {
            let judged = self.journal(client).judge(own, sequence);
            judged.map_err(|why| format!("keys of client {client}: {why}"))?;
        }
        self.lists().judge(&found.lists, sequence)
    }
}

/// The key with this number of a client: short or long, anywhere among those of the others.
pub fn own_key(client: usize, number: usize) -> Vec<u8> {
    let mixed = Chance::new((number as u64) << 8 | client as u64).number();
    let long = if number.is_multiple_of(7) { "-long".repeat(15) } else { String::new() };
    let digits = 2 + number % 3;
    format!("{:.digits$}{number}{long}-{client}", format!("{mixed:016x}")).into_bytes()
}

/// The key of a list with this number and generation.
pub fn list_key(number: usize, generation: usize) -> Vec<u8> {
    let mixed = Chance::new(number as u64).number() as u8;
    format!("{mixed:02x}.{number}.{generation}{LIST_MARK}").into_bytes()
}

/// Whether a key holds a list.
pub fn is_list(key: &[u8]) -> bool {
    key.ends_with(LIST_MARK.as_bytes())
}

/// The client whose key this is.
pub fn owner(key: &[u8]) -> Option<usize> {
    let at = key.iter().rposition(|byte| *byte == b'-')?;
    std::str::from_utf8(&key[at + 1..]).ok()?.parse().ok()
}

/// The name of a client's own tree in its generation.
pub fn own_tree(client: usize, generation: usize) -> String {
    format!("own.{generation}-{client}")
}

/// Makes the trees that all share.
///
/// # Errors
/// As [`Database::tree`].
pub async fn make_trees(db: &Database) -> Result<(), Error> {
    for name in SHARED {
        db.tree(name).await?;
    }
    db.multi_tree_with(MULTI, TreeOptions::new()).await?;
    Ok(())
}

/// Everything that is in a database of so many clients; whatever is nobody's is an error.
///
/// # Errors
/// Those of reading; and in words, what does not belong there.
pub async fn look(db: &Database, clients: usize) -> Result<Found, LookError> {
    let mut found = Found { own: vec![State::new(); clients], ..Found::default() };
    let stray = |what: String| LookError::Wrong(what);
    for name in db.tree_names() {
        let tree: Arc<str> = name.as_str().into();
        let of = owner(name.as_bytes()).filter(|_| name.starts_with("own."));
        if let Some(client) = of {
            let place = Place { tree: "".into(), key: name.clone().into_bytes() };
            found.own[client].insert(place, Arc::from(&[][..]));
        } else if !SHARED.contains(&&*name) && name != MULTI {
            return Err(stray(format!("a tree {name:?} that nobody made")));
        }
        let Some(handle) = db.raw_tree(&name)? else { continue };
        let mut range = handle.range(..);
        let mut last: Option<Vec<u8>> = None;
        while let Some(chunk) = range.next_chunk().await? {
            for (key, value) in chunk.iter() {
                if last.as_deref().is_some_and(|last| last >= key) {
                    return Err(stray(format!("tree {name:?} is not in order")));
                }
                last = Some(key.to_vec());
                let place = Place { tree: Arc::clone(&tree), key: key.to_vec() };
                if is_list(key) && of.is_none() {
                    let list = decode(value).map_err(LookError::Wrong)?;
                    found.lists.insert(place, list);
                    continue;
                }
                let mut plain = Vec::new();
                let own = match name == MULTI {
                    true => {
                        treering_txn::duplicates::split(key, &mut plain).and_then(|_| owner(&plain))
                    }
                    false => owner(key),
                };
                match own.filter(|own| *own < clients) {
                    Some(own) => drop(found.own[own].insert(place, value.into())),
                    None => {
                        let key = key.escape_ascii();
                        return Err(stray(format!("a key \"{key}\" that nobody wrote")));
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Why one could not look.
#[derive(Debug)]
pub enum LookError {
    /// What is there cannot be read.
    Engine(Error),
    /// What is there cannot be.
    Wrong(String),
}

impl From<Error> for LookError {
    fn from(error: Error) -> Self {
        LookError::Engine(error)
    }
}

/// Whether an error ends the life of the database: nobody knows what became of the operation.
pub fn is_end(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Closed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
