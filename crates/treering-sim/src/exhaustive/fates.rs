//! Which parts of what was not durable a crash keeps.
//!
//! Of few changes, every subset is tried, each change wholly there or wholly lost. Of many: none, all,
//! each lost alone, each kept alone, and a sample of the other subsets. In both cases each change that
//! can tear also does, among others that are all kept or all lost.

use treering_pagefile::sim::{SECTOR, SimDisk, SimImage, Unsynced, UnsyncedWhat};

use crate::chance::Chance;

/// What is tried of one moment.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Up to so many changes, every subset.
    pub every_subset_up_to: usize,
    /// Of more changes, so many subsets by chance.
    pub sampled: usize,
    /// Each change that can tear does so in so many ways.
    pub torn: usize,
}

/// What a crash keeps: of each change a mask of its sectors (the sector 64 shares a bit with the
/// first).
pub type Fate = Vec<u64>;

const ALL: u64 = u64::MAX;

/// The fates to try.
pub fn fates(unsynced: &[Unsynced], effort: Effort, chance: &mut Chance) -> Vec<Fate> {
    let count = unsynced.len();
    let one_differs = |one: usize, its: u64, others: u64| -> Fate {
        (0..count).map(|number| if number == one { its } else { others }).collect()
    };
    let mut fates = Vec::new();
    if count <= effort.every_subset_up_to {
        let subsets = 0..1u64 << count;
        fates.extend(subsets.map(|subset| {
            (0..count).map(|number| if subset >> number & 1 == 1 { ALL } else { 0 }).collect()
        }));
    } else {
        fates.extend([vec![0; count], vec![ALL; count]]);
        for number in 0..count {
            fates.extend([one_differs(number, 0, ALL), one_differs(number, ALL, 0)]);
        }
        for _ in 0..effort.sampled {
            fates.push((0..count).map(|_| if chance.percent(50) { ALL } else { 0 }).collect());
        }
    }
    for (number, change) in unsynced.iter().enumerate().filter(|(_, change)| change.sectors > 1) {
        for way in 0..effort.torn {
            // The first sectors, the last ones, and any.
            let middle = 1 + chance.below(change.sectors.min(64) - 1);
            let mask = match way {
                0 => (1 << middle) - 1,
                1 => ALL << middle,
                _ => chance.number(),
            };
            fates.extend([one_differs(number, mask, ALL), one_differs(number, mask, 0)]);
        }
    }
    fates
}

/// What the disk of a machine that died holds with this fate.
pub fn image_of(disk: &SimDisk, fate: &Fate) -> SimImage {
    disk.crash_keeping(|change, sector| fate[change] >> (sector % 64) & 1 == 1)
}

/// Writes a fate down.
pub fn describe(unsynced: &[Unsynced], fate: &Fate) -> String {
    let parts = unsynced.iter().zip(fate).map(|(change, mask)| {
        let what = match change.what {
            UnsyncedWhat::Data { offset, len } => format!("{len} bytes at {offset}"),
            UnsyncedWhat::SetLen(len) => format!("length {len}"),
            UnsyncedWhat::Extend(len) => format!("extension to {len}"),
            _ => "a change".to_owned(),
        };
        let kept = match *mask {
            0 => "lost".to_owned(),
            ALL => "kept".to_owned(),
            mask => format!("torn {mask:b}"),
        };
        format!("{} {what} {:?} {kept}", change.name, change.state)
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// The sectors that the changes may leave one way or the other, by file and offset.
pub fn sectors_of(unsynced: &[Unsynced]) -> Vec<(String, u64)> {
    let mut sectors: Vec<(String, u64)> = Vec::new();
    for change in unsynced {
        if let UnsyncedWhat::Data { offset, len } = change.what {
            let offsets = (offset..offset + len).step_by(SECTOR);
            sectors.extend(offsets.map(|offset| (change.name.clone(), offset)));
        }
    }
    sectors.sort_unstable();
    sectors.dedup();
    sectors
}

#[cfg(test)]
mod tests {
    use treering_pagefile::sim::Sim;
    use treering_pagefile::{AlignedBuf, Disk, Op};

    use super::*;

    const EFFORT: Effort = Effort { every_subset_up_to: 3, sampled: 5, torn: 3 };

    fn unsynced(writes: usize) -> (Sim, Vec<Unsynced>) {
        let sim = Sim::new(1);
        let disk = sim.disk();
        let wrote = sim.run(async {
            let file = disk.open("file", true)?;
            for number in 0..writes {
                let mut buf = AlignedBuf::zeroed(1024);
                buf.fill(1 + number as u8);
                let disk: &dyn Disk = &*disk;
                disk.write(file, Op::Write, number as u64 * 1024, buf).await?;
            }
            std::io::Result::Ok(())
        });
        assert!(matches!(wrote, Ok(Ok(()))));
        let unsynced = disk.unsynced();
        (sim, unsynced)
    }

    #[test]
    fn every_subset_of_few_changes_is_tried_and_each_tears() {
        let (sim, unsynced) = unsynced(3);
        let fates = fates(&unsynced, EFFORT, &mut Chance::new(1));
        assert_eq!(fates.len(), 8 + 3 * 3 * 2);
        let mut images: Vec<u64> =
            fates.iter().map(|fate| image_of(&sim.disk(), fate).digest()).collect();
        images.sort_unstable();
        images.dedup();
        assert!(images.len() >= 8 + 6, "{} images", images.len());
    }

    #[test]
    fn of_many_changes_each_is_lost_alone_and_kept_alone() {
        let (_sim, unsynced) = unsynced(5);
        let fates = fates(&unsynced, EFFORT, &mut Chance::new(1));
        assert_eq!(fates.len(), 2 + 10 + 5 + 5 * 3 * 2);
        for number in 0..5 {
            for (its, others) in [(0, ALL), (ALL, 0)] {
                let mut fate = vec![others; 5];
                fate[number] = its;
                assert!(fates.contains(&fate), "{fate:?}");
            }
        }
    }
}
