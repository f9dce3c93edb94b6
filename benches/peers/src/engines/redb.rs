//! redb: one writer at a time, and readers with a snapshot.
//!
//! Commits are `Durability::Immediate`, or `Durability::None` where the row is buffered; of the latter each
//! thousandth is immediate, too, as pages are not freed before the next durable commit. Loads and
//! unloads are one transaction, as in redb's own benchmark.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition};

use crate::data::{Data, Numbers, checksum};
use crate::engine::{Change, Commits, Engine, Reader, Result, Setup, change_all};

const PAIRS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("pairs");

pub struct Redb {
    db: Database,
    durability: Durability,
    commits: AtomicU64,
}

/// Buffered commits up to one that is durable.
const BUFFERED_MAX: u64 = 1000;

impl Redb {
    fn commit_as_set(
        &self,
        change: impl FnOnce(&mut redb::Table<&[u8], &[u8]>) -> Result<()>,
    ) -> Result<()> {
        let due = self.commits.fetch_add(1, Ordering::Relaxed) % BUFFERED_MAX == BUFFERED_MAX - 1;
        self.commit(if due { Durability::Immediate } else { self.durability }, change)
    }

    fn commit(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut redb::Table<&[u8], &[u8]>) -> Result<()>,
    ) -> Result<()> {
        let mut write = self.db.begin_write()?;
        write.set_durability(durability)?;
        change(&mut write.open_table(PAIRS)?)?;
        Ok(write.commit()?)
    }
}

impl Engine for Redb {
    type Reader = RedbReader;
    const BUSY_WORKERS: usize = 2;

    fn open(setup: &Setup) -> Result<Self> {
        let mut builder = Database::builder();
        // What is not in its cache is in the page cache; both count in a memory limit.
        let cache = if setup.larger_than_memory { setup.cache / 2 } else { setup.cache };
        builder.set_cache_size(cache as usize);
        let db = builder.create(setup.folder.join("data.redb"))?;
        let durability = match setup.commits {
            Commits::Durable => Durability::Immediate,
            Commits::Buffered => Durability::None,
        };
        let engine = Self { db, durability, commits: AtomicU64::new(0) };
        engine.commit(Durability::Immediate, |_| Ok(()))?;
        Ok(engine)
    }

    fn load(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()> {
        let all = numbers.len();
        change_all(self, (data, numbers), Change::Put, (1, all))
    }

    fn unload(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()> {
        let all = numbers.len();
        change_all(self, (data, numbers), Change::Remove, (1, all))
    }

    fn reader(&self) -> Result<RedbReader> {
        Ok(RedbReader { table: self.db.begin_read()?.open_table(PAIRS)? })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.commit_as_set(|table| {
            table.insert(key, value)?;
            Ok(())
        })
    }

    async fn put_all<I>(&self, data: Data, numbers: I) -> Result<()>
    where
        I: Iterator<Item = u64> + Send,
    {
        self.commit_as_set(|table| {
            let mut value = Vec::new();
            for number in numbers {
                table.insert(data.key(number).as_ref(), data.value(number, &mut value))?;
            }
            Ok(())
        })
    }

    async fn remove_all<I>(&self, data: Data, numbers: I) -> Result<()>
    where
        I: Iterator<Item = u64> + Send,
    {
        self.commit_as_set(|table| {
            for number in numbers {
                table.remove(data.key(number).as_ref())?;
            }
            Ok(())
        })
    }

    /// A durable commit makes all before it durable.
    fn sync(&self) -> Result<()> {
        self.commit(Durability::Immediate, |_| Ok(()))
    }

    fn settle(&self) -> Result<()> {
        self.sync()
    }

    fn compact(mut self) -> Result<()> {
        // It does a bounded amount of work a call, and says whether there was any.
        while self.db.compact()? {}
        self.close()
    }

    fn close(self) -> Result<()> {
        Ok(self.db.close()?)
    }
}

pub struct RedbReader {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl Reader for RedbReader {
    async fn get(&mut self, key: &[u8]) -> Result<Option<u64>> {
        Ok(self.table.get(key)?.map(|value| checksum(value.value())))
    }

    async fn range(&mut self, from: &[u8], count: u64) -> Result<(u64, u64)> {
        let (mut pairs, mut sum) = (0, 0u64);
        for pair in self.table.range(from..)?.take(count as usize) {
            sum = sum.wrapping_add(checksum(pair?.1.value()));
            pairs += 1;
        }
        Ok((pairs, sum))
    }
}
