//! Staging: where page images wait for the disk, side by side.
//!
//! A slot holds one image. It belongs to whoever holds its [`Slot`], then to the write that it is
//! part of. Slots are handed out in order, so that what one batch takes lies side by side, and images
//! that go to neighbouring extents go there in one I/O. Images that writers capture have slots of their
//! own ([`Use`]), so that they and a checkpoint's batches do not tear each other's rows, nor a checkpoint
//! takes what the writers beside it need.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Word, Ordering};

use treering_latch::sync::{Mutex, MutexGuard, step};
use treering_pagefile::{IoBuf, PageId, seal};

use crate::memory::FrameMemory;

/// A slot and what is in it: the holder's alone.
pub(crate) struct Slot(u32);

/// What an image is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The cleaner, or a checkpoint.
    Batch,
    /// A writer that is about to change the page.
    Capture,
}

/// All slots of a pool.
pub(crate) struct Staging {
    memory: Arc<FrameMemory>,
    page_size: usize,
    /// Slots before this one are for [`Use::Batch`], the others for [`Use::Capture`].
    batch_slots: usize,
    state: Mutex<State>,
}

struct State {
    free: Box<[bool]>,
    /// By use.
    shares: [Share; 2],
    /// The writes on their way: under its first slot, the frames of each.
    writes: Box<[Vec<u32>]>,
}

/// The slots of one use.
struct Share {
    slots: Range<usize>,
    free_count: usize,
    /// Where the next free slot is looked for.
    next: usize,
}

impl Share {
    fn new(slots: Range<usize>) -> Self {
        Self { free_count: slots.len(), next: slots.start, slots }
    }
}

/// Images that lie side by side here and on disk: one write.
pub(crate) struct Run {
    first: Slot,
    /// Where it goes.
    pub(crate) offset: u64,
    frames: Vec<u32>,
}

impl Staging {
    pub(crate) fn new(
        page_size: usize,
        batch_slots: usize,
        capture_slots: usize,
    ) -> io::Result<Self> {
        let slots = batch_slots + capture_slots;
        let memory = Arc::new(FrameMemory::map(page_size, slots)?);
        let state = State {
            free: vec![true; slots].into(),
            shares: [Share::new(0..batch_slots), Share::new(batch_slots..slots)],
            writes: vec![Vec::new(); slots].into(),
        };
        Ok(Self { memory, page_size, batch_slots, state: Mutex::new(state) })
    }

    pub(crate) fn is_used_up(&self, by: Use) -> bool {
        self.lock().shares[by as usize].free_count == 0
    }

    /// A free slot; the one after the last that was taken, if that is free.
    pub(crate) fn take(&self, by: Use) -> Option<Slot> {
        let state = &mut *self.lock();
        let share = &mut state.shares[by as usize];
        let (behind, before) = (share.next..share.slots.end, share.slots.start..share.next);
        let slot = behind.chain(before).find(|&slot| state.free[slot])?;
        state.free[slot] = false;
        share.free_count -= 1;
        share.next = if slot + 1 == share.slots.end { share.slots.start } else { slot + 1 };
        Some(Slot(slot as u32))
    }

    /// What the images of a write were made for.
    pub(crate) fn use_of(&self, write: u32) -> Use {
        if (write as usize) < self.batch_slots { Use::Batch } else { Use::Capture }
    }

    /// Copies a page that nobody changes meanwhile.
    pub(crate) fn copy(&self, slot: &mut Slot, page: &[Word]) {
        for (to, from) in self.memory.words(slot.0 as usize).iter().zip(page) {
            step();
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    pub(crate) fn seal(&self, slot: &mut Slot, page: PageId, stamp: u32) {
        // SAFETY: the slot is the holder's alone, and `&mut` says that this is its only use.
        let bytes = unsafe { self.memory.bytes_mut(slot.0 as usize) };
        seal(bytes, page, stamp);
    }

    /// A write of one image, of the page in `frame`, to `offset`.
    pub(crate) fn run(slot: Slot, frame: u32, offset: u64) -> Run {
        Run { first: slot, offset, frames: vec![frame] }
    }

    /// Adds an image to a write, if it is its continuation here and on disk; gives the slot back
    /// otherwise.
    pub(crate) fn extend(
        &self,
        run: &mut Run,
        slot: Slot,
        frame: u32,
        offset: u64,
    ) -> Result<(), Slot> {
        let count = run.frames.len();
        let continues = slot.0 as usize == run.first.0 as usize + count
            && self.use_of(slot.0) == self.use_of(run.first.0)
            && offset == run.offset + (count * self.page_size) as u64
            && (count + 1) * self.page_size <= RUN_BYTES_MAX;
        if !continues {
            return Err(slot);
        }
        run.frames.push(frame);
        Ok(())
    }

    /// Hands the images of a write over: its number, for [`Staging::landed`], and its buffer.
    pub(crate) fn submit(&self, run: Run) -> (u32, IoBuf) {
        let first = run.first.0;
        let len = run.frames.len() * self.page_size;
        self.lock().writes[first as usize] = run.frames;
        let start = self.memory.frame(first as usize);
        let owner: Arc<dyn std::any::Any + Send + Sync> = Arc::clone(&self.memory) as _;
        // SAFETY: the slots of the run lie side by side, so the memory is valid for its length as
        // long as its owner lives; they are neither free nor anybody's until it has landed.
        (first, unsafe { IoBuf::shared(start, len, owner) })
    }

    /// The frames of a write that has ended. Its slots stay taken until [`Staging::release`].
    pub(crate) fn landed(&self, write: u32) -> Vec<u32> {
        std::mem::take(&mut self.lock().writes[write as usize])
    }

    /// Makes the `count` slots of a write free.
    pub(crate) fn release(&self, write: u32, count: usize) {
        let by = self.use_of(write);
        let mut state = self.lock();
        let first = write as usize;
        debug_assert!(state.free[first..first + count].iter().all(|free| !free));
        state.free[first..first + count].fill(true);
        state.shares[by as usize].free_count += count;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Bytes of one write, at most, or one page if that is more: what a device takes in one go.
const RUN_BYTES_MAX: usize = 256 << 10;
