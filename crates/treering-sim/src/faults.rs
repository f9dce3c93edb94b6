//! What goes wrong with the disk of one life, and how often.

use treering_pagefile::Op;
use treering_pagefile::sim::{Failure, FaultPoint, Lie, SimDisk};

use crate::chance::Chance;

/// How often what happens: once in so many I/Os, and never if it is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A read fails.
    pub read_error: usize,
    /// A write fails, and some of its sectors are there.
    pub write_error: usize,
    /// A sync fails, and what it was for counts as clean.
    pub sync_error: usize,
    /// An allocation finds no space.
    pub no_space: usize,
    /// An allocation or a write that finds no space keeps a part of it all the same.
    pub part: usize,
    /// A request stands still for a long time.
    pub stall: usize,
    /// A transfer is done in two parts.
    pub short: usize,
    /// A write of pages is lost, or goes elsewhere.
    pub lost_write: usize,
    /// A read of pages comes from elsewhere.
    pub stray_read: usize,
    /// A bit of a page is flipped, on the way out or in.
    pub flipped_bit: usize,
}

/// Something planted that makes a promise impossible to keep: a history that does not notice checks
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// Syncs and durable writes of the disk leave everything in its cache.
    VolatileSyncs,
    /// As it, of the log only.
    VolatileLog,
    /// Now and then a write of the log is lost.
    LostLogWrites,
    /// What was acknowledged as buffered is taken for durable.
    BufferedTakenForDurable,
    /// What was committed to the lists is taken for one commit behind where it was.
    CommitsInAnotherOrder,
}

impl Planted {
    /// Has the disk behave like that, if it is the disk's.
    pub fn apply(self, disk: &SimDisk, chance: &mut Chance) {
        let pages = treering_pagefile::Disk::open(disk, PAGES, false).ok();
        let mut losing = chance.fork();
        disk.lie_when(move |point| match self {
            Planted::VolatileSyncs => Some(Lie::Volatile),
            Planted::VolatileLog => (pages != Some(point.file)).then_some(Lie::Volatile),
            Planted::LostLogWrites => {
                let is_hit = pages != Some(point.file) && losing.one_in(20);
                is_hit.then_some(Lie::Lost)
            }
            Planted::BufferedTakenForDurable | Planted::CommitsInAnotherOrder => None,
        });
    }
}

/// The name of the file that the disk may lie about.
const PAGES: &str = "pages";
/// Where its data begin, behind the superblocks. Both of these lost is a database lost, which no
/// engine can tell from an older one.
const DATA: u64 = 32 << 10;

impl Faults {
    /// The faults of a life, by chance: often none, often one kind, sometimes all.
    pub fn draw(chance: &mut Chance) -> Self {
        let mut faults = Self::default();
        match chance.below(10) {
            0..=2 => {}
            3 => faults.read_error = 20 + chance.below(100),
            4 => faults.write_error = 100 + chance.below(800),
            5 => faults.sync_error = 3 + chance.below(60),
            6 => {
                faults.no_space = 2 + chance.below(20);
                faults.part = chance.below(4);
            }
            7 => faults.lost_write = 50 + chance.below(500),
            8 => {
                faults.stray_read = 50 + chance.below(200);
                faults.flipped_bit = 50 + chance.below(200);
            }
            _ => {
                faults = Self {
                    read_error: 100 + chance.below(400),
                    write_error: 500 + chance.below(2000),
                    sync_error: 100 + chance.below(400),
                    no_space: 10 + chance.below(50),
                    part: 1 + chance.below(3),
                    stall: 0,
                    short: 0,
                    lost_write: 500 + chance.below(2000),
                    stray_read: 200 + chance.below(1000),
                    flipped_bit: 200 + chance.below(1000),
                }
            }
        }
        if chance.one_in(2) {
            faults.stall = 10 + chance.below(100);
        }
        if chance.one_in(2) {
            faults.short = 2 + chance.below(20);
        }
        faults
    }

    /// Whether the disk says that it has done what it has not.
    pub fn lie(&self) -> bool {
        self.lost_write + self.stray_read + self.flipped_bit > 0
    }

    /// Whether what was written may be damaged for good.
    pub fn damage(&self) -> bool {
        self.lost_write + self.flipped_bit > 0
    }

    /// Whether I/Os fail.
    pub fn fail(&self) -> bool {
        self.read_error + self.write_error + self.sync_error + self.no_space > 0
    }

    /// Has the disk behave like that from now on.
    pub fn apply(self, disk: &SimDisk, page_size: usize, chance: &mut Chance) {
        if self.no_space > 0 && chance.one_in(2) {
            // Full for good, and not only now and then.
            disk.set_capacity(disk.space_used() + (chance.below(60) * page_size) as u64);
        }
        disk.stall(self.stall as u64);
        disk.shorten(self.short as u64);
        disk.take_parts(self.part as u64);
        let mut failing = chance.fork();
        disk.fail_when(move |point| self.failure(point, &mut failing).map(Failure::from));
        if self.lie() {
            let mut lying = chance.fork();
            // It is asked by number; the file is there as soon as a database is.
            let pages = treering_pagefile::Disk::open(disk, PAGES, false).ok();
            disk.lie_when(move |point| {
                let spared = pages != Some(point.file) || point.offset < DATA;
                if spared { None } else { self.falsehood(point, page_size, &mut lying) }
            });
        }
    }

    /// Has the disk behave again.
    pub fn clear(disk: &SimDisk) {
        disk.clear_faults();
        disk.set_capacity(u64::MAX);
    }

    fn failure(&self, point: &FaultPoint, chance: &mut Chance) -> Option<i32> {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        let (one_in, errno) = match point.op {
            Op::Read => (self.read_error, EIO),
            Op::Write | Op::WriteDurable => (self.write_error, EIO),
            Op::Sync => (self.sync_error, EIO),
            Op::Allocate { .. } => (self.no_space, ENOSPC),
        };
        chance.one_in(one_in).then_some(errno)
    }

    fn falsehood(&self, point: &FaultPoint, page_size: usize, chance: &mut Chance) -> Option<Lie> {
        let reads = point.op == Op::Read;
        let strays = if reads { self.stray_read } else { self.lost_write };
        if chance.one_in(strays) {
            let pages = (point.offset / page_size as u64 + 8) as usize;
            let offset = DATA + (chance.below(pages) * page_size) as u64;
            let lost = !reads && chance.one_in(2);
            return Some(if lost { Lie::Lost } else { Lie::Misdirected { offset } });
        }
        let flips = chance.one_in(self.flipped_bit);
        flips.then(|| Lie::FlippedBit { bit: chance.number() % (point.len * 8).max(1) })
    }
}
