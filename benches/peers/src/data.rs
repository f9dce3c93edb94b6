//! What is stored: pairs that are numbered, and whose bytes follow from their numbers.
//!
//! Every engine gets the same pairs in the same order, and what it returns can be checked, with nothing
//! kept in memory. Keys are distinct and look random, so ascending numbers are keys in random order.
//! Values cannot be compressed.

use serde::{Deserialize, Serialize};

/// Sizes of keys and values, and how many pairs a database is loaded with.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Data {
    pub key_bytes: usize,
    pub value_bytes: usize,
    pub pairs: u64,
}

/// A key, without an allocation.
#[derive(Clone, Copy)]
pub struct Key {
    bytes: [u8; Key::MAX],
    len: usize,
}

impl Key {
    pub const MAX: usize = 32;
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A bijection on 64 bits that leaves no pattern: the finalizer of MurmurHash3.
pub fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

impl Data {
    /// The key of pair `number`. The first eight bytes are the mixed number, so keys are distinct.
    pub fn key(&self, number: u64) -> Key {
        let mut bytes = [0; Key::MAX];
        let mut word = mix(number.wrapping_add(1));
        for part in bytes[..self.key_bytes].chunks_mut(8) {
            part.copy_from_slice(&word.to_be_bytes()[..part.len()]);
            word = mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15));
        }
        Key { bytes, len: self.key_bytes }
    }

    /// The value of pair `number`, in `buffer`.
    pub fn value<'b>(&self, number: u64, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        buffer.resize(self.value_bytes, 0);
        let mut word = mix(number ^ 0x5bd1_e995_97f4_a7c1);
        for part in buffer.chunks_mut(8) {
            part.copy_from_slice(&word.to_le_bytes()[..part.len()]);
            // One multiplication a word: making the value must not be what is measured.
            word = word.wrapping_mul(0xd129_0d36_9f2b_4c35).rotate_left(29);
        }
        buffer
    }

    /// Bytes of keys and values that `pairs` pairs have.
    pub fn bytes(&self, pairs: u64) -> u64 {
        pairs * (self.key_bytes + self.value_bytes) as u64
    }

    /// What [`checksum`] says of the value of pair `number`.
    pub fn checksum(&self, number: u64) -> u64 {
        checksum(self.value(number, &mut Vec::new()))
    }

    /// All numbers, in the order of their keys.
    pub fn sorted(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = (0..self.pairs).collect();
        numbers.sort_by_cached_key(|&number| self.key(number).bytes);
        numbers
    }
}

/// A sum over all bytes of a value, so that whoever read it has really read it.
pub fn checksum(value: &[u8]) -> u64 {
    let (words, rest) = value.as_chunks::<8>();
    let words = words.iter().fold(0u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, &byte| sum.wrapping_add(byte.into()))
}

/// Numbers of pairs, in the order in which they go into a database.
#[derive(Clone)]
pub enum Numbers {
    /// A range: keys in random order.
    Range(std::ops::Range<u64>),
    /// Numbers whose keys ascend.
    Sorted(std::sync::Arc<Vec<u64>>),
}

impl Numbers {
    pub fn len(&self) -> u64 {
        match self {
            Self::Range(range) => range.end - range.start,
            Self::Sorted(numbers) => numbers.len() as u64,
        }
    }

    /// The numbers at some of the places.
    pub fn part(&self, places: std::ops::Range<u64>) -> impl Iterator<Item = u64> + Send + '_ {
        places.map(move |place| match self {
            Self::Range(range) => range.start + place,
            Self::Sorted(numbers) => numbers[place as usize],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_and_values_follow_from_numbers() {
        let data = Data { key_bytes: 24, value_bytes: 150, pairs: 10_000 };
        let sorted = data.sorted();
        let keys: Vec<Key> = sorted.iter().map(|&number| data.key(number)).collect();
        assert!(keys.windows(2).all(|pair| pair[0].as_ref() < pair[1].as_ref()));
        assert_eq!(data.checksum(7), data.checksum(7));
        assert_ne!(data.checksum(7), data.checksum(8));
    }
}
