//! fjall: an LSM tree in Rust; a journal that all writers share.
//!
//! A durable commit is an insert and then `persist(SyncData)`, which is what its documentation says for
//! it and lets writers share a sync; a durable batch has its durability with it. No compression: the
//! values cannot be compressed. Loads in random order are buffered batches; ascending keys are
//! ingested. Settling waits for its background work, which can only be looked at.

use std::sync::Arc;
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::data::{Data, Numbers, checksum};
use crate::engine::{Change, Commits, Engine, Reader, Result, Setup, change_all};

pub struct Fjall {
    db: Database,
    pairs: Keyspace,
    durable: bool,
}

/// Threads that load or unload, and pairs of one of their batches.
const FEED: (usize, u64) = (2, 1000);

impl Engine for Fjall {
    type Reader = FjallReader;
    const BUSY_WORKERS: usize = 2;

    fn open(setup: &Setup) -> Result<Self> {
        let small = setup.larger_than_memory;
        let memtable = if small { setup.cache / 8 } else { 64 << 20 };
        let cache = if small { setup.cache - 2 * memtable } else { setup.cache };
        let db = Database::builder(&setup.folder).cache_size(cache).open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable);
        let pairs = db.keyspace("pairs", options)?;
        Ok(Self { db, pairs, durable: setup.commits == Commits::Durable })
    }

    fn load(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()> {
        let Numbers::Sorted(_) = numbers else {
            return change_all(self, (data, numbers), Change::Put, FEED);
        };
        let (mut ingestion, mut value) = (self.pairs.start_ingestion()?, Vec::new());
        for number in numbers.part(0..numbers.len()) {
            ingestion.write(data.key(number).as_ref(), data.value(number, &mut value))?;
        }
        ingestion.finish()?;
        self.sync()
    }

    fn unload(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()> {
        change_all(self, (data, numbers), Change::Remove, FEED)
    }

    fn reader(&self) -> Result<FjallReader> {
        Ok(FjallReader { pairs: self.pairs.clone() })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.pairs.insert(key, value)?;
        if self.durable {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    async fn put_all<I>(&self, data: Data, numbers: I) -> Result<()>
    where
        I: Iterator<Item = u64> + Send,
    {
        let (mut batch, mut value) = (self.db.batch(), Vec::new());
        for number in numbers {
            let value = data.value(number, &mut value);
            batch.insert(&self.pairs, data.key(number).as_ref(), value);
        }
        Ok(batch.durability(self.durable.then_some(PersistMode::SyncData)).commit()?)
    }

    async fn remove_all<I>(&self, data: Data, numbers: I) -> Result<()>
    where
        I: Iterator<Item = u64> + Send,
    {
        let mut batch = self.db.batch();
        for number in numbers {
            batch.remove(&self.pairs, data.key(number).as_ref());
        }
        Ok(batch.durability(self.durable.then_some(PersistMode::SyncData)).commit()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncData)?)
    }

    fn settle(&self) -> Result<()> {
        self.pairs.rotate_memtable_and_wait()?;
        while self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn compact(self) -> Result<()> {
        self.settle()?;
        self.pairs.major_compact()?;
        self.close()
    }

    /// Dropping it closes it.
    fn close(self) -> Result<()> {
        self.sync()
    }
}

pub struct FjallReader {
    pairs: Keyspace,
}

impl Reader for FjallReader {
    async fn get(&mut self, key: &[u8]) -> Result<Option<u64>> {
        Ok(self.pairs.get(key)?.map(|value| checksum(&value)))
    }

    async fn range(&mut self, from: &[u8], count: u64) -> Result<(u64, u64)> {
        let (mut pairs, mut sum) = (0, 0u64);
        for pair in self.pairs.range(from..).take(count as usize) {
            sum = sum.wrapping_add(checksum(&pair.value()?));
            pairs += 1;
        }
        Ok((pairs, sum))
    }
}
