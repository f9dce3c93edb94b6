//! Data ten times larger than the memory.
//!
//! One process loads the database with all the memory that it wants. Another one is put under the
//! limit, and reads and updates by 64 clients, which wait for the disk side by side. Updates leave other
//! values than those of the load, so reads are not checked beyond that they find their keys.

use std::sync::Arc;

use crate::engine::{Commits, Engine, Result, Setup};
use crate::limit::forget;
use crate::measure::{Pace, Unit, run as timed};
use crate::rows::reads::Get;
use crate::rows::ycsb::{Requests, Workload, measure};
use crate::rows::{Bench, close};

const CLIENTS: usize = 64;

/// Loads the database, unless an earlier run has.
pub(super) fn prepare<E: Engine>(bench: &mut Bench<E>) -> Result<()> {
    if !bench.is_loaded()? {
        bench.load_untimed()?;
    }
    forget(&bench.task.folder)
}

/// The rows. Updates keep the pairs and their sizes, so that the next run finds the same.
pub(super) fn run<E: Engine>(bench: &mut Bench<E>) -> Result<()> {
    if let Some(limit) = &bench.task.limit {
        limit.join()?;
    }
    let name = match bench.task.limit {
        Some(_) => "data 10 x memory",
        None => "data 10 x cache, page cache not limited",
    };
    let setup = Setup { larger_than_memory: true, ..bench.setup(Commits::Buffered) };
    let engine = Arc::new(E::open(&setup)?);
    let (data, time) = (bench.task.data, bench.time());
    // The first round warms up.
    for (workers, row) in
        [(CLIENTS, None), (CLIENTS, Some("random reads")), (1, Some("random reads by 1 client"))]
    {
        let pace = Pace { workers, time, stride: 1, latencies: false };
        let ran = timed(&engine, pace, |worker| {
            let worker = worker as u64 + row.map_or(0, |row| row.len() as u64) * 1000;
            Ok(Get { reader: engine.reader()?, data, worker, absent: 0, as_loaded: false })
        })?;
        if let Some(row) = row {
            bench.row(format!("{name}: {row}"), Unit::PerSecond, ran.per_second(), workers);
        }
    }
    let requests = Arc::new(Requests::new(data.pairs));
    for workload in [Workload::A, Workload::B, Workload::C, Workload::F] {
        let per_second = measure(bench, &engine, &requests, workload, CLIENTS)?;
        let row = format!("{name}: YCSB {workload:?}");
        bench.row(row, Unit::PerSecond, per_second, CLIENTS);
    }
    bench.memory("data 10 x memory")?;
    close(engine)
}
