//! What goes in comes out: load, count, scan, find, verify, and single keys.

#![allow(clippy::unwrap_used, reason = "a failure in a test is to panic")]

mod common;

use std::io::{Read, Write};

use common::{Place, pennysort, records, scanned};

#[test]
fn everything_loaded_is_counted_found_and_scanned_in_order() {
    let (place, records) = (Place::new(), records(0..30_000));
    place.write("in.txt", pennysort(&records));
    let loaded = place.run("load db in.txt").fine();
    assert!(loaded.starts_with("loaded 30000 records in "), "{loaded}");
    assert_eq!(place.run("count db").fine(), "30000\n");
    assert_eq!(place.run("scan db").out, scanned(&records));
    assert_eq!(place.run("find db in.txt").fine(), "found 30000 missing 0\n");
    let found = place.run("find db in.txt --values --tasks 3").fine();
    assert_eq!(found, "found 30000 missing 0 differing 0\n");
    let verified = place.run("verify db").fine();
    assert!(verified.starts_with("all is well: 1 tree, 30,000 keys, "), "{verified}");
    let stat = place.run("stat db --json").fine();
    assert!(stat.starts_with("{\"trees\":[\"main\"],\"page_size\":4096,"), "{stat}");
    assert!(place.run("stat db").fine().contains("\"main\""));
    assert_eq!(place.run("trees db").fine(), "main\t\n");
    assert!(place.run("checkpoint db").fine().contains("30,001"));
}

#[test]
fn a_small_cache_batches_and_other_settings_make_no_difference() {
    let (place, records) = (Place::new(), records(0..10_000));
    place.write("in.txt", pennysort(&records));
    for (at, options) in [
        "--cache 256K",
        "--cache 32M --tasks 1 --batch 500",
        "--cache 1 --tasks 8",
        "--batch 7 --tasks 1000 --page-size 16K",
        "--durability none --cache 200K",
        "--durability buffered --io threads",
    ]
    .iter()
    .enumerate()
    {
        place.run(&format!("load db{at} in.txt {options}")).fine();
        assert_eq!(place.run(&format!("scan db{at}")).out, scanned(&records), "{options}");
        place.run(&format!("verify db{at} --cache 100K")).fine();
        let found = place.run(&format!("find db{at} in.txt --values --cache 400K")).fine();
        assert_eq!(found, "found 10000 missing 0 differing 0\n", "{options}");
    }
}

#[test]
fn several_files_and_standard_input_go_into_several_trees() {
    let (place, records) = (Place::new(), records(0..2000));
    let input = pennysort(&records);
    let (first, second) = input.split_at(input.len() / 2000 * 700);
    place.write("a", first);
    place.write("b", second);
    place.run("load db a b --tree both").fine();
    for (name, file) in [("dash", vec!["-"]), ("nothing", vec![])] {
        let args = ["load", "db", "--tree", name].into_iter().chain(file);
        let mut child = place.command(args).stdin(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&input).unwrap();
        assert!(child.wait_with_output().unwrap().status.success());
        assert_eq!(
            place.run(&format!("scan db --tree {name}")).out,
            place.run("scan db --tree both").out
        );
    }
    assert_eq!(place.run("count db --tree both").fine(), "2000\n");
    let missing = place.run("count db").failed(2);
    assert_eq!(
        missing,
        "treering: there is no tree \"main\" in db: it has \"both\", \"dash\", \"nothing\""
    );
}

#[test]
fn lines_and_tsv_are_loaded_and_looked_up() {
    let place = Place::new();
    place.write("words", "pear\n\napple\nfig");
    place.run("load db words --format lines").fine();
    assert_eq!(place.run("scan db").fine(), "\t\napple\t\nfig\t\npear\t\n");
    place.write("pairs.tsv", "fig\tone\ttwo\nplum\t\n");
    place.run("load db pairs.tsv --format tsv").fine();
    assert_eq!(place.run("scan db --from b --to plum").fine(), "fig\tone\ttwo\npear\t\n");
    assert_eq!(place.run("scan db --limit 2 --reverse").fine(), "plum\t\npear\t\n");
    place.write("asked", "fig\nkiwi\nplum\nlime\n");
    let asked = place.run("find db asked --format lines");
    assert_eq!((asked.code, asked.out.as_slice()), (Some(1), &b"found 2 missing 2\n"[..]));
    place.write("asked.tsv", "fig\tone\nplum\t\nlime\t\n");
    let asked = place.run("find db asked.tsv --format tsv --values");
    assert_eq!(asked.out, b"found 1 missing 1 differing 1\n");
    assert_eq!(asked.code, Some(1));
}

#[test]
fn single_keys_are_put_read_and_deleted() {
    let place = Place::new();
    assert_eq!(place.run_args(["put", "db", "k", "a value"]).fine(), "");
    assert_eq!(place.run("get db k").fine(), "a value\n");
    assert_eq!(place.run_args(["put", "db", "", "of the empty key"]).fine(), "");
    assert_eq!(place.run_args(["get", "db", ""]).fine(), "of the empty key\n");
    assert_eq!(place.run("del db k").fine(), "");
    for command in ["get db k", "del db k"] {
        assert_eq!(place.run(command).failed(1), "treering: there is no key \"k\"");
    }
    assert_eq!(place.run("count db").fine(), "1\n");
}

/// A reader that has seen enough is no error.
#[test]
fn a_closed_pipe_ends_the_scan_quietly() {
    let place = Place::new();
    place.write("in.txt", pennysort(&records(0..20_000)));
    place.run("load db in.txt").fine();
    let mut child = place.command(["scan", "db"]).spawn().unwrap();
    let mut begin = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut begin).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

#[test]
fn the_demonstration_loses_nothing() {
    let place = Place::new();
    let told = place.run("demo --records 20000 --tasks 1000 --dir .").fine();
    assert!(told.ends_with("\nnothing was lost\n"), "{told}");
    for step in ["generated", "loaded", "killed", "recovered", "checked", "looked up", "scanned"] {
        assert!(told.lines().any(|line| line.starts_with(step)), "{step}: {told}");
    }
    let left = std::fs::read_dir(place.path(".")).unwrap().count();
    assert_eq!(left, 0, "the temporary folder is gone");
}

#[test]
fn a_bulk_load_gives_the_same_as_commits_and_nothing_if_the_input_is_bad() {
    let (place, records) = (Place::new(), records(0..20_000));
    place.write("in.txt", pennysort(&records));
    let loaded = place.run("load db in.txt --bulk --cache 400K").fine();
    assert!(loaded.starts_with("loaded 20000 keys in "), "{loaded}");
    assert!(!loaded.contains("in batches"), "{loaded}");
    assert_eq!(place.run("scan db").out, scanned(&records));
    let verified = place.run("verify db").fine();
    assert!(verified.starts_with("all is well: 1 tree, 20,000 keys, "), "{verified}");

    let again = place.run("load db in.txt --bulk").fine();
    assert!(again.contains("in batches, as the tree had keys"), "{again}");
    assert_eq!(place.run("scan db").out, scanned(&records));

    let mut bad = pennysort(&records);
    bad.extend(b"short\n");
    place.write("bad.txt", bad);
    let error = place.run("load db bad.txt --bulk --tree other").failed(1);
    assert!(error.contains("line 20001") && error.contains("nothing was loaded"), "{error}");
    assert_eq!(place.run("count db --tree other").fine(), "0\n");
}
