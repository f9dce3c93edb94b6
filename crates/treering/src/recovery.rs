//! Telling a program how far a recovery is, and whoever else watches the engine.

use std::fmt;
use std::sync::Arc;

use treering_txn::{CheckpointStats, EngineObserver, RecoveryProgress};

/// What [`crate::Options::on_recovery`] was given.
#[derive(Clone)]
pub(crate) struct OnRecovery(pub(crate) Arc<dyn Fn(&RecoveryProgress) + Send + Sync>);

impl fmt::Debug for OnRecovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnRecovery(..)")
    }
}

/// All who watch one engine.
#[derive(Debug)]
pub(crate) struct Observers {
    pub(crate) on_recovery: Option<OnRecovery>,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: Option<Arc<crate::metrics::Metrics>>,
}

impl Observers {
    /// None if nobody watches.
    pub(crate) fn into_observer(self) -> Option<Arc<dyn EngineObserver>> {
        let somebody = self.on_recovery.is_some();
        #[cfg(feature = "metrics")]
        let somebody = somebody || self.metrics.is_some();
        somebody.then(|| Arc::new(self) as _)
    }
}

impl EngineObserver for Observers {
    fn recovering(&self, progress: &RecoveryProgress) {
        if let Some(OnRecovery(told)) = &self.on_recovery {
            told(progress);
        }
    }

    fn checkpoint(&self, checkpoint: &CheckpointStats) {
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.metrics {
            metrics.checkpoint(checkpoint);
        }
        let _ = checkpoint;
    }
}
