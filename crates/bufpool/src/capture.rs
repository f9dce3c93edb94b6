//! Images that writers capture beside a checkpoint.
//!
//! A writer that meets a page with changes of the closed epoch copies its image to staging before it
//! changes the page, under the exclusive latch that it holds anyway, and does not wait for the disk. A
//! batch does so for hundreds of pages within a poll, and hundreds of writers do so within the time of
//! one I/O, so images are sent in groups, as commits are: the first goes at once, and while it is on its
//! way the next ones gather. The end of a group sends the next, so whatever has been captured is on its
//! way or waits behind something that is, and nobody else has to think of it.

use crate::pool::{Pool, lock};
use crate::staging::Use;
use crate::writeback::Image;

/// What has been captured and is not on disk.
#[derive(Default)]
pub(crate) struct Captured {
    /// In the order of their slots. Not empty only while a group is on its way.
    waiting: Vec<Image>,
    /// Images of the group that is on its way.
    on_their_way: usize,
}

impl Captured {
    /// The next group, if none is on its way.
    fn next_group(&mut self) -> Vec<Image> {
        if self.on_their_way > 0 {
            return Vec::new();
        }
        let count = self.waiting.len().min(GROUP_MAX);
        self.on_their_way = count;
        let rest = self.waiting.split_off(count);
        std::mem::replace(&mut self.waiting, rest)
    }
}

impl Pool {
    /// Captures the image of a page whose exclusive latch the caller holds. False when a slot is
    /// lacking or an older image is still on its way.
    pub(crate) fn capture(&self, index: u32) -> bool {
        let Some(image) = self.image_latched(index, u64::MAX, Use::Capture) else { return false };
        let group = {
            let mut captured = lock(&self.captured);
            captured.waiting.push(image);
            captured.next_group()
        };
        self.write_images(group);
        true
    }

    /// So many images of the group that is on its way have come to an end, be it a good one.
    pub(crate) fn captures_landed(&self, count: usize) {
        let group = {
            let mut captured = lock(&self.captured);
            captured.on_their_way -= count;
            captured.next_group()
        };
        self.write_images(group);
    }
}

/// Images of one group: what a device takes in about the time of a sync, and no more, because
/// whoever reads from it has to wait behind them.
const GROUP_MAX: usize = 256;
