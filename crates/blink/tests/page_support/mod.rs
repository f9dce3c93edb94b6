//! Keys that hurt, and what every page test needs.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use treering_blink::{Gap, Page, PageSpec, Words, check, max_key_len, max_record_len};

/// Keys with few different bytes, so that heads are equal and keys are prefixes of others; keys
/// with long common parts; keys of any length up to the limit; and the empty key.
pub(crate) fn key(page_size: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0u8), Just(1), Just(b'a'), Just(0xff)];
    let long = max_key_len(page_size).min(3000);
    prop_oneof![
        4 => vec(byte.clone(), 0..7),
        2 => vec(byte, 0..4).prop_map(|tail| [b"a common beginning".as_slice(), &tail].concat()),
        3 => vec(any::<u8>(), 0..12),
        1 => (0..=long, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        1 => (0..=long, any::<u16>()).prop_map(|(len, number)| {
            let mut key = vec![b'x'; len];
            let at = len.saturating_sub(2);
            key[at..].copy_from_slice(&number.to_be_bytes()[2 - (len - at)..]);
            key
        }),
    ]
}

/// Lengths of values: mostly short, some up to a record's limit.
pub(crate) fn value_len(page_size: usize) -> impl Strategy<Value = usize> {
    let most = max_record_len(page_size);
    prop_oneof![4 => 0..20usize, 2 => 100..180usize, 1 => 0..=most.min(5000)]
}

/// A value within the limits for its key.
pub(crate) fn value(page_size: usize, key: &[u8], len: usize, fill: u8) -> Vec<u8> {
    let len = len.min(max_record_len(page_size) - key.len());
    (0..len).map(|index| fill.wrapping_add(index as u8)).collect()
}

/// Whether a key is within the fences.
pub(crate) fn within(spec: &PageSpec<'_>, key: &[u8]) -> bool {
    spec.low <= key && spec.high.is_none_or(|high| key < high)
}

/// Gaps of all kinds.
pub(crate) fn gap() -> impl Strategy<Value = Gap> {
    prop_oneof![Just(0), Just(1), Just(2), Just(5), any::<u8>()].prop_map(Gap::every)
}

/// Fails with all faults of a page.
pub(crate) fn assert_sound<W: Words>(page: &Page<W>, page_size: usize) {
    let faults = check(page, page_size);
    assert!(faults.is_empty(), "{faults:#?}");
}

pub(crate) fn key_of<W: Words>(page: &Page<W>, slot: usize) -> Vec<u8> {
    let mut key = Vec::new();
    page.key_into(slot, &mut key);
    key
}

pub(crate) fn value_of<W: Words>(page: &Page<W>, slot: usize) -> Vec<u8> {
    let mut value = Vec::new();
    page.value_into(slot, &mut value);
    value
}

pub(crate) fn contents<W: Words>(page: &Page<W>) -> Vec<(Vec<u8>, Vec<u8>)> {
    page.live_slots().map(|slot| (key_of(page, slot), value_of(page, slot))).collect()
}

pub(crate) fn slices(model: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<(&[u8], &[u8])> {
    model.iter().map(|(key, value)| (&key[..], &value[..])).collect()
}

/// The shortest string above `left` and not above `right`, by trying all prefixes.
pub(crate) fn shortest_separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    (0..=right.len()).map(|len| &right[..len]).find(|s| left < *s).expect("left < right")
}
