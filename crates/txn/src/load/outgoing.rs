//! Built pages on their way to disk: many at a time, and past the frames of the pool.
//!
//! Pages are gathered in a batch. When it is full, space is found for it, and a task of the engine's
//! writes and publishes it ([`treering_bufpool::PageBatch`]) together with the large values that its
//! leaves refer to, in one step of the current epoch. Some batches may be on their way at once, so the
//! disk and the task work while more pages are built.
//!
//! The task goes on when nobody drives the load any more. So whoever gives a load back waits for its
//! batches first ([`Sent::landed`]): what they publish is among the pages to be freed.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::channel::oneshot;
use treering_blink::Image;
use treering_bufpool::{PageBatch, Pool, Written};
use treering_pagefile::PageId;

use super::Load;
use crate::engine::Engine;
use crate::error::Error;

/// Batches of one load on their way at once.
const IN_FLIGHT: usize = 4;

/// Pages that are built and not sent yet. Dropping it gives everything back.
pub(super) struct Gathered {
    batch: PageBatch,
    /// The values that its leaves refer to.
    values: Vec<Written>,
}

impl Gathered {
    pub(super) fn new(pool: &Arc<Pool>) -> Self {
        Self { batch: pool.gather_pages(), values: Vec::new() }
    }

    /// Adds a page, and the values that it refers to. There is room: a full batch is sent.
    pub(super) fn add(&mut self, id: PageId, image: &Image, values: impl Iterator<Item = Written>) {
        self.batch.push(id, image.words());
        self.values.extend(values);
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.is_full()
    }
}

/// The batches that are on their way: each comes back empty.
#[derive(Default)]
pub(super) struct Sent(VecDeque<oneshot::Receiver<Result<PageBatch, Error>>>);

impl Sent {
    /// Waits until no more than `most` batches are on their way, and returns one that came back. If the
    /// future is dropped, those that it waited for still count.
    async fn settle(&mut self, engine: &Engine, most: usize) -> Result<Option<PageBatch>, Error> {
        let mut spare = None;
        while self.0.len() > most
            && let Some(oldest) = self.0.front_mut()
        {
            let written = oldest.await.unwrap_or_else(|_| Err(engine.ended()));
            self.0.pop_front();
            spare = Some(written?);
        }
        Ok(spare)
    }

    /// Resolves when nothing is on its way any more, whatever it came to.
    pub(super) async fn landed(self) {
        for sent in self.0 {
            // Who gives the pages back does not mind why there are none.
            let _ = sent.await;
        }
    }
}

impl Load {
    /// Sends off what was gathered, and waits until few enough batches are on their way.
    pub(super) async fn send(&mut self) -> Result<(), Error> {
        let engine = Arc::clone(&self.engine);
        let spare = self.unfinished().sent.settle(&engine, IN_FLIGHT - 1).await?;
        let batch = spare.unwrap_or_else(|| engine.pool().gather_pages());
        let mut checkpointed = false;
        // Nothing is waited for between this and the task: a future that waits has taken no space.
        while !self.gathered.batch.try_take() {
            engine.check_writable()?;
            engine.make_space(&mut checkpointed).await?;
        }
        // As long as this lives, the engine's end does not come between the check and the task.
        let _entered = engine.enter()?;
        let next = Gathered { batch, values: Vec::new() };
        let Gathered { batch, values } = std::mem::replace(&mut self.gathered, next);
        let (done, written) = oneshot::channel();
        let writer = Arc::clone(&engine);
        engine.spawn(async move {
            // If nobody waits, somebody will look for the pages.
            drop(done.send(writer.write_built(batch, values).await));
        });
        self.unfinished().sent.0.push_back(written);
        Ok(())
    }

    /// Sends off what is left, and waits until all of it is published.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        if !self.gathered.batch.is_empty() {
            self.send().await?;
        }
        let engine = Arc::clone(&self.engine);
        self.unfinished().sent.settle(&engine, 0).await.map(drop)
    }
}

impl Engine {
    /// Writes pages and makes them known, together with the values that they refer to. Nobody can reach
    /// them.
    async fn write_built(
        &self,
        batch: PageBatch,
        mut values: Vec<Written>,
    ) -> Result<PageBatch, Error> {
        let written = batch.write().await?;
        loop {
            let _attempt = self.enter()?;
            let epoch = self.log.epoch();
            let Some(entered) = self.log.try_enter(epoch) else { continue };
            for value in values.drain(..) {
                self.pool().publish_value(value, epoch);
            }
            let empty = self.pool().publish_pages(written, epoch);
            drop(entered);
            return Ok(empty);
        }
    }
}
