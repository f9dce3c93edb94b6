//! Large values through the face, on a real disk: every operation takes and gives them, parts and
//! streams of them, beside values that are not large.

#![allow(missing_docs, clippy::unwrap_used)]

use futures::{AsyncReadExt, StreamExt, TryStreamExt};
use treering::{Database, Durability, ErrorKind, Options};

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A database in a folder of its own, which lives as long as the first of the two.
async fn database() -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new().cache_size(1 << 20).durability(Durability::None);
    let db = options.open(folder.path().join("data.tr")).await.unwrap();
    (folder, db)
}

#[test]
fn every_operation_takes_and_gives_large_values() {
    smol::block_on(async {
        let (_folder, db) = database().await;
        let tree = db.tree("t").await.unwrap();
        let (a, b, c) = (bytes(1, 5_000), bytes(2, 300_000), bytes(3, 1_000_001));
        tree.put("a", &a).await.unwrap();
        tree.put("b", b"small").await.unwrap();
        tree.insert("c", &c).await.unwrap();
        assert_eq!(tree.insert("c", &a).await.unwrap_err().kind(), ErrorKind::KeyExists);
        assert_eq!(tree.update("d", &a).await.unwrap_err().kind(), ErrorKind::KeyMissing);
        assert!(*tree.get("a").await.unwrap().unwrap() == *a);
        assert_eq!(tree.get_with("c", |value| value.len()).await.unwrap(), Some(c.len()));
        assert_eq!(tree.value_len("c").await.unwrap(), Some(c.len() as u64));
        assert!(tree.contains("a").await.unwrap() && !tree.contains("d").await.unwrap());
        assert!(*tree.replace("a", &b).await.unwrap().unwrap() == *a);
        assert!(*tree.replace("b", &c).await.unwrap().unwrap() == *b"small");
        assert!(*tree.replace("b", "tiny").await.unwrap().unwrap() == *c);
        let many = tree.get_many(["c", "x", "b", "a"]).await.unwrap();
        let many: Vec<_> = many.iter().map(|value| value.as_deref()).collect();
        assert!(many == [Some(&c[..]), None, Some(b"tiny"), Some(&b[..])]);

        // In a range they come with the others, in either direction.
        let pairs: Vec<_> = tree.range(..).try_collect().await.unwrap();
        let expected = [(&b"a"[..], &b[..]), (b"b", b"tiny"), (b"c", &c)];
        assert!(pairs.iter().map(|(key, value)| (&key[..], &value[..])).eq(expected));
        let mut range = tree.range(..).rev();
        let mut chunks = Vec::new();
        while let Some(chunk) = range.next_chunk().await.unwrap() {
            chunks.extend(chunk.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        }
        assert!(chunks.iter().rev().map(|(key, value)| (&key[..], &value[..])).eq(expected));

        // Compare and swap.
        let mut batch = db.batch();
        batch.require_value(&tree, "a", &a).put(&tree, "a", b"swapped");
        assert_eq!(batch.commit().await.unwrap_err().kind(), ErrorKind::ValueDiffers);
        let mut batch = db.batch();
        batch.require_value(&tree, "a", &b).put(&tree, "a", &c).delete(&tree, "c");
        batch.commit().await.unwrap();
        assert!(*tree.get("a").await.unwrap().unwrap() == *c);
        assert!(tree.take("c").await.unwrap().is_none());
        assert!(*tree.take("a").await.unwrap().unwrap() == *c);
        assert!(!tree.delete("a").await.unwrap());
        let report = db.verify().await.unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
        db.close().await.unwrap();
    });
}

#[test]
fn parts_of_a_value_are_read_without_the_rest() {
    smol::block_on(async {
        let (_folder, db) = database().await;
        let tree = db.tree("t").await.unwrap();
        let large = bytes(1, 3_000_000);
        tree.put("large", &large).await.unwrap();
        tree.put("small", b"0123456789").await.unwrap();
        for (key, value) in [("large", &large[..]), ("small", b"0123456789")] {
            let len = value.len() as u64;
            let ranges = [0..0, 0..1, 0..len, 3..8, len - 1..len, len - 1..len + 9, len..len + 1];
            for range in ranges.into_iter().chain([4000..4200, 1_000_000..1_500_000]) {
                let part = tree.get_range(key, range.clone()).await.unwrap().unwrap();
                let (start, end) = (range.start.min(len), range.end.min(len));
                assert!(*part == value[start as usize..end as usize], "{key}, {range:?}");
            }
            assert!(*tree.get_range(key, ..).await.unwrap().unwrap() == *value);
            assert!(*tree.get_range(key, 5..=7).await.unwrap().unwrap() == value[5..8]);
        }
        assert!(tree.get_range("none", 1..2).await.unwrap().is_none());
        let before = db.stats().pool.loads;
        tree.get_range("large", 2_000_000..2_000_010).await.unwrap().unwrap();
        assert!(db.stats().pool.loads - before <= 2, "only the pages that are needed");
        db.close().await.unwrap();
    });
}

#[test]
fn a_value_of_64_mib_goes_through_a_cache_of_one() {
    smol::block_on(async {
        let (folder, db) = database().await;
        let tree = db.tree("t").await.unwrap();
        let value = bytes(1, 64 << 20);
        tree.put("whole", &value).durability(Durability::Durable).await.unwrap();
        let mut writer = tree.write_stream("stream").unwrap().durability(Durability::Durable);
        for piece in value.chunks(1_234_567) {
            writer.write(piece).await.unwrap();
        }
        assert_eq!(writer.len(), value.len() as u64);
        writer.commit().await.unwrap();
        assert!(*tree.get("stream").await.unwrap().unwrap() == *value);
        drop((tree, db));

        let db = Database::open(folder.path().join("data.tr")).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let mut reader = tree.read_stream("whole").await.unwrap().unwrap();
        assert_eq!(reader.len(), value.len() as u64);
        let mut at = 0;
        while let Some(part) = reader.next().await {
            let part = part.unwrap();
            assert!(*part == value[at..at + part.len()]);
            at += part.len();
        }
        assert_eq!(at, value.len());
        let mut read = Vec::new();
        let mut reader = tree.read_stream("stream").await.unwrap().unwrap();
        reader.read_to_end(&mut read).await.unwrap();
        assert!(read == value);

        let full = db.stats().space.used;
        assert!(full > 128 << 20);
        tree.delete("whole").await.unwrap();
        tree.delete("stream").await.unwrap();
        db.checkpoint().await.unwrap();
        let space = db.stats().space;
        assert!(space.used < 1 << 20, "{space:?}");
        let report = db.verify().await.unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
        db.close().await.unwrap();
    });
}

#[test]
fn values_beyond_a_gibibyte_are_refused() {
    smol::block_on(async {
        let (_folder, db) = database().await;
        let tree = db.tree("t").await.unwrap();
        let mut writer = tree.write_stream("key").unwrap();
        writer.write(&[1; 100]).await.unwrap();
        let long = vec![0; 1 << 30];
        let error = writer.write(&long).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("a value of 1073741924 bytes is too long"), "{error}");
        assert!(!tree.contains("key").await.unwrap());
        db.close().await.unwrap();
    });
}

/// A gibibyte takes a while and as much of the disk: only when `TREERING_SOAK` is set.
#[test]
fn a_value_of_a_gibibyte_is_streamed_in_and_out_overwritten_and_deleted() {
    if std::env::var_os("TREERING_SOAK").is_none() {
        return;
    }
    smol::block_on(async {
        let (_folder, db) = database().await;
        let tree = db.tree("t").await.unwrap();
        let piece = bytes(1, 1 << 20);
        for round in 0..2_u64 {
            let begun = std::time::Instant::now();
            let mut writer = tree.write_stream("key").unwrap();
            for number in 0..1024 {
                let mut piece = piece.clone();
                piece[..8].copy_from_slice(&(number ^ round).to_le_bytes());
                writer.write(&piece).await.unwrap();
            }
            let written = begun.elapsed();
            writer.commit().await.unwrap();
            println!("round {round}: written {written:?}, committed {:?}", begun.elapsed());
        }
        let begun = std::time::Instant::now();
        let mut reader = tree.read_stream("key").await.unwrap().unwrap();
        let mut number = 0_u64;
        while let Some(part) = reader.next().await {
            let part = part.unwrap();
            assert_eq!(part.len(), 1 << 20);
            assert!(part[..8] == (number ^ 1).to_le_bytes() && part[8..] == piece[8..]);
            number += 1;
        }
        assert_eq!(number, 1024);
        println!("read {:?}", begun.elapsed());
        let begun = std::time::Instant::now();
        tree.delete("key").await.unwrap();
        println!("deleted {:?}", begun.elapsed());
        let begun = std::time::Instant::now();
        db.checkpoint().await.unwrap();
        println!("checkpoint {:?}", begun.elapsed());
        assert!(db.stats().space.used < 1 << 20);
        db.close().await.unwrap();
    });
}
