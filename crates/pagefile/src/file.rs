//! The page file: what holds the pages of a database, and hands out the space for them.
//!
//! # How its users work with it
//! 1. Before a change is applied: [`PageFile::try_reserve`] as many extents as pages will become
//!    dirty. It is the only place where space runs out (I13); [`PageFile::grow`] gets more.
//! 2. When a page is written back: [`PageFile::take_extent`] turns a reservation into an extent that
//!    nothing durable refers to (I4), [`PageFile::next_stamp`] gives the stamp to seal the image
//!    with. When the write has completed: [`PageFile::record_written`].
//! 3. When all images of an epoch have been recorded: [`PageFile::checkpoint`]. When it returns, that
//!    checkpoint is what opens after a crash, and what it replaced is free again.
//!
//! Steps 1 and 2 are synchronous and take one short mutex; no I/O happens under it.
//!
//! # Write stamps
//! Each image of a page carries a stamp that no other image of the page carries, and the map holds
//! it, so that a write that was lost or an older image is found (I7). Stamps count up from 1 and wrap
//! at 2^32. A checkpoint stores the counter. Images written after the checkpoint that a crash goes
//! back to carry stamps beyond that, and are still on the medium: were their stamps used again, a lost
//! write could hide behind one of them. So opening goes on from the stored counter + 2^24, and stores
//! that before it uses it; a life in which more than 2^24 images are written between two checkpoints
//! (64 GiB at 4 KiB a page) weakens this check, and nothing else.
//!
//! The file's layout is described in [`crate::superblock`], [`crate::space`] and [`crate::map`].

use std::fmt;
use std::sync::{Arc, Weak};

use treering_latch::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use treering_latch::sync::{Mutex, MutexGuard};

use crate::check;
use crate::checkpoint::Checkpointer;
use crate::disk::{Disk, FileId};
use crate::error::Health;
use crate::growth::{self, Growth};
use crate::ledger::{Ledger, Room};
use crate::page::{Extent, PageId};
use crate::space::Geometry;

/// Where a page lives, and the stamp of its image there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// The page.
    pub page: PageId,
    /// Where its image is: one page long.
    pub extent: Extent,
    /// What the image was sealed with.
    pub stamp: u32,
    /// Whether it is a page of a value that is too large for a page, and not one of a tree. The page
    /// file only keeps it.
    pub overflow: bool,
}

/// How the bytes of the page file are used, in bytes. `used + free` is the file's length but for the
/// superblocks and a tail shorter than a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceStats {
    /// The length of the file up to its last whole slot.
    pub file: u64,
    /// Pages, live and pending, and the page map.
    pub used: u64,
    /// Not in use; reservations and the floor are part of it.
    pub free: u64,
    /// Promised by [`PageFile::try_reserve`] and not taken yet.
    pub reserved: u64,
    /// Replaced, and free after the next checkpoints.
    pub pending_release: u64,
    /// The page map's share of `used`.
    pub map: u64,
    /// What the map may take at most, at the moment of a checkpoint: never given to reservations.
    pub floor: u64,
}

/// The page file of a database. Made by [`PageFile::create`] and [`PageFile::open`].
pub struct PageFile {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) health: Arc<Health>,
    pub(crate) file: FileId,
    pub(crate) geometry: Geometry,
    pub(crate) checkpointer: Mutex<Checkpointer>,
    pub(crate) growth: Growth,
    pub(crate) compacting: AtomicBool,
    pub(crate) stamps: AtomicU32,
    pub(crate) this: Weak<PageFile>,
    pub(crate) read_only: bool,
    ledger: Mutex<Ledger>,
}

impl PageFile {
    pub(crate) fn assemble(
        disk: Arc<dyn Disk>,
        health: Arc<Health>,
        file: FileId,
        ledger: Ledger,
        checkpointer: Checkpointer,
        next_stamp: u32,
        read_only: bool,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            disk,
            health,
            file,
            geometry: ledger.geometry,
            checkpointer: Mutex::new(checkpointer),
            growth: Growth::default(),
            compacting: AtomicBool::new(false),
            stamps: AtomicU32::new(next_stamp),
            this: this.clone(),
            read_only,
            ledger: Mutex::new(ledger),
        })
    }

    /// The length of every page in bytes: a power of two, 2^9 to 2^24.
    pub fn page_size(&self) -> usize {
        self.geometry.page_size
    }

    /// The file on [`PageFile::disk`], for reading and writing pages.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// The disk that the file is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Whether it was opened with [`PageFile::open_read_only`]: pages may not be written to it, there
    /// are no checkpoints, and it grows in memory only.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// A stamp to [`seal`](crate::seal) the next image of any page with. No other image on the medium
    /// that could be mistaken for it carries the same one: the counter wraps at 2^32, and goes on
    /// beyond all stamps of earlier lives when the file is opened again.
    pub fn next_stamp(&self) -> u32 {
        self.stamps.fetch_add(1, Ordering::Relaxed)
    }

    /// So many stamps in a row, each as [`PageFile::next_stamp`] gives one: the first, from which
    /// they go on with wrapping.
    pub fn next_stamps(&self, count: u32) -> u32 {
        self.stamps.fetch_add(count, Ordering::Relaxed)
    }

    /// Reserves room for that many page images; all or nothing. `false`: the file has to grow, or a
    /// checkpoint has to release something, first. What the next checkpoints need is never given away.
    /// Growing changes leave a little to shrinking ones.
    pub fn try_reserve(&self, extents: usize, room: Room) -> bool {
        let mut ledger = self.ledger();
        let granted = ledger.try_reserve(extents, room);
        if granted && growth::is_short(&ledger) {
            self.growth.short.store(true, Ordering::Relaxed);
        }
        granted
    }

    /// Gives reservations back.
    ///
    /// # Panics
    /// If fewer are outstanding.
    pub fn unreserve(&self, extents: usize) {
        self.ledger().unreserve(extents);
    }

    /// Uses up `n` reservations and appends as many extents of one page each to `out`, adjacent ones
    /// in a row where the file has long free runs. Each has to be given to
    /// [`PageFile::record_written`] or [`PageFile::discard_extent`] in the end.
    ///
    /// # Panics
    /// If fewer than `n` reservations are outstanding.
    pub fn take_extents(&self, n: usize, out: &mut Vec<Extent>) {
        self.ledger().take(n, out);
    }

    /// [`PageFile::take_extents`] for one.
    ///
    /// # Panics
    /// If no reservation is outstanding.
    pub fn take_extent(&self) -> Extent {
        let mut one = Vec::with_capacity(1);
        self.take_extents(1, &mut one);
        one[0]
    }

    /// Says that an image of `entry.page`, of `epoch`, has been written to a taken extent.
    /// `previous` is where the page lived before, `None` for a new page. That extent is free at once
    /// if it was written in the same epoch, and otherwise when the checkpoint of `epoch` is durable.
    ///
    /// # Panics
    /// If the checkpoint of `epoch` has begun, or the extent was not taken.
    pub fn record_written(&self, entry: MapEntry, epoch: u64, previous: Option<Extent>) {
        debug_assert_eq!(entry.extent.len as usize, self.page_size());
        self.ledger().record_written(entry, epoch, previous);
    }

    /// Says that `page` is gone as of `epoch`. `previous` as in [`PageFile::record_written`]; `None`
    /// if it was never written. Needs no reservation.
    ///
    /// # Panics
    /// If the checkpoint of `epoch` has begun.
    pub fn record_freed(&self, page: PageId, epoch: u64, previous: Option<Extent>) {
        self.ledger().record_freed(page, epoch, previous);
    }

    /// As [`PageFile::record_freed`], for a page whose image the log behind the last checkpoint may
    /// refer to: `extent`, where it lived, is free when the checkpoint of `epoch` is durable and
    /// never before, even if it was written in the same epoch.
    ///
    /// # Panics
    /// If the checkpoint of `epoch` has begun.
    pub fn record_freed_later(&self, page: PageId, epoch: u64, extent: Extent) {
        self.ledger().record_freed_later(page, epoch, extent);
    }

    /// Takes the `count` slots from byte `offset` on, without a reservation: a recovery takes those
    /// that the log refers to before anything else can. Each is to be given to
    /// [`PageFile::record_written`] in the end.
    ///
    /// False, and nothing is taken, if they are not all there and free: then the log and the page map
    /// contradict one another.
    pub fn claim_extents(&self, offset: u64, count: u32) -> bool {
        self.ledger().claim(offset, count as usize)
    }

    /// Gives back an extent that was taken and will not be used; it is free at once.
    ///
    /// # Panics
    /// If the extent was not taken.
    pub fn discard_extent(&self, extent: Extent) {
        self.ledger().discard(extent);
    }

    /// How the space is used.
    pub fn space(&self) -> SpaceStats {
        let counts = self.ledger().counts();
        let bytes = |slots: usize| slots as u64 * self.page_size() as u64;
        SpaceStats {
            file: self.geometry.end_of(counts.slots),
            used: bytes(counts.slots - counts.free),
            free: bytes(counts.free),
            reserved: bytes(counts.reserved),
            pending_release: bytes(counts.pending),
            map: bytes(counts.metadata),
            floor: bytes(counts.floor),
        }
    }

    /// Compares the space map with what should be in it: each extent of `live` (where each page lives
    /// now, which must not change meanwhile), each piece of the page map, and the extents pending
    /// release are in use, once; nothing else is, but for extents taken for writes in flight. Returns
    /// one line for each thing wrong; none if all is well.
    pub fn check_space(&self, live: impl Iterator<Item = (PageId, Extent)>) -> Vec<String> {
        let live: Vec<_> = live.collect();
        let (space, metadata, pending, taken) = self.ledger().snapshot();
        check::compare(&self.geometry, &space, &live, &metadata, &pending, taken)
    }

    /// The name of the file for messages.
    pub(crate) fn name(&self) -> String {
        self.disk.describe(self.file)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

impl fmt::Debug for PageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageFile").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// Locks a mutex whose state is sound even if a holder panicked: every change under it is complete
/// before anything that may panic, or is an assertion about a bug.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
