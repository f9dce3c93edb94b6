//! Values written piece by piece: there when they are committed and not before; given back when the
//! writer goes, when the disk is full, and when the database closes; refused beyond a gigabyte.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use crate::engine_support::{Rng, assert_clean, machine, open, options, patient};
use treering_pagefile::FileErrorKind;
use treering_pagefile::sim::{Sim, SimDiskOptions};
use treering_txn::{Durability, Error};

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| rng.next().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

#[test]
fn a_stream_is_there_when_it_is_committed_and_leaves_nothing_when_it_is_dropped() {
    for (len, piece) in [(10, 3), (150_000, 7_000), (1 << 20, 1 << 20), (2_500_000, 300_001)] {
        let mut sim = machine(len as u64);
        let value = bytes(1, len);
        let lived = sim.run(async {
            let engine = open(&sim, options(64, 1)).await.unwrap();
            let tree = engine.tree(b"t").await.unwrap();
            engine.checkpoint().await.unwrap();
            let (space, pages) = (engine.stats().space, engine.pool().pages().len());

            let mut writer = engine.write_stream(tree, b"key").unwrap();
            for piece in value.chunks(piece) {
                writer.write(piece).await.unwrap();
                assert_eq!(Arc::clone(&engine).get(tree, b"key").await.unwrap(), None);
            }
            assert_eq!(writer.len(), len as u64);
            assert_clean(&engine, "while it is being written").await;
            drop(writer);
            // The task that wrote it notices in its own time.
            while engine.stats().space.used - engine.stats().space.map != space.used - space.map {
                engine.checkpoint().await.unwrap();
            }
            assert_eq!(engine.pool().pages().len(), pages);

            let mut writer = engine.write_stream(tree, b"key").unwrap();
            for piece in value.chunks(piece) {
                writer.write(piece).await.unwrap();
            }
            writer.commit(Durability::Durable).await.unwrap();
            assert_clean(&engine, "committed").await;
        });
        lived.unwrap();
        let image = sim.disk().image_durable_only();
        sim = patient(Sim::from_image(&image, 2));
        let lived = sim.run(async {
            let engine = open(&sim, options(64, 2)).await.unwrap();
            let tree = engine.find_tree(b"t").unwrap();
            let mut reader = engine.read_stream(tree, b"key").await.unwrap().unwrap();
            assert_eq!(reader.len(), len as u64);
            let mut read = Vec::new();
            while let Some(part) = reader.next().await.unwrap() {
                read.extend(part);
                assert_eq!(reader.position(), read.len() as u64);
            }
            assert!(read == value);
            assert!(engine.read_stream(tree, b"other").await.unwrap().is_none());
            assert_clean(&engine, "reopened").await;
            engine.close().await.unwrap();
        });
        lived.unwrap();
    }
}

#[test]
fn a_reader_says_so_when_its_value_was_replaced_and_is_gone() {
    let sim = machine(3);
    sim.run(async {
        let engine = open(&sim, options(64, 1)).await.unwrap();
        let tree = engine.tree(b"t").await.unwrap();
        let write = async |seed| {
            let mut writer = engine.write_stream(tree, b"key").unwrap();
            writer.write(&bytes(seed, 3 << 20)).await.unwrap();
            writer.commit(Durability::None).await.unwrap();
        };
        write(1).await;
        let mut reader = engine.read_stream(tree, b"key").await.unwrap().unwrap();
        let mut read = reader.next().await.unwrap().unwrap();
        write(2).await;
        // What was replaced stays until a checkpoint.
        read.extend(reader.next().await.unwrap().unwrap());
        assert!(read == bytes(1, 2 << 20));
        engine.checkpoint().await.unwrap();
        assert!(matches!(reader.next().await, Err(Error::Replaced)));
        engine.close().await.unwrap();
    })
    .unwrap();
}

#[test]
fn a_stream_that_fills_the_disk_fails_and_gives_all_of_it_back() {
    let options_of = SimDiskOptions { capacity: 1 << 20, ..SimDiskOptions::default() };
    let sim = patient(Sim::with_options(1, options_of));
    sim.run(async {
        let engine = open(&sim, options(64, 1)).await.unwrap();
        let tree = engine.tree(b"t").await.unwrap();
        let mut writer = engine.write_stream(tree, b"key").unwrap();
        let error = loop {
            if let Err(error) = writer.write(&bytes(1, 100_000)).await {
                break error;
            }
        };
        assert_eq!(error.file_kind(), Some(FileErrorKind::Full), "{error}");
        assert!(matches!(writer.write(b"more").await, Err(Error::Stream(_))));
        assert!(matches!(writer.commit(Durability::None).await, Err(Error::Stream(_))));
        assert_clean(&engine, "after it").await;
        let mut writer = engine.write_stream(tree, b"key").unwrap();
        writer.write(&bytes(2, 200_000)).await.unwrap();
        writer.commit(Durability::Durable).await.unwrap();
        let got = Arc::clone(&engine).get(tree, b"key").await.unwrap();
        assert!(got == Some(bytes(2, 200_000)));
        engine.close().await.unwrap();
    })
    .unwrap();
}

#[test]
fn closing_ends_the_streams_that_are_open() {
    let sim = machine(5);
    sim.run(async {
        let engine = open(&sim, options(64, 1)).await.unwrap();
        let tree = engine.tree(b"t").await.unwrap();
        let mut writer = engine.write_stream(tree, b"key").unwrap();
        writer.write(&bytes(1, 3 << 20)).await.unwrap();
        let reader = engine.read_stream(tree, b"key").await.unwrap();
        assert!(reader.is_none());
        engine.close().await.unwrap();
        assert!(matches!(writer.commit(Durability::None).await, Err(Error::Closed)));
    })
    .unwrap();
}
