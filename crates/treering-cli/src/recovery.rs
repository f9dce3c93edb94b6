//! A bar on standard error while a database recovers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use treering::RecoveryProgress;

use crate::output::bytes_bar;

/// A recovery that ends sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(250);

/// What tells of one recovery.
#[derive(Default)]
pub(crate) struct RecoveryBar(Mutex<Option<ProgressBar>>);

impl RecoveryBar {
    /// The recovery has come so far.
    pub(crate) fn at(&self, progress: &RecoveryProgress) {
        let mut bar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.done {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        } else if progress.elapsed >= PATIENCE {
            // The total is what there is at most, so it ends before the bar is full.
            let total = progress.bytes_at_most;
            let bar = bar.get_or_insert_with(|| bytes_bar("recovering", Some(total)));
            bar.set_position(progress.bytes);
        }
    }

    #[cfg(test)]
    fn shown(&self) -> Option<(u64, Option<u64>)> {
        let bar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bar.as_ref().map(|bar| (bar.position(), bar.length()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(bytes: u64, millis: u64, done: bool) -> RecoveryProgress {
        let mut progress = RecoveryProgress::default();
        (progress.bytes, progress.bytes_at_most, progress.done) = (bytes, 1000, done);
        progress.elapsed = Duration::from_millis(millis);
        progress
    }

    #[test]
    fn it_is_shown_while_a_recovery_takes_long() {
        let bar = RecoveryBar::default();
        for quick in [progress(0, 0, false), progress(500, 200, false), progress(900, 200, true)] {
            bar.at(&quick);
            assert_eq!(bar.shown(), None);
        }
        bar.at(&progress(300, 300, false));
        assert_eq!(bar.shown(), Some((300, Some(1000))));
        bar.at(&progress(600, 400, false));
        assert_eq!(bar.shown(), Some((600, Some(1000))));
        bar.at(&progress(800, 500, true));
        assert_eq!(bar.shown(), None);
    }
}
