//! Row T5: every page size from 2^9 to 2^24 bytes makes a database that splits, deletes, recovers and
//! verifies, and that knows its own page size.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::collections::BTreeMap;

use crate::common::{Home, all, assert_sound};
use futures::executor::block_on;
use treering::{Durability, ErrorKind, Options};

/// A few dozen frames, and a log that takes two of the values at once.
fn options(page_size: usize) -> Options {
    let frames = if page_size > 1 << 20 { 16 } else { 64 };
    Options::new()
        .cache_size((page_size * frames) as u64)
        .log_size(1 << 20)
        .log_buffer((2 * value_len(page_size) + 4096).max(64 << 10))
}

/// Some eight of them fill a leaf.
fn value_len(page_size: usize) -> usize {
    page_size / 8 - 20
}

/// So many that leaves split, a few times with large pages, some hundred times with small ones.
fn count(page_size: usize) -> usize {
    ((256 << 10) / page_size).clamp(20, 1000)
}

fn key(number: usize) -> Vec<u8> {
    format!("{number:06}").into_bytes()
}

fn value(page_size: usize, number: usize) -> Vec<u8> {
    vec![number as u8; value_len(page_size) - number % 7]
}

fn a_database_with_pages_of(page_size: usize) {
    block_on(async {
        let home = Home::new();
        let mut model = BTreeMap::new();
        let db = options(page_size).page_size(page_size).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let count = count(page_size);
        for number in 0..count {
            let put = tree.put(key(number), value(page_size, number));
            put.durability(Durability::None).await.unwrap();
            model.insert(key(number), value(page_size, number));
        }
        for number in (0..count).step_by(3) {
            assert!(tree.delete(key(number)).durability(Durability::None).await.unwrap());
            model.remove(&key(number));
        }
        let report = db.verify().await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new(), "pages of {page_size} bytes");
        assert!(report.height >= 2 && report.pages >= 4, "pages of {page_size}: {report:?}");
        db.close().await.unwrap();

        // Nobody says what the page size is; and the log is replayed, too.
        let db = options(page_size).open(&home.path).await.unwrap();
        assert_eq!(db.stats().page_size, page_size);
        let tree = db.tree("t").await.unwrap();
        tree.put(key(3), value(page_size, 3)).await.unwrap();
        model.insert(key(3), value(page_size, 3));
        drop((tree, db));
        let db = options(page_size).page_size(page_size).open(&home.path).await.unwrap();
        assert!(db.recovery().replayed > 0);
        let found = all(&db.tree("t").await.unwrap()).await;
        assert!(found == model.into_iter().collect::<Vec<_>>(), "pages of {page_size} bytes");
        assert_sound(&db).await;
        db.close().await.unwrap();

        let other = if page_size == 4096 { 8192 } else { 4096 };
        let error = options(page_size).page_size(other).open(&home.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("{page_size}")) && text.contains(&format!("{other}")),
            "{text}"
        );
    });
}

#[test]
fn t05_small_pages() {
    for shift in 9..14 {
        a_database_with_pages_of(1 << shift);
    }
}

#[test]
fn t05_middling_pages() {
    for shift in 14..20 {
        a_database_with_pages_of(1 << shift);
    }
}

#[test]
fn t05_large_pages() {
    for shift in 20..=24 {
        a_database_with_pages_of(1 << shift);
    }
}

#[test]
fn t05_no_other_sizes() {
    block_on(async {
        for page_size in [0, 1, 256, 511, 513, 1000, 12_288, 1 << 25] {
            let home = Home::new();
            let opened = Options::new().cache_size(1 << 20).page_size(page_size).open(&home.path);
            let error = opened.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{page_size}: {error}");
        }
    });
}
