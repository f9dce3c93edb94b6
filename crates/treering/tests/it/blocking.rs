//! The blocking face: every call does what the async one does, returns when it is done, and may be made
//! from many threads at once.

use std::collections::BTreeSet;
use std::path::Path;

use treering::blocking::{self, Database, Tree};
use treering::{Durability, ErrorKind, Options};

use crate::common::{Home, on_a_thread, tiny};

fn open(home: &Home) -> (Database, Tree) {
    let db = Database::open_with(tiny(4096, 64), &home.path).unwrap();
    let tree = db.tree("t").unwrap();
    (db, tree)
}

fn keys(pairs: blocking::Range) -> Vec<String> {
    pairs.map(|pair| String::from_utf8(pair.unwrap().0.into_vec()).unwrap()).collect()
}

#[test]
fn single_keys_are_written_and_read() {
    let home = Home::new();
    let (db, tree) = open(&home);
    tree.put("a", "1").unwrap();
    tree.insert("b", "2").unwrap();
    let exists = tree.insert("b", "3").unwrap_err();
    assert_eq!((exists.kind(), exists.existing()), (ErrorKind::KeyExists, Some(&b"2"[..])));
    assert_eq!(tree.update("c", "3").unwrap_err().kind(), ErrorKind::KeyMissing);
    tree.update("b", "22").unwrap();
    assert_eq!(tree.get("b").unwrap().as_deref(), Some(&b"22"[..]));
    assert_eq!(tree.get_with("b", |value| value.len()).unwrap(), Some(2));
    assert_eq!(tree.replace("a", "one").unwrap().as_deref(), Some(&b"1"[..]));
    assert!(tree.contains("a").unwrap() && !tree.contains("z").unwrap());
    assert_eq!(tree.value_len("a").unwrap(), Some(3));
    assert_eq!(tree.get_range("a", 1..).unwrap().as_deref(), Some(&b"ne"[..]));
    let many = tree.get_many(["b", "z", "a"]).unwrap();
    let many: Vec<_> = many.iter().map(|value| value.as_deref()).collect();
    assert_eq!(many, [Some(&b"22"[..]), None, Some(b"one")]);
    assert_eq!(tree.take("a").unwrap().as_deref(), Some(&b"one"[..]));
    assert!(tree.delete("b").unwrap() && !tree.delete("b").unwrap());

    assert_eq!(tree.compare_and_swap("s", None, Some(b"new")).unwrap(), Ok(()));
    let instead = tree.compare_and_swap("s", Some(b"old"), None).unwrap().unwrap_err();
    assert_eq!(instead.as_deref(), Some(&b"new"[..]));
    let (there, made) = tree.get_or_insert("s", "x").unwrap();
    assert_eq!((&there[..], made), (&b"new"[..], false));
    let before = tree.modify("s", |old| old.map(|old| old.repeat(2))).unwrap();
    assert_eq!(before.as_deref(), Some(&b"new"[..]));
    assert_eq!(tree.get("s").unwrap().as_deref(), Some(&b"newnew"[..]));
    db.close().unwrap();
    assert_eq!(tree.get("s").unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn ranges_are_iterators_in_both_directions() {
    let home = Home::new();
    let (db, tree) = open(&home);
    let fast = tree.with_durability(Durability::None);
    for n in 0..1000 {
        fast.put(format!("{n:04}"), [b'v'; 100]).unwrap();
    }
    let all: Vec<String> = (0..1000).map(|n| format!("{n:04}")).collect();
    assert_eq!(keys(tree.range(..)), all);
    assert_eq!(keys(tree.range("0010"..="0012")), all[10..=12]);
    assert_eq!(
        keys(tree.range("0990"..).rev()),
        all[990..].iter().rev().cloned().collect::<Vec<_>>()
    );
    assert_eq!(keys(tree.prefix("05")), all[500..600]);
    let (mut chunks, mut pairs, mut range) = (0, 0, tree.range(..));
    while let Some(chunk) = range.next_chunk().unwrap() {
        (chunks, pairs) = (chunks + 1, pairs + chunk.len());
    }
    assert!(chunks > 1 && chunks < pairs, "{chunks} chunks");
    assert_eq!(pairs, 1000);
    tree.delete_range("0100"..).unwrap();
    assert_eq!(keys(tree.range(..)), all[..100]);
    db.close().unwrap();
}

#[test]
fn a_batch_is_one_expression_and_applies_wholly_or_not() {
    let home = Home::new();
    let (db, tree) = open(&home);
    let other = db.tree("other").unwrap();
    db.batch().put(&tree, "a", "1").insert(&other, "b", "2").commit().unwrap();
    let batch = db
        .batch()
        .durability(Durability::Buffered)
        .require_present(&tree, "a")
        .require_absent(&tree, "b")
        .delete(&tree, "a")
        .update(&other, "b", "3")
        .require_value(&other, "b", "4");
    assert_eq!((batch.len(), batch.is_empty()), (5, false));
    let differs = batch.commit().unwrap_err();
    assert_eq!((differs.kind(), differs.operation()), (ErrorKind::ValueDiffers, Some(4)));
    assert_eq!(tree.get("a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(other.get("b").unwrap().as_deref(), Some(&b"2"[..]));
    db.close().unwrap();
}

#[test]
fn trees_and_care_of_the_database() {
    let home = Home::new();
    let (db, tree) = open(&home);
    let pairs = (0..5000u32).map(|n| (n.to_be_bytes(), [7u8; 50]));
    let report = tree.load(pairs).unwrap();
    assert_eq!((report.keys, report.at_once), (5000, true));
    db.tree_with("dense", treering::TreeOptions::new().gap(treering::Gap::None)).unwrap();
    db.rename_tree("dense", "d").unwrap();
    assert_eq!(db.tree_names(), ["d", "t"]);
    db.drop_tree("d").unwrap();
    assert!(db.find_tree("d").unwrap().is_none());
    tree.delete_range(100u32.to_be_bytes()..).unwrap();
    db.sync().unwrap();
    db.tidy().unwrap();
    db.checkpoint().unwrap();
    let compacted = db.compact().unwrap();
    assert!(compacted.after < compacted.before, "{compacted:?}");
    let copy = home.path.with_extension("copy");
    db.backup(&copy).unwrap();
    let report = db.verify().unwrap();
    assert_eq!((report.keys, report.problems.len()), (100, 0), "{report:?}");
    assert!(db.stats().checkpoints > 0 && db.recovery().created);
    db.close().unwrap();
    let copied = Database::open(&copy).unwrap();
    assert_eq!(copied.find_tree("t").unwrap().unwrap().range(..).count(), 100);
}

#[test]
fn threads_that_write_at_once_share_groups_of_the_log() {
    on_a_thread("writers", || {
        let home = Home::new();
        let (db, tree) = open(&home);
        const THREADS: u32 = 16;
        const EACH: u32 = 50;
        let before = db.stats().log.groups_written;
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let tree = &tree;
                scope.spawn(move || {
                    for n in 0..EACH {
                        tree.put((thread * EACH + n).to_be_bytes(), b"v").unwrap();
                    }
                });
            }
        });
        let groups = db.stats().log.groups_written - before;
        assert!(groups < u64::from(THREADS * EACH), "{groups} groups");
        assert_eq!(tree.range(..).count(), (THREADS * EACH) as usize);
        // What was acknowledged is there without a checkpoint, too.
        drop((db, tree));
        let db = Database::open(&home.path).unwrap();
        assert_eq!(db.find_tree("t").unwrap().unwrap().range(..).count(), 800);
    });
}

#[test]
fn everything_else_is_awaited_with_wait() {
    let home = Home::new();
    let (db, tree) = open(&home);
    let words = blocking::wait(db.as_async().multi_tree("words")).unwrap();
    let first = blocking::wait(words.insert_dup("a", "1")).unwrap();
    let second = blocking::wait(words.insert_dup("a", "2")).unwrap();
    assert!(first < second);
    let mut cursor = tree.as_async().cursor();
    assert!(!blocking::wait(cursor.first()).unwrap());
    let again = Database::from(db.as_async().clone());
    assert_eq!(again.tree_names(), ["t", "words"]);
    db.close().unwrap();
    assert_eq!(again.sync().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_blocking_call_inside_another_panics_as_documented() {
    let home = Home::new();
    let (_db, tree) = open(&home);
    tree.put("a", "b").unwrap();
    let nested =
        std::panic::AssertUnwindSafe(|| tree.get_with("a", |value| tree.get(value).is_ok()));
    assert!(std::panic::catch_unwind(nested).is_err());
    // And nothing is broken by it.
    assert_eq!(tree.get("a").unwrap().as_deref(), Some(&b"b"[..]));
}

/// Functions of the async handles that the module says are reached through `wait`, or that hand out
/// something that has no blocking twin.
const LEFT_OUT: [&str; 11] = [
    "cursor",
    "load", // Takes pairs there.
    "multi_tree",
    "multi_tree_with",
    "raw_tree",
    "read_stream",
    "structure",
    "trees",
    "typed",
    "write_stream",
    "engine",
];

#[test]
fn every_function_of_database_tree_and_batch_has_a_blocking_one() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let functions = |files: &[&str]| -> BTreeSet<String> {
        let text: String =
            files.iter().map(|file| std::fs::read_to_string(src.join(file)).unwrap()).collect();
        let public = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("    pub ")?;
            let rest = rest.trim_start_matches("async ").strip_prefix("fn ")?;
            Some(rest.split(['(', '<']).next()?.to_owned())
        });
        public.collect()
    };
    let of_async = functions(&["database.rs", "tree.rs", "conditions.rs"]);
    let here = functions(&["blocking/database.rs", "blocking/tree.rs", "blocking/batch.rs"]);
    assert!(of_async.len() > 40, "{of_async:?}");
    let left_out: BTreeSet<String> = LEFT_OUT.map(str::to_owned).into();
    let missing: Vec<_> = of_async.difference(&here).filter(|it| !left_out.contains(*it)).collect();
    assert!(missing.is_empty(), "no blocking {missing:?}");
}

#[test]
fn options_say_how_it_is_opened() {
    let home = Home::new();
    let missing = Options::new().create(false);
    let error = Database::open_with(missing, &home.path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
}
