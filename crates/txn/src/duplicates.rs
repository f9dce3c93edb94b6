//! Keys that are there several times: how they are stored.
//!
//! A tree with duplicates is a tree like any other, whose stored keys are the user's key, made
//! self-delimiting, and the sequence of the duplicate:
//!
//! | bytes | |
//! |---|---|
//! | .. | the key; each byte 00 in it followed by FF |
//! | 00 01 | its end |
//! | 8 | the sequence, big-endian |
//!
//! 00 01 is less than 00 FF and than any other byte a key can go on with, so stored keys are ordered by
//! key first and then by sequence, and all duplicates of a key stand together. (The escape is that of
//! FoundationDB's tuple layer.)
//!
//! The sequence is drawn when the commit begins ([`crate::Engine::next_unique`]): it never repeats,
//! whatever crashes, and of two inserts the one that began after the other had returned has the
//! greater one.

/// Bytes that a stored key has beside the user's key and the escapes.
pub const OVERHEAD: usize = 10;

/// Bytes of the sequence, at the end.
pub(crate) const SEQUENCE_LEN: usize = 8;

/// What all stored keys begin with whose key begins with `prefix`.
pub fn escaped(prefix: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(prefix.len() + OVERHEAD);
    for &byte in prefix {
        stored.push(byte);
        if byte == 0 {
            stored.push(0xff);
        }
    }
    stored
}

/// What all duplicates of `key` begin with, and no other stored key; less than any of them.
pub fn head(key: &[u8]) -> Vec<u8> {
    let mut stored = escaped(key);
    stored.extend_from_slice(&[0, 1]);
    stored
}

/// Greater than all duplicates of `key`, and less than those of all greater keys.
pub fn tail(key: &[u8]) -> Vec<u8> {
    let mut stored = escaped(key);
    stored.extend_from_slice(&[0, 2]);
    stored
}

/// The stored key of one duplicate.
pub fn stored(key: &[u8], sequence: u64) -> Vec<u8> {
    let mut stored = head(key);
    stored.extend_from_slice(&sequence.to_be_bytes());
    stored
}

/// Takes a stored key apart: the key goes to `key`, which is cleared first, and the sequence comes
/// back. `None`: it is no such key.
pub fn split(stored: &[u8], key: &mut Vec<u8>) -> Option<u64> {
    key.clear();
    let mut rest = stored;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        if byte != 0 {
            key.push(byte);
            continue;
        }
        let (&what, after) = rest.split_first()?;
        rest = after;
        match what {
            0xff => key.push(0),
            1 => return rest.try_into().ok().map(u64::from_be_bytes),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(254), Just(255), any::<u8>()], 0..6)
    }

    proptest! {
        #[test]
        fn t11_stored_keys_are_ordered_by_key_and_then_by_sequence(
            a in (key(), any::<u64>()),
            b in (key(), any::<u64>()),
        ) {
            let (stored_a, stored_b) = (stored(&a.0, a.1), stored(&b.0, b.1));
            prop_assert_eq!(stored_a.cmp(&stored_b), a.cmp(&b));
            prop_assert_eq!(stored_a.starts_with(&head(&b.0)), a.0 == b.0);
            prop_assert_eq!(stored_a < tail(&b.0), a.0 <= b.0);
            prop_assert_eq!(stored_a >= head(&b.0), a.0 >= b.0);
            prop_assert_eq!(stored_a.starts_with(&escaped(&b.0)), a.0.starts_with(&b.0));
        }

        #[test]
        fn t11_a_stored_key_comes_apart_into_what_it_was_made_of(key in key(), sequence: u64) {
            let stored = stored(&key, sequence);
            let mut found = b"something else".to_vec();
            prop_assert_eq!(split(&stored, &mut found), Some(sequence));
            prop_assert_eq!(found, key);
            for len in 0..stored.len() {
                prop_assert_eq!(split(&stored[..len], &mut Vec::new()), None);
            }
        }

        #[test]
        fn other_bytes_are_no_stored_key_or_an_exact_one(bytes in key()) {
            let mut key = Vec::new();
            if let Some(sequence) = split(&bytes, &mut key) {
                prop_assert_eq!(stored(&key, sequence), bytes);
            }
        }
    }
}
