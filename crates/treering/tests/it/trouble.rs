//! Wrong use and damage: a clear error of the right kind, at once, and nothing lost.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::common::{Home, all, assert_sound, on_tokio, tiny};
use treering::{Database, Error, ErrorKind, Options, Tree};

const PAGE_SIZE: usize = 4096;

fn small() -> Options {
    tiny(PAGE_SIZE, 64)
}

fn on_two<T>(test: impl Future<Output = T>) -> T {
    on_tokio(2, "an answer that should come at once", test)
}

#[track_caller]
fn fails<T>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    match result {
        Ok(_) => panic!("succeeded, where {kind:?} was expected"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            error
        }
    }
}

async fn filled(options: Options, path: &Path, keys: u32) -> (Database, Tree) {
    let db = options.open(path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    for n in 0..keys {
        let value = format!("the value of {n:06}").repeat(5);
        tree.put(name(n), value).durability(treering::Durability::None).await.unwrap();
    }
    db.sync().await.unwrap();
    (db, tree)
}

fn name(n: u32) -> String {
    format!("{n:06}")
}

#[test]
fn a_database_that_is_open_is_locked_for_others_at_once() {
    on_two(async {
        let home = Home::new();
        let db = small().open(&home.path).await.unwrap();
        let error = fails(small().open(&home.path).await, ErrorKind::Locked);
        assert!(error.to_string().contains("data.tr"), "{error}");
        // The same folder by another name.
        let link = home.path.with_file_name("link");
        std::os::unix::fs::symlink(&home.path, &link).unwrap();
        fails(small().open(&link).await, ErrorKind::Locked);
        db.tree("still works").await.unwrap().put("k", "v").await.unwrap();
    });
}

/// Many programs keep something called `pages`. What an earlier life of a database leaves in its folder, a
/// folder `tmp` and its statistics, was removed there before anybody knew whether it was one.
#[test]
fn a_folder_that_turns_out_to_be_no_database_keeps_what_is_in_it() {
    on_two(async {
        for is_folder in [false, true] {
            let home = Home::new();
            fs::create_dir_all(home.path.join("tmp")).unwrap();
            let pages = home.path.join("pages");
            match is_folder {
                true => fs::create_dir(pages).unwrap(),
                false => fs::write(pages, "what somebody wrote".repeat(2000)).unwrap(),
            }
            let theirs = ["tmp/letter", "statistics.json", "statistics.json.new"];
            for name in theirs {
                fs::write(home.path.join(name), "dear").unwrap();
            }
            fails(small().open(&home.path).await, ErrorKind::InvalidOptions);
            for name in theirs {
                assert_eq!(fs::read(home.path.join(name)).unwrap(), b"dear", "{name}");
            }
            assert!(!is_folder || !home.path.join("lock").exists());
        }
    });
}

#[test]
fn opening_right_after_the_last_handle_was_dropped_waits_for_its_end() {
    on_two(async {
        let home = Home::new();
        for round in 0..10u8 {
            let db = small().open(&home.path).await.unwrap();
            let tree = db.tree("t").await.unwrap();
            assert_eq!(all(&tree).await.len(), usize::from(round));
            // Buffered: dropping is no crash.
            let put = tree.put([round], [round]).durability(treering::Durability::Buffered);
            put.await.unwrap();
        }
    });
}

#[test]
fn opening_after_a_close_works_although_an_old_handle_is_still_held() {
    on_two(async {
        let home = Home::new();
        let (old, tree) = filled(small(), &home.path, 100).await;
        old.close().await.unwrap();
        let (new, same) = filled(small(), &home.path, 100).await;
        fails(tree.get(name(1)).await, ErrorKind::Closed);
        fails(old.checkpoint().await, ErrorKind::Closed);
        assert_eq!(all(&same).await.len(), 100);
        drop((old, tree));
        same.put("k", "v").await.unwrap();
        // The old handle's end has not taken the new one's place.
        fails(small().open(&home.path).await, ErrorKind::Locked);
        new.close().await.unwrap();
    });
}

/// An opening that was given up (a timeout, a `select!`) ends on the engine's thread; whoever opens
/// meanwhile waits for that instead of being told that it is in use.
#[test]
fn opening_again_after_an_opening_was_given_up_works() {
    on_two(async {
        let home = Home::new();
        drop(filled(small(), &home.path, 500).await);
        for _ in 0..5 {
            let mut opening = Box::pin(small().open(&home.path));
            assert!(futures::poll!(opening.as_mut()).is_pending());
            drop(opening);
            let db = small().open(&home.path).await.unwrap();
            assert_eq!(all(&db.tree("t").await.unwrap()).await.len(), 500);
        }
    });
}

#[test]
fn operations_after_close_say_closed() {
    on_two(async {
        let home = Home::new();
        let (db, tree) = filled(small(), &home.path, 10).await;
        let begun = tree.put("a", "b");
        let mut batch = db.batch();
        batch.put(&tree, "c", "d");
        let mut range = tree.range(..);
        db.close().await.unwrap();
        db.close().await.unwrap();
        fails(begun.await, ErrorKind::Closed);
        fails(batch.commit().await, ErrorKind::Closed);
        fails(range.next_chunk().await, ErrorKind::Closed);
        fails(tree.get("000001").await, ErrorKind::Closed);
        fails(tree.get_with("000001", |_| ()).await, ErrorKind::Closed);
        fails(tree.get_many(["000001"]).await, ErrorKind::Closed);
        fails(tree.contains("000001").await, ErrorKind::Closed);
        fails(tree.put("a", "b").await, ErrorKind::Closed);
        fails(tree.insert("a", "b").await, ErrorKind::Closed);
        fails(tree.update("a", "b").await, ErrorKind::Closed);
        fails(tree.replace("a", "b").await, ErrorKind::Closed);
        fails(tree.delete("a").await, ErrorKind::Closed);
        fails(tree.take("a").await, ErrorKind::Closed);
        fails(db.tree("t").await, ErrorKind::Closed);
        fails(db.tree("new").await, ErrorKind::Closed);
        fails(db.find_tree("t"), ErrorKind::Closed);
        fails(db.sync().await, ErrorKind::Closed);
        fails(db.checkpoint().await, ErrorKind::Closed);
        fails(db.verify().await, ErrorKind::Closed);
        assert_eq!(db.tree_names(), ["t"]);
        assert!(db.stats().sequence >= 10);
    });
}

#[test]
fn the_wrong_page_size_is_named_and_the_right_one_is_not_needed() {
    on_two(async {
        let home = Home::new();
        filled(small(), &home.path, 10).await.0.close().await.unwrap();
        let error =
            fails(small().page_size(8192).open(&home.path).await, ErrorKind::InvalidOptions);
        let text = error.to_string();
        assert!(text.contains("4096") && text.contains("8192"), "{text}");
        let db = Options::new().open(&home.path).await.unwrap();
        assert_eq!(db.stats().page_size, 4096);
        for impossible in [0, 100, 1000, 4097, 1 << 25] {
            let elsewhere = Home::new();
            let opened = small().page_size(impossible).open(&elsewhere.path).await;
            let error = fails(opened, ErrorKind::InvalidOptions);
            assert!(error.to_string().contains(&impossible.to_string()), "{error}");
        }
    });
}

#[test]
fn a_folder_that_is_no_database_is_left_alone() {
    on_two(async {
        let home = Home::new();
        fails(small().create(false).open(&home.path).await, ErrorKind::InvalidOptions);
        assert!(!home.path.exists());
        fs::create_dir(&home.path).unwrap();
        fails(small().create(false).open(&home.path).await, ErrorKind::InvalidOptions);
        assert_eq!(fs::read_dir(&home.path).unwrap().count(), 0, "nothing is left behind");
        fs::write(home.path.join("thesis.txt"), "text").unwrap();
        fails(small().open(&home.path).await, ErrorKind::InvalidOptions);
        assert_eq!(fs::read_dir(&home.path).unwrap().count(), 1, "nothing is left behind");
        let file = home.path.join("thesis.txt");
        fails(small().open(&file).await, ErrorKind::InvalidOptions);
        assert_eq!(fs::read(&file).unwrap(), b"text");
    });
}

/// Changes one byte of a file.
fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// Where the two superblocks are in the page file.
const SUPERBLOCKS: [u64; 2] = [0, 16384];

#[test]
fn one_damaged_superblock_is_made_do_without_and_reported() {
    on_two(async {
        for copy in SUPERBLOCKS {
            let home = Home::new();
            filled(small(), &home.path, 300).await.0.close().await.unwrap();
            flip(&home.path.join("pages"), copy + 40);
            let db = small().open(&home.path).await.unwrap();
            let damage = db.recovery().damaged_superblock.as_ref().map(ToString::to_string);
            assert!(damage.is_some_and(|text| text.contains("superblock")), "copy at {copy}");
            assert_eq!(all(&db.tree("t").await.unwrap()).await.len(), 300);
            assert_sound(&db).await;
            db.close().await.unwrap();
            // The opening has repaired it.
            let db = small().open(&home.path).await.unwrap();
            assert!(db.recovery().damaged_superblock.is_none());
        }
    });
}

#[test]
fn two_damaged_superblocks_are_damage_and_nothing_is_made_anew() {
    on_two(async {
        let home = Home::new();
        filled(small(), &home.path, 300).await.0.close().await.unwrap();
        let pages = home.path.join("pages");
        for copy in SUPERBLOCKS {
            flip(&pages, copy + 40);
        }
        let before = fs::read(&pages).unwrap();
        let error = fails(small().open(&home.path).await, ErrorKind::Damaged);
        assert!(error.to_string().contains("pages"), "{error}");
        assert_eq!(fs::read(&pages).unwrap(), before);
    });
}

/// Finds where in the page file a value is.
fn find(path: &Path, value: &str) -> u64 {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(value.len()).rposition(|window| window == value.as_bytes());
    at.expect("the value is in the page file") as u64
}

#[test]
fn a_flipped_byte_in_a_leaf_is_damage_and_never_a_missing_key() {
    on_two(async {
        let home = Home::new();
        filled(small(), &home.path, 2000).await.0.close().await.unwrap();
        // All copies of the leaf: older images of it may still be in free extents.
        let pages = home.path.join("pages");
        let bytes = fs::read(&pages).unwrap();
        let victim = b"the value of 001000";
        for at in 0..bytes.len() - victim.len() {
            if bytes[at..].starts_with(victim) {
                flip(&pages, at as u64);
            }
        }
        assert!(find(&pages, "the value of 001001") > 0);

        let db = small().open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let error = fails(tree.get("001000").await, ErrorKind::Damaged);
        let text = error.to_string();
        assert!(text.contains("page ") && text.contains("pages"), "{text}");
        fails(tree.get_with("001000", |_| ()).await, ErrorKind::Damaged);
        fails(tree.contains("001000").await, ErrorKind::Damaged);
        fails(tree.get_many(["000001", "001000"]).await, ErrorKind::Damaged);
        // A key that was never there lies in the same leaf: nobody knows.
        fails(tree.get("001000/").await, ErrorKind::Damaged);
        fails(tree.put("001000", "new").await, ErrorKind::Damaged);
        fails(tree.delete("001000").await, ErrorKind::Damaged);
        let mut range = tree.range(..);
        let broke = loop {
            match range.next_chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the scan passed over a damaged page"),
                Err(error) => break error,
            }
        };
        assert_eq!(broke.kind(), ErrorKind::Damaged);
        // The rest is there.
        assert!(tree.get("000001").await.unwrap().is_some());
        assert!(tree.get("001999").await.unwrap().is_some());
        tree.put("000001", "changed").await.unwrap();

        let page = text.split("page ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let report = db.verify().await.unwrap();
        let named = report.problems.iter().filter(|what| what.contains(&format!("page {page}")));
        assert_eq!(named.count(), 1, "{:?}", report.problems);
        assert_eq!(report.problems.len(), 1, "one cause, one line: {:#?}", report.problems);
        db.close().await.unwrap();
    });
}

#[test]
fn keys_and_values_have_limits_and_the_empty_key_is_a_key() {
    on_two(async {
        let home = Home::new();
        let db = small().open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();

        tree.put("", "").await.unwrap();
        assert_eq!(tree.get("").await.unwrap().as_deref(), Some(&b""[..]));
        fails(tree.insert("", "x").await, ErrorKind::KeyExists);
        assert_eq!(tree.replace("", "v").await.unwrap().as_deref(), Some(&b""[..]));
        tree.put("empty", "").await.unwrap();
        assert_eq!(tree.get("empty").await.unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(tree.get("absent").await.unwrap(), None);
        let expected = [(vec![], b"v".to_vec()), (b"empty".to_vec(), vec![])];
        assert_eq!(all(&tree).await, expected);
        assert!(tree.delete("").await.unwrap());

        let key_max = PAGE_SIZE / 4;
        tree.put(vec![b'k'; key_max], "v").await.unwrap();
        let error = fails(tree.put(vec![b'k'; key_max + 1], "v").await, ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&key_max.to_string()), "{error}");
        tree.put("k", vec![b'v'; PAGE_SIZE / 4]).await.unwrap();
        tree.put("k", vec![b'v'; PAGE_SIZE]).await.unwrap();
        let mut batch = db.batch();
        batch.put(&tree, "fine", "fine").put(&tree, vec![b'k'; key_max + 1], "v");
        fails(batch.commit().await, ErrorKind::InvalidInput);
        assert_eq!(tree.get("fine").await.unwrap(), None);
        // Looking for a key that cannot be is no error.
        assert_eq!(tree.get(vec![b'k'; PAGE_SIZE]).await.unwrap(), None);

        fails(db.tree("").await, ErrorKind::InvalidInput);
        fails(db.tree("n".repeat(PAGE_SIZE)).await, ErrorKind::InvalidInput);
        fails(db.tree("n".repeat(key_max)).await, ErrorKind::InvalidInput);
        db.tree("n".repeat(key_max - 1)).await.unwrap();
        assert_sound(&db).await;
    });
}

/// More than the log's buffer holds, and more leaves than the pool allows which are not in memory:
/// such batches take the way of big ones.
#[test]
fn batches_larger_than_the_buffer_and_the_pool_commit_whole() {
    on_two(async {
        let home = Home::new();
        let (db, tree) = filled(tiny(PAGE_SIZE, 16), &home.path, 3000).await;
        let mut bytes = db.batch();
        for n in 0..100 {
            bytes.put(&tree, format!("x{n}"), vec![b'x'; 1000]);
        }
        bytes.commit().await.unwrap();
        let mut leaves = db.batch();
        for n in 0..30 {
            leaves.put(&tree, name(n * 100), "x");
        }
        leaves.commit().await.unwrap();
        let found = all(&tree).await;
        assert_eq!(found.len(), 3100);
        assert_eq!(found.iter().filter(|(_, value)| value[..] == *b"x").count(), 30);
        assert_eq!(found.iter().filter(|(_, value)| value.len() == 1000).count(), 100);
        db.close().await.unwrap();
    });
}

/// One leaf, but so many bytes for it that the pages which it splits into never fit the pool: the
/// batch must not wait for ever for frames that cannot come.
#[test]
fn a_batch_that_splits_one_leaf_into_more_pages_than_the_pool_has_commits() {
    on_two(async {
        let home = Home::new();
        let db = tiny(PAGE_SIZE, 16).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let mut batch = db.batch();
        for n in 0..60 {
            batch.put(&tree, name(n), vec![b'x'; 1000]);
        }
        batch.commit().await.unwrap();
        assert_eq!(all(&tree).await.len(), 60);
        db.close().await.unwrap();
    });
}

#[test]
fn a_batch_cannot_span_two_databases() {
    on_two(async {
        let (one, two) = (Home::new(), Home::new());
        let (here, mine) = filled(small(), &one.path, 1).await;
        let (_there, theirs) = filled(small(), &two.path, 1).await;
        let mut batch = here.batch();
        batch.put(&mine, "a", "b").put(&theirs, "a", "b");
        fails(batch.commit().await, ErrorKind::InvalidInput);
        assert_eq!(mine.get("a").await.unwrap(), None);
        assert_eq!(theirs.get("a").await.unwrap(), None);
    });
}

#[test]
fn an_empty_batch_commits() {
    on_two(async {
        let home = Home::new();
        let db = small().open(&home.path).await.unwrap();
        db.batch().commit().await.unwrap();
        db.close().await.unwrap();
    });
}

/// For people: what each error says. Each names the thing that it is about.
#[test]
fn errors_say_what_was_done_to_what_and_what_to_do_next() {
    on_two(async {
        let home = Home::new();
        let (db, tree) = filled(small(), &home.path, 10).await;
        let other_home = Home::new();
        let (other, foreign) = filled(small(), &other_home.path, 1).await;
        let mut violated = db.batch();
        violated.put(&tree, "a", "b").insert(&tree, "000003", "b");
        let mut differs = db.batch();
        differs.require_value(&tree, "000003", "b");
        let mut spans = db.batch();
        spans.put(&foreign, "a", "b");
        let path = home.path.display().to_string();
        let plain = home.path.with_file_name("plain");
        fs::write(&plain, "text").unwrap();
        let mut errors: Vec<(&str, Error, Vec<&str>)> = vec![
            ("insert", tree.insert("000003", "x").await.unwrap_err(), vec!["000003", "exists"]),
            ("update", tree.update("nobody", "x").await.unwrap_err(), vec!["nobody", "not exist"]),
            (
                "batch",
                violated.commit().await.unwrap_err(),
                vec!["operation 1", "000003", "exists"],
            ),
            ("condition", differs.commit().await.unwrap_err(), vec!["000003", "another value"]),
            ("key", tree.put([b'k'; 5000], "x").await.unwrap_err(), vec!["5000", "1024"]),
            ("spans", spans.commit().await.unwrap_err(), vec!["another database"]),
            ("name", db.tree("").await.unwrap_err(), vec!["name"]),
            ("locked", small().open(&home.path).await.unwrap_err(), vec![&path, "close"]),
            ("missing", missing(&home).await, vec!["nothing", "no database"]),
            ("file", small().open(&plain).await.unwrap_err(), vec!["plain", "folder"]),
        ];
        other.close().await.unwrap();
        errors.push(("closed", foreign.get("a").await.unwrap_err(), vec!["open it again"]));
        db.close().await.unwrap();
        let size = small().page_size(512).open(&home.path).await.unwrap_err();
        errors.push(("page size", size, vec![&path, "4096", "512"]));
        flip(&home.path.join("pages"), SUPERBLOCKS[0] + 40);
        flip(&home.path.join("pages"), SUPERBLOCKS[1] + 40);
        let damaged = small().open(&home.path).await.unwrap_err();
        errors.push(("superblocks", damaged, vec![&path, "backup"]));
        let mut lacking = Vec::new();
        for (what, error, words) in &errors {
            let text = error.to_string();
            println!("{what:12} {:?}: {text}", error.kind());
            let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
            if !missing.is_empty() {
                lacking.push(format!("{what}: {missing:?} is not in {text:?}"));
            }
        }
        assert!(lacking.is_empty(), "{lacking:#?}");
    });
}

async fn missing(home: &Home) -> Error {
    let path = home.path.with_file_name("nothing");
    small().create(false).open(path).await.unwrap_err()
}
