//! `load`: many tasks, each committing one batch after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use treering::{Database, Durability, Error, ErrorKind, Tree};

use crate::acks::{Acks, AcksFile};
use crate::args::{DurabilityArg, EngineArgs, Format, LoadArgs, TreeArgs};
use crate::error::{Failure, Verdict};
use crate::feed::{Feed, Lot};
use crate::input::Input;
use crate::open::{Missing, with_tree};
use crate::output::{bytes_bar, grouped, say};

/// How records are loaded.
pub(crate) struct Plan {
    pub(crate) format: Format,
    /// Tasks that commit at the same time.
    pub(crate) tasks: usize,
    /// Records a commit.
    pub(crate) batch: usize,
    pub(crate) durability: Durability,
    pub(crate) acks: Option<AcksFile>,
}

/// What came of a load.
pub(crate) struct Loaded {
    /// Records whose commits were acknowledged.
    pub(crate) records: u64,
    pub(crate) elapsed: Duration,
    pub(crate) failure: Option<Failure>,
}

pub(crate) async fn run(engine: &EngineArgs, args: LoadArgs) -> Result<Verdict, Failure> {
    let durability = match args.durability {
        DurabilityArg::Durable => Durability::Durable,
        DurabilityArg::Buffered => Durability::Buffered,
        DurabilityArg::None => Durability::None,
    };
    if args.acks.is_some() && durability != Durability::Durable {
        let why = "--acks lists what was acknowledged as durable: it needs --durability durable";
        return Err(Failure::used_wrongly(why));
    }
    let inputs = Input::open_all(&args.files)?;
    if args.bulk {
        return run_bulk(engine, &args.tree, inputs, args.format).await;
    }
    let acks = args.acks.as_deref().map(AcksFile::open).transpose()?;
    let plan = Plan { format: args.format, tasks: args.tasks, batch: args.batch, durability, acks };
    let loaded = with_tree(engine, &args.tree, Missing::Make, async |database, tree| {
        let loaded = load(database, tree, inputs, plan).await?;
        match loaded.failure {
            None => Ok(loaded),
            Some(failure) => Err(Failure::wrong(format!(
                "{failure}; records acknowledged before that: {}",
                grouped(loaded.records)
            ))),
        }
    })
    .await?;
    say(format_args!(
        "loaded {} records in {:.3} s: {:.0} records/s",
        loaded.records,
        loaded.elapsed.as_secs_f64(),
        loaded.rate()
    ))?;
    Ok(Verdict::Fine)
}

/// Records that are taken from the input at once.
const BULK_LOT: usize = 1024;

async fn run_bulk(
    engine: &EngineArgs,
    tree: &TreeArgs,
    inputs: Vec<Input>,
    format: Format,
) -> Result<Verdict, Failure> {
    let begun = Instant::now();
    let report = with_tree(engine, tree, Missing::Make, async |_, tree| {
        let bar = bytes_bar("loading", Input::total_bytes(&inputs));
        let feed = Feed::start(inputs, format, BULK_LOT, bar)?;
        let interrupt = tokio::spawn(stop_at_interrupt(Arc::clone(&feed)));
        let mut loader = tree.load();
        while let Some(lot) = feed.next().await {
            for (key, value) in lot.keys().zip(lot.values()) {
                loader.put(key, value).await?;
            }
        }
        interrupt.abort();
        match feed.end() {
            None => Ok(loader.finish().await?),
            Some(failure) => Err(Failure::wrong(format!("{failure}; nothing was loaded"))),
        }
    })
    .await?;
    let seconds = begun.elapsed().as_secs_f64();
    say(format_args!(
        "loaded {} keys in {seconds:.3} s: {:.0} keys/s{}",
        report.keys,
        report.keys as f64 / seconds,
        if report.at_once { "" } else { "; in batches, as the tree had keys" },
    ))?;
    Ok(Verdict::Fine)
}

impl Loaded {
    /// Records a second.
    pub(crate) fn rate(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }
}

/// Loads all inputs into a tree. After the first failure nothing new is begun, and what is under
/// way is brought to its end.
pub(crate) async fn load(
    database: &Database,
    tree: &Tree,
    inputs: Vec<Input>,
    plan: Plan,
) -> Result<Loaded, Failure> {
    let begun = Instant::now();
    let bar = bytes_bar("loading", Input::total_bytes(&inputs));
    let feed = Feed::start(inputs, plan.format, plan.batch, bar)?;
    let acks: Option<Acks> = plan.acks.map(|file| file.start(Arc::clone(&feed))).transpose()?;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..plan.tasks {
        tasks.spawn(commit_lots(Committer {
            feed: Arc::clone(&feed),
            database: database.clone(),
            tree: tree.clone(),
            durability: plan.durability,
            acknowledged: Arc::clone(&acknowledged),
            acks: acks.as_ref().map(Acks::sender),
        }));
    }
    let interrupt = tokio::spawn(stop_at_interrupt(Arc::clone(&feed)));
    while let Some(ended) = tasks.join_next().await {
        if let Err(panic) = ended {
            feed.fail(Failure::wrong(format!("a task of the load ended by itself: {panic}")));
        }
    }
    interrupt.abort();
    if let Some(acks) = acks {
        acks.finish().await;
    }
    let failure = feed.end();
    let records = acknowledged.load(Ordering::Relaxed);
    Ok(Loaded { records, elapsed: begun.elapsed(), failure })
}

async fn stop_at_interrupt(feed: Arc<Feed>) {
    if tokio::signal::ctrl_c().await.is_ok() {
        feed.fail(Failure::wrong("the load was interrupted"));
    }
}

/// What one task of a load has.
struct Committer {
    feed: Arc<Feed>,
    database: Database,
    tree: Tree,
    durability: Durability,
    acknowledged: Arc<AtomicU64>,
    acks: Option<mpsc::Sender<Lot>>,
}

async fn commit_lots(task: Committer) {
    while let Some(lot) = task.feed.next().await {
        match task.commit(&lot).await {
            Ok(()) => {
                task.acknowledged.fetch_add(lot.len() as u64, Ordering::Relaxed);
                if let Some(acks) = &task.acks {
                    // If the writer has ended, it has stopped the feed with the reason.
                    let _ = acks.send(lot).await;
                }
            }
            Err(error) => task.feed.fail(explain(error, &lot)),
        }
    }
}

impl Committer {
    async fn commit(&self, lot: &Lot) -> Result<(), Error> {
        let mut pairs = lot.keys().zip(lot.values());
        if lot.len() == 1
            && let Some((key, value)) = pairs.next()
        {
            return self.tree.put(key, value).durability(self.durability).await;
        }
        let mut batch = self.database.batch();
        for (key, value) in pairs {
            batch.put(&self.tree, key, value);
        }
        batch.commit().durability(self.durability).await
    }
}

/// Names the line that a record came from, if it is the record that is wrong.
fn explain(error: Error, lot: &Lot) -> Failure {
    match error.kind() {
        ErrorKind::InvalidInput => Failure::wrong(format!("{}: {error}", lot.place())),
        _ => error.into(),
    }
}
