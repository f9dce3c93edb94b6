//! Librarian slots: where fillers come from, what they save, and where they go.

#![allow(clippy::unwrap_used)]

mod page_support;

use std::cell::Cell;

use page_support::*;
use treering_blink::{
    Gap, Image, Page, PageSpec, Policy, Words, WordsMut, build, check, partition,
};
use treering_pagefile::PageId;

const SLOTS: usize = 8;

/// A leaf of keys 0, 10, 20, .. with values of eight bytes.
fn leaf(page_size: usize, count: u32, gap: Gap) -> Image {
    leaf_if_it_fits(page_size, count, gap).expect("they fit")
}

fn leaf_if_it_fits(page_size: usize, count: u32, gap: Gap) -> Option<Image> {
    let keys: Vec<[u8; 4]> = (0..count).map(|n| (n * 10).to_be_bytes()).collect();
    let entries: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &[7; 8][..])).collect();
    let spec = PageSpec { page_size, tree: 1, level: 0, low: b"", high: None, gap };
    build(&spec, &entries)
}

fn insert<W: WordsMut>(page: &Page<W>, number: u32) {
    let key = number.to_be_bytes();
    let slot = page.find(&key).expect_err("it is new");
    assert!(page.insert(slot, &key, &[9; 8]), "there is room");
    assert_sound(page, page.page_size());
}

fn remove<W: WordsMut>(page: &Page<W>, number: u32) {
    page.remove(page.find(&number.to_be_bytes()).expect("it is there"));
    assert_sound(page, page.page_size());
}

/// `L` for each live slot, `f` for each filler.
fn shape<W: Words>(page: &Page<W>) -> String {
    (0..page.len()).map(|slot| if page.is_filler(slot) { 'f' } else { 'L' }).collect()
}

fn numbers<W: Words>(page: &Page<W>) -> Vec<u32> {
    let keys = contents(page).into_iter();
    keys.map(|(key, _)| u32::from_be_bytes(key.try_into().unwrap())).collect()
}

/// Words that count how many slots are written.
#[derive(Clone, Copy)]
struct Counted<'w>(&'w [Cell<u64>], &'w Cell<usize>);

impl Words for Counted<'_> {
    fn len(self) -> usize {
        Words::len(self.0)
    }

    fn word(self, index: usize) -> u64 {
        self.0.word(index)
    }
}

impl WordsMut for Counted<'_> {
    fn set_word(self, index: usize, value: u64) {
        let slots = SLOTS..SLOTS + Page::new(self.0).len() + 1;
        self.1.set(self.1.get() + usize::from(slots.contains(&index)));
        self.0.set_word(index, value);
    }
}

#[test]
fn t12_a_build_spreads_fillers_by_the_gap() {
    assert_eq!(shape(&leaf(4096, 7, Gap::NONE).page()), "LLLLLLL");
    assert_eq!(shape(&leaf(4096, 7, Gap::every(0)).page()), "LLLLLLL");
    assert_eq!(shape(&leaf(4096, 7, Gap::every(1)).page()), "LfLfLfLfLfLfL");
    assert_eq!(shape(&leaf(4096, 7, Gap::every(2)).page()), "LLfLLfLLfL");
    assert_eq!(shape(&leaf(4096, 6, Gap::every(2)).page()), "LLfLLfLL");
    assert_eq!(shape(&leaf(4096, 7, Gap::every(7)).page()), "LLLLLLL");
    assert_eq!(shape(&leaf(4096, 1, Gap::every(1)).page()), "L");
    assert_eq!(shape(&leaf(4096, 0, Gap::every(1)).page()), "");
    let with = leaf(4096, 100, Gap::every(1));
    let without = leaf(4096, 100, Gap::NONE);
    assert_sound(&with.page(), 4096);
    assert_eq!(contents(&with.page()), contents(&without.page()));
    assert_eq!(with.page().live_bytes(), without.page().live_bytes());
    assert_eq!(with.page().free_total(), without.page().free_total());
    assert_eq!(with.page().free_contiguous() + 99 * 8, without.page().free_contiguous());
}

/// Random inserts into a large page: with fillers each writes a few slots, without them half of all.
#[test]
fn t12_an_insert_moves_few_slots() {
    let mut written = [0; 2];
    for (index, gap) in [Gap::NONE, Gap::every(2)].into_iter().enumerate() {
        let mut image = leaf(1 << 18, 3000, gap);
        let slots = Cell::new(0);
        let page = Page::new(Counted(image.edit().words(), &slots));
        for n in 0..500u32 {
            let key = (n * 6007 % 3000 * 10 + 5).to_be_bytes();
            let slot = page.find(&key).expect_err("it is new");
            assert!(page.insert(slot, &key, &[9; 8]));
        }
        written[index] = slots.get();
        assert_sound(&image.page(), 1 << 18);
        assert_eq!(image.page().live_len(), 3500);
    }
    let [without, with] = written;
    assert!(without > 500 * 1000, "{without}");
    assert!(with < 500 * 8, "{with}");
}

#[test]
fn t12_an_insert_takes_the_nearest_filler_on_either_side() {
    let fresh = leaf(4096, 9, Gap::every(4));
    assert_eq!(shape(&fresh.page()), "LLLLfLLLLfL");
    for (number, expected) in [
        (35, "LLLLLLLLLfL"),  // takes it as it is
        (45, "LLLLLLLLLfL"),  // from the left
        (75, "LLLLfLLLLLL"),  // from the right
        (85, "LLLLfLLLLfLL"), // at the end nothing has to move
    ] {
        let mut image = fresh.clone();
        insert(&image.edit(), number);
        assert_eq!(shape(&image.page()), expected, "{number}");
        assert_eq!(numbers(&image.page()).len(), 10);
        assert!(numbers(&image.page()).is_sorted() && numbers(&image.page()).contains(&number));
    }
}

#[test]
fn t12_inserts_use_up_all_fillers_and_then_move_the_tail() {
    let mut image = leaf(4096, 20, Gap::every(1));
    for number in 0..40 {
        insert(&image.edit(), 190 - number * 4 - 1);
    }
    assert_eq!(image.page().free_total(), image.page().free_contiguous());
    assert_eq!(shape(&image.page()), "L".repeat(60));
}

#[test]
fn t12_a_removed_entry_leaves_a_filler_for_the_next_insert() {
    let mut image = leaf(4096, 8, Gap::every(4));
    let page = image.edit();
    assert_eq!(shape(&page), "LLLLfLLLL");
    remove(&page, 20);
    assert_eq!(shape(&page), "LLfLfLLLL");
    remove(&page, 30);
    assert_eq!(shape(&page), "LLfffLLLL");
    remove(&page, 0);
    assert_eq!(shape(&page), "fLfffLLLL");
    // The record moves, and all that leads to it.
    let slot = page.find(&40u32.to_be_bytes()).unwrap();
    assert_eq!((slot, page.live_before(slot)), (5, Some(1)));
    assert!(page.replace_value(slot, &[3; 200]));
    assert_sound(&page, 4096);
    page.compact();
    assert_sound(&page, 4096);
    assert_eq!((shape(&page).as_str(), value_of(&page, 5)), ("fLfffLLLL", vec![3; 200]));
    // Nothing is on the right of the last entry: the slots end before it.
    remove(&page, 70);
    remove(&page, 60);
    remove(&page, 50);
    remove(&page, 40);
    assert_eq!(shape(&page), "fL");
    remove(&page, 10);
    assert!(page.is_empty());
    assert_eq!(page.free_total(), page.free_contiguous());
}

/// However entries are removed, runs of fillers stay short, since moving a record changes its run.
#[test]
fn t12_removals_leave_no_long_runs_of_fillers() {
    let orders: [fn(u32) -> u32; 3] = [|n| n, |n| 899 - n, |n| n * 7 % 900];
    for order in orders {
        let mut image = leaf(1 << 16, 1000, Gap::every(3));
        let page = image.edit();
        for n in 0..900 {
            remove(&page, order(n) * 10);
        }
        assert_eq!(numbers(&page), (900..1000).map(|n| n * 10).collect::<Vec<_>>());
        assert!(!shape(&page).contains(&"f".repeat(17)), "{}", shape(&page));
    }
}

/// A page whose fillers are in the way of an entry gives them up.
#[test]
fn t12_a_full_page_gives_up_its_fillers() {
    let mut image = leaf(4096, 60, Gap::every(1));
    let page = image.edit();
    assert_eq!((page.len(), page.live_len()), (119, 60));
    let slot = page.find(&13u32.to_be_bytes()).unwrap_err();
    assert!(page.insert(slot, &13u32.to_be_bytes(), &[1; 1000]));
    let value = vec![1; page.free_contiguous()];
    let key = 15u32.to_be_bytes();
    let slot = page.find(&key).unwrap_err();
    assert!(!page.fits_insert(key.len(), value.len()));
    assert!(page.insert_or_compact(slot, &key, &value));
    assert_sound(&page, 4096);
    assert_eq!(shape(&page), "L".repeat(62));
    assert_eq!(value_of(&page, page.find(&key).unwrap()), value);
}

/// Fillers take no more than half of what is free: entries that nearly fill a page get none.
#[test]
fn t12_a_page_that_is_nearly_full_gets_no_fillers() {
    let images = (2..).map_while(|count| leaf_if_it_fits(4096, count, Gap::every(1)));
    let lens = images.map(|image| (image.page().len(), image.page().live_len()));
    let (gapped, full): (Vec<_>, Vec<_>) = lens.partition(|(slots, live)| slots > live);
    assert!(gapped.len() > 100 && full.len() > 40, "{} and {}", gapped.len(), full.len());
    for (slots, live) in gapped {
        let used = 64 + live * (8 + 2 + 4 + 8);
        assert!((slots - live) * 8 <= (4096 - used) / 2);
    }
}

/// Ascending inserts fill pages to the brim, and nothing goes between them; random ones leave gaps.
#[test]
fn t12_only_a_balanced_split_leaves_gaps() {
    let keys: Vec<[u8; 8]> = (0..2000u64).map(u64::to_be_bytes).collect();
    let all: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &[1u8; 8][..])).collect();
    let gap = Gap::every(2);
    let spec = PageSpec { page_size: 16384, tree: 1, level: 0, low: b"", high: None, gap };
    let full = (1..all.len()).find(|&n| build(&spec, &all[..n]).is_none()).expect("some n");
    let lens = |policy| -> Vec<(usize, usize)> {
        let parts = partition(&spec, &all[..full], policy);
        let pages = parts.iter().map(|part| part.image.page());
        pages.map(|page| (page.live_len(), page.len() - page.live_len())).collect()
    };
    assert_eq!(lens(Policy::Ascending), [(full - 1, 0), (1, 0)]);
    for (live, fillers) in lens(Policy::Balanced) {
        assert_eq!(fillers, (live - 1) / 2);
    }
}

#[test]
fn t12_check_names_every_fault_of_a_filler() {
    let sound = leaf(4096, 9, Gap::every(4));
    assert_eq!(shape(&sound.page()), "LLLLfLLLLfL");
    let faults = |change: &dyn Fn(&mut [u64])| {
        let mut image = sound.clone();
        change(image.words_mut());
        check(&image.page(), 4096).join("; ")
    };
    assert_eq!(faults(&|_| ()), "");
    let head = faults(&|words| words[SLOTS + 4] ^= 1 << 32);
    assert_eq!(head, "slot 4: a filler with head 0x00000029, not 0x00000028");
    let elsewhere = faults(&|words| words[SLOTS + 4] -= 14);
    assert!(elsewhere.starts_with("slot 4: a filler to "), "{elsewhere}");
    let end = faults(&|words| words[SLOTS + 10] |= 1 << 24);
    assert_eq!(end, "slot 10: a filler at the end");
    let dead = faults(&|words| words[SLOTS + 2] |= 1 << 24);
    assert!(dead.starts_with("slot 2: a filler to "), "{dead}");
    let alive = faults(&|words| words[SLOTS + 4] &= !(1 << 24));
    assert!(alive.contains("the records of slots 4 and 5 overlap"), "{alive}");
    let unknown = faults(&|words| words[SLOTS + 4] |= 2 << 24);
    assert_eq!(unknown, "slot 4 is of unknown kind 3");
    let unflagged = faults(&|words| words[2] &= !(4 << 40));
    assert_eq!(unflagged.matches("in a page that is not flagged to have gaps").count(), 2);
    let uncounted = faults(&|words| words[5] -= 8);
    assert_eq!(uncounted, "126 bytes of records and 8 of garbage in a heap of 126 with 2 fillers");
}

#[test]
fn t12_check_names_a_filler_in_an_inner_page() {
    let ids: Vec<[u8; 8]> = (1..=5u64).map(u64::to_le_bytes).collect();
    let keys: [&[u8]; 5] = [b"", b"b", b"c", b"d", b"e"];
    let entries: Vec<(&[u8], &[u8])> = keys.into_iter().zip(ids.iter().map(|id| &id[..])).collect();
    let gap = Gap::every(1);
    let spec = PageSpec { page_size: 4096, tree: 1, level: 1, low: b"", high: None, gap };
    let mut image = build(&spec, &entries).expect("fits");
    assert_sound(&image.page(), 4096);
    assert_eq!((shape(&image.page()).as_str(), image.page().has_gaps()), ("LLLLL", false));
    assert_eq!(image.page().child_for(b"c"), PageId(3));
    image.words_mut()[SLOTS + 1] = image.words()[SLOTS + 2] | 1 << 24;
    image.words_mut()[2] |= 4 << 40;
    let faults = check(&image.page(), 4096);
    assert_eq!(
        faults,
        ["an inner page that is flagged to have gaps", "slot 1: a filler in an inner page"]
    );
}
