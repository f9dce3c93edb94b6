//! A simulated machine that runs something to its end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use treering_pagefile::Disk;
use treering_pagefile::sim::{Patience, Sim, SimImage};

/// A machine with this disk, which calls what takes two virtual minutes, or very many steps without an
/// I/O, a livelock.
pub(crate) fn machine(image: &SimImage) -> Sim {
    machine_by_seed(image, 1)
}

/// The same, with the chance that this seed gives.
pub(crate) fn machine_by_seed(image: &SimImage, seed: u64) -> Sim {
    let mut sim = Sim::from_image(image, seed);
    sim.set_patience(Patience { polls: 200_000, jumps: 10_000, time: Duration::from_secs(120) });
    sim
}

/// The disk as the engine takes it.
pub(crate) fn disk(sim: &Sim) -> Arc<dyn Disk> {
    sim.disk()
}

/// Runs `future` to its end.
///
/// # Panics
/// If it has none.
pub(crate) fn run<T>(sim: &Sim, future: impl Future<Output = T>) -> T {
    match sim.run(future) {
        Ok(output) => output,
        Err(stalled) => panic!("it never ends: {stalled}"),
    }
}
