//! Everything but reading and writing: background work, copies, time, closing and opening, crashes, faults,
//! and how much room there is.

use std::sync::Arc;
use std::time::Duration;

use treering::{Database, Error, ErrorKind};
use treering_pagefile::sim::{FailMode, Failure, SimFolder, SimImage, SimTask};
use treering_pagefile::{Disk, Op, Runtime};
use treering_txn::BackupTarget;

use super::history::State;
use super::{End, Run, contents};
use crate::base::{open, options};
use crate::format::PAGE;
use crate::input::Input;
use crate::machine::machine;

/// Background work that goes on beside whatever comes next.
pub(super) struct Flight {
    task: SimTask<Result<Landed, Error>>,
    /// The history's state when it began, unless it is beside changes whose order is not known.
    pub(super) since: Option<usize>,
}

/// How background work has ended.
pub(super) enum Landed {
    Done,
    /// What a check found wrong.
    Problems(Vec<String>),
    /// What is in a copy.
    Copy(State),
    /// Why a copy cannot be opened or read.
    NoCopy(Error),
}

impl Run {
    pub(super) fn background(&mut self, input: &mut Input<'_>) {
        let kind = input.byte() % 5;
        let work = work(self.up().database.clone(), kind);
        let end = self.run(work);
        if let Some(landed) = self.ended(end) {
            self.landed(landed, Some(self.history.count()));
            if matches!(kind, 0 | 1 | 4) {
                self.history.all_durable();
            }
        }
    }

    /// Begins background work and does not wait for it.
    pub(super) fn take_off(&mut self, input: &mut Input<'_>) {
        let (kind, database) = (input.byte() % 6, self.up().database.clone());
        let since = self.history.count();
        let task = match kind {
            5 => {
                let target = self.copy_target();
                self.sim.spawn(back_up(database, target))
            }
            _ => self.sim.spawn(work(database, kind)),
        };
        self.flying.push(Flight { task, since: Some(since) });
    }

    /// Waits for all background work.
    pub(super) fn land(&mut self) {
        for Flight { task, since } in std::mem::take(&mut self.flying) {
            let (lives, end) = (self.lives, self.run(task));
            if let Some(landed) = self.ended(end) {
                self.landed(landed, since);
            }
            if self.lives != lives {
                return;
            }
        }
    }

    fn landed(&self, landed: Landed, since: Option<usize>) {
        match landed {
            Landed::Done => {}
            // A page that cannot be read just now is one of them.
            Landed::Problems(problems) => {
                assert!(problems.is_empty() || self.faulty, "{problems:#?}")
            }
            Landed::NoCopy(error) => {
                let full = self.full && error.kind() == ErrorKind::Full;
                assert!(self.faulty || full, "a copy that cannot be opened: {error}");
            }
            Landed::Copy(state) => {
                let known = since.is_none_or(|since| self.history.since(since).contains(&state));
                assert!(known, "a copy of what never was");
            }
        }
    }

    pub(super) fn back_up(&mut self) {
        let (database, target) = (self.up().database.clone(), self.copy_target());
        let end = self.run(back_up(database, target));
        if let Some(landed) = self.ended(end) {
            self.landed(landed, Some(self.history.count()));
        }
    }

    /// A new folder on the same disk, and the runtime to open what will be there.
    fn copy_target(&mut self) -> (Arc<dyn Disk>, Arc<dyn Runtime>) {
        self.counter += 1;
        let folder = SimFolder::new(self.sim.disk(), &format!("copy {}/", self.counter));
        (Arc::new(folder), self.sim.runtime())
    }

    /// Time passes: timers of the engine's expire.
    pub(super) fn sleep(&mut self, input: &mut Input<'_>) {
        let time = Duration::from_micros(1 << (input.byte() % 24));
        let sleep = self.sim.runtime().sleep(time);
        let end = self.run(async {
            sleep.await;
            Ok(())
        });
        self.ended(end);
    }

    pub(super) fn reopen(&mut self) {
        self.flying.clear();
        let up = self.up.take();
        let closed = self.run(async {
            match &up {
                Some(up) => up.database.close().await,
                None => Ok(()),
            }
        });
        drop(up);
        match closed {
            End::Done(Ok(())) => self.history.all_durable(),
            End::Done(Err(error)) => {
                let full = self.full && error.kind() == ErrorKind::Full;
                assert!(self.faulty || full, "nothing fails: {error}");
            }
            End::Died => {}
        }
        self.crash(3);
    }

    /// Closes it, or drops it, or pulls the plug, and opens it with another cache, log and chance.
    pub(super) fn reopen_otherwise(&mut self, input: &mut Input<'_>) {
        let (how, sizes) = (input.byte() % 4, input.byte());
        self.seed = 1 + u64::from(input.byte());
        let frames = [64, 16, 20, 32, 48, 128, 512, 4096][usize::from(sizes % 8)];
        let log = [64, 24, 40, 256][usize::from(sizes / 8 % 4)];
        let buffer = [8, 2, 4, 16][usize::from(sizes / 32 % 4)];
        let options = options().cache_size(frames * PAGE as u64).log_size(log << 10);
        self.options = options.log_buffer(buffer << 10);
        match how {
            0 | 1 => self.reopen(),
            2 => {
                // The last handle goes: the engine ends by itself.
                (self.flying, self.up) = (Vec::new(), None);
                let rested = self.sim.settle();
                assert!(rested.is_ok() || self.faulty, "the engine never rests: {rested:?}");
                self.crash(3);
            }
            _ => self.crash(u64::from(sizes)),
        }
    }

    /// The power fails, or the process is killed, and then again, or something fails, while the database is
    /// opened. Whoever looks at it without writing finds the same as whoever opens it.
    pub(super) fn crash_twice(&mut self, input: &mut Input<'_>) {
        let disk = self.sim.disk();
        disk.clear_faults();
        let image = match input.byte() % 4 {
            0 => disk.image_visible(),
            1 => disk.image_durable_only(),
            _ => disk.image_by_seed(u64::from(input.byte())),
        };
        let (how, at) = (input.byte() % 8, u64::from(input.byte() % 64));
        if how == 0 {
            self.look_only(&image);
        }
        self.boot(&image);
        let disk = self.sim.disk();
        match how {
            0 | 1 => {}
            2 => disk.fail_at(at, 5, FailMode::Once),
            3 => disk.fail_at(at, 5, FailMode::FromThenOn),
            4 => disk.fail_at(at, 28, FailMode::Once),
            5 => disk.set_capacity(disk.space_used() + (at << 9)),
            _ => disk.stop_at(at),
        }
        (self.faulty, self.full) = (matches!(how, 2..=4 | 6 | 7), how == 5 || self.full);
        self.start();
    }

    /// Opens what a crash has left for reading only.
    fn look_only(&mut self, image: &SimImage) {
        let sim = machine(image);
        let found = sim.run(async {
            // What is replayed has to fit into memory.
            let options = options().cache_size(1 << 20).read_only(true);
            let database = open(&sim, options, self.lives + 1).await?;
            let state = contents(&database).await?;
            database.close().await?;
            Ok::<_, Error>(state)
        });
        match found {
            Ok(Ok(state)) => {
                assert!(self.history.allows(&state), "only looking finds what never was");
                self.history.recovered(state);
            }
            Ok(Err(error)) => panic!("a sound database can be looked at: {error}"),
            Err(stalled) => panic!("it never ends: {stalled}"),
        }
    }

    /// Soon an I/O fails, or all from it on, or the machine stops there.
    pub(super) fn fault(&mut self, input: &mut Input<'_>) {
        let disk = self.sim.disk();
        let at = disk.io_count() + u64::from(input.byte() % 64);
        match input.byte() % 4 {
            0 => disk.stop_at(at),
            1 => disk.fail_at(at, 5, FailMode::FromThenOn),
            2 => disk.fail_at(at, 28, FailMode::Once),
            _ => disk.fail_at(at, 5, FailMode::Once),
        }
        self.faulty = true;
    }

    /// Soon a sync fails, or a write, a read or an allocation, and maybe more of that kind after it; or the
    /// machine stops when so many I/Os have completed.
    pub(super) fn fault_of_a_kind(&mut self, input: &mut Input<'_>) {
        let (disk, kind) = (self.sim.disk(), input.byte() % 8);
        let (mut left, style) = (input.byte() % 16, input.byte());
        self.faulty = true;
        if kind == 7 {
            return disk.stop_after(disk.completed_count() + u64::from(left));
        }
        let (lasts, failure) = (style & 1 != 0, if style & 2 != 0 { 28 } else { 5 });
        disk.fail_when(move |point| {
            let meant = match kind {
                0 | 1 => matches!(point.op, Op::Sync),
                2 => matches!(point.op, Op::Write),
                3 => matches!(point.op, Op::WriteDurable),
                4 => matches!(point.op, Op::Read),
                _ => matches!(point.op, Op::Allocate { .. }),
            };
            if !meant {
                return None;
            }
            let strikes = left == 0;
            left = match (left, lasts) {
                (0, true) => 0,
                (0, false) => u8::MAX,
                (left, _) => left - 1,
            };
            strikes.then_some(Failure::Errno(failure))
        });
    }

    /// Some requests stand still for long, and some transfers are done in parts.
    pub(super) fn disturb(&mut self, input: &mut Input<'_>) {
        let (disk, how) = (self.sim.disk(), input.byte());
        let stalls = u64::from(how & 15);
        // If every request stood still, the clock would jump for each.
        disk.stall(if stalls == 0 { 0 } else { 4 + stalls });
        disk.shorten(u64::from(how >> 4));
    }

    /// The disk has so much room left, or as much as anybody wants.
    pub(super) fn limit(&mut self, input: &mut Input<'_>) {
        let disk = self.sim.disk();
        let limited = input.flag();
        // What began on a full disk may still say so.
        self.full = limited || (self.full && !self.flying.is_empty());
        let room = if limited { disk.space_used() + u64::from(input.u16()) } else { u64::MAX };
        disk.set_capacity(room);
    }
}

/// One of the things that a database can be asked to do.
async fn work(database: Database, kind: u8) -> Result<Landed, Error> {
    match kind {
        0 => database.checkpoint().await?,
        1 => database.sync().await?,
        2 => drop(database.compact().await?),
        3 => database.tidy().await?,
        _ => return Ok(Landed::Problems(database.verify().await?.problems)),
    }
    Ok(Landed::Done)
}

/// Makes a copy, opens it, and says what is in it.
async fn back_up(
    database: Database,
    (disk, runtime): (Arc<dyn Disk>, Arc<dyn Runtime>),
) -> Result<Landed, Error> {
    let folder = Arc::clone(&disk);
    let target = move || Ok(BackupTarget { disk: folder, entropy: 1, keep: Box::new(()) });
    database.engine().backup(target).await?;
    let opened = async {
        let copy = options().create(false).open_on(disk, runtime, 2).await?;
        let state = contents(&copy).await?;
        copy.close().await?;
        Ok::<_, Error>(state)
    };
    Ok(opened.await.map_or_else(Landed::NoCopy, Landed::Copy))
}
