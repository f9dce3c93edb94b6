//! Random reads of single keys, everything cached.

use crate::data::{Data, mix};
use crate::engine::{Commits, Engine, Reader, Result};
use crate::measure::{Pace, Turns, Unit, run as timed};
use crate::rows::{Bench, close};

/// Numbers from here on are those of no pair.
const ABSENT: u64 = 1 << 60;

pub(super) fn run<E: Engine>(bench: &mut Bench<E>) -> Result<()> {
    let engine = bench.loaded(Commits::Buffered, false)?;
    let data = bench.task.data;
    for (absent, what) in [(0, "random reads"), (ABSENT, "random reads of absent keys")] {
        for workers in [1, 2] {
            let pace = Pace { workers, time: bench.time(), stride: 100, latencies: false };
            let ran = timed(&engine, pace, |worker| {
                let reader = engine.reader()?;
                Ok(Get { reader, data, worker: worker as u64, absent, as_loaded: true })
            })?;
            let threads = if workers == 1 { "1 thread" } else { "2 threads" };
            bench.row(format!("{what}, {threads}"), Unit::PerSecond, ran.per_second(), workers);
        }
    }
    bench.memory("reads")?;
    close(engine)
}

pub(super) struct Get<R> {
    pub(super) reader: R,
    pub(super) data: Data,
    pub(super) worker: u64,
    pub(super) absent: u64,
    /// Whether the values are those of the load.
    pub(super) as_loaded: bool,
}

impl<R> Get<R> {
    fn number(&self, turn: u64) -> u64 {
        mix(self.worker << 48 | turn) % self.data.pairs + self.absent
    }
}

impl<R: Reader> Turns for Get<R> {
    async fn turn(&mut self, turn: u64) -> Result<u64> {
        let key = self.data.key(self.number(turn));
        let found = self.reader.get(key.as_ref()).await?;
        if found.is_some() == (self.absent > 0) {
            return Err(format!("a key was found or not: {found:?}").into());
        }
        Ok(found.unwrap_or(0))
    }

    fn expected(&self, turn: u64) -> Option<u64> {
        match self.absent {
            _ if !self.as_loaded => None,
            0 => Some(self.data.checksum(self.number(turn))),
            _ => Some(0),
        }
    }
}
