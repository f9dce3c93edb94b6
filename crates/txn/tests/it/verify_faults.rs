//! Rows T19 and J6: faults are planted in the file of a sound database, one at a time, and `verify`
//! names each, with the page. What is planted is sealed again unless the seal is the fault, so that
//! nothing else is wrong.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;

use crate::engine_support::{
    Model, Op, PAGE, Rng, apply, assert_clean, batch, machine, op, open, options, patient,
};
use treering_blink::{Gap, Image, PageSpec, build};
use treering_pagefile::sim::{Lie, Sim, SimImage};
use treering_pagefile::{Disk, Extent, FileErrorKind, PageId, seal};
use treering_txn::{Durability, Error, PageShape, Report};

/// The file with the pages.
const PAGES: &str = "pages";
/// The word of a page's right link, that of its slot 0, and where its write stamp is.
const RIGHT: usize = 3;
const SLOTS: usize = 8;
const STAMP: usize = 4;

/// A database at rest, its pages in the tree "t", and where each is.
#[derive(Clone)]
struct Rest {
    image: SimImage,
    shapes: Vec<PageShape>,
    extents: BTreeMap<PageId, Extent>,
}

impl Rest {
    /// A tree of several levels.
    fn new() -> Self {
        Self::after(machine(1), 1, (0..600).map(|number| put(number, b"a value of some length")))
    }

    /// What a life leaves behind that commits these operations.
    fn after(sim: Sim, entropy: u64, ops: impl Iterator<Item = Op>) -> Self {
        let (shapes, extents) = sim
            .run(async {
                let engine = open(&sim, options(64, entropy)).await.unwrap();
                let tree = engine.tree(b"t").await.unwrap();
                for op in ops {
                    engine.commit(batch(&[tree], &[op]), Durability::None).await.unwrap();
                }
                engine.checkpoint().await.unwrap();
                assert_clean(&engine, "before anything is planted").await;
                let mut structure = engine.structure(tree).unwrap();
                let mut shapes = Vec::new();
                while let Some(shape) = structure.next().await.unwrap() {
                    shapes.push(shape);
                }
                // In the pool, dirty pages have no extent that means anything.
                engine.checkpoint().await.unwrap();
                let extents = engine.pool().extents().into_iter().collect();
                engine.close().await.unwrap();
                (shapes, extents)
            })
            .unwrap();
        sim.settle().unwrap();
        Self { image: sim.disk().image_durable_only(), shapes, extents }
    }

    fn shape(&self, id: PageId) -> &PageShape {
        self.shapes.iter().find(|shape| shape.id == id).unwrap()
    }

    /// Leaves in a row, none the last of its level: with all three known to one parent.
    fn leaves(&self) -> [&PageShape; 3] {
        let parent = self.shapes.iter().find(|shape| shape.level == 1).unwrap();
        assert!(parent.children.len() > 4, "{parent}");
        [1, 2, 3].map(|child| self.shape(parent.children[child]))
    }

    fn parent_of(&self, child: PageId) -> &PageShape {
        self.shapes.iter().find(|shape| shape.children.contains(&child)).unwrap()
    }

    fn bytes(&self, id: PageId) -> Vec<u8> {
        let Extent { offset, len } = self.extents[&id];
        self.image.read(PAGES, offset..offset + u64::from(len)).unwrap()
    }

    /// Puts bytes where the page is.
    fn overwrite(&mut self, id: PageId, bytes: &[u8]) {
        self.image.write(PAGES, self.extents[&id].offset, bytes);
    }

    /// Changes a page, and seals it as it was sealed.
    fn edit(&mut self, id: PageId, change: impl FnOnce(&mut Image)) {
        let before = self.bytes(id);
        let stamp = u32::from_le_bytes(before[STAMP..STAMP + 4].try_into().unwrap());
        let mut image = Image::zeroed(PAGE);
        for (word, bytes) in image.words_mut().iter_mut().zip(before.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap());
        }
        change(&mut image);
        let mut after = image.to_bytes();
        seal(&mut after, id, stamp);
        assert_ne!(after, before, "something was planted");
        self.overwrite(id, &after);
    }

    /// Opens the database and verifies it.
    fn verify(&self) -> Result<Report, Error> {
        let sim = patient(Sim::from_image(&self.image, 7));
        sim.run(async {
            let engine = open(&sim, options(64, 99)).await?;
            let report = engine.verify().await;
            engine.stop();
            report
        })
        .unwrap()
    }

    /// Fails unless exactly these problems are reported, each given by all that it has to contain.
    #[track_caller]
    fn assert_named(&self, expected: &[&[&str]]) {
        let problems = self.verify().unwrap().problems;
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for parts in expected {
            let named = |problem: &&String| parts.iter().all(|part| problem.contains(part));
            assert_eq!(problems.iter().filter(named).count(), 1, "{parts:?} in {problems:#?}");
        }
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("{:06}", number * 7919 % 1_000_003).into_bytes()
}

fn put(number: u64, value: &[u8]) -> Op {
    Op::put(0, &key(number), value)
}

/// The page, as a place in the tree begins with it.
fn leaf(id: PageId) -> String {
    format!("tree \"t\", level 0, {id}")
}

/// Without this, nothing below would show anything.
#[test]
fn t19_a_sound_database_has_no_problems_and_its_keys_are_counted() {
    let rest = Rest::new();
    let report = rest.verify().unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!((report.keys, report.trees, report.space_checked), (600, 1, true));
    assert!(report.height >= 3, "{}", report.height);
}

#[test]
fn t19_swapped_slots_are_named() {
    let mut rest = Rest::new();
    let page = rest.leaves()[1].id;
    rest.edit(page, |image| image.words_mut().swap(SLOTS + 1, SLOTS + 2));
    rest.assert_named(&[&[&leaf(page), "slot 2 is out of order"]]);
}

#[test]
fn t19_swapped_slots_of_an_inner_page_are_named() {
    let mut rest = Rest::new();
    let page = rest.parent_of(rest.leaves()[0].id).id;
    rest.edit(page, |image| image.words_mut().swap(SLOTS + 2, SLOTS + 3));
    rest.assert_named(&[&["tree \"t\", level 1, ", &page.to_string(), "slot 3 is out of order"]]);
}

/// Builds a page with other fences and no entries, so that they fit whatever they are.
fn with_fences(image: &mut Image, low: &[u8], high: &[u8]) {
    let (tree, level, right) =
        (image.page().tree(), image.page().level(), image.page().right().unwrap());
    let spec = PageSpec { page_size: PAGE, tree, level, low, high: Some(high), gap: Gap::NONE };
    *image = build(&spec, &[]).unwrap();
    image.words_mut()[RIGHT] = right.0;
}

#[test]
fn t19_a_wrong_high_fence_is_named_with_the_page_that_has_it() {
    let mut rest = Rest::new();
    let [left, right, _] = rest.leaves().map(|shape| shape.id);
    let low = rest.shape(left).low.clone();
    let mut high = rest.shape(left).high.clone().unwrap();
    high.push(b'+');
    rest.edit(left, |image| with_fences(image, &low, &high));
    let fault = format!("is not the high fence \"{}\" of {left} on its left", high.escape_ascii());
    rest.assert_named(&[&[&leaf(right), &fault]]);
}

#[test]
fn t19_a_wrong_low_fence_is_named_by_its_neighbour_and_by_its_parent() {
    let mut rest = Rest::new();
    let [left, page, _] = rest.leaves().map(|shape| shape.id);
    let mut low = rest.shape(page).low.clone();
    let high = rest.shape(page).high.clone().unwrap();
    low.push(b'+');
    rest.edit(page, |image| with_fences(image, &low, &high));
    let fence = format!("its low fence \"{}\" is not the high fence", low.escape_ascii());
    rest.assert_named(&[
        &[&leaf(page), &fence, &format!("of {left} on its left")],
        &[&leaf(page), "and its parent's separator"],
    ]);
}

#[test]
fn t19_a_fence_below_which_keys_are_is_named() {
    let mut rest = Rest::new();
    let page = rest.leaves()[1].id;
    // The low fence ends the page: its last byte, which no key of this page has in common.
    rest.edit(page, |image| *image.words_mut().last_mut().unwrap() |= 0x7f << 56);
    let problems = rest.verify().unwrap().problems;
    let fences = |problem: &String| problem.contains(&leaf(page)) && problem.contains("fence");
    assert!(problems.iter().any(fences), "{problems:#?}");
}

#[test]
fn t19_a_right_link_that_leaves_a_page_out_is_named() {
    let mut rest = Rest::new();
    let [left, skipped, right] = rest.leaves().map(|shape| shape.id);
    rest.edit(left, |image| image.words_mut()[RIGHT] = right.0);
    rest.assert_named(&[
        &[&leaf(right), "is not the high fence", &format!("of {left} on its left")],
        &["tree \"t\", level 0: ", &skipped.to_string(), "is not in the chain of right links"],
        &["were not reached", &skipped.to_string()],
    ]);
}

#[test]
fn t19_a_right_link_to_a_page_that_does_not_exist_is_named() {
    let mut rest = Rest::new();
    let left = rest.leaves()[0].id;
    rest.edit(left, |image| image.words_mut()[RIGHT] = 9999);
    let link = format!("{} (right of {left}) is linked to and does not exist", leaf(PageId(9999)));
    rest.assert_named(&[&[&link]]);
}

#[test]
fn t19_a_right_link_that_leads_back_is_named() {
    let mut rest = Rest::new();
    let [left, page, _] = rest.leaves().map(|shape| shape.id);
    rest.edit(page, |image| image.words_mut()[RIGHT] = left.0);
    let problems = rest.verify().unwrap().problems;
    let twice = format!("{} is reached twice: by the right link of {page}", leaf(left));
    assert!(problems.contains(&twice), "{problems:#?}");
}

/// Its neighbour takes over its range, its parent forgets it: the tree is sound without it.
#[test]
fn t19_an_orphaned_page_is_named() {
    let mut rest = Rest::new();
    let [left, orphan, right] = rest.leaves().map(|shape| shape.id);
    let low = rest.shape(left).low.clone();
    let high = rest.shape(orphan).high.clone().unwrap();
    rest.edit(left, |image| {
        with_fences(image, &low, &high);
        image.words_mut()[RIGHT] = right.0;
    });
    let parent = rest.parent_of(orphan).clone();
    rest.edit(parent.id, |image| {
        let page = image.page();
        let kept = (0..page.len()).filter(|slot| page.child(*slot) != orphan);
        let entries: Vec<_> = kept
            .map(|slot| {
                let mut key = Vec::new();
                page.key_into(slot, &mut key);
                (key, page.child(slot).0.to_le_bytes())
            })
            .collect();
        let entries: Vec<_> = entries.iter().map(|(key, child)| (&key[..], &child[..])).collect();
        let spec = PageSpec {
            page_size: PAGE,
            tree: page.tree(),
            level: 1,
            low: &parent.low,
            high: parent.high.as_deref(),
            gap: Gap::NONE,
        };
        let link = page.right().map_or(0, |right| right.0);
        let mut without = build(&spec, &entries).unwrap();
        without.words_mut()[RIGHT] = link;
        *image = without;
    });
    rest.assert_named(&[&[&format!("{orphan} is in the page map, but in no tree")]]);
}

/// The page map names one extent for two pages. That is found when the database is opened, which
/// nothing survives that the map could have led astray.
#[test]
fn t19_a_double_used_extent_is_named_with_both_pages() {
    let mut rest = Rest::new();
    let [one, other, _] = rest.leaves().map(|shape| shape.id);
    let extent = rest.extents[&one];
    page_map::redirect(&mut rest.image, other, extent);
    let error = rest.verify().unwrap_err();
    assert_eq!(error.file_kind(), Some(FileErrorKind::Damaged));
    let (first, second) = (one.min(other), one.max(other));
    let said = error.to_string();
    let offset = format!("both lie at offset {}", extent.offset);
    for part in [&first.to_string(), &second.to_string(), &offset] {
        assert!(said.contains(part), "{said}");
    }
}

/// A page is written out of place: where its new image should be, an image of the life before
/// happens to be.
#[test]
fn t19_a_lost_write_is_named() {
    let before = Rest::new();
    let sim = patient(Sim::from_image(&before.image, 2));
    let mut rest = Rest::after(sim, 2, (0..600).map(|number| put(number, b"another value of it")));
    let page = rest.leaves()[1].id;
    let stale = before.bytes(page);
    rest.overwrite(page, &stale);
    rest.assert_named(&[&[&leaf(page), "an older image was found", "stamp"]]);
}

#[test]
fn t19_a_misdirected_write_is_named_with_both_pages() {
    let mut rest = Rest::new();
    let [page, other, _] = rest.leaves().map(|shape| shape.id);
    let wrong = rest.bytes(other);
    rest.overwrite(page, &wrong);
    rest.assert_named(&[&[&leaf(page), &format!("{other} was found in its place")]]);
}

#[test]
fn t19_a_bad_checksum_is_named() {
    for at in [0, 20, 300, PAGE as u64 - 1] {
        let mut rest = Rest::new();
        let page = rest.leaves()[1].id;
        rest.image.flip_bit(PAGES, rest.extents[&page].offset + at);
        rest.assert_named(&[&[&leaf(page), "its checksum does not fit its bytes"]]);
    }
}

/// What is on disk beneath a page in memory is read, too: not only the next opening finds it. Before, the
/// page was checked as it was in memory, and all was well until it had left the cache.
#[test]
fn t19_what_was_lost_beneath_the_cache_is_named_before_it_is_needed() {
    for lie in [Lie::Lost, Lie::FlippedBit { bit: 777 }] {
        let sim = machine(1);
        sim.run(async {
            let engine = open(&sim, options(64, 1)).await.unwrap();
            let tree = engine.tree(b"t").await.unwrap();
            for number in 0..100 {
                let change = batch(&[tree], &[put(number, b"a value of some length")]);
                engine.commit(change, Durability::None).await.unwrap();
            }
            let problems = engine.verify().await.unwrap().problems;
            assert!(problems.is_empty(), "{problems:#?}");
            assert_eq!(engine.stats().pool.evictions, 0, "all of it is in memory");
            // The images of pages are the first that a checkpoint writes.
            let pages = sim.disk().open(PAGES, false).unwrap();
            let mut told = false;
            sim.disk().lie_when(move |at| {
                let now = !told && at.file == pages && at.op == treering_pagefile::Op::Write;
                told |= now;
                now.then_some(lie)
            });
            let change = batch(&[tree], &[put(50, b"another value, as long")]);
            engine.commit(change, Durability::None).await.unwrap();
            let problems = engine.verify().await.unwrap().problems;
            let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
            let parts = ["beneath the cache: page ", " is damaged: ", "dump the database"];
            assert!(parts.iter().all(|part| problem.contains(part)), "{problem}");
            // It goes elsewhere with the next change, and what was damaged is nobody's any more.
            let change = batch(&[tree], &[put(50, b"a third one, quite as long")]);
            engine.commit(change, Durability::None).await.unwrap();
            let problems = engine.verify().await.unwrap().problems;
            assert!(problems.is_empty(), "{problems:#?}");
            engine.close().await.unwrap();
        })
        .unwrap();
    }
}

/// What is damaged does not hide what is damaged elsewhere.
#[test]
fn t19_several_faults_are_all_named() {
    let mut rest = Rest::new();
    let [first, second, third] = rest.leaves().map(|shape| shape.id);
    rest.edit(third, |image| image.words_mut().swap(SLOTS + 1, SLOTS + 2));
    let wrong = rest.bytes(second);
    rest.overwrite(first, &wrong);
    rest.assert_named(&[
        &[&leaf(first), "was found in its place"],
        &[&leaf(third), "slot 2 is out of order"],
    ]);
}

/// The audit after a workload: nothing is pinned that nobody works with, and all keys are there.
#[test]
fn t19_after_a_workload_no_pins_are_left_behind_and_the_keys_are_counted() {
    let sim = machine(5);
    sim.run(async {
        let engine = open(&sim, options(32, 5)).await.unwrap();
        let trees = [engine.tree(b"a").await.unwrap(), engine.tree(b"b").await.unwrap()];
        let (mut rng, mut model) = (Rng::new(5), Model::from([BTreeMap::new(), BTreeMap::new()]));
        for _ in 0..1500 {
            let ops: Vec<Op> = (0..1 + rng.below(3)).map(|_| op(&mut rng, 2, &model)).collect();
            let committed = engine.commit(batch(&trees, &ops), Durability::None).await;
            assert_eq!(committed.is_ok(), apply(&mut model, &ops).is_ok());
        }
        engine.tidy().await.unwrap();
        let keys = assert_clean(&engine, "after the workload").await;
        assert_eq!(keys, model.iter().map(|tree| tree.len() as u64).sum::<u64>());

        // A pin that is held is counted: so none is none.
        let pin = engine.pool().fetch_pinned(trees[0].root).await.unwrap().unwrap();
        assert_eq!(engine.stats().pool.pinned, 1);
        drop(pin);
        assert_eq!(engine.stats().pool.pinned, 0);
        engine.close().await.unwrap();
        assert_eq!(engine.stats().pool.pinned, 0);
    })
    .unwrap();
}

/// The page map on disk, as `docs/file-format.md` has it: changed, with all checksums made to fit.
mod page_map {
    use super::*;

    const SUPERBLOCKS: [u64; 2] = [0, 16 << 10];
    const DIRECTORY_HEADER: usize = 32;

    /// Lets the newest line of `page` name `extent`.
    pub(super) fn redirect(image: &mut SimImage, page: PageId, extent: Extent) {
        let mut superblock = read(image, 0, 512);
        let block_at = Extent::unpack(u64_at(&superblock, 80)).offset;
        let segments = u32_at(&superblock, 88) as usize;
        let mut block = read(image, block_at, DIRECTORY_HEADER + segments * 32);
        assert_eq!(
            (&block[..4], u64_at(&block, 16)),
            (&b"TDIR"[..], 0),
            "the directory is one block"
        );

        let mut newest = None;
        for segment in 0..segments {
            let entry = DIRECTORY_HEADER + segment * 32;
            let at = Extent::unpack(u64_at(&block, entry)).offset;
            let lines = read(image, at, u32_at(&block, entry + 8) as usize * 20);
            for line in (0..lines.len()).step_by(20) {
                if u64_at(&lines, line) == page.0 {
                    newest = Some((entry, at, line));
                }
            }
        }
        let (entry, at, line) = newest.unwrap();
        let mut lines = read(image, at, u32_at(&block, entry + 8) as usize * 20);
        lines[line + 8..line + 16].copy_from_slice(&extent.pack().to_le_bytes());
        image.write(PAGES, at, &lines);
        block[entry + 12..entry + 16].copy_from_slice(&crc32c::crc32c(&lines).to_le_bytes());
        image.write(PAGES, block_at, &block);

        let crc = crc32c::crc32c(&block);
        for at in SUPERBLOCKS {
            superblock = read(image, at, 512);
            superblock[92..96].copy_from_slice(&crc.to_le_bytes());
            superblock[20..24].fill(0);
            let crc = crc32c::crc32c(&superblock);
            superblock[20..24].copy_from_slice(&crc.to_le_bytes());
            image.write(PAGES, at, &superblock);
        }
    }

    fn read(image: &SimImage, at: u64, len: usize) -> Vec<u8> {
        let bytes = image.read(PAGES, at..at + len as u64).unwrap();
        assert_eq!(bytes.len(), len);
        bytes
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }
}
