//! Counting the attempts to change something that are just being made.
//!
//! An attempt is synchronous: it begins and ends within one poll. Two things wait for those that have
//! begun: the engine's end, for all of them, and an overlay that has just claimed its keys. For an
//! attempt may have looked for an overlay before there was one, and append its record only after the
//! overlay's. The log would then have the two in one order, and the pages in the other (I5).
//!
//! 1. An attempt counts itself on the side that is open, and looks whether that side is open still. If
//!    not, it counts itself off and begins again.
//! 2. Only then it looks for an overlay.
//! 3. Whoever has set an overlay opens the other side, and waits until nobody is left on the closed
//!    one. Those on the open one have seen the overlay. One waits at a time: he has the turn.

use event_listener::Event;
use treering_latch::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The attempts that are being made.
#[derive(Default)]
pub(crate) struct Attempts {
    /// The side where attempts count themselves.
    open: AtomicUsize,
    counts: [AtomicUsize; 2],
    /// Somebody waits for the other side.
    awaited: AtomicBool,
    left: Event,
}

impl Attempts {
    /// An attempt begins; the side on which it counts.
    #[inline]
    pub(crate) fn enter(&self) -> usize {
        loop {
            let side = self.open.load(Ordering::SeqCst);
            self.counts[side].fetch_add(1, Ordering::SeqCst);
            if self.open.load(Ordering::SeqCst) == side {
                return side;
            }
            self.leave(side);
        }
    }

    /// An attempt ends.
    #[inline]
    pub(crate) fn leave(&self, side: usize) {
        self.counts[side].fetch_sub(1, Ordering::SeqCst);
        if self.awaited.load(Ordering::SeqCst) {
            self.left.notify(usize::MAX);
        }
    }

    /// Whether none is being made.
    pub(crate) fn none(&self) -> bool {
        self.counts.iter().all(|count| count.load(Ordering::SeqCst) == 0)
    }

    /// Resolves when all attempts have ended that had begun before. One caller at a time.
    pub(crate) async fn ended(&self) {
        self.awaited.store(true, Ordering::SeqCst);
        let closed = self.open.fetch_xor(1, Ordering::SeqCst);
        loop {
            let left = self.left.listen();
            if self.counts[closed].load(Ordering::SeqCst) == 0 {
                break;
            }
            left.await;
        }
        self.awaited.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn who_has_begun_is_waited_for_and_who_begins_later_is_not() {
        let attempts = Attempts::default();
        for _ in 0..3 {
            let before = attempts.enter();
            let mut ended = Box::pin(attempts.ended());
            assert!(ended.as_mut().now_or_never().is_none());
            let later = attempts.enter();
            assert_ne!(before, later);
            assert!(ended.as_mut().now_or_never().is_none());
            attempts.leave(before);
            assert!(ended.now_or_never().is_some() && !attempts.none());
            attempts.leave(later);
            assert!(attempts.none());
        }
    }
}
