//! Any executor, and executors that stand still, go away, or lose their threads with I/O in flight.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::future::Future;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;

use crate::common::{Home, all, assert_sound, both_io, on_a_thread, tiny};
use futures::executor::block_on;
use futures::{FutureExt, Stream, TryStreamExt};
use treering::{Batch, Database, Durability, Error, Io, Options, Range, Tree};

const KEYS: u32 = 1500;

fn small(io: Io) -> Options {
    tiny(4096, 32).io(io)
}

fn key(number: u32) -> String {
    format!("{:05}", number * 389 % KEYS)
}

async fn filled(io: Io, home: &Home) -> (Database, Tree) {
    let db = small(io).open(&home.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    for number in 0..KEYS {
        let put = tree.put(key(number), [7; 150]);
        put.durability(Durability::None).await.unwrap();
    }
    db.checkpoint().await.unwrap();
    (db, tree)
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all().build().unwrap()
}

fn assert_send<T: Send>(value: T) -> T {
    value
}

fn assert_handle<T: Clone + Send + Sync + 'static>() {}

fn assert_stream<
    T: Stream<Item = Result<(treering::KeyBytes, treering::ValueBytes), Error>> + Send,
>() {
}

/// Compiled, and run as far as making the futures goes.
#[test]
fn every_future_is_send_and_handles_are_shared() {
    assert_handle::<Database>();
    assert_handle::<Tree>();
    assert_handle::<Error>();
    assert_handle::<Options>();
    assert_stream::<Range>();
    let home = Home::new();
    let db = block_on(assert_send(Options::new().open(&home.path))).unwrap();
    let tree = block_on(assert_send(db.tree("t"))).unwrap();
    drop(assert_send(Database::open("nowhere")));
    drop(assert_send(tree.get(b"k")));
    drop(assert_send(tree.get_with("k", <[u8]>::len)));
    drop(assert_send(tree.get_many(["k"])));
    drop(assert_send(tree.contains("k")));
    drop(assert_send(tree.put("k", "v").into_future()));
    drop(assert_send(tree.insert("k", "v").into_future()));
    drop(assert_send(tree.update("k", "v").into_future()));
    drop(assert_send(tree.replace("k", "v").into_future()));
    drop(assert_send(tree.delete("k").into_future()));
    drop(assert_send(tree.take("k").durability(Durability::None).into_future()));
    let batch: Batch = assert_send(db.batch());
    drop(assert_send(batch.commit().into_future()));
    drop(assert_send(tree.range("a".."b").next_chunk()));
    drop(assert_send(tree.range(..).rev().try_next()));
    drop(assert_send(db.sync()));
    drop(assert_send(db.checkpoint()));
    drop(assert_send(db.verify()));
    drop(assert_send(db.close()));
}

use std::future::IntoFuture;

/// The same everywhere: cold reads, scans both ways, batches, checkpoint, verify, close, open.
async fn scenario(io: Io) {
    let home = Home::new();
    let (db, tree) = filled(io, &home).await;
    for number in 0..100 {
        assert_eq!(tree.get(key(number)).await.unwrap().as_deref(), Some(&[7; 150][..]));
    }
    assert_eq!(tree.get_many((0..50).map(key)).await.unwrap().into_iter().flatten().count(), 50);
    for number in 0..20 {
        let mut batch = db.batch();
        batch.require_present(&tree, key(number)).put(&tree, format!("new {number}"), "v");
        batch.commit().await.unwrap();
    }
    assert!(tree.take("new 0").await.unwrap().is_some());
    let backward: Vec<_> = tree.range(..).rev().try_collect().await.unwrap();
    assert_eq!(backward.len(), KEYS as usize + 19);
    db.checkpoint().await.unwrap();
    assert_sound(&db).await;
    db.close().await.unwrap();
    let db = small(io).open(&home.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    assert_eq!(all(&tree).await.len(), KEYS as usize + 19);
}

#[test]
fn the_scenario_runs_on_every_executor() {
    type Run = fn(Io);
    let executors: [(&str, Run); 7] = [
        ("Tokio, many threads", |io| multi_thread(4).block_on(scenario(io))),
        ("Tokio, many threads, as a task", |io| {
            let runtime = multi_thread(2);
            let task = runtime.spawn(scenario(io));
            runtime.block_on(task).unwrap();
        }),
        ("Tokio, one thread", |io| current_thread().block_on(scenario(io))),
        ("Tokio without its I/O driver", |io| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(scenario(io));
        }),
        ("tokio-uring", |io| tokio_uring::start(scenario(io))),
        ("smol", |io| smol::block_on(async { smol::spawn(scenario(io)).await })),
        ("futures::executor::block_on", |io| block_on(scenario(io))),
    ];
    for (name, run) in executors {
        for io in both_io() {
            on_a_thread(name, move || run(io));
        }
    }
}

/// Polls a future once, as a task of this thread's runtime would.
async fn begin<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.poll_unpin(cx).is_pending())).await
}

/// A thread whose runtime has begun an operation and now stands still: neither its task nor its
/// reactor runs until it is let go.
struct StandStill {
    begun: mpsc::Receiver<bool>,
    go_on: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl StandStill {
    fn new<F, T>(operation: F) -> Self
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        let (say_begun, begun) = mpsc::channel();
        let (go_on, wait) = mpsc::channel();
        let thread = thread::spawn(move || {
            current_thread().block_on(async move {
                let mut operation = Box::pin(operation);
                // The poller of the lane is a task of this runtime: let it start, too.
                let pending = begin(&mut operation).await;
                tokio::task::yield_now().await;
                say_begun.send(pending).unwrap();
                wait.recv().unwrap();
                if pending {
                    operation.await.unwrap();
                }
            });
        });
        Self { begun, go_on, thread }
    }

    fn wait_begun(&self) -> bool {
        self.begun.recv().unwrap()
    }

    fn end(self) {
        self.go_on.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

#[test]
fn a_runtime_that_stands_still_with_a_read_in_flight_delays_nobody_who_wants_the_same_page() {
    for io in both_io() {
        on_a_thread("a read that another runtime has begun", move || {
            let home = Home::new();
            let runtime = multi_thread(2);
            let (db, tree) = runtime.block_on(filled(io, &home));
            let mut in_flight = 0;
            for round in 0..12 {
                // Six stand still at a time, each with another page.
                let still: Vec<_> = (0..6)
                    .map(|n| {
                        let (tree, key) = (tree.clone(), key(round * 6 + n));
                        StandStill::new(async move { tree.get(key).await })
                    })
                    .collect();
                in_flight += still.iter().filter(|still| still.wait_begun()).count();
                runtime.block_on(async {
                    for n in 0..6 {
                        let value = tree.get(key(round * 6 + n)).await.unwrap();
                        assert!(value.is_some());
                    }
                    tree.put(key(round), [7; 150]).await.unwrap();
                });
                still.into_iter().for_each(StandStill::end);
            }
            assert!(in_flight > 0, "no read was in flight at any time");
            runtime.block_on(db.close()).unwrap();
        });
    }
}

#[test]
fn a_runtime_that_stands_still_with_a_commit_in_flight_delays_no_other_commit() {
    for io in both_io() {
        on_a_thread("a commit behind one that another runtime has begun", move || {
            let home = Home::new();
            let runtime = multi_thread(2);
            let (db, tree) = runtime.block_on(filled(io, &home));
            for round in 0..8u32 {
                let still: Vec<_> = (0..4u32)
                    .map(|n| {
                        let (tree, key) = (tree.clone(), format!("still {round} {n}"));
                        StandStill::new(async move { tree.put(key, "v").await })
                    })
                    .collect();
                for one in &still {
                    one.wait_begun();
                }
                runtime.block_on(async {
                    tree.put(format!("mine {round}"), "v").await.unwrap();
                    db.sync().await.unwrap();
                    db.checkpoint().await.unwrap();
                });
                still.into_iter().for_each(StandStill::end);
            }
            let all = runtime.block_on(all(&tree));
            assert_eq!(all.len(), KEYS as usize + 8 * 5);
            runtime.block_on(db.close()).unwrap();
        });
    }
}

#[test]
fn a_runtime_that_is_dropped_with_operations_in_flight_takes_nothing_with_it() {
    for io in both_io() {
        on_a_thread("operations after another runtime was dropped", move || {
            let home = Home::new();
            let (db, tree) = block_on(filled(io, &home));
            for round in 0..10u32 {
                let runtime = if round % 2 == 0 { multi_thread(2) } else { current_thread() };
                for n in 0..40 {
                    let (tree, number) = (tree.clone(), round * 40 + n);
                    runtime.spawn(async move {
                        tree.get(key(number)).await.unwrap();
                        tree.put(format!("dropped {number}"), "v").await.unwrap();
                    });
                }
                // Some have begun, on some of the threads.
                let begun = runtime.block_on(async {
                    let mut get = Box::pin(tree.get(key(round * 77)));
                    begin(&mut get).await
                });
                if round % 4 < 2 {
                    drop(runtime);
                } else {
                    runtime.shutdown_background();
                }
                let _ = begun;
                block_on(async {
                    assert!(tree.get(key(round * 77)).await.unwrap().is_some());
                    tree.put(format!("after {round}"), "v").await.unwrap();
                });
            }
            block_on(async {
                assert_sound(&db).await;
                db.close().await.unwrap();
            });
        });
    }
}

#[test]
fn threads_that_end_with_io_in_flight_take_nothing_with_them() {
    for io in both_io() {
        on_a_thread("what an ended thread has begun", move || {
            let home = Home::new();
            let (db, tree) = block_on(filled(io, &home));
            let mut pending = 0;
            for number in 0..60 {
                let (tree, db) = (tree.clone(), db.clone());
                let begun = thread::spawn(move || {
                    // Every third in a Tokio runtime's context, which ends with the thread.
                    let runtime = (number % 3 == 0).then(current_thread);
                    let entered = runtime.as_ref().map(tokio::runtime::Runtime::enter);
                    let mut operation = async move {
                        tree.get(key(number)).await?;
                        tree.put(key(number), [7; 150]).await?;
                        if number % 10 == 0 {
                            db.checkpoint().await?;
                        }
                        Ok::<_, Error>(())
                    }
                    .boxed();
                    let over = operation.poll_unpin(&mut noop()).is_ready();
                    drop(entered);
                    (!over).then_some(operation)
                });
                // The thread has ended when this is back; somebody else goes on with the future.
                if let Some(operation) = begun.join().unwrap() {
                    pending += 1;
                    block_on(operation).unwrap();
                }
            }
            assert!(pending > 0, "nothing was in flight at any time");
            block_on(async {
                assert_sound(&db).await;
                db.close().await.unwrap();
            });
        });
    }
}

fn noop() -> std::task::Context<'static> {
    std::task::Context::from_waker(std::task::Waker::noop())
}
