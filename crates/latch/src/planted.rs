//! Bugs planted on purpose (`--cfg treering_planted_bug` only), so that a model check that finds
//! nothing is noticed: each model of `loom-tests/` has to find the ones that are its business.
//!
//! Armed per thread. Loom runs all threads of a model on the thread that explores it, so a test
//! arms a bug for its own model while other tests run beside it.

use std::cell::Cell;

/// What can go wrong in a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// L1: a writer enters without seeing all that was done inside before it.
    WriterWithoutAcquire,
    /// L2: a hand-over to readers leaves one of them asleep.
    OneReaderForgotten,
    /// L2: a reader joins the readers inside though a writer waits.
    ReadersPassWaitingWriter,
    /// L2: after a writer comes the next writer, though readers wait.
    WriterOvertakesReaders,
    /// L2: the writer that came last enters first.
    NewestWriterFirst,
    /// L3: `try_read` counts itself in before it looks, and out again without handing over.
    TryReadLeavesTrace,
    /// L3: `try_write` moves the version before it knows that it may enter.
    TryWriteMovesVersion,
    /// L4: the version of a page that is being written is even.
    VersionStaysEven,
    /// L4: no fence between the odd version and the stores of the data.
    WriterWithoutFence,
    /// L4: no fence between the loads of the data and the second load of the version.
    ReaderWithoutFence,
}

thread_local! {
    static ARMED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Runs `body` with `bug` in every latch that this thread uses; disarms it also after a panic.
pub fn with<R>(bug: Bug, body: impl FnOnce() -> R) -> R {
    struct Disarm;
    impl Drop for Disarm {
        fn drop(&mut self) {
            ARMED.set(None);
        }
    }
    ARMED.set(Some(bug));
    let _disarm = Disarm;
    body()
}

pub(crate) fn armed(bug: Bug) -> bool {
    ARMED.get() == Some(bug)
}
