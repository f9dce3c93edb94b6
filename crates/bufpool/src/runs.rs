//! Pages side by side in the file: what is written past the frames takes its extents in runs, and one
//! I/O writes each.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use treering_pagefile::{AlignedBuf, Extent, FileError, IoBuf, Lane, Op, Room, transfer};

use crate::pool::Pool;

/// Pages one behind the other, in the file as in what they hold, with write stamps that count up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// Where the first is, in bytes from the start of the file.
    pub offset: u64,
    /// How many there are.
    pub count: u32,
    /// The stamp of the first.
    pub stamp: u32,
}

impl PageRun {
    /// The extent and the stamp of each page.
    pub(crate) fn pages(self, page_size: usize) -> impl Iterator<Item = (Extent, u32)> {
        (0..self.count).map(move |index| {
            let offset = self.offset + u64::from(index) * page_size as u64;
            (Extent { offset, len: page_size as u32 }, self.stamp.wrapping_add(index))
        })
    }

    /// Bytes of all its pages.
    pub(crate) fn bytes(self, page_size: usize) -> usize {
        self.count as usize * page_size
    }
}

/// Adds a run behind others, as part of the last one if it goes on there.
pub(crate) fn push_run(runs: &mut Vec<PageRun>, run: PageRun, page_size: usize) {
    if let Some(last) = runs.last_mut() {
        let end = last.offset + u64::from(last.count) * page_size as u64;
        if end == run.offset
            && last.stamp.wrapping_add(last.count) == run.stamp
            && let Some(count) = last.count.checked_add(run.count)
        {
            last.count = count;
            return;
        }
    }
    runs.push(run);
}

impl Pool {
    /// Takes extents and stamps for `count` pages; `None` if there is no space for all of them.
    pub(crate) fn try_take_runs(&self, count: usize, room: Room) -> Option<Vec<PageRun>> {
        if !self.file.try_reserve(count, room) {
            return None;
        }
        let mut extents = Vec::with_capacity(count);
        self.file.take_extents(count, &mut extents);
        let first = self.file.next_stamps(count as u32);
        let mut runs = Vec::new();
        for (index, extent) in extents.into_iter().enumerate() {
            let stamp = first.wrapping_add(index as u32);
            push_run(
                &mut runs,
                PageRun { offset: extent.offset, count: 1, stamp },
                self.page_size(),
            );
        }
        Some(runs)
    }

    /// Gives back extents that nobody writes to.
    pub(crate) fn discard_runs(&self, runs: impl Iterator<Item = PageRun>) {
        for (extent, _) in runs.flat_map(|run| run.pages(self.page_size())) {
            self.file.discard_extent(extent);
        }
    }

    /// Writes a run of sealed pages, and returns the buffer if the disk does.
    ///
    /// # Errors
    /// The write failed: the engine is poisoned (I8).
    pub(crate) async fn write_run(
        self: Arc<Self>,
        run: PageRun,
        buf: AlignedBuf,
    ) -> Result<Option<AlignedBuf>, FileError> {
        debug_assert_eq!(buf.len(), run.bytes(self.page_size()));
        self.write_count.fetch_add(u64::from(run.count), Ordering::SeqCst);
        let (disk, file) = (self.file.disk(), self.file.file());
        let buf = IoBuf::Owned(buf);
        let write = transfer(&**disk, Lane::Background, file, Op::Write, run.offset, buf);
        match write.await {
            (buf, Ok(())) => Ok(buf.into_owned()),
            (_, Err(source)) => {
                let (count, name) = (run.count, disk.describe(file));
                let doing = format!("writing {count} pages at byte {} of {name}", run.offset);
                Err(self.health.poison(FileError::io(doing, source)))
            }
        }
    }
}
