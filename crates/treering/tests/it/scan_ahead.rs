//! A cold scan has pages asked for before it comes to them, in both directions and across parents; it
//! reads each page once, and none behind the end of its range.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use crate::common::{Home, on_tokio, tiny};
use treering::{Database, Durability, Range, Tree};

const KEYS: u32 = 20_000;

fn key(number: u32) -> Vec<u8> {
    format!("{:03}/{number:06}", number / 1000).into_bytes()
}

/// A tree of some thousand leaves of 512 bytes, and nothing of it in memory.
async fn cold(home: &Home) -> (Database, Tree) {
    let db = tiny(512, 8192).open(&home.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    for number in 0..KEYS {
        tree.put(key(number), [1; 20]).durability(Durability::None).await.unwrap();
    }
    db.close().await.unwrap();
    let db = tiny(512, 8192).open(&home.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    (db, tree)
}

fn loads(db: &Database) -> u64 {
    db.stats().pool.loads
}

/// Goes through a range, and says how many leaves it had, and by how many pages the loads were ahead
/// of them, at most.
async fn through(db: &Database, mut range: Range) -> (u64, u64) {
    let before = loads(db);
    let (mut leaves, mut ahead) = (0, 0);
    while range.next_chunk().await.unwrap().is_some() {
        leaves += 1;
        ahead = ahead.max((loads(db) - before).saturating_sub(leaves));
    }
    (leaves, ahead)
}

#[test]
fn t16_a_cold_scan_keeps_many_reads_in_flight_and_reads_each_page_once() {
    on_tokio(2, "cold scans", async {
        for backward in [false, true] {
            let home = Home::new();
            let (db, tree) = cold(&home).await;
            let before = loads(&db);
            let range = if backward { tree.range(..).rev() } else { tree.range(..) };
            let (leaves, ahead) = through(&db, range).await;
            assert!(leaves > 1000, "{leaves} leaves");
            // The children of several parents.
            assert!(ahead > 64, "{ahead} ahead of {leaves}, backward: {backward}");
            let read = loads(&db) - before;
            let pages = db.verify().await.unwrap().pages;
            assert!(read <= pages, "{read} reads of {pages} pages, backward: {backward}");
        }
    });
}

#[test]
fn a_range_of_some_leaves_reads_little_behind_its_end() {
    on_tokio(2, "a short cold range", async {
        for backward in [false, true] {
            let home = Home::new();
            let (db, tree) = cold(&home).await;
            let before = loads(&db);
            let range = tree.prefix("007/");
            let range = if backward { range.rev() } else { range };
            let (leaves, _) = through(&db, range).await;
            let read = loads(&db) - before;
            // Beside its leaves: the way down, and each parent of some of them.
            assert!(leaves > 50 && read < leaves + leaves / 8 + 8, "{read} reads, {leaves} leaves");
        }
    });
}

#[test]
fn a_look_at_one_leaf_reads_nothing_ahead() {
    on_tokio(2, "one leaf", async {
        let home = Home::new();
        let (db, tree) = cold(&home).await;
        let before = loads(&db);
        assert!(!tree.range(key(5000)..).next_chunk().await.unwrap().unwrap().is_empty());
        assert!(loads(&db) - before < 8, "{} pages for one leaf", loads(&db) - before);
    });
}
