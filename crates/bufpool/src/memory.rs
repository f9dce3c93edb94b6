//! The frames' memory: one mapping, never unmapped while the pool or an I/O lives.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

#[cfg(not(miri))]
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// `count` frames of `frame_len` bytes each.
pub(crate) struct FrameMemory {
    base: NonNull<u8>,
    frame_len: usize,
    count: usize,
}

// SAFETY: the mapping is plain memory that any thread may use; access rules are `words`'s.
unsafe impl Send for FrameMemory {}
// SAFETY: as above; shared access goes through atomics (`words`) or is the claimed owner's.
unsafe impl Sync for FrameMemory {}

impl FrameMemory {
    /// Maps zeroed memory, page-aligned, and asks for huge pages.
    pub(crate) fn map(frame_len: usize, count: usize) -> std::io::Result<Self> {
        let base = map(frame_len * count)?;
        let base = NonNull::new(base).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, frame_len, count })
    }

    /// Where frame `index` starts.
    pub(crate) fn frame(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.count, "frame {index} of {}", self.count);
        // SAFETY: the index is within the mapping (asserted), so the offset is too.
        unsafe { self.base.add(index * self.frame_len) }
    }

    /// Frame `index` as words. Whoever holds no latch may see any mixture of writes.
    pub(crate) fn words(&self, index: usize) -> &[AtomicU64] {
        let start = self.frame(index).cast::<AtomicU64>();
        // SAFETY: frames are page-aligned and a multiple of 8 bytes long, the mapping lives as long
        // as `self`, and all Rust code writes frames through these atomics. The kernel writes only
        // into claimed frames that no table word names; who still looks there validates.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.frame_len / 8) }
    }

    /// Has the kernel back these frames with memory now, and not when they are touched first: that zeroes
    /// a huge page, a millisecond that a reader or a writer would spend. A hint: false if it failed.
    pub(crate) fn populate(&self, frames: std::ops::Range<usize>) -> bool {
        let start = self.frame(frames.start).as_ptr();
        let len = frames.len().min(self.count - frames.start) * self.frame_len;
        populate(start, len)
    }

    /// Asks the processor to bring what a search of a page looks at first: its header with the first
    /// slots, and its end, where the fences are. One after the other, each would be a miss.
    #[inline]
    pub(crate) fn prefetch(&self, index: usize) {
        let start = self.frame(index).as_ptr();
        for line in 0..PREFETCHED_LINES {
            prefetch(start.wrapping_add(line * LINE_LEN));
        }
        prefetch(start.wrapping_add(self.frame_len - LINE_LEN));
    }

    /// Frame `index` as bytes.
    ///
    /// # Safety
    /// Nobody may write the frame while the slice lives: the caller has claimed it and no I/O into
    /// it is in flight, or holds its latch. (Others may read it, atomically or not.)
    pub(crate) unsafe fn bytes(&self, index: usize) -> &[u8] {
        // SAFETY: in bounds as in `words`; the caller promises that there is no writer.
        unsafe { std::slice::from_raw_parts(self.frame(index).as_ptr(), self.frame_len) }
    }

    /// Frame `index` as bytes that may be changed.
    ///
    /// # Safety
    /// The frame is the caller's alone while the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn bytes_mut(&self, index: usize) -> &mut [u8] {
        // SAFETY: in bounds as in `words`; the caller promises that there is nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.frame(index).as_ptr(), self.frame_len) }
    }

    /// The whole mapping.
    pub(crate) fn range(&self) -> (*mut u8, usize) {
        (self.base.as_ptr(), self.frame_len * self.count)
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn populate(start: *mut u8, len: usize) -> bool {
    // SAFETY: the range is within the mapping, and populating it changes no contents.
    unsafe { madvise(start.cast(), len, Advice::LinuxPopulateWrite) }.is_ok()
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn populate(_start: *mut u8, _len: usize) -> bool {
    false
}

/// Bytes of a cache line.
const LINE_LEN: usize = 64;
/// The header, and 24 slots.
const PREFETCHED_LINES: usize = 4;

/// Asks the processor to bring a cache line.
#[inline]
pub(crate) fn prefetch(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint, and has no effect that a program sees at any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

impl Drop for FrameMemory {
    fn drop(&mut self) {
        let (base, len) = self.range();
        // SAFETY: the mapping is ours and nobody uses it any more: the pool is gone, and every I/O
        // into it held an `Arc` of this.
        unsafe { unmap(base, len) };
    }
}

#[cfg(not(miri))]
fn map(len: usize) -> std::io::Result<*mut u8> {
    // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches no
    // memory of ours.
    let base = unsafe {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        mmap_anonymous(std::ptr::null_mut(), len, protection, flags)?
    };
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the range is the mapping made above, and the advice changes no contents.
        let advised = unsafe { madvise(base, len, Advice::LinuxHugepage) };
        if let Err(error) = advised {
            tracing::debug!(%error, "no huge pages for the buffer pool");
        }
    }
    Ok(base.cast())
}

/// # Safety
/// `map` gave it, and nobody uses it any more.
#[cfg(not(miri))]
unsafe fn unmap(base: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    let unmapped = unsafe { munmap(base.cast(), len) };
    debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped");
}

/// Miri makes no system calls: there the mapping is an allocation.
#[cfg(miri)]
fn layout(len: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(len, 4096).expect("a page is a power of two")
}

#[cfg(miri)]
fn map(len: usize) -> std::io::Result<*mut u8> {
    // SAFETY: a pool has frames, so the length is not zero.
    Ok(unsafe { std::alloc::alloc_zeroed(layout(len)) })
}

/// # Safety
/// `map` gave it, and nobody uses it any more.
#[cfg(miri)]
unsafe fn unmap(base: *mut u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::alloc::dealloc(base, layout(len)) }
}
