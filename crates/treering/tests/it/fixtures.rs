//! Databases in the file format as it was, kept in the repository: each version that was released must
//! open, hold what was put into it, and go on from there.
//!
//! `tests/fixtures/format-N` has two databases of version N with the same content: `closed` ended with a
//! checkpoint, `crashed` has a good part of it in the log only. [`make`] makes them; it runs in the tests
//! as well, so that it cannot rot. When the format changes, and only then, new ones are kept beside the
//! old ones:
//!
//! ```text
//! TREERING_FIXTURES=$PWD/crates/treering/tests/fixtures/format-2 cargo test -p treering --test it fixtures::
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use treering::{Database, Durability, Error, Gap, Options, TreeOptions};

use crate::common::{Home, on_tokio};

/// The format that this code writes.
const VERSION: u32 = 1;

/// So small that a fixture has some dozen KiB: pages of 512 bytes, log segments of 16 KiB.
fn small() -> Options {
    let options = Options::new().page_size(512).cache_size(64 << 10);
    // What is durable at once has a block of the log for itself.
    options.log_size(512 << 10).log_buffer(8 << 10).durability(Durability::None)
}

/// All pairs of all trees, with the keys as they are stored.
type Content = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// What [`fill`] has put in, but for the trees with duplicates, whose sequences differ each time.
fn expected() -> Content {
    let mut plain: BTreeMap<_, _> = (0..150u32).map(|n| (key(n), value(n))).collect();
    plain.retain(|stored, _| stored != &key(7) && !(key(100)..key(140)).contains(stored));
    plain.insert(key(8), b"changed".to_vec());
    plain.insert(b"large".to_vec(), large(3000));
    plain.insert(b"larger".to_vec(), large(5000));
    plain.extend((1000..1200u32).map(|n| (key(n), b"big batch".to_vec())));
    let numbers = (0..40i64).map(|n| {
        let mut stored = ((n - 20) ^ i64::MIN).to_be_bytes().to_vec();
        stored.extend(b"typed");
        (stored, (n as u32).to_le_bytes().to_vec())
    });
    let loaded = (0..200u32).map(|n| (key(n), b"loaded".to_vec()));
    let gaps = (0..30u32).rev().map(|n| (key(n), b"gap".to_vec()));
    BTreeMap::from([
        ("gaps".to_owned(), gaps.collect()),
        ("loaded".to_owned(), loaded.collect()),
        ("numbers".to_owned(), numbers.collect()),
        ("plain".to_owned(), plain),
    ])
}

fn key(n: u32) -> Vec<u8> {
    format!("key {n:05}").into_bytes()
}

fn value(n: u32) -> Vec<u8> {
    vec![n as u8; n as usize % 40]
}

fn large(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len) as u8).collect()
}

/// Everything that has a form of its own on disk; `midway` comes between the two halves.
async fn fill(db: &Database, midway: impl AsyncFnOnce()) -> Result<(), Error> {
    let plain = db.tree("made as this").await?;
    for n in 0..150 {
        plain.put(key(n), value(n)).await?;
    }
    plain.put("large", large(3000)).await?;
    let gaps = db.tree_with("gaps", TreeOptions::new().gap(Gap::OneIn(3))).await?;
    for n in (0..30).rev() {
        gaps.put(key(n), "gap").await?;
    }
    let words = db.multi_tree("words").await?;
    for word in ["one", "two", "one", "z\0ero", "one"] {
        words.insert_dup(word, word.to_uppercase()).await?;
    }
    db.tree("dropped").await?.put("a", "b").await?;
    midway().await;
    // It ends with a checkpoint, behind which its own record is the first.
    let mut load = db.tree("loaded").await?.load();
    for n in 0..200 {
        load.put(key(n), "loaded").await?;
    }
    load.finish().await?;
    db.rename_tree("made as this", "plain").await?;
    db.drop_tree("dropped").await?;
    plain.delete(key(7)).await?;
    plain.put(key(8), "changed").await?;
    plain.delete_range(key(100)..key(140)).await?;
    plain.put("larger", large(5000)).await?;
    let mut batch = db.batch();
    for n in 1000..1200 {
        batch.put(&plain, key(n), "big batch");
    }
    batch.commit().await?;
    let numbers = db.typed::<(i64, String), u32>("numbers").await?;
    for n in 0..40 {
        numbers.put((n - 20, "typed"), n as u32).await?;
    }
    db.sync().await
}

async fn content(db: &Database) -> Content {
    let mut content = Content::new();
    for name in db.tree_names().into_iter().filter(|name| name != "words") {
        let tree = db.raw_tree(&name).unwrap().unwrap();
        let pairs: Vec<_> = tree.range(..).try_collect().await.unwrap();
        let pairs = pairs.into_iter().map(|(key, value)| (key.into_vec(), value.into_vec()));
        content.insert(name, pairs.collect());
    }
    content
}

/// Makes both databases of today's format in `folder`.
async fn make(folder: &Path) {
    let closed = small().open(folder.join("closed")).await.unwrap();
    fill(&closed, async || ()).await.unwrap();
    closed.compact().await.unwrap();
    closed.close().await.unwrap();
    drop(closed);
    let crashed = small().open(folder.join("crashed")).await.unwrap();
    fill(&crashed, async || crashed.checkpoint().await.unwrap()).await.unwrap();
    drop(crashed);
    // The engine ends on its own thread; who opens the folder next waits for that, and a reader changes
    // nothing.
    let readers = Options::new().read_only(true);
    drop(readers.clone().open(folder.join("closed")).await.unwrap());
    drop(readers.open(folder.join("crashed")).await.unwrap());
}

/// Copies a database. What was never written at the end of its page file is not copied: it is room to
/// grow, and a database does without.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (file, mut bytes) in bytes(from) {
        if file.ends_with("pages") {
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(written.next_multiple_of(512));
        }
        fs::write(to.join(file.file_name().unwrap()), bytes).unwrap();
    }
    // Who only reads does not make one.
    fs::write(to.join("lock"), "").unwrap();
}

/// That a database holds what was put in, and goes on from there.
async fn judge(path: &Path, crashed: bool) {
    // First without a change.
    let before = bytes(path);
    let db = Options::new().read_only(true).open(path).await.unwrap();
    assert_eq!(content(&db).await, expected());
    drop(db);

    let db = Options::new().create(false).cache_size(64 << 10).open(path).await.unwrap();
    let replayed = db.recovery().replayed;
    assert!(if crashed { replayed > 40 } else { replayed == 0 }, "{replayed}");
    assert_eq!(content(&db).await, expected());
    let words = db.multi_tree("words").await.unwrap();
    let all: Vec<_> = words.range(..).try_collect().await.unwrap();
    let all: Vec<_> = all.iter().map(|(word, _, value)| (&word[..], &value[..])).collect();
    let (one, two, zero) = ((&b"one"[..], &b"ONE"[..]), (&b"two"[..], &b"TWO"[..]), &b"z\0ero"[..]);
    assert_eq!(all, [one, one, one, two, (zero, b"Z\0ERO")]);
    let numbers = db.typed::<(i64, String), u32>("numbers").await.unwrap();
    assert_eq!(numbers.get((-20, "typed")).await.unwrap(), Some(0));
    let report = db.verify().await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(report.large_values == 2 && report.height > 1, "{report:?}");

    let plain = db.tree("plain").await.unwrap();
    plain.put("new", "value").await.unwrap();
    plain.delete("large").await.unwrap();
    words.insert_dup("one", "more").await.unwrap();
    db.close().await.unwrap();
    drop((plain, words, numbers, db));
    let db = Database::open(path).await.unwrap();
    let plain = db.find_tree("plain").unwrap().unwrap();
    assert_eq!(plain.get("new").await.unwrap().as_deref(), Some(&b"value"[..]));
    assert!(!plain.contains("large").await.unwrap());
    let sound = db.verify().await.unwrap();
    assert_eq!(sound.problems, Vec::<String>::new());
    assert_ne!(bytes(path), before);
    db.close().await.unwrap();
}

/// The database's own files.
fn bytes(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let own = files.filter(|file| file.is_file() && !file.ends_with("lock"));
    own.map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

fn version_of(path: &Path) -> u32 {
    let pages = fs::read(path.join("pages")).unwrap();
    u32::from_le_bytes(pages[16..20].try_into().unwrap())
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn databases_of_every_format_open_and_go_on() {
    for version in 1..=VERSION {
        for (name, crashed) in [("closed", false), ("crashed", true)] {
            let from = kept().join(format!("format-{version}")).join(name);
            assert_eq!(version_of(&from), version, "{}", from.display());
            let home = Home::new();
            copy(&from, &home.path);
            on_tokio(2, name, async { judge(&home.path, crashed).await });
        }
    }
}

#[test]
fn reading_a_kept_database_changes_nothing() {
    let home = Home::new();
    copy(&kept().join("format-1/crashed"), &home.path);
    let before = bytes(&home.path);
    on_tokio(2, "reading", async {
        let db = Options::new().read_only(true).open(&home.path).await.unwrap();
        assert_eq!(content(&db).await, expected());
    });
    assert!(bytes(&home.path) == before);
}

#[test]
fn what_is_made_today_is_of_the_format_that_is_kept() {
    let home = Home::new();
    on_tokio(2, "making", async { make(&home.path).await });
    if let Ok(folder) = std::env::var("TREERING_FIXTURES") {
        for name in ["closed", "crashed"] {
            copy(&home.path.join(name), &Path::new(&folder).join(name));
        }
    }
    for (name, crashed) in [("closed", false), ("crashed", true)] {
        assert_eq!(version_of(&home.path.join(name)), VERSION);
        on_tokio(2, name, async { judge(&home.path.join(name), crashed).await });
    }
}
