//! The power fails at every moment of a workload, with every subset of what was not durable.
//!
//! # Moments
//! At each submission of a request, and after each completion; from a whole run of the same seed it
//! is known how many there are. The machine dies, its programs run on until nothing moves (an answer
//! that was on its way still arrives), and then there are as many images as [`fates`](super::fates)
//! says.
//!
//! # What is not opened twice
//! An image that an earlier one equals, with the same expectation. And one that differs from an earlier
//! image of the same moment only in sectors that nobody read while that one was checked: the check is a
//! function of its seed and of what it reads, so it would go the same way, bit for bit.
//!
//! # Crashes in recoveries
//! Of the images that were sound, some are where the next life begins, which only opens the
//! database, and crashes at every moment of that; and so on, to a depth. What the first recovery found is
//! what every later one has to find.

use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use treering_pagefile::sim::{SECTOR, SimImage, Stalled};

use super::check::{Checker, Expected};
use super::fates::{Effort, describe, fates, image_of, sectors_of};
use super::life::{Counts, Mode, Start, live};
use super::machine::{Machine, Planted, Sectors};
use super::model::Journal;
use super::tally::Tally;
use super::workload::{Before, Workload};
use crate::chance::Chance;

/// When a machine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// When the request of this number is submitted.
    Submitted(u64),
    /// When so many requests have completed.
    Completed(u64),
}

/// What all crashes of a run of this program share.
pub struct Crasher {
    /// What is tried of each moment.
    pub effort: Effort,
    /// How often a recovery crashes again.
    pub depth: usize,
    /// How many images of a piece of work are where such recoveries begin.
    pub nested: usize,
    /// What is planted.
    pub planted: Planted,
    /// Whether also those images are opened of which it is known what would come of it.
    pub open_all: bool,
    /// Images that have been seen, with what was expected of them.
    seen: Mutex<HashSet<u64>>,
    checker: Checker,
}

/// Which of the moments of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The remainder of the number of a moment,
    pub part: usize,
    /// by this.
    pub of: usize,
}

/// A check that was made, in terms of what it read.
struct Checked {
    lengths: Vec<Option<u64>>,
    /// Sectors, by their place in the list of those that vary, with the hash of what they held.
    read: Vec<(usize, u64)>,
}

impl Crasher {
    /// One that has seen nothing yet.
    pub fn new(effort: Effort, depth: usize, nested: usize, planted: Planted) -> Self {
        let (seen, checker) = Default::default();
        Self { effort, depth, nested, planted, open_all: false, seen, checker }
    }

    /// Crashes a workload at those moments; complaints are in the tally.
    pub fn crash(
        &self,
        workload: &Workload,
        start: &Start,
        seed: u64,
        share: Share,
        tally: &mut Tally,
    ) {
        let mut chance = Chance::new(seed ^ (share.part as u64) << 32);
        let trail = format!("{} --seed {seed}", workload.name);
        let (depth, nested) = (self.depth, self.nested);
        self.crash_all(workload, start, seed, share, (depth, nested), &trail, &mut chance, tally);
    }

    #[expect(clippy::too_many_arguments, reason = "what a recursion hands down")]
    fn crash_all(
        &self,
        workload: &Workload,
        start: &Start,
        seed: u64,
        share: Share,
        (depth, nested): (usize, usize),
        trail: &str,
        chance: &mut Chance,
        tally: &mut Tally,
    ) {
        let moments = match moments(workload, start, seed, self.planted) {
            Ok(moments) => moments,
            Err(what) => return tally.complain(format!("{trail}: {what}")),
        };
        let mut starts = Nested { wanted: nested, seen: 0, kept: Vec::new() };
        let mine = moments.into_iter().enumerate();
        for (_, moment) in mine.filter(|(number, _)| number % share.of == share.part) {
            if tally.is_enough() {
                return;
            }
            let trail = format!("{trail}, {moment:?}");
            tally.moments += 1;
            match crash_at(workload, start, seed, moment, self.planted) {
                Ok((machine, journal)) => {
                    let life = start.life + 1;
                    let expected = Expected::of(&journal);
                    let mut sound = |image: SimImage, found, fate: &str| {
                        let states = if expected.exists() { vec![found] } else { Vec::new() };
                        let start = Start { image, states, life };
                        starts.offer(start, format!("{trail}, {fate}"), chance);
                    };
                    let mut own = Chance::new(seed ^ moment.number());
                    self.images(&machine, &expected, moment, &trail, &mut own, tally, &mut sound);
                }
                Err(what) => tally.complain(format!("{trail}: {what}")),
            }
        }
        if depth == 0 {
            return;
        }
        let recovery = Workload::new(workload.name, Before::Nothing, Vec::new())
            .from_opening()
            .frames(workload.frames);
        for (start, trail) in starts.kept {
            let (whole, seed) = (Share { part: 0, of: 1 }, chance.number() % 1000);
            let trail = format!("{trail}; then, while it recovers with seed {seed}");
            let deeper = (depth - 1, 1);
            self.crash_all(&recovery, &start, seed, whole, deeper, &trail, chance, tally);
        }
    }

    /// Checks what a dead machine may leave.
    #[expect(clippy::too_many_arguments, reason = "one step of a loop with much context")]
    fn images(
        &self,
        machine: &Machine,
        expected: &Expected,
        moment: Moment,
        trail: &str,
        chance: &mut Chance,
        tally: &mut Tally,
        sound: &mut dyn FnMut(SimImage, super::model::State, &str),
    ) {
        let disk = machine.sim().disk();
        let unsynced = disk.unsynced();
        let sectors = sectors_of(&unsynced);
        let mut checked: Vec<Checked> = Vec::new();
        let expectation = expected.digest();
        for fate in fates(&unsynced, self.effort, chance) {
            tally.subsets += 1;
            let image = image_of(&disk, &fate);
            let mut hasher = DefaultHasher::new();
            (image.digest(), expectation).hash(&mut hasher);
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if !seen.insert(hasher.finish()) {
                continue;
            }
            drop(seen);
            tally.images += 1;
            let held = Held::of(&image, &sectors);
            if !self.open_all && checked.iter().any(|earlier| earlier.goes_for(&held)) {
                continue;
            }
            tally.opened += 1;
            let (result, touched) = self.checker.check(&image, expected, moment.number());
            checked.push(Checked::new(held, &sectors, &touched));
            let fate = || describe(&unsynced, &fate);
            match result {
                Ok(found) => sound(image, found, &fate()),
                Err(what) => tally.complain(format!("{trail}, {}: {what}", fate())),
            }
            if tally.is_enough() {
                return;
            }
        }
    }
}

/// What an image holds of the sectors that vary.
struct Held {
    lengths: Vec<Option<u64>>,
    sectors: Vec<u64>,
}

impl Held {
    fn of(image: &SimImage, sectors: &[(String, u64)]) -> Self {
        let hash = |(name, offset): &(String, u64)| {
            let bytes = image.read(name, *offset..*offset + SECTOR as u64);
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            hasher.finish()
        };
        let lengths = image.names().map(|name| image.len(name)).collect();
        Self { lengths, sectors: sectors.iter().map(hash).collect() }
    }
}

impl Checked {
    fn new(held: Held, sectors: &[(String, u64)], touched: &Sectors) -> Self {
        let read = held.sectors.iter().enumerate();
        let read = read.filter(|(number, _)| touched.contains(&sectors[*number]));
        Self { read: read.map(|(number, hash)| (number, *hash)).collect(), lengths: held.lengths }
    }

    /// Whether the check of an image that holds this would be the same.
    fn goes_for(&self, held: &Held) -> bool {
        self.lengths == held.lengths
            && self.read.iter().all(|(number, hash)| held.sectors[*number] == *hash)
    }
}

/// Some of the images that come along, each with the same chance.
struct Nested {
    wanted: usize,
    seen: usize,
    kept: Vec<(Start, String)>,
}

impl Nested {
    fn offer(&mut self, start: Start, trail: String, chance: &mut Chance) {
        self.seen += 1;
        if self.kept.len() < self.wanted {
            self.kept.push((start, trail));
        } else if self.wanted > 0 {
            let place = chance.below(self.seen);
            if let Some(kept) = self.kept.get_mut(place) {
                *kept = (start, trail);
            }
        }
    }
}

impl Moment {
    /// A number that other moments of the same kind do not have.
    pub fn number(self) -> u64 {
        match self {
            Moment::Submitted(number) => number * 2,
            Moment::Completed(number) => number * 2 + 1,
        }
    }
}

/// Runs the workload once without a crash: the moments that there are.
pub fn moments(
    workload: &Workload,
    start: &Start,
    seed: u64,
    planted: Planted,
) -> Result<Vec<Moment>, String> {
    let (machine, journal) = start.begin(seed, planted);
    let opened = Cell::new(None);
    let lived = live(workload, &machine, &journal, &opened, Mode::Crash);
    let lived = machine.sim().run(lived);
    drop(lived.map_err(|stalled| format!("without a crash: {stalled}"))??);
    machine.sim().settle().map_err(|stalled| format!("without a crash, at rest: {stalled}"))?;
    let from = match (workload.from_opening, opened.get()) {
        (false, Some(counts)) => counts,
        _ => Counts { submitted: 0, completed: 0 },
    };
    let to = Counts::of(&machine);
    let submitted = (from.submitted..=to.submitted).map(Moment::Submitted);
    Ok(submitted.chain((from.completed..=to.completed).map(Moment::Completed)).collect())
}

/// Runs the workload until the machine dies.
pub fn crash_at(
    workload: &Workload,
    start: &Start,
    seed: u64,
    moment: Moment,
    planted: Planted,
) -> Result<(Machine, Journal), String> {
    let (machine, journal) = start.begin(seed, planted);
    let disk = machine.sim().disk();
    match moment {
        Moment::Submitted(index) => disk.stop_at(index),
        Moment::Completed(count) => disk.stop_after(count),
    }
    let opened = Cell::new(None);
    let lived = live(workload, &machine, &journal, &opened, Mode::Crash);
    match machine.sim().run(lived) {
        Err(Stalled::Dead(_)) => {}
        Ok(Err(what)) => return Err(what),
        Err(stalled) => return Err(stalled.to_string()),
        // It died behind the last step, or will not.
        Ok(Ok(db)) => {
            drop(db);
            let settled = machine.sim().settle();
            settled.map_err(|stalled| format!("at rest: {stalled}"))?;
        }
    }
    Ok((machine, journal))
}
