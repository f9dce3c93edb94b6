//! What a power loss leaves of a [`SimDisk`].
//!
//! Start with the durable state; then every change that is volatile or in flight, in the order in
//! which they took effect (those in flight last, in order of submission), is there wholly, in part,
//! or not at all, sector by sector. Which, is for the seed or for the test to say.
//!
//! Taking an image changes nothing: many can be taken of one moment, before and after
//! [`SimDisk::power_off`].

use super::disk::SimDisk;
use super::file::Change;
use super::image::{ImageFile, SimImage};
use super::requests::State;
use super::rng::Rng;
use super::{SECTOR, lock};
use crate::disk::FileId;

/// A change that a crash may lose, or keep in part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsynced {
    /// The file it changes.
    pub file: FileId,
    /// The name of that file.
    pub name: String,
    /// What it changes.
    pub what: UnsyncedWhat,
    /// In how many parts it can be lost: the sectors of data, 1 for a length, 2 for an extension.
    /// Sectors overwritten durably since count, but nobody is asked about them.
    pub sectors: usize,
    /// How far it got.
    pub state: UnsyncedState,
}

/// What an [`Unsynced`] change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnsyncedWhat {
    /// Writes bytes.
    Data {
        /// Where, in bytes.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// Sets the length of the file, in bytes.
    SetLen(u64),
    /// Extends the file to at least this many bytes.
    Extend(u64),
}

/// How far an [`Unsynced`] change got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnsyncedState {
    /// It completed; the next sync makes it durable.
    Completed,
    /// It completed, and the sync for it failed: no later sync makes it durable.
    SyncFailed,
    /// Its request had not completed.
    InFlight,
}

impl SimDisk {
    /// The power fails: what the seed leaves, after [`SimDisk::power_off`]. Of an eighth of all
    /// seeds each, all or nothing of what was not durable is left.
    pub fn crash(&self, seed: u64) -> SimImage {
        let image = self.image_by_seed(seed);
        self.power_off();
        image
    }

    /// What [`SimDisk::crash`] with this seed would leave now.
    pub fn image_by_seed(&self, seed: u64) -> SimImage {
        let state = lock(&self.state);
        let mut rng = Rng::new(seed);
        let style = rng.below(8);
        let mut current = None;
        let mut fate = Fate::Lost;
        state.image_keeping(|unsynced, state, sector, sectors| match style {
            0 => false,
            1 => true,
            _ => {
                if current != Some(unsynced) {
                    current = Some(unsynced);
                    fate = Fate::draw(&mut rng, state, sectors);
                }
                fate.keeps(sector, &mut rng)
            }
        })
    }

    /// What is left if of each of [`SimDisk::unsynced`] those sectors survive for which `keep`,
    /// given the number of the change in that list and of the sector in it, says so.
    pub fn crash_keeping(&self, mut keep: impl FnMut(usize, usize) -> bool) -> SimImage {
        lock(&self.state).image_keeping(|unsynced, _, sector, _| keep(unsynced, sector))
    }

    /// What is left at the very least.
    pub fn image_durable_only(&self) -> SimImage {
        self.crash_keeping(|_, _| false)
    }

    /// What is left at the most: everything, requests in flight included.
    pub fn image_everything(&self) -> SimImage {
        self.crash_keeping(|_, _| true)
    }

    /// What reads see now: what another process finds if this one is killed and the machine stays
    /// up, had none of the requests in flight reached it.
    pub fn image_visible(&self) -> SimImage {
        let state = lock(&self.state);
        let files = state.files.iter().map(|file| {
            let (content, allocated) = (file.visible.clone(), file.allocated.clone());
            (file.name.clone(), ImageFile { content, len: file.len, allocated })
        });
        SimImage { files: files.collect(), options: state.options }
    }

    /// Everything that a crash may lose now: file by file in order of completion, then what is in
    /// flight in order of submission.
    pub fn unsynced(&self) -> Vec<Unsynced> {
        let state = lock(&self.state);
        let mut list = Vec::new();
        state.visit_unsynced(|file, change, how_far| {
            list.push(Unsynced {
                file,
                name: state.files[file.0 as usize].name.clone(),
                what: match change {
                    Change::Data { offset, bytes, .. } => {
                        UnsyncedWhat::Data { offset: *offset, len: bytes.len() as u64 }
                    }
                    Change::SetLen(len) => UnsyncedWhat::SetLen(*len),
                    Change::Extend(len) => UnsyncedWhat::Extend(*len),
                },
                sectors: change.sectors(),
                state: how_far,
            });
        });
        list
    }
}

impl State {
    fn visit_unsynced(&self, mut visit: impl FnMut(FileId, &Change, UnsyncedState)) {
        for (index, file) in self.files.iter().enumerate() {
            for volatile in &file.volatile {
                let how_far = match volatile.forsaken {
                    false => UnsyncedState::Completed,
                    true => UnsyncedState::SyncFailed,
                };
                visit(FileId(index as u32), &volatile.change, how_far);
            }
        }
        for (file, change) in self.late.iter().chain(&self.changes_in_flight()) {
            visit(*file, change, UnsyncedState::InFlight);
        }
    }

    /// `keep` gets the number of the change, its state, the sector, and the number of sectors.
    fn image_keeping(
        &self,
        mut keep: impl FnMut(usize, UnsyncedState, usize, usize) -> bool,
    ) -> SimImage {
        let mut files: Vec<ImageFile> = self
            .files
            .iter()
            .map(|file| ImageFile {
                content: file.durable.clone(),
                len: file.durable_len,
                allocated: file.durable_allocated.clone(),
            })
            .collect();
        let mut number = 0;
        self.visit_unsynced(|file, change, how_far| {
            let used: u64 = files.iter().map(|file| file.allocated.total()).sum();
            let ImageFile { content, len, allocated } = &mut files[file.0 as usize];
            let sectors = change.sectors();
            // Nobody else has been given what a shortening that is lost gave away.
            let reused = used > self.options.capacity && matches!(change, Change::SetLen(_));
            let before = *len;
            change.apply(content, len, |sector| {
                let kept = keep(number, how_far, sector, sectors) || reused;
                if let (true, Change::Data { offset, .. }) = (kept, change) {
                    let at = offset + (sector * SECTOR) as u64;
                    allocated.add(at..at + SECTOR as u64);
                } else if let (true, Change::SetLen(to)) = (kept, change) {
                    allocated.cut(*to);
                    allocated.add_all(&self.files[file.0 as usize].allocated);
                }
                kept
            });
            if matches!(change, Change::Extend(_)) {
                // An allocation in flight gives length and space together, or neither.
                match used + allocated.missing(before..*len) <= self.options.capacity {
                    true => allocated.add(before..*len),
                    false => *len = before,
                }
            }
            number += 1;
        });
        let named = self.files.iter().zip(files).map(|(file, mut image)| {
            image.allocated.cut(image.len);
            (file.name.clone(), image)
        });
        SimImage { files: named.collect(), options: self.options }
    }
}

/// What becomes of one change.
enum Fate {
    Lost,
    Kept,
    /// The sectors before this one are kept.
    CutAt(usize),
    /// Each sector for itself.
    Torn,
}

impl Fate {
    fn draw(rng: &mut Rng, state: UnsyncedState, sectors: usize) -> Self {
        // After a failed sync the worst is likely: the page cache forgot that it has to write.
        if state == UnsyncedState::SyncFailed && rng.chance(1, 2) {
            return Fate::Lost;
        }
        match rng.below(6) {
            0 | 1 => Fate::Lost,
            2 | 3 => Fate::Kept,
            4 => Fate::CutAt(rng.below(sectors + 1)),
            _ => Fate::Torn,
        }
    }

    fn keeps(&self, sector: usize, rng: &mut Rng) -> bool {
        match self {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::CutAt(cut) => sector < *cut,
            Fate::Torn => rng.chance(1, 2),
        }
    }
}
