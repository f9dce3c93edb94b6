//! Splitting: nothing is lost, everything fits, fences chain, separators are minimal, and no more
//! pages are taken than needed.

mod page_support;

use std::collections::BTreeMap;

use page_support::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use treering_blink::{Gap, PageSpec, Part, Policy, build, max_key_len, partition};
use treering_pagefile::PageId;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Entries of leaves, within the limits.
fn leaf_entries(page_size: usize, most: usize) -> impl Strategy<Value = Model> {
    btree_map(key(page_size), (value_len(page_size), any::<u8>()), 0..most).prop_map(
        move |entries| {
            let within = |(key, (len, fill)): (Vec<u8>, _)| {
                let value = value(page_size, &key, len, fill);
                (key, value)
            };
            entries.into_iter().map(within).collect()
        },
    )
}

/// Entries of inner pages: the values are numbers of children.
fn inner_entries(page_size: usize, most: usize) -> impl Strategy<Value = Model> {
    vec(key(page_size), 1..most).prop_map(|keys| {
        let keys = keys.into_iter().enumerate();
        keys.map(|(index, key)| (key, (index as u64 + 1).to_le_bytes().to_vec())).collect()
    })
}

/// The part `from..to` as it would have to be, fences and all.
fn spec_of<'a>(
    spec: &PageSpec<'a>,
    entries: &[(&'a [u8], &'a [u8])],
    from: usize,
    to: usize,
) -> PageSpec<'a> {
    let separator = |index: usize| match spec.level {
        0 => shortest_separator(entries[index - 1].0, entries[index].0),
        _ => entries[index].0,
    };
    let low = if from == 0 { spec.low } else { separator(from) };
    let high = if to == entries.len() { spec.high } else { Some(separator(to)) };
    PageSpec { low, high, ..*spec }
}

/// Checks all that any policy promises, and returns where the parts begin.
fn assert_parts(spec: &PageSpec<'_>, entries: &[(&[u8], &[u8])], parts: &[Part]) -> Vec<usize> {
    let (mut from, mut starts) = (0, Vec::new());
    for (index, part) in parts.iter().enumerate() {
        let to = from + part.image.page().live_len();
        let expected = spec_of(spec, entries, from, to);
        assert_eq!(part.low, expected.low);
        let (mut low, mut high) = (Vec::new(), Vec::new());
        part.image.page().low_into(&mut low);
        let finite = part.image.page().high_into(&mut high);
        assert_eq!((&low[..], finite.then_some(&high[..])), (expected.low, expected.high));

        let mut image = part.image.clone();
        assert_eq!((image.page().right(), image.page().unposted()), (None, false));
        let right = finite.then_some(PageId(99));
        image.edit().set_right(right);
        image.edit().set_unposted(finite);
        assert_sound(&image.page(), spec.page_size);
        assert!(!image.page().is_empty() || parts.len() == 1, "part {index} is empty");
        let gaps = image.page().has_gaps();
        assert_eq!(gaps, image.page().len() > to - from);
        assert!(!gaps || spec.level == 0);
        let all = contents(&image.page());
        assert!(all.iter().map(|(k, v)| (&k[..], &v[..])).eq(entries[from..to].iter().copied()));
        starts.push(from);
        from = to;
    }
    assert_eq!(from, entries.len());
    starts
}

/// All ways to cut in two, with the bytes that each side takes.
fn two_way_cuts(spec: &PageSpec<'_>, entries: &[(&[u8], &[u8])]) -> Vec<(usize, usize, usize)> {
    let used = |from: usize, to: usize| {
        let image = build(&spec_of(spec, entries, from, to), &entries[from..to])?;
        Some(spec.page_size - image.page().free_total())
    };
    (1..entries.len())
        .filter_map(|cut| Some((cut, used(0, cut)?, used(cut, entries.len())?)))
        .collect()
}

fn partitions(spec: &PageSpec<'_>, entries: &[(&[u8], &[u8])]) {
    let single = build(spec, entries).is_some();
    let cuts = two_way_cuts(spec, entries);
    for policy in [Policy::Balanced, Policy::Ascending] {
        let parts = partition(spec, entries, policy);
        let starts = assert_parts(spec, entries, &parts);
        let gaps = parts.iter().any(|part| part.image.page().has_gaps());
        assert!(!gaps || policy == Policy::Balanced, "nothing goes between ascending entries");
        assert_eq!(parts.len() == 1, single);
        assert_eq!(parts.len() == 2, !single && !cuts.is_empty());
        if parts.len() > 2 {
            // No page could take the next one in.
            for (index, &from) in starts.iter().enumerate() {
                let to = starts.get(index + 2).copied().unwrap_or(entries.len());
                let both = &entries[from..to];
                let merged = build(&spec_of(spec, entries, from, to), both);
                assert!(merged.is_none() || index + 1 == starts.len());
            }
        }
        if parts.len() != 2 {
            continue;
        }
        let cut = cuts.iter().find(|cut| cut.0 == starts[1]).expect("it is one of them");
        match policy {
            Policy::Ascending | Policy::Filled => {
                assert_eq!(Some(cut), cuts.last(), "the left page is full")
            }
            Policy::Balanced => {
                let imbalance = |cut: &(usize, usize, usize)| cut.1.abs_diff(cut.2);
                let best = cuts.iter().map(imbalance).min().expect("there is one");
                // A tenth of all bytes, which may be measured longer by two bytes an entry.
                let slack = spec.page_size / 5 + 2 * entries.len();
                assert!(imbalance(cut) <= best + slack, "{cut:?}, best {best}");
            }
        }
    }
}

fn page_size() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(512usize), 2 => Just(4096), 1 => Just(65536)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn t12_leaves_with_any_gap(
        gap in gap(),
        (page_size, model) in page_size().prop_flat_map(|size| (Just(size), leaf_entries(size, 120))),
        low_is_first in any::<bool>(),
        high_is_last in any::<bool>(),
    ) {
        let mut entries = slices(&model);
        let high = if high_is_last { entries.pop().map(|(key, _)| key) } else { None };
        let low = if low_is_first { entries.first().map(|(key, _)| *key) } else { None };
        let low = low.unwrap_or_default();
        if high.is_none_or(|high| low < high) {
            partitions(&PageSpec { page_size, tree: 7, level: 0, low, high, gap }, &entries);
        }
    }

    #[test]
    fn t12_inner_pages_never_have_gaps(
        gap in gap(),
        (page_size, model) in page_size().prop_flat_map(|size| (Just(size), inner_entries(size, 150))),
        high_is_last in any::<bool>(),
    ) {
        let mut entries = slices(&model);
        let mut high = None;
        if high_is_last && entries.len() > 1 {
            high = entries.pop().map(|(key, _)| key);
        }
        let spec = PageSpec { page_size, tree: 7, level: 2, low: entries[0].0, high, gap };
        partitions(&spec, &entries);
    }

    /// What a split really has: a full page, and one entry more than it holds.
    #[test]
    fn t12_a_full_page_and_one_entry_more_with_any_gap(
        gap in gap(),
        (page_size, mut model) in page_size().prop_flat_map(|size| (Just(size), leaf_entries(size, 300))),
        number in any::<u32>(),
    ) {
        let page = |model: &Model| {
            let low = model.keys().next().cloned().unwrap_or_default();
            let spec = PageSpec { page_size, tree: 7, level: 0, low: &low, high: None, gap };
            build(&spec, &slices(model)).is_some()
        };
        for number in number.. {
            if !page(&model) {
                break;
            }
            model.insert(number.reverse_bits().to_be_bytes().to_vec(), vec![number as u8; 30]);
        }
        while model.len() > 1 {
            let last = model.pop_last().expect("there is one");
            if page(&model) {
                model.extend([last]);
                break;
            }
        }
        let low = model.keys().next().cloned().unwrap_or_default();
        partitions(&PageSpec { page_size, tree: 7, level: 0, low: &low, high: None, gap }, &slices(&model));
    }
}

/// Ascending numbers: the left page stays full, and the right one begins with the new entry only.
#[test]
fn ascending_inserts_leave_full_pages() {
    let keys: Vec<[u8; 8]> = (0..1000u64).map(u64::to_be_bytes).collect();
    let all: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &[1u8; 100][..])).collect();
    let spec =
        PageSpec { page_size: 4096, tree: 1, level: 0, low: b"", high: None, gap: Gap::NONE };
    let full = (1..all.len()).find(|&n| build(&spec, &all[..n]).is_none()).expect("some n");
    let parts = partition(&spec, &all[..full], Policy::Ascending);
    let sizes: Vec<usize> = parts.iter().map(|part| part.image.page().live_len()).collect();
    assert_eq!(sizes, [full - 1, 1]);
    let parts = partition(&spec, &all[..full], Policy::Balanced);
    let sizes: Vec<usize> = parts.iter().map(|part| part.image.page().live_len()).collect();
    assert!(sizes.len() == 2 && sizes[0].abs_diff(sizes[1]) <= full / 10 + 1, "{sizes:?}");
}

/// Many entries at once: the pages are full, or evenly filled.
#[test]
fn a_large_batch_fills_its_pages() {
    let keys: Vec<Vec<u8>> = (0..5000u32).map(|n| format!("user:{n:08}").into_bytes()).collect();
    let all: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &[1u8; 20][..])).collect();
    let spec =
        PageSpec { page_size: 4096, tree: 1, level: 0, low: b"", high: None, gap: Gap::NONE };
    for policy in [Policy::Filled, Policy::Ascending, Policy::Balanced] {
        let parts = partition(&spec, &all, policy);
        assert_parts(&spec, &all, &parts);
        let bytes: usize = parts.iter().map(|part| part.image.page().live_bytes()).sum();
        assert_eq!(parts.len(), bytes.div_ceil(4096 - 100), "{policy:?}");
        if policy == Policy::Balanced {
            let lens: Vec<usize> = parts.iter().map(|part| part.image.page().live_len()).collect();
            let (least, most) = (lens.iter().min(), lens.iter().max());
            assert!(least.expect("some") * 10 > most.expect("some") * 7, "{lens:?}");
        }
    }
}

/// Three records of which no two fit one page take three pages.
#[test]
fn records_at_the_limit_take_a_page_each() {
    for page_size in [512, 4096, 65536] {
        let max_key = max_key_len(page_size);
        let keys: Vec<Vec<u8>> =
            (1..=3u8).map(|number| [vec![9; max_key - 1], vec![number]].concat()).collect();
        let value = vec![5; treering_blink::max_record_len(page_size) - max_key];
        let all: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &value[..])).collect();
        let spec =
            PageSpec { page_size, tree: 1, level: 0, low: &[9], high: Some(&[10]), gap: Gap::NONE };
        for policy in [Policy::Balanced, Policy::Ascending, Policy::Filled] {
            let parts = partition(&spec, &all, policy);
            assert_parts(&spec, &all, &parts);
        }
    }
}

/// Of cuts that balance, the one with the short separator is taken.
#[test]
fn a_short_separator_is_preferred_near_the_middle() {
    let mut keys: Vec<Vec<u8>> = (0..60).map(|n| format!("aaaaaaaaaaaa{n:04}").into()).collect();
    keys.extend((0..55).map(|n| format!("bbbbbbbbbbbb{n:04}").into()));
    let all: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &[1u8; 20][..])).collect();
    let spec =
        PageSpec { page_size: 4096, tree: 1, level: 0, low: b"", high: None, gap: Gap::NONE };
    let parts = partition(&spec, &all, Policy::Balanced);
    assert_eq!(parts.iter().map(|part| &part.low[..]).collect::<Vec<_>>(), [&b""[..], b"b"]);
}

/// A few long records among many short ones: the bytes are halved, not the entries.
#[test]
fn p2_a_page_of_records_of_different_lengths_is_split_where_the_bytes_balance() {
    let keys: Vec<Vec<u8>> = (0..100u32).map(|n| n.to_be_bytes().to_vec()).collect();
    let (long, short) = (vec![7u8; 400], vec![7u8; 8]);
    let value = |index: usize| if index < 8 { &long[..] } else { &short[..] };
    let all: Vec<(&[u8], &[u8])> =
        keys.iter().enumerate().map(|(index, key)| (&key[..], value(index))).collect();
    let spec =
        PageSpec { page_size: 4096, tree: 1, level: 0, low: b"", high: None, gap: Gap::NONE };
    let parts = partition(&spec, &all, Policy::Balanced);
    let [left, right] = &parts[..] else { panic!("two pages, not {}", parts.len()) };
    let (left, right) = (left.image.page(), right.image.page());
    assert!(left.live_len() * 5 < right.live_len(), "{} {}", left.live_len(), right.live_len());
    let (less, more) =
        (left.live_bytes().min(right.live_bytes()), left.live_bytes().max(right.live_bytes()));
    assert!(more - less <= 2 * 400, "{less} and {more} bytes");
}
