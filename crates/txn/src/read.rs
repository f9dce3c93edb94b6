//! Reads: what is in memory is answered in the first look; what is not is fetched, owning nothing.
//!
//! A value that is not in its leaf is read by the reference that the leaf has. While that goes on the
//! key may get another value, and the pages of the old one may go. Then the key is looked up again. A
//! key that has the same reference still, though its pages were not to be read, is damaged: the pages
//! of a value stay as long as a leaf refers to it.

use std::ops::Range;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use treering_blink::{Chunk, Kind, Nearest, Scan, Step, TreeRef, Way};
use treering_bufpool::ValueRef;

use crate::engine::Engine;
use crate::error::Error;
use crate::job::lost_value;

/// Large values that one call reads at once.
const LARGE_AT_ONCE: usize = 4;

/// What is under a key.
pub(crate) enum Found {
    Inline(Vec<u8>),
    Large(ValueRef),
}

impl Engine {
    /// Looks a key up without waiting: appends its value to `value` (cleared first) and says
    /// whether it is there; `None` if something has to be read from disk.
    ///
    /// # Errors
    /// A damaged tree; a closed or poisoned engine.
    pub fn get_now(
        &self,
        tree: TreeRef,
        key: &[u8],
        value: &mut Vec<u8>,
    ) -> Result<Option<bool>, Error> {
        self.check()?;
        match self.look(tree, key, &mut Way::default(), value)? {
            Step::Done(Some(Kind::Overflow)) | Step::Fetch(_) => Ok(None),
            Step::Done(found) => Ok(Some(found.is_some())),
        }
    }

    /// Looks a key up.
    ///
    /// # Errors
    /// As [`Engine::get_now`], and a failed or damaged read.
    pub async fn get(self: Arc<Self>, tree: TreeRef, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.find(tree, key).await? {
            None => Ok(None),
            Some(Found::Inline(value)) => Ok(Some(value)),
            Some(Found::Large(value)) => self.large_part(tree, key, value, ALL).await,
        }
    }

    /// The bytes of a key's value from `range.start` on, up to `range.end` or the value's end: none if
    /// it ends before. Of a large value only the pages that hold them are read.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn get_range(
        self: Arc<Self>,
        tree: TreeRef,
        key: &[u8],
        range: Range<u64>,
    ) -> Result<Option<Vec<u8>>, Error> {
        match self.find(tree, key).await? {
            None => Ok(None),
            Some(Found::Inline(value)) => Ok(Some(part_of(value, &range))),
            Some(Found::Large(value)) => self.large_part(tree, key, value, range).await,
        }
    }

    /// How many bytes a key's value has, without reading it; `None` if the key is not there.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn value_len(
        self: Arc<Self>,
        tree: TreeRef,
        key: &[u8],
    ) -> Result<Option<u64>, Error> {
        Ok(self.find(tree, key).await?.map(|found| match found {
            Found::Inline(value) => value.len() as u64,
            Found::Large(value) => value.len,
        }))
    }

    /// The value of a key that a scan found with this reference ([`Chunk::kind`]), or what the key has
    /// instead by now.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn get_large(
        self: Arc<Self>,
        tree: TreeRef,
        key: &[u8],
        reference: &[u8],
    ) -> Result<Option<Vec<u8>>, Error> {
        let value = ValueRef::from_bytes(reference).ok_or_else(|| lost_value(reference))?;
        self.large_part(tree, key, value, ALL).await
    }

    /// The value that the pages have under a key, whatever is pending.
    pub(crate) async fn get_in_pages(
        &self,
        tree: TreeRef,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, Error> {
        let (mut bytes, mut way) = (Vec::new(), Way::default());
        loop {
            self.check()?;
            match self.forest.get(tree, key, &mut way, &mut bytes)? {
                Step::Done(None) => return Ok(None),
                Step::Done(Some(Kind::Inline)) => return Ok(Some(bytes)),
                Step::Done(Some(Kind::Overflow)) => {
                    let value = ValueRef::from_bytes(&bytes).ok_or_else(|| lost_value(&bytes))?;
                    return self.large_part(tree, key, value, ALL).await;
                }
                Step::Fetch(pages) => self.pool().fetch_many(&pages).await?,
            }
        }
    }

    /// What stands under a key.
    pub(crate) async fn find(&self, tree: TreeRef, key: &[u8]) -> Result<Option<Found>, Error> {
        let (mut bytes, mut way) = (Vec::new(), Way::default());
        loop {
            self.check()?;
            match self.look(tree, key, &mut way, &mut bytes)? {
                Step::Done(None) => return Ok(None),
                Step::Done(Some(Kind::Inline)) => return Ok(Some(Found::Inline(bytes))),
                Step::Done(Some(Kind::Overflow)) => {
                    let value = ValueRef::from_bytes(&bytes).ok_or_else(|| lost_value(&bytes))?;
                    return Ok(Some(Found::Large(value)));
                }
                Step::Fetch(pages) => self.pool().fetch_many(&pages).await?,
            }
        }
    }

    /// A part of a large value that the key had a moment ago, or the same part of what it has by now.
    async fn large_part(
        &self,
        tree: TreeRef,
        key: &[u8],
        mut value: ValueRef,
        range: Range<u64>,
    ) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let mut bytes = Vec::new();
            let part = within(&range, value.len);
            let failed = match self.pool().read_value(tree.id, value, part, &mut bytes).await {
                Ok(true) => return Ok(Some(bytes)),
                Ok(false) => lost_value(&value.to_bytes()),
                Err(error) => error,
            };
            match self.find(tree, key).await? {
                None => return Ok(None),
                Some(Found::Inline(value)) => return Ok(Some(part_of(value, &range))),
                Some(Found::Large(same)) if same == value => return Err(failed.into()),
                Some(Found::Large(other)) => value = other,
            }
        }
    }

    /// Looks many keys up; the reads of all that are missing go out together, level by level.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn get_many(
        self: Arc<Self>,
        tree: TreeRef,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut values = vec![None; keys.len()];
        let mut ways = vec![Way::default(); keys.len()];
        let mut open: Vec<usize> = (0..keys.len()).collect();
        let (mut value, mut large) = (Vec::new(), Vec::new());
        while !open.is_empty() {
            self.check()?;
            let mut absent = Vec::new();
            let mut still_open = Vec::new();
            // A share of the pool at a time: what one round loads must not push out itself.
            let at_once = (self.pool().frame_count() / 4).max(1);
            for &index in &open {
                if absent.len() >= at_once {
                    still_open.push(index);
                    continue;
                }
                match self.look(tree, &keys[index], &mut ways[index], &mut value)? {
                    Step::Done(None) => {}
                    Step::Done(Some(Kind::Inline)) => values[index] = Some(value.clone()),
                    Step::Done(Some(Kind::Overflow)) => large.push((index, value.clone())),
                    Step::Fetch(pages) => {
                        absent.extend(pages);
                        still_open.push(index);
                    }
                }
            }
            absent.sort_unstable();
            absent.dedup();
            self.pool().fetch_many(&absent).await?;
            open = still_open;
        }
        let reads = large.into_iter().map(|(index, reference)| {
            let engine = Arc::clone(&self);
            async move { (index, engine.get_large(tree, &keys[index], &reference).await) }
        });
        let mut reads = stream::iter(reads).buffer_unordered(LARGE_AT_ONCE);
        while let Some((index, read)) = reads.next().await {
            values[index] = read?;
        }
        Ok(values)
    }

    /// Fills `chunk` with the pairs of the leaf where `scan` stands, and moves it on. Values that are
    /// not in the leaf are not read: [`Engine::get_large`].
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn scan(
        self: Arc<Self>,
        mut scan: Scan,
        mut chunk: Chunk,
    ) -> Result<(Scan, Chunk), Error> {
        loop {
            self.check()?;
            match self.scan_step(&mut scan, &mut chunk)? {
                Step::Done(()) => return Ok((scan, chunk)),
                Step::Fetch(pages) => self.pool().fetch_many(&pages).await?,
            }
        }
    }

    /// [`Engine::scan`], if everything that it needs is in memory; else false.
    ///
    /// # Errors
    /// A damaged tree; a closed or poisoned engine.
    pub fn scan_now(&self, scan: &mut Scan, chunk: &mut Chunk) -> Result<bool, Error> {
        self.check()?;
        Ok(matches!(self.scan_step(scan, chunk)?, Step::Done(())))
    }

    /// Finds the nearest entry that `search` aims at; says whether there is one.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn nearest(self: Arc<Self>, mut search: Nearest) -> Result<(Nearest, bool), Error> {
        let tree = search.tree();
        loop {
            self.check()?;
            match self.nearest_step(&mut search)? {
                Step::Done(true) if search.kind() == Kind::Overflow => {
                    let (key, reference) = (search.key().to_vec(), search.value().to_vec());
                    let engine = Arc::clone(&self);
                    // If it has been deleted meanwhile, another is the nearest by now.
                    if let Some(value) = engine.get_large(tree, &key, &reference).await? {
                        search.set_value(value);
                        return Ok((search, true));
                    }
                }
                Step::Done(found) => return Ok((search, found)),
                Step::Fetch(pages) => self.pool().fetch_many(&pages).await?,
            }
        }
    }

    /// [`Engine::nearest`], if everything that it needs is in memory; else `None`.
    ///
    /// # Errors
    /// A damaged tree; a closed or poisoned engine.
    pub fn nearest_now(&self, search: &mut Nearest) -> Result<Option<bool>, Error> {
        self.check()?;
        match self.nearest_step(search)? {
            Step::Done(true) if search.kind() == Kind::Overflow => Ok(None),
            Step::Done(found) => Ok(Some(found)),
            Step::Fetch(_) => Ok(None),
        }
    }
}

/// A whole value.
const ALL: Range<u64> = 0..u64::MAX;

/// What a value of `len` bytes has of a range.
fn within(range: &Range<u64>, len: u64) -> Range<u64> {
    let start = range.start.min(len);
    start..range.end.clamp(start, len)
}

fn part_of(mut value: Vec<u8>, range: &Range<u64>) -> Vec<u8> {
    let part = within(range, value.len() as u64);
    value.truncate(part.end as usize);
    value.drain(..part.start as usize);
    value
}
