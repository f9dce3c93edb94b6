//! Typed keys and values, from any bytes.
//!
//! Decoding is total. What decodes is the only encoding of its value, encodings order as values do, and
//! no encoding of a part is the start of another one.

use std::cmp::{Ordering, Reverse};
use std::fmt::Debug;
use std::time::SystemTime;

use treering::{Key, Value};

use crate::input::Input;

/// Decodes the same bytes as keys and values of many types.
pub fn keys(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let first = usize::from(input.byte());
    let (one, two) = (input.bytes(first), input.rest());
    match kind % 24 {
        0 => pair::<u8>(one, two),
        1 => pair::<u16>(one, two),
        2 => pair::<u64>(one, two),
        3 => pair::<i128>(one, two),
        4 => pair::<i32>(one, two),
        5 => floats(one, two),
        6 => pair::<bool>(one, two),
        7 => pair::<char>(one, two),
        8 => pair::<SystemTime>(one, two),
        9 => pair::<String>(one, two),
        10 => pair::<Vec<u8>>(one, two),
        11 => pair::<[u8; 16]>(one, two),
        12 => pair::<[String; 2]>(one, two),
        13 => pair::<Option<Vec<u8>>>(one, two),
        14 => pair::<(u64, String)>(one, two),
        15 => pair::<(String, u64)>(one, two),
        16 => pair::<(Vec<u8>, Vec<u8>)>(one, two),
        17 => pair::<Reverse<String>>(one, two),
        18 => pair::<(Reverse<Vec<u8>>, Option<String>, i8)>(one, two),
        19 => pair::<Option<(Option<String>, Reverse<SystemTime>)>>(one, two),
        20 => pair::<(Option<Vec<u8>>, Option<Option<bool>>)>(one, two),
        21 => pair::<Reverse<Reverse<(String, char)>>>(one, two),
        22 => pair::<(u8, [Option<String>; 3], Reverse<i64>, Vec<u8>)>(one, two),
        _ => {}
    }
    values(two);
}

fn pair<K: Key + Ord + Debug>(one: &[u8], two: &[u8]) {
    let (first, second) = (whole::<K>(one), whole::<K>(two));
    if let (Some(first), Some(second)) = (&first, &second) {
        assert_eq!(first.cmp(second), one.cmp(two), "{first:?}, {second:?}");
        // As parts, too, in front of anything.
        let (left, right) = (part(first), part(second));
        assert_eq!(left.cmp(&right), first.cmp(second), "{first:?}, {second:?}");
        let same = first.cmp(second) == Ordering::Equal;
        assert!(same || !(left.starts_with(&right) || right.starts_with(&left)));
    }
    let mut rest = two;
    if let Ok(key) = K::decode(&mut rest) {
        let taken = &two[..two.len() - rest.len()];
        assert_eq!(part(&key), taken, "{key:?} has one encoding");
    }
}

/// Decodes a key that stands alone, and checks that these are the bytes that it is encoded as.
fn whole<K: Key + Debug>(bytes: &[u8]) -> Option<K> {
    let key = K::decode_whole(bytes).ok()?;
    let mut again = Vec::new();
    K::encode_whole(key.as_borrowed(), &mut again);
    assert_eq!(again, bytes, "{key:?} has one encoding");
    Some(key)
}

fn part<K: Key>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::new();
    K::encode(key.as_borrowed(), &mut bytes);
    bytes
}

/// Ordered by `total_cmp`, not by `Ord`.
fn floats(one: &[u8], two: &[u8]) {
    if let (Some(first), Some(second)) = (whole::<f64>(one), whole::<f64>(two)) {
        assert_eq!(first.total_cmp(&second), one.cmp(two), "{first}, {second}");
    }
    if let (Some(first), Some(second)) = (whole::<f32>(one), whole::<f32>(two)) {
        assert_eq!(first.total_cmp(&second), one.cmp(two), "{first}, {second}");
    }
}

fn values(bytes: &[u8]) {
    value::<()>(bytes);
    value::<bool>(bytes);
    value::<u64>(bytes);
    value::<f32>(bytes);
    value::<[u8; 5]>(bytes);
    value::<String>(bytes);
    value::<Vec<u8>>(bytes);
    value::<Option<Option<String>>>(bytes);
}

fn value<V: Value>(bytes: &[u8]) {
    let Ok(value) = V::decode(bytes) else { return };
    let mut again = Vec::new();
    let encoded = V::encode(value.as_borrowed(), &mut again);
    assert!(encoded.is_ok() && again == bytes, "a value is encoded as it was decoded");
}
