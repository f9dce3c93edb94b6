//! Reads: what is in memory is answered in the first look; what is not is fetched, owning nothing.

use std::sync::Arc;

use treering_blink::{Chunk, Direction, From, Step, TreeRef, Way};

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

    /// Fills `chunk` with the pairs of the leaf at `from`, and says where the scan goes on.
    ///
    /// # Errors
    /// As [`Engine::get`].
    pub async fn scan(
        self: Arc<Self>,
        tree: TreeRef,
        direction: Direction,
        from: From,
        mut chunk: Chunk,
    ) -> Result<(Chunk, Option<From>), Error> {
        let mut way = Way::default();
        loop {
            self.check()?;
            match self.forest.scan(tree, direction, &from, true, &mut way, &mut chunk)? {
                Step::Done(next) => return Ok((chunk, next)),
                Step::Fetch(pages) => self.pool().fetch_many(&pages).await?,
            }
        }
    }

    /// [`Engine::scan`], if everything that it needs is in memory.
    ///
    /// # Errors
    /// A damaged tree; a closed or poisoned engine.
    pub fn scan_now(
        &self,
        tree: TreeRef,
        direction: Direction,
        from: &From,
        chunk: &mut Chunk,
    ) -> Result<Option<Option<From>>, Error> {
        self.check()?;
        match self.forest.scan(tree, direction, from, true, &mut Way::default(), chunk)? {
            Step::Done(next) => Ok(Some(next)),
            Step::Fetch(_) => Ok(None),
        }
    }
}
