//! What is on disk beneath the pages in memory: for who checks everything.
//!
//! A page in a frame was verified when it was read, or was never read at all. What its image on disk
//! has come to since then shows only after the page has left the frame. [`Pool::check_beneath`] reads
//! that image into a buffer of its own, and verifies it as a load would (I7).
//!
//! Nobody is kept from changing the page, or from writing it elsewhere, meanwhile. So what was read
//! counts only if the page's newest image was at that place with that stamp before the read, and is
//! after it: then the extent was the page's all along, since it is given to somebody else only after
//! the page has moved. While an image is on its way nothing can be said; that ends by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use treering_pagefile::{
    AlignedBuf, Extent, FileError, FileErrorKind, IoBuf, Lane, Op, PageId, transfer, verify,
};

use crate::pool::Pool;
use crate::table::Place;

/// What is known of the newest image on disk of a page in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beneath {
    /// The page is not in a frame, or never was written: there is nothing beneath it.
    Nothing,
    /// Another one is being written.
    Moving,
    /// Where it is, and its stamp.
    At(Extent, u32),
}

impl Pool {
    /// Reads what is on disk of a page that is in memory, and verifies it. Pages that are not are not
    /// looked at: whoever wants them reads them.
    ///
    /// # Errors
    /// `Damaged` if it is not what was written last; when it cannot be read; when the database has
    /// stopped.
    pub async fn check_beneath(self: &Arc<Self>, page: PageId) -> Result<(), FileError> {
        loop {
            let relief = self.relief();
            let beneath = self.beneath(page);
            let (extent, stamp) = match beneath {
                Beneath::Nothing => return Ok(()),
                Beneath::Moving => {
                    // After a failed write it stays like this.
                    self.health.check()?;
                    relief.await;
                    continue;
                }
                Beneath::At(extent, stamp) => (extent, stamp),
            };
            let buf = IoBuf::Owned(AlignedBuf::zeroed(self.page_size()));
            let (disk, file) = (self.file.disk(), self.file.file());
            let read = transfer(&**disk, Lane::Background, file, Op::Read, extent.offset, buf);
            let (buf, result) = read.await;
            if self.beneath(page) != beneath {
                continue;
            }
            let place = || format!("{page} at byte {} of {}", extent.offset, disk.describe(file));
            result.map_err(|error| FileError::io(format!("reading {}", place()), error))?;
            let bytes = buf.into_owned().expect("a read gives its buffer back");
            return verify(&bytes, page, stamp).map_err(|damage| {
                let message = format!(
                    "{} is damaged: {damage}; in the cache it is still sound: dump the database \
                     before it is closed",
                    place()
                );
                FileError::new(FileErrorKind::Damaged, message)
            });
        }
    }

    fn beneath(&self, page: PageId) -> Beneath {
        loop {
            let place = self.table.place(page);
            let Place::Resident(index) = place else { return Beneath::Nothing };
            let frame = &self.frames[index as usize];
            // First and last: extent and stamp change, one after the other, while it is set.
            let writing = || frame.writing.load(Ordering::SeqCst);
            let before = writing();
            let (extent, stamp) = (frame.extent(), self.table.stamp(page));
            let moving = before || writing();
            // Else the frame may have been another page's by the time it was looked at.
            if self.table.place(page) == place {
                let at = |extent| Beneath::At(extent, stamp);
                return if moving { Beneath::Moving } else { extent.map_or(Beneath::Nothing, at) };
            }
        }
    }
}
