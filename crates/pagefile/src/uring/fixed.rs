//! Memory and files registered with a ring, which spares the kernel from pinning pages and from
//! looking files up for each I/O.
//!
//! Registered memory counts against RLIMIT_MEMLOCK, so the kernel may refuse; everything works
//! without it. A registered buffer is at most 1 GiB, so a larger region is registered in pieces, and
//! an I/O that straddles two of them goes the ordinary way.

use std::io;
use std::os::fd::RawFd;

use io_uring::IoUring;

const PIECE: usize = 1 << 30;

/// The region registered with a ring; empty when there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fixed {
    start: usize,
    len: usize,
}

impl Fixed {
    /// Registers `len` bytes at `memory`, by reference to the registration of the ring `like` where
    /// there is one and the kernel can do that (Linux 6.12): pinned and accounted for once.
    ///
    /// # Safety
    /// The memory must stay valid as long as requests refer to it.
    pub(super) unsafe fn register(
        ring: &IoUring,
        memory: *mut u8,
        len: usize,
        like: Option<RawFd>,
    ) -> io::Result<Self> {
        let registered = Self { start: memory.addr(), len };
        if let Some(fd) = like
            && ring.submitter().register_buffers_clone(fd).is_ok()
        {
            return Ok(registered);
        }
        let pieces: Vec<libc::iovec> = (0..len)
            .step_by(PIECE)
            .map(|at| libc::iovec {
                iov_base: memory.wrapping_add(at).cast(),
                iov_len: PIECE.min(len - at),
            })
            .collect();
        // SAFETY: the caller keeps the memory valid, and the kernel holds its own references to the
        // pages.
        unsafe { ring.submitter().register_buffers(&pieces) }?;
        Ok(registered)
    }

    /// The registered buffer that the `len` bytes at `ptr` lie in wholly.
    pub(super) fn index_of(&self, ptr: *mut u8, len: usize) -> Option<u16> {
        let at = ptr.addr().checked_sub(self.start)?;
        let end = at.checked_add(len)?;
        if len == 0 || end > self.len || at / PIECE != (end - 1) / PIECE {
            return None;
        }
        u16::try_from(at / PIECE).ok()
    }

    pub(super) fn is_registered(&self) -> bool {
        self.len > 0
    }
}

/// Files a ring may have registered; those beyond go the ordinary way.
const FILES_MAX: u32 = 64;

/// In the place of a file that no I/O is for.
const NO_FILE: RawFd = -1;

/// The files registered with a ring, each under the index of its place here. A disk keeps its files
/// open as long as its rings, so a descriptor means the same file all the time.
///
/// The first is the lock of the directory. The kernel lets go of a ring's files when the last request
/// has ended, which is after the death of a process that was killed: until then the lock is held, and
/// no late write meets the next one's.
#[derive(Debug, Default)]
pub(super) struct FixedFiles {
    descriptors: Vec<RawFd>,
    available: bool,
}

impl FixedFiles {
    /// A table in the ring, if the kernel makes one, with only the `held` file in it.
    pub(super) fn new(ring: &IoUring, held: Option<RawFd>) -> Self {
        let available = ring.submitter().register_files_sparse(FILES_MAX).is_ok();
        let mut files = Self { descriptors: Vec::new(), available };
        if let Some(held) = held
            && files.index_of(ring, held).is_some()
        {
            // Its number may be another file's later.
            files.descriptors[0] = NO_FILE;
        }
        files
    }

    /// The index of a file, registered now if it is not yet; `None` if it cannot be.
    pub(super) fn index_of(&mut self, ring: &IoUring, file: RawFd) -> Option<u32> {
        if !self.available {
            return None;
        }
        if let Some(index) = self.descriptors.iter().position(|&known| known == file) {
            return u32::try_from(index).ok();
        }
        let next = u32::try_from(self.descriptors.len()).ok().filter(|&next| next < FILES_MAX)?;
        if ring.submitter().register_files_update(next, &[file]).is_err() {
            self.available = false;
            return None;
        }
        self.descriptors.push(file);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_within_one_piece_have_an_index() {
        let fixed = Fixed { start: 4096, len: 2 * PIECE + 8192 };
        let at = |offset: usize| std::ptr::without_provenance_mut::<u8>(offset);
        assert_eq!(fixed.index_of(at(4096), 4096), Some(0));
        assert_eq!(fixed.index_of(at(0), 4096), None);
        assert_eq!(fixed.index_of(at(4096 + PIECE - 4096), 4096), Some(0));
        assert_eq!(fixed.index_of(at(4096 + PIECE - 4096), 8192), None);
        assert_eq!(fixed.index_of(at(4096 + PIECE), 4096), Some(1));
        assert_eq!(fixed.index_of(at(4096 + 2 * PIECE + 4096), 4096), Some(2));
        assert_eq!(fixed.index_of(at(4096 + 2 * PIECE + 4096), 8192), None);
        assert_eq!(Fixed::default().index_of(at(4096), 4096), None);
    }
}
