//! Each kind of error is said in words, with what to do about it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use crate::common::Place;

fn with_keys() -> Place {
    let place = Place::new();
    let keys: String = (0..5000).map(|number| format!("key {number}\n")).collect();
    place.write("keys", keys);
    place.run("load db keys --format lines").fine();
    place
}

/// The only line of the error has all of these words.
#[track_caller]
fn says(place: &Place, command: &str, code: i32, words: &[&str]) {
    let error = place.run(command).failed(code);
    for word in words {
        assert!(error.contains(word), "{word:?} in {error}");
    }
}

#[test]
fn what_is_no_database_and_what_does_not_fit() {
    let place = with_keys();
    says(&place, "get nowhere k", 2, &["there is no database nowhere"]);
    says(&place, "get db k --page-size 8K", 2, &["open it without naming a size"]);
    says(&place, "get db k --cache 9999999G", 1, &["Cannot allocate memory", "--cache"]);
    says(&place, "get db k --tree other", 2, &["there is no tree \"other\"", "it has \"main\""]);
}

#[test]
fn damage_names_its_place_and_the_way_out() {
    let place = with_keys();
    let pages = OpenOptions::new().write(true).open(place.path("db/pages")).unwrap();
    // All there is behind the superblocks, but for what the map needs.
    for slot in 0..40 {
        pages.write_all_at(&[0xdd; 64], (36 << 10) + slot * 4096 + 2048).unwrap();
    }
    says(&place, "scan db", 1, &["db/pages", "damaged", "backup"]);

    let place = with_keys();
    fs::remove_file(place.path("db/log-00")).unwrap();
    fs::remove_file(place.path("db/log-01")).unwrap();
    fs::remove_file(place.path("db/log-02")).unwrap();
    says(&place, "count db", 1, &["the log is damaged", "`treering verify`", "backup"]);

    let place = with_keys();
    fs::write(place.path("db/pages"), "").unwrap();
    says(&place, "count db", 1, &["the page file is missing or empty", "restore a backup"]);
}

#[test]
fn a_user_who_may_not_is_told_who_may() {
    let place = with_keys();
    // As somebody else, who may look at the database and not change it.
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = place.command(["get", "db", "key 1"]);
    command.uid(65534).gid(65534).stdin(Stdio::null());
    let output = match command.output() {
        // Only root may become somebody else, and somebody else may not find the program.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            eprintln!("skipped: this user cannot become another one");
            return;
        }
        output => output.unwrap(),
    };
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    for words in ["Permission denied", "run this as the user who owns the folder"] {
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(error.lines().count(), 1, "{error}");
}
