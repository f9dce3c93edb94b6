//! The same seed gives the same I/Os with the same bytes in the same order: nothing in the engine
//! depends on addresses, hashes seeded by chance, or the wall clock. Without this no failure that a
//! simulation finds could be looked at twice.

#![allow(missing_docs, clippy::unwrap_used)]

use crate::engine_support::journal::Journal;
use crate::engine_support::machine;
use crate::engine_support::workload::Load;

fn trace(load: Load) -> (u64, u64) {
    let (sim, journal) = (machine(load.seed), Journal::default());
    sim.run(load.run(&sim, &journal, |_| false)).unwrap().unwrap();
    sim.settle().unwrap();
    (sim.disk().io_count(), sim.disk().trace_hash())
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for (seed, frames) in [(1, 16), (2, 24), (3, 64), (4, 16)] {
        let load = Load {
            frames,
            clients: 4,
            commits: 150,
            batch_max: 2,
            checkpoint_every: 30,
            bulky: seed % 2 == 0,
            ..Load::new(seed)
        };
        let first = trace(load);
        assert_eq!(trace(load), first, "{load:?}");
        assert_ne!(trace(Load { seed: seed + 100, ..load }).1, first.1, "{load:?}");
    }
}
