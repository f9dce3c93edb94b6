//! Which I/Os fail, and with what.

use std::io;

use crate::disk::{FileId, Op};

/// The error that a failing I/O ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// An error of this kind, without a number.
    Kind(io::ErrorKind),
    /// What the operating system would say: 5 is `EIO`, 28 is `ENOSPC`.
    Errno(i32),
}

impl From<io::ErrorKind> for Failure {
    fn from(kind: io::ErrorKind) -> Self {
        Failure::Kind(kind)
    }
}

impl From<i32> for Failure {
    fn from(errno: i32) -> Self {
        Failure::Errno(errno)
    }
}

impl Failure {
    fn error(self) -> io::Error {
        match self {
            Failure::Kind(kind) => io::Error::new(kind, "a fault of the simulated disk"),
            Failure::Errno(errno) => io::Error::from_raw_os_error(errno),
        }
    }
}

/// How often [`fail_at`](super::SimDisk::fail_at) strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailMode {
    /// The I/O with that index only.
    Once,
    /// That I/O and all submitted after it.
    FromThenOn,
}

/// The I/O that a rule of [`fail_when`](super::SimDisk::fail_when) decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultPoint {
    /// The number of the request, counted from 0 in order of submission.
    pub index: u64,
    /// What it does.
    pub op: Op,
    /// To which file.
    pub file: FileId,
    /// Where, in bytes.
    pub offset: u64,
    /// To how many bytes; 0 for a sync.
    pub len: u64,
}

type Rule = Box<dyn FnMut(&FaultPoint) -> Option<Failure> + Send>;

/// All rules; the first that strikes decides.
#[derive(Default)]
pub(super) struct Faults {
    rules: Vec<Rule>,
}

impl Faults {
    pub(super) fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn strike(&mut self, point: &FaultPoint) -> Option<io::Error> {
        self.rules.iter_mut().find_map(|rule| rule(point)).map(Failure::error)
    }
}
