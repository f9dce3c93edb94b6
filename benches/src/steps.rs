//! The smallest steps of the engine, each to be repeated as often as somebody wants: for criterion, which
//! measures their time, and for callgrind, which counts their instructions.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use treering::{Database, Durability, Io, Key, Options, Tree};
use treering_blink::{Gap, Image, Page, PageSpec, Policy, Words, build, partition};
use treering_latch::{Mode, PageLatch, PhaseFair, Ticket};

use crate::data::{self, mix};
use crate::raw::Failure;

/// A step and how it is repeated.
pub struct Step {
    /// What it does.
    pub name: &'static str,
    run: Box<dyn FnMut(u64)>,
}

impl Step {
    fn new(name: &'static str, mut once: impl FnMut(u64) + 'static) -> Self {
        Self { name, run: Box::new(move |times| (0..times).for_each(&mut once)) }
    }

    /// Does it so many times. `ci/instructions` knows it by its name.
    #[inline(never)]
    pub fn run(&mut self, times: u64) {
        (self.run)(times);
    }
}

const PAGE_SIZE: usize = 4096;
/// Pairs of the database.
const PAIRS: u64 = 10_000;

/// Steps that need no database.
pub fn without_database() -> Vec<Step> {
    let mut steps = latches();
    steps.extend(pages());
    steps.extend(keys());
    steps
}

fn latches() -> Vec<Step> {
    let (shared, exclusive, optimistic) = (PhaseFair::new(), PhaseFair::new(), PhaseFair::new());
    let (ticket, page) = (Ticket::new(), PageLatch::new());
    vec![
        Step::new("latch: shared, and let go", move |_| drop(black_box(shared.read()))),
        Step::new("latch: exclusive, and let go", move |_| drop(black_box(exclusive.write()))),
        Step::new("latch: optimistic, and validated", move |_| {
            let version = optimistic.optimistic();
            black_box(version.is_some_and(|version| optimistic.validate(version)));
        }),
        Step::new("latch: ticket, and let go", move |_| drop(black_box(ticket.enter()))),
        Step::new("latch: page latch to write, and let go", move |_| {
            drop(black_box(page.enter(Mode::Write)));
        }),
    ]
}

/// The numbers of the pairs of a leaf, in the order of their keys.
fn sorted_numbers(key: fn(u64) -> Vec<u8>, len: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..len).collect();
    numbers.sort_by_key(|&number| key(number));
    numbers
}

fn small_key(number: u64) -> Vec<u8> {
    mix(number + 1).to_be_bytes().to_vec()
}

fn large_key(number: u64) -> Vec<u8> {
    data::key(number).to_vec()
}

/// A leaf with as many pairs as it takes, and their numbers in the order of keys.
fn full_leaf(key: fn(u64) -> Vec<u8>, value_len: usize) -> (Image, Vec<u64>) {
    let value = vec![7; value_len];
    let leaf = |len: u64| {
        let numbers = sorted_numbers(key, len);
        let keys: Vec<Vec<u8>> = numbers.iter().map(|&number| key(number)).collect();
        let entries: Vec<(&[u8], &[u8])> =
            keys.iter().map(|key| (key.as_slice(), value.as_slice())).collect();
        Some((build(&spec(), &entries)?, numbers))
    };
    let mut full = leaf(0).expect("a page without entries");
    for len in 1.. {
        match leaf(len) {
            Some(more) => full = more,
            None => break,
        }
    }
    full
}

fn spec() -> PageSpec<'static> {
    PageSpec { page_size: PAGE_SIZE, tree: 1, level: 0, low: b"", high: None, gap: Gap::NONE }
}

fn search(name: &'static str, key: fn(u64) -> Vec<u8>, (leaf, numbers): (Image, Vec<u64>)) -> Step {
    let keys: Vec<Vec<u8>> = numbers.iter().map(|&number| key(number)).collect();
    Step::new(name, move |turn| {
        let page = leaf.page();
        let key = &keys[(mix(turn) % keys.len() as u64) as usize];
        assert!(black_box(page.find(black_box(key))).is_ok());
    })
}

fn pages() -> Vec<Step> {
    let value = [7; 150];
    let (mut leaf, numbers) = full_leaf(large_key, value.len());
    let out = large_key(numbers[numbers.len() / 2]);
    // Room for one, again and again.
    let slot = leaf.page().find(&out).expect("a key of the page");
    leaf.edit().remove(slot);
    let insert = Step::new("page: insert a pair of 24 + 150, and remove it", move |_| {
        let page = leaf.edit();
        let slot = page.find(&out).expect_err("it was removed");
        assert!(page.insert_or_compact(slot, &out, &value));
        page.remove(slot);
    });
    let (small, large) = (full_leaf(small_key, 8), full_leaf(large_key, 150));
    let splits: Vec<Step> = [
        ("page: split a leaf of 8 + 8", small_key as fn(u64) -> Vec<u8>, &small),
        ("page: split a leaf of 24 + 150", large_key, &large),
    ]
    .into_iter()
    .map(|(name, key, (leaf, numbers))| split(name, key, leaf, numbers.len() as u64))
    .collect();
    let mut steps = vec![
        search("page: search a full leaf of 8 + 8", small_key, small),
        search("page: search a full leaf of 24 + 150", large_key, large),
        insert,
    ];
    steps.extend(splits);
    steps
}

/// What does not fit into a leaf becomes two.
fn split(name: &'static str, key: fn(u64) -> Vec<u8>, leaf: &Image, len: u64) -> Step {
    let value_len = value_len(&leaf.page());
    let keys: Vec<Vec<u8>> = sorted_numbers(key, len + 1).into_iter().map(key).collect();
    let value = vec![7; value_len];
    Step::new(name, move |_| {
        let entries: Vec<(&[u8], &[u8])> =
            keys.iter().map(|key| (key.as_slice(), value.as_slice())).collect();
        let parts = partition(&spec(), black_box(&entries), Policy::Balanced);
        assert_eq!(black_box(parts).len(), 2);
    })
}

fn value_len<W: Words>(page: &Page<W>) -> usize {
    page.value_len(0)
}

fn keys() -> Vec<Step> {
    let (mut number, mut pair) = (Vec::new(), Vec::new());
    vec![
        Step::new("key: encode and decode u64", move |turn| {
            number.clear();
            <u64 as Key>::encode_whole(black_box(turn), &mut number);
            let decoded = <u64 as Key>::decode(&mut number.as_slice());
            assert!(black_box(decoded).is_ok());
        }),
        Step::new("key: encode (u32, String)", move |turn| {
            pair.clear();
            <(u32, String) as Key>::encode_whole((turn as u32, "a city's name"), &mut pair);
            black_box(&pair);
        }),
    ]
}

/// Steps in a database of ten thousand pairs of 24 and 150 bytes, all of it in memory, which `folder` is for.
///
/// # Errors
/// Those of the engine.
pub fn with_database(folder: &Path, io: Io) -> Result<Vec<Step>, Failure> {
    let (db, tree) = block_on(open(&folder.join("steps.tr"), Options::new().io(io)))?;
    let pool = Arc::clone(db.engine().pool());
    let pages = pool.pages();
    let (pages, pinned) = (pages.clone(), pages);
    let read = Arc::clone(&pool);
    let of = |turn: u64, len: usize| (mix(turn) % len as u64) as usize;
    let steps = vec![
        Step::new("pool: pin, and unpin", move |turn| {
            let pin = pool.try_pin(pinned[of(turn, pinned.len())]);
            assert!(black_box(pin).is_some());
        }),
        Step::new("pool: read a page without pin or latch", move |turn| {
            let page = pages[of(turn, pages.len())];
            black_box(read.read_page(page, |words| words.len()));
        }),
        get("get, in memory", &db, &tree),
        put("put that replaces, Durability::None", Durability::None, &db, &tree),
        put("put that replaces, durable", Durability::Durable, &db, &tree),
    ];
    Ok(steps.into_iter().chain(timed(folder, io)?).collect())
}

/// Some of the same where everything is measured.
#[cfg(feature = "metrics")]
fn timed(folder: &Path, io: Io) -> Result<Vec<Step>, Failure> {
    let options = Options::new().io(io).metrics(true);
    let (db, tree) = block_on(open(&folder.join("timed.tr"), options))?;
    Ok(vec![
        get("get, in memory, metrics(true)", &db, &tree),
        put("put that replaces, Durability::None, metrics(true)", Durability::None, &db, &tree),
        put("put that replaces, durable, metrics(true)", Durability::Durable, &db, &tree),
    ])
}

#[cfg(not(feature = "metrics"))]
fn timed(_: &Path, _: Io) -> Result<Vec<Step>, Failure> {
    Ok(Vec::new())
}

fn get(name: &'static str, db: &Database, tree: &Tree) -> Step {
    let (db, tree) = (db.clone(), tree.clone());
    Step::new(name, move |turn| {
        let number = mix(turn) % PAIRS;
        let len = block_on(tree.get_with(data::key(number), <[u8]>::len));
        assert!(matches!(len, Ok(Some(data::VALUE_LEN))));
        // The database ends with the last step.
        let _ = &db;
    })
}

fn put(name: &'static str, durability: Durability, db: &Database, tree: &Tree) -> Step {
    let (db, tree) = (db.clone(), tree.clone());
    Step::new(name, move |turn| {
        let number = mix(turn) % PAIRS;
        let write = tree.put(data::key(number), data::value(turn));
        block_on(write.durability(durability).into_future())
            .expect("nothing is wrong with this disk");
        let _ = &db;
    })
}

async fn open(folder: &Path, options: Options) -> Result<(Database, Tree), Failure> {
    let db = options.log_size(1 << 30).open(folder).await?;
    let tree = db.tree("steps").await?;
    for numbers in (0..PAIRS).collect::<Vec<_>>().chunks(100) {
        let mut batch = db.batch();
        for &number in numbers {
            batch.put(&tree, data::key(number), data::value(number));
        }
        batch.commit().durability(Durability::None).await?;
    }
    db.checkpoint().await?;
    Ok((db, tree))
}
