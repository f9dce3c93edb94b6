//! Typed trees, and an order of one's own: names that are the same whatever their case.
//!
//! A type becomes a key by saying which bytes it is stored as; their order is its order. What was
//! typed in is kept in the value, as the key only keeps what makes it different from others.
//!
//! `cargo run --release -p treering --example own_order`

use futures::TryStreamExt;
use treering::{DecodeError, Error, ErrorKind, Key, Options};

/// A name, regardless of case.
#[derive(Debug)]
struct Caseless(String);

impl Key for Caseless {
    type Borrowed<'k> = &'k str;

    fn type_name() -> String {
        // Stored with the tree: opening it as a tree of other keys is an error.
        "caseless".into()
    }

    fn as_borrowed(&self) -> &str {
        &self.0
    }

    fn encode(key: &str, out: &mut Vec<u8>) {
        String::encode(&key.to_lowercase(), out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(String::decode(bytes)?))
    }
}

fn main() -> Result<(), Error> {
    smol::block_on(phone_book())
}

async fn phone_book() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let db = Options::new().cache_size(16 << 20).open(folder.path().join("data.tr")).await?;

    let entries = db.typed::<Caseless, String>("entries").await?;
    for name in ["turing", "Hopper", "LOVELACE", "Émilie", "babbage"] {
        entries.insert(name, name).await?;
    }
    let again = entries.insert("Lovelace", "Lovelace").await.expect_err("she is there");
    assert_eq!(again.kind(), ErrorKind::KeyExists);
    assert_eq!(entries.get("HOPPER").await?.as_deref(), Some("Hopper"));
    let spelled: Vec<String> = entries.range(..).map_ok(|(_, name)| name).try_collect().await?;
    assert_eq!(spelled, ["babbage", "Hopper", "LOVELACE", "turing", "Émilie"]);

    // It is a part of other keys like any other: calls by name, then by time, the last one first.
    type Call = (Caseless, std::cmp::Reverse<u64>);
    let calls = db.typed::<Call, ()>("calls").await?;
    let mut batch = db.batch();
    let mut calling = batch.typed(&calls);
    for (name, second) in [("Hopper", 30), ("turing", 10), ("hopper", 20), ("HOPPER", 40)] {
        calling.put((name, std::cmp::Reverse(second)), ());
    }
    batch.commit().await?;
    let hopper = ("hopper", std::cmp::Reverse(u64::MAX))..=("hopper", std::cmp::Reverse(0));
    let seconds: Vec<u64> =
        calls.range(hopper).map_ok(|((_, second), ())| second.0).try_collect().await?;
    assert_eq!(seconds, [40, 30, 20]);

    let wrong = db.typed::<String, String>("entries").await.expect_err("its keys are caseless");
    println!("{}: {}", spelled.join(", "), wrong);
    db.close().await
}
