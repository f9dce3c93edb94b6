//! Reads of ranges, everything cached: by one worker, so the figures are those of one thread.

use crate::data::{Data, mix};
use crate::engine::{Commits, Engine, Reader, Result};
use crate::measure::{Pace, Turns, Unit, run as timed};
use crate::rows::{Bench, close};

pub(super) fn run<E: Engine>(bench: &mut Bench<E>) -> Result<()> {
    let engine = bench.loaded(Commits::Buffered, false)?;
    let data = bench.task.data;
    for count in [10, 1000] {
        let pace = Pace { workers: 1, time: bench.time(), stride: 1, latencies: false };
        let ran = timed(&engine, pace, |_| {
            Ok(Ranges { reader: engine.reader()?, data, count, pairs: 0 })
        })?;
        // All but those that begin near the last key have all their pairs.
        let pairs = (ran.turns * count) as f64;
        let row = if count == 10 { "range reads of 10" } else { "range reads of 1,000" };
        bench.row(format!("{row}, pairs"), Unit::PerSecond, pairs / ran.took.as_secs_f64(), 1);
    }
    let pace = Pace { workers: 1, time: bench.time(), stride: 1, latencies: false };
    let sum = (0..data.pairs).fold(0u64, |sum, number| sum.wrapping_add(data.checksum(number)));
    let ran = timed(&engine, pace, |_| Ok(Scans { reader: engine.reader()?, data, sum }))?;
    let pairs = (ran.turns * data.pairs) as f64;
    bench.row("full scan, pairs", Unit::PerSecond, pairs / ran.took.as_secs_f64(), 1);
    close(engine)
}

struct Ranges<R> {
    reader: R,
    data: Data,
    count: u64,
    pairs: u64,
}

impl<R: Reader> Turns for Ranges<R> {
    async fn turn(&mut self, turn: u64) -> Result<u64> {
        let from = self.data.key(mix(turn) % self.data.pairs);
        let (pairs, _) = self.reader.range(from.as_ref(), self.count).await?;
        self.pairs += pairs;
        let all = (turn + 1) * self.count;
        // One range in a thousand may begin that near to the end, but not one in ten.
        if turn > 1000 && self.pairs < all - all / 10 {
            return Err(format!("{} pairs were found, not {all}", self.pairs).into());
        }
        Ok(0)
    }

    fn expected(&self, _turn: u64) -> Option<u64> {
        None
    }
}

struct Scans<R> {
    reader: R,
    data: Data,
    /// The checksums of all values.
    sum: u64,
}

impl<R: Reader> Turns for Scans<R> {
    async fn turn(&mut self, _turn: u64) -> Result<u64> {
        let (pairs, sum) = self.reader.range(&[], u64::MAX).await?;
        match pairs == self.data.pairs {
            true => Ok(sum),
            false => Err(format!("a scan found {pairs} pairs, not {}", self.data.pairs).into()),
        }
    }

    fn expected(&self, _turn: u64) -> Option<u64> {
        Some(self.sum)
    }
}
