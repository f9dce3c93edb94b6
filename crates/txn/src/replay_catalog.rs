//! Recovery of the catalog: as of the checkpoint, and what the log says happened to it since.

use treering_blink::{Chunk, Direction, From, Scan, Step};
use treering_pagefile::{FileError, FileErrorKind};

use crate::catalog::{CATALOG, OPENINGS_KEY};
use crate::create_tree::{Change, as_edits, creation, renaming};
use crate::error::Error;
use crate::load::{LoadEntry, parse_load_key};
use crate::open::make_root;
use crate::replay::Replay;
use crate::tree_options::TreeOptions;
use crate::unique::next_opening;

impl Replay {
    /// Reads the catalog as of the checkpoint.
    pub(crate) async fn load_catalog(&self) -> Result<(), Error> {
        let mut scan = Scan::new(CATALOG, Direction::Forward, From::End);
        let mut chunk = Chunk::default();
        while scan.next().is_some() {
            match self.forest.scan(&mut scan, &mut chunk)? {
                Step::Fetch(pages) => self.forest.pool().fetch_many(&pages).await?,
                Step::Done(()) => {
                    for (key, value) in chunk.iter() {
                        match parse_load_key(key) {
                            Some(id) => self.loads.note(id, &decode_load(value)?),
                            None => self.catalog.load(key, value)?,
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Repeats the making of a tree.
    pub(crate) async fn create_tree(
        &self,
        id: u32,
        name: &[u8],
        options: &[u8],
    ) -> Result<(), Error> {
        let options = TreeOptions::decode(options).ok_or_else(|| {
            damaged(format!("the log makes tree {id} with options that are none"))
        })?;
        let tree = make_root(self.forest.pool(), id, self.epoch).await?;
        self.change_catalog(&creation(name, tree, &options)).await?;
        self.catalog.add(name, tree, options);
        Ok(())
    }

    /// Repeats the renaming of a tree.
    pub(crate) async fn rename_tree(&self, id: u32, name: &[u8]) -> Result<(), Error> {
        let info = self.catalog.info(id).ok_or_else(|| unknown_tree(id))?;
        self.change_catalog(&renaming(&info.name, name, info.tree, &info.options)).await?;
        self.catalog.rename(id, name);
        Ok(())
    }

    /// Counts this opening. Like all that a replay does it becomes durable with the first
    /// checkpoint, before anybody can be given a number that it makes unique.
    pub(crate) async fn count_opening(&self) -> Result<(), Error> {
        let opening = next_opening(self.catalog.openings())?;
        let count = opening.to_le_bytes().to_vec();
        self.change_catalog(&[(OPENINGS_KEY.to_vec(), Some(count))]).await?;
        self.catalog.set_openings(opening);
        Ok(())
    }

    pub(crate) async fn change_catalog(&self, changes: &[Change]) -> Result<(), Error> {
        self.edit_all(CATALOG, &as_edits(changes)).await
    }
}

fn decode_load(value: &[u8]) -> Result<LoadEntry, FileError> {
    LoadEntry::decode(value)
        .ok_or_else(|| damaged("the catalog has an entry of a bulk load that is none".into()))
}

/// The log speaks of a tree that there is not.
pub(crate) fn unknown_tree(id: u32) -> FileError {
    FileError::new(
        FileErrorKind::Damaged,
        format!("the log changes tree {id}, which the catalog does not have"),
    )
}

fn damaged(message: String) -> FileError {
    FileError::new(FileErrorKind::Damaged, message)
}
