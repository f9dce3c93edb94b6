//! Bad input gets one clear sentence, the right exit code, and loses nothing.

#![allow(clippy::unwrap_used, reason = "a failure in a test is to panic")]

mod common;

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use common::Place;

/// Where the two superblocks are in the file `pages`.
const SUPERBLOCKS: [u64; 2] = [0, 16 << 10];

fn with_one_key() -> Place {
    let place = Place::new();
    place.run("put db k v").fine();
    place
}

#[test]
fn a_database_in_use_names_its_holder() {
    let place = Place::new();
    let mut holder = place
        .command(["load", "db", "--format", "lines", "--acks", "/dev/stdout"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Once it has acknowledged a key, it has the database open, until its input ends.
    let mut input = holder.stdin.take().unwrap();
    input.write_all(b"a key\n").unwrap();
    let mut acknowledged = String::new();
    BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut acknowledged).unwrap();
    assert_eq!(acknowledged, "a key\n");
    for command in ["get db k", "put db k v", "load db", "verify db"] {
        let error = place.run(command).failed(2);
        let named = format!("is in use by pid {} (treering): close it there", holder.id());
        assert!(error.contains(&named), "{error}");
    }
    drop(input);
    assert!(holder.wait_with_output().unwrap().status.success());
    assert_eq!(place.run("scan db").fine(), "a key\t\n");
}

#[test]
fn only_those_commands_make_a_database_that_are_meant_to() {
    let place = Place::new();
    place.write("keys", "k\n");
    for command in [
        "get db k",
        "del db k",
        "find db keys --format lines",
        "scan db",
        "count db",
        "stat db",
        "verify db",
        "checkpoint db",
    ] {
        let error = place.run(command).failed(2);
        assert_eq!(error, "treering: there is no database db: there is no such folder");
        assert!(!place.path("db").exists(), "{command}");
    }
}

#[test]
fn a_folder_that_is_no_database_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path("letters")).unwrap();
    place.write("letters/dear", "grandmother");
    for (command, error) in [
        ("count letters", "there is no database in letters: the folder has no file \"pages\""),
        (
            "put letters k v",
            "letters is no database, and holds \"dear\": name a folder that is empty or new",
        ),
        ("put letters/dear k v", "letters/dear is no database: a database is a folder"),
    ] {
        assert_eq!(place.run(command).failed(2), format!("treering: {error}"));
    }
    assert_eq!(fs::read_dir(place.path("letters")).unwrap().count(), 1);
    // A file of that name that is something else.
    place.write("letters/pages", vec![b'p'; 100_000]);
    let error = place.run("count letters").failed(2);
    assert!(error.ends_with("letters/pages is not a page file of a treering database"), "{error}");
}

#[test]
fn a_damaged_superblock_is_named_and_the_other_one_used() {
    let place = with_one_key();
    for (copy, name) in [(0, "A"), (1, "B")] {
        let pages = OpenOptions::new().write(true).open(place.path("db/pages")).unwrap();
        pages.write_all_at(&[0xdd; 512], SUPERBLOCKS[copy]).unwrap();
        let ran = place.run("get db k");
        assert_eq!((ran.code, ran.out.as_slice()), (Some(0), &b"v\n"[..]));
        let warning = format!(
            "treering: warning: superblock {name} at offset {} of db/pages is damaged",
            SUPERBLOCKS[copy]
        );
        assert!(ran.err.starts_with(&warning) && ran.err.contains("the other copy was used"));
        // It was written anew.
        assert_eq!(place.run("get db k").fine(), "v\n");
        place.run("verify db").fine();
    }
}

#[test]
fn two_damaged_superblocks_are_an_error() {
    let place = with_one_key();
    let pages = OpenOptions::new().write(true).open(place.path("db/pages")).unwrap();
    for offset in SUPERBLOCKS {
        pages.write_all_at(&[0xdd; 400], offset + 24).unwrap();
    }
    for command in ["get db k", "verify db", "put db k w"] {
        let error = place.run(command).failed(1);
        for offset in SUPERBLOCKS {
            assert!(error.contains(&format!("at offset {offset}: its checksum")), "{error}");
        }
    }
}

#[test]
fn another_version_is_named() {
    let place = with_one_key();
    let pages = OpenOptions::new().read(true).write(true).open(place.path("db/pages")).unwrap();
    for offset in SUPERBLOCKS {
        let mut sector = [0; 512];
        pages.read_exact_at(&mut sector, offset).unwrap();
        sector[16] = 9;
        sector[20..24].fill(0);
        let crc = crc32c(&sector);
        sector[20..24].copy_from_slice(&crc.to_le_bytes());
        pages.write_all_at(&sector, offset).unwrap();
    }
    let error = place.run("get db k").failed(2);
    assert!(error.contains("db/pages is of format version 9"), "{error}");
    assert!(error.contains("use the release that wrote it"), "{error}");
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn a_damaged_page_is_found_by_verify_and_by_who_reads_it() {
    let place = Place::new();
    let pairs = |n| format!("key {n:04}\tthe value of {n:04}\n");
    place.write("pairs", (0..5000).map(pairs).collect::<String>());
    place.run("load db pairs --format tsv").fine();
    let path = place.path("db/pages");
    let mut bytes = fs::read(&path).unwrap();
    let value = b"the value of 4321";
    let images: Vec<usize> =
        (0..bytes.len() - value.len()).filter(|at| bytes[*at..].starts_with(value)).collect();
    assert!(!images.is_empty());
    // Older images of the page may be there as well.
    for at in images {
        bytes[at] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    let verified = place.run("verify db");
    assert_eq!((verified.code, verified.err.as_str()), (Some(1), ""));
    let said = String::from_utf8(verified.out).unwrap();
    assert!(said.contains("db/pages") && said.contains("checksum"), "{said}");
    let error = place.run_args(["get", "db", "key 4321"]).failed(1);
    assert!(error.contains("db/pages") && error.contains("checksum"), "{error}");
    assert_eq!(place.run_args(["get", "db", "key 0001"]).fine(), "the value of 0001\n");
}

#[test]
fn a_page_size_that_does_not_fit_is_refused() {
    let place = with_one_key();
    let error = place.run("get db k --page-size 8K").failed(2);
    assert!(error.contains("db/pages has pages of 4096 bytes, not of 8192"), "{error}");
    for size in ["1000", "256", "32M", "99G"] {
        let error = place.run(&format!("put new k v --page-size {size}")).failed(2);
        assert!(error.contains("it takes a power of two, 512 to 16777216"), "{error}");
    }
    // Nothing is in the way of doing it right.
    place.run("put new k v --page-size 32K").fine();
}

#[test]
fn keys_that_are_too_long_are_refused_and_long_values_are_not() {
    let place = with_one_key();
    let (key, value) = ("k".repeat(1025), "v".repeat(4000));
    let error = place.run_args(["put", "db", &key, "v"]).failed(2);
    assert!(error.contains("a key of 1025 bytes is too long: this database takes at most 1024"));
    assert_eq!(place.run("scan db").fine(), "k\tv\n");
    place.run_args(["put", "db", "k", &value]).fine();
    assert_eq!(place.run("scan db").fine(), format!("k\t{value}\n"));

    place.write("keys", format!("a\n{key}\n"));
    let error = place.run("load db keys --format lines").failed(1);
    assert!(
        error.starts_with("treering: keys, line 2: a key of 1025 bytes is too long"),
        "{error}"
    );
    place.run_args(["put", "db", &key[..1024], "longest"]).fine();
    place.run("verify db").fine();
}

#[test]
fn a_short_line_is_named_with_its_file() {
    let place = Place::new();
    place.write("good", "0123456789 value\n".repeat(3000));
    place.write("bad", "9876543210 value\n".to_owned() + &"0123456789\n".repeat(4000) + "short\n");
    let error = place.run("load db good bad").failed(1);
    assert!(error.starts_with("treering: bad, line 4002: 5 bytes are too few"), "{error}");
    assert_eq!(place.run("find db bad").failed(1), error.split(';').next().unwrap());
    place.run("verify db").fine();
    // Not before everything before it was loaded: it came in order.
    place.write("tsv", "a\tb\nc d\n");
    let error = place.run("load db tsv --format tsv").failed(1);
    assert!(error.starts_with("treering: tsv, line 2: there is no tab"), "{error}");
}

#[test]
fn what_cannot_be_read_or_written_is_said_before_anything_is_done() {
    let place = Place::new();
    place.write("keys", "a\n");
    for (command, error) in [
        ("load db nothing", "nothing cannot be read: No such file or directory"),
        ("load db .", ". cannot be read: is a directory"),
        ("load db keys --acks no/where", "no/where cannot be written: No such file or directory"),
        ("load db keys --acks x --durability none", "--acks lists what was acknowledged"),
        ("load db keys --acks x --durability buffered", "--acks lists what was acknowledged"),
    ] {
        let said = place.run(command).failed(2);
        assert!(said.starts_with(&format!("treering: {error}")), "{said}");
        assert!(!place.path("db").exists(), "{command}");
    }
}

#[test]
fn a_wrong_command_line_is_explained() {
    let place = Place::new();
    for line in [
        "",
        "frobnicate db",
        "load",
        "load db --tasks 0",
        "load db --format csv",
        "load db --batch many",
        "find db",
        "count db --cache 12Q",
        "count db --io floppy",
    ] {
        let ran = place.run(line);
        assert_eq!((ran.code, ran.out.len()), (Some(2), 0), "{line}");
        assert!(ran.err.contains("Usage") || ran.err.contains("--help"), "{line}: {}", ran.err);
    }
    assert!(place.run("--help").fine().contains("demo"));
    assert!(place.run("--version").fine().starts_with("treering "));
}
