//! Bugs planted on purpose (`--cfg treering_planted_bug` only), so that a model check that finds
//! nothing is noticed: each model of `loom-tests/` has to find the ones that are its business, and
//! `ci/shuttle --canaries` those of the pool, the trees and the engine.
//!
//! Armed per thread. Loom and shuttle run all threads of a model on the thread that explores it, so a
//! test arms a bug for its own model while other tests run beside it.

use std::cell::Cell;

/// What can go wrong, in a latch or above.
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
    /// L1: a ticket is taken without seeing all that was done inside before it.
    TicketWithoutAcquire,
    /// L5: who came last is served first.
    NewestTicketFirst,
    /// L6: a task that is polled by another executor than before is woken in the old one.
    TicketKeepsFirstWaker,
    /// L6: a task that does not want to wait any longer stays in line, and gets its turn.
    TicketStaysInLine,
    /// L6: a turn that nobody takes up is not passed on.
    TicketTurnIsLost,
    /// L7: who frees a page lets those come who are on their way to it.
    DeleteIsMereIntent,
    /// L7: two batches have the same page.
    BatchesShareAPage,
    /// L7: two postings of the same page's fence at a time.
    PostingsShareAPage,
    /// L7: sets 2 and 4 are one.
    OneTicketForTwoSets,
    /// Pool: a page that was read without a latch is believed as it is.
    NoValidation,
    /// Pool: a page that somebody has pinned is evicted all the same.
    PinNotCounted,
    /// Pool: a page is evicted without its latch, so its version does not move.
    EvictedWithoutLatch,
    /// Pool: an image for the disk is copied without the page's latch.
    CopiedWithoutLatch,
    /// Pool: a page that somebody has pinned is freed all the same.
    FreedWhilePinned,
    /// Pool: those who are to be woken by a load are taken note of before it counts as ended.
    LoadWakesTooSoon,
    /// Trees: the leaves of a batch are not latched, but for the first.
    SecondLeafNotLatched,
    /// Trees: a batch that holds a leaf waits for the latch of another to see where that lies.
    BatchWaitsToLook,
    /// Trees: who has followed a link does not look whether the key is there.
    FenceNotChecked,
    /// Trees: a leaf that was found for a batch is not looked at again under its latch.
    LeafNotCheckedAgain,
    /// Trees: a split is posted with the fence that the page had before it was latched.
    PostedWithoutFence,
    /// Engine: a commit is acknowledged while its group is on its way to the disk.
    AcknowledgedTooSoon,
    /// Engine: a checkpoint does not wait for those who are still changing pages in its epoch.
    CheckpointDoesNotWait,
    /// Pool: who pins a page does not look again whether it is still in its frame.
    PinBelievesFirstLook,
    /// Pool: a page whose image is on its way to disk counts as clean.
    VictimMayBeOnItsWay,
    /// Pool: a frame is filled without a fence after it was taken from the empty ones.
    EmptyFrameWithoutFence,
    /// Pool: of all who wait for a load, the first is woken.
    LoadWakesOne,
    /// Pool: a load is forgotten before its page has come.
    LoadForgottenTooEarly,
    /// Pool: a page counts as clean only when the latch has been let go of after the copy.
    CleanedAfterLatch,
    /// Log: a group that was wished for while another was on its way is not sent off after it.
    NextGroupForgotten,
    /// Log: who waits for the group on its way is noted with those who wait for the filling one.
    WaitsForWrongGroup,
    /// Log: a record is appended before its applier is counted.
    ApplierCountedLate,
    /// Log: whether an epoch is current is looked at before the applier is counted.
    ApplierLooksFirst,
    /// Log: the last applier of a closed epoch tells nobody.
    LastApplierIsSilent,
    /// Engine: an attempt looks whether the door is closed before it counts itself in.
    DoorLooksFirst,
    /// Engine: who waits for the end looks for tasks before it looks for attempts.
    DoorTasksFirst,
    /// Engine: the last one out does not tell who waits.
    LastOneOutIsSilent,
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

/// Whether this thread has armed `bug`; [`planted_bug!`](crate::planted_bug) asks.
pub fn armed(bug: Bug) -> bool {
    ARMED.get() == Some(bug)
}
