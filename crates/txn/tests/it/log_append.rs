//! Appending, group commit, and waiting for durability and room (I1, I6, I8, I9, I10).

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use crate::log_support::{BLOCK, Task, World, assert_run, body, fresh, options};
use treering_pagefile::{FileError, FileErrorKind, Lane};
use treering_txn::AppendError;

#[test]
fn t18_what_was_appended_is_read_back_in_order_with_empty_and_longest_bodies() {
    let world = World::new();
    let (log, start) = world.start(options(64, 4, 4));
    let longest = vec![7u8; log.max_body()];
    let bodies: [&[u8]; 5] = [b"", b"one", b"", &longest, b"two"];
    for (at, body) in bodies.iter().enumerate() {
        assert_eq!(world.append(&log, body), at as u64 + 1);
    }
    world.run(log.wait_durable(5)).unwrap();
    assert_eq!((log.last_sequence(), log.durable_sequence()), (5, 5));

    let records = world.recover(start, 0).unwrap();
    let found: Vec<(u64, &[u8])> = records.iter().map(|r| (r.sequence, &r.body[..])).collect();
    assert_eq!(found, (1..).zip(bodies).collect::<Vec<_>>());
    let records = world.recover(start, 3).unwrap();
    assert_eq!(records.iter().map(|r| r.sequence).collect::<Vec<_>>(), [4, 5]);

    let max = log.max_body();
    match log.try_append(1, &vec![0; max + 1]) {
        Err(AppendError::TooLarge { len, max: told }) => assert_eq!((len, told), (max + 1, max)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn appends_while_a_group_is_on_its_way_share_exactly_one_more_write() {
    let world = World::new();
    let (log, start) = world.start(options(64, 4, 4));
    log.request_flush(log.try_append(1, &body(1, 20)).unwrap().sequence());
    assert_eq!(world.disk.queued(Lane::Foreground), 1);

    let mut tasks: Vec<Task<_>> = (2..=101)
        .map(|sequence| {
            assert_eq!(log.try_append(1, &body(sequence, 20)).unwrap().sequence(), sequence);
            Task::new(log.wait_durable(sequence))
        })
        .collect();
    for task in &mut tasks {
        assert!(task.poll().is_pending());
    }
    assert_eq!(world.disk.queued(Lane::Foreground), 1, "one group is on its way at any time");
    assert!(world.disk.step(Lane::Foreground));
    assert!(tasks.iter().all(|task| !task.flag.take()), "the first group holds none of theirs");
    assert_eq!((log.durable_sequence(), world.disk.queued(Lane::Foreground)), (1, 1));

    assert!(world.disk.step(Lane::Foreground));
    for task in &mut tasks {
        assert!(task.flag.take() && task.poll().is_ready());
    }
    let usage = log.usage();
    assert_eq!((usage.groups_written, usage.records_written), (2, 101));
    assert_eq!(usage.bytes_written, 2 * BLOCK as u64);
    assert_eq!(world.disk.queued(Lane::Foreground), 0, "nobody wants a third one");
    assert_run(&world.recover(start, 0).unwrap(), 1, 101);
}

#[test]
fn a_flush_that_nobody_wants_does_not_happen() {
    let world = World::new();
    let (log, _) = world.start(options(64, 4, 4));
    log.request_flush(log.try_append(1, b"wanted").unwrap().sequence());
    drop(log.try_append(1, b"not wanted"));
    assert!(world.disk.step(Lane::Foreground));
    assert_eq!((world.disk.queued(Lane::Foreground), log.durable_sequence()), (0, 1));
    log.request_flush(1);
    assert_eq!(world.disk.queued(Lane::Foreground), 0, "1 is durable already");
}

#[test]
fn waiters_that_are_dropped_or_never_polled_again_hold_nobody_up() {
    let world = World::new();
    let (log, _) = world.start(options(64, 4, 4));
    drop(log.try_append(1, b"a"));
    let mut never_again = Task::new(log.wait_durable(1));
    assert!(never_again.poll().is_pending());
    drop(log.try_append(1, b"b"));
    let mut dropped = Task::new(log.wait_durable(2));
    assert!(dropped.poll().is_pending());
    let mut twice = Task::new(log.wait_durable(2));
    assert!(twice.poll().is_pending() && twice.poll().is_pending());
    let flag = dropped.flag.clone();
    drop(dropped);

    drop(log.try_append(1, b"c"));
    let mut last = Task::new(log.wait_durable(3));
    assert!(last.poll().is_pending());
    while world.disk.step(Lane::Foreground) {}
    assert!(!flag.take(), "a waiter that was dropped is not woken");
    assert!(last.flag.take() && last.poll().is_ready());
    assert!(twice.flag.take() && twice.poll().is_ready());
    assert!(never_again.flag.take(), "it was woken, and that is all anybody owes it");
    drop(never_again);
    assert!(Task::new(log.wait_durable(3)).poll().is_ready());
}

#[test]
fn a_waiter_that_moves_to_another_task_wakes_that_one_only() {
    let world = World::new();
    let (log, _) = world.start(options(64, 4, 4));
    drop(log.try_append(1, b"a"));
    let mut first = Task::new(log.wait_durable(1));
    assert!(first.poll().is_pending());
    let old = first.flag.clone();
    first.flag = Default::default();
    assert!(first.poll().is_pending());
    world.disk.step(Lane::Foreground);
    assert!(!old.take() && first.flag.take() && first.poll().is_ready());
}

#[test]
fn a_full_buffer_refuses_and_tells_everybody_when_room_comes() {
    let world = World::new();
    let (log, start) = world.start(options(64, 4, 2));
    drop(log.try_append(1, &body(1, 100)));
    log.request_flush(1);
    let mut sequence = 1;
    while let Ok(applying) = log.try_append(1, &body(sequence + 1, 1000)) {
        sequence = applying.sequence();
    }
    assert!(matches!(log.try_append(1, &[0; 1000]), Err(AppendError::NoRoom)));
    assert_eq!(log.last_sequence(), sequence, "a refused append draws no sequence");

    let mut tasks: Vec<Task<()>> = (0..3).map(|_| Task::new(log.wait_room())).collect();
    assert!(tasks.iter_mut().all(|task| task.poll().is_pending()));
    drop(tasks.remove(0));
    assert!(world.disk.step(Lane::Foreground), "the group that was on its way");
    // Its completion sealed the full buffer, because somebody waits for room.
    for task in &mut tasks {
        assert!(task.flag.take() && task.poll().is_ready());
    }
    let applying = log.try_append(1, &body(sequence + 1, 1000)).unwrap();
    assert_eq!(applying.sequence(), sequence + 1);
    drop(applying);
    world.run(log.wait_durable(sequence + 1)).unwrap();
    assert_run(&world.recover(start, 0).unwrap(), 1, sequence + 1);
    assert!(Task::new(log.wait_room()).poll().is_ready(), "there is room now");
}

#[test]
fn a_record_that_is_wanted_soon_is_durable_after_the_delay_though_nobody_waits() {
    let world = World::new();
    let (log, start) = world.start(options(64, 4, 4));
    let delay = Duration::from_millis(10);
    for round in 1..=3 {
        log.flush_soon(log.try_append(1, &body(round, 10)).unwrap().sequence());
        world.settle();
        world.runtime.advance(delay - Duration::from_millis(1));
        world.settle();
        assert_eq!(log.durable_sequence(), round - 1, "it may wait for company until then");
        world.runtime.advance(Duration::from_millis(1));
        world.settle();
        assert_eq!(log.durable_sequence(), round);
    }
    drop(log.try_append(1, &body(4, 10)));
    world.settle();
    world.runtime.advance(10 * delay);
    world.settle();
    assert_eq!(log.durable_sequence(), 3, "nobody asked for 4");
    log.stop();
    world.settle();
    assert_eq!((log.durable_sequence(), world.runtime.tasks()), (4, 0), "stop writes and ends");
    assert_run(&world.recover(start, 0).unwrap(), 1, 4);
}

/// Whoever appends much writes its pages next, and would ask for the write only then.
#[test]
fn a_record_that_will_be_waited_for_is_written_at_once_and_after_the_group_on_its_way() {
    let world = World::new();
    let (log, start) = world.start(options(64, 4, 4));
    world.settle();
    let applying = log.try_append(1, &body(1, 100)).unwrap();
    log.flush_ahead(applying.sequence());
    world.settle();
    assert_eq!(
        log.durable_sequence(),
        1,
        "no time has passed, and its pages are still being changed"
    );
    drop(applying);

    drop(log.try_append(1, &body(2, 100)));
    log.request_flush(2);
    let applying = log.try_append(1, &body(3, 100)).unwrap();
    log.flush_ahead(applying.sequence());
    assert_eq!(log.durable_sequence(), 1, "one group at a time");
    world.settle();
    assert_eq!(log.durable_sequence(), 3);
    drop(applying);
    assert_run(&world.recover(start, 0).unwrap(), 1, 3);
}

#[test]
fn a_failed_write_poisons_and_everybody_gets_that_error() {
    let world = World::new();
    let (log, start) = world.start(options(64, 4, 2));
    world.commit(&log, &body(1, 10));
    drop(log.try_append(1, &body(2, 10)));
    log.request_flush(2);
    let mut sequence = 2;
    while let Ok(applying) = log.try_append(1, &body(sequence + 1, 1000)) {
        sequence = applying.sequence();
    }
    let mut waiters = [Task::new(log.wait_durable(2)), Task::new(log.wait_durable(3))];
    let mut room = Task::new(log.wait_room());
    assert!(waiters.iter_mut().all(|task| task.poll().is_pending()) && room.poll().is_pending());
    world.disk.fail_next_group();
    world.disk.step(Lane::Foreground);

    assert!(room.flag.take() && room.poll().is_ready());
    for task in &mut waiters {
        assert!(task.flag.take());
        match task.poll() {
            std::task::Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), FileErrorKind::Poisoned);
                assert!(error.to_string().contains("log-00 at offset 8192"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(log.try_append(1, b"x"), Err(AppendError::Poisoned(_))));
    assert!(world.health.check().is_err());
    assert!(world.run(log.wait_durable(1)).is_ok(), "what was acknowledged stays so");
    assert!(world.run(log.position_after(2)).is_err());
    log.request_flush(sequence);
    world.settle();
    assert_eq!(world.disk.queued(Lane::Foreground), 0, "nothing is written after a failure");
    assert_eq!(world.runtime.tasks(), 0, "the background has ended");
    assert_run(&world.recover(start, 0).unwrap(), 1, 1);
}

#[test]
fn poison_from_elsewhere_refuses_appends_and_frees_those_who_wait_for_room() {
    let world = World::new();
    let (log, _) = world.create(options(3, 3, 2), fresh());
    // Without the background there is no second segment, so that room will not come.
    while let Ok(applying) = log.try_append(1, &[1; 3000]) {
        log.request_flush(applying.sequence());
        world.settle();
    }
    let mut room = Task::new(log.wait_room());
    assert!(room.poll().is_pending());
    while world.disk.step_any() {}
    room.flag.take();
    let mut room = Task::new(log.wait_room());
    assert!(room.poll().is_pending());
    let error = FileError::new(FileErrorKind::Io, "a page could not be written");
    world.health.poison(error);
    assert!(room.flag.take() && room.poll().is_ready());
    assert!(matches!(log.try_append(1, b"x"), Err(AppendError::Poisoned(_))));
}

#[test]
fn the_buffer_takes_exactly_what_fits_into_it() {
    let world = World::new();
    let (log, start) = world.start(options(64, 4, 2));
    drop(log.try_append(1, &body(1, 1000)));
    // A header of 64 bytes, and 4 before each record.
    let left = 2 * BLOCK - 64 - 1004 - 4;
    for more in 1..=16 {
        let refused = log.try_append(1, &body(2, left + more));
        assert!(matches!(refused, Err(AppendError::NoRoom)), "{more} bytes more");
    }
    drop(log.try_append(1, &body(2, left)).unwrap());
    world.run(log.wait_durable(2)).unwrap();
    assert_eq!(world.disk.groups().last().unwrap().2, 2 * BLOCK);
    assert_run(&world.recover(start, 0).unwrap(), 1, 2);
}

#[test]
fn a_waiter_that_moves_or_goes_leaves_those_of_the_group_before_alone() {
    for goes in [false, true] {
        let world = World::new();
        let (log, _) = world.start(options(64, 4, 4));
        for sequence in 1..=5 {
            world.commit(&log, &body(sequence, 10));
        }
        drop(log.try_append(1, &body(6, 10)));
        let mut before = Task::new(log.wait_durable(6));
        assert!(before.poll().is_pending());
        drop(log.try_append(1, &body(7, 10)));
        let mut after = Task::new(log.wait_durable(7));
        assert!(after.poll().is_pending());
        let old = std::mem::take(&mut after.flag);
        if goes {
            drop(after);
        } else {
            assert!(after.poll().is_pending());
            assert!(world.disk.step(Lane::Foreground));
            assert!(before.flag.take() && !after.flag.take(), "the first group is durable");
            assert!(world.disk.step(Lane::Foreground));
            assert!(after.flag.take() && after.poll().is_ready());
        }
        world.settle();
        assert!(!old.take() && before.poll().is_ready());
        assert!(!goes || before.flag.take());
    }
}

#[test]
fn a_closed_log_refuses_everything_and_is_closed_when_its_last_write_has_ended() {
    let world = World::new();
    let (log, start) = world.start(options(64, 4, 4));
    log.request_flush(log.try_append(1, &body(1, 10)).unwrap().sequence());
    drop(log.try_append(1, &body(2, 10)));
    let mut waiter = Task::new(log.wait_durable(2));
    assert!(waiter.poll().is_pending());
    let closed = log.clone();
    let mut close = Task::new(async move {
        closed.close(FileError::new(FileErrorKind::Poisoned, "it was closed")).await;
    });
    assert!(close.poll().is_pending(), "a write is on its way");
    assert!(waiter.flag.take() && matches!(waiter.poll(), std::task::Poll::Ready(Err(_))));
    assert!(matches!(log.try_append(1, b"x"), Err(AppendError::Poisoned(_))));
    assert!(world.disk.step(Lane::Foreground));
    assert!(close.flag.take() && close.poll().is_ready());
    assert_eq!((world.disk.queued(Lane::Foreground), log.durable_sequence()), (0, 1));
    assert_run(&world.recover(start, 0).unwrap(), 1, 1);
}
