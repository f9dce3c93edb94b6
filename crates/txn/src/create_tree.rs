//! Making a tree, and giving one another name: the root page and the entry in the catalog, in one
//! step like any other change. Engine records do it, one at a time.

use treering_blink::{Edit, Gap, PageSpec, Reference, Stored, TreeRef, Way, build};
use treering_bufpool::{NewPage, Refusal};
use treering_pagefile::{PageId, Room};

use crate::attempt::Attempt;
use crate::body::{Entry, encode};
use crate::catalog::{CATALOG, NEXT_KEY, encode_tree, tree_key};
use crate::engine::Engine;
use crate::error::Error;
use crate::records::Waiting;
use crate::tree_options::TreeOptions;

impl Engine {
    /// Makes a tree unless there is one of that name, which then has to have been made with the same
    /// options. Returns the sequence after which it is there. One caller at a time.
    pub(crate) async fn create_tree_now(
        &self,
        name: &[u8],
        options: &TreeOptions,
    ) -> Result<(TreeRef, u64), Error> {
        if let Some(tree) = self.existing_tree(name, options)? {
            return Ok((tree, self.log.last_sequence()));
        }
        let id = self.catalog.next_id();
        if id == u32::MAX {
            return Err(Error::Exhausted { what: "numbers of trees" });
        }
        let mut waiting = Waiting::new(self);
        loop {
            waiting.listen();
            match self.try_create(name, id, options, &mut waiting.ways) {
                Ok((tree, sequence)) => {
                    self.catalog.add(name, tree, options.clone());
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
        options: &TreeOptions,
        ways: &mut Vec<Way>,
    ) -> Result<(TreeRef, u64), Attempt> {
        let (root, tree) = self.new_root(id, options).map_err(Attempt::Refused)?;
        let mut encoded = Vec::new();
        options.encode(&mut encoded);
        let entry = Entry::CreateTree { tree: id, name, options: &encoded };
        let edits = creation(name, tree, options);
        Ok((tree, self.try_change_catalog(entry, &edits, Some(root), ways)?))
    }

    /// Gives a tree another name. Returns the sequence after which it has it. One caller at a time.
    pub(crate) async fn rename_tree_now(&self, old: &[u8], new: &[u8]) -> Result<u64, Error> {
        let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let info = self
            .catalog
            .find(old)
            .ok_or_else(|| Error::NoSuchTree { tree: format!("{:?}", shown(old)) })?;
        if old == new {
            return Ok(self.log.last_sequence());
        }
        if self.catalog.find(new).is_some() {
            return Err(Error::TreeExists { tree: shown(new) });
        }
        let room = crate::catalog::options_room(new, self.limits.max_record);
        info.options.check(room)?;
        let entry = Entry::RenameTree { tree: info.tree.id, name: new };
        let edits = renaming(old, new, info.tree, &info.options);
        let mut waiting = Waiting::new(self);
        loop {
            waiting.listen();
            match self.try_change_catalog(entry, &edits, None, &mut waiting.ways) {
                Ok(sequence) => {
                    self.catalog.rename(info.tree.id, new);
                    return Ok(sequence);
                }
                Err(Attempt::Failed(error)) => return Err(error),
                Err(lacking) => waiting.wait(lacking).await?,
            }
        }
    }

    /// Tries to log an entry and to make the changes of the catalog that it stands for, together
    /// with a new tree's root if there is one. Returns the sequence.
    pub(crate) fn try_change_catalog(
        &self,
        entry: Entry<'_>,
        changes: &[Change],
        root: Option<NewPage<'_>>,
        ways: &mut Vec<Way>,
    ) -> Result<u64, Attempt> {
        let _entered = self.enter().map_err(Attempt::Failed)?;
        let mut body = Vec::new();
        encode(entry, &mut body);
        let edits = as_edits(changes);
        let keys = edits.iter().map(|edit| (CATALOG, edit.key));
        let leaves = self.forest.latch_leaves(keys, ways, edits.len());
        let leaves = leaves.map_err(|error| Attempt::Failed(error.into()))??;
        // Under the latches: no later epoch can have touched these leaves.
        let epoch = self.log.epoch();
        let plan = leaves.plan(epoch, &edits)?;
        let applying = self.log.try_append(epoch, &body)?;
        let sequence = applying.sequence();
        if let Some(root) = root {
            root.publish(epoch);
        }
        let split = plan.commit(epoch, nothing_replaced);
        drop(applying);
        self.forest.post_now(|id| self.catalog.by_id(id), split, &*self.log);
        Ok(sequence)
    }

    fn new_root(&self, id: u32, options: &TreeOptions) -> Result<(NewPage<'_>, TreeRef), Refusal> {
        let root = self.pool().try_new_page(Room::Growing)?;
        write_empty_root(&root, id, self.pool().page_size());
        let tree = TreeRef { id, root: root.id(), gap: options.gap.of_leaves() };
        Ok((root, tree))
    }
}

/// The catalog has no large values.
pub(crate) fn nothing_replaced(references: &[Reference]) {
    tracing::error!(count = references.len(), "the catalog had references to large values");
}

/// A key of the catalog and its value from now on.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// The changes of the catalog that a new tree makes, in the order of their keys.
pub(crate) fn creation(name: &[u8], tree: TreeRef, options: &TreeOptions) -> [Change; 2] {
    let next = (tree.id + 1).to_le_bytes();
    [(NEXT_KEY.to_vec(), Some(next.to_vec())), (tree_key(name), Some(encode_tree(tree, options)))]
}

/// The changes of the catalog that a new name makes, in the order of their keys.
pub(crate) fn renaming(
    old: &[u8],
    new: &[u8],
    tree: TreeRef,
    options: &TreeOptions,
) -> [Change; 2] {
    let mut changes = [(tree_key(old), None), (tree_key(new), Some(encode_tree(tree, options)))];
    changes.sort();
    changes
}

/// Changes, in the order of their keys, as edits of leaves that are latched for just these keys.
pub(crate) fn as_edits(changes: &[Change]) -> Vec<Edit<'_>> {
    changes
        .iter()
        .enumerate()
        .map(|(index, (key, value))| Edit {
            index,
            key,
            value: value.as_deref().map(Stored::Inline),
        })
        .collect()
}

/// Makes a new page the root of an empty tree.
pub(crate) fn write_empty_root(root: &NewPage<'_>, tree: u32, page_size: usize) -> PageId {
    let spec = PageSpec { page_size, tree, level: 0, low: b"", high: None, gap: Gap::NONE };
    let image = build(&spec, &[]).expect("an empty page fits");
    image.write_to(root.words());
    root.id()
}
