//! The executors that a disk is awaited on, and what they do to it: stand still, shut down, have no
//! I/O driver, be another make. Every completion is delivered, whoever has to do it.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod disk_support;

use std::sync::Arc;

use disk_support::{BLOCK, assert_block, collector, each, expect_reads, filled, reads};
use futures::executor::block_on;
use futures::future::join_all;
use treering_pagefile::{Disk, FileId, Lane};

const LEN: u64 = BLOCK as u64;

async fn read_all(disk: Arc<dyn Disk>, file: FileId, blocks: u64, times: u64) {
    let read = |at| {
        let disk = Arc::clone(&disk);
        async move { assert_block(&disk.read(file, at * LEN, BLOCK).await.unwrap(), at, 0) }
    };
    for _ in 0..times {
        join_all((0..blocks).map(read)).await;
    }
    // One at a time, too: nobody but the waiter can notice these.
    for at in 0..blocks {
        read(at).await;
    }
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn many_tasks_on_a_multi_thread_tokio() {
    each(|variant, disk| {
        let file = filled(&disk, "pages", 50);
        let runtime = multi_thread();
        runtime.block_on(async {
            let tasks: Vec<_> =
                (0..40).map(|_| tokio::spawn(read_all(Arc::clone(&disk), file, 50, 2))).collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert!(disk.counters().requests >= 40 * 150, "{}", variant.name);
    });
}

#[test]
fn a_current_thread_tokio() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 50);
        current_thread().block_on(read_all(disk, file, 50, 5));
    });
}

#[test]
fn a_tokio_without_its_io_driver() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 50);
        for _ in 0..2 {
            let bare = tokio::runtime::Builder::new_current_thread().build().unwrap();
            bare.block_on(read_all(Arc::clone(&disk), file, 50, 2));
            bare.block_on(read_all(Arc::clone(&disk), file, 50, 2));
        }
        // A runtime that has one takes the lanes back.
        multi_thread().block_on(read_all(disk, file, 50, 2));
    });
}

#[test]
fn executors_of_other_makes() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 50);
        smol::block_on(read_all(Arc::clone(&disk), file, 50, 2));
        block_on(read_all(disk, file, 50, 2));
    });
}

#[test]
fn the_runtime_of_tokio_uring() {
    each(|variant, disk| {
        if variant.is_uring() {
            let file = filled(&disk, "pages", 50);
            tokio_uring::start(read_all(disk, file, 50, 2));
        }
    });
}

/// Which way a runtime can be alive without running.
#[derive(Clone, Copy, Debug)]
enum Standstill {
    /// Its thread is inside a poll that does not return.
    InAPoll,
    /// Nobody drives it.
    Undriven,
}

#[test]
fn a_runtime_that_stands_still_delays_nobody() {
    for standstill in [Standstill::InAPoll, Standstill::Undriven] {
        each(|variant, disk| {
            let file = filled(&disk, "pages", 64);
            let runtime = current_thread();
            // So that the lane has its poller on this runtime, and the watch has gone to sleep.
            runtime.block_on(read_all(Arc::clone(&disk), file, 50, 1));
            let (done, ended) = collector();
            runtime.block_on(async {
                disk.submit(Lane::Foreground, &mut reads(file, 1500, 64, &done));
                if let Standstill::InAPoll = standstill {
                    expect_reads(&ended, 1500);
                }
            });
            if let Standstill::Undriven = standstill {
                expect_reads(&ended, 1500);
            }
            let direct = variant.options.direct && variant.options.tokio_reactor;
            if variant.is_uring() && direct {
                let rescued = disk.counters().rescued;
                assert!(rescued > 0, "{}, {standstill:?}", variant.name);
            }
            // And the runtime goes on as if nothing had been.
            runtime.block_on(read_all(disk, file, 50, 1));
        });
    }
}

#[test]
fn a_stuck_runtime_does_not_hang_others_on_its_lane() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 50);
        let stuck = current_thread();
        stuck.block_on(read_all(Arc::clone(&disk), file, 50, 1));
        // More threads than lanes, so some share a lane whose poller is on the stuck runtime.
        let runtime = multi_thread();
        runtime.block_on(async {
            let tasks: Vec<_> =
                (0..8).map(|_| tokio::spawn(read_all(Arc::clone(&disk), file, 20, 1))).collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        drop(stuck);
    });
}

#[test]
fn a_runtime_may_be_dropped_with_io_in_flight() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 64);
        for round in 0..20 {
            let runtime = if round % 2 == 0 { current_thread() } else { multi_thread() };
            let (done, ended) = collector();
            runtime.block_on(async {
                let (disk, done) = (Arc::clone(&disk), Arc::clone(&done));
                let submit =
                    async move { disk.submit(Lane::Foreground, &mut reads(file, 700, 64, &done)) };
                tokio::spawn(submit).await.unwrap();
            });
            if round % 4 < 2 {
                drop(runtime);
            } else {
                runtime.shutdown_background();
            }
            expect_reads(&ended, 700);
        }
        multi_thread().block_on(read_all(disk, file, 50, 1));
    });
}

/// Submits when it is dropped: by a runtime that is shutting down and drops every new task at once.
struct SubmitsOnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for SubmitsOnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn io_submitted_while_a_runtime_shuts_down_completes() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 64);
        for runtime in [current_thread(), multi_thread()] {
            let (done, ended) = collector();
            let inner = Arc::clone(&disk);
            runtime.block_on(async {
                let submits = SubmitsOnDrop(move || {
                    inner.submit(Lane::Foreground, &mut reads(file, 100, 64, &done));
                });
                tokio::spawn(async move {
                    let _submits = submits;
                    std::future::pending::<()>().await;
                });
                tokio::task::yield_now().await;
            });
            drop(runtime);
            expect_reads(&ended, 100);
        }
    });
}

#[test]
fn a_disk_may_be_dropped_inside_a_runtime() {
    each(|_, disk| {
        let file = filled(&disk, "pages", 64);
        let (done, ended) = collector();
        current_thread().block_on(async move {
            disk.submit(Lane::Foreground, &mut reads(file, 700, 64, &done));
            tokio::task::yield_now().await;
            disk.submit(Lane::Foreground, &mut reads(file, 700, 64, &done));
            drop(disk);
        });
        assert_eq!(ended.try_iter().count(), 1400);
    });
}
