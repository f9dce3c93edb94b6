//! One execution: a small database in a tiny pool, some users, and what must hold in the end.
//!
//! Everything that is drawn here is drawn from the execution's seed, as all choices of the scheduler
//! are, so the seed is all that it takes to have it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use shuttle::thread::JoinHandle;
use treering::{Database, Durability, Options, Tree};

use crate::history::{History, value_of};
use crate::machine::{Machine, thread};
use crate::schedule::quietly;
use crate::users::{self, Photo, Town, Writer, is_counter, key_of, wait};

/// Bytes a page: the fewest there can be.
const PAGE: usize = 512;
/// The owner of keys that are there all along.
const ANCHOR: usize = 9;

/// What an execution is like.
#[derive(Clone, Copy, Debug)]
struct Scale {
    frames: usize,
    writers: usize,
    readers: usize,
    rounds: usize,
    /// Keys of each writer.
    keys: usize,
    value_max: usize,
    /// Keys of a batch.
    batch_max: usize,
    /// Which of the keys that are there all along are: each that this divides.
    anchor_each: usize,
    /// All that anybody does is batches, in the same place.
    crowded: bool,
    photo: bool,
}

impl Scale {
    fn draw(rng: &mut SmallRng) -> Self {
        if rng.random_ratio(1, 4) {
            return Self::crowded(rng);
        }
        Self {
            frames: [16, 16, 20, 64][rng.random_range(0..4)],
            writers: rng.random_range(2..=4),
            readers: rng.random_range(0..=2),
            rounds: rng.random_range(8..=40),
            keys: [12, 30, 60][rng.random_range(0..3)],
            value_max: [10, 60, 120][rng.random_range(0..3)],
            batch_max: [2, 2, 4, 8][rng.random_range(0..4)],
            anchor_each: [2, 2, 8][rng.random_range(0..3)],
            crowded: false,
            photo: rng.random(),
        }
    }

    /// What the story in `treering/tests/it/latch_order.rs` needs: a batch that has found its leaves,
    /// one that splits them three ways, and a third that comes between.
    fn crowded(rng: &mut SmallRng) -> Self {
        let rounds = rng.random_range(4..=12);
        Self {
            frames: 64,
            writers: rng.random_range(3..=5),
            readers: 0,
            rounds,
            keys: 3 * rounds + 6,
            value_max: [40, 120][rng.random_range(0..2)],
            batch_max: rng.random_range(4..=8),
            anchor_each: 6,
            crowded: true,
            photo: false,
        }
    }
}

fn options(frames: usize) -> Options {
    Options::new()
        .page_size(PAGE)
        .cache_size((frames * PAGE) as u64)
        .log_buffer(8 << 10)
        .log_size(64 << 10)
}

/// Runs to the end.
///
/// # Panics
/// If anything is not as it must be; the scheduler panics if everybody waits for ever.
pub(crate) fn run(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(!seed);
    let scale = Scale::draw(&mut rng);
    let machine = Machine::start(rng.random(), None);
    let town = quietly(|| set_up(&machine, scale, &mut rng));
    let (counted, photo) = live(&machine, &town, scale, &mut rng);
    quietly(|| {
        let (at_least, at_most) = (town.history.since(), town.history.durable_now().1);
        check(&town.db, &town.tree, &town.history, &(at_least, at_most), "in the end");
        assert_eq!(users::counter(&town), counted, "what was counted");
        assert_eq!(town.db.stats().pool.pinned, 0, "nobody has a page pinned in the end");
        close(&town.db, machine);
        if let Some(photo) = photo {
            look_at(photo, scale.frames, rng.random(), &town.history);
        }
    });
}

/// A database with some of everybody's keys.
fn set_up(machine: &Machine, scale: Scale, rng: &mut SmallRng) -> Town {
    let options = options(scale.frames);
    let (disk, runtime) = (Arc::clone(&machine.disk) as _, Arc::clone(&machine.runtime) as _);
    let db = wait(options.open_on(disk, runtime, rng.random()))
        .unwrap_or_else(|error| panic!("opening: {error}"));
    let tree = wait(db.tree("t")).unwrap_or_else(|error| panic!("making a tree: {error}"));
    let history = History::default();
    let put = |key: Vec<u8>, len: usize| {
        let change = history.begin(&[(key.clone(), Some(len))]);
        let value = value_of(&key, change, len);
        wait(tree.put(&key, value).durability(Durability::None))
            .unwrap_or_else(|error| panic!("putting: {error}"));
        history.done(change);
    };
    for number in 0..scale.keys {
        for owner in (0..scale.writers).chain([ANCHOR]) {
            history.add_key(&key_of(owner, number));
        }
        if number % scale.anchor_each == 0 {
            put(key_of(ANCHOR, number), rng.random_range(0..=scale.value_max));
        }
    }
    let Scale { value_max, batch_max, crowded, rounds, .. } = scale;
    Town { db, tree, history, value_max, batch_max, crowded, rounds }
}

/// All users at the same time. Returns how often they counted, and what was photographed.
fn live(machine: &Machine, town: &Town, scale: Scale, rng: &mut SmallRng) -> (u64, Option<Photo>) {
    let mut writers = Vec::new();
    for owner in 0..scale.writers {
        let writer = Writer::new(town.clone(), owner, scale.keys, rng.random());
        writers.push(thread("writer", move || writer.run()));
    }
    let mut others = Vec::new();
    for _ in 0..scale.readers {
        let (town, seed) = (town.clone(), rng.random());
        others.push(thread("reader", move || users::read(&town, scale.keys, seed)));
    }
    if !scale.crowded {
        let (town, seed) = (town.clone(), rng.random());
        others.push(thread("keeper of the house", move || users::keep_house(&town, seed)));
    }
    let photo = scale.photo.then(|| {
        let (town, disk, seed) = (town.clone(), Arc::clone(&machine.disk), rng.random());
        thread("photographer", move || users::photograph(&town, &disk, seed))
    });
    fn ended<T>(thread: JoinHandle<T>) -> T {
        thread.join().unwrap_or_else(|_| panic!("a user panicked"))
    }
    let counted = writers.into_iter().map(ended).sum();
    others.into_iter().for_each(ended);
    (counted, photo.map(ended))
}

/// What a tree has is what it must have, and verify finds nothing wrong.
fn check(
    db: &Database,
    tree: &Tree,
    history: &History,
    (at_least, at_most): &(crate::history::Since, crate::history::Since),
    who: &str,
) {
    let pairs: Vec<_> = wait(tree.range(..).try_collect())
        .unwrap_or_else(|error| panic!("{who}: scanning: {error}"));
    let pairs = pairs.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
    let found: BTreeMap<_, _> = pairs.filter(|(key, _)| !is_counter(key)).collect();
    history.check_all(&found, at_least, at_most, who);
    let report = wait(db.verify()).unwrap_or_else(|error| panic!("{who}: verify: {error}"));
    assert!(report.problems.is_empty(), "{who}: {:#?}", report.problems);
}

fn close(db: &Database, machine: Machine) {
    wait(db.close()).unwrap_or_else(|error| panic!("closing: {error}"));
    machine.stop();
}

/// A crash at the moment of the photo leaves what was acknowledged as durable.
fn look_at(photo: Photo, frames: usize, seed: u64, history: &History) {
    let machine = Machine::start(seed, Some(&photo.image));
    let (disk, runtime) = (Arc::clone(&machine.disk) as _, Arc::clone(&machine.runtime) as _);
    let db = wait(options(frames).open_on(disk, runtime, !seed))
        .unwrap_or_else(|error| panic!("opening after a crash: {error}"));
    let tree = wait(db.tree("t")).unwrap_or_else(|error| panic!("after a crash: {error}"));
    check(&db, &tree, history, &(photo.durable, photo.begun), "after a crash");
    drop(tree);
    close(&db, machine);
}
