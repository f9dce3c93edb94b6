//! Operations on a database, beside a model: writes, batches, loads, reads, walks with writes between their
//! steps, many at once, checkpoints, compacting, backups, closing and opening with other options, crashes at
//! any I/O and in recoveries, I/Os that fail, a full disk, futures that are dropped or left alone after so
//! many polls.
//!
//! Every byte sequence is a program. Whatever it is, reads give what the model has; a crash gives
//! back a state between the last durable commit and the last commit, and a change that was in the
//! middle of it wholly or not at all; and in the end the database checks.
//!
//! The number of a step must not change its meaning, or the kept corpus becomes noise.

mod crowd;
mod history;
mod reads;
mod trees;
mod upkeep;
mod walks;
mod writes;

use std::future::Future;

use treering::{Database, Durability, Error, ErrorKind, Options, Tree};
use treering_pagefile::sim::{Sim, SimImage, Stalled};

use self::history::{Change, History, State, TREES};
use self::upkeep::Flight;
use self::walks::{Standing, Walk};
use crate::base::{open, options, scan};
use crate::input::Input;
use crate::machine::machine_by_seed;

/// Steps of a program, at most.
const STEPS: usize = 120;

/// All trees: two that are always there, two that come and go, and one with duplicates.
const NAMES: [&str; 5] = ["one", "two", "three", "four", "many"];
/// The number of the tree with duplicates.
const MANY: u8 = 4;

/// Runs the program that the data is.
pub fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    let mut run = Run::new();
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
    options: Options,
    up: Option<Up>,
    history: History,
    /// Background work that nobody waits for yet.
    flying: Vec<Flight>,
    /// I/Os fail, or the machine stops at one.
    faulty: bool,
    /// The disk has, or had in this life, a limit.
    full: bool,
    lives: u64,
    /// Of the machines' chance.
    seed: u64,
    /// Numbers the duplicates and the copies.
    counter: u32,
}

/// The database while it is open.
struct Up {
    database: Database,
    trees: [Tree; 2],
    walk: Option<Walk>,
    standing: [Option<Standing>; 2],
}

/// How an operation ended.
enum End<T> {
    Done(Result<T, Error>),
    /// The machine is dead.
    Died,
}

impl Run {
    fn new() -> Self {
        Self {
            sim: machine_by_seed(&SimImage::default(), 1),
            options: options(),
            up: None,
            history: History::new(State::default()),
            flying: Vec::new(),
            faulty: false,
            full: false,
            lives: 0,
            seed: 1,
            counter: 0,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 48 {
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
            22 | 23 => self.put_large(input),
            24..=27 => self.crowd(input),
            28 => self.take_off(input),
            29 => self.land(),
            30 => self.crash_twice(input),
            31 => self.fault_of_a_kind(input),
            32 => self.disturb(input),
            33 => self.reopen_otherwise(input),
            34 => self.make_or_drop(input),
            35 => self.rename(),
            36 => self.load(input),
            37 => self.insert_duplicate(input),
            38 => self.delete_duplicates(input),
            39 => self.put_stream(input),
            40 => self.read_parts(input),
            41 => self.big_batch(input),
            42 => self.read_many(input),
            43 => self.back_up(),
            44 => self.sleep(input),
            45 => self.begin_walk(input),
            46 => self.go_on_walking(),
            _ => self.move_cursor(input),
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

    /// The tree with this number, if it is there.
    fn tree(&self, number: u8) -> Option<Tree> {
        let up = self.up();
        match up.trees.get(usize::from(number)) {
            Some(tree) => Some(tree.clone()),
            None => up.database.raw_tree(NAMES[usize::from(number)]).ok().flatten(),
        }
    }

    /// Opens the database, whatever it takes, and looks what is there.
    fn start(&mut self) {
        loop {
            self.lives += 1;
            let opened = self.run(async {
                let database = open(&self.sim, self.options.clone(), self.lives).await?;
                let trees = [database.tree(NAMES[0]).await?, database.tree(NAMES[1]).await?];
                let state = contents(&database).await?;
                Ok((Up { database, trees, walk: None, standing: [None, None] }, state))
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
        let disk = self.sim.disk();
        disk.clear_faults();
        disk.set_capacity(u64::MAX);
        self.boot(&disk.image_by_seed(seed));
        (self.faulty, self.full) = (false, false);
    }

    /// The machine ends, and another begins with this on its disk.
    fn boot(&mut self, image: &SimImage) {
        self.up = None;
        self.flying.clear();
        self.sim.disk().power_off();
        self.sim = machine_by_seed(image, self.seed);
    }

    fn crash(&mut self, seed: u64) {
        self.restart(seed);
        self.start();
    }

    /// A change has ended.
    fn changed<T>(&mut self, end: End<T>, change: Change, durable: bool) {
        match end {
            End::Done(Ok(_)) => self.history.changed(&change, durable),
            End::Done(Err(error)) if error.kind() == ErrorKind::Full && !self.faulty => {
                assert!(self.full, "there is room: {error}");
                self.same();
            }
            End::Done(Err(error)) => {
                assert!(self.faulty, "nothing fails: {error}");
                self.history.uncertain(change);
                self.after_trouble(&error, 0);
            }
            End::Died => {
                assert!(self.faulty, "the machine died by itself");
                self.history.uncertain(change);
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
                    self.after_trouble(&error, 1);
                }
            }
            End::Died => self.crash(2),
        }
        None
    }

    /// An engine that stopped stays so, until the power fails; any other goes on.
    fn after_trouble(&mut self, error: &Error, seed: u64) {
        if error.kind() != ErrorKind::Poisoned {
            return self.look_again(seed);
        }
        let write = self.up().trees[0].put("poisoned", "").into_future();
        let read = self.up().trees[0].contains("poisoned");
        let end = self.run(async { Ok((write.await, read.await)) });
        if let End::Done(Ok((written, read))) = end {
            let kinds = [written.err(), read.err()].map(|error| error.map(|error| error.kind()));
            let poisoned = Some(ErrorKind::Poisoned);
            assert!(kinds == [poisoned, poisoned], "the engine has stopped: {kinds:?}");
        }
        self.crash(seed);
    }

    /// What was uncertain comes to rest, and then it is there or not.
    fn look_again(&mut self, seed: u64) {
        match self.sim.settle() {
            Ok(()) if !self.sim.disk().is_dead() => {}
            Ok(()) | Err(Stalled::Dead(_)) => return self.crash(seed + 4),
            Err(stalled) => panic!("the engine never rests: {stalled}"),
        }
        match self.run(contents(&self.up().database)) {
            End::Done(Ok(state)) => self.history.settled(state),
            End::Done(Err(error)) => {
                assert!(self.faulty, "nothing fails: {error}");
                self.crash(seed + 5);
            }
            End::Died => self.crash(seed + 6),
        }
    }

    /// The database has what the model has.
    fn same(&mut self) {
        let end = self.run(contents(&self.up().database));
        let before = self.lives;
        if let Some(state) = self.ended(end) {
            assert!(self.lives != before || self.history.now() == &state, "they differ");
        }
    }

    /// Nothing fails any more.
    fn recover_from_everything(&mut self) {
        if self.faulty {
            self.crash(8);
        }
        self.sim.disk().set_capacity(u64::MAX);
        self.land();
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

/// Everything that is in a database.
async fn contents(database: &Database) -> Result<State, Error> {
    let mut state = State::default();
    for name in database.tree_names() {
        let number = NAMES.iter().position(|known| *known == name);
        let number = number.unwrap_or_else(|| panic!("nobody made a tree {name:?}")) as u8;
        if number >= 2 {
            state.insert((TREES, vec![number]), Vec::new());
        }
        let Some(tree) = database.raw_tree(&name)? else { continue };
        let mut pairs = Vec::new();
        scan(&tree, &mut pairs).await?;
        assert!(pairs.is_sorted_by(|(one, _), (next, _)| one < next), "{name} is not in order");
        state.extend(pairs.into_iter().map(|(key, value)| match number {
            MANY => ((MANY, trees::duplicate(&key, &value)), Vec::new()),
            _ => ((number, key), value),
        }));
    }
    Ok(state)
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
