//! Trouble that is nobody's fault: a kill, a full disk, a folder that cannot be written.

#![allow(clippy::unwrap_used, reason = "a failure in a test is to panic")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Place, acknowledged, pennysort, records, scanned};

/// Kills a load at some moment in its middle, several times, and goes on from there each time.
#[test]
fn what_was_acknowledged_survives_being_killed() {
    let (place, records) = (Place::new(), records(0..60_000));
    place.write("in.txt", pennysort(&records));
    for (cycle, acks_before_kill) in [1, 3000, 20_000, 500].into_iter().enumerate() {
        let args = ["load", "db", "in.txt", "--acks", "/dev/stdout", "--tasks", "64"];
        let mut child = place.command(args).stderr(Stdio::null()).spawn().unwrap();
        let mut pipe = BufReader::new(child.stdout.take().unwrap());
        let mut acks = Vec::new();
        for _ in 0..acks_before_kill {
            assert!(pipe.read_until(b'\n', &mut acks).unwrap() > 0, "cycle {cycle}");
        }
        child.kill().unwrap();
        // What is in the pipe was acknowledged, too.
        while pipe.read_until(b'\n', &mut acks).unwrap() > 0 {}
        assert_eq!(child.wait().unwrap().signal(), Some(9), "cycle {cycle}");
        place.write("acks", &acks);
        let acknowledged = acknowledged(&place.path("acks"), &records);
        assert!(acknowledged.len() >= acks_before_kill);

        place.write("acknowledged.txt", pennysort(&acknowledged));
        let found = place.run("find db acknowledged.txt --values").fine();
        assert_eq!(found, format!("found {} missing 0 differing 0\n", acknowledged.len()));
        place.run("verify db").fine();
    }
    place.run("load db in.txt --acks acks").fine();
    assert_eq!(place.run("scan db").out, scanned(&records));
    place.run("verify db").fine();
    let all = acknowledged(&place.path("acks"), &records);
    assert_eq!(all, records);
}

/// Something mounted for one test; `None` where this user cannot mount.
struct Mount(PathBuf);

impl Mount {
    /// A file system of its own, in memory.
    fn memory(path: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let size = format!("size={size}");
        mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], &path).then_some(Self(path))
    }

    /// Another name of a folder, which cannot be written by that name.
    fn read_only(folder: &Path, path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mounted = mount(&["--bind", folder.to_str().unwrap()], &path).then_some(Self(path))?;
        mounted.remount("bind,ro");
        Some(mounted)
    }

    fn remount(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}")], &self.0));
    }
}

fn mount(args: &[&str], path: &Path) -> bool {
    let status = Command::new("mount").args(args).arg(path).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the kernel may still be tidying up after a process that has ended.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_the_load_and_loses_nothing() {
    let (place, records) = (Place::new(), records(0..300_000));
    let Some(disk) = Mount::memory(place.path("disk"), "120m") else {
        eprintln!("skipped: this user cannot mount a file system to be filled");
        return;
    };
    place.write("in.txt", pennysort(&records));
    let error = place.run("load disk/db in.txt --acks acks").failed(1);
    assert!(error.contains("disk/db/pages") && error.contains("No space left"), "{error}");
    let acknowledged = acknowledged(&place.path("acks"), &records);
    let many = acknowledged.len();
    let counted = common::grouped(many);
    assert!(error.ends_with(&format!("records acknowledged before that: {counted}")), "{error}");
    assert!((1..records.len()).contains(&many));

    // Full as it is, it is read, verified, and deleted from.
    place.write("acknowledged.txt", pennysort(&acknowledged));
    let found = place.run("find disk/db acknowledged.txt --values").fine();
    assert_eq!(found, format!("found {many} missing 0 differing 0\n"));
    place.run("verify disk/db").fine();
    let key = acknowledged.keys().next().unwrap();
    place.run_args(["del", "disk/db", std::str::from_utf8(key).unwrap()]).fine();

    // And it goes on where it was once there is room.
    disk.remount("size=400m");
    place.run("load disk/db in.txt").fine();
    assert_eq!(place.run("scan disk/db").out, scanned(&records));
    place.run("verify disk/db").fine();
}

#[test]
fn a_disk_too_small_for_a_new_database_says_so() {
    let place = Place::new();
    let Some(disk) = Mount::memory(place.path("disk"), "4m") else {
        eprintln!("skipped: this user cannot mount a file system to be filled");
        return;
    };
    let error = place.run("put disk/db k v").failed(1);
    assert!(error.contains("disk/db") && error.contains("No space left"), "{error}");
    disk.remount("size=400m");
    place.run("put disk/db k v").fine();
    assert_eq!(place.run("get disk/db k").fine(), "v\n");
}

#[test]
fn a_read_only_folder_is_refused_with_its_name() {
    let place = Place::new();
    let refused = |command: &str, folder: &str| {
        let error = place.run(command).failed(1);
        assert!(error.contains(folder), "{error}");
    };
    place.run("put db k v").fine();
    // Permissions mean nothing to root, who can mount instead.
    let permit = |mode| {
        for name in ["db/lock", "db/pages", "db"] {
            fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    permit(0o555);
    let is_root = fs::write(place.path("db/probe"), "").is_ok();
    if !is_root {
        refused("get db k", "db");
        refused("put db k w", "db");
        permit(0o755);
        assert_eq!(place.run("get db k").fine(), "v\n");
        return;
    }
    permit(0o755);
    let Some(_mount) = Mount::read_only(&place.path("db"), place.path("read-only")) else {
        eprintln!("skipped: this user writes where nobody may, and cannot mount");
        return;
    };
    refused("get read-only k", "read-only");
    refused("put read-only k w", "read-only");
    refused("put read-only/new k v", "read-only/new");
    assert_eq!(place.run("get db k").fine(), "v\n");
}
