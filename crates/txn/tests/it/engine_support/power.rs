//! The power fails at every I/O of a load: where it begins, what is left, and what goes on from it.

use std::sync::Arc;

use treering_pagefile::sim::{Sim, SimDisk, SimImage, Stalled};
use treering_txn::Error;

use super::journal::Journal;
use super::workload::{Load, NAMES};
use super::{Model, Rng, assert_clean, assert_same, contents, machine, open, options, patient};

/// Where a load begins.
#[derive(Clone, Default)]
pub struct Start {
    pub image: Option<SimImage>,
    pub journal: Journal,
}

/// What is left of a load by a crash, and how a check names it.
pub struct Left<'a> {
    pub image: &'a SimImage,
    pub journal: &'a Journal,
    /// The I/O at which the power failed.
    pub index: u64,
    /// Whether it is everything that was ever written.
    pub everything: bool,
    pub context: &'a str,
}

impl Start {
    /// What this load leaves when it is killed at its end.
    pub fn after(load: &Load) -> Self {
        let (sim, journal) = (machine(load.seed), Journal::default());
        sim.run(load.run(&sim, &journal, never)).unwrap().unwrap();
        Self { image: Some(sim.disk().crash(load.seed)), journal }
    }

    fn machine(&self, seed: u64) -> Sim {
        match &self.image {
            Some(image) => patient(Sim::from_image(image, seed)),
            None => machine(seed),
        }
    }

    /// Runs the load with the power failing at every `stride`th I/O, from the first on, and checks
    /// what is left: only what was durable, everything, and so many `subsets`. The load has to do more
    /// than `ios_min` I/Os.
    pub fn crash_everywhere(
        &self,
        load: &Load,
        ios_min: u64,
        stride: usize,
        subsets: u64,
        mut check: impl FnMut(Left<'_>),
    ) {
        let whole = self.machine(load.seed);
        whole
            .run(load.run(&whole, &self.journal.fork(), never))
            .unwrap_or_else(|stalled| panic!("{load:?}: {stalled}"))
            .unwrap_or_else(|error| panic!("{load:?}: {error}"));
        let count = whole.disk().io_count();
        assert!(count > ios_min, "{load:?} does {count} I/Os only");
        for index in (0..=count).step_by(stride) {
            let (disk, journal) = self.crash_at(load, index);
            let mut images = vec![
                ("durable only".to_owned(), disk.image_durable_only()),
                ("everything".to_owned(), disk.image_everything()),
            ];
            images.extend((0..subsets).map(|number| {
                let seed = index * 1000 + number;
                (format!("subset {seed}"), disk.image_by_seed(seed))
            }));
            for (name, image) in images {
                let context = &*format!("{load:?}, crash at I/O {index}, {name}");
                let (image, journal) = (&image, &journal);
                let everything = name == "everything";
                check(Left { image, journal, index, everything, context });
            }
        }
    }

    fn crash_at(&self, load: &Load, index: u64) -> (Arc<SimDisk>, Journal) {
        let (sim, journal) = (self.machine(load.seed), self.journal.fork());
        sim.disk().stop_at(index);
        match sim.run(load.run(&sim, &journal, never)) {
            Err(Stalled::Dead(_)) => {}
            // Some calls of a dead disk fail at once.
            Ok(_) if sim.disk().is_dead() || sim.disk().io_count() <= index => {}
            other => panic!("{load:?}, crash at I/O {index}: {other:?}"),
        }
        (sim.disk(), journal)
    }

    /// Crashes at one of the first `ios` I/Os, what is left of that again, four deep, in so many
    /// `rounds`.
    pub fn crash_recoveries(
        &self,
        load: &Load,
        rounds: u64,
        ios: usize,
        mut check: impl FnMut(Left<'_>),
    ) {
        let mut rng = Rng::new(load.seed);
        for round in 0..rounds {
            let mut start = self.clone();
            for depth in 0..4 {
                let index = rng.below(ios) as u64;
                let (disk, journal) = start.crash_at(load, index);
                let image = disk.image_by_seed(round * 10 + depth);
                let context = &*format!("{load:?}, round {round}, depth {depth}, I/O {index}");
                check(Left { image: &image, journal: &journal, index, everything: false, context });
                start = Start { image: Some(image), journal };
            }
        }
    }
}

/// The end without closing of a machine that has been checked, and another opening: what is there
/// then is `before`.
pub fn once_more(mut sim: Sim, before: &Model, seed: u64, context: &str) {
    sim.settle().unwrap();
    let image = sim.disk().image_visible();
    sim.restart(&image, seed + 1);
    let after = sim.run(async {
        let engine = open(&sim, options(16, 1 << 42 | seed)).await.unwrap();
        let found = contents(&engine, &NAMES).await.unwrap();
        assert_clean(&engine, context).await;
        engine.close().await.unwrap();
        found
    });
    let after = after.unwrap_or_else(|stalled| panic!("{context}, once more: {stalled}"));
    assert_same(&after, before, context);
}

fn never(_: &Error) -> bool {
    false
}
