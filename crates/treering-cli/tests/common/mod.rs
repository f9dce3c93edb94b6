//! Running the real program, and records for it.

// Each test file uses its part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder for one test, in which the program is run.
pub(crate) struct Place {
    folder: TempDir,
}

/// What the program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_treering"));
        command.args(args).current_dir(self.folder.path()).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program with arguments that are separated by blanks.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.run_args(line.split_whitespace())
    }

    pub(crate) fn run_args<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        let output = self.command(args).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        Ran { code: output.status.code(), out: output.stdout, err }
    }
}

impl Ran {
    /// All is well, and nothing was said on standard error.
    #[track_caller]
    pub(crate) fn fine(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""));
        String::from_utf8(self.out).unwrap()
    }

    /// It failed with this exit code and one line of error, which is returned.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.starts_with("treering: ") && self.err.ends_with('\n'), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert!(self.out.is_empty(), "{self:?}");
        self.err.trim_end().to_owned()
    }

    /// The command line is none: exit code 2, and what it should be.
    #[track_caller]
    pub(crate) fn failed_at_the_command_line(self) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert!(self.err.contains("For more information, try '--help'"), "{self:?}");
    }
}

/// Keys and values of pennysort records with these numbers; keys are in no order, and no two are
/// equal.
pub(crate) fn records(numbers: std::ops::Range<u64>) -> BTreeMap<[u8; 10], Vec<u8>> {
    numbers
        .map(|number| {
            let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5555;
            let key = std::array::from_fn(|_| {
                let character = b' ' + (mixed % 95) as u8;
                mixed /= 95;
                character
            });
            (key, format!("  {number:032X}  a value of some length").into_bytes())
        })
        .collect()
}

/// The records as input, in the order of their values: of their numbers.
pub(crate) fn pennysort(records: &BTreeMap<[u8; 10], Vec<u8>>) -> Vec<u8> {
    let mut pairs: Vec<_> = records.iter().collect();
    pairs.sort_by_key(|(_, value)| *value);
    pairs.iter().flat_map(|(key, value)| [&key[..], value, b"\n"].concat()).collect()
}

/// What `scan` prints of them.
pub(crate) fn scanned(records: &BTreeMap<[u8; 10], Vec<u8>>) -> Vec<u8> {
    records.iter().flat_map(|(key, value)| [&key[..], b"\t", value, b"\n"].concat()).collect()
}

/// The records whose keys are in a file of acknowledged keys; an incomplete last line is none.
pub(crate) fn acknowledged(
    acks: &Path,
    records: &BTreeMap<[u8; 10], Vec<u8>>,
) -> BTreeMap<[u8; 10], Vec<u8>> {
    let bytes = fs::read(acks).unwrap_or_default();
    let (lines, _) = bytes.as_chunks::<11>();
    lines
        .iter()
        .map(|line| {
            let key: [u8; 10] = std::array::from_fn(|at| line[at]);
            (key, records[&key].clone())
        })
        .collect()
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}
