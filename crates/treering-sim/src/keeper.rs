//! The keeper: a task that looks after the database while clients use it. Checkpoints, merging,
//! compacting, verifying, backups.

use std::sync::Arc;
use std::time::Duration;

use treering::{Database, Error, ErrorKind, Options};
use treering_pagefile::sim::{Sim, SimDisk, SimFolder};
use treering_pagefile::{Disk, Runtime};
use treering_txn::BackupTarget;

use crate::chance::Chance;
use crate::world::{LookError, World, is_end, look};

/// The keeper of one life.
pub struct Keeper {
    /// The database.
    pub db: Database,
    /// What there is to know of it.
    pub world: Arc<World>,
    /// Where its disk is, for copies.
    pub disk: Arc<SimDisk>,
    /// What it runs on.
    pub runtime: Arc<dyn Runtime>,
    /// Its chance.
    pub chance: Chance,
    /// Whether the disk may lie.
    pub lies: bool,
    /// Whether reads may fail.
    pub reads_fail: bool,
    /// Begins the names of the copies that it makes.
    pub copies: String,
    /// The longest pause between two things that it does.
    pub pause: Duration,
    /// Requests that are ever in flight at once, at most.
    pub in_flight: usize,
}

/// The database is at its end.
struct Gone;

impl Keeper {
    /// The keeper of a database on this machine.
    pub fn new(sim: &Sim, db: &Database, world: &Arc<World>, chance: Chance) -> Self {
        Self {
            db: db.clone(),
            world: Arc::clone(world),
            disk: sim.disk(),
            runtime: sim.runtime(),
            chance,
            lies: false,
            reads_fail: false,
            copies: "copy".to_owned(),
            pause: Duration::from_millis(2),
            in_flight: 4096,
        }
    }

    /// Does so many things, or as many as there are until the database is gone.
    pub async fn run(mut self, count: usize) {
        for _ in 0..count {
            let most = self.pause.as_micros().max(1) as usize;
            let pause = Duration::from_micros(self.chance.below(most) as u64);
            self.runtime.sleep(pause).await;
            if !self.lies && all_room_is_known(&self.db, &self.disk) {
                self.world.count("room accounted for");
            }
            let stepped = self.step().await;
            self.world.doing(self.world.journals.len(), None);
            if stepped.is_err() {
                return;
            }
            let in_flight = self.disk.in_flight();
            assert!(in_flight <= self.in_flight, "{in_flight} requests are in flight");
        }
    }

    async fn step(&mut self) -> Result<(), Gone> {
        let told = self.world.told();
        let doing = |what| self.world.doing(self.world.journals.len(), Some(what));
        match self.chance.below(20) {
            0..=5 => {
                doing("checkpoint");
                let checkpoint = self.db.checkpoint().await;
                if self.done("checkpoint", checkpoint)? {
                    self.world.tell(told, true);
                }
            }
            6..=9 => {
                doing("sync");
                let synced = self.db.sync().await;
                if self.done("sync", synced)? {
                    self.world.tell(told, true);
                }
            }
            10..=11 => {
                doing("tidy");
                let tidied = self.db.tidy().await;
                self.done("tidy", tidied)?;
            }
            12..=14 => {
                doing("compact");
                let compacted = self.db.compact().await.map(drop);
                self.done("compact", compacted)?;
            }
            15..=17 => {
                doing("verify");
                let report = self.db.verify().await;
                let problems = report.as_ref().map_or(Vec::new(), |found| found.problems.clone());
                // A page that cannot be read just now is one of them.
                let excused = self.lies || self.reads_fail;
                assert!(problems.is_empty() || excused, "verify says {problems:#?}");
                self.done("verify", report.map(drop))?;
            }
            _ => {
                doing("backup");
                self.back_up(told).await?;
            }
        }
        Ok(())
    }

    /// Whether it was done. What the disk has to answer for is no mistake.
    fn done(&self, what: &'static str, result: Result<(), Error>) -> Result<bool, Gone> {
        match result {
            Ok(()) => {
                self.world.count(what);
                Ok(true)
            }
            Err(error) if is_end(&error) => Err(Gone),
            Err(error) => {
                let excused = match error.kind() {
                    ErrorKind::Io | ErrorKind::Full => true,
                    ErrorKind::Damaged => self.lies,
                    _ => false,
                };
                assert!(excused, "{what}: {error:?}");
                self.world.count("upkeep failed");
                Ok(false)
            }
        }
    }

    /// Makes a copy, opens it, and judges it as what a crash would have left.
    async fn back_up(&mut self, told: u64) -> Result<(), Gone> {
        self.copies.push('+');
        let folder = Arc::new(SimFolder::new(Arc::clone(&self.disk), &self.copies));
        let clients = self.world.journals.len();
        let ended: Vec<usize> =
            (0..clients).map(|client| self.world.journal(client).ended()).collect();
        let (disk, entropy) = (Arc::clone(&folder), self.chance.number());
        let target = move || Ok(BackupTarget { disk, entropy, keep: Box::new(()) });
        let backed_up = self.db.engine().backup(target).await.map_err(Error::from);
        let sequence = match backed_up {
            Ok(copied) => copied.sequence,
            Err(error) => return self.done("backup", Err(error)).map(drop),
        };
        assert!(sequence >= told, "{told} was acknowledged, the copy has {sequence}");
        let options = Options::new().cache_size(64 << 10).create(false);
        let entropy = self.chance.number();
        let opened = options.open_on(folder, Arc::clone(&self.runtime), entropy).await;
        let copy = match opened {
            Ok(copy) => copy,
            Err(error) => return self.done("backup", Err(error)).map(drop),
        };
        let found = match look(&copy, clients).await {
            Ok(found) => found,
            Err(LookError::Wrong(why)) => panic!("in the copy: {why}"),
            Err(LookError::Engine(error)) => return self.done("backup", Err(error)).map(drop),
        };
        for (client, own) in found.own.iter().enumerate() {
            let journal = self.world.journal(client).clone();
            let judged = journal.judge_copy(own, sequence, ended[client]);
            assert!(judged.is_ok(), "keys of client {client} in the copy: {judged:?}");
        }
        let judged = self.world.lists().judge(&found.lists, sequence);
        assert!(judged.is_ok(), "in the copy: {judged:?}");
        let _ = copy.close().await;
        self.world.count("backup");
        Ok(())
    }
}

/// The page file has the room that the engine knows of, and no more: what a growth that failed has taken
/// would be lost to everybody. False if that cannot be told just now. Not for a disk that lies: writes that
/// go elsewhere make the file longer, too.
///
/// # Panics
/// If it has more.
pub fn all_room_is_known(db: &Database, disk: &SimDisk) -> bool {
    // A growth under way has some that is not counted yet; so has one whose sync failed, for good.
    if disk.in_flight() > 0 || db.engine().check().is_err() {
        return false;
    }
    let file = db.engine().pool().file();
    let known = file.space().file;
    let Ok(has) = disk.len(file.file()) else { return false };
    let tail = file.page_size() as u64;
    assert!(has < known + tail, "the page file has {has} bytes, the engine knows of {known}");
    true
}
