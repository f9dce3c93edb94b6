//! The bytes of a page of a tree.
//!
//! Reading is total: on any bytes every method comes to an end, within the page, and gives the same from
//! shared memory as from a private copy. A page in which [`check`] finds no fault can be changed like
//! any other and has no fault afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use treering_blink::{
    Entries, Gap, Image, Kind, Page, PageSpec, Policy, Position, Words, build, check, max_key_len,
    max_record_len, partition,
};
use treering_pagefile::PageId;

use crate::input::{Input, damage};

/// Half of all inputs are the bytes of a page as they are, the others damage a sound page.
pub fn page(data: &[u8]) {
    let mut input = Input::new(data);
    let page_size = [512, 1024, 4096][input.below(3)];
    let probes: Vec<Vec<u8>> = (0..1 + input.below(4)).map(|_| key(&mut input)).collect();
    let image = match input.flag() {
        true => words(page_size, input.rest()),
        false => {
            let image = sound(&mut input, page_size);
            let mut bytes = image.to_bytes();
            damage(&mut input, &mut bytes, 6);
            words(page_size, &bytes)
        }
    };
    let shared: Vec<AtomicU64> = image.words().iter().map(|&word| AtomicU64::new(word)).collect();
    let read = read_everything(image.page(), &probes);
    assert_eq!(read_everything(Page::new(&shared[..]), &probes), read, "shared memory reads alike");
    assert!(Image::copy_of(&shared[..]) == image);
    if check(&image.page(), page_size).is_empty() {
        change(image, &mut input);
    }
}

fn words(page_size: usize, bytes: &[u8]) -> Image {
    let mut image = Image::zeroed(page_size);
    for (word, bytes) in image.words_mut().iter_mut().zip(bytes.chunks(8)) {
        let mut whole = [0; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_le_bytes(whole);
    }
    image
}

/// Keys with few different bytes, some of them long.
fn key(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() {
        len @ 0..=15 => input.bytes(len.into()).to_vec(),
        16..=31 => vec![input.byte(); 40 + input.below(80)],
        number => format!("key {:02}", number % 100).into_bytes(),
    }
}

/// A page that is as it should be, of either kind.
fn sound(input: &mut Input<'_>, page_size: usize) -> Image {
    let inner = input.byte().is_multiple_of(4);
    let mut model = BTreeMap::new();
    for number in 0..input.below(40) as u64 {
        let key = key(input);
        let len = input.below(256).min(max_record_len(page_size) - key.len());
        // No page is a child twice.
        let value = if inner { (number + 1).to_le_bytes().to_vec() } else { vec![7; len] };
        model.insert(key, value);
    }
    if inner {
        model.insert(Vec::new(), 99u64.to_le_bytes().to_vec());
    }
    let mut entries: Vec<(&[u8], &[u8])> = model.iter().map(|(k, v)| (&k[..], &v[..])).collect();
    let (gap, to_the_end) = (Gap::every(input.byte() % 8), input.flag());
    loop {
        let low = entries.first().map_or(&b""[..], |(key, _)| key);
        // Behind all of them, so that they have a prefix in common.
        let high = entries.last().map(|(key, _)| [key, &b"~"[..]].concat());
        let high = high.filter(|high| !to_the_end && high.len() <= max_key_len(page_size));
        let high = high.as_deref();
        let spec = PageSpec { page_size, tree: 3, level: inner.into(), low, high, gap };
        match build(&spec, &entries) {
            Some(mut image) => {
                image.edit().set_right(high.map(|_| PageId(77)));
                let faults = check(&image.page(), page_size);
                assert!(faults.is_empty(), "a page as it is built has faults: {faults:?}");
                return image;
            }
            None => {
                entries.pop();
            }
        }
    }
}

/// Calls every reading method; what they said, and the bytes that they gave.
fn read_everything<W: Words>(page: Page<W>, probes: &[Vec<u8>]) -> (Vec<u64>, Vec<u8>) {
    let size = page.page_size();
    let slots = page.len();
    assert!(slots <= size / 8);
    let mut seen = vec![u64::from(page.tree()), u64::from(page.level()), slots as u64];
    seen.extend(
        [page.has_gaps(), page.unposted(), page.is_leaf(), page.is_high_infinite()].map(u64::from),
    );
    seen.extend([page.is_empty().into(), u64::from(page.is_underfull())]);
    seen.extend([page.right().map_or(0, |id| id.0), page.prefix_len() as u64]);
    seen.extend([page.free_contiguous(), page.free_total(), page.live_bytes()].map(|n| n as u64));
    assert!(page.live_len() <= slots && page.live_slots().rev().count() <= slots);
    let mut out = Vec::new();
    page.low_into(&mut out);
    assert!(out.len() <= size);
    page.high_into(&mut out);
    assert!(out.len() <= 2 * size);
    for slot in (0..slots).step_by(slots / 40 + 1).chain([slots, usize::MAX]) {
        let start = out.len();
        page.key_into(slot, &mut out);
        assert!(out.len() - start <= 2 * size);
        let start = out.len();
        page.value_into(slot, &mut out);
        assert!(out.len() - start <= size && page.value_len(slot) <= size);
        seen.extend([page.child(slot).0, page.kind(slot) as u64, page.is_filler(slot).into()]);
        seen.push(page.reference(slot).map_or(0, |reference| u64::from(reference[0]) + 1));
        let beside = [page.live_from(slot), page.live_before(slot)];
        seen.extend(beside.map(|live| live.map_or(u64::MAX, |slot| slot as u64)));
        seen.push(page.fits_replace(slot, 7).into());
        seen.push(page.fits_replace_compacted(slot, 7).into());
        seen.extend(probes.iter().map(|probe| page.compare_key(slot, probe) as u64));
    }
    for probe in probes {
        let (Ok(slot) | Err(slot)) = page.find(probe);
        assert!(slot <= slots && page.child_slot(probe) <= slots);
        seen.extend([page.position(probe) as u64, page.position_before(probe) as u64]);
        seen.extend([slot as u64, page.child_slot(probe) as u64, page.child_for(probe).0]);
        seen.push(page.child_before(probe).map_or(0, |id| id.0));
        seen.push(page.slot_before(probe).map_or(u64::MAX, |slot| slot as u64));
        seen.push(page.fits_insert(probe.len(), 9).into());
        seen.push(page.fits_insert_compacted(probe.len(), 9).into());
    }
    assert!(Entries::of(&page).len() <= slots);
    check(&page, size);
    (seen, out)
}

/// Inserts, replaces and removes; then splits what is left.
fn change(mut image: Image, input: &mut Input<'_>) {
    let page_size = image.page().page_size();
    let level = image.page().level();
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = contents(&image).into_iter().collect();
    let page = image.edit();
    for _ in 0..input.below(40) {
        let key = key(input);
        let belongs = page.position(&key) == Position::Here;
        if !belongs || key.len() > max_key_len(page_size) {
            continue;
        }
        let room = max_record_len(page_size) - key.len();
        let value = vec![input.byte(); if level > 0 { 8 } else { input.below(256).min(room) }];
        match page.find(&key) {
            Ok(slot) if slot > 0 && input.flag() => {
                page.remove(slot);
                model.remove(&key);
            }
            Ok(slot)
                if level == 0
                    && page.kind(slot) == Kind::Inline
                    && page.replace_or_compact(slot, &value) =>
            {
                model.insert(key, value);
            }
            Err(slot) if level == 0 && page.insert_or_compact(slot, &key, &value) => {
                model.insert(key, value);
            }
            _ => {}
        }
        let faults = check(&page, page_size);
        assert!(faults.is_empty(), "a change made faults: {faults:?}");
    }
    page.compact();
    let faults = check(&page, page_size);
    assert!(faults.is_empty(), "compacting made faults: {faults:?}");
    assert!(contents(&image).into_iter().eq(model), "the page has what was put into it");
    split(&image, input);
}

fn contents(image: &Image) -> Vec<(Vec<u8>, Vec<u8>)> {
    let page = image.page();
    let pair = |slot| {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        page.key_into(slot, &mut key);
        page.value_into(slot, &mut value);
        (key, value)
    };
    page.live_slots().map(pair).collect()
}

/// Distributes the entries, and what as many again would be, over pages.
fn split(image: &Image, input: &mut Input<'_>) {
    let page = image.page();
    let page_size = page.page_size();
    let (mut low, mut high) = (Vec::new(), Vec::new());
    page.low_into(&mut low);
    let finite = page.high_into(&mut high);
    let mut all = contents(image);
    if all.is_empty() {
        return;
    }
    if let (false, Some((last, _))) = (finite, all.last().cloned()) {
        // Without a high fence there may be more, and no page is a child twice.
        let taken = |number: u64| all.iter().any(|(_, value)| *value == number.to_le_bytes());
        let first = (1..).map(|n| n * 1000).find(|first| !(*first..first + 60).any(taken));
        let first = first.expect("a page has not that many entries");
        let more = (0..input.below(60) as u64).map(|n| {
            let key = [&last[..last.len().min(100)], b"~~", &[n as u8]].concat();
            (key, (first + n).to_le_bytes().to_vec())
        });
        let more: Vec<_> = more.collect();
        all.extend(more);
    }
    let entries: Vec<(&[u8], &[u8])> = all.iter().map(|(k, v)| (&k[..], &v[..])).collect();
    if !entries.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return;
    }
    let high = finite.then_some(&high[..]);
    let gap = Gap::every(input.byte());
    let spec = PageSpec { page_size, tree: 3, level: page.level(), low: &low, high, gap };
    let policy = [Policy::Balanced, Policy::Ascending, Policy::Filled][input.below(3)];
    let parts = partition(&spec, &entries, policy);
    let together: Vec<_> = parts.iter().flat_map(|part| contents(&part.image)).collect();
    assert!(together == all, "a split loses nothing");
    for mut part in parts {
        let more = !part.image.page().is_high_infinite();
        part.image.edit().set_right(more.then_some(PageId(77)));
        let faults = check(&part.image.page(), page_size);
        assert!(faults.is_empty(), "a split made faults: {faults:?}");
    }
}
