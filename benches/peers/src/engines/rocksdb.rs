//! RocksDB: writers of many threads share a write of the log by themselves.
//!
//! From its guide to basic tuning: bloom filters of 10 bits, the newest format of tables, bytes synced
//! as they are written, levels sized from the last, as many background threads as cores. Beyond that,
//! what makes point lookups in memory faster: a HyperClock cache, a hash index in each block, index and
//! filters outside the cache. No compression: the values cannot be compressed.
//!
//! Loads in random order bypass the log and end with a flush; ascending keys become a table that is
//! ingested. Where the data is larger than the memory, everything is within the cache's budget, and
//! tables are read with direct I/O.

use std::path::PathBuf;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, CompactOptions, DB, DBCompressionType,
    DBRawIteratorWithThreadMode, DataBlockIndexType, FlushOptions, IngestExternalFileOptions,
    Options, ReadOptions, SstFileWriter, WaitForCompactOptions, WriteBatch, WriteOptions,
};

use crate::data::{Data, Numbers, checksum};
use crate::engine::{Change, Commits, Engine, Reader, Result, Setup, change_all, on_threads};

pub struct Rocks {
    db: Arc<DB>,
    options: Options,
    write: WriteOptions,
    folder: PathBuf,
}

/// Threads that load or unload, and pairs of one of their batches.
const FEED: (usize, u64) = (2, 1000);

fn options(setup: &Setup) -> Options {
    let small = setup.larger_than_memory;
    // A write buffer that is being filled and one that is being flushed come out of the budget, too.
    let write_buffer = if small { setup.cache / 8 } else { 64 << 20 };
    let cache = if small { setup.cache - 2 * write_buffer } else { setup.cache };
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_hyper_clock_cache(cache as usize, 0));
    blocks.set_bloom_filter(10.0, false);
    blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    blocks.set_data_block_hash_ratio(0.75);
    blocks.set_cache_index_and_filter_blocks(small);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(small);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(write_buffer as usize);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_bytes_per_sync(1 << 20);
    options
        .increase_parallelism(std::thread::available_parallelism().map_or(1, |n| n.get()) as i32);
    options.set_use_direct_reads(small);
    options.set_use_direct_io_for_flush_and_compaction(small);
    options
}

fn batch_of(data: Data, numbers: impl Iterator<Item = u64>) -> WriteBatch {
    let (mut batch, mut value) = (WriteBatch::default(), Vec::new());
    for number in numbers {
        batch.put(data.key(number), data.value(number, &mut value));
    }
    batch
}

impl Rocks {
    fn load_in_any_order(&self, data: Data, numbers: &Numbers) -> Result<()> {
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        let (workers, batch) = FEED;
        let each = numbers.len().div_ceil(workers as u64);
        on_threads(workers, async |worker| {
            let mut at = (worker as u64 * each).min(numbers.len());
            let end = (at + each).min(numbers.len());
            while at < end {
                let next = (at + batch).min(end);
                self.db.write_opt(batch_of(data, numbers.part(at..next)), &write)?;
                at = next;
            }
            Ok(())
        })?;
        self.flush()
    }

    fn load_ascending(&self, data: Data, numbers: &Numbers) -> Result<()> {
        let file = self.folder.join("load.sst");
        let mut table = SstFileWriter::create(&self.options);
        table.open(&file)?;
        let mut value = Vec::new();
        for number in numbers.part(0..numbers.len()) {
            table.put(data.key(number), data.value(number, &mut value))?;
        }
        table.finish()?;
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        Ok(self.db.ingest_external_file_opts(&ingest, vec![file])?)
    }

    fn flush(&self) -> Result<()> {
        let mut flush = FlushOptions::default();
        flush.set_wait(true);
        Ok(self.db.flush_opt(&flush)?)
    }
}

impl Engine for Rocks {
    type Reader = RocksReader;
    const BUSY_WORKERS: usize = 2;

    fn open(setup: &Setup) -> Result<Self> {
        let options = options(setup);
        let mut write = WriteOptions::default();
        write.set_sync(setup.commits == Commits::Durable);
        let db = Arc::new(DB::open(&options, &setup.folder)?);
        Ok(Self { db, options, write, folder: setup.folder.clone() })
    }

    fn load(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()> {
        match numbers {
            Numbers::Range(_) => self.load_in_any_order(data, &numbers),
            Numbers::Sorted(_) => self.load_ascending(data, &numbers),
        }
    }

    fn unload(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()> {
        change_all(self, (data, numbers), Change::Remove, FEED)
    }

    fn reader(&self) -> Result<RocksReader> {
        let iterator = self.db.raw_iterator_opt(ReadOptions::default());
        // SAFETY: the iterator borrows the database, which the reader's other field keeps alive, and
        // fields are dropped in their order.
        let iterator = unsafe {
            std::mem::transmute::<
                DBRawIteratorWithThreadMode<'_, DB>,
                DBRawIteratorWithThreadMode<'static, DB>,
            >(iterator)
        };
        Ok(RocksReader { iterator, db: Arc::clone(&self.db) })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write)?)
    }

    async fn put_all<I>(&self, data: Data, numbers: I) -> Result<()>
    where
        I: Iterator<Item = u64> + Send,
    {
        Ok(self.db.write_opt(batch_of(data, numbers), &self.write)?)
    }

    async fn remove_all<I>(&self, data: Data, numbers: I) -> Result<()>
    where
        I: Iterator<Item = u64> + Send,
    {
        let mut batch = WriteBatch::default();
        for number in numbers {
            batch.delete(data.key(number));
        }
        Ok(self.db.write_opt(batch, &self.write)?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn settle(&self) -> Result<()> {
        self.flush()?;
        Ok(self.db.wait_for_compact(&WaitForCompactOptions::default())?)
    }

    fn compact(self) -> Result<()> {
        self.flush()?;
        let mut compact = CompactOptions::default();
        compact.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &compact);
        self.close()
    }

    fn close(self) -> Result<()> {
        self.settle()?;
        match Arc::try_unwrap(self.db) {
            Ok(db) => drop(db),
            Err(_) => return Err("somebody still reads".into()),
        }
        Ok(())
    }
}

pub struct RocksReader {
    iterator: DBRawIteratorWithThreadMode<'static, DB>,
    db: Arc<DB>,
}

impl Reader for RocksReader {
    async fn get(&mut self, key: &[u8]) -> Result<Option<u64>> {
        Ok(self.db.get_pinned(key)?.map(|value| checksum(&value)))
    }

    async fn range(&mut self, from: &[u8], count: u64) -> Result<(u64, u64)> {
        let (mut pairs, mut sum) = (0, 0u64);
        self.iterator.seek(from);
        while pairs < count
            && let Some(value) = self.iterator.value()
        {
            sum = sum.wrapping_add(checksum(value));
            pairs += 1;
            self.iterator.next();
        }
        self.iterator.status()?;
        Ok((pairs, sum))
    }
}
