//! Every target, over the kept corpus and over mutations of it that a seed decides.
//!
//! A file of the corpus that begins with `bug-` is the input that once found the bug of its name.
//! `TREERING_FUZZ=10` makes ten times as many mutations, others among them. An input that fails is
//! written to a file, which the failure names.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use treering_fuzz::TARGETS;

thread_local! {
    /// Panics on this thread. The engine catches those of its tasks, so they are counted where they begin.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
}

/// A stream of numbers that its seed decides (SplitMix64).
struct Chance(u64);

impl Chance {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }
}

/// The files of a target's corpus, by name.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// One of the corpus, changed in a few places; with a piece of another one; or nothing but noise.
fn mutation(chance: &mut Chance, corpus: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut data = corpus[chance.below(corpus.len())].1.clone();
    if chance.below(10) == 0 {
        data = (0..chance.below(300)).map(|_| chance.number() as u8).collect();
    }
    for _ in 0..1 + chance.below(6) {
        let at = chance.below(data.len() + 1);
        match chance.below(6) {
            0 if at < data.len() => data[at] ^= 1 << chance.below(8),
            1 if at < data.len() => data[at] = chance.number() as u8,
            2 => data.insert(at, [0, 1, 0x7f, 0xff, b'\n', b' '][chance.below(6)]),
            3 => data.truncate(at),
            4 => {
                let other = &corpus[chance.below(corpus.len())].1;
                let from = chance.below(other.len() + 1);
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
            _ => {
                let end = (at + chance.below(9)).min(data.len());
                data.drain(at..end);
            }
        }
    }
    data
}

fn try_one(run: fn(&[u8]), data: &[u8]) -> bool {
    PANICS.set(0);
    let ended = catch_unwind(AssertUnwindSafe(|| run(data))).is_ok();
    ended && PANICS.get() == 0
}

/// Runs a target over its corpus and over so many mutations.
fn target(name: &str, mutations: usize) {
    count_panics();
    let run = TARGETS.iter().find(|(target, _)| *target == name).unwrap().1;
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "the target {name} has no corpus");
    for (path, data) in &corpus {
        assert!(try_one(run, data), "the input {} fails", path.display());
    }
    let times = std::env::var("TREERING_FUZZ").map_or(1, |times| times.parse().unwrap());
    let mut chance = Chance(name.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte)));
    for number in 0..mutations * times {
        let data = mutation(&mut chance, &corpus);
        if let Some(folder) = std::env::var_os("TREERING_FUZZ_KEEP") {
            // For an input that never ends, or takes the process along.
            std::fs::write(Path::new(&folder).join(name), &data).unwrap();
        }
        if !try_one(run, &data) {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{number}"));
            std::fs::write(&path, &data).unwrap();
            panic!("mutation {number} fails: {}", path.display());
        }
    }
}

/// A test for each target.
macro_rules! targets {
    ($($name:ident: $mutations:literal,)*) => {
        $(#[test]
        fn $name() {
            target(stringify!($name), $mutations);
        })*

        #[test]
        fn every_target_has_a_test() {
            let tested = [$(stringify!($name)),*];
            assert!(TARGETS.iter().map(|(name, _)| *name).eq(tested));
        }
    };
}

targets! {
    page: 4000,
    superblock: 3000,
    map: 3000,
    log: 3000,
    records: 300,
    catalog: 300,
    tree: 300,
    database: 300,
    operations: 300,
    keys: 20000,
    dump: 10000,
    lines: 10000,
    arguments: 2000,
}

/// A harness that lets everything pass would be noticed here.
#[test]
fn a_target_that_panics_fails_even_if_the_panic_is_caught() {
    count_panics();
    assert!(try_one(|_| (), b""));
    assert!(!try_one(|data| assert!(data.is_empty(), "a planted panic"), b"x"));
    let caught = |_: &[u8]| {
        let _ = catch_unwind(|| panic!("a planted panic of a task"));
    };
    assert!(!try_one(caught, b""));
}
