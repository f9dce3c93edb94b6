//! Reading a value, or a part of it: all pages at once, as far as memory for them goes.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream::{FuturesOrdered, StreamExt};
use treering_pagefile::{
    AlignedBuf, FileError, FileErrorKind, IoBuf, Lane, Op, PageId, transfer, verify,
};

use super::{HEADER_LEN, IO_BYTES, ValueRef, has_header, payload};
use crate::pool::Pool;
use crate::runs::PageRun;

/// Reads of one value on their way at once.
const IN_FLIGHT: usize = 8;

/// Pages that one I/O reads.
pub(super) struct Piece {
    first: PageId,
    pub(super) run: PageRun,
    /// The stamps as the table had them. Those of a run that was written at once count up, but
    /// neighbours may as well have come together by chance.
    stamps: Vec<u32>,
}

impl Pool {
    /// Appends the bytes `range` of a value of `tree` to `out`, which it reads from disk. False if the
    /// value has moved: nothing or a part was appended, and the key is to be looked up again.
    ///
    /// Owns nothing but its buffers while it waits. Dropping the future leaves the reads to end on
    /// their own.
    ///
    /// # Errors
    /// A failed read, or pages that are not what was written. If the key has another value by then,
    /// that may be why.
    ///
    /// # Panics
    /// If the range is not within the value.
    pub async fn read_value(
        self: &Arc<Self>,
        tree: u32,
        value: ValueRef,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<bool, FileError> {
        assert!(range.start <= range.end && range.end <= value.len, "a range within the value");
        let payload = payload(self.page_size()) as u64;
        let (mut next, end) = (range.start / payload, range.end.div_ceil(payload));
        let mut skip = (range.start % payload) as usize;
        let mut left = (range.end - range.start) as usize;
        out.reserve(left);
        let mut in_flight = FuturesOrdered::new();
        loop {
            while next < end && in_flight.len() < IN_FLIGHT {
                let most = (end - next).min((IO_BYTES / self.page_size()).max(1) as u64);
                let Some(piece) = self.piece(PageId(value.first.0 + next), most) else {
                    return Ok(false);
                };
                next += u64::from(piece.run.count);
                in_flight.push_back(Arc::clone(self).read_piece(piece));
            }
            let Some((piece, read)) = in_flight.next().await else { return Ok(true) };
            let buf = match self.check_piece(&piece, read) {
                Ok(buf) => buf,
                Err(_) if !self.is_current(&piece) => {
                    // Compacting has moved it, or it is another value's by now: the next look tells.
                    next = piece.first.0 - value.first.0;
                    in_flight = FuturesOrdered::new();
                    continue;
                }
                Err(error) => return Err(error),
            };
            for page in buf.chunks_exact(self.page_size()) {
                if !has_header(page, tree, value.version) {
                    return Ok(false);
                }
                let bytes = &page[HEADER_LEN + skip..];
                let bytes = &bytes[..bytes.len().min(left)];
                out.extend_from_slice(bytes);
                (skip, left) = (0, left - bytes.len());
            }
        }
    }

    /// The pages from `first` on that lie side by side, `most` at most; `None` if the first is no
    /// page of a value.
    pub(super) fn piece(&self, first: PageId, most: u64) -> Option<Piece> {
        let (extent, stamp) = self.overflow_page(first)?;
        let mut piece = Piece {
            first,
            run: PageRun { offset: extent.offset, count: 1, stamp },
            stamps: vec![stamp],
        };
        let mut beyond = extent.offset + self.page_size() as u64;
        while u64::from(piece.run.count) < most {
            let next = PageId(first.0 + u64::from(piece.run.count));
            match self.overflow_page(next) {
                Some((extent, stamp)) if extent.offset == beyond => piece.stamps.push(stamp),
                _ => break,
            }
            piece.run.count += 1;
            beyond += self.page_size() as u64;
        }
        Some(piece)
    }

    pub(super) async fn read_piece(
        self: Arc<Self>,
        piece: Piece,
    ) -> (Piece, io::Result<AlignedBuf>) {
        let count = u64::from(piece.run.count);
        self.load_count.fetch_add(count, Ordering::Relaxed);
        let buf = IoBuf::Owned(AlignedBuf::zeroed(count as usize * self.page_size()));
        let (disk, file) = (self.file.disk(), self.file.file());
        let offset = piece.run.offset;
        let (buf, read) = transfer(&**disk, Lane::Foreground, file, Op::Read, offset, buf).await;
        let gone = || io::Error::other("a read gave its buffer away");
        let read = read.and_then(|()| buf.into_owned().ok_or_else(gone));
        (piece, read)
    }

    /// I7: checksum, identity and stamp of each page.
    pub(super) fn check_piece(
        &self,
        piece: &Piece,
        read: io::Result<AlignedBuf>,
    ) -> Result<AlignedBuf, FileError> {
        let name = || self.file.disk().describe(self.file.file());
        let buf = read.map_err(|source| {
            let (first, offset) = (piece.first, piece.run.offset);
            FileError::io(format!("reading {first} at byte {offset} of {}", name()), source)
        })?;
        let pages = buf.chunks_exact(self.page_size()).zip(&piece.stamps);
        for (index, (page, stamp)) in pages.enumerate() {
            let id = PageId(piece.first.0 + index as u64);
            verify(page, id, *stamp).map_err(|damage| {
                let offset = piece.run.offset + (index * self.page_size()) as u64;
                FileError::new(
                    FileErrorKind::Damaged,
                    format!(
                        "{id} (of a large value) at byte {offset} of {} is damaged: {damage}; \
                         restore it from a backup",
                        name()
                    ),
                )
            })?;
        }
        Ok(buf)
    }

    /// Whether all pages of a piece are still where they were.
    pub(super) fn is_current(&self, piece: &Piece) -> bool {
        piece.stamps.iter().enumerate().all(|(index, stamp)| {
            let offset = piece.run.offset + (index * self.page_size()) as u64;
            let place = self.overflow_page(PageId(piece.first.0 + index as u64));
            place.is_some_and(|(extent, now)| extent.offset == offset && now == *stamp)
        })
    }
}
