//! Memory for frames, had from the kernel ahead of their first use.
//!
//! The frames are one mapping that the kernel backs with memory when it is touched, a huge page at a
//! time. Zeroing one takes about a millisecond of whoever touches it, which would be a reader in the middle
//! of his look, or a writer under his latches. So the cleaner does it, some way ahead of the greatest
//! frame that was ever used: empty frames are handed out in order. Memory is not had before that, since a
//! cache may be larger than what will be in it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::memory::FrameMemory;

/// A smaller pool is not worth it.
const POOL_MIN: usize = 32 << 20;
/// Bytes that are kept ready.
const AHEAD: usize = 8 << 20;
/// Bytes that are had at once: a huge page.
const STEP: usize = 2 << 20;

/// How far a pool's memory has been used, and how far it is there. Frames, both.
pub(crate) struct Populated {
    used: AtomicUsize,
    there: AtomicUsize,
    count: usize,
    frame_len: usize,
}

impl Populated {
    pub(crate) fn new(count: usize, frame_len: usize) -> Self {
        let there = if count * frame_len < POOL_MIN { count } else { 0 };
        Self { used: AtomicUsize::new(0), there: AtomicUsize::new(there), count, frame_len }
    }

    /// A frame is about to be used that may never have been; whether more of them should be made
    /// ready.
    pub(crate) fn is_using(&self, frame: usize) -> bool {
        let there = self.there.load(Ordering::Relaxed);
        if there == self.count || frame < self.used.load(Ordering::Relaxed) {
            return false;
        }
        self.used.fetch_max(frame + 1, Ordering::Relaxed);
        frame + AHEAD / self.frame_len > there
    }

    /// Makes some more frames ready; false if there are enough.
    pub(crate) fn step(&self, memory: &FrameMemory) -> bool {
        let (used, there) = (self.used.load(Ordering::Relaxed), self.there.load(Ordering::Relaxed));
        if there == self.count || used == 0 || there >= used + AHEAD / self.frame_len {
            return false;
        }
        let end = (there + (STEP / self.frame_len).max(1)).min(self.count);
        let populated = memory.populate(there..end);
        // A kernel that cannot do it (before Linux 5.14) is not asked again.
        self.there.store(if populated { end } else { self.count }, Ordering::Relaxed);
        populated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_had_ahead_of_its_use_and_not_before() {
        let (count, frame_len) = (16 << 10, 4096);
        let memory = FrameMemory::map(frame_len, count).expect("64 MiB of addresses");
        let populated = Populated::new(count, frame_len);
        assert!(!populated.step(&memory), "nothing is used yet");
        assert!(populated.is_using(0) && !populated.is_using(0));
        let mut steps = 0;
        while populated.step(&memory) {
            steps += 1;
        }
        // Four steps are the 8 MiB kept ready, and a frame is used of them.
        assert!(steps == 5 || populated.there.load(Ordering::Relaxed) == count, "{steps} steps");
        if steps == 5 {
            assert!(!populated.is_using(100), "there is enough behind it");
            assert!(populated.is_using(600));
            assert!(populated.step(&memory) && !populated.step(&memory));
        }
        assert!(!Populated::new(100, frame_len).is_using(0), "a small pool has its memory");
    }
}
