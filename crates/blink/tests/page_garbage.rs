//! Any bytes: torn mixtures are what optimistic readers see. Nothing may panic, hang, or give more
//! than a page.

mod page_support;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use page_support::*;
use proptest::collection::vec;
use proptest::prelude::*;
use treering_blink::{Entries, Gap, Image, Page, PageSpec, Words, build, check};

/// Calls every reading method; what it gives is only used to see that shared and private memory
/// give the same. `slots_max` bounds the slots: `len()` does unless a writer changes it meanwhile.
fn read_everything<W: Words>(page: Page<W>, slots_max: usize, probes: &[Vec<u8>]) -> Vec<u64> {
    let mut seen = Vec::new();
    let mut out = Vec::new();
    let size = page.page_size();
    seen.extend([u64::from(page.tree()), u64::from(page.level())]);
    seen.extend(
        [
            page.has_gaps(),
            page.unposted(),
            page.is_leaf(),
            page.is_high_infinite(),
            page.is_empty(),
        ]
        .map(u64::from),
    );
    seen.extend([page.right().map_or(0, |id| id.0), page.len() as u64, page.prefix_len() as u64]);
    let backward = page.live_slots().rev().count();
    assert!(page.live_len() <= slots_max && backward <= slots_max);
    seen.extend([page.free_contiguous(), page.free_total(), page.live_bytes()].map(|n| n as u64));
    page.low_into(&mut out);
    assert!(out.len() <= size);
    page.high_into(&mut out);
    let step = page.len() / 50 + 1;
    let slots = (0..page.len()).step_by(step).chain([page.len(), usize::MAX]);
    for slot in slots {
        let start = out.len();
        page.key_into(slot, &mut out);
        assert!(out.len() - start <= 2 * size);
        let start = out.len();
        page.value_into(slot, &mut out);
        assert!(out.len() - start <= size && page.value_len(slot) <= size);
        seen.push(page.child(slot).0);
        let beside = [page.live_from(slot), page.live_before(slot)];
        seen.extend(beside.map(|live| live.map_or(u64::MAX, |slot| slot as u64)));
        seen.push(page.is_filler(slot).into());
        seen.push(page.fits_replace(slot, 7).into());
        seen.push(page.fits_replace_compacted(slot, 7).into());
        for probe in probes {
            seen.push(page.compare_key(slot, probe) as u64);
        }
        if out.len() > 1 << 20 {
            out.clear();
        }
    }
    for probe in probes {
        seen.push(page.position(probe) as u64);
        seen.push(page.position_before(probe) as u64);
        let (Ok(slot) | Err(slot)) = page.find(probe);
        assert!(slot <= slots_max);
        assert!(page.child_slot(probe) <= slots_max);
        seen.extend([slot as u64, page.child_slot(probe) as u64, page.child_for(probe).0]);
        seen.push(page.child_before(probe).map_or(0, |id| id.0));
        seen.push(page.fits_insert(probe.len(), 9).into());
        seen.push(page.fits_insert_compacted(probe.len(), 9).into());
    }
    seen.extend(out.iter().map(|&byte| u64::from(byte)));
    seen
}

fn read_both_ways(words: &[u64], probes: &[Vec<u8>]) {
    let shared: Vec<AtomicU64> = words.iter().map(|&word| AtomicU64::new(word)).collect();
    let slots = Page::new(words).len();
    let from_copy = read_everything(Page::new(words), slots, probes);
    assert_eq!(read_everything(Page::new(&shared[..]), slots, probes), from_copy);
    let image = Image::copy_of(&shared[..]);
    assert_eq!(image.words(), words);
    check(&image.page(), words.len() * 8);
    if words.len() <= 512 {
        Entries::of(&image.page());
    }
}

/// Words of all kinds: random, small, huge, and those that look like fields within the page.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..5000u64,
        Just(0),
        Just(u64::MAX),
        (0..600u64, 0..600u64).prop_map(|(low, high)| low | high << 32),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_words(words in prop_oneof![vec(word(), 0..130), vec(word(), 64), vec(word(), 128)], probes in vec(key(512), 1..6)) {
        read_both_ways(&words, &probes);
    }

    /// A sound page with some words of another one, or of noise: what a reader sees who is overtaken.
    #[test]
    fn t12_torn_pages_with_any_gap(
        gap in gap(),
        first in vec((key(4096), 0..40usize), 0..60),
        second in vec((key(4096), 0..40usize), 0..60),
        torn in vec((0..512usize, proptest::option::of(word())), 1..100),
        inner in any::<bool>(),
        probes in vec(key(4096), 1..6),
    ) {
        let page = |entries: Vec<(Vec<u8>, usize)>| {
            let model: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = entries
                .into_iter()
                .map(|(key, len)| (key, vec![1; if inner { 8 } else { len }]))
                .collect();
            let mut entries = slices(&model);
            if inner && entries.is_empty() {
                entries.push((b"", &[1; 8]));
            }
            let low = entries.first().map_or(&b""[..], |(key, _)| key);
            let spec = PageSpec { page_size: 4096, tree: 1, level: inner.into(), low, high: None, gap };
            loop {
                match build(&spec, &entries) {
                    Some(image) => break image,
                    None => { entries.pop(); }
                }
            }
        };
        let (mut mixture, other) = (page(first), page(second));
        for (at, noise) in torn {
            mixture.words_mut()[at] = noise.unwrap_or(other.words()[at]);
        }
        read_both_ways(mixture.words(), &probes);
    }

    /// Whatever is broken in a sound page is either harmless or named by `check`; what `check`
    /// passes can be edited.
    #[test]
    fn t12_check_finds_what_edits_would_stumble_over_with_any_gap(
        gap in gap(),
        entries in vec((key(512), 0..40usize), 1..12),
        at in 2..64usize,
        bit in 0..64u32,
    ) {
        let model: std::collections::BTreeMap<Vec<u8>, Vec<u8>> =
            entries.into_iter().map(|(key, len)| (key, vec![1; len])).collect();
        let mut entries = slices(&model);
        let spec = PageSpec { page_size: 512, tree: 1, level: 0, low: b"", high: None, gap };
        let mut image = loop {
            match build(&spec, &entries) {
                Some(image) => break image,
                None => { entries.pop(); }
            }
        };
        image.words_mut()[at] ^= 1 << bit;
        if check(&image.page(), 512).is_empty() && image.page().is_leaf() {
            let page = image.edit();
            page.compact();
            while !page.is_empty() {
                page.remove(page.live_from(page.len() / 2).expect("a live slot ends the page"));
                assert_sound(&page, 512);
            }
        }
    }
}

/// Readers and a writer at work on the same memory: answers that nobody interferes with are right,
/// the others come to an end.
#[test]
fn readers_beside_a_writer_come_to_an_end() {
    let gap = Gap::every(1);
    let spec = PageSpec { page_size: 4096, tree: 1, level: 0, low: b"", high: None, gap };
    let first: Vec<[u8; 4]> = (0..60u32).map(|n| (n * 4).to_be_bytes()).collect();
    let entries: Vec<(&[u8], &[u8])> = first.iter().map(|key| (&key[..], &[1; 8][..])).collect();
    let image = build(&spec, &entries).expect("they fit");
    assert!(image.page().has_gaps());
    let words: Vec<AtomicU64> = image.words().iter().map(|&word| AtomicU64::new(word)).collect();
    let page = Page::new(&words[..]);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..2u32 {
            let (done, words) = (&done, &words);
            scope.spawn(move || {
                let probes: Vec<Vec<u8>> =
                    (0..20u32).map(|n| (n * 7 + reader).to_be_bytes().to_vec()).collect();
                while done.load(Relaxed) == 0 {
                    read_everything(Page::new(&words[..]), 4096 / 8, &probes);
                }
            });
        }
        for round in 0..20_000u32 {
            let key = (round.wrapping_mul(0x9e37_79b9) >> 24).to_be_bytes();
            let value = vec![round as u8; (round % 61) as usize];
            let done = match page.find(&key) {
                Ok(slot) if round % 3 == 0 => {
                    page.remove(slot);
                    true
                }
                Ok(slot) => page.replace_or_compact(slot, &value),
                Err(slot) => page.insert_or_compact(slot, &key, &value),
            };
            if !done {
                page.remove(page.live_from(page.len() / 2).expect("a live slot ends the page"));
            }
        }
        done.store(1, Relaxed);
    });
    assert_sound(&page, 4096);
}
