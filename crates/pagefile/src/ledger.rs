//! Who may use which slot, and from when on: reservations, epochs, and what waits to be released.
//!
//! All of it is plain state under one short mutex of [`crate::PageFile`]; nothing here does I/O.
//!
//! # The life of an extent (I4)
//! *free* → *reserved* (a count only) → *taken* (a slot, being written) → *recorded* (the newest image
//! of its page in some epoch) → replaced by a later image → *free* again:
//! * replaced within the same epoch: at once, since no checkpoint ever referred to it;
//! * freed while records of the log may refer to it ([`Ledger::record_freed_later`]), or
//!   replaced in a later epoch e: when the checkpoint of e is durable in both superblocks, for until
//!   then the checkpoint before it may be the one that opens. Until then it is *pending*.
//!
//! At most two epochs are open: the one whose checkpoint is being prepared and the current one. When
//! [`Ledger::close`] has taken an epoch's entries for its checkpoint, no record for it may follow.
//!
//! # The floor (I13)
//! A checkpoint must never fail for lack of space. With
//! * Q: slots of pages (live, pending, taken) and reservations,
//! * P: pages that the map may come to name: those of the last checkpoint, those new since, and every
//!   reserved or taken extent, since it may be for a new page,
//! * C(P): [`Sizes::ceiling`], the most the map takes at any time, with old and new pieces together,
//!
//! a reservation is granted only if Q + C(P) is within the slots of the file afterwards. Taking and
//! recording move a page from one term to another; checkpoints only lower Q, and P, and the present
//! base beyond C's own bound. So what held when the last reservation was granted holds at every
//! checkpoint that follows, and its metadata finds its slots.
//!
//! # Pins
//! While somebody copies a checkpoint, what later ones release of it is *held* ([`crate::pins`]): in
//! use, and pending for everybody who asks.
//!
//! On top of the floor, growing changes leave a few slots to those that shrink the database
//! ([`Room`]): a delete writes a page out of place before the old one is free.

use std::collections::HashMap;

use crate::file::MapEntry;
use crate::map::{Image, Kind, Layout, Line, Sizes, pack_extent, unpack_extent};
use crate::page::{Extent, PageId};
use crate::pins::{Pin, Pins};
use crate::space::{Geometry, Run, SpaceMap};

/// What a reservation is for (I13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// A change that may need more space in the end.
    Growing,
    /// A change that gives space back with the next checkpoint: a delete, or a merge of pages. It
    /// may use the slots that growing ones leave.
    Shrinking,
}

/// Growing changes leave this share of all slots, within these bounds.
const KEPT_SHARE: usize = 64;
const KEPT_MIN: usize = 8;
const KEPT_MAX: usize = 1024;

/// The state.
pub(crate) struct Ledger {
    pub(crate) geometry: Geometry,
    sizes: Sizes,
    space: SpaceMap,
    reserved: usize,
    /// Extents taken, and neither recorded nor discarded yet.
    taken: usize,
    /// Pages in the last durable checkpoint.
    live: usize,
    /// Slots of the base that is in use.
    base_slots: usize,
    /// Open epochs, rising.
    open: Vec<OpenEpoch>,
    /// What the running checkpoint will release.
    closing: Closing,
    /// Epochs up to this one are closed.
    closed: Option<u64>,
    pub(crate) pins: Pins,
    /// Slots of the map's pieces that the last checkpoint refers to.
    metadata: Vec<Run>,
    /// Slots of the pieces that the running checkpoint adds.
    writing: Vec<Run>,
    /// Slots of both.
    metadata_slots: usize,
}

/// Changes of one epoch.
struct OpenEpoch {
    epoch: u64,
    delta: HashMap<PageId, Change>,
    release: Vec<Extent>,
    /// Pages that had no extent before.
    new_pages: usize,
}

#[derive(Clone, Copy)]
enum Change {
    Written { extent: Extent, stamp: u32, overflow: bool },
    Freed,
}

#[derive(Default)]
struct Closing {
    release: Vec<Extent>,
    new_pages: usize,
}

/// Numbers of slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) slots: usize,
    pub(crate) free: usize,
    pub(crate) reserved: usize,
    pub(crate) pending: usize,
    pub(crate) metadata: usize,
    pub(crate) floor: usize,
}

impl Ledger {
    /// The ledger of a file with `slots` slots and no page.
    pub(crate) fn new(geometry: Geometry, slots: usize) -> Self {
        Self {
            geometry,
            sizes: Sizes::new(&geometry),
            space: SpaceMap::new(slots),
            reserved: 0,
            taken: 0,
            live: 0,
            base_slots: 0,
            open: Vec::new(),
            closing: Closing::default(),
            closed: None,
            pins: Pins::default(),
            metadata: Vec::new(),
            writing: Vec::new(),
            metadata_slots: 0,
        }
    }

    /// Rebuilds the ledger from what a checkpoint of `epoch` says; the error says what overlaps what.
    pub(crate) fn rebuild(
        geometry: Geometry,
        slots: usize,
        epoch: u64,
        layout: &Layout,
        image: &Image,
    ) -> Result<Self, String> {
        let mut ledger = Self::new(geometry, slots);
        ledger.live = image.live();
        ledger.base_slots = layout.slots_of(Kind::Base);
        ledger.closed = Some(epoch);
        for run in layout.runs() {
            let offset = geometry.extent_of(run).offset;
            if run.end() > slots {
                return Err(format!("the page map at offset {offset} lies beyond the file's end"));
            }
            if !ledger.space.is_free(run) {
                return Err(format!("two pieces of the page map lie at offset {offset}"));
            }
            ledger.space.set(run);
            ledger.metadata.push(run);
            ledger.metadata_slots += run.len;
        }
        for line in image.lines() {
            let Line { page, extent, .. } = line;
            if page == PageId::NONE {
                return Err("the page map names page 0, which is no page".into());
            }
            let (extent, _) = unpack_extent(extent);
            let run = geometry.run_of(extent).filter(|run| run.len == 1).ok_or_else(|| {
                format!("{page} has no proper extent: {} bytes at {}", extent.len, extent.offset)
            })?;
            if run.end() > slots {
                return Err(format!("{page} at offset {} lies beyond the end", extent.offset));
            }
            if !ledger.space.is_free(run) {
                let mut others = image.lines().filter(|other| other.page != page);
                let other = others.find(|other| other.extent == line.extent);
                let other = other.map_or("the page map".into(), |line| line.page.to_string());
                return Err(format!("{page} and {other} both lie at offset {}", extent.offset));
            }
            ledger.space.set(run);
        }
        Ok(ledger)
    }

    /// Whether `more` extents could be reserved on top of what is.
    pub(crate) fn has_room_for(&self, more: usize, room: Room) -> bool {
        let kept = match room {
            Room::Growing => (self.space.slots() / KEPT_SHARE).clamp(KEPT_MIN, KEPT_MAX),
            Room::Shrinking => 0,
        };
        let pages = self.page_slots() + self.reserved;
        let wanted = pages.saturating_add(more).saturating_add(self.floor_with(more));
        wanted.saturating_add(kept) <= self.space.slots()
    }

    pub(crate) fn try_reserve(&mut self, extents: usize, room: Room) -> bool {
        let fits = self.has_room_for(extents, room);
        if fits {
            self.reserved += extents;
        }
        fits
    }

    pub(crate) fn unreserve(&mut self, extents: usize) {
        let left = self.reserved.checked_sub(extents);
        self.reserved = left.expect("only what was reserved is given back");
    }

    /// Turns `n` reservations into extents, in runs as long as a short search finds.
    pub(crate) fn take(&mut self, n: usize, out: &mut Vec<Extent>) {
        self.unreserve(n);
        self.taken += n;
        let mut left = n;
        while left > 0 {
            let run = self.space.take(left).expect("reserved slots are free: that is the floor");
            let slots = run.start..run.end();
            out.extend(slots.map(|start| self.geometry.extent_of(Run { start, len: 1 })));
            left -= run.len;
        }
    }

    pub(crate) fn discard(&mut self, extent: Extent) {
        self.settle_taken();
        self.free(extent);
    }

    pub(crate) fn record_written(&mut self, entry: MapEntry, epoch: u64, previous: Option<Extent>) {
        let MapEntry { page, extent, stamp, overflow } = entry;
        assert!(page != PageId::NONE, "page 0 is no page");
        self.settle_taken();
        let book = self.epoch(epoch);
        book.new_pages += usize::from(previous.is_none());
        let change = book.delta.insert(page, Change::Written { extent, stamp, overflow });
        self.replace(epoch, change, previous);
    }

    pub(crate) fn record_freed(&mut self, page: PageId, epoch: u64, previous: Option<Extent>) {
        assert!(page != PageId::NONE, "page 0 is no page");
        let change = self.epoch(epoch).delta.insert(page, Change::Freed);
        self.replace(epoch, change, previous);
    }

    pub(crate) fn record_freed_later(&mut self, page: PageId, epoch: u64, extent: Extent) {
        assert!(page != PageId::NONE, "page 0 is no page");
        let book = self.epoch(epoch);
        let change = book.delta.insert(page, Change::Freed);
        debug_assert!(!matches!(change, Some(Change::Freed)), "{page} is freed once");
        book.release.push(extent);
    }

    /// Takes the slots of `count` pages from `offset` on, if all of them are free.
    pub(crate) fn claim(&mut self, offset: u64, count: usize) -> bool {
        let len = self.geometry.page_size as u32;
        let first = self.geometry.run_of(Extent { offset, len });
        let Some(run) = first.map(|first| Run { start: first.start, len: count }) else {
            return false;
        };
        let inside = run.start.checked_add(count).is_some_and(|end| end <= self.space.slots());
        let claimed = inside && self.space.is_free(run);
        if claimed {
            self.space.set(run);
            self.taken += count;
        }
        claimed
    }

    /// Closes all epochs up to `epoch`: returns their entries by rising page id, with the latest of
    /// each page. What they replaced waits for [`Ledger::finish`].
    pub(crate) fn close(&mut self, epoch: u64) -> Vec<Line> {
        assert!(self.closed.is_none_or(|closed| epoch > closed), "an epoch is closed once");
        self.closed = Some(epoch);
        let mut lines = HashMap::new();
        let later = self.open.iter().position(|open| open.epoch > epoch);
        for open in self.open.drain(..later.unwrap_or(self.open.len())) {
            self.closing.release.extend(open.release);
            self.closing.new_pages += open.new_pages;
            if lines.is_empty() {
                lines = open.delta;
            } else {
                lines.extend(open.delta);
            }
        }
        let mut lines: Vec<Line> = lines
            .into_iter()
            .map(|(page, change)| match change {
                Change::Written { extent, stamp, overflow } => {
                    Line { page, extent: pack_extent(extent, overflow), stamp }
                }
                Change::Freed => Line { page, extent: 0, stamp: 0 },
            })
            .collect();
        lines.sort_unstable_by_key(|line| line.page);
        lines
    }

    /// Takes slots for pieces of the map, as many as asked for in all, each run at most as long as a
    /// piece may be. `None` only if the floor was broken.
    pub(crate) fn take_metadata(&mut self, slots: usize) -> Option<Vec<Run>> {
        if self.space.free() < self.reserved + slots {
            return None;
        }
        let mut runs = Vec::new();
        let mut left = slots;
        while left > 0 {
            let run = self.space.take(left.min(self.sizes.piece_slots_max()))?;
            self.writing.push(run);
            self.metadata_slots += run.len;
            runs.push(run);
            left -= run.len;
        }
        Some(runs)
    }

    /// The checkpoint is durable and consists of `layout`, with `live` pages: the pieces that are no
    /// longer part of it are free. Follow with [`Ledger::release_some`] until it says that all is done.
    pub(crate) fn finish(&mut self, layout: &Layout, live: usize) {
        let mut gone = std::mem::take(&mut self.metadata);
        gone.append(&mut self.writing);
        self.metadata.extend(layout.runs());
        let kept: std::collections::HashSet<usize> =
            self.metadata.iter().map(|run| run.start).collect();
        for run in gone.iter().filter(|run| !kept.contains(&run.start)) {
            self.space.clear(*run);
        }
        self.metadata_slots = self.metadata.iter().map(|run| run.len).sum();
        self.live = live;
        self.base_slots = layout.slots_of(Kind::Base);
        self.closing.new_pages = 0;
    }

    /// Frees up to `most` of the extents that the checkpoint replaced, but for those that are held for
    /// a pin; whether any are left.
    pub(crate) fn release_some(&mut self, most: usize) -> bool {
        let keep = self.closing.release.len().saturating_sub(most);
        for extent in self.closing.release.split_off(keep) {
            let held = self.geometry.run_of(extent).is_some_and(|run| self.pins.hold(run));
            if !held {
                self.free(extent);
            }
        }
        keep > 0
    }

    /// Pins what the last durable checkpoint refers to. No checkpoint may be running. Ends with
    /// [`Pins::unpin`].
    pub(crate) fn pin(&mut self) -> Pin {
        debug_assert!(self.closing.release.is_empty(), "the last checkpoint has released it all");
        self.pins.pin(&self.space)
    }

    /// Frees up to `most` of what was held, unless there are pins; whether any is left to free.
    pub(crate) fn release_held(&mut self, most: usize) -> bool {
        let (free, more) = self.pins.released(most);
        free.into_iter().for_each(|run| self.space.clear(run));
        more
    }

    /// The file has grown to `slots` slots.
    pub(crate) fn grow(&mut self, slots: usize) {
        self.space.grow(slots);
    }

    pub(crate) fn slots(&self) -> usize {
        self.space.slots()
    }

    /// As many slots as the file would need if what is in it were moved together.
    pub(crate) fn least_slots(&self) -> usize {
        let needed = self.page_slots() + self.reserved + self.floor_with(0);
        needed + (needed / (KEPT_SHARE - 1) + 1).clamp(KEPT_MIN, KEPT_MAX)
    }

    pub(crate) fn set_lowest_first(&mut self, lowest_first: bool) {
        self.space.set_lowest_first(lowest_first);
    }

    /// Cuts off free slots at the end, but for what is needed; returns how many slots are left, if
    /// there are fewer now.
    pub(crate) fn cut(&mut self) -> Option<usize> {
        let slots = self.space.used_end().max(self.least_slots());
        let fewer = slots < self.space.slots();
        if fewer {
            self.space.cut(slots);
        }
        fewer.then_some(slots)
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            slots: self.space.slots(),
            free: self.space.free(),
            reserved: self.reserved,
            pending: self.pending().count(),
            metadata: self.metadata_slots,
            floor: self.floor_with(0),
        }
    }

    /// What [`crate::check`] compares.
    pub(crate) fn snapshot(&self) -> (SpaceMap, Vec<Run>, Vec<Extent>, usize) {
        let metadata = self.metadata.iter().chain(&self.writing).copied().collect();
        (self.space.clone(), metadata, self.pending().collect(), self.taken)
    }

    fn pending(&self) -> impl Iterator<Item = Extent> {
        let open = self.open.iter().flat_map(|open| &open.release);
        let held = self.pins.held().map(|run| self.geometry.extent_of(run));
        open.chain(&self.closing.release).copied().chain(held)
    }

    fn epoch(&mut self, epoch: u64) -> &mut OpenEpoch {
        assert!(
            self.closed.is_none_or(|closed| epoch > closed),
            "no image of an epoch is recorded after its checkpoint began"
        );
        let at = match self.open.binary_search_by_key(&epoch, |open| open.epoch) {
            Ok(at) => at,
            Err(at) => {
                let (delta, release) = (HashMap::new(), Vec::new());
                self.open.insert(at, OpenEpoch { epoch, delta, release, new_pages: 0 });
                at
            }
        };
        &mut self.open[at]
    }

    /// Frees, or keeps until the checkpoint of `epoch`, where a page lived before a change in `epoch`.
    fn replace(&mut self, epoch: u64, replaced: Option<Change>, previous: Option<Extent>) {
        match replaced {
            Some(Change::Written { extent, .. }) => {
                debug_assert!(previous == Some(extent), "a page lives where it was last written");
                self.free(extent);
            }
            Some(Change::Freed) => {
                debug_assert!(previous.is_none(), "a freed page lives nowhere");
            }
            None => self.epoch(epoch).release.extend(previous),
        }
    }

    fn free(&mut self, extent: Extent) {
        let run = self.geometry.run_of(extent).expect("extents come from `take`");
        self.space.clear(run);
    }

    fn settle_taken(&mut self) {
        self.taken = self.taken.checked_sub(1).expect("the extent was taken before");
    }

    /// Slots of pages: live, pending or taken.
    fn page_slots(&self) -> usize {
        self.space.slots() - self.space.free() - self.metadata_slots
    }

    /// What is kept for the map if `more` extents are reserved.
    fn floor_with(&self, more: usize) -> usize {
        let new: usize = self.open.iter().map(|open| open.new_pages).sum();
        let pages = self.live + self.closing.new_pages + new + self.reserved + self.taken;
        self.sizes.ceiling(pages.saturating_add(more), self.base_slots)
    }
}
