//! A page under random edits against a `BTreeMap`, with every account checked after each; and the
//! searches of leaves and inner pages against the map's own.

mod page_support;

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use page_support::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use treering_blink::{Entries, Gap, Image, Page, PageSpec, Position, Words, WordsMut, build};
use treering_pagefile::PageId;

const PAGE_SIZES: [usize; 3] = [512, 4096, 65536];
/// A key with its value.
type Entry = (Vec<u8>, Vec<u8>);

#[derive(Clone, Debug)]
enum Change {
    Put {
        key: Vec<u8>,
        len: usize,
        fill: u8,
    },
    /// Of an existing entry, chosen by a number.
    Replace {
        entry: usize,
        len: usize,
        fill: u8,
    },
    Remove {
        entry: usize,
    },
    Compact,
}

fn change(page_size: usize) -> impl Strategy<Value = Change> {
    let len = || value_len(page_size);
    prop_oneof![
        6 => (key(page_size), len(), any::<u8>())
            .prop_map(|(key, len, fill)| Change::Put { key, len, fill }),
        3 => (any::<usize>(), len(), any::<u8>())
            .prop_map(|(entry, len, fill)| Change::Replace { entry, len, fill }),
        3 => any::<usize>().prop_map(|entry| Change::Remove { entry }),
        1 => Just(Change::Compact),
    ]
}

/// Fences: none, of a common prefix, or any two keys.
fn fences(page_size: usize) -> impl Strategy<Value = (Vec<u8>, Option<Vec<u8>>)> {
    let infinite = prop_oneof![Just(Vec::new()), key(page_size)].prop_map(|low| (low, None));
    let prefixed = vec(any::<u8>(), 0..40).prop_map(|mut prefix| {
        let low = prefix.clone();
        prefix.extend([0xff, 0xff, 0xff]);
        (low, Some(prefix))
    });
    let any = (key(page_size), key(page_size)).prop_filter_map("equal", |(a, b)| match a.cmp(&b) {
        std::cmp::Ordering::Less => Some((a, Some(b))),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some((b, Some(a))),
    });
    prop_oneof![2 => infinite, 2 => prefixed, 1 => any]
}

/// A key brought between the fences, if putting the low fence before it does that.
fn brought_within(spec: &PageSpec<'_>, key: Vec<u8>) -> Option<Vec<u8>> {
    if within(spec, &key) {
        return Some(key);
    }
    let key = [spec.low, &key].concat();
    (within(spec, &key) && key.len() <= treering_blink::max_key_len(spec.page_size)).then_some(key)
}

/// Begins with a page built of `first`, as far as that is between the fences and fits.
fn edits(
    page_size: usize,
    gap: Gap,
    (low, high): (&[u8], Option<&[u8]>),
    first: Vec<Entry>,
    changes: Vec<Change>,
) {
    let spec = PageSpec { page_size, tree: 0xdead_beef, level: 0, low, high, gap };
    let first =
        first.into_iter().filter_map(|(key, value)| Some((brought_within(&spec, key)?, value)));
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = first.collect();
    let mut image = loop {
        match build(&spec, &slices(&model)) {
            Some(image) => break image,
            None => drop(model.pop_last().expect("an empty page fits")),
        }
    };
    // The same page in shared memory, changed by the same methods.
    let shared: Vec<AtomicU64> = image.words().iter().map(|&word| AtomicU64::new(word)).collect();
    let shared = Page::new(&shared[..]);
    if high.is_some() {
        image.edit().set_right(Some(PageId(77)));
        shared.set_right(Some(PageId(77)));
    }

    for change in changes {
        let page = image.edit();
        match change {
            Change::Put { key, len, fill } => {
                let Some(key) = brought_within(&spec, key) else { continue };
                let value = value(page_size, &key, len, fill);
                put(page, shared, &spec, &mut model, key, &value);
            }
            Change::Replace { entry, len, fill } => {
                let Some((_, key)) = chosen(&model, entry) else { continue };
                let value = value(page_size, &key, len, fill);
                put(page, shared, &spec, &mut model, key, &value);
            }
            Change::Remove { entry } => {
                let Some((index, key)) = chosen(&model, entry) else { continue };
                let slot = page.find(&key).expect("it is there");
                assert_eq!(page.live_slots().nth(index), Some(slot));
                page.remove(slot);
                shared.remove(slot);
                model.remove(&key);
            }
            Change::Compact => {
                page.compact();
                shared.compact();
                let fillers = page.len() - page.live_len();
                assert_eq!(page.free_total(), page.free_contiguous() + 8 * fillers);
            }
        }
        let page = image.page();
        assert_sound(&page, page_size);
        assert!(contents(&page).into_iter().eq(model.clone()));
        assert_eq!((page.live_len(), page.is_empty()), (model.len(), model.is_empty()));
        assert_eq!(Image::copy_of(shared.words()), image, "shared memory holds the same words");
    }
    searches(&image.page(), &spec, &model);
    searches(&shared, &spec, &model);
    assert_eq!(contents(&shared), contents(&image.page()));
    assert_eq!(Entries::of(&shared).slices(), slices(&model));
    assert_eq!(image.page().tree(), 0xdead_beef);
}

fn chosen(model: &BTreeMap<Vec<u8>, Vec<u8>>, entry: usize) -> Option<(usize, Vec<u8>)> {
    let index = entry.checked_rem(model.len())?;
    model.keys().nth(index).map(|key| (index, key.clone()))
}

/// Inserts or replaces; a refusal must mean that not even a page built afresh would hold it.
fn put<A: WordsMut, B: WordsMut>(
    page: Page<A>,
    shared: Page<B>,
    spec: &PageSpec<'_>,
    model: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    key: Vec<u8>,
    value: &[u8],
) {
    let (fits, done) = match page.find(&key) {
        Ok(slot) => {
            let simple = page.fits_replace(slot, value.len());
            let fits = page.fits_replace_compacted(slot, value.len());
            assert!(fits || !simple);
            let done = page.replace_or_compact(slot, value);
            assert_eq!(shared.replace_or_compact(slot, value), done);
            (fits, done)
        }
        Err(slot) => {
            let simple = page.fits_insert(key.len(), value.len());
            let fits = page.fits_insert_compacted(key.len(), value.len());
            assert!(fits || !simple);
            let done = page.insert_or_compact(slot, &key, value);
            assert_eq!(shared.insert_or_compact(slot, &key, value), done);
            (fits, done)
        }
    };
    assert_eq!(fits, done);
    let before = model.insert(key.clone(), value.to_vec());
    if !done {
        assert_eq!(build(spec, &slices(model)), None, "a refusal means that there is no room");
        match before {
            Some(before) => model.insert(key, before),
            None => model.remove(&key),
        };
    }
}

/// Every search on every key, and on the keys just beside it.
fn searches<W: Words>(page: &Page<W>, spec: &PageSpec<'_>, model: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let keys: Vec<&Vec<u8>> = model.keys().collect();
    let live: Vec<usize> = page.live_slots().collect();
    let mut probes: Vec<Vec<u8>> = vec![Vec::new(), spec.low.to_vec(), vec![0xff; 9]];
    probes.extend(spec.high.map(<[u8]>::to_vec));
    for key in &keys {
        probes.push(key.to_vec());
        probes.push([key, &[0][..]].concat());
        probes.extend(key.split_last().map(|(_, rest)| rest.to_vec()));
    }
    for probe in probes {
        let position = if probe[..] < *spec.low {
            Position::Before
        } else if within(spec, &probe) {
            Position::Here
        } else {
            Position::Beyond
        };
        assert_eq!(page.position(&probe), position);
        if position == Position::Here {
            match (page.find(&probe), keys.binary_search(&&probe)) {
                (Ok(slot), Ok(index)) => assert_eq!(live[index], slot),
                // Before the fillers of what is greater.
                (Err(slot), Err(index)) => {
                    assert_eq!(slot, index.checked_sub(1).map_or(0, |before| live[before] + 1));
                }
                (found, expected) => panic!("{found:?}, expected {expected:?}"),
            }
        }
        for (&slot, key) in live.iter().zip(&keys) {
            assert_eq!(page.compare_key(slot, &probe), key[..].cmp(&probe));
        }
    }
    let mut out = b"kept".to_vec();
    page.low_into(&mut out);
    assert_eq!(out, [b"kept", spec.low].concat());
    out.clear();
    assert_eq!(page.high_into(&mut out).then_some(&out[..]), spec.high);
    for (&slot, value) in live.iter().zip(model.values()) {
        assert_eq!(page.value_len(slot), value.len());
    }
    let backward: Vec<usize> = live.iter().rev().copied().collect();
    assert_eq!(page.live_slots().rev().collect::<Vec<_>>(), backward);
    for slot in 0..=page.len() {
        assert_eq!(page.live_from(slot), live.iter().copied().find(|&other| other >= slot));
        assert_eq!(page.live_before(slot), backward.iter().copied().find(|&other| other < slot));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn t12_edits_agree_with_a_map_with_any_gap(
        gap in gap(),
        (page_size, (low, high), first, changes) in (0..3usize).prop_flat_map(|index| {
            let size = PAGE_SIZES[index];
            let entry = (key(size), vec(any::<u8>(), 0..30));
            (Just(size), fences(size), vec(entry, 0..60), vec(change(size), 0..160))
        })
    ) {
        edits(page_size, gap, (&low, high.as_deref()), first, changes);
    }

    #[test]
    fn children_are_found_as_in_a_map(
        page_size in prop_oneof![Just(512usize), Just(4096)],
        separators in btree_set(key(512), 1..40),
        probes in vec(key(512), 30),
        infinite in any::<bool>(),
    ) {
        let mut separators: Vec<Vec<u8>> = separators.into_iter().collect();
        let high = if infinite || separators.len() == 1 { None } else { separators.pop() };
        let ids: Vec<[u8; 8]> = (0..separators.len() as u64).map(|i| (i << 40 | 9).to_le_bytes()).collect();
        let mut entries: Vec<(&[u8], &[u8])> =
            separators.iter().zip(&ids).map(|(key, id)| (&key[..], &id[..])).collect();
        let low = separators[0].clone();
        let spec = PageSpec { page_size, tree: 1, level: 3, low: &low, high: high.as_deref(), gap: Gap::NONE };
        let mut image = loop {
            match build(&spec, &entries) {
                Some(image) => break image,
                None => { entries.pop(); }
            }
        };
        if high.is_some() {
            image.edit().set_right(Some(PageId(5)));
        }
        let page = image.page();
        assert_sound(&page, page_size);
        prop_assert_eq!((page.level(), page.is_leaf(), page.len()), (3, false, entries.len()));
        prop_assert_eq!(&key_of(&page, 0), &low);
        let model: BTreeMap<&[u8], PageId> = entries
            .iter()
            .map(|&(key, id)| (key, PageId(u64::from_le_bytes(id.try_into().expect("8 bytes")))))
            .collect();
        for probe in probes.iter().chain(&separators).chain(&high) {
            let probe = &probe[..];
            for (slot, (key, _)) in entries.iter().enumerate() {
                prop_assert_eq!(page.compare_key(slot, probe), key.cmp(&probe));
            }
            if page.position(probe) == Position::Here {
                let (_, child) = model.range(..=probe).next_back().expect("low <= probe");
                prop_assert_eq!(page.child_for(probe), *child);
                prop_assert_eq!(page.child(page.child_slot(probe)), *child);
            }
            let before = if probe <= &low[..] {
                Position::Before
            } else if high.as_deref().is_some_and(|high| probe > high) {
                Position::Beyond
            } else {
                Position::Here
            };
            prop_assert_eq!(page.position_before(probe), before);
            if before != Position::Beyond {
                let range = model.range::<[u8], _>((Unbounded, Excluded(probe)));
                prop_assert_eq!(page.child_before(probe), range.map(|(_, &id)| id).next_back());
            }
        }
    }

    /// Entries taken out of a page and changed there are what the page would have become.
    #[test]
    fn entries_change_like_a_map(
        before in btree_map(key(4096), vec(any::<u8>(), 0..9), 0..30),
        puts in vec((key(4096), vec(any::<u8>(), 0..9)), 0..30),
        removes in vec(any::<usize>(), 0..9),
    ) {
        let mut model = before;
        let mut entries = Entries::new();
        for (index, (key, value)) in model.iter().enumerate() {
            entries.insert(index, key, value);
        }
        for (key, value) in puts {
            match entries.find(&key) {
                Ok(index) => entries.replace(index, &value),
                Err(index) => entries.insert(index, &key, &value),
            }
            model.insert(key, value);
        }
        for entry in removes {
            let Some((index, key)) = chosen(&model, entry) else { continue };
            prop_assert_eq!(entries.key(index), &key[..]);
            entries.remove(index);
            model.remove(&key);
        }
        prop_assert_eq!(entries.slices(), slices(&model));
        prop_assert_eq!((entries.len(), entries.is_empty()), (model.len(), model.is_empty()));
    }
}

/// The largest entry that the limits allow fits between the longest fences, at every size.
#[test]
fn the_largest_entry_fits_every_page_size() {
    for shift in 9..=24 {
        let page_size = 1usize << shift;
        let max = treering_blink::max_key_len(page_size);
        let (low, high) = (vec![0; max], vec![1; max]);
        let key = [&low[..max - 1], &[1]].concat();
        let spec =
            PageSpec { page_size, tree: 1, level: 0, low: &low, high: Some(&high), gap: Gap::NONE };
        let value = vec![7; treering_blink::max_record_len(page_size) - max];
        let mut image = build(&spec, &[(&key, &value)]).expect("fits");
        image.edit().set_right(Some(PageId(2)));
        assert_sound(&image.page(), page_size);
        assert_eq!(contents(&image.page()), [(key.clone(), value)]);

        let spec = PageSpec { level: 1, ..spec };
        let entries = [(&low[..], &[1; 8][..]), (&key[..], &[2; 8][..])];
        let mut image = build(&spec, &entries).expect("fits");
        image.edit().set_right(Some(PageId(2)));
        assert_sound(&image.page(), page_size);
        assert_eq!(image.page().child_for(&key), PageId(0x0202_0202_0202_0202));
    }
}

/// Writing an image over a page leaves the words that belong to the page file.
#[test]
fn an_image_is_written_over_all_but_the_seal() {
    let spec = PageSpec { page_size: 512, tree: 1, level: 0, low: b"", high: None, gap: Gap::NONE };
    let image = build(&spec, &[(b"k", b"v")]).expect("fits");
    let target: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(u64::MAX)).collect();
    image.write_to(&target[..]);
    assert_eq!([&target[0], &target[1]].map(|word| word.load(Relaxed)), [u64::MAX; 2]);
    let page = Page::new(&target[..]);
    assert_sound(&page, 512);
    assert_eq!(contents(&page), [(b"k".to_vec(), b"v".to_vec())]);
    assert_eq!(image.to_bytes()[16..20], [1, 0, 0, 0]);
}

/// The layout, byte by byte, as the file format documents it.
#[test]
fn a_page_stands_on_disk_as_documented() {
    let spec = PageSpec {
        page_size: 512,
        tree: 0x0403_0201,
        level: 0,
        low: b"abc",
        high: Some(b"abf"),
        gap: Gap::NONE,
    };
    let mut image = build(&spec, &[(b"abc", b"V"), (b"abdxyz!", b"")]).expect("fits");
    image.edit().set_right(Some(PageId(0x0807_0605)));
    image.edit().set_unposted(true);
    let bytes = image.to_bytes();
    let expected_header: [&[u8]; 12] = [
        &[0; 16],
        &[1, 2, 3, 4],
        &[0, 1, 0, 0],
        &[5, 6, 7, 8, 0, 0, 0, 0],
        &2u32.to_le_bytes(),
        &495u32.to_le_bytes(),
        &0u32.to_le_bytes(),
        &2u32.to_le_bytes(),
        &[253, 1, 0, 0, 3, 0, 0, 0],
        &[250, 1, 0, 0, 3, 0, 0, 0],
        &[0xfa - 4, 1, 0, 0, 0, 0, 0, b'c'],
        &[0xef, 1, 0, 0, b'z', b'y', b'x', b'd'],
    ];
    assert_eq!(bytes[..80], expected_header.concat());
    assert_eq!(bytes[495..], *b"\x05\0dxyz!\x01\x01cVabfabc");
    assert!(image.page().unposted());
    assert_eq!(image.page().live_bytes(), 16 + 11);
    image.edit().set_unposted(false);
    assert!(!image.page().unposted());
}
