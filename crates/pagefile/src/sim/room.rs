//! Room on the device, and what becomes of a request that asks for more than there is.
//!
//! A file system may find out on the way that there is no room for all of it. ext4 says `ENOSPC` then, and
//! the file keeps what it got, a length that fits included, until somebody cuts it back: at its worst
//! the request has failed and the device is full. With [`SimDisk::take_parts`](super::SimDisk::take_parts)
//! allocations and writes end like that; without, one that fails has taken nothing.

use std::io;
use std::ops::Range;

use super::requests::State;

impl State {
    /// Whether there is room for this range of a file.
    pub(super) fn make_room(&self, file: usize, range: &Range<u64>) -> io::Result<()> {
        let file = &self.files[file];
        let (more, free) = (file.allocated.missing(range.clone()), self.room_left());
        if more <= free {
            return Ok(());
        }
        let message = format!(
            "'{}' needs {more} bytes more at {}, and {} of {} are in use",
            file.name,
            range.start,
            self.space_used(),
            self.options.capacity
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, message))
    }

    /// Where the part ends that a request for this range is given although it fails for want of room:
    /// often all that there is room for. `None` if it gets nothing.
    pub(super) fn part(&mut self, file: usize, range: &Range<u64>) -> Option<u64> {
        if !self.conduct.takes_part(&mut self.rng) {
            return None;
        }
        let block = self.options.block_size as u64;
        let blocks = (range.end - range.start).div_ceil(block);
        let end_of = |blocks: u64| range.start + blocks * block;
        // A part, so not all of it, even if it failed on a device that has room.
        let (mut fits, mut too_many) = (0, blocks);
        let free = self.room_left();
        while too_many - fits > 1 {
            let tried = fits + (too_many - fits) / 2;
            match self.files[file].allocated.missing(range.start..end_of(tried)) <= free {
                true => fits = tried,
                false => too_many = tried,
            }
        }
        if fits > 0 && self.rng.chance(1, 2) {
            fits = 1 + self.rng.below(fits as usize) as u64;
        }
        (fits > 0).then(|| end_of(fits))
    }

    /// Bytes in use, over all files.
    pub(super) fn space_used(&self) -> u64 {
        self.files.iter().map(|file| file.allocated.total()).sum()
    }

    fn room_left(&self) -> u64 {
        match self.options.capacity {
            u64::MAX => u64::MAX,
            capacity => capacity.saturating_sub(self.space_used()),
        }
    }
}
