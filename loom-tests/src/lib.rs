//! What the model checks in `tests/` share. `README.md` says how to run them and what they cover.
//!
//! Without `--cfg treering_loom` this crate and its tests are empty: an ordinary
//! `cargo test --workspace` neither builds loom nor runs a model.
#![cfg(treering_loom)]

pub mod bench;
pub mod desk;
pub mod journal;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use loom::model::Builder;

/// Preemptions that a model explores if its header does not say otherwise. Four, because a ticket
/// latch that cannot withdraw a waiter deadlocks at four, and looks sound at two and three.
pub const PREEMPTIONS: usize = 4;

/// Runs `model` through every interleaving, and every value that a relaxed load may see, with at
/// most `preemptions` switches away from a thread that could have gone on. (Switches at a park, a
/// blocked mutex or the end of a thread are free.) `LOOM_MAX_PREEMPTIONS` overrides the bound.
///
/// Panics with what the model panicked with, or with loom's `deadlock`.
pub fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    // What a model sets up counts as well.
    builder.max_branches = 100_000;
    builder.preemption_bound.get_or_insert(preemptions);
    let executions = Executions::default();
    let counted = Arc::clone(&executions.0);
    builder.check(move || {
        counted.fetch_add(1, SeqCst);
        model();
    });
}

/// Says how many executions there were, also if the last one failed.
#[derive(Default)]
struct Executions(Arc<AtomicUsize>);

impl Drop for Executions {
    fn drop(&mut self) {
        println!("{} executions", self.0.load(SeqCst));
    }
}

/// [`explore`] for a model that demands something only of executions of a certain kind (such as:
/// these two were seen waiting). The model tells `Reached` when it is in one; if none was, the check
/// would be an empty one, and this panics.
pub fn explore_reaching(preemptions: usize, model: impl Fn(&Reached) + Send + Sync + 'static) {
    let reached = Reached::default();
    let inner = reached.clone();
    explore(preemptions, move || model(&inner));
    assert!(reached.0.load(SeqCst), "the model never came to what it is about: raise the bound");
}

/// Whether any execution of a model came to what the model is about.
#[derive(Clone, Debug, Default)]
pub struct Reached(Arc<AtomicBool>);

impl Reached {
    /// This one did.
    pub fn now(&self) {
        self.0.store(true, SeqCst);
    }
}
