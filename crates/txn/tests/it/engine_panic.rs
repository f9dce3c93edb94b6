//! A task of the engine's that panics stops the engine: nobody waits for ever for what it had in hand,
//! and the database opens again with everything that was acknowledged.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use crate::engine_support::{Op, batch, options};
use futures::executor::block_on;
use treering_pagefile::{DiskOptions, EngineThread, FileErrorKind, open_directory};
use treering_txn::{Durability, Engine};

async fn open(path: &Path) -> Arc<Engine> {
    let disk = open_directory(path, &DiskOptions::default()).unwrap();
    let runtime = Arc::new(EngineThread::start().unwrap());
    Engine::open(disk, runtime, options(16, 1), Box::new(())).await.unwrap()
}

#[test]
fn a_task_that_panics_stops_the_engine_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    block_on(async {
        let engine = open(folder.path()).await;
        let tree = engine.tree(b"t").await.unwrap();
        engine.backup(|| panic!("what the test is about")).await.unwrap_err();
        // It is told a moment before the engine knows.
        let stopped = loop {
            assert!(acknowledged < 10_000, "the engine goes on");
            let put = [Op::put(0, format!("{acknowledged:05}").as_bytes(), b"value")];
            match engine.commit(batch(&[tree], &put), Durability::Durable).await {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(stopped.file_kind(), Some(FileErrorKind::Poisoned));
        assert!(stopped.to_string().contains("panicked"), "{stopped}");
        // It ends nevertheless, so that the folder is free.
        let _ = engine.close().await;
    });
    block_on(async {
        let engine = open(folder.path()).await;
        let tree = engine.tree(b"t").await.unwrap();
        for number in 0..acknowledged {
            let key = format!("{number:05}");
            assert!(Arc::clone(&engine).get(tree, key.as_bytes()).await.unwrap().is_some());
        }
        engine.close().await.unwrap();
    });
}
