//! A client: a task that does one random operation after the other and compares what it is told with
//! what it knows. Some of its futures it drops half-way, and some it never polls again.
//!
//! * `writes`: changes of its own keys: single ones, batches, big batches, ranges, large values.
//! * `reads`: its own keys, and everybody's, one by one, in ranges, and with a cursor.
//! * `appends`: transactions on keys that all write.
//! * `trees`: trees of its own, and duplicates.

mod appends;
mod reads;
mod trees;
mod writes;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use treering::{Database, Error, ErrorKind};
use treering_pagefile::Runtime;
use treering_txn::Durability;

use crate::chance::Chance;
use crate::journal::{Bytes, Journal, Place};
use crate::world::{SHARED, World, is_end, own_key, own_tree};

/// Keys of a client in each tree.
const KEYS: usize = 48;

/// The database is at its end for this client.
pub struct Gone;

/// What an operation of a client comes to.
pub type Done = Result<(), Gone>;

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// In a hundred futures, how many are dropped half-way or never polled again.
    pub drops: usize,
    /// The longest pause between two operations.
    pub pause: Duration,
    /// Large values have up to so many bytes.
    pub large: usize,
    /// Whether the disk may lie about pages, so that reads may find damage.
    pub lies: bool,
}

/// A client of a database.
pub struct Client {
    number: usize,
    db: Database,
    world: Arc<World>,
    runtime: Arc<dyn Runtime>,
    chance: Chance,
    habits: Habits,
    /// Values that it has made.
    made: u64,
    /// The generation of each list that it appends to.
    generations: BTreeMap<usize, usize>,
    /// Futures that it will never poll again.
    forgotten: Vec<BoxFuture<'static, ()>>,
}

impl Client {
    /// The client with this number.
    pub fn new(
        number: usize,
        db: &Database,
        world: &Arc<World>,
        runtime: &Arc<dyn Runtime>,
        chance: Chance,
        habits: Habits,
    ) -> Self {
        Self {
            number,
            db: db.clone(),
            world: Arc::clone(world),
            runtime: Arc::clone(runtime),
            chance,
            habits,
            made: 0,
            generations: BTreeMap::new(),
            forgotten: Vec::new(),
        }
    }

    /// Runs so many operations, or as many as there are until the database is gone.
    pub async fn run(mut self, operations: usize) {
        for _ in 0..operations {
            if self.chance.one_in(4) && !self.habits.pause.is_zero() {
                let most = self.habits.pause.as_micros() as usize;
                let pause = Duration::from_micros(self.chance.below(most) as u64);
                self.runtime.sleep(pause).await;
            }
            if self.step().await.is_err() {
                self.world.count("the engine ended");
                return;
            }
        }
    }

    async fn step(&mut self) -> Done {
        let (world, number) = (Arc::clone(&self.world), self.number);
        let (doing, step) = match self.chance.below(100) {
            0..=21 => ("write one", self.write_one().boxed()),
            22..=31 => ("write a batch", self.write_batch().boxed()),
            32..=34 => ("write a big batch", self.write_big_batch().boxed()),
            35..=39 => ("write a large value", self.write_large().boxed()),
            40..=42 => ("delete a range", self.delete_range().boxed()),
            43..=52 => ("append", self.append().boxed()),
            53..=59 => ("read a list", self.read_list().boxed()),
            60..=69 => ("read one", self.read_one().boxed()),
            70..=73 => ("read many", self.read_many().boxed()),
            74..=81 => ("read a range", self.read_range().boxed()),
            82..=87 => ("walk", self.walk().boxed()),
            88..=94 => ("change duplicates", self.change_duplicates().boxed()),
            _ => ("change trees", self.change_trees().boxed()),
        };
        world.doing(number, Some(doing));
        let done = step.await;
        world.doing(number, None);
        done
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.world.journal(self.number)
    }

    /// One of the client's own places that is not in limbo, if there is one among those tried.
    fn some_place(&mut self) -> Option<Place> {
        for _ in 0..4 {
            let tree: Arc<str> = match self.chance.below(5) {
                0 | 1 => SHARED[0].into(),
                2 | 3 => SHARED[1].into(),
                _ => match self.own_tree() {
                    Some(name) => name,
                    None => continue,
                },
            };
            let key = own_key(self.number, self.chance.below(KEYS));
            let place = Place { tree, key };
            if !self.journal().in_limbo(&place) {
                return Some(place);
            }
        }
        None
    }

    /// The name of the client's own tree, if it is there and nothing about it is in limbo.
    fn own_tree(&self) -> Option<Arc<str>> {
        let journal = self.journal();
        let name = (0..=1).map(|generation| own_tree(self.number, generation)).find(|name| {
            let place = Place { tree: "".into(), key: name.clone().into_bytes() };
            journal.now().contains_key(&place) && !journal.in_limbo(&place)
        });
        name.map(Arc::from)
    }

    /// A value that nobody made before.
    fn value(&mut self, len: usize) -> Bytes {
        self.made += 1;
        let mut words = Chance::new((self.number as u64) << 40 | self.made);
        let bytes = (0..len.div_ceil(8)).flat_map(|_| words.number().to_le_bytes()).take(len);
        bytes.collect()
    }

    /// A value that fits into a page beside its key.
    fn small_value(&mut self, key: &[u8]) -> Bytes {
        let room = 170_usize.saturating_sub(key.len());
        let len = match self.chance.below(8) {
            0 => 0,
            1 => room,
            2 | 3 => self.chance.below(room + 1),
            _ => self.chance.below(24),
        };
        self.value(len)
    }

    fn durability(&mut self) -> Durability {
        *self.chance.pick(&[
            Durability::Durable,
            Durability::Durable,
            Durability::Buffered,
            Durability::None,
        ])
    }

    /// Awaits a future, or gives it up. `None` if it was given up.
    async fn drive<T: Send + 'static>(&mut self, mut future: BoxFuture<'static, T>) -> Option<T> {
        if !self.chance.percent(self.habits.drops) {
            return Some(future.await);
        }
        let mut left = 1 + self.chance.below(6);
        let output = poll_fn(|cx| match future.poll_unpin(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                left -= 1;
                if left == 0 {
                    return Poll::Ready(None);
                }
                // It is to be polled again, whether it was woken or not.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        });
        let output = output.await;
        if output.is_none() {
            if self.chance.one_in(2) {
                self.world.count("futures dropped");
            } else {
                self.world.count("futures forgotten");
                self.forgotten.push(future.map(drop).boxed());
            }
        }
        output
    }

    /// Whether an error of a read is one that the disk has to answer for.
    fn excuse(&self, error: &Error) -> Done {
        if is_end(error) {
            return Err(Gone);
        }
        match error.kind() {
            ErrorKind::Io => self.world.count("reads failed"),
            ErrorKind::Damaged if self.habits.lies => self.world.count("damage reported"),
            _ => self.wrong(&format!("{error:?}")),
        }
        Ok(())
    }

    /// Whether an error of a write is one that the disk has to answer for.
    fn excuse_write(&self, error: &Error) -> Done {
        if error.kind() == ErrorKind::Full {
            self.world.count("the disk was full");
            return Ok(());
        }
        self.excuse(error)
    }

    fn wrong(&self, what: &str) -> ! {
        panic!("client {}: {what}", self.number)
    }

    /// Compares what is at a place with what the client knows.
    fn see(&self, place: &Place, found: Option<&[u8]>) {
        self.see_all(&[(place.clone(), found)]);
    }

    /// Compares what one look has found with what the client knows.
    fn see_all(&self, look: &[(Place, Option<&[u8]>)]) {
        let seen = self.journal().see(look);
        if let Err(why) = seen {
            self.wrong(&why);
        }
    }
}
