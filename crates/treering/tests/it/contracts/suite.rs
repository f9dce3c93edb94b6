//! The contracts as async test bodies: they only await, so that any executor can run them.
//!
//! Each ends by closing the database, opening it again, and checking that everything acknowledged is
//! there, and of everything that was given up all or nothing ([`World::check`]). A body that waits for
//! something that only an abandoned future could do never ends, and its runner makes that a failure.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use treering::{Error, Io};

use super::{Operation, World, kinds, rounds};
use crate::common::{Home, polled};

/// More than any of the operations needs.
const POLLS_MAX: usize = 400;

/// What others gave up is in nobody's way: each operation succeeds.
fn succeeded(about: &str, result: Result<(), Error>) {
    result.unwrap_or_else(|error| panic!("{about}: {error}"));
}

/// Closes the database, which waits for what was abandoned, and checks what is there.
async fn end(world: World, home: &Home) {
    let io = world.io;
    world.db.close().await.unwrap();
    drop(world);
    let world = World::open(io, home).await;
    world.check().await;
    world.db.close().await.unwrap();
}

pub(super) async fn every_operation_ends_with_what_it_says(io: Io) {
    let home = Home::new();
    let world = World::new(io, &home).await;
    for _ in 0..rounds() {
        for kind in kinds() {
            succeeded(kind.about, world.operation(kind).await);
        }
        world.all_kinds().await;
    }
    end(world, &home).await;
}

/// Dropped after its first poll, its second, and so on, until it comes to its end.
pub(super) async fn an_operation_dropped_after_any_poll_leaves_all_or_nothing(io: Io) {
    let home = Home::new();
    let world = World::new(io, &home).await;
    for _ in 0..rounds() {
        for kind in kinds() {
            let mut times = 0;
            loop {
                assert!(times < POLLS_MAX, "{} is polled for ever", kind.about);
                if let Ok(result) = polled(world.operation(kind), times).await {
                    break succeeded(kind.about, result);
                }
                // All of the first ones; later ones are much like each other.
                times += 1 + times / 8;
            }
        }
    }
    end(world, &home).await;
}

/// Each kind is polled once, twice, four times, and then held as long as the database is open, and
/// longer.
pub(super) async fn operations_never_polled_again_keep_nobody_waiting(io: Io) {
    let home = Home::new();
    let world = World::new(io, &home).await;
    let mut held: Vec<Operation> = Vec::new();
    for times in [1, 2, 4] {
        for kind in kinds() {
            for _ in 0..rounds() {
                held.extend(polled(world.operation(kind), times).await.err());
            }
        }
    }
    assert!(held.len() > kinds().len() / 2, "only {} are pending", held.len());
    world.all_kinds().await;
    end(world, &home).await;
    // What they were about is closed.
    drop(held);
}

pub(super) async fn what_loses_a_select_is_dropped_or_goes_on_later(io: Io) {
    let home = Home::new();
    let world = World::new(io, &home).await;
    let all = kinds();
    for round in 0..rounds() {
        for (index, kind) in all.iter().enumerate() {
            let against = all[(index + 7 + round) % all.len()];
            let mut kept = world.operation(*kind);
            // The loser is dropped, in the one case, and may win the next time, in the other.
            let over = tokio::select! {
                result = &mut kept => Some(result),
                result = world.operation(against) => {
                    succeeded(against.about, result);
                    None
                }
            };
            let result = match over {
                Some(result) => result,
                None => loop {
                    let other = world.operation(against);
                    tokio::select! {
                        biased;
                        result = &mut kept => break result,
                        _ = polled(other, 3) => {}
                    }
                },
            };
            succeeded(kind.about, result);
        }
    }
    end(world, &home).await;
}

pub(super) async fn what_runs_into_a_timeout_leaves_all_or_nothing(io: Io) {
    let home = Home::new();
    let world = World::new(io, &home).await;
    let (mut in_time, mut late) = (0, 0);
    for round in 0..rounds() {
        for kind in kinds() {
            for micros in [0, 20, 200, 1000 + round as u64 * 100] {
                let operation = world.operation(kind);
                match timeout(Duration::from_micros(micros), operation).await {
                    Some(result) => {
                        in_time += 1;
                        succeeded(kind.about, result);
                    }
                    None => late += 1,
                }
            }
        }
    }
    assert!(in_time > 0 && late > 0, "{in_time} in time, {late} late");
    world.all_kinds().await;
    end(world, &home).await;
}

/// By the runtime's own clock where it has one.
async fn timeout<T>(after: Duration, operation: impl Future<Output = T>) -> Option<T> {
    if tokio::runtime::Handle::try_current().is_ok() {
        return tokio::time::timeout(after, operation).await.ok();
    }
    let late = async {
        smol::Timer::after(after).await;
        None
    };
    smol::future::or(async { Some(operation.await) }, late).await
}

/// All kinds at once, driven for a while, then left alone while the same task does something else: the
/// trap in which a lock that is passed to a future that nobody polls would wait for ever.
pub(super) async fn a_futures_unordered_that_nobody_drives_keeps_nobody_waiting(io: Io) {
    let home = Home::new();
    let world = World::new(io, &home).await;
    for driven in [0, 1, 5, 20].repeat(rounds()) {
        let mut all: FuturesUnordered<_> = kinds()
            .into_iter()
            .map(|kind| world.operation(kind).map(move |result| succeeded(kind.about, result)))
            .collect();
        if driven == 0 {
            // Each is polled once.
            assert!(all.next().now_or_never().is_none_or(|one| one.is_some()));
        }
        for _ in 0..driven {
            all.next().await;
        }
        world.all_kinds().await;
        while all.next().await.is_some() {}
    }
    end(world, &home).await;
}
