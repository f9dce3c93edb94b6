//! A whole database that was damaged: any bytes of any of its files.
//!
//! If checksums were left alone, it does not open, or each tree gives what is in it up to the first
//! error: all of it as of one moment between the last checkpoint and the last commit. If the checksum
//! of a page was made to fit what is nonsense, reading it, checking it and writing to it come to an end.

use treering::{Database, Error, ErrorKind};
use treering_pagefile::sim::SimImage;
use treering_pagefile::{MapEntry, PageId, seal};

use crate::base::{Base, Pair, State, open, options, scan};
use crate::input::{Input, damage};
use crate::machine::{machine, run};

/// The page of the catalog's root.
pub(crate) const CATALOG: PageId = PageId(1);
/// Bytes that one piece of damage is within.
const PIECE: u64 = 16 << 10;

/// A database with damage that checksums show.
pub fn database(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let base = if how & 1 != 0 { Base::crashed() } else { Base::closed() };
    let mut image = base.image.clone();
    let names: Vec<String> = image.names().map(str::to_owned).collect();
    for _ in 0..1 + input.below(3) {
        let name = &names[input.below(names.len())];
        let len = image.len(name).unwrap_or(0);
        let start = input.below(len.div_ceil(PIECE).max(1) as usize) as u64 * PIECE;
        let Some(mut piece) = image.read(name, start..start + PIECE) else { continue };
        damage(&mut input, &mut piece, 4);
        image.write(name, start, &piece);
        if how & 2 != 0 && input.byte().is_multiple_of(16) {
            image.set_len(name, u64::from(input.u16()) * 16 % (len + 1));
        }
    }
    let sim = machine(&image);
    run(&sim, async {
        let options = options().read_only(how & 4 != 0);
        let database = match open(&sim, options, 2).await {
            Ok(database) => database,
            Err(error) => return expected(error.kind(), &error),
        };
        let mut found = Found::default();
        found.read(&database).await;
        found.check(&base.states);
        let report = database.verify().await;
        let sound = report.is_ok_and(|report| report.problems.is_empty());
        assert!(!sound || found.complete(), "what verifies can be read");
        if how & 4 == 0 {
            go_on(&database).await;
        }
        if let Err(error) = database.close().await {
            expected(error.kind(), &error);
        }
    });
}

/// A database with pages whose checksums fit, and that are nonsense. Reading and checking such a page
/// comes to an end. Changing it is for pages in which a check finds nothing wrong.
pub fn tree(data: &[u8]) {
    let mut input = Input::new(data);
    let mut how = input.byte();
    let base = Base::closed();
    let mut image = base.image.clone();
    for _ in 0..1 + input.below(3) {
        let entry = base.pages[input.below(base.pages.len())];
        forge(&mut image, entry, |bytes| drop(damage(&mut input, &mut bytes[16..], 4)));
        // Opening changes the catalog before anybody could check it.
        how |= u8::from(entry.page == CATALOG);
    }
    try_all(&image, how & 1 != 0);
}

/// Replaces a page by what `change` makes of it, and makes its checksum fit.
pub(crate) fn forge(image: &mut SimImage, entry: MapEntry, change: impl FnOnce(&mut Vec<u8>)) {
    let place = entry.extent.offset..entry.extent.offset + u64::from(entry.extent.len);
    let mut bytes = image.read("pages", place.clone()).unwrap_or_default();
    change(&mut bytes);
    if !entry.overflow {
        seal(&mut bytes, entry.page, entry.stamp);
    }
    image.write("pages", place.start, &bytes);
}

/// Opens a database of which anything may be expected, reads, checks and, if a check finds nothing
/// wrong, changes it.
pub(crate) fn try_all(image: &SimImage, read_only: bool) {
    let sim = machine(image);
    run(&sim, async {
        let Ok(database) = open(&sim, options().read_only(read_only), 2).await else { return };
        Found::default().read(&database).await;
        let report = database.verify().await;
        if report.is_ok_and(|report| report.problems.is_empty()) && !read_only {
            go_on(&database).await;
            let report = database.verify().await;
            let problems = report.map(|report| report.problems).unwrap_or_default();
            assert!(problems.is_empty(), "changes broke what was sound: {problems:#?}");
        }
        let _ = database.close().await;
    });
}

/// Writes what it can. What was acknowledged is there, unless it cannot be read any more.
async fn go_on(database: &Database) {
    for (name, _) in database.trees() {
        let Ok(Some(tree)) = database.raw_tree(&name) else { continue };
        for key in ["key 33", "a", "zz"] {
            if tree.put(key, "new").await.is_ok() {
                let found = tree.get(key).await;
                let fits = found.as_ref().is_ok_and(|value| value.as_deref() == Some(b"new"));
                assert!(fits || found.is_err(), "an acknowledged write is gone");
            }
        }
        let _ = tree.delete("key 05").await;
        let _ = tree.delete_range("key 1".."key 3").await;
    }
    let _ = database.tree("fresh").await;
    let _ = database.checkpoint().await;
}

/// What a damaged database gave.
#[derive(Default)]
struct Found {
    /// Of each tree the pairs that were read, and whether that is all.
    trees: Vec<(String, Vec<Pair>, bool)>,
    /// Why it was not all.
    errors: Vec<Error>,
}

impl Found {
    async fn read(&mut self, database: &Database) {
        for name in database.tree_names() {
            let Ok(Some(tree)) = database.raw_tree(&name) else { continue };
            let mut pairs = Vec::new();
            let end = scan(&tree, &mut pairs).await;
            self.errors.extend(end.as_ref().err().cloned());
            self.trees.push((name, pairs, end.is_ok()));
        }
    }

    fn complete(&self) -> bool {
        self.trees.iter().all(|(_, _, complete)| *complete)
    }

    /// It has to be a part of one of `states`.
    fn check(&self, states: &[State]) {
        for error in &self.errors {
            expected(error.kind(), error);
        }
        let fits = states.iter().rev().any(|state| {
            state.keys().eq(self.trees.iter().map(|(name, _, _)| name))
                && self.trees.iter().all(|(name, pairs, complete)| {
                    let expected = &state[name];
                    expected.starts_with(pairs) && (!complete || pairs.len() == expected.len())
                })
        });
        let of = |(name, pairs, complete): &(String, Vec<Pair>, bool)| {
            let other = states.last().and_then(|state| state.get(name));
            let (len, other) = (other.map(Vec::len), other.into_iter().flatten());
            let first = pairs.iter().zip(other).find(|(found, other)| found != other);
            format!("{name}: {} of {len:?}, {complete}, other than expected {first:?}", pairs.len())
        };
        let trees: Vec<String> = self.trees.iter().map(of).collect();
        assert!(fits, "damage was returned as data: {trees:#?}");
    }
}

/// What damage may be called.
fn expected(kind: ErrorKind, error: &Error) {
    let kinds = [
        ErrorKind::Damaged,
        ErrorKind::Io,
        // Both superblocks are not even that.
        ErrorKind::InvalidOptions,
        ErrorKind::Version,
        // A task of the engine's met the damage.
        ErrorKind::Poisoned,
    ];
    assert!(kinds.contains(&kind), "{kind:?}: {error}");
}
