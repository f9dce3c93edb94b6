//! A history: a database's lives, one after the other, each with clients, faults and an end, and all of
//! it a function of one seed.
//!
//! A life begins with opening the database, now and then with the power failing in the middle of that,
//! several times if chance wants it. Then everything is read, and judged by what the clients were told
//! in the life before: what was acknowledged is there, what was not is there as a whole or not at all,
//! and no commit is missing before one that is there. Then the faults set in, clients and a
//! [keeper](crate::keeper) go to work, and the life ends in order, or not.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join, join_all, select};
use treering::{Database, Error, ErrorKind, Options};
use treering_pagefile::sim::{Sim, SimImage, Stalled, TraceEvent};

use crate::chance::Chance;
use crate::client::{Client, Habits};
use crate::faults::{Faults, Planted};
use crate::keeper::{Keeper, all_room_is_known};
use crate::world::{LookError, World, look, make_trees};

/// What a history came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Lives of the database.
    pub lives: u64,
    /// Ends by a failing power, in recovery or later.
    pub crashes: u64,
    /// I/Os of all machines.
    pub ios: u64,
    /// Virtual time.
    pub time: Duration,
    /// Of every I/O: when, where, with which bytes, and how it ended.
    pub trace: u64,
    /// What happened how often.
    pub events: BTreeMap<&'static str, u64>,
}

/// Of virtual time: longer than anything takes that is not stuck.
const FAULTS_LAST: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    /// The last handle is dropped.
    Stop,
    /// The power fails.
    Crash,
    /// The process is killed, and the machine stays up.
    Kill,
}

struct History {
    seed: u64,
    chance: Chance,
    world: Arc<World>,
    page_size: usize,
    sim: Sim,
    openings: u64,
    /// The disk has lied about what it wrote, so there may be damage.
    damaged: bool,
    records: bool,
    events: Vec<TraceEvent>,
    outcome: Outcome,
}

/// Runs the history with this seed.
///
/// # Panics
/// If anything is not as it has to be.
pub fn run(seed: u64) -> Outcome {
    History::new(seed, None).run().0
}

/// As [`run`], with something that makes it fail, sooner or later.
///
/// # Panics
/// If it was noticed.
pub fn run_planted(seed: u64, planted: Planted) -> Outcome {
    History::new(seed, Some(planted)).run().0
}

/// As [`run`], with every I/O.
///
/// # Panics
/// As [`run`].
pub fn run_traced(seed: u64) -> (Outcome, Vec<TraceEvent>) {
    let mut history = History::new(seed, None);
    history.records = true;
    history.run()
}

impl History {
    fn new(seed: u64, planted: Option<Planted>) -> Self {
        let mut chance = Chance::new(seed);
        let clients = 1 + chance.below(8);
        let page_size = *chance.pick(&[512, 512, 512, 1024, 4096]);
        Self {
            seed,
            world: Arc::new(World::new(clients, planted)),
            page_size,
            sim: Sim::new(chance.number()),
            chance,
            openings: 0,
            damaged: false,
            records: false,
            events: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    fn run(mut self) -> (Outcome, Vec<TraceEvent>) {
        if self.records {
            self.sim.disk().record_trace();
        }
        let lives = 2 + self.chance.below(4);
        for life in 0..lives {
            if life > 0 {
                self.fail_in_recovery();
            }
            self.outcome.lives += 1;
            let end = *self.chance.pick(&[
                End::Close,
                End::Stop,
                End::Crash,
                End::Crash,
                End::Crash,
                End::Kill,
            ]);
            if !self.live(life, end) {
                self.world.count("histories that ended with reported damage");
                break;
            }
        }
        self.leave();
        self.outcome.events = self.world.counts();
        (self.outcome, self.events)
    }

    /// Opens the database a few times with the power failing meanwhile.
    fn fail_in_recovery(&mut self) {
        while self.chance.one_in(3) {
            let index = self.sim.disk().io_count() + self.chance.below(60) as u64;
            self.sim.disk().stop_at(index);
            let (options, entropy) = self.options();
            let opened = self
                .sim
                .run(async { options.open_on(self.sim.disk(), self.sim.runtime(), entropy).await });
            match opened {
                Ok(Ok(_)) | Err(Stalled::Dead(_)) => {}
                Ok(Err(_)) if self.damaged || self.sim.disk().is_dead() => {}
                other => panic!("crash in recovery at I/O {index}: {other:?}"),
            }
            self.outcome.crashes += 1;
            self.world.count("crash in recovery");
            let image = self.sim.disk().image_by_seed(self.chance.number());
            self.restart(&image);
        }
    }

    /// One life; false if the disk's lies were found out, and there is no more to be had.
    fn live(&mut self, life: usize, end: End) -> bool {
        let faults = Faults::draw(&mut self.chance);
        let (options, entropy) = self.options();
        let reach = 4 + self.chance.below(9);
        let crash_in = self.chance.below(1 << reach) as u64;
        let operations = 10 + self.chance.below(60);
        let pause = *self.chance.pick(&[
            Duration::ZERO,
            Duration::from_millis(1),
            Duration::from_millis(50),
            Duration::from_secs(4),
        ]);
        let habits = Habits {
            drops: *self.chance.pick(&[0, 3, 10]),
            pause,
            large: *self.chance.pick(&[600, 3000, 12_000]),
            lies: self.damaged || faults.lie(),
        };
        let context = format!("seed {}, life {life}, {faults:?}, {end:?}", self.seed);
        let mut chance = self.chance.fork();
        let mut reported = false;
        let lived = self.sim.run(async {
            let opened = options.open_on(self.sim.disk(), self.sim.runtime(), entropy).await;
            let db = match opened {
                Ok(db) => db,
                Err(error) if self.damaged && is_damage(&error) => {
                    reported = true;
                    return;
                }
                Err(error) => panic!("opening: {error:?}"),
            };
            if !self.begin(&db).await {
                reported = true;
                return;
            }
            if life == 0 {
                make_trees(&db).await.unwrap_or_else(|error| panic!("making trees: {error:?}"));
                self.world.tell(db.stats().sequence, true);
            }
            if matches!(end, End::Crash | End::Kill) {
                self.sim.disk().stop_at(self.sim.disk().io_count() + crash_in);
            }
            faults.apply(&self.sim.disk(), self.page_size, &mut chance);
            if let Some(planted) = self.world.planted {
                planted.apply(&self.sim.disk(), &mut chance);
            }
            self.work(&db, operations, habits, life, faults, &mut chance).await;
            Faults::clear(&self.sim.disk());
            self.finish(db, end, faults).await;
        });
        match lived {
            Ok(()) => {}
            Err(Stalled::Dead(_)) if matches!(end, End::Crash | End::Kill) => {}
            Err(stalled) => panic!("{context}: {stalled}; {}", self.world.scene()),
        }
        self.damaged |= faults.damage();
        if reported {
            return false;
        }
        Faults::clear(&self.sim.disk());
        let image = match end {
            End::Crash => {
                self.outcome.crashes += 1;
                self.sim.disk().image_by_seed(self.chance.number())
            }
            End::Kill => self.sim.disk().image_visible(),
            End::Close | End::Stop => {
                let settled = self.sim.settle();
                settled.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
                self.sim.disk().image_visible()
            }
        };
        self.world.count(match end {
            End::Close => "closed",
            End::Stop => "stopped",
            End::Crash => "crashed",
            End::Kill => "killed",
        });
        self.restart(&image);
        true
    }

    /// Judges what is there; false if it is damaged, and says so.
    async fn begin(&self, db: &Database) -> bool {
        let found = match look(db, self.world.journals.len()).await {
            Ok(found) => found,
            Err(LookError::Engine(error)) if self.damaged && is_damage(&error) => return false,
            Err(error) => panic!("looking: {error:?}"),
        };
        let judged = self.world.begin_life(found, db.recovery().sequence);
        judged.unwrap_or_else(|why| panic!("{why}"));
        match db.verify().await {
            Ok(report) => {
                let problems = report.problems;
                assert!(problems.is_empty() || self.damaged, "verify says {problems:#?}");
                problems.is_empty()
            }
            Err(error) if self.damaged && is_damage(&error) => false,
            Err(error) => panic!("verifying: {error:?}"),
        }
    }

    async fn work(
        &self,
        db: &Database,
        operations: usize,
        habits: Habits,
        life: usize,
        faults: Faults,
        chance: &mut Chance,
    ) {
        let runtime = self.sim.runtime();
        let clients = (0..self.world.journals.len()).map(|number| {
            let chance = chance.fork();
            let client = Client::new(number, db, &self.world, &runtime, chance, habits);
            self.sim.spawn(client.run(operations))
        });
        let clients: Vec<_> = clients.collect();
        let mut keeper = Keeper::new(&self.sim, db, &self.world, chance.fork());
        (keeper.lies, keeper.reads_fail) = (habits.lies, faults.read_error > 0);
        keeper.copies = format!("copy{life}");
        keeper.pause = habits.pause.max(keeper.pause);
        let keeper = self.sim.spawn(keeper.run(operations / 8));
        let work = pin!(join(join_all(clients), keeper));
        let patience = self.sim.runtime().sleep(FAULTS_LAST);
        // What waits for room on a full disk waits until there is some.
        if let Either::Right((_, work)) = select(work, patience).await {
            self.world.count("waited until the faults stopped");
            Faults::clear(&self.sim.disk());
            work.await;
        }
    }

    async fn finish(&self, db: Database, end: End, faults: Faults) {
        if self.sim.disk().is_dead() {
            return; // Some of what a dead disk is asked for fails at once.
        }
        let checked = db.engine().check();
        let sound = checked.is_ok();
        assert!(sound || faults.fail() || faults.lie(), "the engine ended by itself: {checked:?}");
        if !faults.lie() && all_room_is_known(&db, &self.sim.disk()) {
            self.world.count("room accounted for");
        }
        let told = self.world.told();
        match end {
            End::Close => match db.close().await {
                Ok(()) => self.world.tell(told, true),
                Err(error) => {
                    let excused = !sound || faults.fail() || faults.lie();
                    assert!(excused, "closing: {error:?}");
                }
            },
            End::Stop if sound => self.world.tell(told, true),
            _ => {}
        }
    }

    fn options(&mut self) -> (Options, u64) {
        self.openings += 1;
        let frames = 16 + self.chance.below(80);
        let options = Options::new()
            .cache_size((frames * self.page_size) as u64)
            .log_buffer(8 << 10)
            .log_size(64 << 10 << self.chance.below(3))
            .flush_delay(Duration::from_millis(1 + self.chance.below(20) as u64));
        let options = match self.openings {
            1 => options.page_size(self.page_size),
            _ => options.create(false),
        };
        (options, self.chance.number() ^ self.openings)
    }

    fn restart(&mut self, image: &SimImage) {
        self.leave();
        self.sim.restart(image, self.chance.number());
        if self.records {
            self.sim.disk().record_trace();
        }
    }

    /// Takes down what the machine has done.
    fn leave(&mut self) {
        let disk = self.sim.disk();
        self.outcome.ios += disk.io_count();
        self.outcome.time += self.sim.runtime().now();
        self.outcome.trace = self.outcome.trace.rotate_left(7) ^ disk.trace_hash();
        self.events.extend(disk.trace());
    }
}

fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Damaged
}
