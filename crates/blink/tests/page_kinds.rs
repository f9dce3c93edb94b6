//! Entries whose values are elsewhere keep their kind, whatever is done to their page: inserts that
//! move slots and use fillers, replacements of either kind by either, removals, compacting, splits,
//! and two pages made into one.

#![allow(missing_docs, clippy::unwrap_used)]

mod page_support;

use std::collections::BTreeMap;

use page_support::{assert_sound, gap, key_of};
use proptest::prelude::*;
use treering_blink::{
    Entries, Image, Kind, Page, PageSpec, Policy, REFERENCE_LEN, Stored, Words, build,
};

type Model = BTreeMap<Vec<u8>, (Kind, Vec<u8>)>;

fn stored<'v>(kind: Kind, value: &'v [u8]) -> Stored<'v> {
    match kind {
        Kind::Inline => Stored::Inline(value),
        Kind::Overflow => Stored::Overflow(value.try_into().unwrap()),
    }
}

fn contents<W: Words>(page: &Page<W>) -> Model {
    let slots = page.live_slots();
    slots
        .map(|slot| {
            let mut value = Vec::new();
            page.value_into(slot, &mut value);
            let reference = (page.kind(slot) == Kind::Overflow).then_some(value.as_slice());
            assert_eq!(page.reference(slot).as_ref().map(|bytes| bytes.as_slice()), reference);
            (key_of(page, slot), (page.kind(slot), value))
        })
        .collect()
}

/// Puts an entry in, in place; false if the page is full.
fn put(image: &mut Image, key: &[u8], kind: Kind, value: &[u8]) -> bool {
    let page = image.edit();
    let done = match page.find(key) {
        Ok(slot) => page.replace_or_compact(slot, value),
        Err(slot) => page.insert_or_compact(slot, key, value),
    };
    if done {
        page.set_kind(page.find(key).unwrap(), kind);
    }
    done
}

proptest! {
    #[test]
    fn kinds_survive_edits_splits_and_merges(
        gap in gap(),
        shift in 9..=13_u32,
        ops in prop::collection::vec((any::<u8>(), 0..4_u8, any::<u8>()), 1..150),
    ) {
        let page_size = 1 << shift;
        let spec = PageSpec { page_size, tree: 3, level: 0, low: b"", high: None, gap };
        let mut image = build(&spec, &[]).unwrap();
        let mut model = Model::new();
        for (number, what, fill) in ops {
            let key = [number % 16, number / 16];
            let (kind, value) = match what {
                0 => (Kind::Overflow, vec![fill; REFERENCE_LEN]),
                1 => (Kind::Inline, vec![fill; usize::from(fill) % 40]),
                // As long as a reference, which makes it none.
                2 => (Kind::Inline, vec![fill; REFERENCE_LEN]),
                _ => {
                    if let Ok(slot) = image.page().find(&key) {
                        image.edit().remove(slot);
                        model.remove(&key[..]);
                    }
                    continue;
                }
            };
            if put(&mut image, &key, kind, &value) {
                model.insert(key.to_vec(), (kind, value));
            }
            if fill % 16 == 0 {
                image.edit().compact();
            }
            assert_sound(&image.page(), page_size);
            prop_assert_eq!(contents(&image.page()), model.clone());
        }

        // Split, with twice as much in it, and merged again.
        let mut entries = Entries::of(&image.page());
        for (at, (key, (kind, value))) in model.clone().into_iter().enumerate() {
            let other = [key.as_slice(), b"+"].concat();
            entries.insert_stored(2 * at + 1, &other, stored(kind, &value));
            model.insert(other, (kind, value));
        }
        let parts = entries.partition(&spec, Policy::Balanced);
        let (mut split, mut again) = (Model::new(), Entries::new());
        for part in &parts {
            let page = part.image.page();
            split.extend(contents(&page));
            again.append(&Entries::of(&page));
        }
        prop_assert_eq!(&split, &model);
        let big = PageSpec { page_size: 1 << 16, ..spec };
        let merged = again.build(&big).unwrap();
        prop_assert_eq!(contents(&merged.page()), model);
        assert_sound(&merged.page(), 1 << 16);
    }
}

#[test]
fn what_is_no_reference_is_named() {
    let spec = PageSpec {
        page_size: 512,
        tree: 3,
        level: 0,
        low: b"",
        high: None,
        gap: treering_blink::Gap::NONE,
    };
    let mut image = build(&spec, &[(b"a", b"short"), (b"b", b"")]).unwrap();
    image.edit().set_kind(0, Kind::Overflow);
    let faults = treering_blink::check(&image.page(), 512);
    assert_eq!(faults, ["slot 0: a reference to overflow pages of 5 bytes"]);
    assert_eq!(image.page().reference(0), None);
}
