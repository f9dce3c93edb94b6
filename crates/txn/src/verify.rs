//! Checking a whole database while it is in use.
//!
//! Level by level, each tree is walked along its right links, on copies of its pages. Each page has
//! to be sound in itself (the pool has checked its checksum, identity and stamp), each low fence has
//! to be the high fence on its left, and each child has to be where its parent says. Pages that
//! are split meanwhile do not disturb this: a page's low fence and the chain to its right stay true
//! for a copy of its left neighbour. Then every page that exists has to have been reached once, the
//! space map has to fit the pages, what is on disk beneath pages that were in memory has to be what was
//! written there, and the log has to be readable up to what is durable.
//!
//! It runs as a task of the engine's, since it holds off checkpoints while it reads the log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use futures::channel::oneshot;
use futures::stream::iter;
use treering_blink::{Image, Step, TreeRef, check};
use treering_bufpool::Read;
use treering_pagefile::{FileErrorKind, PageId};

use crate::catalog::CATALOG;
use crate::engine::Engine;
use crate::error::Error;
use crate::log::LogReader;
use crate::verify_large::large_values;

/// What [`Engine::verify`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Trees, without the catalog.
    pub trees: usize,
    /// Pages that were checked.
    pub pages: u64,
    /// Keys in all trees, without the catalog.
    pub keys: u64,
    /// Keys among them whose values are in pages of their own, which are counted as pages, too.
    pub large_values: u64,
    /// Levels of the highest tree.
    pub height: u8,
    /// Log records behind the last checkpoint that were read back.
    pub log_records: u64,
    /// Whether the space map could be compared: not while pages are written all the time.
    pub space_checked: bool,
    /// What is wrong, a line each, naming the place; empty if all is well.
    pub problems: Vec<String>,
}

/// Buffers for what is on disk beneath pages in memory, together; of one page if that is more.
const BENEATH_BYTES: usize = 128 << 10;
/// Problems are collected up to this many.
const PROBLEMS_MAX: usize = 1000;

impl Engine {
    /// Checks the whole database. Writes a checkpoint first, unless it is open for reading only: then
    /// pages that the log's replay has changed are checked as they are in memory.
    ///
    /// # Errors
    /// What keeps it from checking; what is wrong with the database is in the report.
    pub async fn verify(self: &Arc<Self>) -> Result<Report, Error> {
        if !self.read_only {
            self.checkpoint().await?;
        }
        let (done, report) = oneshot::channel();
        let engine = Arc::clone(self);
        self.begin(async move {
            let report = Verifier::new(&engine).run().await;
            // The future may be gone: then nobody wants to know.
            let _ = done.send(report);
        })?;
        report.await.unwrap_or(Err(Error::Closed))
    }
}

pub(crate) struct Verifier<'e> {
    pub(crate) engine: &'e Engine,
    pub(crate) report: Report,
    pub(crate) reached: HashSet<PageId>,
    /// Pages that were in memory, so that nobody has read what is on disk of them.
    in_memory: Vec<PageId>,
    /// Ids that pages of bulk loads under way may have: first and number.
    pub(crate) loading: Vec<(PageId, u64)>,
}

/// A page of one level, as its parents named it: by its id, with its separator.
type Children = HashMap<PageId, Vec<u8>>;

impl<'e> Verifier<'e> {
    fn new(engine: &'e Engine) -> Self {
        Self {
            engine,
            report: Report::default(),
            reached: HashSet::new(),
            in_memory: Vec::new(),
            loading: Vec::new(),
        }
    }

    async fn run(mut self) -> Result<Report, Error> {
        // Splits do not disturb the walk, merges would.
        // Nor is there a deferred change then, whose body no leaf refers to.
        let _turn = self.engine.overlays.turn.enter_async().await;
        let _no_merge = self.engine.merging.enter_async().await;
        let _ids_kept = self.engine.pool().keep_ids();
        // Before and after, so that no value is seen as pages but not as one that no leaf has yet.
        let pool = self.engine.pool();
        let mut unattached = pool.unattached_values();
        self.loading = self.engine.loads.ids();
        let existing = pool.pages();
        unattached.extend(pool.unattached_values());
        self.loading.extend(self.engine.loads.ids());
        let trees = self.engine.trees();
        self.report.trees = trees.len();
        self.check_tree("the catalog", CATALOG).await?;
        self.report.keys = 0;
        for info in trees {
            let name = format!("tree {:?}", String::from_utf8_lossy(&info.name));
            self.check_tree(&name, info.tree).await?;
        }
        let (keys, height) = (self.report.keys, self.report.height);
        for (_, tree) in self.engine.catalog.drops() {
            self.check_tree("a tree that is being dropped", tree).await?;
        }
        (self.report.keys, self.report.height) = (keys, height);
        self.check_reached(&existing, &unattached);
        self.check_space();
        self.check_beneath().await?;
        self.check_log().await?;
        if !self.report.problems.is_empty() {
            // Deferred changes and loads that the closing stops leave to the next opening what is
            // theirs, and what kept them from going on beside this ends with them.
            self.engine.check()?;
        }
        Ok(self.report)
    }

    pub(crate) fn problem(&mut self, what: String) {
        if self.report.problems.len() < PROBLEMS_MAX {
            self.report.problems.push(what);
        }
    }

    /// Every page that exists is in a tree, or of a value. Where the trees are damaged, they are not to blame.
    fn check_reached(&mut self, existing: &[PageId], unattached: &[(PageId, u64)]) {
        let lost = self.lost(existing, unattached);
        match lost.len() {
            0 => {}
            count if !self.report.problems.is_empty() => self.problem(format!(
                "{count} pages in the page map were not reached, the first is {}: if the damage \
                 above is not on the way to them, they are in no tree",
                lost[0]
            )),
            _ => {
                for page in lost {
                    self.problem(format!("{page} is in the page map, but in no tree"));
                }
            }
        }
    }

    async fn check_tree(&mut self, name: &str, tree: TreeRef) -> Result<(), Error> {
        let place = format!("{name}, the root, {}", tree.root);
        let Some(root) = self.copy(&place, tree.root).await? else { return Ok(()) };
        let mut level = root.page().level();
        // The root may grow meanwhile: the levels below this copy stay what they are.
        let mut root = Some(root);
        self.report.height = self.report.height.max(level.saturating_add(1));
        let mut first = tree.root;
        let mut known = Children::from([(tree.root, Vec::new())]);
        loop {
            let children = self.check_level(name, tree, level, first, known, root.take()).await?;
            let Some((next, below)) = children else { return Ok(()) };
            if level == 0 {
                return Ok(());
            }
            (first, known, level) = (next, below, level - 1);
        }
    }

    /// Walks one level from its left-most page, of which there may be a copy already; `known` is what
    /// the parents say of the level. Returns the same for the level below.
    async fn check_level(
        &mut self,
        name: &str,
        tree: TreeRef,
        level: u8,
        first: PageId,
        mut known: Children,
        mut first_image: Option<Image>,
    ) -> Result<Option<(PageId, Children)>, Error> {
        let mut below = Children::new();
        let mut first_below = None;
        let mut next = Some(first);
        let mut expected_low = known.get(&first).cloned().unwrap_or_default();
        let mut left_unposted = false;
        let mut left: Option<PageId> = None;
        while let Some(id) = next {
            let place = format!("{name}, level {level}, {id}");
            if !self.reached.insert(id) {
                self.problem(match left {
                    Some(left) => format!("{place} is reached twice: by the right link of {left}"),
                    None => format!("{place} is reached twice: as the first child of its parent"),
                });
                return Ok(None);
            }
            let image = match first_image.take() {
                Some(image) => Some(image),
                None => self.copy(&linked(&place, left), id).await?,
            };
            let Some(image) = image else {
                // Its right link is lost: the walk goes on at the next page that the parents know,
                // which is the one that should be here if they do not know this one.
                left = None;
                let here = known.remove(&id).is_some();
                let behind = |separator: &Vec<u8>| match here {
                    true => *separator > expected_low,
                    false => *separator >= expected_low,
                };
                let beyond = known.iter().filter(|(_, separator)| behind(separator));
                let Some((page, low)) = beyond.min_by(|a, b| a.1.cmp(b.1)) else { break };
                (next, expected_low) = (Some(*page), low.clone());
                continue;
            };
            let page = image.page();
            self.report.pages += 1;
            for fault in check(&page, self.engine.pool().page_size()) {
                self.problem(format!("{place}: {fault}"));
            }
            if page.tree() != tree.id || page.level() != level {
                self.problem(format!(
                    "{place} says that it is of tree {}, level {}",
                    page.tree(),
                    page.level()
                ));
                return Ok(None);
            }
            let (mut low, mut high) = (Vec::new(), Vec::new());
            page.low_into(&mut low);
            if low != expected_low {
                self.problem(format!(
                    "{place}: its low fence \"{}\" is not the high fence \"{}\" {}",
                    low.escape_ascii(),
                    expected_low.escape_ascii(),
                    left.map_or("on its left".into(), |left| format!("of {left} on its left")),
                ));
            }
            match known.remove(&id) {
                Some(separator) if separator != low => self.problem(format!(
                    "{place}: its low fence is \"{}\", and its parent's separator \"{}\"",
                    low.escape_ascii(),
                    separator.escape_ascii()
                )),
                None if !left_unposted && !self.parent_knows(tree, level, &low, id).await? => {
                    self.problem(format!("{place} is not in its parent, and not flagged to be"));
                }
                _ => {}
            }
            if level == 0 {
                self.report.keys += page.live_len() as u64;
                for large in large_values(&page) {
                    self.check_value(&place, tree, large).await?;
                }
            } else {
                for slot in 0..page.len() {
                    let mut separator = Vec::new();
                    page.key_into(slot, &mut separator);
                    first_below.get_or_insert(page.child(slot));
                    below.insert(page.child(slot), separator);
                }
            }
            let bounded = page.high_into(&mut high);
            if bounded != page.right().is_some() {
                self.problem(format!(
                    "{place} has {} right link and {} high fence",
                    if page.right().is_some() { "a" } else { "no" },
                    if bounded { "a" } else { "no" },
                ));
            }
            left_unposted = page.unposted();
            left = Some(id);
            expected_low = high;
            next = page.right();
        }
        for (child, separator) in known {
            self.problem(format!(
                "{name}, level {level}: {child} at separator \"{}\" is not in the chain of right \
                 links",
                separator.escape_ascii()
            ));
        }
        Ok(first_below.map(|first| (first, below)))
    }

    /// Whether a parent names `child` by now: it may have been told since it was looked at. What a
    /// damaged parent says is not held against the child.
    async fn parent_knows(
        &self,
        tree: TreeRef,
        level: u8,
        low: &[u8],
        child: PageId,
    ) -> Result<bool, Error> {
        loop {
            match self.engine.forest.parent_knows(tree, level, low, child)? {
                Step::Done(knows) => return Ok(knows),
                Step::Fetch(pages) => match self.engine.pool().fetch_many(&pages).await {
                    Err(error) if error.kind() == FileErrorKind::Damaged => return Ok(true),
                    fetched => fetched?,
                },
            }
        }
    }

    /// A copy of a page; `None`, with the problem noted, if it is damaged or missing.
    async fn copy(&mut self, place: &str, id: PageId) -> Result<Option<Image>, Error> {
        let pool = self.engine.pool();
        let mut fetched = false;
        loop {
            self.engine.health.check()?;
            match pool.read_page(id, |words| Image::copy_of(words)) {
                Read::Done(image) => {
                    if !fetched {
                        self.in_memory.push(id);
                    }
                    return Ok(Some(image));
                }
                Read::Free => {
                    self.problem(format!("{place} is linked to and does not exist"));
                    return Ok(None);
                }
                Read::Absent => match pool.fetch(id).await {
                    Err(error) if error.kind() == FileErrorKind::Damaged => {
                        self.problem(format!("{place}: {error}"));
                        return Ok(None);
                    }
                    result => {
                        result?;
                        fetched = true;
                    }
                },
            }
        }
    }

    /// Reads from disk what was found in memory, some pages at once.
    async fn check_beneath(&mut self) -> Result<(), Error> {
        let engine = self.engine;
        let pages = std::mem::take(&mut self.in_memory);
        let at_once = (BENEATH_BYTES / engine.pool().page_size()).max(1);
        let checks = iter(pages).map(|page| engine.pool().check_beneath(page));
        let mut checks = checks.buffered(at_once);
        while let Some(checked) = checks.next().await {
            match checked {
                Err(error) if error.kind() == FileErrorKind::Damaged => {
                    self.problem(format!("beneath the cache: {error}"));
                }
                checked => checked?,
            }
            engine.check()?;
        }
        Ok(())
    }

    /// Compares the space map with where the pages are, if nothing is written just then.
    fn check_space(&mut self) {
        let pool = self.engine.pool();
        for _ in 0..3 {
            let (before, settling) = (pool.stats(), pool.settlings());
            let extents = pool.extents();
            let faults = pool.file().check_space(extents.into_iter());
            let after = pool.stats();
            let quiet = before.writes_in_flight == 0 && after.writes_in_flight == 0;
            let settled = settling == pool.settlings() && settling.is_multiple_of(2);
            if quiet && settled && before.writes == after.writes {
                self.report.space_checked = true;
                for fault in faults {
                    self.problem(format!("space map: {fault}"));
                }
                return;
            }
        }
    }

    /// Reads the log back from the last checkpoint to what is durable.
    async fn check_log(&mut self) -> Result<(), Error> {
        let engine = self.engine;
        let _no_checkpoint = engine.checkpoints.exclusive.enter_async().await;
        let Some((position, mut sequence)) = engine.checkpoints.last() else { return Ok(()) };
        let durable = engine.log.durable_sequence();
        let disk = Arc::clone(engine.pool().file().disk());
        let opened = LogReader::open(disk, engine.incarnation, position, sequence).await;
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(error) if error.kind() == FileErrorKind::Damaged => {
                self.problem(format!("log: {error}"));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        while sequence < durable && !engine.door.is_closed() {
            match reader.next().await {
                Ok(Some(record)) => {
                    sequence = record.sequence;
                    self.report.log_records += 1;
                }
                Ok(None) => {
                    self.problem(format!(
                        "log: it ends after record {sequence}, and {durable} was durable"
                    ));
                    return Ok(());
                }
                Err(error) if error.kind() == FileErrorKind::Damaged => {
                    self.problem(format!("log: {error}"));
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The place of a page, with where the link to it is.
fn linked(place: &str, left: Option<PageId>) -> String {
    match left {
        Some(left) => format!("{place} (right of {left})"),
        None => place.to_owned(),
    }
}
