//! Futures of large values that are dropped, or that nobody polls any more: a write is wholly there
//! or wholly absent, nobody waits for it, and what a read had under way is nobody's (I1, I2).

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::engine_support::{Op, Rng, assert_clean, batch, large_value, machine, open, options};
use futures::poll;
use treering_txn::Durability;

#[test]
fn a_write_that_is_dropped_after_any_number_of_polls_is_there_or_not() {
    let (mut there, mut absent) = (0, 0);
    for polls in 0..16 {
        let sim = machine(polls);
        sim.run(async {
            let engine = open(&sim, options(32, polls)).await.unwrap();
            let tree = engine.tree(b"t").await.unwrap();
            let value = large_value(&mut Rng::new(polls));
            let put = batch(&[tree], &[Op::put(0, b"key", &value)]);
            let mut commit = Box::pin(engine.commit(put, Durability::Durable));
            for _ in 0..polls {
                if let Poll::Ready(committed) = poll!(&mut commit) {
                    committed.unwrap();
                    break;
                }
                sim.runtime().sleep(Duration::from_micros(40)).await;
            }
            drop(commit);
            // Others go on at once.
            let other = large_value(&mut Rng::new(100));
            let put = batch(&[tree], &[Op::put(0, b"other", &other)]);
            engine.commit(put, Durability::Durable).await.unwrap();
            assert!(Arc::clone(&engine).get(tree, b"other").await.unwrap() == Some(other));
            match Arc::clone(&engine).get(tree, b"key").await.unwrap() {
                Some(found) => {
                    assert!(found == value);
                    there += 1;
                }
                None => absent += 1,
            }
            assert_clean(&engine, &format!("after {polls} polls")).await;
            engine.close().await.unwrap();
        })
        .unwrap();
    }
    assert!(there > 0 && absent > 0, "{there} there, {absent} absent");
}

#[test]
fn reads_and_writes_that_are_never_polled_again_keep_nobody_waiting() {
    let sim = machine(1);
    sim.run(async {
        let engine = open(&sim, options(32, 1)).await.unwrap();
        let tree = engine.tree(b"t").await.unwrap();
        let value = large_value(&mut Rng::new(1));
        let put = |key: &[u8]| batch(&[tree], &[Op::put(0, key, &value)]);
        engine.commit(put(b"key"), Durability::Durable).await.unwrap();
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let mut read = Box::pin(Arc::clone(&engine).get(tree, b"key"));
            assert!(poll!(&mut read).is_pending());
            reads.push(read);
            let mut write = Box::pin(engine.commit(put(b"key"), Durability::Durable));
            assert!(poll!(&mut write).is_pending());
            writes.push(write);
        }
        let mut stream = engine.write_stream(tree, b"key").unwrap();
        stream.write(&vec![7; 2 << 20]).await.unwrap();
        for number in 0..20 {
            let key = [b'k', number];
            engine.commit(put(&key), Durability::Durable).await.unwrap();
            assert!(Arc::clone(&engine).get(tree, &key).await.unwrap().as_ref() == Some(&value));
            engine.checkpoint().await.unwrap();
        }
        assert_clean(&engine, "beside them").await;
        engine.close().await.unwrap();
        drop((reads, writes, stream));
    })
    .unwrap();
}
