//! The trees of a database by name: opening, making, renaming, listing.

use std::sync::Arc;

use treering_blink::TreeRef;

use crate::catalog::{TreeInfo, options_room};
use crate::engine::Engine;
use crate::error::Error;
use crate::tree_options::TreeOptions;

impl Engine {
    /// The tree of that name with the default options, made durably if there is none.
    ///
    /// # Errors
    /// As [`Engine::tree_with`].
    pub async fn tree(self: &Arc<Self>, name: &[u8]) -> Result<TreeRef, Error> {
        self.tree_with(name, &TreeOptions::new()).await
    }

    /// The tree of that name, made durably with these options if there is none.
    ///
    /// Dropping the future may leave the tree made or not.
    ///
    /// # Errors
    /// [`Error::TreeDiffers`] if it was made with other options; a name, of the tree or of its key
    /// type, that is empty or too long; a full disk; what poisoned the engine.
    pub async fn tree_with(
        self: &Arc<Self>,
        name: &[u8],
        options: &TreeOptions,
    ) -> Result<TreeRef, Error> {
        self.check()?;
        self.check_tree_name(name)?;
        options.check(options_room(name, self.limits.max_record))?;
        if let Some(tree) = self.existing_tree(name, options)? {
            return Ok(tree);
        }
        let (tree, sequence) = self.create_as_record(name, options.clone()).await?;
        self.log.wait_durable(sequence).await?;
        Ok(tree)
    }

    /// The tree of that name, if there is one, whatever it was made with.
    pub fn find_tree(&self, name: &[u8]) -> Option<TreeRef> {
        self.catalog.find(name).map(|info| info.tree)
    }

    /// The tree of that name, if there is one that was made with these options.
    ///
    /// # Errors
    /// [`Error::TreeDiffers`] if it was made with others.
    pub fn existing_tree(
        &self,
        name: &[u8],
        options: &TreeOptions,
    ) -> Result<Option<TreeRef>, Error> {
        let Some(info) = self.catalog.find(name) else { return Ok(None) };
        match info.options.mismatch(options) {
            None => Ok(Some(info.tree)),
            Some(what) => {
                let tree = String::from_utf8_lossy(name).into_owned();
                Err(Error::TreeDiffers { tree, what })
            }
        }
    }

    /// Gives a tree another name, durably. It stays the same tree: whoever has it open notices
    /// nothing.
    ///
    /// Dropping the future may leave the tree renamed or not.
    ///
    /// # Errors
    /// [`Error::NoSuchTree`], [`Error::TreeExists`]; a new name that is empty or too long; a full
    /// disk; what poisoned the engine.
    pub async fn rename(self: &Arc<Self>, old: &[u8], new: &[u8]) -> Result<(), Error> {
        self.check()?;
        self.check_tree_name(new)?;
        let sequence = self.rename_as_record(old, new).await?;
        Ok(self.log.wait_durable(sequence).await?)
    }

    /// All trees, by name.
    pub fn trees(&self) -> Vec<TreeInfo> {
        self.catalog.list()
    }

    /// What is known of a tree; `None` for the catalog, and if it is not there any more.
    pub fn tree_info(&self, tree: TreeRef) -> Option<TreeInfo> {
        self.catalog.info(tree.id)
    }

    fn check_tree_name(&self, name: &[u8]) -> Result<(), Error> {
        // The catalog puts a byte in front.
        let max = self.limits.max_key - 1;
        match name.len() {
            1.. if name.len() <= max => Ok(()),
            len => Err(Error::TreeName { len, max }),
        }
    }
}
