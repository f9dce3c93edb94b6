//! The workloads A to F of YCSB (Cooper et al., 2010), in its order A, B, C, F, D, E on one database.
//!
//! Requests follow a Zipfian distribution with the constant 0.99, as in YCSB, scattered over the keys;
//! writes are buffered, as YCSB's are by default. F reads and then writes, which YCSB does not do in one
//! step. In D, a worker asks for what itself has added lately, so that no worker has to know how far
//! the others are. Every read has to find its key, and a value of the right size.

use std::sync::Arc;

use crate::data::{Data, mix};
use crate::engine::{Commits, Engine, Reader, Result};
use crate::measure::{Pace, Turns, Unit, run as timed};
use crate::rows::commits::fresh;
use crate::rows::{Bench, close};

/// One of the workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Half reads, half updates.
    A,
    /// 95% reads, 5% updates.
    B,
    /// Reads.
    C,
    /// 95% reads of the latest, 5% inserts.
    D,
    /// 95% ranges of up to 100, 5% inserts.
    E,
    /// Half reads, half reads followed by a write of the same.
    F,
}

use Workload::{A, B, C, D, E, F};

pub(super) fn run<En: Engine>(bench: &mut Bench<En>) -> Result<()> {
    let engine = bench.loaded(Commits::Buffered, true)?;
    let requests = Arc::new(Requests::new(bench.task.data.pairs));
    for workload in [A, B, C, F, D, E] {
        let per_second = measure(bench, &engine, &requests, workload, En::BUSY_WORKERS)?;
        bench.row(format!("YCSB {workload:?}"), Unit::PerSecond, per_second, En::BUSY_WORKERS);
    }
    bench.memory("YCSB")?;
    close(engine)
}

/// Runs one workload.
pub(super) fn measure<En: Engine>(
    bench: &Bench<En>,
    engine: &Arc<En>,
    requests: &Arc<Requests>,
    workload: Workload,
    workers: usize,
) -> Result<f64> {
    let data = bench.task.data;
    let pace = Pace { workers, time: bench.time(), stride: 4, latencies: false };
    let ran = timed(engine, pace, |worker| {
        Ok(Client {
            engine: Arc::clone(engine),
            data,
            workload,
            requests: Arc::clone(requests),
            // Workers begin at different places of the same stream.
            offset: worker * requests.items.len() / workers,
            first: fresh(4096 + workload as u64) + ((worker as u64) << 32),
            added: 0,
            value: Vec::new(),
        })
    })?;
    Ok(ran.per_second())
}

/// A stream of items that was drawn beforehand: drawing one takes as long as a read of it.
pub(super) struct Requests {
    items: Vec<u32>,
}

impl Requests {
    const COUNT: u64 = 1 << 20;
    /// YCSB's constant.
    const SKEW: f64 = 0.99;

    /// Ranks 0 to `pairs - 1`, the first the most wanted. Gray et al., Quickly generating
    /// billion-record synthetic databases, 1994.
    pub(super) fn new(pairs: u64) -> Self {
        let zeta = |count: u64| (1..=count).map(|i| (i as f64).powf(-Self::SKEW)).sum::<f64>();
        let (all, two) = (zeta(pairs), zeta(2));
        let alpha = 1.0 / (1.0 - Self::SKEW);
        let eta = (1.0 - (2.0 / pairs as f64).powf(1.0 - Self::SKEW)) / (1.0 - two / all);
        let items = (0..Self::COUNT).map(|at| {
            let uniform = mix(at.wrapping_mul(0x9e37_79b9_7f4a_7c15)) as f64 / 2f64.powi(64);
            let rank = match uniform * all {
                scaled if scaled < 1.0 => 0,
                scaled if scaled < two => 1,
                _ => (pairs as f64 * (eta * uniform - eta + 1.0).powf(alpha)) as u64,
            };
            rank.min(pairs - 1) as u32
        });
        Self { items: items.collect() }
    }

    fn rank(&self, at: usize) -> u64 {
        self.items[at % self.items.len()].into()
    }
}

struct Client<En> {
    engine: Arc<En>,
    data: Data,
    workload: Workload,
    requests: Arc<Requests>,
    offset: usize,
    /// The number of the first pair that this worker adds.
    first: u64,
    added: u64,
    value: Vec<u8>,
}

impl<En: Engine> Client<En> {
    async fn read(&self, number: u64) -> Result<()> {
        // A session of its own: what is read is what is there now.
        let found = self.engine.reader()?.get(self.data.key(number).as_ref()).await?;
        found.map(drop).ok_or_else(|| format!("pair {number} is not there").into())
    }

    async fn write(&mut self, number: u64, version: u64) -> Result<()> {
        let value = self.data.value(number ^ version << 32, &mut self.value);
        self.engine.put(self.data.key(number).as_ref(), value).await
    }

    async fn add(&mut self) -> Result<()> {
        let number = self.first + self.added;
        self.write(number, 0).await?;
        self.added += 1;
        Ok(())
    }
}

impl<En: Engine> Turns for Client<En> {
    async fn turn(&mut self, turn: u64) -> Result<u64> {
        let rank = self.requests.rank(self.offset + turn as usize);
        let number = mix(rank) % self.data.pairs;
        let dice = mix(turn ^ self.first) % 100;
        match self.workload {
            A if dice < 50 => self.write(number, turn + 1).await?,
            B if dice < 5 => self.write(number, turn + 1).await?,
            A | B | C => self.read(number).await?,
            F => {
                self.read(number).await?;
                if dice < 50 {
                    self.write(number, turn + 1).await?;
                }
            }
            D | E if dice < 5 => self.add().await?,
            D if rank < self.added => self.read(self.first + self.added - 1 - rank).await?,
            D => self.read(self.data.pairs - 1 - (rank - self.added)).await?,
            E => {
                let count = 1 + mix(turn) % 100;
                let mut reader = self.engine.reader()?;
                if reader.range(self.data.key(number).as_ref(), count).await?.0 == 0 {
                    return Err(format!("the range from pair {number} is empty").into());
                }
            }
        }
        Ok(0)
    }

    fn expected(&self, _turn: u64) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_zipfian() {
        let requests = Requests::new(1000);
        let share = |ranks: std::ops::Range<u32>| {
            let within = requests.items.iter().filter(|item| ranks.contains(item)).count();
            within as f64 / requests.items.len() as f64
        };
        // The harmonic number of order 0.99 of 1000 is 7.73.
        assert!((share(0..1) - 1.0 / 7.73).abs() < 0.005, "{}", share(0..1));
        assert!((share(1..2) - 0.5035 / 7.73).abs() < 0.005, "{}", share(1..2));
        assert!(share(500..1000) > 0.05, "{}", share(500..1000));
    }
}
