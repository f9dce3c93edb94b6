//! Loads, and what is on disk after them.

use std::sync::Arc;
use std::time::Instant;

use crate::data::Numbers;
use crate::engine::{Commits, Engine, Result};
use crate::measure::{Unit, disk_bytes, written};
use crate::rows::{Bench, close, owned};

/// Bulk load with keys in random order; bytes written; size; memory.
pub(super) fn bulk<E: Engine>(bench: &mut Bench<E>) -> Result<()> {
    let numbers = Numbers::Range(0..bench.task.data.pairs);
    load(bench, "bulk load", numbers)?;
    bench.memory("bulk load")?;
    // What follows reads it.
    let size = disk_bytes(&bench.task.folder)? as f64 / (1 << 20) as f64;
    bench.row("size after load", Unit::MiB, size, 0);
    bench.mark_loaded()
}

/// Bulk load with ascending keys.
pub(super) fn sorted<E: Engine>(bench: &mut Bench<E>) -> Result<()> {
    let numbers = Numbers::Sorted(Arc::new(bench.task.data.sorted()));
    load(bench, "sorted load", numbers)
}

fn load<E: Engine>(bench: &mut Bench<E>, row: &str, numbers: Numbers) -> Result<()> {
    let data = bench.task.data;
    let engine = bench.empty(Commits::Buffered)?;
    let before = written()?;
    let began = Instant::now();
    engine.load(data, numbers)?;
    let took = began.elapsed();
    engine.settle()?;
    bench.warm_up(&engine)?;
    close(engine)?;
    bench.row(row, Unit::PerSecond, data.pairs as f64 / took.as_secs_f64(), 0);
    let per_byte = (written()? - before) as f64 / data.bytes(data.pairs) as f64;
    bench.row(format!("written per byte, {row}"), Unit::PerByte, per_byte, 0);
    Ok(())
}

/// What compaction makes of a load.
pub(super) fn compact<E: Engine>(bench: &mut Bench<E>) -> Result<()> {
    let engine = bench.loaded(Commits::Buffered, true)?;
    let began = Instant::now();
    owned(engine)?.compact()?;
    let took = began.elapsed().as_micros() as f64;
    let size = disk_bytes(&bench.task.folder)? as f64 / (1 << 20) as f64;
    bench.row("size after compact", Unit::MiB, size, 0);
    bench.row("compact, time", Unit::Micros, took, 0);
    let data = bench.task.data.bytes(bench.task.data.pairs) as f64 / (1 << 20) as f64;
    bench.row("data", Unit::MiB, data, 0);
    let engine = Arc::new(E::open(&bench.setup(Commits::Buffered))?);
    bench.warm_up(&engine)?;
    close(engine)
}
