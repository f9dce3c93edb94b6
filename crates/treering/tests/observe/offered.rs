//! The statistics file: it is there while the database is open, whole at each moment, and gone
//! before the folder is free.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use smol::block_on;
use treering::{Database, Options, Stats};

/// Waits until the file satisfies the test, and returns it. It is written once a second, by a thread
/// that gives no other sign.
fn eventually(file: &Path, mut is_so: impl FnMut(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        if let Ok(text) = fs::read_to_string(file)
            && is_so(&text)
        {
            return text;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the file does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn number(text: &str, name: &str) -> u64 {
    let (_, rest) = text.split_once(&format!("\"{name}\":")).unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn the_offer_is_written_anew_and_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let file = path.join("statistics.json");
    let db = block_on(Options::new().statistics_file(true).open(&path)).unwrap();
    assert!(file.exists(), "it is there from the beginning");
    let tree = block_on(db.tree("t")).unwrap();
    for number in 0..10_u8 {
        block_on(tree.put([number], b"v").into_future()).unwrap();
        assert!(block_on(tree.get([number])).unwrap().is_some());
    }
    let text = eventually(&file, |text| number(text, "gets") == 10);
    assert!(text.starts_with("{\"format\":1,\"pid\":") && text.ends_with("}\n"), "{text}");
    assert_eq!(number(&text, "pid"), u64::from(std::process::id()));
    assert_eq!((number(&text, "sequence"), number(&text, "gets_waited")), (11, 0));
    let stats = db.stats();
    for told in stats.numbers() {
        assert!(text.contains(&format!("\"{}\":", told.name)), "{} in {text}", told.name);
    }
    let lookups = stats.lookups.unwrap();
    assert_eq!((lookups.gets, lookups.waited, lookups.hit_rate()), (10, 0, Some(1.0)));
    block_on(db.close()).unwrap();
    assert!(!file.exists() && !path.join("statistics.json.new").exists());

    // The folder can be opened at once, and without the wish nothing is offered or counted.
    let db = block_on(Database::open(&path)).unwrap();
    let tree = block_on(db.tree("t")).unwrap();
    block_on(tree.get(b"k")).unwrap();
    assert_eq!(db.stats().lookups, None);
    assert!(!file.exists());
}

#[test]
fn lookups_that_wait_for_the_disk_are_told_from_those_that_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let options = || Options::new().statistics_file(true).cache_size(64 << 10);
    let db = block_on(options().open(&path)).unwrap();
    let tree = block_on(db.tree("t")).unwrap();
    for number in 0..2000_u32 {
        block_on(tree.put(number.to_be_bytes(), [1; 200]).into_future()).unwrap();
    }
    // Sixteen frames hold a small part of them.
    for number in 0..2000_u32 {
        assert!(block_on(tree.get(number.to_be_bytes())).unwrap().is_some());
    }
    let lookups = db.stats().lookups.unwrap();
    assert_eq!(lookups.gets, 2000);
    assert!((50..2000).contains(&lookups.waited), "{lookups:?}");
}

#[test]
fn the_opening_removes_what_a_killed_process_has_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let db = block_on(Database::open(&path)).unwrap();
    block_on(db.close()).unwrap();
    for name in ["statistics.json", "statistics.json.new"] {
        fs::write(path.join(name), "left").unwrap();
    }
    // Who only reads changes nothing.
    let db = block_on(Options::new().read_only(true).statistics_file(true).open(&path)).unwrap();
    block_on(db.close()).unwrap();
    assert_eq!(fs::read(path.join("statistics.json")).unwrap(), b"left");
    let db = block_on(Database::open(&path)).unwrap();
    for name in ["statistics.json", "statistics.json.new"] {
        assert!(!path.join(name).exists());
    }
    drop(db);
}

#[test]
fn the_numbers_have_names_of_their_own_and_agree_with_the_fields() {
    let folder = tempfile::tempdir().unwrap();
    let db = block_on(Database::open(folder.path().join("db"))).unwrap();
    let tree = block_on(db.tree("t")).unwrap();
    block_on(tree.put(b"k", b"v").into_future()).unwrap();
    let stats: Stats = db.stats();
    let numbers = stats.numbers();
    let value = |name: &str| {
        let found = numbers.iter().filter(|number| number.name == name);
        let [found] = found.collect::<Vec<_>>()[..] else { panic!("{name} once") };
        found.value
    };
    for number in &numbers {
        value(number.name);
    }
    assert_eq!((value("sequence"), value("page_size")), (stats.sequence, 4096));
    assert_eq!((value("file_bytes"), value("checkpoints")), (stats.space.file, stats.checkpoints));
    assert_eq!(value("disk_requests"), stats.disk.requests);
    assert!(stats.disk.requests > 0);
}
