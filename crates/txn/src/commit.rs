//! The way of a write: gather, apply, settle (I2).

use std::sync::Arc;

use treering_blink::REFERENCE_LEN;
use treering_bufpool::Refusal;

use crate::attempt::{Attempt, Outcome};
use crate::batch::{Batch, OpKind};
use crate::body::ENTRY_OVERHEAD;
use crate::engine::{Durability, Engine};
use crate::error::Error;
use crate::job::Job;
use crate::large::VALUE_MAX;
use crate::records::{Rejected, Settled};

/// Refusals after which a batch goes to the engine's workers.
const REFUSALS_MAX: usize = 2;
/// Rounds of gathering and of starting over, likewise. A descent misses a page a level at most
/// unless pages are evicted as fast as they come in.
const ROUNDS_MAX: usize = 32;

impl Engine {
    /// Applies a batch and waits until it is as durable as asked.
    ///
    /// Dropping the future before its first poll or while pages are gathered means that nothing
    /// happened; later the batch stands, or is decided by the engine alone. Nobody waits for this
    /// future to be polled.
    ///
    /// # Errors
    /// A violated condition, named by its operation; keys or values that are too large; a tree that is
    /// not there any more; a full disk; what poisoned the engine. The batch is then wholly undone, but for an error while
    /// waiting for durability, after which reopening tells.
    pub async fn commit(
        self: &Arc<Self>,
        mut batch: Batch,
        durability: Durability,
    ) -> Result<Outcome, Error> {
        self.check_writable()?;
        let big = self.check_sizes(&batch)?;
        let duplicates = batch.draw_sequences(|| self.next_unique())?;
        let ops = (0..batch.len()).map(|index| batch.op(index));
        let mut giving = ops.filter(|op| op.kind.gives_value());
        let large = giving.any(|op| self.is_large(op.key, op.value));
        let job = Job::new(batch, durability);
        let settled = match (big, large) {
            (true, _) => self.apply_deferred(job).await,
            (false, true) => self.apply_large(job).await,
            (false, false) => self.gather_and_apply(job).await,
        };
        let mut outcome = self.settle_outcome(settled, durability).await?;
        outcome.duplicates = duplicates;
        Ok(outcome)
    }

    /// Waits until what became of a batch is as durable as asked.
    pub(crate) async fn settle_outcome(
        &self,
        settled: Settled,
        durability: Durability,
    ) -> Result<Outcome, Error> {
        match settled {
            Ok(outcome) => {
                self.settle(outcome.sequence, durability).await?;
                Ok(outcome)
            }
            Err(Rejected { error, sequence }) => {
                // What the condition saw must not be lost once the caller knows of it.
                if durability == Durability::Durable {
                    self.log.wait_durable(sequence).await?;
                }
                Err(error)
            }
        }
    }

    /// Waits until the commit with this sequence is as durable as asked.
    ///
    /// # Errors
    /// What poisoned the engine.
    pub async fn settle(&self, sequence: u64, durability: Durability) -> Result<(), Error> {
        if durability == Durability::Durable {
            self.log.wait_durable(sequence).await?;
        } else if durability == Durability::Buffered {
            self.log.flush_soon(sequence);
        }
        Ok(())
    }

    async fn gather_and_apply(self: &Arc<Self>, mut job: Job) -> Settled {
        let (mut refusals, mut ways) = (0, Vec::new());
        let (mut rounds, mut moved) = (0, None);
        while rounds < ROUNDS_MAX {
            rounds += 1;
            let relief = self.pool().relief();
            match self.attempt(&mut job, &mut ways) {
                Attempt::Applied(outcome) => return Ok(outcome),
                Attempt::Violated { sequence, error } => return Err(Rejected { error, sequence }),
                Attempt::Failed(error) => return Err(error.into()),
                Attempt::Absent(pages) => {
                    self.pool().fetch_many(&pages).await.map_err(Error::from)?;
                }
                Attempt::Unknown(values) => job.known.read(self, &values).await?,
                Attempt::TooLarge => return self.apply_deferred(job).await,
                Attempt::Held => {
                    self.wait_for_overlay(&mut moved).await;
                    // Not for want of anything: no worker could do it sooner.
                    rounds = 0;
                }
                Attempt::Moved => {}
                lacking => {
                    refusals += 1;
                    if refusals == REFUSALS_MAX {
                        break;
                    }
                    match lacking {
                        Attempt::NoRoom => self.room_or_end().await,
                        Attempt::Refused(refusal) if refusal != Refusal::Space => {
                            let relieved = self.pool().wait_for_relief(refusal, relief).await;
                            relieved.map_err(Error::from)?;
                        }
                        _ => break,
                    }
                }
            }
        }
        self.apply_as_record(job).await
    }

    /// Waits for room in the log, or for the engine's end.
    pub(crate) async fn room_or_end(&self) {
        let closing = self.closing.listen();
        if self.check().is_ok() {
            let room = std::pin::pin!(self.log.wait_room());
            futures::future::select(room, closing).await;
        }
    }

    /// Whether a batch is too large to be tried in one step.
    ///
    /// # Errors
    /// A key or a value that is too long for any batch.
    fn check_sizes(&self, batch: &Batch) -> Result<bool, Error> {
        let (mut body, mut bytes) = (0, 0);
        for index in 0..batch.len() {
            let op = batch.op(index);
            let (key, value) = (op.key.len(), op.value.len());
            if key > self.limits.max_key {
                let (len, max) = (key, self.limits.max_key);
                return Err(match op.kind {
                    OpKind::InsertDup => Error::DuplicateKeyTooLong { len, max },
                    _ => Error::KeyTooLong { len, max },
                });
            }
            if value as u64 > VALUE_MAX {
                return Err(Error::ValueTooLong { len: value, max: VALUE_MAX as usize });
            }
            let record = match op.kind.gives_value() {
                true if self.is_large(op.key, op.value) => key + REFERENCE_LEN,
                true => key + value,
                false => key,
            };
            body += record + ENTRY_OVERHEAD;
            bytes += record;
        }
        Ok(bytes > self.limits.batch_bytes || body > self.log.max_body())
    }
}
