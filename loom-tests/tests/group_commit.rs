//! Group commit (I1, I6, I10): the real log over a disk whose requests end when loom says so.
//!
//! Protocol: who wants a record durable notes that under the log's mutex and registers in the list of the
//! group that has it. If no group is on its way, the wish seals the filling group, and who made it
//! submits it; else the completion of the one on its way seals and submits the next if anybody wished
//! for it, and then wakes those who waited for its own. Checked, with four preemptions (two for three
//! groups):
//!
//! * nobody is told that a record is durable before its bytes are on disk;
//! * nobody who waits is forgotten: not by the group on its way, and not by the next; loom reports a
//!   deadlock otherwise;
//! * one who wished and gave up delays nobody, and what it wished for is written all the same;
//! * two commits that meet take two writes at most.
//!
//! Planted: what was sent off counts as durable; the completion starts no next group; who waits for the
//! group on its way is noted in the other list.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it.
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use std::pin::Pin;
use std::task::{Context, Waker};

use loom::thread;
use treering_loom_tests::journal::Journal;
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};

fn commit(journal: &Journal, body: &[u8]) {
    let sequence = journal.append(body);
    journal.desk.drive(journal.log.wait_durable(sequence)).unwrap();
    assert!(journal.desk.holds(body), "a commit was acknowledged before it was durable");
}

/// Main and a thread commit.
fn two_commits(reached: &Reached) {
    let journal = Journal::new();
    let other = {
        let journal = journal.clone();
        thread::spawn(move || commit(&journal, b"the thread's record"))
    };
    commit(&journal, b"the record of main");
    other.join().unwrap();
    let writes = journal.desk.counted().writes;
    assert!((1..=2).contains(&writes), "{writes} writes");
    if writes == 1 {
        reached.now();
    }
}

/// A thread commits, and main commits twice, so that there is a third group.
fn three_commits() {
    let journal = Journal::new();
    let other = {
        let journal = journal.clone();
        thread::spawn(move || commit(&journal, b"the thread's record"))
    };
    commit(&journal, b"the first record of main");
    commit(&journal, b"the second record of main");
    other.join().unwrap();
}

/// Main wishes, and gives up at any moment; a thread commits.
fn one_gives_up() {
    let journal = Journal::new();
    let other = {
        let journal = journal.clone();
        thread::spawn(move || commit(&journal, b"the thread's record"))
    };
    let sequence = journal.append(b"the record of main");
    let mut wait = journal.log.wait_durable(sequence);
    let polled = Pin::new(&mut wait).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending() || journal.desk.holds(b"the record of main"));
    drop(wait);
    other.join().unwrap();
    while journal.desk.serve() {}
    assert!(journal.desk.holds(b"the record of main"), "a wish was forgotten");
}

/// Main buffers a record after the thread's, waits for neither, and then wants both.
fn one_comes_later() {
    let journal = Journal::new();
    let other = {
        let journal = journal.clone();
        thread::spawn(move || commit(&journal, b"the thread's record"))
    };
    journal.append(b"a record that nobody waits for");
    let last = journal.append(b"the record of main");
    journal.log.request_flush(last);
    other.join().unwrap();
    journal.desk.drive(journal.log.wait_durable(last)).unwrap();
    assert!(journal.desk.holds(b"a record that nobody waits for"), "records are out of order");
    assert!(journal.desk.holds(b"the record of main"), "a wish was forgotten");
}

mod holds {
    use super::*;

    #[test]
    fn two_who_commit_are_told_when_it_is_durable() {
        explore_reaching(PREEMPTIONS, two_commits);
    }

    #[test]
    fn a_third_group_follows_the_second() {
        explore(2, three_commits);
    }

    #[test]
    fn who_gives_up_delays_nobody() {
        explore(PREEMPTIONS, one_gives_up);
    }

    #[test]
    fn what_is_durable_is_a_prefix() {
        explore(PREEMPTIONS, one_comes_later);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    #[test]
    #[should_panic(expected = "a commit was acknowledged before it was durable")]
    fn a_group_that_is_durable_when_it_is_sent_off() {
        with(Bug::AcknowledgedTooSoon, || explore_reaching(PREEMPTIONS, two_commits));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_next_group_that_is_forgotten() {
        with(Bug::NextGroupForgotten, || explore_reaching(PREEMPTIONS, two_commits));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_waiter_in_the_wrong_list() {
        with(Bug::WaitsForWrongGroup, || explore_reaching(PREEMPTIONS, two_commits));
    }
}
