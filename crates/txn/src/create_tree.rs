//! Making a tree: its root page and its entry in the catalog, in one step like any other change.

use treering_blink::{Edit, PageSpec, TreeRef, Way, build};
use treering_bufpool::NewPage;
use treering_pagefile::PageId;

use crate::attempt::Attempt;
use crate::body::{Entry, encode};
use crate::catalog::{CATALOG, NEXT_KEY, encode_tree};
use crate::engine::Engine;
use crate::error::Error;
use crate::records::Waiting;

impl Engine {
    /// Makes a tree unless there is one of that name. One caller at a time. Returns the sequence
    /// after which it is there.
    pub(crate) async fn create_tree_now(&self, name: &[u8]) -> Result<(TreeRef, u64), Error> {
        if let Some(tree) = self.catalog.find(name) {
            return Ok((tree, self.log.last_sequence()));
        }
        let id = self.catalog.next_id();
        let mut waiting = Waiting::new(self);
        loop {
            waiting.listen();
            match self.try_create(name, id, &mut waiting.ways) {
                Ok((tree, sequence)) => {
                    self.catalog.add(name, tree);
                    return Ok((tree, sequence));
                }
                Err(Attempt::Failed(error)) => return Err(error),
                Err(lacking) => waiting.wait(lacking).await?,
            }
        }
    }

    fn try_create(
        &self,
        name: &[u8],
        id: u32,
        ways: &mut Vec<Way>,
    ) -> Result<(TreeRef, u64), Attempt> {
        self.check().map_err(Attempt::Failed)?;
        let (root, tree) = self.new_root(id).map_err(Attempt::Refused)?;
        let mut body = Vec::new();
        encode(Entry::CreateTree { tree: id, name }, &mut body);
        let (next, entry) = ((id + 1).to_le_bytes(), encode_tree(tree));
        let edits = catalog_edits(name, &next, &entry);
        let keys = edits.iter().map(|edit| (CATALOG, edit.key));
        let leaves = self.forest.latch_leaves(keys, ways, edits.len());
        let leaves = leaves.map_err(|error| Attempt::Failed(error.into()))??;
        // Under the latches: no later epoch can have touched these leaves.
        let epoch = self.log.epoch();
        let plan = leaves.plan(epoch, &edits)?;
        let applying = self.log.try_append(epoch, &body)?;
        let sequence = applying.sequence();
        root.publish(epoch);
        let split = plan.commit(epoch);
        drop(applying);
        self.forest.post_now(|id| self.catalog.by_id(id), split, &*self.log);
        Ok((tree, sequence))
    }

    fn new_root(&self, id: u32) -> Result<(NewPage<'_>, TreeRef), treering_bufpool::Refusal> {
        let root = self.pool().try_new_page()?;
        write_empty_root(&root, id, self.pool().page_size());
        let tree = TreeRef { id, root: root.id() };
        Ok((root, tree))
    }
}

/// The changes of the catalog that a new tree makes, in the order of their keys.
pub(crate) fn catalog_edits<'e>(name: &'e [u8], next: &'e [u8], entry: &'e [u8]) -> [Edit<'e>; 2] {
    [
        Edit { index: 0, key: NEXT_KEY, value: Some(next) },
        Edit { index: 1, key: name, value: Some(entry) },
    ]
}

/// Makes a new page the root of an empty tree.
pub(crate) fn write_empty_root(root: &NewPage<'_>, tree: u32, page_size: usize) -> PageId {
    let spec = PageSpec { page_size, tree, level: 0, low: b"", high: None };
    let image = build(&spec, &[]).expect("an empty page fits");
    image.write_to(root.words());
    root.id()
}
