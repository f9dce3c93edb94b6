//! A load to crash and fail: some clients that commit side by side, with checkpoints in between.

use std::sync::Arc;

use futures::future::{join, join_all};
use treering_blink::TreeRef;
use treering_pagefile::sim::Sim;
use treering_txn::{Durability, Engine, Error, LogOptions};

use super::journal::Journal;
use super::{Model, Op, Rng, contents, key, large_value, op, open, options, small_log, value};

/// The trees of the load; the last one is made when half of it is done.
pub const NAMES: [&str; 3] = ["users", "orders", "late"];

#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub seed: u64,
    pub frames: usize,
    pub log: LogOptions,
    pub clients: usize,
    /// Commits of each client.
    pub commits: usize,
    /// Operations of a batch, at most.
    pub batch_max: usize,
    /// A checkpoint is asked for, and runs beside the commits, before every so many commits of the
    /// first client; 0 for never.
    pub checkpoint_every: usize,
    /// Whether every commit is durable, or some are less.
    pub all_durable: bool,
    /// Whether values are as long as they may be, for many splits.
    pub bulky: bool,
    /// How many values in a hundred do not fit into a page.
    pub large: usize,
    pub close: bool,
}

impl Load {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            frames: 32,
            log: small_log(4),
            clients: 1,
            commits: 30,
            batch_max: 1,
            checkpoint_every: 0,
            all_durable: false,
            bulky: false,
            large: 0,
            close: true,
        }
    }

    /// One life of the database. Errors other than violated conditions end it, but for those that
    /// `tolerate` accepts.
    pub async fn run(
        &self,
        sim: &Sim,
        journal: &Journal,
        tolerate: fn(&Error) -> bool,
    ) -> Result<(), Error> {
        let mut options = options(self.frames, self.seed ^ 0x5eed);
        options.log = self.log;
        let engine = open(sim, options).await?;
        let sequence = engine.recovery().sequence;
        let found = contents(&engine, &NAMES).await?;
        journal.judge(&found, sequence).unwrap_or_else(|why| panic!("{self:?}: {why}"));
        journal.settle(&found, sequence);
        let result = self.run_on(&engine, journal, tolerate).await;
        if self.close {
            engine.close().await?;
        }
        result
    }

    pub async fn run_on(
        &self,
        engine: &Arc<Engine>,
        journal: &Journal,
        tolerate: fn(&Error) -> bool,
    ) -> Result<(), Error> {
        let mut trees = Vec::new();
        for name in &NAMES[..2] {
            trees.push(engine.tree(name.as_bytes()).await?);
        }
        let clients = (0..self.clients).map(|client| {
            let (engine, trees, journal) = (Arc::clone(engine), trees.clone(), journal.clone());
            async move { self.client(client, &engine, trees, &journal, tolerate).await }
        });
        join_all(clients).await.into_iter().collect()
    }

    async fn client(
        &self,
        client: usize,
        engine: &Arc<Engine>,
        mut trees: Vec<TreeRef>,
        journal: &Journal,
        tolerate: fn(&Error) -> bool,
    ) -> Result<(), Error> {
        let mut rng = Rng::new(self.seed * 100 + client as u64);
        for number in 0..self.commits {
            if number == self.commits / 2 {
                match engine.tree(NAMES[2].as_bytes()).await {
                    Ok(tree) => trees.push(tree),
                    Err(error) if tolerate(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            let ops = self.ops(&mut rng, trees.len());
            let durability = match rng.below(3) {
                0 if !self.all_durable => Durability::Buffered,
                1 if !self.all_durable => Durability::None,
                _ => Durability::Durable,
            };
            let commit = journal.commit(engine, &trees, &ops, durability);
            let due = self.checkpoint_every > 0
                && client == 0
                && number % self.checkpoint_every == self.checkpoint_every - 1;
            let committed = if due {
                let before = engine.stats().sequence;
                let (committed, checkpoint) = join(commit, engine.checkpoint()).await;
                match checkpoint {
                    Ok(()) => journal.durable(before),
                    Err(error) if tolerate(&error) => {}
                    Err(error) => return Err(error),
                }
                committed
            } else {
                commit.await
            };
            match committed {
                Ok(_) | Err(Error::Violated { .. } | Error::BatchTooLarge { .. }) => {}
                Err(error) if tolerate(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn ops(&self, rng: &mut Rng, trees: usize) -> Vec<Op> {
        let nothing: Model = vec![Default::default(); trees];
        let count = 1 + rng.below(self.batch_max);
        let mut rng_large = Rng::new(if self.large > 0 { rng.next() } else { 0 });
        (0..count)
            .map(|_| match self.bulky {
                true => {
                    let key = key(rng);
                    let mut value = value(rng, &key);
                    value.resize(super::MAX_RECORD - key.len(), 7);
                    Op::put(rng.below(trees), &key, &value)
                }
                false => op(rng, trees, &nothing),
            })
            .map(|mut op| {
                if self.large > 0 && rng_large.chance(self.large) {
                    op.value = large_value(&mut rng_large);
                }
                op
            })
            .collect()
    }
}
