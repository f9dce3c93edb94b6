//! The pairs that databases are loaded with: numbered, and bytes that follow from the number.

use treering::{LoadReport, Tree};

use crate::raw::Failure;

/// Bytes of a value.
pub const VALUE_LEN: usize = 150;
/// Bytes of a key and its value.
pub const PAIR_LEN: u64 = 24 + VALUE_LEN as u64;

/// A bijection on 64 bits that leaves no pattern: the finalizer of MurmurHash3.
pub fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// Key `number`, 24 bytes: no two are the same, and ascending numbers have keys in random order.
pub fn key(number: u64) -> [u8; 24] {
    let mut key = [0; 24];
    let mut word = mix(number.wrapping_add(1));
    for part in key.chunks_mut(8) {
        part.copy_from_slice(&word.to_be_bytes());
        word = mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15));
    }
    key
}

/// Value `number`: it cannot be compressed, and is quickly made.
pub fn value(number: u64) -> [u8; VALUE_LEN] {
    let mut value = [0; VALUE_LEN];
    let mut word = mix(number ^ 0x5bd1_e995_97f4_a7c1);
    for part in value.chunks_mut(8) {
        part.copy_from_slice(&word.to_le_bytes()[..part.len()]);
        word = word.wrapping_mul(0xd129_0d36_9f2b_4c35).rotate_left(29);
    }
    value
}

/// Loads pairs 0 to `pairs` into an empty tree, by a bulk load.
///
/// # Errors
/// Those of the engine.
pub async fn load(tree: &Tree, pairs: u64) -> Result<LoadReport, Failure> {
    let mut loader = tree.load();
    for number in 0..pairs {
        loader.put(key(number), value(number)).await?;
    }
    Ok(loader.finish().await?)
}
