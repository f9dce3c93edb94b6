//! The waiter of a Tokio lane: a task that lets Tokio's own reactor wait for the ring.
//!
//! Waking a thread of the runtime through its reactor spares the hop from a thread of ours to one of
//! Tokio's, which is half the latency of a read. In return the task lives and dies with a runtime
//! that is not ours. So the lane's `waiter` says POLLER exactly while a [`Waiter`] exists; it is
//! made before the task is spawned, so that a runtime which drops the task unpolled (because it is
//! shutting down) also drops the `Waiter`, and that hands the lane over to the I/O thread.
//!
//! Readiness is edge-triggered: the ring is emptied first and `clear_ready` comes after it, which
//! does nothing if the reactor has seen a newer event meanwhile.

use std::future::poll_fn;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::ring::Reap;
use super::{LaneRing, POLLER, Shared, WATCH};
use crate::work::lock;

impl Shared {
    /// Spawns a poller for the lane on the current runtime, if it has none and the runtime can.
    pub(super) fn ensure_poller(self: &Arc<Self>, index: usize) {
        let lane = &self.lanes[index];
        if lane.waiter.load(Ordering::SeqCst) == POLLER || !self.reactor {
            return;
        }
        let Ok(handle) = Handle::try_current() else { return };
        if lock(&self.without_io).contains(&handle.id()) {
            return;
        }
        let taken = lane.waiter.compare_exchange(WATCH, POLLER, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_ok() {
            let waiter = Waiter { shared: Arc::clone(self), index };
            drop(handle.spawn(poll_lane(waiter)));
        }
    }
}

/// The right and the duty to wait for a lane.
struct Waiter {
    shared: Arc<Shared>,
    index: usize,
}

impl Waiter {
    fn lane(&self) -> &LaneRing {
        &self.shared.lanes[self.index]
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.lane().waiter.store(WATCH, Ordering::SeqCst);
        self.shared.kick();
    }
}

/// The descriptor of the lane's ring, which the `Waiter` keeps open.
impl AsRawFd for Waiter {
    fn as_raw_fd(&self) -> RawFd {
        self.lane().ring.as_raw_fd()
    }
}

async fn poll_lane(waiter: Waiter) {
    let Some(fd) = reactor_wait(waiter) else { return };
    let waiter = fd.get_ref();
    loop {
        let ready = poll_fn(|cx| {
            waiter.lane().poller.register(cx.waker());
            if waiter.shared.closing.load(Ordering::SeqCst) {
                return Poll::Ready(None);
            }
            fd.poll_read_ready(cx).map(Result::ok)
        });
        // No readiness: the disk closes, or the runtime shuts down.
        let Some(mut ready) = ready.await else { return };
        waiter.shared.reap_lane(waiter.index, Reap::Now);
        ready.clear_ready();
    }
}

/// Registers the ring with the runtime's reactor. A runtime without an I/O driver answers with a
/// panic and in no other way, so it is remembered and not asked again.
fn reactor_wait(waiter: Waiter) -> Option<AsyncFd<Waiter>> {
    let shared = Arc::clone(&waiter.shared);
    let registered = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the `Waiter` that is handed over keeps the ring, and with it always the same open
        // descriptor, as long as the `AsyncFd` has it.
        unsafe { AsyncFd::register_with_interest(waiter, Interest::READABLE) }
    }));
    if let Ok(Ok(fd)) = registered {
        return Some(fd);
    }
    tracing::warn!("this Tokio runtime has no I/O driver (enable_io): reads take a detour");
    if let Ok(handle) = Handle::try_current() {
        lock(&shared.without_io).push(handle.id());
    }
    None
}
