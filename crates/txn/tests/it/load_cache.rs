//! A bulk load much larger than the cache leaves what is in the cache where it is: its pages never
//! come into frames. It takes far fewer writes than it has pages.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use crate::engine_support::{assert_clean, machine, open, options};
use treering_txn::{Batch, Durability, Finished, OpKind};

const FRAMES: usize = 64;

#[test]
fn a_load_of_many_times_the_cache_evicts_nothing() {
    let sim = machine(1);
    sim.run(async {
        let engine = open(&sim, options(FRAMES, 1)).await.unwrap();
        let (tree, other) =
            (engine.tree(b"loaded").await.unwrap(), engine.tree(b"other").await.unwrap());
        for number in 0..100u32 {
            let mut batch = Batch::new();
            batch.push(other, OpKind::Put, &number.to_be_bytes(), &[7; 40]);
            engine.commit(batch, Durability::None).await.unwrap();
        }
        engine.checkpoint().await.unwrap();
        let (before, ios) = (engine.stats().pool, sim.disk().io_count());
        let mut load = engine.load(tree).unwrap();
        for number in 0..5000u32 {
            load.push(&number.to_be_bytes(), &[9; 40]).await.unwrap();
        }
        load.build().await.unwrap();
        let (after, pages) = (engine.stats().pool, load.pages());
        assert!(pages > 6 * FRAMES as u64, "{pages} pages");
        assert_eq!((after.evictions, after.loads), (before.evictions, before.loads));
        let ios = sim.disk().io_count() - ios;
        assert!(ios < pages / 3, "{ios} I/Os for {pages} pages");
        assert!(matches!(load.finish().await.unwrap(), Finished::Committed { .. }));
        let loads = engine.stats().pool.loads;
        for number in 0..100u32 {
            assert!(Arc::clone(&engine).get(other, &number.to_be_bytes()).await.unwrap().is_some());
        }
        assert_eq!(engine.stats().pool.loads, loads, "the other tree is in memory still");
        for number in (0..5000u32).step_by(17) {
            let value = Arc::clone(&engine).get(tree, &number.to_be_bytes()).await.unwrap();
            assert_eq!(value, Some(vec![9; 40]));
        }
        assert_clean(&engine, "loaded").await;
        engine.close().await.unwrap();
    })
    .unwrap();
}
