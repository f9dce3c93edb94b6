//! The log as the sequencer: epochs, exact cuts, and the end of an epoch (I5).

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::log_support::{Task, World, options};
use treering_txn::AppendError;

#[test]
fn a_flip_ends_an_epoch_between_two_records() {
    let world = World::new();
    let (log, _) = world.start(options(64, 4, 4));
    assert_eq!(log.try_append(1, b"a").unwrap().sequence(), 1);
    let flip = log.flip();
    assert_eq!((flip.closed_epoch, flip.last_sequence, log.epoch()), (1, 1, 2));
    assert!(matches!(log.try_append(1, b"b"), Err(AppendError::EpochChanged)));
    assert!(log.try_enter(1).is_none());
    let applying = log.try_append(2, b"b").unwrap();
    assert_eq!((applying.epoch(), applying.sequence()), (2, 2));
    let entered = log.try_enter(2).unwrap();
    assert_eq!((entered.epoch(), entered.sequence(), log.last_sequence()), (2, 0, 2));
}

#[test]
fn an_epoch_is_quiet_when_its_last_applier_is_gone() {
    let world = World::new();
    let (log, _) = world.start(options(64, 4, 4));
    let appending = log.try_append(1, b"a").unwrap();
    let structural = log.try_enter(1).unwrap();
    log.flip();
    let mut quiet = Task::new({
        let log = log.clone();
        async move { log.quiesced(1).await }
    });
    assert!(quiet.poll().is_pending());
    let next_epoch = log.try_append(2, b"b").unwrap();
    assert!(log.try_enter(1).is_none());
    quiet.flag.take();
    assert!(quiet.poll().is_pending());
    drop(appending);
    assert!(!quiet.flag.take());
    drop(structural);
    assert!(quiet.flag.take() && quiet.poll().is_ready(), "epoch 2 is not waited for");
    drop(next_epoch);
    log.flip();
    world.run(log.quiesced(2));
}

/// Every record carries its epoch. After the run, the log must show each epoch's records in one
/// piece, cut where `flip` said.
#[test]
fn flips_are_exact_cuts_under_eight_threads() {
    const THREADS: usize = 8;
    const RECORDS: usize = 4000;
    let world = World::new();
    let (log, start) = world.start(options(4096, 4, 16));
    let over = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    let barrier = Barrier::new(THREADS + 1);
    let mut cuts = Vec::new();
    thread::scope(|scope| {
        let disk = scope.spawn(|| world.disk.serve(&over));
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (log, barrier) = (Arc::clone(&log), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let mut before = 0;
                    for at in 0..RECORDS {
                        loop {
                            let epoch = log.epoch();
                            match log.try_append(epoch, &epoch.to_le_bytes()) {
                                Ok(applying) => {
                                    assert!(applying.sequence() > before);
                                    before = applying.sequence();
                                    break;
                                }
                                Err(AppendError::EpochChanged) => {}
                                Err(AppendError::NoRoom) => {
                                    futures::executor::block_on(log.wait_room());
                                }
                                Err(error) => panic!("{error}"),
                            }
                            drop(log.try_enter(epoch));
                        }
                        if at % 64 == thread {
                            futures::executor::block_on(log.wait_durable(before)).unwrap();
                        }
                    }
                })
            })
            .collect();
        let flipper = scope.spawn(|| {
            let mut cuts = Vec::new();
            barrier.wait();
            while !done.load(Ordering::SeqCst) {
                let flip = log.flip();
                futures::executor::block_on(log.quiesced(flip.closed_epoch));
                cuts.push(flip);
                thread::yield_now();
            }
            cuts
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::SeqCst);
        cuts = flipper.join().unwrap();
        futures::executor::block_on(log.wait_durable(log.last_sequence())).unwrap();
        over.store(true, Ordering::SeqCst);
        world.disk.wake_server();
        disk.join().unwrap();
    });

    let records = world.recover(start, 0).unwrap();
    assert_eq!(records.len(), THREADS * RECORDS);
    assert!(!cuts.is_empty());
    let mut cuts = cuts.into_iter().peekable();
    let mut epoch = 1;
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record.sequence, at as u64 + 1);
        while let Some(flip) = cuts.next_if(|flip| flip.last_sequence < record.sequence) {
            assert_eq!(flip.closed_epoch, epoch);
            epoch += 1;
        }
        assert_eq!(record.body, epoch.to_le_bytes(), "record {}", record.sequence);
    }
}
