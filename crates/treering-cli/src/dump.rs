//! `dump`: all pairs as text, or the pages of the trees.

use std::path::Path;

use futures::StreamExt;
use indicatif::ProgressBar;
use treering::{Database, TreeOptions};

use crate::args::{DumpArgs, EngineArgs};
use crate::dot;
use crate::dump_format::{FIRST_LINE, escape_into, tree_header};
use crate::error::{Failure, Verdict};
use crate::open::{Missing, existing_tree, with_database};
use crate::output::{Output, counter};

/// Pairs between two looks at the progress bar.
const TICK: u64 = 1024;

pub(crate) async fn run(engine: &EngineArgs, args: DumpArgs) -> Result<Verdict, Failure> {
    let path = &args.database.database;
    with_database(engine, path, Missing::Refuse, async |database| {
        let trees = chosen(database, path, args.tree.as_deref())?;
        match (args.structure, args.dot) {
            (_, true) => dot::run(database, &trees, args.levels.unwrap_or(u8::MAX)).await,
            (true, false) => structure(database, &trees).await,
            (false, false) => pairs(database, &trees).await,
        }
    })
    .await?;
    Ok(Verdict::Fine)
}

type Trees = Vec<(String, TreeOptions)>;

fn chosen(database: &Database, path: &Path, name: Option<&str>) -> Result<Trees, Failure> {
    let mut trees = database.trees();
    if let Some(name) = name {
        // For its error.
        existing_tree(database, path, name)?;
        trees.retain(|(tree, _)| tree == name);
    }
    Ok(trees)
}

async fn structure(database: &Database, trees: &Trees) -> Result<(), Failure> {
    let mut out = Output::new();
    for (name, _) in trees {
        out.line(format_args!("tree {name:?}"))?;
        let Some(mut pages) = database.structure(name)? else { continue };
        let mut level = None;
        while let Some(page) = pages.next().await? {
            if level.replace(page.level) != Some(page.level) {
                out.line(format_args!("level {}", page.level))?;
            }
            out.line(format_args!("  {page}"))?;
        }
    }
    out.finish()
}

async fn pairs(database: &Database, trees: &Trees) -> Result<(), Failure> {
    let mut writer = Writer { out: Output::new(), buffer: Vec::new(), bar: counter("dumping") };
    let page_size = database.stats().page_size;
    writer.out.line(format_args!("{FIRST_LINE}\npage-size {page_size}"))?;
    for (name, options) in trees {
        let count = writer.tree(database, name, options).await?;
        writer.out.line(format_args!("end {count}"))?;
    }
    writer.out.line(format_args!("done {}", trees.len()))?;
    writer.bar.finish_and_clear();
    writer.out.finish()
}

struct Writer {
    out: Output,
    buffer: Vec<u8>,
    bar: ProgressBar,
}

impl Writer {
    /// Writes one tree; how many pairs it had.
    async fn tree(
        &mut self,
        database: &Database,
        name: &str,
        options: &TreeOptions,
    ) -> Result<u64, Failure> {
        tree_header(name, options, &mut self.buffer);
        self.flush()?;
        let mut count = 0;
        if options.duplicates {
            let tree = database.multi_tree_with(name, options.clone()).await?;
            let mut range = tree.range(..);
            while let Some(item) = range.next().await {
                let (key, _, value) = item?;
                self.pair(&key, &value)?;
                count += 1;
                self.tick(count);
            }
        } else {
            let tree = database.tree_with(name, options.clone()).await?;
            let mut range = tree.range(..);
            while let Some(chunk) = range.next_chunk().await? {
                for (key, value) in chunk.iter() {
                    self.pair(key, value)?;
                    count += 1;
                    self.tick(count);
                }
            }
        }
        self.bar.inc(count % TICK);
        Ok(count)
    }

    fn pair(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        for bytes in [key, value] {
            self.buffer.push(b' ');
            escape_into(bytes, &mut self.buffer);
            self.buffer.push(b'\n');
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.bytes(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn tick(&self, count: u64) {
        if count.is_multiple_of(TICK) {
            self.bar.inc(TICK);
        }
    }
}
