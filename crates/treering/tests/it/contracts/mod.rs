//! The contracts of the async side, for every operation of the public face on every kind of executor.
//!
//! * [`operations`] and [`writes`] name each operation once, as a future that owns all it needs and
//!   checks its own result; [`face`] reads the sources and fails if a public one is missing there, or
//!   among those that [`send`] shows to be `Send`.
//! * [`suite`] has the contracts as async test bodies, each of which any executor can run.
//! * Here they are run: the same bodies on Tokio with many threads, as tasks of it, on Tokio with one
//!   thread, on tokio-uring, on smol, and on a `block_on` that is nothing but a parked thread.
//! * [`ends`] is about what a single executor cannot show: runtimes that go away or stand still,
//!   threads that end.
//!
//! `TREERING_SOAK=10` makes ten rounds of everything.

mod ends;
mod face;
mod operations;
mod send;
mod suite;
mod writes;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use futures::future::BoxFuture;
use treering::{Database, Durability, Error, Io, MultiTree, Options, Tree, TypedTree};

use crate::common::{Home, on_a_thread, tiny};

/// Keys that are there all along, in more leaves than there are frames.
const KEYS: usize = 600;
/// Bytes of a value that has pages of its own.
const LARGE: usize = 20_000;
/// Records of a bulk load.
const LOADED: usize = 200;

/// What an operation works on. A clone is another handle.
#[derive(Clone)]
struct World {
    db: Database,
    tree: Tree,
    multi: MultiTree,
    typed: TypedTree<u64, String>,
    /// Where other databases and backups go.
    side: PathBuf,
    io: Io,
    numbers: Arc<AtomicUsize>,
}

type Operation = BoxFuture<'static, Result<(), Error>>;

/// The public functions that an operation is about, as `Type::function`, and what makes one: from a
/// number that no other has.
#[derive(Clone, Copy)]
struct Kind {
    about: &'static str,
    make: fn(World, usize) -> Operation,
}

/// All kinds of operations.
fn kinds() -> Vec<Kind> {
    [operations::READING, operations::KEEPING, writes::WRITING, writes::CHANGING].concat()
}

fn base(number: usize) -> String {
    format!("base {:05}", number * 389 % KEYS)
}

/// How often everything is done.
fn rounds() -> usize {
    std::env::var("TREERING_SOAK").map_or(1, |times| times.parse().unwrap())
}

impl World {
    fn options(io: Io) -> Options {
        // The smallest pool, and a log whose buffer takes a few dozen commits.
        tiny(4096, 16).io(io).log_buffer(8 << 10)
    }

    async fn new(io: Io, home: &Home) -> Self {
        let world = Self::open(io, home).await;
        for number in 0..KEYS {
            let put = world.tree.put(base(number), [b'b'; 150]);
            put.durability(Durability::None).await.unwrap();
        }
        world.tree.put("large", [b'l'; LARGE]).await.unwrap();
        for value in ["one", "two", "three"] {
            world.multi.insert_dup("stays", value).durability(Durability::None).await.unwrap();
        }
        world.db.checkpoint().await.unwrap();
        world
    }

    async fn open(io: Io, home: &Home) -> Self {
        let db = Self::options(io).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let (multi, typed) = (db.multi_tree("m").await.unwrap(), db.typed("y").await.unwrap());
        let side = home.path.with_extension("side");
        std::fs::create_dir_all(&side).unwrap();
        Self { db, tree, multi, typed, side, io, numbers: Arc::default() }
    }

    /// The next operation of a kind.
    fn operation(&self, kind: Kind) -> Operation {
        (kind.make)(self.clone(), self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs operations of all kinds to their ends, at the same time.
    async fn all_kinds(&self) {
        let all = kinds().into_iter().map(|kind| {
            let operation = self.operation(kind);
            async move { operation.await.unwrap_or_else(|error| panic!("{}: {error}", kind.about)) }
        });
        futures::future::join_all(all).await;
    }
}

/// The plainest executor there is: polls, and parks the thread until it is woken.
fn bare_block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all().build().unwrap()
}

type Body = BoxFuture<'static, ()>;

fn on_tokio_many_threads(body: Body) {
    multi_thread(4).block_on(body);
}

fn on_tokio_as_a_task(body: Body) {
    let runtime = multi_thread(2);
    runtime.block_on(runtime.spawn(body)).unwrap();
}

fn on_tokio_current_thread(body: Body) {
    current_thread().block_on(body);
}

fn on_tokio_uring(body: Body) {
    tokio_uring::start(body);
}

fn on_smol(body: Body) {
    smol::block_on(smol::spawn(body));
}

fn on_bare_block_on(body: Body) {
    bare_block_on(body);
}

/// One test for each body and executor, on both kinds of I/O.
macro_rules! on_every_executor {
    ($($body:ident),* $(,)?) => {
        on_every_executor! { @each
            [on_tokio_many_threads, on_tokio_as_a_task, on_tokio_current_thread, on_tokio_uring,
             on_smol, on_bare_block_on]
            [$($body),*]
        }
    };
    (@each [$($run:ident),*] $bodies:tt) => {
        $(on_every_executor! { @one $run $bodies })*
    };
    (@one $run:ident [$($body:ident),*]) => {
        mod $run {
            use super::*;
            $(
                #[test]
                fn $body() {
                    for io in crate::common::both_io() {
                        let what = concat!(stringify!($body), ", ", stringify!($run));
                        on_a_thread(what, move || super::$run(Box::pin(suite::$body(io))));
                    }
                }
            )*
        }
    };
}

on_every_executor! {
    every_operation_ends_with_what_it_says,
    an_operation_dropped_after_any_poll_leaves_all_or_nothing,
    operations_never_polled_again_keep_nobody_waiting,
    what_loses_a_select_is_dropped_or_goes_on_later,
    what_runs_into_a_timeout_leaves_all_or_nothing,
    a_futures_unordered_that_nobody_drives_keeps_nobody_waiting,
}
