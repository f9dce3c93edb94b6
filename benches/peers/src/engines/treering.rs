//! treering, through its public API: tasks on the multi-thread Tokio runtime.

use std::sync::{Arc, OnceLock};

use tokio::runtime::Runtime;
use treering::{Database, Durability, Options, Tree};

use crate::data::{Data, Numbers, checksum};
use crate::engine::{Change, Commits, Engine, Reader, Result, Setup, change_all};

pub struct Treering {
    db: Database,
    tree: Tree,
    durability: Durability,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("without threads there is nothing to measure"))
}

/// Tasks that load or unload, and pairs of one of their batches.
const FEED: (usize, u64) = (8, 1000);

impl Engine for Treering {
    type Reader = TreeringReader;
    const WORKERS: &'static str = "tasks";
    const BUSY_WORKERS: usize = 64;

    fn open(setup: &Setup) -> Result<Self> {
        let options = Options::new().cache_size(setup.cache);
        let db = runtime().block_on(options.open(setup.folder.join("data.tr")))?;
        let tree = runtime().block_on(db.tree("pairs"))?;
        let durability = match setup.commits {
            Commits::Durable => Durability::Durable,
            Commits::Buffered => Durability::Buffered,
        };
        Ok(Self { db, tree, durability })
    }

    fn run<T, F, W>(&self, workers: usize, work: W) -> Result<Vec<T>>
    where
        W: Fn(usize) -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let tasks: Vec<_> = (0..workers).map(|worker| runtime().spawn(work(worker))).collect();
        runtime().block_on(async {
            let mut results = Vec::with_capacity(workers);
            for task in tasks {
                results.push(task.await??);
            }
            Ok(results)
        })
    }

    /// The loader sorts by itself.
    fn load(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()> {
        let mut loader = self.tree.load();
        let load = async move {
            let mut value = Vec::new();
            for number in numbers.part(0..numbers.len()) {
                loader.put(data.key(number), data.value(number, &mut value)).await?;
            }
            loader.finish().await
        };
        runtime().block_on(runtime().spawn(load))??;
        Ok(())
    }

    fn unload(self: &Arc<Self>, data: Data, numbers: Numbers) -> Result<()> {
        change_all(self, (data, numbers), Change::Remove, FEED)
    }

    fn reader(&self) -> Result<TreeringReader> {
        Ok(TreeringReader { tree: self.tree.clone() })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.tree.put(key, value).durability(self.durability).await?)
    }

    async fn put_all<I>(&self, data: Data, numbers: I) -> Result<()>
    where
        I: Iterator<Item = u64> + Send,
    {
        let (mut batch, mut value) = (self.db.batch(), Vec::new());
        for number in numbers {
            batch.put(&self.tree, data.key(number), data.value(number, &mut value));
        }
        Ok(batch.commit().durability(self.durability).await?)
    }

    async fn remove_all<I>(&self, data: Data, numbers: I) -> Result<()>
    where
        I: Iterator<Item = u64> + Send,
    {
        let mut batch = self.db.batch();
        for number in numbers {
            batch.delete(&self.tree, data.key(number));
        }
        Ok(batch.commit().durability(self.durability).await?)
    }

    fn sync(&self) -> Result<()> {
        Ok(runtime().block_on(self.db.sync())?)
    }

    fn settle(&self) -> Result<()> {
        Ok(runtime().block_on(self.db.checkpoint())?)
    }

    fn compact(self) -> Result<()> {
        runtime().block_on(self.db.compact())?;
        self.close()
    }

    fn close(self) -> Result<()> {
        Ok(runtime().block_on(self.db.close())?)
    }
}

pub struct TreeringReader {
    tree: Tree,
}

impl Reader for TreeringReader {
    async fn get(&mut self, key: &[u8]) -> Result<Option<u64>> {
        Ok(self.tree.get_with(key, checksum).await?)
    }

    async fn range(&mut self, from: &[u8], count: u64) -> Result<(u64, u64)> {
        let (mut pairs, mut sum) = (0, 0u64);
        let mut range = self.tree.range(from..);
        while pairs < count
            && let Some(chunk) = range.next_chunk().await?
        {
            for (_, value) in chunk.iter().take((count - pairs) as usize) {
                sum = sum.wrapping_add(checksum(value));
                pairs += 1;
            }
        }
        Ok((pairs, sum))
    }
}
