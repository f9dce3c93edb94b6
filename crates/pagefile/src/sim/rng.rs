//! The one source of chance: SplitMix64 (Steele, Lea, Flood 2014), written out here so that a seed
//! that found a bug still finds it after an update of any dependency.

/// A seeded generator.
#[derive(Clone, Debug)]
pub(super) struct Rng {
    state: u64,
}

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.state)
    }

    /// A number below `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // The bias of a remainder is far below what a test of this kind could notice.
        (self.next() % bound as u64) as usize
    }

    /// True in `hits` of `of` cases.
    pub(super) fn chance(&mut self, hits: u64, of: u64) -> bool {
        self.next() % of < hits
    }
}

/// Spreads every bit of the input over the whole output.
fn scramble(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Folds a word into a running hash; the order of words matters.
pub(super) fn fold(hash: u64, word: u64) -> u64 {
    scramble(hash.rotate_left(5) ^ word.wrapping_add(0x9e37_79b9_7f4a_7c15))
}
