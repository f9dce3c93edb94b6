//! The catalog of trees, and the records of the log: entries that the input makes up, behind checksums
//! that fit.
//!
//! The engine has to come to an end with them, whatever they say; damage is one of the things it may say.

use treering_blink::{Gap, PageSpec, build};
use treering_pagefile::{MapEntry, PageId};

use crate::base::{Base, Pair};
use crate::database::{CATALOG, forge, try_all};
use crate::format::{BLOCK, PAGE, Segment, u64_at};
use crate::input::{Input, damage};

/// The catalog's page has entries that the input makes up, beside some of those that were there.
pub fn catalog(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let base = if how & 1 != 0 { Base::crashed() } else { Base::closed() };
    let root = page(base, CATALOG);
    let mut entries: Vec<Pair> = Vec::new();
    if how & 2 == 0 {
        entries = entries_of(base, root);
        for (_, value) in &mut entries {
            if input.byte().is_multiple_of(4) {
                damage(&mut input, value, 2);
            }
        }
    }
    for _ in 0..input.below(12) {
        entries.push(entry(&mut input, base));
    }
    entries.sort();
    entries.dedup_by(|one, other| one.0 == other.0);
    let mut image = base.image.clone();
    loop {
        let slices: Vec<(&[u8], &[u8])> = entries.iter().map(|(k, v)| (&k[..], &v[..])).collect();
        let gap = Gap::NONE;
        let spec = PageSpec { page_size: PAGE, tree: 0, level: 0, low: b"", high: None, gap };
        if let Some(page) = build(&spec, &slices) {
            forge(&mut image, root, |bytes| *bytes = page.to_bytes());
            break;
        }
        entries.pop();
    }
    try_all(&image, how & 4 != 0);
}

fn page(base: &Base, page: PageId) -> MapEntry {
    let found = base.pages.iter().find(|entry| entry.page == page);
    *found.unwrap_or_else(|| panic!("the base has no {page}"))
}

/// What stands in a leaf.
fn entries_of(base: &Base, leaf: MapEntry) -> Vec<Pair> {
    let place = leaf.extent.offset..leaf.extent.offset + PAGE as u64;
    let bytes = base.image.read("pages", place).unwrap_or_default();
    let (words, _) = bytes.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let page = treering_blink::Page::new(&words[..]);
    assert!(page.is_leaf() && page.len() > 3, "the base's catalog is one leaf");
    let pair = |slot| {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        page.key_into(slot, &mut key);
        page.value_into(slot, &mut value);
        (key, value)
    };
    page.live_slots().map(pair).collect()
}

/// A page of the base, or one that there is not.
fn some_page(input: &mut Input<'_>, base: &Base) -> u64 {
    match input.byte() {
        0 => input.number(1),
        number => base.pages[usize::from(number) % base.pages.len()].page.0,
    }
}

/// An entry of the catalog: right in its form more often than not.
fn entry(input: &mut Input<'_>, base: &Base) -> Pair {
    let change = |input: &mut Input<'_>, mark: u8| {
        [&[2][..], &u64::from(input.byte() % 8).to_be_bytes(), &[mark]].concat()
    };
    let tree = |input: &mut Input<'_>| u32::from(input.byte() % 8).to_le_bytes().to_vec();
    match input.byte() % 9 {
        0 => (vec![0, b'n'], (input.number(8) as u32).to_le_bytes().to_vec()),
        1 => (vec![0, b'o'], input.number(8).to_le_bytes().to_vec()),
        2 => {
            let name = [&[1][..], [b"main", &b"many"[..], b"x", b""][input.below(4)]].concat();
            let mut value = vec![1];
            value.extend((input.number(3) as u32).to_le_bytes());
            value.extend(some_page(input, base).to_le_bytes());
            value.extend([input.byte() % 3, input.byte(), 0, 0, 0, 0, 0, 0]);
            let extra = usize::from(input.byte() % 4);
            value.extend_from_slice(input.bytes(extra));
            (name, value)
        }
        3 => {
            // A bulk load under way.
            let mut value = tree(input);
            for _ in 0..input.byte() % 5 {
                value.extend(some_page(input, base).to_le_bytes());
            }
            (change(input, b'L'), value)
        }
        4 => {
            let mut value = [vec![3], tree(input)].concat();
            value.extend(some_page(input, base).to_le_bytes());
            (change(input, b'0'), value)
        }
        5 => (change(input, b'0'), [vec![2], tree(input), key(input)].concat()),
        6 => (change(input, b'1'), key(input)),
        7 => {
            let mut value = vec![1];
            value.extend(reference(input, base));
            value.extend(u64::from(input.byte()).to_le_bytes());
            (change(input, b'0'), value)
        }
        _ => {
            let (key, value) = (usize::from(input.byte() % 20), usize::from(input.byte() % 60));
            (input.bytes(key).to_vec(), input.bytes(value).to_vec())
        }
    }
}

fn key(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() {
        len @ 0..=3 => input.bytes(usize::from(len) * 50).to_vec(),
        number => format!("key {:02}", number % 100).into_bytes(),
    }
}

/// A reference to a large value: first page, length, version.
fn reference(input: &mut Input<'_>, base: &Base) -> Vec<u8> {
    // Memory is taken for each page id up to the greatest: see the page map's target.
    let page = some_page(input, base) % (1 << 20);
    let (len, version) = (input.number(3000), input.number(1));
    [page, len, version].iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The log has records that the input makes up, behind what is in it.
pub fn records(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    let base = Base::closed();
    let checkpoint = base.checkpoint;
    let mut image = base.image.clone();
    let names: Vec<String> = image.names().map(str::to_owned).collect();
    let file = names.iter().find(|name| {
        let block = image.read(name, 0..BLOCK as u64).unwrap_or_default();
        name.starts_with("log-")
            && u64_at(&block, 16) == checkpoint.incarnation
            && u64_at(&block, 24) == checkpoint.log.segment
    });
    let file = file.unwrap_or_else(|| panic!("the base's log is not there"));
    let size = image.len(file).unwrap_or(0);
    let (incarnation, number) = (checkpoint.incarnation, checkpoint.log.segment);
    let segment = Segment { incarnation, number, size };
    let (mut at, mut sequence) = (checkpoint.log.offset, checkpoint.sequence + 1);
    for _ in 0..1 + input.below(2) {
        let mut records = Vec::new();
        for _ in 0..1 + input.below(6) {
            let mut record = Vec::new();
            for _ in 0..input.below(5) {
                outcome(&mut input, base, &mut record);
            }
            if input.byte().is_multiple_of(8) {
                damage(&mut input, &mut record, 2);
            }
            records.push(record);
        }
        let group = segment.group(at, sequence, &records);
        let end = at + (group.len() as u64).next_multiple_of(BLOCK as u64);
        if end > size {
            break;
        }
        image.write(file, at, &group);
        sequence += records.len() as u64;
        at = end;
    }
    try_all(&image, how & 4 != 0);
}

/// An entry of a record: right in its form more often than not.
fn outcome(input: &mut Input<'_>, base: &Base, out: &mut Vec<u8>) {
    let kind = [1, 1, 2, 3, 4, 5, 6, 7, 8, 8, 12, 9][input.below(12)];
    let tree = match input.byte() {
        0 => input.number(3) as u32,
        number => u32::from(number % 8),
    };
    let len = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes();
    out.push(kind);
    out.extend(tree.to_le_bytes());
    let name = [&b"main"[..], b"many", b"new", b"", &[7; 100]][input.below(5)];
    match kind {
        1 => {
            let (key, value) = (key(input), vec![input.byte(); input.below(64)]);
            out.extend([len(&key), len(&value)].concat());
            out.extend([key, value].concat());
        }
        2 => {
            let key = key(input);
            out.extend(len(&key));
            out.extend(key);
        }
        3 => {
            let options = [input.byte() % 3, input.byte(), 0, 0, 0, 0, 0, 0];
            out.extend([len(name), len(&options)].concat());
            out.extend([name, &options].concat());
        }
        4 => out.extend([&len(name), name].concat()),
        5 => {
            let (from, to) = (key(input), key(input));
            let end = if input.flag() { len(&to) } else { u32::MAX.to_le_bytes() };
            out.extend([len(&from), end].concat());
            out.extend(from);
            if end != [0xff; 4] {
                out.extend(to);
            }
        }
        6 => out.extend([&[0; 4][..], &u64::from(input.byte() % 8).to_le_bytes()].concat()),
        7 | 8 => {
            let key = if kind == 8 { key(input) } else { Vec::new() };
            let runs: Vec<u8> = (0..input.byte() % 3).flat_map(|_| run_of(input)).collect();
            out.extend(len(&key));
            out.extend((runs.len() as u32 / 16).to_le_bytes());
            out.extend([key, reference(input, base), runs].concat());
        }
        12 => {
            out.extend(16u32.to_le_bytes());
            out.extend(u64::from(input.byte() % 8).to_le_bytes());
            out.extend(some_page(input, base).to_le_bytes());
        }
        _ => out.extend_from_slice(input.bytes(20)),
    }
}

/// A run of pages: offset, count, stamp.
fn run_of(input: &mut Input<'_>) -> Vec<u8> {
    let offset = match input.byte() {
        0 => input.number(32 << 10),
        slot => crate::format::slot_at(usize::from(slot) * 2) as u64,
    };
    let count = if input.flag() { u32::from(input.byte() % 20) } else { input.number(1) as u32 };
    [&offset.to_le_bytes()[..], &count.to_le_bytes(), &[1, 0, 0, 0]].concat()
}
