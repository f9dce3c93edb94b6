//! Counting and timing of what users do, for a database of which that was asked.
//!
//! Unless it was, a [`Watch`] is a null pointer, and all that a lookup does for it is to look at
//! that. Only with the feature `metrics` is there any code that reads a clock.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
#[cfg(feature = "metrics")]
use std::time::Instant;

use treering_pagefile::IoObserver;
use treering_txn::{EngineObserver, Lookups};

#[cfg(feature = "metrics")]
use crate::metrics::Metrics;
use crate::recovery::{Observers, OnRecovery};
use crate::statistics::{Publisher, StatisticsFile};

/// What is watched of a database, if anything is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch(Option<Arc<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    lookups: Counters,
    #[cfg(feature = "metrics")]
    metrics: Option<Arc<Metrics>>,
}

/// When something began, if it is timed.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    #[cfg(feature = "metrics")]
    began: Option<Instant>,
}

impl Watch {
    /// How many lookups there were, if they are counted.
    pub(crate) fn lookups(&self) -> Option<Lookups> {
        self.0.as_deref().map(|watched| watched.lookups.read())
    }

    /// A lookup of one key begins.
    #[inline]
    pub(crate) fn get_begins(&self) -> Timer {
        match &self.0 {
            None => Timer::default(),
            Some(watched) => watched.get_begins(),
        }
    }

    /// It has to wait for the disk.
    pub(crate) fn get_waits(&self) {
        if let Some(watched) = &self.0 {
            watched.lookups.here().waited.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It has ended.
    #[inline]
    pub(crate) fn get_ends(&self, timer: &Timer) {
        #[cfg(feature = "metrics")]
        if let (Some(metrics), Some(began)) = (self.metrics(), timer.began) {
            metrics.get(began.elapsed());
        }
        let _ = timer;
    }

    /// A commit begins.
    pub(crate) fn commit_begins(&self) -> Timer {
        match &self.0 {
            None => Timer::default(),
            Some(watched) => watched.timer(),
        }
    }

    /// It has been acknowledged, or has failed.
    pub(crate) fn commit_ends(&self, timer: &Timer) {
        #[cfg(feature = "metrics")]
        if let (Some(metrics), Some(began)) = (self.metrics(), timer.began) {
            metrics.commit(began.elapsed());
        }
        let _ = timer;
    }

    #[cfg(feature = "metrics")]
    fn metrics(&self) -> Option<&Metrics> {
        self.0.as_deref()?.metrics.as_deref()
    }
}

/// All who watch one database, as its options ask.
pub(crate) struct Watchers {
    pub(crate) watch: Watch,
    #[cfg(feature = "metrics")]
    metrics: Option<Arc<Metrics>>,
}

impl Watchers {
    pub(crate) fn new(counted: bool, #[cfg(feature = "metrics")] metrics: Option<Metrics>) -> Self {
        #[cfg(feature = "metrics")]
        let metrics = metrics.map(Arc::new);
        #[cfg(feature = "metrics")]
        let (counted, watched) = (
            counted || metrics.is_some(),
            Watched { metrics: metrics.clone(), ..Watched::default() },
        );
        #[cfg(not(feature = "metrics"))]
        let watched = Watched::default();
        Self {
            watch: Watch(counted.then(|| Arc::new(watched))),
            #[cfg(feature = "metrics")]
            metrics,
        }
    }

    /// Who is told of requests to the disk.
    pub(crate) fn io_observer(&self) -> Option<Arc<dyn IoObserver>> {
        #[cfg(feature = "metrics")]
        return self.metrics.clone().map(|metrics| metrics as _);
        #[cfg(not(feature = "metrics"))]
        None
    }

    /// Who is told of recoveries and checkpoints.
    pub(crate) fn observer(
        &self,
        on_recovery: Option<OnRecovery>,
    ) -> Option<Arc<dyn EngineObserver>> {
        let observers = Observers {
            on_recovery,
            #[cfg(feature = "metrics")]
            metrics: self.metrics.clone(),
        };
        observers.into_observer()
    }

    /// What is published once a second, if anything is.
    pub(crate) fn publisher(&self, file: Option<StatisticsFile>) -> Option<Publisher> {
        let publisher = Publisher {
            watch: self.watch.clone(),
            file,
            #[cfg(feature = "metrics")]
            metrics: self.metrics.clone(),
        };
        publisher.has_something().then_some(publisher)
    }
}

impl Watched {
    fn get_begins(&self) -> Timer {
        self.lookups.here().gets.fetch_add(1, Ordering::Relaxed);
        self.timer()
    }

    fn timer(&self) -> Timer {
        Timer {
            #[cfg(feature = "metrics")]
            began: self.metrics.is_some().then(Instant::now),
        }
    }
}

/// Counters of which each thread has its own, as far as they go: threads that count in one place
/// would wait for each other's cache line.
#[derive(Debug, Default)]
struct Counters {
    stripes: [Stripe; STRIPES],
}

const STRIPES: usize = 16;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    gets: AtomicU64,
    waited: AtomicU64,
}

impl Counters {
    fn here(&self) -> &Stripe {
        &self.stripes[stripe()]
    }

    fn read(&self) -> Lookups {
        let sum = |of: fn(&Stripe) -> &AtomicU64| {
            self.stripes.iter().map(|stripe| of(stripe).load(Ordering::Relaxed)).sum()
        };
        // In this order: who waits has been counted as a lookup before.
        let waited = sum(|stripe| &stripe.waited);
        Lookups::new(sum(|stripe| &stripe.gets), waited)
    }
}

/// The number of this thread's stripe.
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        mine.get()
    })
}
