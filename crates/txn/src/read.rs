//! Reads: what is in memory is answered in the first look; what is not is fetched, owning nothing.

use std::sync::Arc;

use treering_blink::{Chunk, Nearest, Scan, Step, TreeRef, Way};

use crate::engine::Engine;
use crate::error::Error;

impl Engine {
    /// Looks a key up without waiting: appends its value to `value` (cleared first) and says
    /// whether it is there; `None` if pages have to be fetched.
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
        match self.forest.get(tree, key, &mut Way::default(), value)? {
            Step::Done(found) => Ok(Some(found)),
            Step::Fetch(_) => Ok(None),
        }
    }

    /// Looks a key up.
    ///
    /// # Errors
    /// As [`Engine::get_now`], and a failed or damaged read.
    pub async fn get(self: Arc<Self>, tree: TreeRef, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let (mut value, mut way) = (Vec::new(), Way::default());
        loop {
            self.check()?;
            match self.forest.get(tree, key, &mut way, &mut value)? {
                Step::Done(found) => return Ok(found.then_some(value)),
                Step::Fetch(pages) => self.pool().fetch_many(&pages).await?,
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
        let mut value = Vec::new();
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
                match self.forest.get(tree, &keys[index], &mut ways[index], &mut value)? {
                    Step::Done(found) => values[index] = found.then(|| value.clone()),
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
        Ok(values)
    }

    /// Fills `chunk` with the pairs of the leaf where `scan` stands, and moves it on.
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
            match self.forest.scan(&mut scan, &mut chunk)? {
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
        Ok(matches!(self.forest.scan(scan, chunk)?, Step::Done(())))
    }

    /// Finds the nearest entry that `search` aims at; says whether there is one.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn nearest(self: Arc<Self>, mut search: Nearest) -> Result<(Nearest, bool), Error> {
        loop {
            self.check()?;
            match self.forest.nearest(&mut search)? {
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
        match self.forest.nearest(search)? {
            Step::Done(found) => Ok(Some(found)),
            Step::Fetch(_) => Ok(None),
        }
    }
}
