//! What a disk does behind its answer: it says that all is well, and it is not.

use crate::disk::Op;

use super::SECTOR;
use super::faults::FaultPoint;
use super::rng::Rng;

/// An I/O that ends without an error and has not done what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lie {
    /// A write that has no effect at all.
    Lost,
    /// A write that goes to this offset of the file, or a read that comes from there.
    Misdirected {
        /// In bytes; a multiple of the block size.
        offset: u64,
    },
    /// One bit of what is written, for good, or of what is read, this once.
    FlippedBit {
        /// Counted from the first bit of the buffer.
        bit: u64,
    },
    /// A sync or a durable write that leaves in the disk's cache what it should have made durable: no
    /// engine can do anything about that. A check that lets it pass checks nothing.
    Volatile,
}

type Rule = Box<dyn FnMut(&FaultPoint) -> Option<Lie> + Send>;

/// Lies, and how often the disk does honestly what is a nuisance all the same.
#[derive(Default)]
pub(super) struct Conduct {
    rules: Vec<Rule>,
    /// One in so many requests stands still for a while; 0 for none.
    pub(super) stalls: u64,
    /// One in so many transfers is done in two parts; 0 for none.
    pub(super) shorts: u64,
    /// One in so many requests that fail for want of room takes a part of it; 0 for none.
    pub(super) parts: u64,
}

impl Conduct {
    pub(super) fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The lie about this request, if there is one that it can be told about.
    pub(super) fn lie(&mut self, point: &FaultPoint) -> Option<Lie> {
        let applies = |lie: &Lie| match point.op {
            Op::Read => matches!(lie, Lie::Misdirected { .. } | Lie::FlippedBit { .. }),
            Op::Write => *lie != Lie::Volatile,
            Op::WriteDurable => true,
            Op::Sync => *lie == Lie::Volatile,
            Op::Allocate { .. } => false,
        };
        self.rules.iter_mut().find_map(|rule| rule(point)).filter(applies)
    }

    pub(super) fn stalls(&self, rng: &mut Rng) -> bool {
        self.stalls > 0 && rng.chance(1, self.stalls)
    }

    pub(super) fn takes_part(&self, rng: &mut Rng) -> bool {
        self.parts > 0 && rng.chance(1, self.parts)
    }

    /// How many bytes of a transfer of `len` are done at first, if it is done in parts.
    pub(super) fn cut(&self, len: usize, block: usize, rng: &mut Rng) -> Option<usize> {
        let blocks = len / block.max(SECTOR);
        let cut = self.shorts > 0 && blocks > 1 && rng.chance(1, self.shorts);
        cut.then(|| (1 + rng.below(blocks - 1)) * block.max(SECTOR))
    }
}

/// Flips one bit of a buffer that is not empty.
pub(super) fn flip(bytes: &mut [u8], bit: u64) {
    let bit = bit % (bytes.len() as u64 * 8);
    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
}
