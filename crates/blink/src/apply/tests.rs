//! What is said to fit into a leaf does, whatever is in it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::build::Image;
use crate::check;

type Model = BTreeMap<Vec<u8>, (Kind, Vec<u8>)>;

/// A page full of garbage and of records of all lengths, made by a first round of edits, and a
/// second round for it: whatever is said to fit in place does, and gives what a map gives.
fn edited(gap: Gap, page_size: usize, rounds: [Vec<(u16, bool, Option<usize>)>; 2]) -> [u32; 2] {
    let low = b"common";
    let spec = PageSpec { page_size, tree: 1, level: 0, low, high: Some(b"commonz"), gap };
    let mut image = build(&spec, &[]).unwrap();
    let mut model = Model::new();
    let mut ways = [0; 2];
    for (number, round) in rounds.into_iter().enumerate() {
        // One edit a key, in order.
        let edits: Model = round
            .iter()
            .map(|(key, large, len)| {
                let long = if key % 7 == 0 { page_size / 8 } else { 0 };
                let mut bytes = [low.as_slice(), &key.to_be_bytes()].concat();
                bytes.resize(bytes.len() + long, b'-');
                let value = match (large, len) {
                    (_, None) => (Kind::Inline, vec![0xff]),
                    (true, Some(_)) => (Kind::Overflow, vec![*key as u8; 24]),
                    (false, Some(len)) => (Kind::Inline, vec![number as u8; len % (page_size / 5)]),
                };
                (bytes, value)
            })
            .collect();
        let gone = |value: &(Kind, Vec<u8>)| value.1 == [0xff];
        let mut list = Vec::new();
        for (index, (key, value)) in edits.iter().enumerate() {
            let stored = match value {
                value if gone(value) => None,
                (Kind::Inline, bytes) => Some(Stored::Inline(bytes)),
                (Kind::Overflow, bytes) => Some(Stored::Overflow(bytes[..].try_into().unwrap())),
            };
            list.push(Edit { index, key, value: stored });
        }
        // As many at once as fit, so that the page gets full.
        let mut rest = &list[..];
        while !rest.is_empty() {
            let at_once = (1..=rest.len()).rev();
            let fits = |count: &usize| fits_in_place(&image.page(), &rest[..*count]);
            let Some(count) = at_once.into_iter().find(fits) else {
                ways[1] += 1;
                rest = &rest[1..];
                continue;
            };
            ways[0] += 1;
            let mut replaced = Vec::new();
            edit_in_place(&image.edit(), &rest[..count], &mut replaced);
            for edit in &rest[..count] {
                let old = match edit.value {
                    Some(value) => {
                        let new = (value.kind(), value.bytes().to_vec());
                        model.insert(edit.key.to_vec(), new)
                    }
                    None => model.remove(edit.key),
                };
                let reference = old.filter(|(kind, _)| *kind == Kind::Overflow);
                let told = reference.map(|(_, bytes)| bytes);
                let first = replaced.first().map(|reference| reference.to_vec());
                if told.is_some() {
                    assert_eq!(told, first);
                    replaced.remove(0);
                }
            }
            assert_eq!(replaced, Vec::<Reference>::new());
            image.edit().set_right(Some(PageId(9)));
            assert_eq!(check(&image.page(), page_size), Vec::<String>::new());
            assert_eq!(contents(&image), model);
            rest = &rest[count..];
        }
        // And taken apart and built again it is the same.
        let entries = Entries::of(&image.page());
        assert_eq!(contents(&entries.build(&spec).unwrap()), model);
    }
    ways
}

fn contents(image: &Image) -> Model {
    let page = image.page();
    let slots = page.live_slots().map(|slot| {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        page.key_into(slot, &mut key);
        page.value_into(slot, &mut value);
        (key, (page.kind(slot), value))
    });
    slots.collect()
}

fn round() -> impl Strategy<Value = Vec<(u16, bool, Option<usize>)>> {
    let len = prop_oneof![1 => Just(None), 3 => (0..30usize).prop_map(Some), 1 => any::<usize>().prop_map(Some)];
    vec((0..60u16, prop::bool::weighted(0.1), len), 0..120)
}

proptest! {
    #[test]
    fn what_is_said_to_fit_in_place_does(
        every in prop_oneof![Just(0u8), Just(1), Just(3)],
        page_size in prop_oneof![Just(512usize), Just(1024), Just(4096)],
        first in round(),
        second in round(),
    ) {
        edited(Gap::every(every), page_size, [first, second]);
    }
}

#[test]
fn the_rounds_do_come_to_full_pages() {
    let all = |len| (0..60u16).map(|key| (key, false, Some(len))).collect();
    let [fitted, refused] = edited(Gap::NONE, 512, [all(8), all(20)]);
    assert!(fitted > 1 && refused > 10, "{fitted} {refused}");
}

/// Updates in place once made a full page anew, each of them: they were taken for inserts.
#[test]
fn a_full_page_has_room_for_values_that_do_not_grow() {
    let spec = PageSpec { page_size: 512, tree: 1, level: 0, low: b"", high: None, gap: Gap::NONE };
    let keys: Vec<[u8; 4]> = (0..100u32).map(u32::to_be_bytes).collect();
    let entries: Vec<(&[u8], &[u8])> =
        keys.iter().map(|key| (key.as_slice(), b"12345678".as_slice())).collect();
    let full = (0..=entries.len()).rev().find_map(|len| build(&spec, &entries[..len]));
    let mut full = full.unwrap();
    let page = full.edit();
    assert!(page.free_contiguous() < 20);

    let edit = |at: usize, value| Edit { index: 0, key: &keys[at], value };
    let value = |bytes| Some(Stored::Inline(bytes));
    assert!(fits_in_place(&page, &[edit(3, value(b"87654321")), edit(4, value(b"short"))]));
    assert!(fits_in_place(&page, &[edit(3, None), edit(99, None)]));
    assert!(!fits_in_place(&page, &[edit(3, value(b"a value that is longer"))]));
    assert!(!fits_in_place(&page, &[edit(3, value(b"87654321")), edit(99, value(b"12345678"))]));

    // What fits is done without moving anything.
    let slot = page.find(&keys[3]).unwrap();
    let free = page.free_total();
    assert!(page.replace_value(slot, b"87654321"));
    assert_eq!(page.free_total(), free);
}
