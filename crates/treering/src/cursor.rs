//! Cursors: one entry at a time, in either direction.
//!
//! A cursor stands on a key, not on a place in a page: each step looks for the nearest entry as the
//! tree is at the moment of the step. So nothing that happens between two steps can make it skip a
//! key that is there all along, or return one twice in the same direction.

use std::sync::Arc;

use treering_blink::{Direction, From, Nearest};

use crate::error::Error;
use crate::tree::Tree;

/// Walks through a tree in both directions, in any mix of steps.
///
/// Each step goes to the nearest key in its direction at the moment of the step, whether or not the
/// key that the cursor stands on still exists. What it stands on is a copy: between two steps it
/// holds nothing in the cache. A step completes in its first poll when what it needs is in memory;
/// there is no read-ahead, which is what [`Tree::range`] is for.
///
/// | where it stands | `next` | `prev` |
/// |---|---|---|
/// | nowhere yet (new) | to the first key | to the last key |
/// | on a key | to the least key above it | to the greatest below it |
/// | behind the last key (`next`, `seek` or `first` found none) | stays, `false` | to the last key |
/// | before the first key (`prev`, `seek_for_prev` or `last` found none) | to the first key | stays, `false` |
///
/// A step whose future is dropped, or that fails, leaves the cursor where it was.
///
/// # Errors
/// All steps fail as [`Tree::get`] does.
#[derive(Debug)]
pub struct Cursor {
    tree: Tree,
    stand: Stand,
    /// What it stands on, if it does.
    here: Nearest,
    /// For the next step.
    spare: Nearest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Nowhere,
    Here,
    BeforeFirst,
    BehindLast,
}

impl Cursor {
    pub(crate) fn new(tree: Tree) -> Self {
        let (here, spare) = (Nearest::new(tree.id()), Nearest::new(tree.id()));
        Self { tree, stand: Stand::Nowhere, here, spare }
    }

    /// What it stands on: a copy of the key and its value as they were when it came there.
    pub fn entry(&self) -> Option<(&[u8], &[u8])> {
        (self.stand == Stand::Here).then(|| (self.here.key(), self.here.value()))
    }

    /// The key it stands on.
    pub fn key(&self) -> Option<&[u8]> {
        self.entry().map(|(key, _)| key)
    }

    /// The value of the key it stands on, as it was when it came there.
    pub fn value(&self) -> Option<&[u8]> {
        self.entry().map(|(_, value)| value)
    }

    /// Goes to the first key at or after `key`; says whether there is one.
    ///
    /// # Errors
    /// As [`Tree::get`], like all steps.
    pub async fn seek(&mut self, key: impl AsRef<[u8]> + Send) -> Result<bool, Error> {
        let from = From::At(key.as_ref().to_vec());
        drop(key);
        self.jump(Direction::Forward, from).await
    }

    /// Goes to the last key at or before `key`; says whether there is one.
    ///
    /// # Errors
    /// As [`Tree::get`], like all steps.
    pub async fn seek_for_prev(&mut self, key: impl AsRef<[u8]> + Send) -> Result<bool, Error> {
        let from = From::At(key.as_ref().to_vec());
        drop(key);
        self.jump(Direction::Backward, from).await
    }

    /// Goes to the first key; false if the tree is empty.
    ///
    /// # Errors
    /// As [`Tree::get`], like all steps.
    pub async fn first(&mut self) -> Result<bool, Error> {
        self.jump(Direction::Forward, From::End).await
    }

    /// Goes to the last key; false if the tree is empty.
    ///
    /// # Errors
    /// As [`Tree::get`], like all steps.
    pub async fn last(&mut self) -> Result<bool, Error> {
        self.jump(Direction::Backward, From::End).await
    }

    /// Goes to the least key above the one it stands on; says whether there is one.
    ///
    /// # Errors
    /// As [`Tree::get`], like all steps.
    pub async fn next(&mut self) -> Result<bool, Error> {
        match self.stand {
            Stand::Here => self.step(Direction::Forward).await,
            Stand::BehindLast => Ok(false),
            Stand::Nowhere | Stand::BeforeFirst => self.first().await,
        }
    }

    /// Goes to the greatest key below the one it stands on; says whether there is one.
    ///
    /// # Errors
    /// As [`Tree::get`], like all steps.
    pub async fn prev(&mut self) -> Result<bool, Error> {
        match self.stand {
            Stand::Here => self.step(Direction::Backward).await,
            Stand::BeforeFirst => Ok(false),
            Stand::Nowhere | Stand::BehindLast => self.last().await,
        }
    }

    async fn jump(&mut self, direction: Direction, from: From) -> Result<bool, Error> {
        let mut search = self.take_spare();
        search.aim(direction, from);
        self.find(direction, search).await
    }

    async fn step(&mut self, direction: Direction) -> Result<bool, Error> {
        let mut search = self.take_spare();
        search.aim_past(direction, &self.here);
        self.find(direction, search).await
    }

    /// Dropping a step loses the spare search, and nothing else.
    fn take_spare(&mut self) -> Nearest {
        std::mem::replace(&mut self.spare, Nearest::new(self.tree.id()))
    }

    async fn find(&mut self, direction: Direction, mut search: Nearest) -> Result<bool, Error> {
        let engine = &self.tree.database().shared.engine;
        let found = match engine.nearest_now(&mut search)? {
            Some(found) => found,
            None => {
                let (ended, found) = Arc::clone(engine).nearest(search).await?;
                search = ended;
                found
            }
        };
        self.stand = match (found, direction) {
            (true, _) => Stand::Here,
            (false, Direction::Forward) => Stand::BehindLast,
            (false, Direction::Backward) => Stand::BeforeFirst,
        };
        self.spare = std::mem::replace(&mut self.here, search);
        Ok(found)
    }
}
