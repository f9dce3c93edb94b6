//! `top` and `stat --watch` show a database that another process has open, and say what is the
//! matter when there is nothing to be shown.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};

use serde_json::Value;

use crate::common::{Place, Ran};

/// A load that has the database open until its input ends.
struct Holder {
    child: Child,
    input: Option<ChildStdin>,
    acknowledged: BufReader<std::process::ChildStdout>,
}

impl Holder {
    fn start(place: &Place, more: &[&str]) -> Self {
        let args = ["load", "db", "--format", "lines", "--acks", "/dev/stdout"];
        let mut command = place.command(args.iter().chain(more));
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let acknowledged = BufReader::new(child.stdout.take().unwrap());
        let mut holder = Self { child, input, acknowledged };
        holder.put("first");
        holder
    }

    fn put(&mut self, key: &str) {
        writeln!(self.input.as_mut().unwrap(), "{key}").unwrap();
        let mut line = String::new();
        self.acknowledged.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{key}\n"));
    }

    fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn a_running_database_is_watched_from_another_process() {
    let place = Place::new();
    let mut holder = Holder::start(&place, &["--statistics"]);
    let file = place.path("db/statistics.json");
    let watched = place.command(["stat", "db", "--watch", "--count", "2"]);
    let watching = { watched }.spawn().unwrap();
    for number in 0..50 {
        holder.put(&format!("key {number}"));
    }
    let output = watching.wait_with_output().unwrap();
    let (out, err) = (output.stdout, String::from_utf8(output.stderr).unwrap());
    let text = Ran { code: output.status.code(), out, err }.fine();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "a head and two lines: {text}");
    assert!(lines[0].contains("commits/s") && lines[0].contains("log MB/s"), "{text}");

    let view = place.run("top db --count 1").fine();
    let pid = holder.child.id();
    assert!(view.starts_with(&format!("treering db   pid {pid}   open for 0:00:")), "{view}");
    for title in ["lookups", "commits", "log", "pages", "cache", "disk", "checkpoints", "file"] {
        assert!(view.lines().any(|line| line.starts_with(title)), "{title} in {view}");
    }
    // It is not on a terminal here.
    assert!(!view.contains('\x1b'), "{view}");

    // `stat` shows it, too, though it is locked.
    let json: Value = serde_json::from_str(&place.run("stat db --json").fine()).unwrap();
    assert_eq!((json["live"].as_bool(), json["pid"].as_u64()), (Some(true), Some(pid.into())));
    assert_eq!(json["sequence"].as_u64(), Some(52), "51 keys and a tree: {json}");
    let table = place.run("stat db");
    assert!(table.err.contains(&format!("in use by pid {pid}")), "{table:?}");
    assert!(String::from_utf8(table.out).unwrap().contains("sequence of the last commit"));

    // It is gone with the process that offered it.
    assert!(file.exists());
    holder.end();
    assert!(!file.exists());
    let error = place.run("top db --count 1").failed(2);
    assert!(error.contains("offers no statistics"), "{error}");
}

#[test]
fn without_the_offer_it_says_how_to_get_it() {
    let place = Place::new();
    let holder = Holder::start(&place, &[]);
    for command in ["top db", "stat db --watch", "stat db"] {
        let error = place.run(command).failed(2);
        assert!(error.contains("Options::new().statistics_file(true)"), "{error}");
    }
    holder.end();
    let error = place.run("top nowhere").failed(2);
    assert!(error.ends_with("there is no database nowhere: there is no such folder"), "{error}");
}

#[test]
fn what_a_killed_process_has_left_is_told_from_a_living_one() {
    let place = Place::new();
    let mut holder = Holder::start(&place, &["--statistics"]);
    let file = place.path("db/statistics.json");
    // It is there before the first key is acknowledged, or a moment later.
    place.run("top db --count 1").fine();
    let text = fs::read_to_string(&file).unwrap();
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    // What it would look like a minute later.
    let json: Value = serde_json::from_str(&text).unwrap();
    let written = json["unix_ms"].as_u64().unwrap();
    fs::write(&file, text.replace(&written.to_string(), &(written - 60_000).to_string())).unwrap();
    let error = place.run("top db").failed(1);
    assert!(error.contains("was killed or stands still"), "{error}");
    // The next opening clears it away.
    assert_eq!(place.run("count db").fine(), "1\n");
    assert!(!file.exists());
    fs::write(&file, "{\"format\":1").unwrap();
    let error = place.run("top db").failed(1);
    assert!(error.contains("is not what a treering database writes"), "{error}");
}
