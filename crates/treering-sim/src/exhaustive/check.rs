//! What has to be true of a disk after a crash.
//!
//! It opens; it holds one of the states that may have survived, and the log up to what was said to be
//! durable; it verifies; it takes a write; and closed and opened once more, it holds that, too. A
//! backup that was acknowledged is a database of its own that holds what the source held; one that was
//! not is no database, or such a one.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use treering::{Database, ErrorKind};
use treering_pagefile::sim::{SimImage, Stalled};

use super::machine::{Machine, Planted, Sectors};
use super::model::{Journal, State, difference};
use super::perform::{COPY, contents, put_something};

/// Frames of a pool that holds everything.
const FRAMES: usize = 64;
/// Numbers of the lives that checks begin: no workload's life has them.
const LIFE: u64 = 1 << 20;

/// What may be found.
pub struct Expected {
    states: Vec<State>,
    exists: bool,
    durable_sequence: u64,
    copy: Option<Copy>,
}

struct Copy {
    states: Vec<State>,
    acknowledged: bool,
}

impl Expected {
    /// What follows from what a database has answered.
    pub fn of(journal: &Journal) -> Self {
        Self {
            states: journal.survivors(),
            exists: journal.exists(),
            durable_sequence: journal.durable_sequence(),
            copy: journal.copy().map(|(states, acknowledged)| Copy { states, acknowledged }),
        }
    }

    /// Whether there must be a database.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// Two that are equal have the same number.
    pub fn digest(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (&self.states, self.exists, self.durable_sequence).hash(&mut hasher);
        if let Some(copy) = &self.copy {
            (&copy.states, copy.acknowledged).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Checks images, and remembers what it need not look at twice.
#[derive(Default)]
pub struct Checker {
    /// Images of databases that were closed and opened once more, and what that read of them.
    reopened: Mutex<HashMap<u64, Arc<Sectors>>>,
}

impl Checker {
    /// Checks one image: what is there, or what is wrong; and all sectors of the image that were read
    /// to find that out (some others may be among them).
    pub fn check(
        &self,
        image: &SimImage,
        expected: &Expected,
        seed: u64,
    ) -> (Result<State, String>, Sectors) {
        let machine = Machine::new(image, seed, LIFE, Planted::Nothing).noting_reads();
        let checked = catch_unwind(AssertUnwindSafe(|| {
            let (found, written) = said(machine.sim().run(first_opening(&machine, expected)))??;
            let settled = machine.sim().settle();
            settled.map_err(|stalled| format!("at rest after the check: {stalled}"))?;
            let closed = machine.sim().disk().image_visible();
            let again = self.reopen(&closed, &written, seed)?;
            Ok((found, again))
        }));
        let mut read = machine.read();
        let result = match checked.unwrap_or_else(|_| Err("a panic".to_owned())) {
            Ok((found, again)) => {
                read.extend(again.iter().cloned());
                Ok(found)
            }
            Err(what) => Err(what),
        };
        (result, read)
    }

    /// Opens what the first opening left; what that read.
    fn reopen(
        &self,
        closed: &SimImage,
        written: &State,
        seed: u64,
    ) -> Result<Arc<Sectors>, String> {
        let digest = closed.digest();
        let lock = || self.reopened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = lock().get(&digest) {
            return Ok(Arc::clone(read));
        }
        let machine = Machine::new(closed, seed, LIFE + 1, Planted::Nothing).noting_reads();
        said(machine.sim().run(second_opening(&machine, written)))?
            .map_err(|what| format!("opened once more: {what}"))?;
        let read = Arc::new(machine.read());
        lock().insert(digest, Arc::clone(&read));
        Ok(read)
    }
}

fn said<T>(ended: Result<T, Stalled>) -> Result<T, String> {
    ended.map_err(|stalled| format!("{stalled}"))
}

/// Opens it and looks at everything; what is there, and what is there after one more write.
async fn first_opening(machine: &Machine, expected: &Expected) -> Result<(State, State), String> {
    let db = machine.open("", FRAMES, !expected.exists).await;
    let db = db.map_err(|error| format!("it does not open: {error}"))?;
    let recovered = db.recovery().sequence;
    if recovered < expected.durable_sequence {
        let durable = expected.durable_sequence;
        return Err(format!("{durable} was durable, {recovered} was recovered"));
    }
    let found = read(&db, &expected.states).await?;
    verify(&db).await?;
    let mut written = found.clone();
    let put = put_something(&db, &mut written).await;
    put.map_err(|error| format!("writing: {error}"))?;
    if let Some(copy) = &expected.copy {
        check_copy(machine, copy).await?;
    }
    db.close().await.map_err(|error| format!("closing: {error}"))?;
    Ok((found, written))
}

async fn second_opening(machine: &Machine, written: &State) -> Result<(), String> {
    let db = machine.open("", FRAMES, false).await;
    let db = db.map_err(|error| format!("it does not open: {error}"))?;
    read(&db, std::slice::from_ref(written)).await?;
    verify(&db).await
}

async fn check_copy(machine: &Machine, copy: &Copy) -> Result<(), String> {
    let db = match machine.open(COPY, FRAMES, false).await {
        Ok(db) => db,
        Err(error) if !copy.acknowledged && error.kind() == ErrorKind::InvalidOptions => {
            return Ok(());
        }
        Err(error) => return Err(format!("the copy does not open: {error}")),
    };
    read(&db, &copy.states).await.map_err(|what| format!("the copy: {what}"))?;
    verify(&db).await.map_err(|what| format!("the copy: {what}"))?;
    db.close().await.map_err(|error| format!("closing the copy: {error}"))
}

async fn read(db: &Database, allowed: &[State]) -> Result<State, String> {
    let found = contents(db).await.map_err(|error| format!("reading: {error}"))?;
    match allowed.contains(&found) {
        true => Ok(found),
        false => Err(difference(&found, allowed)),
    }
}

async fn verify(db: &Database) -> Result<(), String> {
    let report = db.verify().await.map_err(|error| format!("verifying: {error}"))?;
    match report.problems.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} problems, the first: {first}", report.problems.len())),
    }
}
