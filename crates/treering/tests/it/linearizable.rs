//! Histories of many clients, who change few keys all at once while the pages under them split and
//! merge and are pushed out of a tiny pool, and who drop some of their futures, are linearizable. So
//! is what batches over several keys do. That the checker is awake is shown by faults planted
//! between a client and the tree, and by histories made up for it.

#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common::{Home, assert_sound, on_tokio, tiny};
use crate::history::check::{Call, Verdict, check};
use crate::history::clients::{BETWEEN, Client, Fault, KEYS, between};
use crate::history::model::{Answer, Op, State, Step};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use treering::{Durability, Io, Tree};

const CLIENTS: usize = 8;
const SHAPERS: u64 = 2;
const OPERATIONS: usize = 250;

/// Seeds, from `first` on; `TREERING_SOAK=10` makes it ten times as many.
fn seeds(first: u64, count: u64) -> impl Iterator<Item = u64> {
    let soak: u64 = std::env::var("TREERING_SOAK").map_or(1, |times| times.parse().unwrap());
    (0..count * soak).map(move |number| first + number * 1000)
}

/// Takes stretches of the keys between those of the clients away and puts them back, so that the
/// leaves of both merge and split.
async fn shape(tree: Tree, seed: u64, over: Arc<AtomicBool>) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let keys = u32::from(KEYS) * BETWEEN;
    while !over.load(Ordering::Relaxed) {
        let from = rng.random_range(0..keys);
        let stretch: Vec<u32> = (from..keys.min(from + 2 * BETWEEN)).collect();
        for number in &stretch {
            tree.delete(between(*number)).durability(Durability::None).await.unwrap();
        }
        tokio::task::yield_now().await;
        for number in &stretch {
            let value = vec![0; rng.random_range(0..80)];
            tree.put(between(*number), value).durability(Durability::None).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
}

/// A run: its history, and how many merges there were.
async fn run(io: Io, frames: usize, seed: u64, fault: Option<Fault>) -> (Vec<Call>, u64) {
    let home = Home::new();
    let db = tiny(512, frames).io(io).open(&home.path).await.unwrap();
    let tree = db.tree("t").await.unwrap();
    for number in 0..u32::from(KEYS) * BETWEEN {
        tree.put(between(number), [1; 30]).durability(Durability::None).await.unwrap();
    }
    let over = Arc::new(AtomicBool::new(false));
    let shapers: Vec<_> = (0..SHAPERS)
        .map(|number| tokio::spawn(shape(tree.clone(), seed + number, Arc::clone(&over))))
        .collect();
    let clock = Arc::new(AtomicU64::new(0));
    let client = |id, fault| Client::new(id, (&db, &tree), &clock, seed, frames / 8, fault);
    let clients: Vec<_> =
        (0..CLIENTS).map(|id| tokio::spawn(client(id, fault).run(OPERATIONS))).collect();
    let mut calls = Vec::new();
    for client in clients {
        calls.extend(client.await.unwrap());
    }
    over.store(true, Ordering::Relaxed);
    for shaper in shapers {
        shaper.await.unwrap();
    }
    calls.extend(client(CLIENTS, None).read_all().await);
    db.tidy().await.unwrap();
    let merges = db.stats().merges;
    assert_sound(&db).await;
    db.close().await.unwrap();
    (calls, merges)
}

fn storm(io: Io, frames: usize, first: u64, count: u64) {
    let mut merges = 0;
    for seed in seeds(first, count) {
        let what = format!("clients of {frames} frames on {io:?}, seed {seed}");
        let (calls, merged) = on_tokio(CLIENTS, &what, run(io, frames, seed, None));
        merges += merged;
        let answered = calls.iter().filter(|call| call.ended.is_some()).count();
        assert!(answered > CLIENTS * OPERATIONS / 2, "{what}: {answered} were answered");
        match check(&State::new(), &calls) {
            Ok(()) => {}
            Err(Verdict::Impossible(why)) => panic!("{what}: not linearizable: {why}"),
            Err(Verdict::Undecided(why)) => panic!("{what}: search given up: {why}"),
        }
    }
    assert!(merges > 0, "no page has merged");
}

#[test]
fn p5_histories_in_the_smallest_pool_are_linearizable() {
    storm(Io::Uring, 16, 1, 2);
}

#[test]
fn p5_histories_on_the_thread_backend_are_linearizable() {
    storm(Io::Threads, 24, 2, 2);
}

#[test]
fn t17_histories_with_larger_batches_are_linearizable() {
    storm(Io::Uring, 48, 3, 3);
}

#[test]
fn a_stale_read_planted_in_a_history_is_noticed() {
    let (calls, _) =
        on_tokio(CLIENTS, "a stale read", run(Io::Uring, 32, 4, Some(Fault::StaleRead)));
    assert!(matches!(check(&State::new(), &calls), Err(Verdict::Impossible(_))));
}

#[test]
fn a_lost_update_planted_in_a_history_is_noticed() {
    let (calls, _) =
        on_tokio(CLIENTS, "a lost update", run(Io::Uring, 32, 5, Some(Fault::LostUpdate)));
    assert!(matches!(check(&State::new(), &calls), Err(Verdict::Impossible(_))));
}

/// A call that was answered.
fn call(client: usize, began: u64, ended: u64, op: Op, answer: Answer) -> Call {
    Call { client, op, began, ended: Some((ended, answer)) }
}

/// A call that nobody waited for.
fn left(client: usize, began: u64, op: Op) -> Call {
    Call { client, op, began, ended: None }
}

fn is_linearizable(calls: &[Call]) -> bool {
    match check(&State::new(), calls) {
        Ok(()) => true,
        Err(Verdict::Impossible(_)) => false,
        Err(Verdict::Undecided(why)) => panic!("{why}"),
    }
}

#[test]
fn the_checker_tells_apart_histories_that_differ_in_one_moment() {
    let put = call(1, 0, 9, Op::Put(0, 7), Answer::Done);
    let new = |began, ended| call(2, began, ended, Op::Get(0), Answer::Value(Some(7)));
    let old = |began, ended| call(3, began, ended, Op::Get(0), Answer::Value(None));
    // While the write is under way, a read may see it or not...
    assert!(is_linearizable(&[put.clone(), new(1, 2), old(1, 3)]));
    assert!(is_linearizable(&[put.clone(), old(1, 2), new(3, 4)]));
    // ...but after one has seen it, all that begin later do.
    assert!(!is_linearizable(&[put.clone(), new(1, 2), old(3, 4)]));
    assert!(!is_linearizable(&[put, old(10, 11)]));
}

#[test]
fn the_checker_lets_a_dropped_call_happen_at_any_time_but_once() {
    let dropped = left(1, 0, Op::Put(0, 7));
    let deleted = call(2, 3, 4, Op::Delete(0), Answer::Existed(true));
    let get = |began, ended, value| call(3, began, ended, Op::Get(0), Answer::Value(value));
    assert!(is_linearizable(&[dropped.clone(), get(1, 2, None), get(8, 9, Some(7))]));
    assert!(is_linearizable(&[dropped.clone(), get(1, 2, None), get(8, 9, None)]));
    let twice = [dropped.clone(), get(1, 2, Some(7)), deleted, get(5, 6, Some(7))];
    assert!(!is_linearizable(&twice));
    let early = [get(1, 2, Some(7)), left(1, 3, Op::Put(0, 7))];
    assert!(!is_linearizable(&early));
}

#[test]
fn the_checker_wants_batches_to_be_whole() {
    let batch = Op::Batch(vec![(0, Step::Put(5)), (1, Step::Put(6))]);
    let both = call(1, 0, 9, batch.clone(), Answer::Done);
    let first = call(2, 1, 2, Op::Get(0), Answer::Value(Some(5)));
    let second = |value| call(2, 3, 4, Op::Get(1), Answer::Value(value));
    assert!(is_linearizable(&[both.clone(), first.clone(), second(Some(6))]));
    assert!(!is_linearizable(&[both, first.clone(), second(None)]));
    assert!(!is_linearizable(&[left(1, 0, batch), first, second(None)]));
}

#[test]
fn the_checker_places_a_call_where_it_is_needed_and_not_where_it_first_fits() {
    // The batch could come before the put, where it would do nothing.
    let batch = Op::Batch(vec![(0, Step::Put(5)), (0, Step::Delete)]);
    let calls = [
        call(1, 0, 9, batch, Answer::Done),
        call(2, 1, 2, Op::Put(0, 7), Answer::Done),
        call(3, 10, 11, Op::Get(0), Answer::Value(None)),
    ];
    assert!(is_linearizable(&calls));
}
