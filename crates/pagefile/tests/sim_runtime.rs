//! The executor: order, time, hangs, crashes, and that all of it is a function of the seed.
#![allow(clippy::unwrap_used, reason = "a failure in a test is to panic")]

mod sim_support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::oneshot;
use sim_support::{get, put, sync, with_file};
use treering_pagefile::sim::{Patience, Sim, SimDisk, Stalled};
use treering_pagefile::yield_now;
use treering_pagefile::{Disk, FileId, Op, Runtime};

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A few tasks that write, read and sleep; returns who finished in which order.
fn workload(sim: &Sim, file: FileId) -> Result<Vec<u8>, Stalled> {
    let finished = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..8u8)
        .map(|number| {
            let (disk, runtime) = (sim.disk(), sim.runtime());
            let finished = Arc::clone(&finished);
            sim.spawn(async move {
                for round in 0..5u64 {
                    let offset = (u64::from(number) + round) % 8 * 512;
                    put(&disk, file, Op::Write, offset, number + 1, 512).await.unwrap();
                    get(&disk, file, offset, 512).await.unwrap();
                    runtime.sleep(Duration::from_micros(50)).await;
                }
                sync(&disk, file).await.unwrap();
                finished.lock().unwrap().push(number);
            })
        })
        .collect();
    sim.run(futures::future::join_all(tasks))?;
    let finished = finished.lock().unwrap().clone();
    Ok(finished)
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let run = |seed| {
        let (sim, file) = with_file(seed, 4096);
        sim.disk().record_trace();
        let order = workload(&sim, file).unwrap();
        let disk = sim.disk();
        (order, disk.trace(), disk.trace_hash(), disk.crash(1).digest(), sim.runtime().now())
    };
    let mut hashes = std::collections::BTreeSet::new();
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (once, again) = (run(seed), run(seed));
        assert!(once == again, "seed {seed} gave two different runs");
        assert_eq!(once.1.len(), 8 * (5 * 2 + 1));
        hashes.insert(once.2);
        orders.insert(once.0);
    }
    assert_eq!(hashes.len(), 20);
    assert!(orders.len() > 10);
}

#[test]
fn timers_fire_in_order_of_their_time() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        let fired = Arc::new(Mutex::new(Vec::new()));
        for delay in [30, 10, 20, 50, 40] {
            let (runtime, fired) = (sim.runtime(), Arc::clone(&fired));
            sim.spawn(async move {
                runtime.sleep(millis(delay)).await;
                assert!(runtime.now() >= millis(delay));
                fired.lock().unwrap().push(delay);
            });
        }
        sim.run(sim.runtime().sleep(millis(45))).unwrap();
        assert_eq!(*fired.lock().unwrap(), [10, 20, 30, 40]);
        assert!(sim.runtime().now() < millis(46));
    }
}

#[test]
fn dropping_a_sleep_cancels_its_timer() {
    let sim = Sim::new(1);
    let runtime = sim.runtime();
    let stalled = sim.run(async {
        let mut long = runtime.sleep(millis(1000));
        assert!(futures::poll!(&mut long).is_pending());
        drop(long);
        runtime.sleep(millis(1)).await;
        std::future::pending::<()>().await;
    });
    assert!(matches!(stalled, Err(Stalled::Hang(_))));
    assert!(runtime.now() < millis(2), "nothing jumped to the cancelled timer");
}

#[test]
fn a_hang_is_noticed_and_says_who_hangs() {
    let sim = Sim::new(2);
    let (_sender, receiver) = oneshot::channel::<()>();
    let waiting = sim.spawn(async move { receiver.await.is_ok() });
    let Err(stalled) = sim.run(waiting) else { panic!("nobody sends") };
    assert!(matches!(stalled, Stalled::Hang(_)));
    let text = stalled.to_string();
    assert!(text.contains("1 tasks waiting: 1 from ") && text.contains("sim_runtime.rs"), "{text}");
}

#[test]
fn going_in_circles_is_noticed() {
    let mut sim = Sim::new(3);
    sim.set_patience(Patience { polls: 1000, jumps: 1000, ..Patience::default() });
    let spin = sim.run(async {
        loop {
            yield_now().await;
        }
    });
    assert!(matches!(spin, Err::<(), _>(Stalled::Livelock(_))));
    let runtime = sim.runtime();
    sim.spawn(async move {
        loop {
            runtime.sleep(millis(10)).await;
        }
    });
    let hang = sim.run(std::future::pending::<()>());
    assert!(matches!(hang, Err(Stalled::Livelock(_))));
    sim.settle().unwrap();
}

#[test]
fn a_task_that_spins_does_not_keep_an_io_or_a_timer_from_completing() {
    for seed in 0..20 {
        let (sim, file) = with_file(seed, 4096);
        let (disk, runtime) = (sim.disk(), sim.runtime());
        sim.spawn(async {
            loop {
                yield_now().await;
            }
        });
        sim.run(async {
            put(&disk, file, Op::Write, 0, 1, 512).await.unwrap();
            runtime.sleep(millis(2)).await;
        })
        .unwrap();
    }
}

#[test]
fn a_dead_machine_is_dead_whatever_its_programs_go_on_with() {
    let (sim, file) = with_file(4, 4096);
    let (disk, runtime) = (sim.disk(), sim.runtime());
    sim.spawn(async move {
        loop {
            runtime.sleep(millis(1)).await;
        }
    });
    sim.spawn(async {
        loop {
            yield_now().await;
        }
    });
    disk.stop();
    let stalled = sim.run(put(&disk, file, Op::Write, 0, 1, 512));
    assert!(matches!(stalled, Err(Stalled::Dead(_))));
}

/// Counts itself when it is dropped; while it is dropped it spawns, sleeps, wakes and submits.
struct Troublemaker {
    disk: Arc<SimDisk>,
    file: FileId,
    runtime: Arc<dyn Runtime>,
    partner: Option<oneshot::Sender<()>>,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Troublemaker {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if let Some(partner) = self.partner.take() {
            let _ = partner.send(());
        }
        drop(self.runtime.sleep(millis(1)));
        let (disk, file, dropped) = (Arc::clone(&self.disk), self.file, Arc::clone(&self.dropped));
        let write = async move { put(&disk, file, Op::Write, 0, 1, 512).await };
        let mut write = Box::pin(write);
        let waker = futures::task::noop_waker();
        // Submitting is what counts; once the disk is off the request is dropped at once.
        let _ = write.as_mut().poll(&mut std::task::Context::from_waker(&waker));
        self.runtime.spawn(Box::pin(async move {
            dropped.fetch_add(1000, Ordering::Relaxed);
            drop(write);
        }));
    }
}

#[test]
fn a_crash_drops_all_tasks_whatever_they_do_then() {
    for seed in 0..50 {
        let (mut sim, file) = with_file(seed, 4096);
        let dropped = Arc::new(AtomicUsize::new(0));
        let disk_alive = Arc::downgrade(&sim.disk());
        for _ in 0..10 {
            let (disk, runtime) = (sim.disk(), sim.runtime());
            let (sender, receiver) = oneshot::channel();
            let waiter = runtime.clone();
            sim.spawn(async move {
                let _ = receiver.await;
                waiter.sleep(millis(1)).await;
            });
            let partner = Some(sender);
            let trouble =
                Troublemaker { disk, file, runtime, partner, dropped: Arc::clone(&dropped) };
            sim.spawn(async move {
                let disk = Arc::clone(&trouble.disk);
                loop {
                    put(&disk, file, Op::Write, 512, 2, 512).await.unwrap();
                    trouble.runtime.sleep(millis(3)).await;
                }
            });
        }
        sim.run(sim.runtime().sleep(millis(seed))).unwrap();
        let image = sim.disk().crash(seed);
        assert!(matches!(sim.run(async {}), Err(Stalled::Dead(_))), "the machine is off");
        sim.restart(&image, seed);
        assert_eq!(dropped.load(Ordering::Relaxed), 10, "nothing ran after the crash");
        assert!(disk_alive.upgrade().is_none(), "no cycle keeps the old disk alive");
        assert_eq!(sim.runtime().now(), Duration::ZERO);
        workload(&sim, sim.disk().open("f", false).unwrap()).unwrap();
    }
}

#[test]
fn from_the_io_where_the_machine_dies_nothing_completes() {
    let total = {
        let (sim, file) = with_file(5, 4096);
        workload(&sim, file).unwrap();
        sim.disk().io_count()
    };
    let mut digests = std::collections::BTreeSet::new();
    for index in 1..total {
        let (sim, file) = with_file(5, 4096);
        let disk = sim.disk();
        disk.stop_at(index);
        let Err(stalled) = workload(&sim, file) else { panic!("it survived I/O {index}") };
        assert!(matches!(stalled, Stalled::Dead(_)), "{stalled}");
        assert!(disk.is_dead() && disk.in_flight() > 0);
        let completed = disk.completed_count();
        assert!(completed <= index && !disk.step());
        assert!(disk.set_len(file, 0).is_err() && disk.open("new", true).is_err());
        digests.insert(disk.crash(index).digest());
        assert_eq!(disk.in_flight(), 0);
    }
    assert!(digests.len() > 40, "{} different states", digests.len());
    let (sim, file) = with_file(5, 4096);
    sim.disk().stop_at(total);
    workload(&sim, file).unwrap();
}

#[test]
fn from_the_completion_after_which_the_machine_dies_nothing_completes_and_whoever_waited_hears_of_it()
 {
    let lived = |stop: Option<u64>| {
        let (sim, file) = with_file(5, 4096);
        let disk = sim.disk();
        if let Some(stop) = stop {
            disk.stop_after(stop);
        }
        let heard = Arc::new(AtomicUsize::new(0));
        let outcome = sim.run(async {
            for round in 0..6u64 {
                put(&disk, file, Op::Write, round * 512, 1, 512).await.unwrap();
                heard.fetch_add(1, Ordering::Relaxed);
            }
        });
        (outcome, sim, heard.load(Ordering::Relaxed))
    };
    let (outcome, sim, _) = lived(None);
    outcome.unwrap();
    let total = sim.disk().completed_count();
    for stop in total - 5..total {
        let (outcome, sim, heard) = lived(Some(stop));
        let disk = sim.disk();
        assert!(matches!(outcome, Err(Stalled::Dead(_))) && disk.is_dead() && !disk.step());
        assert_eq!(disk.completed_count(), stop);
        assert_eq!(heard as u64, 6 - (total - stop));
        assert_eq!(disk.in_flight(), 1, "what came of the answer is in flight for ever");
    }
}

/// Appends one-sector records, each acknowledged after `op` and, if wanted, a sync; then crashes at
/// every I/O and counts the crashes that lost an acknowledged record.
fn log_crashes_losing_acknowledged(op: Op, synced: bool) -> usize {
    const RECORDS: u8 = 12;
    let run = |stop: Option<u64>| {
        let (sim, file) = with_file(6, u64::from(RECORDS) * 512);
        let disk = sim.disk();
        if let Some(stop) = stop {
            disk.stop_at(stop);
        }
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let outcome = sim.run(async {
            for record in 0..RECORDS {
                put(&disk, file, op, u64::from(record) * 512, record + 1, 512).await.unwrap();
                if synced {
                    sync(&disk, file).await.unwrap();
                }
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(outcome.is_ok(), stop.is_none());
        (disk.io_count(), acknowledged.load(Ordering::Relaxed), disk.crash(stop.unwrap_or(0)))
    };
    let (total, ..) = run(None);
    (1..total)
        .filter(|stop| {
            let (_, acknowledged, image) = run(Some(*stop));
            let bytes = image.bytes("f").unwrap();
            (0..acknowledged).any(|record| bytes[record * 512] != record as u8 + 1)
        })
        .count()
}

/// With a canary: the log that forgets to sync has to be caught.
#[test]
fn crashing_at_every_io_tells_a_durable_log_from_one_that_is_not() {
    assert_eq!(log_crashes_losing_acknowledged(Op::WriteDurable, false), 0);
    assert_eq!(log_crashes_losing_acknowledged(Op::Write, true), 0);
    assert!(log_crashes_losing_acknowledged(Op::Write, false) > 3);
}

#[test]
fn a_task_panics_into_the_test() {
    let sim = Sim::new(8);
    sim.spawn(async { panic!("an assertion in a task") });
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = sim.run(std::future::pending::<()>());
    }));
    assert!(result.is_err());
}

#[test]
fn what_tests_hold_is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Sim>();
    check::<SimDisk>();
    check::<treering_pagefile::sim::SimImage>();
    check::<Stalled>();
}
