//! One life of a database: opened, asked for the steps of a workload, and left.

use std::cell::Cell;

use futures::future::join_all;
use treering::{Database, Error, ErrorKind};
use treering_pagefile::sim::SimImage;

use super::machine::{Machine, Planted};
use super::model::{Journal, State, difference};
use super::perform::{contents, judge, perform};
use super::step::Step;
use super::workload::Workload;

/// Where a life begins.
#[derive(Clone)]
pub struct Start {
    /// What is on the disk.
    pub image: SimImage,
    /// What the database holds, one of these; none if there is no database.
    pub states: Vec<State>,
    /// The number of the next life.
    pub life: u64,
}

/// What is asked of a life beside its steps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing happens to it; in the end it is read and compared.
    Whole,
    /// It ends at some I/O.
    Crash,
    /// I/Os fail, so calls may; in the end it is read and compared, if that works.
    Faulty,
}

/// The disk's counts at the moment at which the database was open.
pub type Opened = Cell<Option<Counts>>;

/// How far a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Requests submitted.
    pub submitted: u64,
    /// Requests completed.
    pub completed: u64,
}

impl Start {
    /// A machine on which it begins, and the journal of what is going to happen.
    pub fn begin(&self, seed: u64, planted: Planted) -> (Machine, Journal) {
        let machine = Machine::new(&self.image, seed, self.life, planted);
        (machine, Journal::new(&self.states, planted))
    }
}

impl Counts {
    /// How far this machine's disk is.
    pub fn of(machine: &Machine) -> Self {
        let disk = machine.sim().disk();
        Self { submitted: disk.io_count(), completed: disk.completed_count() }
    }
}

/// Lives; gives the database, if it is open in the end. What went wrong is said in words.
pub async fn live(
    workload: &Workload,
    machine: &Machine,
    journal: &Journal,
    opened: &Opened,
    mode: Mode,
) -> Result<Option<Database>, String> {
    // Some calls of a machine that died fail at once.
    let faulty = || mode == Mode::Faulty || machine.is_dead();
    let create = !journal.exists();
    let mut db = match open(machine, workload.frames, create, &faulty).await? {
        Some(db) => db,
        None => return Ok(None),
    };
    opened.set(Some(Counts::of(machine)));
    journal.opened();
    journal.durable_up_to(db.recovery().sequence);
    for group in &workload.groups {
        journal.begin(group);
        let steps = group.iter().enumerate().map(|(number, step)| {
            let (db, faulty) = (&db, &faulty);
            async move {
                let result = perform(db, machine, step).await;
                let outcome =
                    judge(result, faulty()).map_err(|error| format!("{step:?}: {error}"))?;
                journal.end(number, outcome);
                journal.durable_up_to(db.stats().durable_sequence);
                Ok(())
            }
        });
        join_all(steps).await.into_iter().collect::<Result<(), String>>()?;
        journal.settle()?;
        if group.contains(&Step::Reopen) {
            db = match open(machine, workload.frames, false, &faulty).await? {
                Some(db) => db,
                None => return Ok(None),
            };
        }
    }
    if mode != Mode::Crash && !workload.closes() {
        read(&db, journal, faulty()).await?;
    }
    Ok(Some(db))
}

/// `None` if it cannot be opened, and may not be expected to.
async fn open(
    machine: &Machine,
    frames: usize,
    create: bool,
    faulty: &dyn Fn() -> bool,
) -> Result<Option<Database>, String> {
    match machine.open("", frames, create).await {
        Ok(db) => Ok(Some(db)),
        // Two superblocks that cannot be read count as damaged.
        Err(error) if faulty() && (of_the_disk(&error) || error.kind() == ErrorKind::Damaged) => {
            Ok(None)
        }
        Err(error) => Err(format!("opening: {error}")),
    }
}

fn of_the_disk(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Poisoned | ErrorKind::Full)
}

async fn read(db: &Database, journal: &Journal, faulty: bool) -> Result<(), String> {
    match contents(db).await {
        Ok(found) => {
            let now = journal.now();
            match now.contains(&found) {
                true => Ok(()),
                false => Err(format!("read while open: {}", difference(&found, &now))),
            }
        }
        Err(error) if faulty && of_the_disk(&error) => Ok(()),
        Err(error) => Err(format!("reading: {error}")),
    }
}
