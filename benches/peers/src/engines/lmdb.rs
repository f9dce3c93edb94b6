//! LMDB, through heed: one writer at a time, readers with a snapshot, everything in a memory map.
//!
//! Buffered rows open it with `MDB_NOSYNC`: no commit waits for the disk. Loads and unloads are one
//! transaction; ascending keys are appended (`MDB_APPEND`). Read transactions are not bound to threads,
//! which heed asks of those that move. Where the data is larger than the memory, the kernel is told not
//! to read ahead (`MDB_NORDAHEAD`), as LMDB's documentation says.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use heed::types::Bytes;
use heed::{
    CommitOrAbort, CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn,
    WithoutTls,
};

use crate::data::{Data, Numbers, checksum};
use crate::engine::{Change, Commits, Engine, Reader, Result, Setup, change_all};

type Pairs = Database<'static, Bytes, Bytes>;

pub struct Lmdb {
    env: Env<WithoutTls>,
    pairs: Pairs,
    folder: PathBuf,
}

/// Address space, not memory.
const MAP_BYTES: usize = 1 << 38;

impl Lmdb {
    fn commit(&self, change: impl FnOnce(&mut heed::RwTxn) -> Result<()>) -> Result<()> {
        let mut write = self.env.write_txn()?;
        change(&mut write)?;
        Ok(write.commit()?)
    }
}

impl Engine for Lmdb {
    type Reader = LmdbReader;
    const BUSY_WORKERS: usize = 2;

    fn open(setup: &Setup) -> Result<Self> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_BYTES).max_readers(4096);
        let mut flags = EnvFlags::empty();
        flags.set(EnvFlags::NO_SYNC, setup.commits == Commits::Buffered);
        flags.set(EnvFlags::NO_READ_AHEAD, setup.larger_than_memory);
        // SAFETY: without a sync, a power failure may cost the database, which is a benchmark's.
        unsafe { options.flags(flags) };
        // SAFETY: nobody else touches the folder while the map is there.
        let env = unsafe { options.open(&setup.folder) }?;
        let opened = env.create_databases_and_commit(env.write_txn()?, |opener, write| {
            opener.create_database(write, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        let pairs = opened.unwrap_commit();
        Ok(Self { env, pairs, folder: setup.folder.clone() })
    }

    fn load(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()> {
        let Numbers::Sorted(_) = numbers else {
            let all = numbers.len();
            return change_all(self, (data, numbers), Change::Put, (1, all));
        };
        self.commit(|write| {
            let mut value = Vec::new();
            for number in numbers.part(0..numbers.len()) {
                let (key, value) = (data.key(number), data.value(number, &mut value));
                self.pairs.put_with_flags(write, PutFlags::APPEND, key.as_ref(), value)?;
            }
            Ok(())
        })?;
        self.sync()
    }

    fn unload(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()> {
        let all = numbers.len();
        change_all(self, (data, numbers), Change::Remove, (1, all))
    }

    fn reader(&self) -> Result<LmdbReader> {
        Ok(LmdbReader { read: self.env.clone().static_read_txn()?, pairs: self.pairs })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.commit(|write| Ok(self.pairs.put(write, key, value)?))
    }

    async fn put_all<I>(&self, data: Data, numbers: I) -> Result<()>
    where
        I: Iterator<Item = u64> + Send,
    {
        self.commit(|write| {
            let mut value = Vec::new();
            for number in numbers {
                let value = data.value(number, &mut value);
                self.pairs.put(write, data.key(number).as_ref(), value)?;
            }
            Ok(())
        })
    }

    async fn remove_all<I>(&self, data: Data, numbers: I) -> Result<()>
    where
        I: Iterator<Item = u64> + Send,
    {
        self.commit(|write| {
            for number in numbers {
                self.pairs.delete(write, data.key(number).as_ref())?;
            }
            Ok(())
        })
    }

    fn sync(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn settle(&self) -> Result<()> {
        self.sync()
    }

    /// LMDB compacts by a copy.
    fn compact(self) -> Result<()> {
        let (file, copy) = (self.folder.join("data.mdb"), self.folder.join("copy.mdb"));
        self.env.copy_to_path(&copy, CompactionOption::Enabled)?.sync_all()?;
        self.close()?;
        Ok(std::fs::rename(copy, file)?)
    }

    fn close(self) -> Result<()> {
        self.sync()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

pub struct LmdbReader {
    read: RoTxn<'static, WithoutTls>,
    pairs: Pairs,
}

impl Reader for LmdbReader {
    async fn get(&mut self, key: &[u8]) -> Result<Option<u64>> {
        Ok(self.pairs.get(&self.read, key)?.map(checksum))
    }

    async fn range(&mut self, from: &[u8], count: u64) -> Result<(u64, u64)> {
        let (mut pairs, mut sum) = (0, 0u64);
        // It allows no empty key.
        let first = if from.is_empty() { Bound::Unbounded } else { Bound::Included(from) };
        let range = self.pairs.range(&self.read, &(first, Bound::Unbounded))?;
        for pair in range.take(count as usize) {
            sum = sum.wrapping_add(checksum(pair?.1));
            pairs += 1;
        }
        Ok((pairs, sum))
    }
}
