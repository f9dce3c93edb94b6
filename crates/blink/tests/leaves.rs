//! Latching the leaves of a batch where the pages above know less than they should: splits that no parent
//! was told of, ways from before the tree grew, and links that are damaged.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use treering_blink::{
    Blocked, Edit, Forest, Gap, Leaves, PageSpec, Stored, TreeError, TreeRef, Way, build,
};
use treering_bufpool::{Pool, PoolOptions, Refusal};
use treering_pagefile::sim::Sim;
use treering_pagefile::{Disk, Health, PageFile, PageId, Room};

const PAGE: usize = 512;
const TREE: u32 = 7;
const EPOCH: u64 = 1;

struct Setup {
    sim: Sim,
    forest: Forest,
}

fn setup() -> Setup {
    let sim = Sim::new(1);
    let disk: Arc<dyn Disk> = sim.disk();
    let pool = sim.run(async {
        let health = Arc::new(Health::default());
        let file = PageFile::create(disk, Arc::clone(&health), PAGE, 1).await.unwrap();
        let options = PoolOptions { frames: 1024, staging: 4, captures: 4 };
        Pool::new(file, health, &[], options).unwrap()
    });
    Setup { sim, forest: Forest::new(pool.unwrap()) }
}

impl Setup {
    /// What `attempt` comes to when there is space.
    fn with_space<T>(&self, mut attempt: impl FnMut() -> Result<T, Blocked>) -> T {
        loop {
            match attempt() {
                Ok(done) => return done,
                Err(Blocked::Refused(Refusal::Space)) => {
                    self.sim.run(self.forest.pool().file().grow()).unwrap().unwrap();
                }
                Err(blocked) => panic!("{blocked:?}"),
            }
        }
    }

    /// A page of the tree, or of another one.
    fn page(&self, spec: PageSpec<'_>, entries: &[(&[u8], &[u8])]) -> PageId {
        self.with_space(|| {
            let page = self.forest.pool().try_new_page(Room::Growing)?;
            build(&spec, entries).unwrap().write_to(page.words());
            let id = page.id();
            page.publish(EPOCH);
            Ok(id)
        })
    }

    fn empty_tree(&self) -> TreeRef {
        TreeRef::new(TREE, self.page(leaf(b"", None), &[]))
    }

    /// Puts keys in one step, and tells no parent of the splits; returns how many there were.
    fn put(&self, tree: TreeRef, keys: &[Vec<u8>]) -> usize {
        let value = [1; 100];
        let edit = |(index, key)| Edit { index, key, value: Some(Stored::Inline(&value)) };
        let edits: Vec<_> = keys.iter().map(Vec::as_slice).enumerate().map(edit).collect();
        let mut ways = Vec::new();
        self.with_space(|| {
            let leaves = latch(&self.forest, tree, keys, &mut ways, usize::MAX).unwrap()?;
            Ok(leaves.plan(EPOCH, &edits)?.commit(EPOCH, |_| {}).len())
        })
    }
}

fn leaf<'a>(low: &'a [u8], high: Option<&'a [u8]>) -> PageSpec<'a> {
    PageSpec { page_size: PAGE, tree: TREE, level: 0, low, high, gap: Gap::NONE }
}

fn latch<'f>(
    forest: &'f Forest,
    tree: TreeRef,
    keys: &[Vec<u8>],
    ways: &mut Vec<Way>,
    leaves_max: usize,
) -> Result<Result<Leaves<'f>, Blocked>, TreeError> {
    let keys = keys.iter().map(|key| (tree, key.as_slice()));
    forest.latch_leaves(keys, ways, leaves_max)
}

fn keys(numbers: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    numbers.into_iter().map(|number| format!("{number:06}").into_bytes()).collect()
}

/// A batch had split a leaf into more pages than right links are followed latch by latch, and their parent
/// could not be told. Since leaves were found by what the parent says alone, whoever wanted one of the last
/// pages latched the first ones again and again, for ever, and on the engine's thread that kept the
/// parent from ever being told.
#[test]
fn a_leaf_behind_many_splits_that_no_parent_knows_is_found() {
    let setup = setup();
    let tree = setup.empty_tree();
    setup.put(tree, &keys(0..8));
    let unposted = setup.put(tree, &keys(100..700));
    assert!(unposted > 100, "{unposted}");
    for wanted in
        [vec![699], vec![0, 699], vec![0, 300, 301, 699], (0..8).chain(100..700).collect()]
    {
        let wanted = keys(wanted);
        let leaves = latch(&setup.forest, tree, &wanted, &mut Vec::new(), usize::MAX);
        let leaves = leaves.unwrap().unwrap();
        for (index, key) in wanted.iter().enumerate() {
            assert!(leaves.contains(index, key), "{key:?} of {}", wanted.len());
        }
    }
    // No more leaves than may be.
    let two = latch(&setup.forest, tree, &keys([0, 699]), &mut Vec::new(), 1);
    assert!(matches!(two.unwrap(), Err(Blocked::TooManyLeaves)));
}

/// Ways that lead to a root which was a leaf then, and to leaves that are far to the left by now.
#[test]
fn ways_from_before_the_tree_grew_lead_on() {
    let setup = setup();
    let tree = setup.empty_tree();
    let wanted = keys([5, 200, 400, 650]);
    let mut ways = Vec::new();
    drop(latch(&setup.forest, tree, &wanted, &mut ways, 1).unwrap().unwrap());
    assert!(ways.iter().all(|way| way.page() == Some(tree.root)));
    for numbers in [0..8, 100..700] {
        setup.put(tree, &keys(numbers.clone()));
        let leaves = latch(&setup.forest, tree, &wanted, &mut ways, usize::MAX).unwrap().unwrap();
        for (index, key) in wanted.iter().enumerate() {
            let there = leaves.contains(index, key);
            assert_eq!(there, index == 0 || numbers.end == 700, "{key:?} behind {numbers:?}");
        }
    }
}

/// A parent that leads to a page which is free, another tree's, or to the left or the right of where it
/// should be: the batch is told that the tree is damaged, and not to try again.
#[test]
fn a_damaged_parent_is_an_error_for_a_batch_and_not_a_reason_to_try_for_ever() {
    let setup = setup();
    let of_another = PageSpec { tree: 8, ..leaf(b"", None) };
    let inner = PageSpec { level: 1, ..leaf(b"", None) };
    let nothing: &[(&[u8], &[u8])] = &[];
    for wrong in [
        PageId(10_000),
        setup.page(of_another, nothing),
        setup.page(leaf(b"", Some(b"b")), nothing),
        setup.page(leaf(b"n", None), nothing),
        setup.page(inner, &[(b"", &PageId(10_000).0.to_le_bytes())]),
    ] {
        let right = setup.page(leaf(b"", Some(b"k")), nothing);
        let (right, wrong_child) = (right.0.to_le_bytes(), wrong.0.to_le_bytes());
        let children: &[(&[u8], &[u8])] = &[(b"", &right), (b"k", &wrong_child)];
        let tree = TreeRef::new(TREE, setup.page(inner, children));
        for wanted in [vec![b"m".to_vec()], vec![b"a".to_vec(), b"m".to_vec()]] {
            let error = latch(&setup.forest, tree, &wanted, &mut Vec::new(), 10).err();
            assert!(matches!(error, Some(TreeError::Lost { .. })), "{wrong}: {error:?}");
        }
        let beside = latch(&setup.forest, tree, &[b"a".to_vec()], &mut Vec::new(), 10);
        assert_eq!(beside.unwrap().unwrap().len(), 1);
    }
}
