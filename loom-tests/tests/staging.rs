//! Images of pages on their way to disk against writers of those pages (I5, I7): the real pool over a
//! disk whose requests end when loom says so. Four
//! preemptions; three and two for the models of two epochs, which have more to do.
//!
//! Protocol: an image is copied to a staging buffer under the page's latch, which may be shared, and the
//! page is marked clean under the same latch; it is written from the buffer. So a writer never waits
//! for the disk, and marks the page as changed again while an image of it is on its way. One image of a
//! page is on its way at a time. A writer of a new epoch that meets a page with changes of the old
//! one captures the old image first, or, if it cannot, waits, owning nothing. Checked:
//!
//! * no image is torn (the disk looks at each);
//! * a change that came after the copy is written later: no change is lost;
//! * the image of the old epoch is without the changes of the new one, and comes first.
//!
//! Planted: a copy without the latch; a page that is marked clean after the latch was let go of.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// Not every model has a bug planted for it.
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use loom::thread;
use treering_bufpool::Refusal;
use treering_loom_tests::bench::Bench;
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};
use treering_pagefile::Room;

const FIRST: u64 = 11;
const SECOND: u64 = 12;
const THIRD: u64 = 13;

/// Page 1 has been changed; a thread has it written while main changes it again.
fn copy_beside_a_writer(reached: &Reached) {
    let bench = Bench::new(2, 1, 2);
    bench.load([1]);
    bench.write(1, FIRST, 1);
    bench.desk.begin();
    let writes = {
        let bench = bench.clone();
        thread::spawn(move || bench.desk.drive(bench.pool.write_epoch(1)).unwrap())
    };
    bench.write(1, SECOND, 1);
    writes.join().unwrap();
    bench.desk.drive(bench.pool.write_epoch(1)).unwrap();
    match bench.desk.images()[..] {
        [(1, SECOND)] => {}
        [(1, FIRST), (1, SECOND)] => reached.now(),
        ref images => panic!("a change was lost: {images:?}"),
    }
}

/// Changes page 1 in epoch 2; whether that had to wait.
fn write_in_next_epoch(bench: &Bench, value: u64) -> bool {
    let mut waited = false;
    loop {
        let relief = bench.pool.relief();
        let page = bench.pin(1).write();
        match page.prepare(2, Room::Growing) {
            Ok(_) => {
                bench.set(&page, value, 2);
                return waited;
            }
            Err(refusal) => {
                drop(page);
                assert_eq!(refusal, Refusal::Staging);
                waited = true;
                bench.desk.drive(relief);
            }
        }
    }
}

/// Page 1 has been changed in epoch 1; a thread has that epoch written while main changes the page in
/// epoch 2. There is one staging buffer.
fn capture_beside_a_checkpoint() {
    let bench = Bench::new(2, 1, 1);
    bench.load([1]);
    bench.write(1, FIRST, 1);
    bench.desk.begin();
    let checkpoint = {
        let bench = bench.clone();
        thread::spawn(move || {
            bench.desk.drive(bench.pool.write_epoch(1)).unwrap();
            assert_eq!(bench.desk.images().first(), Some(&(1, FIRST)), "an epoch was not written");
        })
    };
    write_in_next_epoch(&bench, SECOND);
    checkpoint.join().unwrap();
    bench.desk.drive(bench.pool.write_epoch(2)).unwrap();
    assert_eq!(bench.desk.images(), [(1, FIRST), (1, SECOND)], "epochs got mixed up");
}

/// The same, but the page is changed in epoch 1 once more, while an image of it may be on its way: then
/// the writer of epoch 2 has to wait for that one to arrive.
fn capture_that_has_to_wait(reached: &Reached) {
    let bench = Bench::new(2, 1, 1);
    bench.load([1]);
    bench.write(1, FIRST, 1);
    bench.desk.begin();
    let cleaner = {
        let bench = bench.clone();
        thread::spawn(move || bench.desk.drive(bench.pool.write_epoch(1)).unwrap())
    };
    bench.write(1, SECOND, 1);
    if write_in_next_epoch(&bench, THIRD) {
        reached.now();
    }
    cleaner.join().unwrap();
    bench.desk.drive(bench.pool.write_epoch(2)).unwrap();
    let images: Vec<u64> = bench.desk.images().into_iter().map(|(_, value)| value).collect();
    let expected = [&[FIRST, SECOND, THIRD][..], &[SECOND, THIRD]];
    assert!(expected.contains(&&images[..]), "epochs got mixed up: {images:?}");
}

mod holds {
    use super::*;

    #[test]
    fn an_image_is_whole_and_no_change_is_lost() {
        explore_reaching(PREEMPTIONS, copy_beside_a_writer);
    }

    #[test]
    fn an_epoch_is_written_as_it_was() {
        explore(3, capture_beside_a_checkpoint);
    }

    #[test]
    fn a_writer_waits_for_an_image_on_its_way() {
        explore_reaching(2, capture_that_has_to_wait);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;
    use treering_latch::planted::{Bug, with};

    /// The page file notices first: a writer saw the page clean in the middle of its change, and so an
    /// image has nothing reserved.
    #[test]
    #[should_panic(expected = "only what was reserved is given back")]
    fn a_copy_without_the_latch() {
        with(Bug::CopiedWithoutLatch, || explore_reaching(PREEMPTIONS, copy_beside_a_writer));
    }

    /// Here, too: the page is written twice after one change.
    #[test]
    #[should_panic(expected = "only what was reserved is given back")]
    fn a_page_that_is_clean_too_late() {
        with(Bug::CleanedAfterLatch, || explore_reaching(PREEMPTIONS, copy_beside_a_writer));
    }
}
