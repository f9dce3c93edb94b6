//! Drawing epochs and sequences: the log as the sequencer.
//!
//! The counts of appliers and the epoch follow one rule. An applier first counts itself for an
//! epoch and only then finds that epoch current (for [`Log::try_append`] the mutex makes both one
//! step); whoever closes an epoch first makes another one current and only then looks at the count.
//! All four accesses are sequentially consistent, so one of the two sees the other. The same holds
//! at the end: an applier first takes itself off the count and then looks whether its epoch is
//! closed and somebody may wait for the count.

use std::sync::atomic::Ordering;

use treering_latch::planted_bug;
use treering_pagefile::FileError;

use super::Log;
use super::format::{RECORD_HEADER, padded, push_record};

/// Why a record was not appended. Nothing has happened then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Another epoch is current by now: look at the pages again.
    #[error("the epoch has changed")]
    EpochChanged,
    /// The filling buffer or the log is full: [`Log::wait_room`], then again.
    #[error("the log has no room at the moment")]
    NoRoom,
    /// The body is longer than [`Log::max_body`].
    #[error("a record of {len} bytes does not fit into the log's buffer, which takes {max}")]
    TooLarge {
        /// Bytes of the body.
        len: usize,
        /// Bytes that are possible.
        max: usize,
    },
    /// The engine is poisoned: the database has to be reopened.
    #[error(transparent)]
    Poisoned(FileError),
}

/// What a flip closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The epoch that was current and is not any more.
    pub closed_epoch: u64,
    /// The last record of that epoch or an earlier one: the cut.
    pub last_sequence: u64,
}

/// A change that is being applied to pages in its epoch. Dropping it says that all pages are
/// changed, and counts as the end of the change for [`Log::quiesced`]. It is meant to live within
/// one poll.
#[must_use = "the pages are changed while this is alive"]
pub struct Applying<'a> {
    log: &'a Log,
    epoch: u64,
    sequence: u64,
}

impl Applying<'_> {
    /// The epoch of the change.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The sequence of the record; 0, which no record has, for a change of structure only.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Drop for Applying<'_> {
    fn drop(&mut self) {
        let before = self.log.appliers_of(self.epoch).fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "every applier was counted");
        let closed = self.log.epoch() != self.epoch && !planted_bug!(LastApplierIsSilent);
        if before == 1 && closed {
            self.log.quiet.notify(usize::MAX);
        }
    }
}

impl std::fmt::Debug for Applying<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Applying(epoch {}, sequence {})", self.epoch, self.sequence)
    }
}

impl Log {
    /// Draws the next sequence in `epoch` and copies the record's body to the filling group. The
    /// caller holds its latches, and changes its pages before it drops what it gets.
    ///
    /// Synchronous: one short mutex, one copy, no allocation, no I/O.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing has happened then.
    pub fn try_append(&self, epoch: u64, body: &[u8]) -> Result<Applying<'_>, AppendError> {
        if body.len() > self.max_body() {
            let max = self.max_body();
            return Err(AppendError::TooLarge { len: body.len(), max });
        }
        self.health.check().map_err(AppendError::Poisoned)?;

        let mut state = self.lock();
        if let Some(error) = &state.poisoned {
            return Err(AppendError::Poisoned(error.clone()));
        }
        if self.epoch() != epoch {
            return Err(AppendError::EpochChanged);
        }
        let len = state.filling.len() + RECORD_HEADER + body.len();
        if len > self.options.buffer_size {
            return Err(AppendError::NoRoom);
        }
        if !state.segments.fits(padded(len)) {
            drop(state);
            self.work.notify(usize::MAX);
            self.pressure.notify(usize::MAX);
            return Err(AppendError::NoRoom);
        }
        let sequence = self.last_sequence() + 1;
        self.last_sequence.store(sequence, Ordering::Release);
        push_record(&mut state.filling, body);
        if state.count == 0 {
            state.first_sequence = sequence;
        }
        state.count += 1;
        if planted_bug!(ApplierCountedLate) {
            drop(state);
            self.appliers_of(epoch).fetch_add(1, Ordering::SeqCst);
            return Ok(Applying { log: self, epoch, sequence });
        }
        self.appliers_of(epoch).fetch_add(1, Ordering::SeqCst);
        drop(state);
        Ok(Applying { log: self, epoch, sequence })
    }

    /// Enters `epoch` for a change of structure, which has no record and no sequence. `None` if
    /// another epoch is current by now.
    pub fn try_enter(&self, epoch: u64) -> Option<Applying<'_>> {
        if planted_bug!(ApplierLooksFirst) && self.epoch() != epoch {
            return None;
        }
        self.appliers_of(epoch).fetch_add(1, Ordering::SeqCst);
        let applying = Applying { log: self, epoch, sequence: 0 };
        (planted_bug!(ApplierLooksFirst) || self.epoch() == epoch).then_some(applying)
    }

    /// Closes the current epoch and begins the next one, between two records.
    ///
    /// Before the next flip, wait for [`Log::quiesced`] of the epoch that this one closed: the
    /// appliers of the even and of the odd epochs are counted together.
    pub fn flip(&self) -> Flip {
        let state = self.lock();
        let closed_epoch = self.epoch();
        self.epoch.store(closed_epoch + 1, Ordering::SeqCst);
        let flip = Flip { closed_epoch, last_sequence: self.last_sequence() };
        drop(state);
        flip
    }

    /// Resolves when nobody applies a change in the closed epoch `epoch` any more. Dropping it
    /// changes nothing.
    pub async fn quiesced(&self, epoch: u64) {
        loop {
            let quiet = self.quiet.listen();
            if self.appliers_of(epoch).load(Ordering::SeqCst) == 0 {
                return;
            }
            quiet.await;
        }
    }

    fn appliers_of(&self, epoch: u64) -> &treering_latch::sync::atomic::AtomicU64 {
        &self.appliers[(epoch & 1) as usize]
    }
}
