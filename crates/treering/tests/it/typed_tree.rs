//! Typed trees, end to end: operations, ranges, batches, the key type that is stored, and what
//! happens when something else is there.

#![allow(missing_docs, clippy::unwrap_used)]

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::common::{Home, on_tokio, tiny};
use futures::{FutureExt, TryStreamExt};
use treering::{Database, DecodeError, Durability, EncodeError, ErrorKind, Key, TypedTree, Value};

async fn open(home: &Home) -> Database {
    tiny(512, 64).open(&home.path).await.unwrap()
}

async fn pairs<K: Key, V: Value>(tree: &TypedTree<K, V>) -> Vec<(K, V)> {
    tree.range(..).try_collect().await.unwrap()
}

#[test]
fn j2_operations_take_and_return_values_of_their_types() {
    on_tokio(2, "operations", async {
        let home = Home::new();
        let db = open(&home).await;
        let ages = db.typed::<String, u32>("ages").await.unwrap();
        ages.put("ada", 36).await.unwrap();
        assert_eq!(ages.get("ada").await.unwrap(), Some(36));
        assert_eq!(ages.get("ada").now_or_never().unwrap().unwrap(), Some(36), "in one poll");
        assert_eq!(ages.get("alan").await.unwrap(), None);
        assert_eq!(ages.insert("ada", 1).await.unwrap_err().kind(), ErrorKind::KeyExists);
        assert_eq!(ages.update("alan", 1).await.unwrap_err().kind(), ErrorKind::KeyMissing);
        ages.insert("alan", 41).durability(Durability::Buffered).await.unwrap();
        ages.update("alan", 42).await.unwrap();
        assert_eq!(ages.replace("ada", 37).await.unwrap(), Some(36));
        assert_eq!(ages.replace("grace", 85).await.unwrap(), None);
        let owned = "grace".to_owned();
        assert_eq!(ages.get(&owned).await.unwrap(), Some(85));
        let many = ages.get_many(["alan", "nobody", "ada"]).await.unwrap();
        assert_eq!(many, [Some(42), None, Some(37)]);
        assert!(ages.contains("ada").await.unwrap());
        assert_eq!(ages.take("ada").await.unwrap(), Some(37));
        assert_eq!(ages.take("ada").await.unwrap(), None);
        assert!(ages.delete("alan").await.unwrap());
        assert!(!ages.delete("alan").await.unwrap());
        assert_eq!(pairs(&ages).await, [(owned, 85)]);
        assert_eq!(ages.clone().name(), "ages");
        db.close().await.unwrap();
    });
}

#[test]
fn j3_conditions_return_what_is_there_as_its_type() {
    on_tokio(2, "conditions", async {
        let home = Home::new();
        let db = open(&home).await;
        let tree = db.typed::<u8, String>("t").await.unwrap();
        let swap = async |expected, new| tree.compare_and_swap(1, expected, new).await.unwrap();
        assert_eq!(swap(Some("a"), Some("b")).await, Err(None));
        assert_eq!(swap(None, Some("a")).await, Ok(()));
        assert_eq!(swap(None, Some("b")).await, Err(Some("a".to_owned())));
        assert_eq!(swap(Some("a"), Some("b")).await, Ok(()));
        assert_eq!(tree.get_or_insert(1, "c").await.unwrap(), ("b".to_owned(), false));
        assert_eq!(tree.get_or_insert(2, "c").await.unwrap(), ("c".to_owned(), true));
        assert_eq!(swap(Some("b"), None).await, Ok(()));
        assert_eq!(pairs(&tree).await, [(2, "c".to_owned())]);
    });
}

#[test]
fn p1_ranges_are_in_the_natural_order_and_have_typed_ends() {
    on_tokio(2, "ranges", async {
        let home = Home::new();
        let db = open(&home).await;
        let tree = db.typed::<(i64, String), Option<i8>>("events").await.unwrap();
        let mut model = BTreeMap::new();
        for n in 0..600i64 {
            let key = ((n * 7919) % 301 - 150, format!("{}", n % 11));
            let value = (n % 3 > 0).then_some((n % 100) as i8);
            tree.put(key.as_borrowed(), value).durability(Durability::None).await.unwrap();
            model.insert(key, value);
        }
        let collect = async |range: treering::TypedRange<(i64, String), Option<i8>>| {
            range.try_collect::<Vec<_>>().await.unwrap()
        };
        let all: Vec<_> = model.clone().into_iter().collect();
        assert_eq!(collect(tree.range(..)).await, all);
        let backward: Vec<_> = model.clone().into_iter().rev().collect();
        assert_eq!(collect(tree.range(..).rev()).await, backward);
        for (low, high) in [(-150, 0), (-3, 3), (0, 0), (140, 1000), (5, 6)] {
            let inside = |from: (i64, &str), to: (i64, &str)| {
                let inside = |key: &(i64, String)| {
                    (key.0, key.1.as_str()) >= from && (key.0, key.1.as_str()) < to
                };
                model.clone().into_iter().filter(|(key, _)| inside(key)).collect::<Vec<_>>()
            };
            assert_eq!(
                collect(tree.range((low, "")..(high, ""))).await,
                inside((low, ""), (high, ""))
            );
            let from = (Bound::Excluded((low, "4")), Bound::Included((high, "4")));
            assert_eq!(
                collect(tree.range(from)).await,
                inside((low, "4\0"), (high, "4\0")),
                "{low} to {high}, ends turned round"
            );
        }
        // The same ends for what is taken away.
        tree.delete_range((-3, "")..(3, "")).await.unwrap();
        tree.delete_range((Bound::Excluded((140, "")), Bound::Unbounded)).await.unwrap();
        model.retain(|key, _| !(-3..3).contains(&key.0) && key.0 < 140);
        assert_eq!(collect(tree.range(..)).await, model.clone().into_iter().collect::<Vec<_>>());
        let report = db.verify().await.unwrap();
        assert_eq!((report.problems, report.keys), (vec![], model.len() as u64));
    });
}

#[test]
fn a_batch_spans_typed_trees_and_names_the_violated_operation() {
    on_tokio(2, "batches", async {
        let home = Home::new();
        let db = open(&home).await;
        let by_id = db.typed::<u64, String>("by id").await.unwrap();
        let by_name = db.typed::<(String, Reverse<u64>), ()>("by name").await.unwrap();
        let mut batch = db.batch();
        batch.typed(&by_id).insert(1, "ada").put(2, "alan").require_absent(3);
        batch.typed(&by_name).put(("ada", Reverse(1)), ()).put(("ada", Reverse(2)), ());
        batch.commit().await.unwrap();
        assert_eq!(pairs(&by_id).await, [(1, "ada".to_owned()), (2, "alan".to_owned())]);
        let names: Vec<_> = pairs(&by_name).await.into_iter().map(|(key, ())| key.1.0).collect();
        assert_eq!(names, [2, 1]);

        let mut batch = db.batch();
        batch.typed(&by_id).require_value(1, "ada").require_present(2).update(2, "x").delete(1);
        batch.typed(&by_id).update(9, "nobody");
        let error = batch.commit().await.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::KeyMissing, Some(4)));
        assert_eq!(by_id.get(2).await.unwrap().as_deref(), Some("alan"));
    });
}

#[test]
fn p1_a_tree_is_opened_with_the_key_type_that_it_was_made_with_or_not_at_all() {
    on_tokio(2, "key types", async {
        let home = Home::new();
        for _life in 0..2 {
            let db = open(&home).await;
            let tree = db.typed::<(u64, String), u8>("t").await.unwrap();
            tree.put((1, "x"), 1).await.unwrap();
            db.tree("plain").await.unwrap();
            let error = db.typed::<(u32, String), u8>("t").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TreeMismatch);
            let said = error.to_string();
            assert!(said.contains("(u64,str)") && said.contains("(u32,str)"), "{said}");
            for error in [
                db.typed::<Vec<u8>, u8>("plain").await.map(drop),
                db.tree("t").await.map(drop),
                db.find_tree("t").map(drop),
            ] {
                assert_eq!(error.unwrap_err().kind(), ErrorKind::TreeMismatch);
            }
            let raw = db.raw_tree("t").unwrap().unwrap();
            let stored = raw.get(b"\0\0\0\0\0\0\0\x01x").await.unwrap();
            assert_eq!(stored.as_deref(), Some(&[1][..]));
            db.close().await.unwrap();
        }
    });
}

#[test]
fn j2_what_is_stored_and_is_not_of_the_type_is_an_error_and_the_rest_is_read() {
    on_tokio(2, "undecodable", async {
        let home = Home::new();
        let db = open(&home).await;
        let tree = db.typed::<u16, u32>("t").await.unwrap();
        tree.put(1, 10).await.unwrap();
        tree.bytes().put([0, 2], "12345").await.unwrap();
        tree.bytes().put([0, 2, 7], [0; 4]).await.unwrap();
        tree.put(3, 30).await.unwrap();
        let kind = |error: treering::Error| error.kind();
        assert_eq!(tree.get(2).await.map_err(kind), Err(ErrorKind::Undecodable));
        assert_eq!(tree.get_many([1, 2]).await.map_err(kind), Err(ErrorKind::Undecodable));
        assert!(tree.contains(2).await.unwrap(), "its value is not looked at");
        let mut range = tree.range(..);
        let mut seen = Vec::new();
        while let Some(pair) = futures::StreamExt::next(&mut range).await {
            seen.push(pair.map_err(kind));
        }
        let wrong = Err(ErrorKind::Undecodable);
        assert_eq!(seen, [Ok((1, 10)), wrong, wrong, Ok((3, 30))]);
        assert_eq!(tree.replace(2, 20).await.map_err(kind), Err(ErrorKind::Undecodable));
        assert_eq!(tree.get(2).await.unwrap(), Some(20), "it was replaced all the same");
    });
}

#[test]
fn every_future_of_a_typed_tree_can_be_sent_and_outlives_its_key() {
    fn send<F: IntoFuture<IntoFuture: Send>>(future: F) -> F {
        future
    }
    on_tokio(2, "sent", async {
        let home = Home::new();
        let db = open(&home).await;
        let tree = send(db.typed::<String, String>("t")).await.unwrap();
        let short = "key".to_owned();
        let (get, contains) = (send(tree.get(&short)), send(tree.contains(&short)));
        let get_with = send(tree.get_with(&short, |value| value.len()));
        let (put, take) = (send(tree.put(&short, &short)), send(tree.take(&short)));
        let mut range = tree.range(short.as_str()..);
        drop(short);
        put.await.unwrap();
        assert_eq!(get.await.unwrap().as_deref(), Some("key"));
        assert_eq!((contains.await.unwrap(), get_with.await.unwrap()), (true, Some(3)));
        let pair = send(range.try_next()).await.unwrap();
        assert_eq!(pair, Some(("key".to_owned(), "key".to_owned())));
        assert_eq!(take.await.unwrap().as_deref(), Some("key"));
        let many = tokio::spawn(async move { send(tree.get_many(["a", "b"])).await });
        assert_eq!(many.await.unwrap().unwrap(), [None, None]);
    });
}

/// The user's own: names regardless of case, in reverse.
#[derive(Debug, PartialEq)]
struct Descending(String);

impl Key for Descending {
    type Borrowed<'k> = &'k str;
    const VERSION: u32 = 2;

    fn type_name() -> String {
        "descending name".into()
    }

    fn as_borrowed(&self) -> &str {
        &self.0
    }

    fn encode(key: &str, out: &mut Vec<u8>) {
        Reverse::<String>::encode(Reverse(&key.to_lowercase()), out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(Reverse::<String>::decode(bytes)?.0))
    }
}

/// The user's own: a percentage, which has no encoding beyond 100.
#[derive(Debug, PartialEq)]
struct Percent(u8);

impl Value for Percent {
    type Borrowed<'v> = u8;

    fn as_borrowed(&self) -> u8 {
        self.0
    }

    fn encode(value: u8, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if value > 100 {
            return Err(EncodeError::new(format!("{value} is more than 100")));
        }
        out.push(value);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes {
            [value @ ..=100] => Ok(Self(*value)),
            _ => Err(DecodeError::new("it is no percentage")),
        }
    }
}

#[test]
fn j1_an_order_of_the_users_own_rules_the_tree() {
    on_tokio(2, "own order", async {
        let home = Home::new();
        let db = open(&home).await;
        let tree = db.typed::<Descending, u64>("t").await.unwrap();
        for n in 0..300 {
            let name = if n % 2 == 0 { format!("NAME {n:03}") } else { format!("name {n:03}") };
            tree.put(&name, n).durability(Durability::None).await.unwrap();
        }
        assert_eq!(tree.get("Name 007").await.unwrap(), Some(7));
        assert_eq!(tree.insert("nAME 200", 0).await.unwrap_err().kind(), ErrorKind::KeyExists);
        let values: Vec<u64> = pairs(&tree).await.into_iter().map(|(_, value)| value).collect();
        assert!(values.into_iter().eq((0..300).rev()));
        let some: Vec<_> = tree.range("NAME 003".."name 001").try_collect().await.unwrap();
        let names: Vec<_> = some.into_iter().map(|(Descending(name), _)| name).collect();
        assert_eq!(names, ["name 003", "name 002"]);
        let (_, options) = &db.trees()[0];
        let key_type = options.key_type.as_ref().unwrap();
        assert_eq!((key_type.name.as_str(), key_type.version), ("descending name", 2));
    });
}

#[test]
fn j2_a_value_of_the_users_own_that_cannot_be_encoded_is_refused_before_anything_happens() {
    on_tokio(2, "own value", async {
        let home = Home::new();
        let db = open(&home).await;
        let tree = db.typed::<char, Percent>("t").await.unwrap();
        tree.put('a', 100).await.unwrap();
        let error = tree.put('a', 101).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("101 is more than 100"), "{error}");
        let mut batch = db.batch();
        batch.typed(&tree).put('b', 1).put('c', 255).put('d', 2);
        assert_eq!(batch.commit().await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(pairs(&tree).await, [('a', Percent(100))]);
    });
}
