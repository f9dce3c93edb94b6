//! Values as types: what is written comes back, and no bytes make decoding panic. Those that come
//! with Cargo features are here, too.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Debug;

use crate::common::{Home, on_tokio, tiny};
use proptest::prelude::*;
use treering::Value;

fn check<V: Value + Debug + PartialEq>(value: &V) {
    let mut bytes = Vec::new();
    V::encode(value.as_borrowed(), &mut bytes).unwrap();
    assert_eq!(&V::decode(&bytes).unwrap(), value);
}

/// What comes out of any bytes encodes to just these bytes, or is an error.
fn check_garbage<V: Value>(bytes: &[u8]) {
    if let Ok(value) = V::decode(bytes) {
        let mut again = Vec::new();
        V::encode(value.as_borrowed(), &mut again).unwrap();
        assert_eq!(again, bytes);
    }
}

macro_rules! come_back {
    ($($name:ident: $type:ty,)*) => {
        proptest! {
            $(
                #[test]
                fn $name(value in any::<$type>()) {
                    check(&value);
                }
            )*
        }
    };
}

come_back! {
    j2_u8: u8,
    j2_u32: u32,
    j2_u128: u128,
    j2_i16: i16,
    j2_i64: i64,
    j2_f32: f32,
    j2_f64: f64,
    j2_bool: bool,
    j2_nothing: (),
    j2_string: String,
    j2_bytes: Vec<u8>,
    j2_array: [u8; 5],
    j2_option: Option<u64>,
    j2_option_of_option: Option<Option<String>>,
}

proptest! {
    #[test]
    fn j2_decoding_any_bytes_gives_just_their_value_or_an_error(
        bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..20)
    ) {
        check_garbage::<()>(&bytes);
        check_garbage::<bool>(&bytes);
        check_garbage::<u32>(&bytes);
        check_garbage::<i128>(&bytes);
        check_garbage::<f64>(&bytes);
        check_garbage::<String>(&bytes);
        check_garbage::<Vec<u8>>(&bytes);
        check_garbage::<[u8; 3]>(&bytes);
        check_garbage::<Option<Option<u8>>>(&bytes);
        check_garbage::<Option<String>>(&bytes);
    }
}

#[test]
fn j2_strings_and_bytes_can_be_looked_at_where_they_are() {
    on_tokio(2, "views", async {
        let home = Home::new();
        let db = tiny(512, 64).open(&home.path).await.unwrap();
        let texts = db.typed::<u8, String>("texts").await.unwrap();
        texts.put(1, "lovelace").await.unwrap();
        assert_eq!(texts.get_with(1, |text: &str| text.len()).await.unwrap(), Some(8));
        assert_eq!(texts.get_with(2, |text: &str| text.len()).await.unwrap(), None);
        let bytes = db.typed::<u8, Vec<u8>>("bytes").await.unwrap();
        bytes.put(1, &[1, 2, 3]).await.unwrap();
        assert_eq!(bytes.get_with(1, |bytes: &[u8]| bytes[2]).await.unwrap(), Some(3));
    });
}

#[cfg(feature = "serde")]
mod with_serde {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};
    use treering::{ErrorKind, Serde};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Role {
        Admin,
        Member { since: u16, tags: Vec<String> },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct User {
        name: String,
        role: Role,
        scores: BTreeMap<String, f32>,
        parent: Option<Box<User>>,
    }

    fn user(name: &str, parent: Option<User>) -> User {
        let role = Role::Member { since: 1843, tags: vec!["x".into(), String::new()] };
        let scores = BTreeMap::from([("chess".into(), 1.5)]);
        User { name: name.into(), role, scores, parent: parent.map(Box::new) }
    }

    #[test]
    fn j2_what_serde_can_write_and_read_is_a_value() {
        on_tokio(2, "serde", async {
            let home = Home::new();
            let db = tiny(512, 64).open(&home.path).await.unwrap();
            let tree = db.typed::<u64, Serde<User>>("users").await.unwrap();
            let admin = User { role: Role::Admin, ..user("alan", None) };
            let ada = user("ada", Some(admin.clone()));
            tree.put(1, &ada).await.unwrap();
            assert_eq!(tree.replace(1, &admin).await.unwrap(), Some(Serde(ada.clone())));
            assert_eq!(tree.get(1).await.unwrap().unwrap().name, "alan");
            tree.bytes().put([0; 8], b"\xff\xff").await.unwrap();
            assert_eq!(tree.get(0).await.unwrap_err().kind(), ErrorKind::Undecodable);
            check(&Serde(ada));
        });
    }

    proptest! {
        #[test]
        fn j2_decoding_any_bytes_with_serde_is_a_value_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..60)
        ) {
            if let Ok(value) = <Serde<User>>::decode(&bytes) {
                let mut again = Vec::new();
                <Serde<User>>::encode(&value, &mut again).unwrap();
                prop_assert!(<Serde<User>>::decode(&again).is_ok());
            }
        }
    }
}

#[cfg(feature = "bytemuck")]
mod with_bytemuck {
    use bytemuck::{AnyBitPattern, NoUninit};
    use treering::{ErrorKind, Pod, View};

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, NoUninit, AnyBitPattern)]
    #[repr(C)]
    struct Point {
        at: [i32; 2],
        mass: u64,
    }

    #[test]
    fn j2_plain_structs_are_values_that_are_seen_where_they_are() {
        on_tokio(2, "bytemuck", async {
            let home = Home::new();
            let db = tiny(512, 64).open(&home.path).await.unwrap();
            let tree = db.typed::<u32, Pod<Point>>("points").await.unwrap();
            let point = Point { at: [-1, 2], mass: 1 << 40 };
            tree.put(1, &point).await.unwrap();
            assert_eq!(tree.get(1).await.unwrap(), Some(Pod(point)));
            let mass = tree.get_with(1, |point: &Point| point.mass).await.unwrap();
            assert_eq!(mass, Some(1 << 40));
            tree.bytes().put([0, 0, 0, 2], [0; 15]).await.unwrap();
            assert_eq!(tree.get(2).await.unwrap_err().kind(), ErrorKind::Undecodable);
            let looked = tree.get_with(2, |_: &Point| ()).await;
            assert_eq!(looked.unwrap_err().kind(), ErrorKind::Undecodable);
        });
    }

    #[test]
    fn j2_a_view_is_the_bytes_themselves_if_they_are_aligned_and_a_copy_if_not() {
        let point = Point { at: [3, 4], mass: 5 };
        // Words, so that their bytes are aligned, and one byte further on they are not.
        let mut words = [0u64; 3];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        for shift in [0, 1] {
            bytes[shift..shift + 16].copy_from_slice(bytemuck::bytes_of(&point));
            let stored = &bytes[shift..shift + 16];
            let seen = Pod::<Point>::view(stored, |seen| {
                assert_eq!(*seen, point);
                std::ptr::from_ref(seen).cast::<u8>()
            });
            assert_eq!(std::ptr::eq(seen.unwrap(), stored.as_ptr()), shift == 0, "{shift}");
        }
    }
}
