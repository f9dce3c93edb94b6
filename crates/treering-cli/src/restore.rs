//! `restore`: reads what `dump` wrote.
//!
//! A thread of its own reads the lines and cuts them into batches, since reading may block for
//! ever. Batches are committed one after the other, so that duplicates stay in their order, and wait
//! for nothing; a checkpoint at the end makes all of it durable at once. If the dump is not whole, the
//! trees that were made are dropped again.

use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;
use treering::{Batch, Database, Durability, Gap, MultiTree, Tree, TreeOptions};

use crate::args::{DatabaseArgs, EngineArgs};
use crate::dump_format::{FIRST_LINE, Line, parse, unescape};
use crate::error::{Failure, Verdict};
use crate::open::{Missing, open};
use crate::output::{counted, counter, say};

/// Pairs and bytes of a batch, at most (but for a pair that has more). Small, so that it is applied in
/// one step in the smallest cache, too.
const BATCH_PAIRS: usize = 64;
const BATCH_BYTES: usize = 64 << 10;
/// Parts that were read and not committed yet.
const PARTS_AHEAD: usize = 16;

/// A value has at most 1 GiB, and each of its bytes at most three characters.
const LINE_BYTES_MAX: u64 = 4 << 30;

/// What the reader hands over.
pub(crate) enum Part {
    PageSize(usize),
    Tree(String, TreeOptions),
    Pairs(Vec<(Vec<u8>, Vec<u8>)>),
}

pub(crate) async fn run(engine: &EngineArgs, args: DatabaseArgs) -> Result<Verdict, Failure> {
    let (sender, mut parts) = mpsc::channel(PARTS_AHEAD);
    let read = move || {
        let mut reader = Reader::new(BufReader::new(io::stdin().lock()));
        if let Err(failure) = reader.read(&mut |part| sender.blocking_send(Ok(part)).is_ok()) {
            // Nobody may be there any more to hear of it.
            let _ = sender.blocking_send(Err(failure));
        }
    };
    std::thread::Builder::new()
        .name("reader".into())
        .spawn(read)
        .map_err(|error| Failure::wrong(format!("starting a thread: {error}")))?;

    // What is no dump at all is refused before a database is made.
    let mut engine = engine.clone();
    if let Some(first) = parts.recv().await
        && let Part::PageSize(size) = first?
        && !args.database.join("pages").exists()
    {
        engine.page_size.get_or_insert(size as u64);
    }
    let database = open(&engine, &args.database, Missing::Make).await?;
    let mut made = Vec::new();
    let restored = restore(&database, &mut parts, &mut made).await;
    if restored.is_err() {
        // So that it can be tried again. What cannot be dropped now stays, and is named then.
        for name in made {
            let _ = database.drop_tree(name).await;
        }
    }
    let closed = database.close().await;
    let (trees, pairs) = restored?;
    closed?;
    say(format_args!("restored {}, {}", counted(trees, "tree"), counted(pairs, "pair")))?;
    Ok(Verdict::Fine)
}

/// A tree of either kind.
enum Target {
    Unique(Tree),
    Multi(MultiTree),
}

async fn restore(
    database: &Database,
    parts: &mut mpsc::Receiver<Result<Part, Failure>>,
    made: &mut Vec<String>,
) -> Result<(u64, u64), Failure> {
    let bar = counter("restoring");
    let (mut target, mut trees, mut count) = (None, 0, 0);
    while let Some(part) = parts.recv().await {
        match part? {
            Part::PageSize(_) => {}
            Part::Tree(name, options) => {
                if database.raw_tree(&name)?.is_some() {
                    return Err(Failure::used_wrongly(format!(
                        "restoring the tree {name:?}: it is there already; rename it, or restore \
                         into a new database"
                    )));
                }
                trees += 1;
                made.push(name.clone());
                target = Some(match options.duplicates {
                    true => Target::Multi(database.multi_tree_with(name, options).await?),
                    false => Target::Unique(database.tree_with(name, options).await?),
                });
            }
            Part::Pairs(pairs) => {
                let Some(target) = &target else { continue };
                let mut batch = database.batch();
                for (key, value) in &pairs {
                    target.put(&mut batch, key, value);
                }
                batch.commit().durability(Durability::None).await?;
                count += pairs.len() as u64;
                bar.inc(pairs.len() as u64);
            }
        }
    }
    bar.finish_and_clear();
    database.checkpoint().await?;
    Ok((trees, count))
}

impl Target {
    fn put(&self, batch: &mut Batch, key: &[u8], value: &[u8]) {
        match self {
            Self::Unique(tree) => batch.put(tree, key, value),
            Self::Multi(tree) => batch.insert_dup(tree, key, value),
        };
    }
}

pub(crate) struct Reader<R> {
    lines: R,
    /// The line that was read last, from 1.
    line: u64,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(lines: R) -> Self {
        Self { lines, line: 0 }
    }

    /// Reads a whole dump and gives its parts, until `give` says that it takes no more.
    pub(crate) fn read(&mut self, give: &mut dyn FnMut(Part) -> bool) -> Result<(), Failure> {
        if self.next()?.as_deref() != Some(FIRST_LINE.as_bytes()) {
            return Err(self.wrong(&format!("it is no dump: one begins with {FIRST_LINE:?}")));
        }
        let mut trees = 0;
        loop {
            match self.header()? {
                Line::PageSize(size) if trees == 0 => {
                    if !give(Part::PageSize(size)) {
                        return Ok(());
                    }
                }
                Line::Tree(name) => {
                    trees += 1;
                    let options = self.options()?;
                    if !give(Part::Tree(name, options)) || !self.pairs(give)? {
                        return Ok(());
                    }
                }
                Line::Done(count) if count == trees => return self.nothing_more(),
                Line::Done(count) => {
                    let why = format!("{trees} trees were read, and there should be {count}");
                    return Err(self.wrong(&why));
                }
                _ => return Err(self.wrong("a tree, or the end of the dump, should begin here")),
            }
        }
    }

    /// The lines of a tree up to its data.
    fn options(&mut self) -> Result<TreeOptions, Failure> {
        let mut options = TreeOptions::new();
        loop {
            options = match self.header()? {
                Line::Duplicates => options.duplicates(true),
                Line::Gap(gap @ (Gap::None | Gap::OneIn(_))) => options.gap(gap),
                Line::KeyType { version, name } => options.key_type(name, version),
                Line::Data => return Ok(options),
                _ => return Err(self.wrong("the options of a tree, or its data, should be here")),
            };
        }
    }

    /// The pairs of a tree; false if nobody takes them.
    fn pairs(&mut self, give: &mut dyn FnMut(Part) -> bool) -> Result<bool, Failure> {
        let (mut pairs, mut bytes, mut count) = (Vec::new(), 0, 0);
        loop {
            let line = self.next()?.ok_or_else(|| self.cut_short())?;
            let Some(key) = line.strip_prefix(b" ") else {
                if !pairs.is_empty() && !give(Part::Pairs(pairs)) {
                    return Ok(false);
                }
                return match parse(&line) {
                    Some(Line::End(expected)) if expected == count => Ok(true),
                    Some(Line::End(expected)) => Err(self
                        .wrong(&format!("the tree had {expected} pairs, and {count} were read"))),
                    _ => Err(self.wrong("a pair, or the end of the tree, should be here")),
                };
            };
            let key = self.text(key)?;
            let line = self.next()?.ok_or_else(|| self.cut_short())?;
            let value = match line.strip_prefix(b" ") {
                Some(value) => self.text(value)?,
                None => return Err(self.wrong("the value of a key should be here")),
            };
            bytes += key.len() + value.len();
            count += 1;
            pairs.push((key, value));
            if pairs.len() >= BATCH_PAIRS || bytes >= BATCH_BYTES {
                bytes = 0;
                if !give(Part::Pairs(std::mem::take(&mut pairs))) {
                    return Ok(false);
                }
            }
        }
    }

    fn header(&mut self) -> Result<Line, Failure> {
        let line = self.next()?.ok_or_else(|| self.cut_short())?;
        parse(&line).ok_or_else(|| self.wrong("no dump has such a line"))
    }

    fn text(&self, text: &[u8]) -> Result<Vec<u8>, Failure> {
        unescape(text).ok_or_else(|| self.wrong("a byte is not escaped as it should be"))
    }

    fn nothing_more(&mut self) -> Result<(), Failure> {
        match self.next()? {
            None => Ok(()),
            Some(_) => Err(self.wrong("there is something behind the end of the dump")),
        }
    }

    /// The next line, without its newline; `None` at the end. A line that the end cut off is none.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        let mut limited = Read::take(&mut self.lines, LINE_BYTES_MAX);
        limited
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::wrong(format!("reading standard input: {error}")))?;
        self.line += 1;
        if line.len() as u64 == LINE_BYTES_MAX {
            return Err(self.wrong("the line is longer than any value can be"));
        }
        Ok((line.pop() == Some(b'\n')).then_some(line))
    }

    fn cut_short(&self) -> Failure {
        self.wrong("the dump ends here, and is not whole: take another one")
    }

    fn wrong(&self, why: &str) -> Failure {
        Failure::wrong(format!("reading the dump, line {}: {why}", self.line))
    }
}
