//! Memory for frames, had from the kernel ahead of their first use.
//!
//! The frames are one mapping that the kernel backs with memory when it is touched, a huge page at a
//! time. Zeroing one takes half a millisecond to ten (a virtual machine may have to get it from its host) of
//! whoever touches it, which would be a reader in the middle of his look, or a writer under his latches.
//! So a thread of the pool's own does it, some way ahead of the greatest frame that was ever used: empty
//! frames are handed out in order. Memory is not had before that, since a cache may be larger than what will
//! be in it. It is no task of the engine's, whose thread has group commits and checkpoints to move on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use crate::memory::FrameMemory;

/// A smaller pool is not worth it.
const POOL_MIN: usize = 32 << 20;
/// Bytes that are kept ready, if that is not more than an eighth of the pool.
const AHEAD: usize = 32 << 20;
/// Bytes that are had at once: a huge page.
const STEP: usize = 2 << 20;

/// A pool's memory, and the thread that has more of it backed. The thread ends with it.
pub(crate) struct Populated {
    extent: Arc<Extent>,
    /// None in a small pool.
    thread: Option<JoinHandle<()>>,
}

/// How far a pool's memory has been used, and how far it is there. Frames, both.
struct Extent {
    used: AtomicUsize,
    there: AtomicUsize,
    count: usize,
    frame_len: usize,
    stopping: AtomicBool,
}

impl Populated {
    pub(crate) fn new(memory: &Arc<FrameMemory>, count: usize, frame_len: usize) -> Self {
        let extent = Arc::new(Extent::new(count, frame_len));
        let thread = extent.is_short_of(0).then(|| {
            let (extent, memory) = (Arc::clone(&extent), Arc::clone(memory));
            let run = move || extent.keep_ahead(&memory);
            // Without it whoever touches a frame first waits for the kernel, and no more.
            Builder::new().name("treering-memory".into()).spawn(run).ok()
        });
        Self { extent, thread: thread.flatten() }
    }

    /// A frame is about to be used that may never have been.
    pub(crate) fn is_using(&self, frame: usize) {
        if let Some(thread) = &self.thread
            && self.extent.is_using(frame)
        {
            thread.thread().unpark();
        }
    }
}

impl Drop for Populated {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.extent.stopping.store(true, Ordering::SeqCst);
        thread.thread().unpark();
        // It has no more to do than a step, and does not panic.
        let _ = thread.join();
    }
}

impl Extent {
    fn new(count: usize, frame_len: usize) -> Self {
        let there = if count * frame_len < POOL_MIN { count } else { 0 };
        let (used, stopping) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { used, there: AtomicUsize::new(there), count, frame_len, stopping }
    }

    /// Notes that a frame is used; whether more of them should be made ready.
    fn is_using(&self, frame: usize) -> bool {
        if frame < self.used.load(Ordering::Relaxed) {
            return false;
        }
        self.used.fetch_max(frame + 1, Ordering::Relaxed);
        self.is_short_of(frame + 1)
    }

    /// Whether fewer frames are ready than there should be, with so many in use.
    fn is_short_of(&self, used: usize) -> bool {
        let there = self.there.load(Ordering::Relaxed);
        let ahead = (AHEAD / self.frame_len).min(self.count / 8);
        there < self.count && there < used + ahead
    }

    /// Makes some more frames ready; false if there are enough.
    fn step(&self, memory: &FrameMemory) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        if used == 0 || !self.is_short_of(used) {
            return false;
        }
        let there = self.there.load(Ordering::Relaxed);
        let end = (there + (STEP / self.frame_len).max(1)).min(self.count);
        let populated = memory.populate(there..end);
        // A kernel that cannot do it (before Linux 5.14) is not asked again.
        self.there.store(if populated { end } else { self.count }, Ordering::Relaxed);
        populated
    }

    fn keep_ahead(&self, memory: &FrameMemory) {
        while !self.stopping.load(Ordering::SeqCst) {
            if !self.step(memory) {
                std::thread::park();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_had_ahead_of_its_use_and_not_before() {
        let (count, frame_len) = (16 << 10, 4096);
        let memory = FrameMemory::map(frame_len, count).expect("64 MiB of addresses");
        let extent = Extent::new(count, frame_len);
        assert!(!extent.step(&memory), "nothing is used yet");
        assert!(extent.is_using(0) && !extent.is_using(0));
        let mut steps = 0;
        while extent.step(&memory) {
            steps += 1;
        }
        // Four steps are the eighth of the pool that is kept ready, and a frame is used of them.
        assert!(steps == 5 || extent.there.load(Ordering::Relaxed) == count, "{steps} steps");
        if steps == 5 {
            assert!(!extent.is_using(100), "there is enough behind it");
            assert!(extent.is_using(600));
            assert!(extent.step(&memory) && !extent.step(&memory));
        }
        assert!(!Extent::new(100, frame_len).is_using(0), "a small pool has its memory");
    }

    /// Whoever uses a frame does not wait for it; the thread gets there by itself.
    #[test]
    fn the_thread_has_memory_ready_and_ends_with_the_pool() {
        let (count, frame_len) = (16 << 10, 4096);
        let memory = Arc::new(FrameMemory::map(frame_len, count).expect("64 MiB of addresses"));
        let populated = Populated::new(&memory, count, frame_len);
        populated.is_using(0);
        while populated.extent.is_short_of(1) {
            std::thread::yield_now();
        }
        drop(populated);
        assert_eq!(Arc::strong_count(&memory), 1, "nobody else has the memory any more");
    }
}
