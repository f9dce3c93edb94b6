//! What is in flight on a ring, and what waits for room on it.
//!
//! An operation has a slot from before its SQE is pushed until its CQE has been taken out, also
//! while it is submitted again, and owns buffer and file for so long (I12).
//!
//! `user_data` is the slab key below 31 bits of generation, so that a CQE that does not belong to
//! the operation in its slot is noticed. With the top bit set it is a poll of the watch.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{cqueue, opcode, squeue, types};
use slab::Slab;

use super::fixed::Fixed;
use crate::disk::Op;
use crate::work::{Finished, Step, Work};

/// Set in the `user_data` of a poll; the other bits are the caller's tag.
pub(super) const POLL: u64 = 1 << 63;

#[derive(Default)]
pub(super) struct Operations {
    slab: Slab<Operation>,
    /// Waits for a slot.
    queue: VecDeque<Work>,
    /// Has a slot and goes to the kernel once more.
    again: VecDeque<usize>,
    generation: u32,
}

struct Operation {
    work: Work,
    generation: u32,
}

impl Operations {
    /// Puts works behind those that wait; returns how many.
    pub(super) fn enqueue(&mut self, works: impl Iterator<Item = Work>) -> usize {
        let before = self.queue.len();
        self.queue.extend(works);
        self.queue.len() - before
    }

    /// How many operations the kernel may still be working on.
    pub(super) fn in_kernel(&self) -> usize {
        self.slab.len()
    }

    /// Whether something could go to the kernel now.
    pub(super) fn has_next(&self, limit: usize) -> bool {
        !self.again.is_empty() || (!self.queue.is_empty() && self.slab.len() < limit)
    }

    /// The slot of what goes to the kernel next.
    pub(super) fn next(&mut self, limit: usize) -> Option<usize> {
        if let Some(key) = self.again.pop_front() {
            return Some(key);
        }
        if self.slab.len() >= limit {
            return None;
        }
        let work = self.queue.pop_front()?;
        self.generation = (self.generation + 1) & (u32::MAX >> 1);
        Some(self.slab.insert(Operation { work, generation: self.generation }))
    }

    /// What to push for the operation in slot `key`. `index_of` knows registered files.
    pub(super) fn entry(
        &self,
        key: usize,
        fixed: &Fixed,
        index_of: impl FnOnce(RawFd) -> Option<u32>,
    ) -> Option<squeue::Entry> {
        let operation = self.slab.get(key)?;
        let file = operation.work.file.file.as_raw_fd();
        let entry = match index_of(file) {
            // As `types::Fixed` would have it: the index in the place of the descriptor.
            Some(index) => {
                operation.entry(types::Fd(index as RawFd), fixed).flags(squeue::Flags::FIXED_FILE)
            }
            None => operation.entry(types::Fd(file), fixed),
        };
        Some(entry.user_data(operation.user_data(key)))
    }

    /// Takes in a CQE. The operation leaves its slot if it is over.
    pub(super) fn settle(&mut self, entry: &cqueue::Entry) -> Option<Finished> {
        let key = (entry.user_data() & u64::from(u32::MAX)) as usize;
        let operation = self.slab.get_mut(key);
        let Some(operation) = operation.filter(|at| at.user_data(key) == entry.user_data()) else {
            debug_assert!(false, "a completion of no operation: {:#x}", entry.user_data());
            tracing::error!(user_data = entry.user_data(), "a completion of no operation");
            return None;
        };
        let returned = usize::try_from(entry.result())
            .map_err(|_| io::Error::from_raw_os_error(-entry.result()));
        match operation.work.step(returned) {
            Step::Again => {
                self.again.push_back(key);
                None
            }
            Step::Over(result) => Some(self.slab.remove(key).work.end(result)),
        }
    }
}

impl Operation {
    fn user_data(&self, key: usize) -> u64 {
        u64::from(self.generation) << 32 | key as u64
    }

    fn entry(&self, fd: types::Fd, fixed: &Fixed) -> squeue::Entry {
        let (ptr, len, offset) = self.work.rest();
        let index = fixed.index_of(ptr, len);
        let len = len as u32;
        match (self.work.op, index) {
            (Op::Read, None) => opcode::Read::new(fd, ptr, len).offset(offset).build(),
            (Op::Read, Some(index)) => {
                opcode::ReadFixed::new(fd, ptr, len, index).offset(offset).build()
            }
            (Op::Write, None) => opcode::Write::new(fd, ptr, len).offset(offset).build(),
            (Op::Write, Some(index)) => {
                opcode::WriteFixed::new(fd, ptr, len, index).offset(offset).build()
            }
            (Op::WriteDurable, None) => {
                let write = opcode::Write::new(fd, ptr, len).offset(offset);
                write.rw_flags(libc::RWF_DSYNC).build()
            }
            (Op::WriteDurable, Some(index)) => {
                let write = opcode::WriteFixed::new(fd, ptr, len, index).offset(offset);
                write.rw_flags(libc::RWF_DSYNC).build()
            }
            (Op::Sync, _) => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            (Op::Allocate { len }, _) => {
                opcode::Fallocate::new(fd, len).offset(self.work.offset()).build()
            }
        }
    }
}
