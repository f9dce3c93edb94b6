//! Merging sorted runs: the least key of all comes next, and of equal keys the record of the latest run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use treering_txn::{Load, LoadedLeaf, ReadBack};

use super::pack::Sorted;
use super::run::{Record, RunReader};
use crate::error::Error;

/// The next key of a source, the number of the source, and the value.
type Head = (Vec<u8>, usize, Vec<u8>);

/// Something sorted that is read once.
pub(super) enum Source {
    Memory {
        records: Sorted,
        at: usize,
    },
    File(RunReader),
    /// What was built as long as keys ascended.
    Built(Box<Built>),
}

/// The leaves of a load that did not become the tree.
pub(super) struct Built {
    load: Load,
    at: ReadBack,
    leaf: Option<LoadedLeaf>,
    index: usize,
}

impl Source {
    /// The keys of a load that was built.
    pub(super) fn built(load: Load) -> Self {
        let at = load.read_back();
        Source::Built(Box::new(Built { load, at, leaf: None, index: 0 }))
    }

    async fn next(&mut self) -> Result<Option<Record>, Error> {
        match self {
            Source::Memory { records, at } => {
                if *at == records.len() {
                    return Ok(None);
                }
                let (key, value) = records.get(*at);
                *at += 1;
                Ok(Some((key.to_vec(), value.to_vec())))
            }
            Source::File(reader) => reader.next(),
            Source::Built(built) => built.next().await,
        }
    }
}

impl Built {
    async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            if let Some(leaf) = &self.leaf
                && self.index < leaf.len()
            {
                let (key, index) = (leaf.key(self.index).to_vec(), self.index);
                self.index += 1;
                return Ok(Some((key, self.load.value(leaf, index).await?)));
            }
            self.leaf = self.load.next_leaf(&mut self.at).await?;
            self.index = 0;
            if self.leaf.is_none() {
                return Ok(None);
            }
        }
    }
}

/// Sources merged, the earliest first.
pub(super) struct Merge {
    sources: Vec<Source>,
    /// Of each source that has one.
    heads: BinaryHeap<Reverse<Head>>,
}

impl Merge {
    pub(super) async fn new(sources: Vec<Source>) -> Result<Self, Error> {
        let mut merge = Self { heads: BinaryHeap::with_capacity(sources.len()), sources };
        for number in 0..merge.sources.len() {
            merge.advance(number).await?;
        }
        Ok(merge)
    }

    /// The next key, with its last value; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Record>, Error> {
        let Some(Reverse((key, number, mut value))) = self.heads.pop() else { return Ok(None) };
        self.advance(number).await?;
        while let Some(Reverse((next, ..))) = self.heads.peek()
            && *next == key
            && let Some(Reverse((_, number, later))) = self.heads.pop()
        {
            value = later;
            self.advance(number).await?;
        }
        Ok(Some((key, value)))
    }

    async fn advance(&mut self, number: usize) -> Result<(), Error> {
        if let Some((key, value)) = self.sources[number].next().await? {
            self.heads.push(Reverse((key, number, value)));
        }
        Ok(())
    }
}
