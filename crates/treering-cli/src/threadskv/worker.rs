//! One worker: what a letter of the commands does, with one file.
//!
//! A worker has one commit under way at a time, as a thread of the old program had.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use indicatif::ProgressBar;
use treering::{Database, Durability, Error, ErrorKind, Tree};

use crate::args::Format;
use crate::error::{Failure, Verdict};
use crate::feed::{Feed, Lot};
use crate::input::Input;
use crate::threadskv::{audit, tell};

/// Keys that are looked up together.
const KEYS_AT_ONCE: usize = 32;

/// What a letter stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Audit,
    Count,
    Delete,
    Find,
    Pennysort,
    ReverseScan,
    Scan,
    Write,
}

impl Job {
    /// In either case.
    pub(crate) fn from_letter(letter: char) -> Option<Self> {
        Some(match letter.to_ascii_lowercase() {
            'a' => Self::Audit,
            'c' => Self::Count,
            'd' => Self::Delete,
            'f' => Self::Find,
            'p' => Self::Pennysort,
            'r' => Self::ReverseScan,
            's' => Self::Scan,
            'w' => Self::Write,
            _ => return None,
        })
    }

    pub(crate) fn reads_a_file(self) -> bool {
        matches!(self, Self::Delete | Self::Find | Self::Pennysort | Self::Write)
    }
}

/// What a worker has.
pub(crate) struct Worker {
    pub(crate) database: Database,
    pub(crate) tree: Tree,
    /// Where it reads from, if it reads.
    pub(crate) file: PathBuf,
    /// Records a batch; 0: each is a commit of its own.
    pub(crate) batch: usize,
    pub(crate) durability: Durability,
}

/// Pages read and written by the pool, at one moment.
struct Traffic {
    reads: u64,
    writes: u64,
}

/// What came of a file.
#[derive(Default)]
struct Counts {
    lines: u64,
    found: u64,
}

impl Worker {
    pub(crate) async fn run(self, job: Job) -> Result<Verdict, Failure> {
        match job {
            Job::Audit => return audit::run(&self.database).await,
            Job::Count => self.count().await?,
            Job::Delete => self.change("delete", Step::Delete).await?,
            Job::Find => self.find().await?,
            Job::Pennysort => self.change("insert", Step::Put).await?,
            Job::ReverseScan => self.scan(true).await?,
            Job::Scan => self.scan(false).await?,
            Job::Write => self.write().await?,
        }
        Ok(Verdict::Fine)
    }

    /// `c`
    async fn count(&self) -> Result<(), Failure> {
        tell("started counting");
        let before = self.traffic();
        let mut range = self.tree.range(..);
        let mut count = 0;
        while let Some(chunk) = range.next_chunk().await? {
            count += chunk.len();
        }
        let Traffic { reads, writes } = self.since(&before);
        tell(format_args!(" Total keys counted {count}: {reads} reads, {writes} writes"));
        Ok(())
    }

    /// `s` and `r`
    async fn scan(&self, reverse: bool) -> Result<(), Failure> {
        tell(if reverse { "started reverse scan" } else { "started scanning" });
        let before = self.traffic();
        let range = self.tree.range(..);
        let mut range = if reverse { range.rev() } else { range };
        let (mut count, mut lines) = (0, Vec::new());
        while let Some(chunk) = range.next_chunk().await? {
            count += chunk.len();
            for (key, value) in chunk.iter() {
                lines.extend_from_slice(key);
                lines.extend_from_slice(value);
                lines.push(b'\n');
            }
            // Whole lines at once, since other workers may be scanning, too.
            io::stdout().lock().write_all(&lines).map_err(Failure::output)?;
            lines.clear();
        }
        io::stdout().lock().flush().map_err(Failure::output)?;
        let Traffic { reads, writes } = self.since(&before);
        tell(format_args!(" Total keys read {count}: {reads} reads, {writes} writes"));
        Ok(())
    }

    /// `w`: each line is a key, without a value.
    async fn write(&self) -> Result<(), Failure> {
        let name = self.file.display();
        tell(format_args!("started indexing for {name}"));
        let before = self.traffic();
        let Counts { lines, .. } = self.each_lot(Format::Lines, 1, Step::Put).await?;
        let Traffic { reads, writes } = self.since(&before);
        tell(format_args!("finished {name} for {lines} keys: {reads} reads {writes} writes"));
        Ok(())
    }

    /// `p` and `d`: the first ten bytes of each line are a key, the others its value.
    async fn change(&self, what: &str, step: Step) -> Result<(), Failure> {
        let name = self.file.display();
        let txn = if self.batch > 0 { "TXN " } else { "" };
        tell(format_args!("started {txn}pennysort {what} for {name}"));
        let before = self.traffic();
        let lot_len = self.batch.max(1);
        let Counts { lines, found } = self.each_lot(Format::Pennysort, lot_len, step).await?;
        let Traffic { reads, writes } = self.since(&before);
        tell(format_args!(
            "finished {name} for {lines} keys: {reads} reads {writes} writes {found} found"
        ));
        Ok(())
    }

    /// `f`: each line is a key.
    async fn find(&self) -> Result<(), Failure> {
        let name = self.file.display();
        tell(format_args!("started finding keys for {name}"));
        let before = self.traffic();
        let Counts { lines, found } =
            self.each_lot(Format::Lines, KEYS_AT_ONCE, Step::Find).await?;
        let Traffic { reads, writes } = self.since(&before);
        tell(format_args!(
            "finished {name} for {lines} keys, found {found}: {reads} reads {writes} writes"
        ));
        Ok(())
    }

    /// Reads the file and takes the step with each lot of so many records; adds up what was found.
    async fn each_lot(
        &self,
        format: Format,
        lot_len: usize,
        step: Step,
    ) -> Result<Counts, Failure> {
        let inputs = Input::open_all(std::slice::from_ref(&self.file))?;
        let feed: Arc<Feed> = Feed::start(inputs, format, lot_len, ProgressBar::hidden())?;
        let mut counts = Counts::default();
        while let Some(lot) = feed.next().await {
            let stepped = match step {
                Step::Put => self.put(&lot).await,
                Step::Delete => self.delete(&lot).await,
                Step::Find => self.look(&lot).await,
            };
            match stepped {
                Ok(found) => {
                    counts.lines += lot.len() as u64;
                    counts.found += found;
                }
                Err(error) if error.kind() == ErrorKind::InvalidInput => {
                    return Err(Failure::wrong(format!("{}: {error}", lot.place())));
                }
                Err(error) => return Err(error.into()),
            }
        }
        feed.end().map_or(Ok(counts), Err)
    }

    async fn look(&self, lot: &Lot) -> Result<u64, Error> {
        let values = self.tree.get_many(lot.keys()).await?;
        Ok(values.iter().flatten().count() as u64)
    }

    async fn put(&self, lot: &Lot) -> Result<u64, Error> {
        if self.batch == 0 {
            for (key, value) in lot.keys().zip(lot.values()) {
                self.tree.put(key, value).durability(self.durability).await?;
            }
            return Ok(0);
        }
        let mut batch = self.database.batch();
        for (key, value) in lot.keys().zip(lot.values()) {
            batch.put(&self.tree, key, value);
        }
        batch.commit().durability(self.durability).await?;
        Ok(0)
    }

    async fn delete(&self, lot: &Lot) -> Result<u64, Error> {
        if self.batch == 0 {
            let mut found = 0;
            for key in lot.keys() {
                let existed = self.tree.delete(key).durability(self.durability).await?;
                found += u64::from(existed);
            }
            return Ok(found);
        }
        // A batch does not say what it deleted. Nobody else's delete of the same key is counted
        // twice but by one who looked at the same moment.
        let found = self.look(lot).await?;
        let mut batch = self.database.batch();
        for key in lot.keys() {
            batch.delete(&self.tree, key);
        }
        batch.commit().durability(self.durability).await?;
        Ok(found)
    }

    fn traffic(&self) -> Traffic {
        let pool = self.database.stats().pool;
        Traffic { reads: pool.loads, writes: pool.writes }
    }

    fn since(&self, before: &Traffic) -> Traffic {
        let now = self.traffic();
        Traffic { reads: now.reads - before.reads, writes: now.writes - before.writes }
    }
}

/// What is done with some records of the file.
#[derive(Clone, Copy)]
enum Step {
    Put,
    Delete,
    Find,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stand_for_jobs_in_either_case() {
        for letter in "acdfprsw".chars() {
            let job = Job::from_letter(letter);
            assert!(job.is_some(), "{letter}");
            assert_eq!(job, Job::from_letter(letter.to_ascii_uppercase()));
        }
        assert_eq!(Job::from_letter('x'), None);
    }
}
