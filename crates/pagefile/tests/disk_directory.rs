//! The directory under a disk: its files, its lock, and clear errors for what is none.

mod disk_support;

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use disk_support::{BLOCK, each, filled};
use futures::executor::block_on;
use treering_pagefile::{
    DirectoryLock, DiskOptions, FileErrorKind, IoBackend, open_directory, sync_file,
};

#[test]
fn files_are_created_found_and_resized() {
    for variant in disk_support::variants() {
        let here = tempfile::tempdir().unwrap();
        let disk = variant.open(here.path());
        assert_eq!(disk.names().unwrap(), Vec::<String>::new());
        assert_eq!(disk.open("pages", false).unwrap_err().kind(), ErrorKind::NotFound);
        let file = disk.open("pages", true).unwrap();
        assert_eq!(disk.open("pages", false).unwrap(), file);
        assert_eq!(disk.open("pages", true).unwrap(), file);
        let log = disk.open("log.0", true).unwrap();
        assert_ne!(log, file);
        assert_eq!(disk.names().unwrap(), ["log.0", "pages"]);
        assert!(disk.describe(log).ends_with("/log.0"));

        assert_eq!(disk.len(file).unwrap(), 0);
        disk.set_len(file, 3 * BLOCK as u64).unwrap();
        assert_eq!(disk.len(file).unwrap(), 3 * BLOCK as u64);
        let zeros = block_on(disk.read(file, BLOCK as u64, BLOCK)).unwrap();
        assert!(zeros.iter().all(|&byte| byte == 0));
        block_on(sync_file(&*disk, file)).unwrap();

        for name in ["", ".", "..", "a/b", "/etc/passwd"] {
            assert_eq!(disk.open(name, true).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        drop(disk);
        let again = variant.open(here.path());
        assert_eq!(again.names().unwrap(), ["log.0", "pages"]);
        let file = again.open("pages", false).unwrap();
        assert_eq!(again.len(file).unwrap(), 3 * BLOCK as u64);
    }
}

#[test]
fn the_back_end_says_what_it_is() {
    each(|variant, disk| {
        let backend = disk.backend();
        assert_eq!(backend.starts_with("io_uring"), variant.is_uring(), "{backend}");
        assert!(backend.contains("threads") || variant.is_uring(), "{backend}");
    });
    let here = tempfile::tempdir().unwrap();
    let auto = open_directory(here.path(), &DiskOptions::default()).unwrap();
    filled(&auto, "pages", 3);
}

#[test]
fn what_is_no_writable_directory_is_a_clear_error() {
    for io in [IoBackend::Auto, IoBackend::Threads] {
        let options = DiskOptions { io, ..DiskOptions::default() };
        let error = |path: &Path| match open_directory(path, &options) {
            Ok(_) => panic!("{} was opened", path.display()),
            Err(error) => {
                assert_eq!(error.kind(), FileErrorKind::Io);
                error.to_string()
            }
        };
        let here = tempfile::tempdir().unwrap();
        let missing = error(&here.path().join("missing"));
        assert!(missing.contains("opening the database directory"), "{missing}");
        let plain = here.path().join("plain");
        std::fs::write(&plain, b"x").unwrap();
        assert!(error(&plain).contains("ot a directory"));
        if cfg!(target_os = "linux") {
            // No file can be created in here, not even by root.
            let unwritable = error(Path::new("/proc/self/fdinfo"));
            assert!(unwritable.contains("is it read-only?"), "{unwritable}");
        }
    }
}

#[test]
fn a_second_lock_names_the_holder() {
    let here = tempfile::tempdir().unwrap();
    let lock = DirectoryLock::acquire(here.path()).unwrap();
    let error = DirectoryLock::acquire(here.path()).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Locked);
    let holder = format!("pid {} (disk_directory", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    drop(lock);
    drop(DirectoryLock::acquire(here.path()).unwrap());
    let missing = DirectoryLock::acquire(&here.path().join("missing")).unwrap_err();
    assert_eq!(missing.kind(), FileErrorKind::Io);
}

const REFUSE: &str = "TREERING_TEST_REFUSE_RINGS";

/// The other process of the next test: more rings than it may have descriptors.
#[test]
#[cfg(target_os = "linux")]
fn open_without_rings_when_asked_to() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let Some(path) = std::env::var_os(REFUSE) else { return };
    setrlimit(Resource::Nofile, Rlimit { current: Some(40), maximum: Some(40) }).unwrap();
    let options = |io| DiskOptions { io, lanes: Some(64), ..DiskOptions::default() };
    match open_directory(Path::new(&path), &options(IoBackend::Uring)) {
        Ok(_) => panic!("io_uring was set up without descriptors"),
        Err(error) => assert!(error.to_string().contains("io_uring"), "{error}"),
    }
    let disk = open_directory(Path::new(&path), &options(IoBackend::Auto)).unwrap();
    assert!(disk.backend().contains("threads"), "{}", disk.backend());
    filled(&disk, "pages", 3);
    println!("\nfell back");
}

#[test]
#[cfg(target_os = "linux")]
fn auto_falls_back_to_threads_where_rings_are_refused() {
    let here = tempfile::tempdir().unwrap();
    let other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "open_without_rings_when_asked_to", "--nocapture"])
        .env(REFUSE, here.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&other.stdout);
    assert!(other.status.success() && said.contains("fell back"), "{said}");
}

const HOLD: &str = "TREERING_TEST_HOLD_LOCK";

/// The other process of the next test: takes the lock, says so, and keeps it until it is killed.
#[test]
fn hold_the_lock_when_asked_to() {
    let Some(path) = std::env::var_os(HOLD) else { return };
    let _lock = DirectoryLock::acquire(Path::new(&path)).unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nheld").unwrap();
    out.flush().unwrap();
    // Ends when the parent closes its end of the pipe; the parent kills this process before that.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_lock_ends_with_its_process() {
    let here = tempfile::tempdir().unwrap();
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hold_the_lock_when_asked_to", "--nocapture"])
        .env(HOLD, here.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"), "the other process took the lock");
    let error = DirectoryLock::acquire(here.path()).unwrap_err();
    assert_eq!(error.kind(), FileErrorKind::Locked);
    assert!(error.to_string().contains(&format!("pid {}", other.id())), "{error}");
    other.kill().unwrap();
    other.wait().unwrap();
    DirectoryLock::acquire(here.path()).unwrap();
}
