//! Keys as types: their bytes order as they do, come back as they were, and no bytes make decoding
//! panic.

#![allow(missing_docs, clippy::unwrap_used)]

use std::cmp::{Ordering, Reverse};
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use treering::{DecodeError, Key};

fn whole<K: Key>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::new();
    K::encode_whole(key.as_borrowed(), &mut bytes);
    bytes
}

fn part<K: Key>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::new();
    K::encode(key.as_borrowed(), &mut bytes);
    bytes
}

/// Everything that a pair of keys has to keep, `order` being their natural order.
fn check_ordered<K: Key + Debug>(a: &K, b: &K, order: Ordering) {
    assert_eq!(whole(a).cmp(&whole(b)), order, "alone: {a:?}, {b:?}");
    assert_eq!(part(a).cmp(&part(b)), order, "as a part: {a:?}, {b:?}");
    if order != Ordering::Equal {
        assert!(!part(b).starts_with(&part(a)), "{a:?} is the start of {b:?}");
    }
    for key in [a, b] {
        let decoded = K::decode_whole(&whole(key)).unwrap();
        assert_eq!(whole(&decoded), whole(key), "{key:?} came back as {decoded:?}");
        // A part leaves alone what follows it.
        let followed = [part(key), b"\0\xff more".to_vec()].concat();
        let mut rest = followed.as_slice();
        let decoded = K::decode(&mut rest).unwrap();
        assert_eq!((part(&decoded), rest), (part(key), &b"\0\xff more"[..]));
        for cut in 0..part(key).len() {
            assert!(K::decode(&mut &part(key)[..cut]).is_err(), "{key:?}, {cut} bytes");
        }
    }
}

fn check<K: Key + Debug + Ord>(a: &K, b: &K) {
    check_ordered(a, b, a.cmp(b));
    check_ordered(a, a, Ordering::Equal);
    for key in [a, b] {
        assert_eq!(&K::decode_whole(&whole(key)).unwrap(), key);
    }
}

/// What comes out of any bytes encodes to just these bytes, or is an error.
fn check_garbage<K: Key>(bytes: &[u8]) {
    if let Ok(key) = K::decode_whole(bytes) {
        assert_eq!(whole(&key), bytes);
    }
    let mut rest = bytes;
    if let Ok(key) = K::decode(&mut rest) {
        assert_eq!([&part(&key), rest].concat(), bytes);
    }
}

/// Bytes among which zeros and 0xff are frequent, so that ends and escapes meet.
fn awkward() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0u8), Just(0xff), Just(1), any::<u8>()];
    prop::collection::vec(byte, 0..6)
}

fn awkward_text() -> impl Strategy<Value = String> {
    let character = prop_oneof![Just('\0'), Just('a'), Just('\u{10ffff}'), any::<char>()];
    prop::collection::vec(character, 0..5).prop_map(String::from_iter)
}

fn any_time() -> impl Strategy<Value = SystemTime> {
    let nanos = prop_oneof![Just(0u64), Just(1), Just(999_999_999), 0..1_000_000_000u64];
    let seconds = prop_oneof![Just(0u64), Just(1), Just(i64::MAX as u64), 0..1u64 << 40];
    (any::<bool>(), seconds, nanos).prop_map(|(before, seconds, nanos)| {
        let (whole, nanos) = (Duration::from_secs(seconds), Duration::from_nanos(nanos));
        let epoch = SystemTime::UNIX_EPOCH;
        let time = if before { epoch.checked_sub(whole) } else { epoch.checked_add(whole) };
        time.unwrap().checked_add(nanos).unwrap()
    })
}

macro_rules! natural_order {
    ($($name:ident: $type:ty = $strategy:expr;)*) => {
        proptest! {
            $(
                #[test]
                fn $name(a in $strategy, b in $strategy) {
                    check::<$type>(&a, &b);
                }
            )*

            #[test]
            fn p1_decoding_any_bytes_gives_just_their_key_or_an_error(
                bytes in prop_oneof![awkward(), prop::collection::vec(any::<u8>(), 0..40)]
            ) {
                $(check_garbage::<$type>(&bytes);)*
                check_garbage::<f32>(&bytes);
                check_garbage::<f64>(&bytes);
                check_garbage::<(f64, String)>(&bytes);
            }
        }
    };
}

natural_order! {
    p1_u8: u8 = any::<u8>();
    p1_u16: u16 = any::<u16>();
    p1_u32: u32 = any::<u32>();
    p1_u64: u64 = any::<u64>();
    p1_u128: u128 = any::<u128>();
    p1_i8: i8 = any::<i8>();
    p1_i16: i16 = any::<i16>();
    p1_i32: i32 = any::<i32>();
    p1_i64: i64 = any::<i64>();
    p1_i128: i128 = any::<i128>();
    p1_bool: bool = any::<bool>();
    p1_char: char = any::<char>();
    p1_time: SystemTime = any_time();
    p1_string: String = awkward_text();
    p1_bytes: Vec<u8> = awkward();
    p1_array_of_bytes: [u8; 16] = any::<[u8; 16]>();
    p1_array_of_numbers: [i16; 3] = any::<[i16; 3]>();
    p1_array_of_strings: [String; 2] = [awkward_text(), awkward_text()];
    p1_option: Option<i32> = any::<Option<i32>>();
    p1_option_of_string: Option<String> = prop::option::of(awkward_text());
    p1_option_of_option: Option<Option<bool>> = any::<Option<Option<bool>>>();
    p1_reverse: Reverse<u32> = any::<u32>().prop_map(Reverse);
    p1_reverse_of_string: Reverse<String> = awkward_text().prop_map(Reverse);
    p1_reverse_twice: Reverse<Reverse<String>> =
        awkward_text().prop_map(|text| Reverse(Reverse(text)));
    p1_tuple_of_one: (String,) = awkward_text().prop_map(|text| (text,));
    p1_number_and_string: (u8, String) = (0..3u8, awkward_text());
    p1_string_and_number: (String, u64) = (awkward_text(), any::<u64>());
    p1_strings: (String, String, String) = (awkward_text(), awkward_text(), awkward_text());
    p1_bytes_in_a_tuple: (Vec<u8>, Vec<u8>) = (awkward(), awkward());
    p1_nested: ((Vec<u8>, Option<String>), Reverse<(Vec<u8>, u8)>) =
        ((awkward(), prop::option::of(awkward_text())), (awkward(), any::<u8>()).prop_map(Reverse));
    p1_eight: (u8, i8, bool, char, Option<u8>, Vec<u8>, [u8; 2], String) = (
        0..2u8, -1..1i8, any::<bool>(), any::<char>(), any::<Option<u8>>(), awkward(),
        any::<[u8; 2]>(), awkward_text(),
    );
}

fn any_f64() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), prop::num::f64::ANY, Just(-0.0), Just(0.0)]
}

proptest! {
    #[test]
    fn p1_f64_in_total_order(a in any_f64(), b in any_f64()) {
        check_ordered(&a, &b, a.total_cmp(&b));
        check_ordered(&(a, String::new()), &(b, String::new()), a.total_cmp(&b));
        prop_assert_eq!(f64::decode_whole(&whole(&a)).unwrap().to_bits(), a.to_bits());
    }

    #[test]
    fn p1_f32_in_total_order(a in any::<u32>(), b in any::<u32>()) {
        let (a, b) = (f32::from_bits(a), f32::from_bits(b));
        check_ordered(&a, &b, a.total_cmp(&b));
        prop_assert_eq!(f32::decode_whole(&whole(&a)).unwrap().to_bits(), a.to_bits());
    }
}

#[test]
fn p1_the_corners_of_every_number_are_in_order() {
    fn ascending<K: Key + Debug>(keys: &[K]) {
        for (at, low) in keys.iter().enumerate() {
            keys[at + 1..].iter().for_each(|high| check_ordered(low, high, Ordering::Less));
        }
    }
    ascending(&[i8::MIN, -1, 0, 1, i8::MAX]);
    ascending(&[i128::MIN, i128::from(i64::MIN), -1, 0, 1, i128::MAX]);
    ascending(&[0, 1, 255, 256, u64::MAX]);
    let negative_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
    ascending(&[negative_nan, f64::NEG_INFINITY, f64::MIN, -1.0, -f64::MIN_POSITIVE, -0.0, 0.0]);
    ascending(&[0.0, f64::MIN_POSITIVE, 1.0, f64::MAX, f64::INFINITY, f64::NAN]);
    let epoch = SystemTime::UNIX_EPOCH;
    let (nano, second) = (Duration::from_nanos(1), Duration::from_secs(1));
    ascending(&[epoch - second - nano, epoch - second, epoch - nano, epoch, epoch + nano]);
}

/// These bytes are on people's disks: they must not change.
#[test]
fn p1_the_bytes_are_those_of_the_documentation() {
    assert_eq!(whole(&258u32), [0, 0, 1, 2]);
    assert_eq!(whole(&-2i16), [0x7f, 0xfe]);
    assert_eq!(whole(&1.0f64), [0xbf, 0xf0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(whole(&-1.0f64), [0x40, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(whole(&true), [1]);
    assert_eq!(whole(&'é'), [0, 0, 0, 0xe9]);
    assert_eq!(whole(&"a\0b".to_owned()), b"a\0b");
    assert_eq!(part(&"a\0b".to_owned()), b"a\0\xffb\0\0");
    assert_eq!(whole(&(7u8, "a".to_owned())), b"\x07a");
    assert_eq!(whole(&("a".to_owned(), 7u8)), b"a\0\0\x07");
    assert_eq!(whole(&None::<u8>), [0]);
    assert_eq!(whole(&Some("a".to_owned())), b"\x01a");
    assert_eq!(whole(&Reverse("a".to_owned())), [!b'a', 0xff, 0xff]);
    assert_eq!(whole(&[1u8, 2, 3]), [1, 2, 3]);
    let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(1);
    let nanos = 999_999_999u32.to_be_bytes();
    let expected = [&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &nanos[..]].concat();
    assert_eq!(whole(&before), expected);
}

#[test]
fn p1_names_of_types_say_what_they_are_made_of() {
    struct Mine;
    impl Key for Mine {
        type Borrowed<'k> = ();
        const VERSION: u32 = 3;
        fn type_name() -> String {
            "mine".into()
        }
        fn as_borrowed(&self) {}
        fn encode((): (), _out: &mut Vec<u8>) {}
        fn decode(_bytes: &mut &[u8]) -> Result<Self, DecodeError> {
            Ok(Mine)
        }
    }
    assert_eq!(<(u64, String)>::type_name(), "(u64,str)");
    assert_eq!(<(Option<[u8; 16]>, Reverse<f32>)>::type_name(), "(option([u8;16]),reverse(f32))");
    assert_eq!(<(SystemTime, Vec<u8>, char)>::type_name(), "(time,bytes,char)");
    assert_eq!((Mine::type_name(), Mine::VERSION), ("mine".into(), 3));
    assert_eq!((<(Mine, bool)>::type_name(), <(Mine, bool)>::VERSION), ("(mine@3,bool)".into(), 1));
}
