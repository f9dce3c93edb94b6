//! Executors that go away, stand still, or lose their threads with operations of every kind in
//! flight.

use std::future::poll_fn;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

use futures::FutureExt;
use treering::Io;

use super::{Operation, World, bare_block_on, current_thread, kinds, multi_thread, rounds};
use crate::common::{Home, both_io, on_a_thread};

/// A world that `test` may do anything with; then everything still works, and is whole.
fn in_a_world(what: &'static str, test: impl Fn(&World) + Copy + Send + 'static) {
    for io in both_io() {
        on_a_thread(what, move || {
            let home = Home::new();
            let world = bare_block_on(World::new(io, &home));
            for _ in 0..rounds() {
                test(&world);
                bare_block_on(world.all_kinds());
            }
            bare_block_on(end(world, io, &home));
        });
    }
}

async fn end(world: World, io: Io, home: &Home) {
    world.db.close().await.unwrap();
    drop(world);
    let world = World::open(io, home).await;
    world.check().await;
    world.db.close().await.unwrap();
}

/// Polls an operation once; whether it is pending.
async fn begin(operation: &mut Operation) -> bool {
    poll_fn(|cx| Poll::Ready(operation.poll_unpin(cx).is_pending())).await
}

#[test]
fn a_runtime_shut_down_with_every_kind_of_operation_in_flight_takes_nothing_with_it() {
    in_a_world("operations after another runtime's end", |world| {
        for round in 0..8 {
            let runtime = if round % 2 == 0 { multi_thread(2) } else { current_thread() };
            let tasks: Vec<_> =
                kinds().into_iter().map(|kind| runtime.spawn(world.operation(kind))).collect();
            // It has begun with some of them, or is done with one.
            runtime.block_on(async {
                for _ in 0..round {
                    tokio::task::yield_now().await;
                }
            });
            match round / 2 % 2 {
                0 => drop(runtime),
                _ => runtime.shutdown_background(),
            }
            drop(tasks);
        }
    });
}

#[test]
fn tasks_aborted_at_any_time_leave_all_or_nothing() {
    in_a_world("operations beside aborted tasks", |world| {
        multi_thread(2).block_on(async {
            for spare in [1, 2, 5] {
                let all = kinds().into_iter();
                let tasks: Vec<_> = all.map(|kind| tokio::spawn(world.operation(kind))).collect();
                for (index, task) in tasks.into_iter().enumerate() {
                    if index % spare == 0 {
                        task.abort();
                    }
                    if let Err(error) = task.await {
                        assert!(error.is_cancelled(), "{error}");
                    }
                }
            }
        });
    });
}

#[test]
fn a_thread_that_ends_with_any_kind_of_operation_in_flight_takes_nothing_with_it() {
    in_a_world("what an ended thread has begun", |world| {
        let mut pending = 0;
        for (index, kind) in kinds().into_iter().enumerate() {
            let mut operation = world.operation(kind);
            let begun = thread::spawn(move || {
                // Every other one in a Tokio runtime's context, which ends with the thread.
                let runtime = (index % 2 == 0).then(current_thread);
                let entered = runtime.as_ref().map(tokio::runtime::Runtime::enter);
                let over = operation.poll_unpin(&mut Context::from_waker(Waker::noop())).is_ready();
                drop(entered);
                (!over).then_some(operation)
            });
            // The thread has ended when this is back; somebody else goes on with the future.
            if let Some(operation) = begun.join().unwrap() {
                pending += 1;
                bare_block_on(operation).unwrap_or_else(|error| panic!("{}: {error}", kind.about));
            }
        }
        assert!(pending > kinds().len() / 2, "only {pending} were in flight");
    });
}

/// A thread of a runtime that has begun operations, and does not come back to them before it is told:
/// neither its tasks nor its reactor run.
struct StandStill {
    begun: mpsc::Receiver<usize>,
    go_on: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl StandStill {
    fn new(mut operations: Vec<Operation>) -> Self {
        let (say_begun, begun) = mpsc::channel();
        let (go_on, wait) = mpsc::channel();
        let thread = thread::spawn(move || {
            current_thread().block_on(async move {
                let mut pending = Vec::new();
                for mut operation in operations.drain(..) {
                    if begin(&mut operation).await {
                        pending.push(operation);
                    }
                    // The poller of the lane is a task of this runtime: let it start, too.
                    tokio::task::yield_now().await;
                }
                say_begun.send(pending.len()).unwrap();
                // A blocking call in an async task, as users make them by mistake.
                wait.recv().unwrap();
                for operation in pending {
                    operation.await.unwrap();
                }
            });
        });
        Self { begun, go_on, thread }
    }
}

#[test]
fn lanes_whose_runtimes_stand_still_with_every_kind_in_flight_keep_nobody_waiting() {
    in_a_world("operations beside runtimes that stand still", |world| {
        // Enough to be on every lane.
        let still: Vec<_> = (0..4)
            .map(|_| {
                let operations = kinds().into_iter().map(|kind| world.operation(kind)).collect();
                StandStill::new(operations)
            })
            .collect();
        let pending: usize = still.iter().map(|still| still.begun.recv().unwrap()).sum();
        assert!(pending > kinds().len(), "only {pending} were in flight");
        // On no runtime, and on one that runs and shares the lanes.
        bare_block_on(world.all_kinds());
        multi_thread(4).block_on(world.all_kinds());
        for still in still {
            still.go_on.send(()).unwrap();
            still.thread.join().unwrap();
        }
    });
}

/// One worker of a runtime stands still in a task that blocks; the others go on.
#[test]
fn a_worker_that_a_task_blocks_keeps_nobody_waiting() {
    in_a_world("operations beside a blocked worker", |world| {
        let runtime = multi_thread(2);
        let (say_begun, begun) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let blocked = {
            let mut operations: Vec<_> =
                kinds().into_iter().map(|kind| world.operation(kind)).collect();
            runtime.spawn(async move {
                let mut pending = Vec::new();
                for mut operation in operations.drain(..) {
                    if begin(&mut operation).await {
                        pending.push(operation);
                    }
                }
                say_begun.send(()).unwrap();
                wait.recv().unwrap();
                for operation in pending {
                    operation.await.unwrap();
                }
            })
        };
        begun.recv().unwrap();
        runtime.block_on(world.all_kinds());
        go_on.send(()).unwrap();
        runtime.block_on(blocked).unwrap();
    });
}
