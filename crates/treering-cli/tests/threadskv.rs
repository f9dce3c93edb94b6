//! The command line of threadskv: each letter, batches, files side by side, and the audit. Its
//! lines are the old program's, as it printed them for the same files where it worked.

#![allow(clippy::unwrap_used, reason = "a failure in a test is to panic")]

mod common;

use common::{Place, Ran};

/// Lines of a pennysort file whose keys are in no order.
fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|number| format!("{}  value-{number:05}\n", key(number))).collect()
}

fn key(number: u64) -> String {
    format!("{:010}", number * 7919 % 1_000_003)
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// A place with `a` (300 records), `b` (200 others) and `keys` (those of `a` and an absent one).
fn place() -> Place {
    let place = Place::new();
    place.write("a", lines(0..300));
    place.write("b", lines(300..500));
    let keys: String = (0..300).map(|number| key(number) + "\n").collect();
    place.write("keys", keys + "absentabse\n");
    place
}

/// What it said, without the numbers of pages and the times, which differ from run to run.
#[track_caller]
fn said(ran: &Ran) -> Vec<String> {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.err.lines().collect();
    let (times, said) = lines.split_last_chunk::<3>().map(|(said, times)| (times, said)).unwrap();
    for (line, name) in times.iter().zip([" real ", " user ", " sys  "]) {
        let time = line.strip_prefix(name).unwrap().strip_suffix('s').unwrap();
        let (minutes, seconds) = time.split_once('m').unwrap();
        assert_eq!((minutes, seconds.split_once('.').unwrap().1.len()), ("0", 3), "{line}");
    }
    let (flushed, said) = said.split_last().unwrap();
    let pages = flushed.strip_suffix(" buffer pool pages flushed").unwrap();
    assert!(pages.parse::<u64>().is_ok(), "{flushed}");
    said.iter().map(|line| without_pages(line)).collect()
}

/// `7 reads 0 writes` as `# reads # writes`.
fn without_pages(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for at in 1..words.len() {
        if matches!(words[at].trim_end_matches(','), "reads" | "writes") {
            assert!(words[at - 1].parse::<u64>().is_ok(), "{line}");
            words[at - 1] = "#";
        }
    }
    words.join(" ")
}

#[test]
fn t20_two_files_are_loaded_in_parallel_counted_and_scanned() {
    let place = place();
    let loaded = said(&place.run("threadskv db pp 12 200 0 0 a b"));
    let mut loaded: Vec<&str> = loaded.iter().map(String::as_str).collect();
    loaded.sort_unstable();
    assert_eq!(
        loaded,
        [
            "finished a for 300 keys: # reads # writes 0 found",
            "finished b for 200 keys: # reads # writes 0 found",
            "started pennysort insert for a",
            "started pennysort insert for b",
        ]
    );
    let counted = said(&place.run("threadskv db c 12 200 0 0 x"));
    assert_eq!(counted, ["started counting", " Total keys counted 500: # reads, # writes"]);

    let scan = place.run("threadskv db s 12 200 0 0 x");
    assert_eq!(said(&scan), ["started scanning", " Total keys read 500: # reads, # writes"]);
    let all = lines(0..500);
    let expected = sorted(&all);
    assert_eq!(str::from_utf8(&scan.out).unwrap().lines().collect::<Vec<_>>(), expected);
}

/// The old program lost most of the keys in a reverse scan.
#[test]
fn t20_a_reverse_scan_returns_every_key_from_the_last_to_the_first() {
    let place = place();
    said(&place.run("threadskv db p 9 64 0 0 a"));
    let scan = place.run("threadskv db r 9 64 0 0 x");
    assert_eq!(said(&scan), ["started reverse scan", " Total keys read 300: # reads, # writes"]);
    let all = lines(0..300);
    let mut expected = sorted(&all);
    expected.reverse();
    assert_eq!(str::from_utf8(&scan.out).unwrap().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn t20_lines_are_written_as_keys_and_found() {
    let place = place();
    let written = said(&place.run("threadskv db w 12 200 0 0 keys"));
    assert_eq!(
        written,
        ["started indexing for keys", "finished keys for 301 keys: # reads # writes"]
    );
    let found = said(&place.run("threadskv db f 12 200 0 0 keys"));
    let finished = "finished keys for 301 keys, found 301: # reads # writes";
    assert_eq!(found, ["started finding keys for keys", finished]);
    assert_eq!(place.run("get db absentabse").fine(), "\n", "a key without a value");

    place.write("others", "absentabse\nnobody\n");
    let found = said(&place.run("threadskv db f 12 200 0 0 others"));
    assert_eq!(found[1], "finished others for 2 keys, found 1: # reads # writes");
}

/// The old program put the keys in again unless it had batches, never committed what was left of a
/// file behind its last whole batch, and crashed in the audit.
#[test]
fn t20_records_are_deleted_one_by_one_and_in_batches_and_the_audit_counts_what_is_left() {
    let place = place();
    said(&place.run("threadskv db p 12 200 0 0 a b"));
    let deleted = said(&place.run("threadskv db d 12 200 0 0 b"));
    let finished = "finished b for 200 keys: # reads # writes 200 found";
    assert_eq!(deleted, ["started pennysort delete for b", finished]);
    let again = said(&place.run("threadskv db d 12 200 0 0 b"));
    assert_eq!(again[1], "finished b for 200 keys: # reads # writes 0 found");

    // 300 records in batches of 70: the last one has 20.
    let deleted = said(&place.run("threadskv db d 12 200 70 100 a"));
    let finished = "finished a for 300 keys: # reads # writes 300 found";
    assert_eq!(deleted, ["started TXN pennysort delete for a", finished]);
    let inserted = said(&place.run("threadskv db p 12 200 70 100 b"));
    let finished = "finished b for 200 keys: # reads # writes 0 found";
    assert_eq!(inserted, ["started TXN pennysort insert for b", finished]);

    let audited = said(&place.run("threadskv db a 12 200 0 0 x"));
    let finished = "finished latch mgr audit, found 200 keys";
    assert_eq!(audited, ["started latch mgr audit", " Total keys read 200", finished]);
    assert!(place.run("stat db --json").fine().contains("\"pool_pinned\":0,"));
}

/// Two workers with a pool of a tenth of the data: the old program did not end.
#[test]
fn t20_two_workers_in_a_pool_far_smaller_than_the_data_come_to_an_end() {
    let place = Place::new();
    place.write("a", lines(0..10_000));
    place.write("b", lines(10_000..20_000));
    said(&place.run("threadskv db pp 10 60 7 64 a b"));
    let audited = said(&place.run("threadskv db ac 10 60 0 0 x y"));
    assert!(audited.contains(&"finished latch mgr audit, found 20000 keys".into()), "{audited:?}");
    let counted = " Total keys counted 20000: # reads, # writes".into();
    assert!(audited.contains(&counted), "{audited:?}");
}

#[test]
fn t20_numbers_set_the_page_size_and_the_pool() {
    let place = place();
    said(&place.run("threadskv db p 13 70 0 0 a"));
    let stat = place.run("stat db --json").fine();
    assert!(stat.contains("\"page_size\":8192,"), "{stat}");
    // It is read from the database from then on.
    said(&place.run("threadskv db c 9 70 0 0 x"));
    let error = place.run("threadskv db c 8 70 0 0 x").failed(2);
    assert!(error.contains("page_bits is 8") && error.contains("9 to 24"), "{error}");
}

#[test]
fn t20_commands_that_read_no_file_need_no_placeholder() {
    let place = place();
    said(&place.run("threadskv db P 12 0 0 0 a"));
    let both = place.run("threadskv db cS");
    let counted = " Total keys counted 300: # reads, # writes".into();
    assert!(said(&both).contains(&counted), "{both:?}");
    assert_eq!(both.out, place.run("threadskv db s").out);
}

#[test]
fn t20_what_cannot_be_done_is_an_error_that_says_where() {
    let place = place();
    let error = place.run("threadskv db x").failed(2);
    assert!(error.contains("'x' is no command"), "{error}");
    let error = place.run("threadskv db cp").failed(2);
    assert!(error.contains("'p' reads a file"), "{error}");
    assert!(!place.path("db").exists(), "nothing was done");

    let ran = place.run("threadskv db p 12 0 0 0 nothing");
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("treering: nothing cannot be read"), "{ran:?}");
    place.write("short", lines(0..3) + "short\n");
    let ran = place.run("threadskv db p 12 0 0 0 short");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("treering: short, line 4: 5 bytes are too few"), "{ran:?}");
}
