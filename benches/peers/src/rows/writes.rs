//! Batches, buffered writes and removals.

use std::sync::Arc;
use std::time::Instant;

use crate::data::{Data, Numbers};
use crate::engine::{Commits, Engine, Result};
use crate::measure::{Pace, Turns, Unit, run as timed, written};
use crate::rows::commits::{Put, check, fresh};
use crate::rows::{Bench, close};

/// Pairs of a durable batch.
const BATCH: u64 = 1000;

/// Durable batches of 1,000 new pairs, by one writer and by four.
pub(super) fn batches<E: Engine>(bench: &mut Bench<E>) -> Result<()> {
    let engine = bench.loaded(Commits::Durable, true)?;
    let data = bench.task.data;
    for writers in [1, 4] {
        let first = fresh(writers as u64);
        let before = written()?;
        let pace = Pace { workers: writers, time: bench.time(), stride: 1, latencies: true };
        let ran = timed(&engine, pace, |worker| {
            let first = first + ((worker as u64) << 32);
            Ok(PutMany { engine: Arc::clone(&engine), data, first })
        })?;
        let pairs = ran.turns * BATCH;
        let writer = if writers == 1 { "1 writer" } else { "4 writers" };
        let row = format!("durable batches of 1,000 pairs, {writer}");
        bench.row(&row, Unit::PerSecond, pairs as f64 / ran.took.as_secs_f64(), writers);
        if writers == 1 {
            engine.settle()?;
            let per_byte = (written()? - before) as f64 / data.bytes(pairs) as f64;
            bench.row(format!("written per byte, {row}"), Unit::PerByte, per_byte, 0);
        }
    }
    bench.memory("batches")?;
    close(engine)
}

struct PutMany<E> {
    engine: Arc<E>,
    data: Data,
    first: u64,
}

impl<E: Engine> Turns for PutMany<E> {
    async fn turn(&mut self, turn: u64) -> Result<u64> {
        let first = self.first + turn * BATCH;
        self.engine.put_all(self.data, first..first + BATCH).await?;
        Ok(0)
    }

    fn expected(&self, _turn: u64) -> Option<u64> {
        None
    }
}

/// Buffered commits of one new pair each, by 256 tasks. Engines whose calls block are tried with a
/// thread a core, too, and the better figure counts.
pub(super) fn buffered<E: Engine>(bench: &mut Bench<E>) -> Result<()> {
    let engine = bench.loaded(Commits::Buffered, true)?;
    let data = bench.task.data;
    let mut best: Option<(f64, usize)> = None;
    let fewer = (E::WORKERS == "threads").then_some(E::BUSY_WORKERS);
    for workers in [256].into_iter().chain(fewer) {
        let first = fresh(workers as u64);
        let pace = Pace { workers, time: bench.time(), stride: 1, latencies: false };
        let ran = timed(&engine, pace, |worker| Ok(Put::new(&engine, data, first, worker)))?;
        check(&engine, data, first, &ran)?;
        if best.is_none_or(|(so_far, _)| ran.per_second() > so_far) {
            best = Some((ran.per_second(), workers));
        }
        engine.settle()?;
    }
    if let Some((per_second, workers)) = best {
        bench.row("buffered commits, 256 tasks", Unit::PerSecond, per_second, workers);
    }
    bench.memory("buffered commits")?;
    close(engine)
}

/// Removes half of the pairs, in random order; durable at the end.
pub(super) fn removals<E: Engine>(bench: &mut Bench<E>) -> Result<()> {
    let engine = bench.loaded(Commits::Buffered, true)?;
    let data = bench.task.data;
    let numbers = Numbers::Range(0..data.pairs / 2);
    let count = numbers.len();
    let before = written()?;
    let began = Instant::now();
    engine.unload(data, numbers)?;
    let took = began.elapsed();
    bench.row("removals", Unit::PerSecond, count as f64 / took.as_secs_f64(), 0);
    engine.settle()?;
    let per_byte = (written()? - before) as f64 / data.bytes(count) as f64;
    bench.row("written per byte, removals", Unit::PerByte, per_byte, 0);
    bench.expect_pairs(&engine, data.pairs - count)?;
    close(engine)
}
