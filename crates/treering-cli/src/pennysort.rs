//! Records like those of the sort benchmark: a key of 10 random printable characters, and a value
//! that holds the record's number.
//!
//! They are a function of their number, and no two have the same key, so that whoever has a record
//! can tell whether it is what it should be.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use crate::input::PENNYSORT_KEY_LEN;

/// Bytes of a value; with the key and a newline, a line has 100.
const VALUE_LEN: usize = 89;
/// Where a value has its number, in hexadecimal.
const NUMBER: Range<usize> = 2..34;
/// Where its filler begins.
const FILLER: usize = 36;

pub(crate) type Key = [u8; PENNYSORT_KEY_LEN];

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Key,
    pub(crate) value: [u8; VALUE_LEN],
}

impl Record {
    pub(crate) fn new(number: u64) -> Self {
        let mixed = mix(number);
        let mut value = [b' '; VALUE_LEN];
        for (at, digit) in value[NUMBER].iter_mut().rev().enumerate() {
            let nibble = if at < 16 { (number >> (4 * at)) & 15 } else { 0 };
            *digit = b"0123456789ABCDEF"[nibble as usize];
        }
        for (at, letter) in value[FILLER..].iter_mut().enumerate() {
            *letter = b'A' + ((mixed >> (at % 13)) % 26) as u8;
        }
        Self { key: key(mixed), value }
    }

    /// The number in a value, if it is one of ours.
    pub(crate) fn number_of(value: &[u8]) -> Option<u64> {
        let digits = str::from_utf8(value.get(NUMBER)?).ok()?;
        u64::from_str_radix(digits, 16).ok()
    }

    /// The number of a pair, if both are exactly what they should be.
    pub(crate) fn check(key: &[u8], value: &[u8]) -> Option<u64> {
        let number = Self::number_of(value)?;
        let record = Self::new(number);
        (record.key == key && record.value == value).then_some(number)
    }
}

/// Writes the records with these numbers to a new file.
pub(crate) fn write(path: &Path, numbers: Range<u64>) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 18, File::create(path)?);
    for number in numbers {
        let record = Record::new(number);
        file.write_all(&record.key)?;
        file.write_all(&record.value)?;
        file.write_all(b"\n")?;
    }
    file.into_inner()?.sync_all()
}

/// A bijection of the numbers of 64 bits that leaves no order in them (the end of splitmix64,
/// Steele, Lea and Flood 2014).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Ten of the 95 printable characters hold 64 bits, so no two numbers have the same key.
fn key(mut mixed: u64) -> Key {
    let mut key = Key::default();
    for character in key.iter_mut().rev() {
        *character = b' ' + (mixed % 95) as u8;
        mixed /= 95;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_what_their_number_says_and_no_key_comes_twice() {
        let keys: std::collections::HashSet<Key> =
            (0..10_000).map(|number| Record::new(number).key).collect();
        assert_eq!(keys.len(), 10_000);
        let Record { key, mut value } = Record::new(u64::MAX);
        assert!(key.iter().chain(&value).all(|byte| (b' '..=b'~').contains(byte)));
        assert_eq!(Record::check(&key, &value), Some(u64::MAX));
        value[40] ^= 1;
        assert_eq!(Record::check(&key, &value), None);
        assert_eq!(Record::check(&Record::new(1).key, &Record::new(2).value), None);
        assert_eq!(Record::check(b"k", b"v"), None);
    }
}
