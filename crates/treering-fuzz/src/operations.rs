//! Operations on a database, beside a model: writes, batches, reads, checkpoints, closing and opening,
//! crashes at any I/O, I/Os that fail, a full disk, futures that are dropped after so many polls.
//!
//! Every byte sequence is a program. Whatever it is, reads give what the model has; a crash gives
//! back a state between the last durable commit and the last commit, and a change that was in the
//! middle of it wholly or not at all; and in the end the database checks.

use std::future::{Future, IntoFuture};
use std::ops::Bound;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use treering::{Database, Durability, Error, ErrorKind, Tree};
use treering_pagefile::sim::{FailMode, Sim, SimImage, Stalled};

use crate::base::{open, options, scan};
use crate::history::{History, State};
use crate::input::Input;
use crate::machine::machine;

/// Steps of a program, at most.
const STEPS: usize = 120;

const NAMES: [&str; 2] = ["one", "two"];

/// Runs the program that the data is.
pub fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    let image = SimImage::default();
    let history = History::new(State::default());
    let mut run =
        Run { sim: machine(&image), up: None, history, faulty: false, full: false, lives: 0 };
    run.start();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    run.recover_from_everything();
    run.end();
}

/// A machine and the database on it.
struct Run {
    sim: Sim,
    up: Option<Up>,
    history: History,
    /// I/Os fail, or the machine stops at one.
    faulty: bool,
    /// The disk has a limit.
    full: bool,
    lives: u64,
}

/// The database while it is open.
struct Up {
    database: Database,
    trees: [Tree; 2],
}

/// How an operation ended.
enum End<T> {
    Done(Result<T, Error>),
    /// The machine is dead.
    Died,
}

impl Run {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 24 {
            0..=6 => self.put(input),
            7 | 8 => self.delete(input),
            9 | 10 => self.batch(input),
            11 => self.condition(input),
            12 => self.delete_range(input),
            13 | 14 => self.read(input),
            15 => self.scan(input),
            16 => self.background(input),
            17 => self.crash(u64::from(input.byte())),
            18 => self.reopen(),
            19 => self.fault(input),
            20 => self.limit(input),
            21 => self.give_up(input),
            _ => self.put_large(input),
        }
    }

    /// Runs something to its end, or to that of the machine.
    fn run<T>(&self, future: impl Future<Output = Result<T, Error>>) -> End<T> {
        match self.sim.run(future) {
            Ok(result) => End::Done(result),
            Err(Stalled::Dead(_)) => End::Died,
            Err(stalled) => panic!("it never ends: {stalled}"),
        }
    }

    fn up(&self) -> &Up {
        self.up.as_ref().unwrap_or_else(|| panic!("the database is up between steps"))
    }

    /// Opens the database, whatever it takes, and looks what is there.
    fn start(&mut self) {
        loop {
            self.lives += 1;
            let opened = self.run(async {
                let database = open(&self.sim, options(), self.lives).await?;
                let trees = [database.tree(NAMES[0]).await?, database.tree(NAMES[1]).await?];
                let up = Up { database, trees };
                let state = up.state().await?;
                Ok((up, state))
            });
            match opened {
                End::Done(Ok((up, state))) => {
                    self.up = Some(up);
                    return self.history.recovered(state);
                }
                End::Done(Err(error)) => {
                    assert!(self.faulty || self.full, "a sound database opens: {error}");
                }
                End::Died => {}
            }
            self.restart(self.lives);
        }
    }

    /// The power fails, and comes back without faults and limits.
    fn restart(&mut self, seed: u64) {
        self.up = None;
        let disk = self.sim.disk();
        disk.clear_faults();
        disk.set_capacity(u64::MAX);
        let image = disk.crash(seed);
        self.sim = machine(&image);
        (self.faulty, self.full) = (false, false);
    }

    fn crash(&mut self, seed: u64) {
        self.restart(seed);
        self.start();
    }

    /// A change that leads to `after` has ended.
    fn changed<T>(&mut self, end: End<T>, after: State, durable: bool) {
        match end {
            End::Done(Ok(_)) => self.history.changed(after, durable),
            End::Done(Err(error)) if error.kind() == ErrorKind::Full && !self.faulty => {
                assert!(self.full, "there is room: {error}");
                self.same();
            }
            End::Done(Err(error)) => {
                assert!(self.faulty, "nothing fails: {error}");
                self.history.uncertain(after);
                self.crash(0);
            }
            End::Died => {
                assert!(self.faulty, "the machine died by itself");
                self.history.uncertain(after);
                self.crash(7);
            }
        }
    }

    /// Something that changes nothing has ended.
    fn ended<T>(&mut self, end: End<T>) -> Option<T> {
        match end {
            End::Done(Ok(value)) => return Some(value),
            End::Done(Err(error)) => {
                let full = self.full && error.kind() == ErrorKind::Full;
                assert!(self.faulty || full, "nothing fails: {error}");
                if !full {
                    self.crash(1);
                }
            }
            End::Died => self.crash(2),
        }
        None
    }

    /// The database has what the model has.
    fn same(&mut self) {
        let end = self.run(self.up().state());
        let before = self.lives;
        if let Some(state) = self.ended(end) {
            assert!(self.lives != before || self.history.now() == &state, "they differ");
        }
    }

    fn put(&mut self, input: &mut Input<'_>) {
        let (tree, key) = (input.below(2), key(input));
        let value = vec![input.byte(); input.below(50)];
        self.put_this(tree, key, value, durability(input));
    }

    fn put_large(&mut self, input: &mut Input<'_>) {
        let (tree, key) = (input.below(2), key(input));
        let value = vec![input.byte(); 200 + usize::from(input.u16() % 6000)];
        self.put_this(tree, key, value, durability(input));
    }

    fn put_this(&mut self, tree: usize, key: Vec<u8>, value: Vec<u8>, durability: Durability) {
        let mut after = self.history.now().clone();
        let write = self.up().trees[tree].put(&key, &value).durability(durability);
        let end = self.run(write.into_future());
        after[tree].insert(key, value);
        self.changed(end, after, durability == Durability::Durable);
    }

    fn delete(&mut self, input: &mut Input<'_>) {
        let (tree, key, durability) = (input.below(2), key(input), durability(input));
        let mut after = self.history.now().clone();
        let there = after[tree].remove(&key).is_some();
        let end = self.run(self.up().trees[tree].delete(&key).durability(durability).into_future());
        if let End::Done(Ok(found)) = end {
            assert_eq!(found, there, "a delete says whether the key was there");
        }
        // Deleting what is not there writes nothing that something could wait for.
        self.changed(end, after, there && durability == Durability::Durable);
    }

    fn batch(&mut self, input: &mut Input<'_>) {
        let durability = durability(input);
        let mut after = self.history.now().clone();
        let up = self.up();
        let mut batch = up.database.batch();
        for _ in 0..1 + input.below(40) {
            let (tree, key) = (input.below(2), key(input));
            if after[tree].contains_key(&key) && input.byte().is_multiple_of(4) {
                batch.delete(&up.trees[tree], &key);
                after[tree].remove(&key);
            } else {
                let value = vec![input.byte(); input.below(30)];
                batch.put(&up.trees[tree], &key, &value);
                after[tree].insert(key, value);
            }
        }
        let end = self.run(batch.commit().durability(durability).into_future());
        self.changed(end, after, durability == Durability::Durable);
    }

    /// An insert or an update, which happens if its condition holds.
    fn condition(&mut self, input: &mut Input<'_>) {
        let (tree, key, insert) = (input.below(2), key(input), input.flag());
        let mut after = self.history.now().clone();
        let there = after[tree].insert(key.clone(), b"conditional".to_vec()).is_some();
        let handle = &self.up().trees[tree];
        let write = match insert {
            true => handle.insert(&key, "conditional"),
            false => handle.update(&key, "conditional"),
        };
        let end = self.run(write.into_future());
        let violated = if insert { ErrorKind::KeyExists } else { ErrorKind::KeyMissing };
        match end {
            End::Done(Err(error)) if error.kind() == violated => {
                assert_eq!(there, insert, "a condition that holds: {error}");
            }
            end => {
                assert!(there != insert || !matches!(end, End::Done(Ok(_))), "it does not hold");
                self.changed(end, after, true);
            }
        }
    }

    fn delete_range(&mut self, input: &mut Input<'_>) {
        let tree = input.below(2);
        let (from, to) = (key(input), key(input));
        let mut after = self.history.now().clone();
        after[tree].retain(|key, _| *key < from || *key >= to);
        let end = self.run(self.up().trees[tree].delete_range(from..to));
        // What it waits for is its own affair: nothing here relies on it.
        self.changed(end, after, false);
    }

    fn read(&mut self, input: &mut Input<'_>) {
        let (tree, key) = (input.below(2), key(input));
        let expected = self.history.now()[tree].get(&key).cloned();
        let end = self.run(self.up().trees[tree].get(&key).into_future());
        if let Some(found) = self.ended(end) {
            assert_eq!(found.as_deref(), expected.as_deref(), "a read");
        }
    }

    fn scan(&mut self, input: &mut Input<'_>) {
        let (tree, from, backward) = (input.below(2), key(input), input.flag());
        let bounds = (Bound::Included(from.clone()), Bound::<Vec<u8>>::Unbounded);
        let part = self.history.now()[tree].range((Bound::Included(from), Bound::Unbounded));
        let mut expected: Vec<_> = part.map(|(key, value)| (key.clone(), value.clone())).collect();
        if backward {
            expected.reverse();
        }
        let range = self.up().trees[tree].range(bounds);
        let mut range = if backward { range.rev() } else { range };
        let end = self.run(async {
            let mut pairs = Vec::new();
            while let Some(chunk) = range.next_chunk().await? {
                pairs.extend(chunk.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
            }
            Ok(pairs)
        });
        if let Some(pairs) = self.ended(end) {
            assert!(pairs == expected, "a scan");
        }
    }

    fn background(&mut self, input: &mut Input<'_>) {
        let database = self.up().database.clone();
        let (end, durable) = match input.byte() % 5 {
            0 => (self.run(database.checkpoint()), true),
            1 => (self.run(database.sync()), true),
            2 => (self.run(async { database.compact().await.map(|_| ()) }), false),
            3 => (self.run(database.tidy()), false),
            _ => {
                let verified = async {
                    let report = database.verify().await?;
                    assert!(report.problems.is_empty(), "{:#?}", report.problems);
                    Ok(())
                };
                (self.run(verified), true)
            }
        };
        drop(database);
        if self.ended(end).is_some() && durable {
            self.history.all_durable();
        }
    }

    fn reopen(&mut self) {
        let up = self.up.take();
        let closed = self.run(async {
            match &up {
                Some(up) => up.database.close().await,
                None => Ok(()),
            }
        });
        drop(up);
        match closed {
            End::Done(Ok(())) => self.history.all_durable(),
            End::Done(Err(error)) => {
                let full = self.full && error.kind() == ErrorKind::Full;
                assert!(self.faulty || full, "nothing fails: {error}");
            }
            End::Died => {}
        }
        self.crash(3);
    }

    /// Soon an I/O fails, or all from it on, or the machine stops there.
    fn fault(&mut self, input: &mut Input<'_>) {
        let disk = self.sim.disk();
        let at = disk.io_count() + u64::from(input.byte() % 64);
        match input.byte() % 4 {
            0 => disk.stop_at(at),
            1 => disk.fail_at(at, 5, FailMode::FromThenOn),
            2 => disk.fail_at(at, 28, FailMode::Once),
            _ => disk.fail_at(at, 5, FailMode::Once),
        }
        self.faulty = true;
    }

    /// The disk has so much room left, or as much as anybody wants.
    fn limit(&mut self, input: &mut Input<'_>) {
        let disk = self.sim.disk();
        self.full = input.flag();
        let room = if self.full { disk.space_used() + u64::from(input.u16()) } else { u64::MAX };
        disk.set_capacity(room);
    }

    /// A write is polled a few times and then dropped.
    fn give_up(&mut self, input: &mut Input<'_>) {
        let (tree, key, polls) = (input.below(2), key(input), input.byte() % 6);
        let value = vec![input.byte(); if input.flag() { 30 } else { 2000 }];
        let mut after = self.history.now().clone();
        let write = self.up().trees[tree].put(&key, &value).into_future();
        let end = self.run(async { Ok(Polled { future: write, left: polls }.await) });
        after[tree].insert(key, value);
        match end {
            End::Done(Ok(Some(result))) => self.changed(End::Done(result), after, true),
            End::Done(Ok(None)) => {
                self.history.uncertain(after);
                match self.sim.settle() {
                    Ok(()) if !self.sim.disk().is_dead() => {}
                    Ok(()) | Err(Stalled::Dead(_)) => return self.crash(4),
                    Err(stalled) => panic!("the engine never rests: {stalled}"),
                }
                match self.run(self.up().state()) {
                    End::Done(Ok(state)) => self.history.settled(state),
                    End::Done(Err(error)) => {
                        assert!(self.faulty, "nothing fails: {error}");
                        self.crash(5);
                    }
                    End::Died => self.crash(6),
                }
            }
            End::Done(Err(error)) => unreachable!("only a write can fail: {error}"),
            End::Died => self.changed(End::<()>::Died, after, true),
        }
    }

    /// Nothing fails any more.
    fn recover_from_everything(&mut self) {
        if self.faulty {
            self.crash(8);
        }
        self.sim.disk().set_capacity(u64::MAX);
        self.full = false;
    }

    /// The database is what the model is, checks, closes, and is the same when it opens again.
    fn end(&mut self) {
        self.same();
        let database = self.up().database.clone();
        let end = self.run(async {
            let report = database.verify().await?;
            assert!(report.problems.is_empty(), "{:#?}", report.problems);
            Ok(())
        });
        drop(database);
        self.ended(end);
        self.reopen();
    }
}

impl Up {
    async fn state(&self) -> Result<State, Error> {
        let mut state = State::default();
        for (tree, map) in self.trees.iter().zip(&mut state) {
            let mut pairs = Vec::new();
            scan(tree, &mut pairs).await?;
            map.extend(pairs);
        }
        Ok(state)
    }
}

/// Few keys, so that they meet again; some long ones, which split pages of any level.
fn key(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() {
        number @ 0..=79 => format!("{number:02}").into_bytes(),
        number @ 80..=199 => {
            let mut key = vec![b'p'; 90];
            key.push(number);
            key
        }
        number => vec![number; usize::from(number) - 200],
    }
}

fn durability(input: &mut Input<'_>) -> Durability {
    match input.byte() % 4 {
        0 => Durability::Buffered,
        1 => Durability::None,
        _ => Durability::Durable,
    }
}

/// A future that is polled so many times at most; `None` if that was not enough.
struct Polled<F> {
    future: F,
    left: u8,
}

impl<F: Future + Unpin> Future for Polled<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match pin!(&mut self.future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // Nobody may ever wake it again: that was its last poll.
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}
