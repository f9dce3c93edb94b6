//! A page of a large value that decayed, was lost, or is another's: reading the value is an error that
//! names the page, a part that lies elsewhere can still be read, and `verify` finds it (I7).

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use crate::engine_support::{
    Op, PAGE, Rng, assert_clean, batch, large_value, machine, open, options,
};
use treering_pagefile::{AlignedBuf, Disk, FileErrorKind, Op as Io, PageId, seal};
use treering_txn::{Durability, Engine};

/// What becomes of a page on disk, given its bytes and those of another page.
type Spoil = fn(&mut [u8], &[u8]);

fn spoil_and_look(spoil: Spoil, says: &str) {
    let sim = machine(1);
    let disk: Arc<dyn Disk> = sim.disk();
    sim.run(async {
        let engine = open(&sim, options(32, 1)).await.unwrap();
        let tree = engine.tree(b"t").await.unwrap();
        let mut value = large_value(&mut Rng::new(5));
        value.resize(20 * (PAGE - 32), 3);
        let put = |value: &[u8]| batch(&[tree], &[Op::put(0, b"key", value)]);
        engine.commit(put(&value), Durability::Durable).await.unwrap();
        assert_clean(&engine, "before").await;

        // The only large value has the pages with the header that no page of a tree has.
        let file = engine.pool().file().file();
        let mut pages = Vec::new();
        for (page, extent) in engine.pool().extents() {
            let bytes = disk.read(file, extent.offset, PAGE).await.unwrap();
            if bytes[20] == 0xff {
                pages.push((page, extent));
            }
        }
        assert_eq!(pages.len(), 20);
        pages.sort_unstable();
        let (page, extent) = pages[11];
        let mut bytes = disk.read(file, extent.offset, PAGE).await.unwrap();
        let other = disk.read(file, pages[12].1.offset, PAGE).await.unwrap();
        spoil(&mut bytes, &other);
        let mut spoiled = AlignedBuf::zeroed(PAGE);
        spoiled.copy_from_slice(&bytes);
        disk.write(file, Io::Write, extent.offset, spoiled).await.unwrap();

        let error = Arc::clone(&engine).get(tree, b"key").await.unwrap_err();
        assert_eq!(error.file_kind(), Some(FileErrorKind::Damaged), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        let beside = 0..11 * (PAGE as u64 - 32);
        let part = Arc::clone(&engine).get_range(tree, b"key", beside.clone()).await.unwrap();
        assert_eq!(part.unwrap(), value[..beside.end as usize]);
        let report = engine.verify().await.unwrap();
        assert!(report.problems.iter().any(|problem| problem.contains(says)), "{report:?}");
        assert_eq!(report.problems.len(), 1, "{report:?} for {page}");

        // What replaces it is sound, and nothing of the damage is left.
        engine.commit(put(&value[1..]), Durability::Durable).await.unwrap();
        let got = Arc::clone(&engine).get(tree, b"key").await.unwrap();
        assert!(got.as_deref() == Some(&value[1..]));
        assert_clean(&engine, "after").await;
        engine.close().await.unwrap();
    })
    .unwrap();
}

#[test]
fn a_decayed_page_of_a_large_value_is_named() {
    spoil_and_look(|bytes, _| bytes[300] ^= 1, "its checksum does not fit");
}

#[test]
fn a_misdirected_page_of_a_large_value_is_named() {
    spoil_and_look(|bytes, other| bytes.copy_from_slice(other), "was found in its place");
}

#[test]
fn a_lost_write_of_a_page_of_a_large_value_is_named() {
    let spoil = |bytes: &mut [u8], _: &[u8]| {
        let id = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
        let stamp = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
        bytes[100] ^= 1;
        seal(bytes, PageId(id), stamp - 1);
    };
    spoil_and_look(spoil, "an older image was found");
}

#[test]
fn a_page_of_another_version_in_a_leafs_value_is_damage() {
    let spoil = |bytes: &mut [u8], _: &[u8]| {
        let id = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
        let stamp = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
        bytes[24] ^= 1;
        seal(bytes, PageId(id), stamp);
    };
    spoil_and_look(spoil, "its pages are not there");
}

#[test]
fn a_page_that_no_value_refers_to_is_reported() {
    let sim = machine(2);
    sim.run(async {
        let engine: Arc<Engine> = open(&sim, options(32, 1)).await.unwrap();
        // Published without a leaf that refers to it: no user can do that.
        let mut maker = engine.pool().make_value(7, 1, 1000);
        assert!(maker.try_take(1000));
        assert_eq!(maker.write(&[5; 1000]).await.unwrap(), 1000);
        let written = maker.finish().await.unwrap();
        assert_clean(&engine, "as long as it may still be meant for a leaf").await;
        engine.pool().publish_value(written, 2);
        let report = engine.verify().await.unwrap();
        let lost = report.problems.iter().filter(|problem| problem.contains("in no tree"));
        assert_eq!(lost.count(), 3, "{report:?}");
        engine.close().await.unwrap();
    })
    .unwrap();
}
