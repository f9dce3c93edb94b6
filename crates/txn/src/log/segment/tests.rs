//! The book of slots and segments by itself, without a disk.

use super::*;

const SIZE: u64 = 5 * BLOCK as u64;

/// A book with these slots: formatted, and in use.
fn book(limit: usize, slots: &[(u32, bool, bool)]) -> Segments {
    let mut book = Segments { limit, starved: false, ..Segments::none(SIZE) };
    for &(slot, formatted, in_use) in slots {
        book.slots.insert(slot, Slot { file: FileId(slot), formatted, in_use });
    }
    book
}

/// A book of a log with so many segments in use and ahead, numbered from 1.
fn running(limit: usize, live: u32, ahead: u32) -> Segments {
    let mut book = book(limit, &[]);
    for slot in 0..live + ahead {
        let plan = book.plan_number(u64::from(slot) + 1, slot);
        let segment = book.take_in(plan, FileId(slot));
        if slot < live { &mut book.live } else { &mut book.ahead }.push_back(segment);
    }
    book.offset = BLOCK as u64;
    book
}

fn at(segment: u64, block: u64) -> LogPosition {
    LogPosition { segment, offset: block * BLOCK as u64 }
}

#[test]
fn a_formatted_file_is_chosen_before_others_and_one_below_the_limit_before_one_beyond() {
    type Case<'c> = (&'c [(u32, bool, bool)], bool, Option<u32>);
    let cases: &[Case<'_>] = &[
        (&[], false, Some(0)),
        (&[], true, None),
        (&[(0, true, true)], false, Some(1)),
        // What is formatted needs no zeros.
        (&[(0, false, false), (1, true, false)], false, Some(1)),
        (&[(0, false, false), (1, true, true), (2, true, false)], false, Some(2)),
        // Beyond the limit it is to be given up.
        (&[(0, false, false), (3, true, false)], false, Some(0)),
        (&[(0, true, true), (1, true, true), (3, true, false)], false, Some(2)),
        (&[(0, true, true), (1, true, true), (2, true, true), (3, true, false)], false, Some(3)),
        (&[(0, true, true), (1, true, true), (2, true, true), (4, true, false)], false, Some(4)),
        (&[(0, true, true), (1, true, true), (2, true, true)], false, Some(3)),
        // Without space for another file.
        (&[(0, false, false), (3, true, false)], true, Some(3)),
        (&[(0, false, false), (3, true, true)], true, None),
    ];
    for &(slots, starved, expected) in cases {
        let mut book = book(3, slots);
        book.starved = starved;
        assert_eq!(book.choose(), expected, "{slots:?}, starved {starved}");
    }
}

#[test]
fn two_segments_are_prepared_ahead_within_the_limit_one_at_a_time() {
    let plans = |mut book: Segments| match book.plan() {
        Some(Job::Prepare(plan)) => {
            assert!(book.plan().is_none(), "one at a time");
            Some((plan.number, plan.slot))
        }
        Some(Job::Shrink(_)) => panic!("nothing is beyond the limit"),
        None => None,
    };
    assert_eq!(plans(running(9, 1, 0)), Some((2, 1)));
    assert_eq!(plans(running(9, 1, 1)), Some((3, 2)));
    assert_eq!(plans(running(9, 1, 2)), None);
    assert_eq!(plans(running(4, 2, 1)), Some((4, 3)));
    assert_eq!(plans(running(4, 3, 1)), None, "the limit");
}

#[test]
fn a_log_is_stuck_only_when_neither_a_checkpoint_nor_a_segment_ahead_would_help() {
    for starved in [false, true] {
        for live in [1, 2] {
            for kept in [0, 1] {
                for ahead in [0, 1, 2] {
                    let mut book = running(9, live, ahead);
                    book.starved = starved;
                    book.kept = vec![KeptSegment { number: 7, slot: 8, size: SIZE }; kept];
                    let expected = starved && live == 1 && kept == 0 && ahead < 2;
                    let name =
                        format!("starved {starved}, {live} live, {kept} kept, {ahead} ahead");
                    assert_eq!(book.is_stuck(), expected, "{name}");
                    assert_eq!((book.in_use(), book.kept()), (live as usize, kept), "{name}");
                }
            }
        }
    }
}

#[test]
fn what_is_used_counts_whole_segments_and_the_part_of_the_current_one() {
    let mut book = running(6, 1, 2);
    assert_eq!(book.used(), BLOCK as u64);
    assert_eq!(book.place(2 * BLOCK, 1), Some((FileId(0), at(1, 1))));
    assert_eq!(book.used(), 3 * BLOCK as u64);
    assert_eq!(book.place(3 * BLOCK, 2), Some((FileId(1), at(2, 1))));
    assert_eq!(book.used(), SIZE + 4 * BLOCK as u64);
    // With one segment ahead, which is the reserve, only the rest of the current one is left.
    assert!(book.fits(BLOCK) && !book.fits(BLOCK + 1));
    assert_eq!(book.place(2 * BLOCK, 3), None);
    assert_eq!(book.end(), at(2, 4));

    assert_eq!(book.capacity(), 5 * SIZE);
    book.starved = true;
    assert_eq!(book.capacity(), 2 * SIZE, "two in use, and the reserve");
    assert_eq!(running(1, 1, 0).capacity(), SIZE, "never less than one");
}

#[test]
fn a_release_gives_back_all_before_the_position_but_never_the_current_segment() {
    let mut book = running(9, 3, 2);
    book.starved = true;
    book.release_before(at(2, 4));
    assert_eq!((book.in_use(), book.choose()), (2, Some(0)), "the first is free, and space sought");
    assert!(!book.starved);
    book.release_before(at(9, 1));
    assert_eq!((book.in_use(), book.end().segment), (1, 3));
    assert!(book.slots[&2].in_use && !book.slots[&1].in_use);
}

#[test]
fn kept_segments_are_given_back_formatted_if_their_size_fits() {
    let slots = [(0, false, true), (1, false, true), (2, false, true)];
    let mut book = book(9, &slots);
    book.kept =
        (0..3).map(|n| KeptSegment { number: 5 + n, slot: n as u32, size: SIZE + n }).collect();
    book.release_before(at(7, 1));
    assert_eq!(book.kept.iter().map(KeptSegment::number).collect::<Vec<_>>(), [7]);
    let state = |slot: u32| (book.slots[&slot].formatted, book.slots[&slot].in_use);
    assert_eq!([state(0), state(1), state(2)], [(true, false), (false, false), (false, true)]);
}
