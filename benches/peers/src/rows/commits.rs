//! Durable commits of one new pair each, by many writers.
//!
//! Engines whose calls block get a thread a writer, also for 1,024 writers: that is what a program does
//! which simply uses them, and those that know group commit need it.

use std::sync::Arc;

use crate::data::Data;
use crate::engine::{Commits, Engine, Reader, Result};
use crate::measure::{Pace, Ran, Turns, Unit, run as timed, written};
use crate::rows::{Bench, close};

const WRITERS: [usize; 5] = [1, 16, 64, 256, 1024];

pub(super) fn run<E: Engine>(bench: &mut Bench<E>) -> Result<()> {
    let engine = bench.loaded(Commits::Durable, true)?;
    let data = bench.task.data;
    for writers in WRITERS {
        let first = fresh(writers as u64);
        let row = match writers {
            1 => "durable commits, 1 writer".to_owned(),
            _ => format!("durable commits, {writers} writers"),
        };
        let before = written()?;
        let pace = Pace { workers: writers, time: bench.time(), stride: 1, latencies: true };
        let ran = timed(&engine, pace, |worker| Ok(Put::new(&engine, data, first, worker)))?;
        bench.rows_of(&row, &ran, writers);
        check(&engine, data, first, &ran)?;
        if writers == 256 {
            engine.settle()?;
            let per_byte = (written()? - before) as f64 / data.bytes(ran.turns) as f64;
            bench.row(format!("written per byte, {row}"), Unit::PerByte, per_byte, 0);
        }
    }
    bench.memory("commits")?;
    close(engine)
}

/// The first number of the pairs that a row adds.
pub(super) fn fresh(row: u64) -> u64 {
    1 << 62 | row << 48
}

pub(super) struct Put<E> {
    engine: Arc<E>,
    data: Data,
    first: u64,
    value: Vec<u8>,
}

impl<E> Put<E> {
    pub(super) fn new(engine: &Arc<E>, data: Data, first: u64, worker: usize) -> Self {
        let first = first + ((worker as u64) << 32);
        Self { engine: Arc::clone(engine), data, first, value: Vec::new() }
    }
}

impl<E: Engine> Turns for Put<E> {
    async fn turn(&mut self, turn: u64) -> Result<u64> {
        let number = self.first + turn;
        let value = self.data.value(number, &mut self.value);
        self.engine.put(self.data.key(number).as_ref(), value).await?;
        Ok(0)
    }

    fn expected(&self, _turn: u64) -> Option<u64> {
        None
    }
}

/// Reads back the last pairs that each worker has put.
pub(super) fn check<E: Engine>(engine: &Arc<E>, data: Data, first: u64, ran: &Ran) -> Result<()> {
    let reader = std::sync::Mutex::new(Some(engine.reader()?));
    engine.run(1, |_| {
        let taken = reader.lock().map(|mut slot| slot.take());
        let mut reader = taken.ok().flatten().expect("there is one worker");
        let by_worker = ran.by_worker.clone();
        async move {
            for (worker, turns) in (0u64..).zip(by_worker) {
                for turn in turns.saturating_sub(10)..turns {
                    let number = first + (worker << 32) + turn;
                    let found = reader.get(data.key(number).as_ref()).await?;
                    if found != Some(data.checksum(number)) {
                        return Err(format!("commit {turn} of writer {worker}: {found:?}").into());
                    }
                }
            }
            Ok(())
        }
    })?;
    Ok(())
}
