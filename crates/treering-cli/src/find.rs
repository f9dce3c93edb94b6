//! `find`: looks every key of some files up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use treering::{Error, Tree};

use crate::args::{EngineArgs, FindArgs};
use crate::error::{Failure, Verdict};
use crate::feed::{Feed, Lot};
use crate::input::Input;
use crate::open::{Missing, with_tree};
use crate::output::{bytes_bar, say};

/// Keys that are looked up together: with all tasks, enough to keep a disk busy, and few enough that
/// a small cache holds their pages.
const KEYS_AT_ONCE: usize = 32;

#[derive(Default)]
struct Counts {
    found: AtomicU64,
    missing: AtomicU64,
    /// Found, with another value; not part of `found`.
    differing: AtomicU64,
}

pub(crate) async fn run(engine: &EngineArgs, args: FindArgs) -> Result<Verdict, Failure> {
    let inputs = Input::open_all(&args.files)?;
    let counts = Arc::new(Counts::default());
    with_tree(engine, &args.tree, Missing::Refuse, async |_, tree| {
        let bar = bytes_bar("finding", Input::total_bytes(&inputs));
        let feed = Feed::start(inputs, args.format, KEYS_AT_ONCE, bar)?;
        let mut tasks = JoinSet::new();
        for _ in 0..args.tasks {
            let (feed, tree, counts) = (Arc::clone(&feed), tree.clone(), Arc::clone(&counts));
            tasks.spawn(async move {
                while let Some(lot) = feed.next().await {
                    if let Err(error) = look(&tree, &lot, args.values, &counts).await {
                        feed.fail(error.into());
                    }
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(panic) = ended {
                feed.fail(Failure::wrong(format!("a task ended by itself: {panic}")));
            }
        }
        feed.end().map_or(Ok(()), Err)
    })
    .await?;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (found, missing) = (count(&counts.found), count(&counts.missing));
    let differing = count(&counts.differing);
    match args.values {
        true => say(format_args!("found {found} missing {missing} differing {differing}"))?,
        false => say(format_args!("found {found} missing {missing}"))?,
    }
    Ok(if missing + differing == 0 { Verdict::Fine } else { Verdict::Wrong })
}

async fn look(tree: &Tree, lot: &Lot, compare: bool, counts: &Counts) -> Result<(), Error> {
    let values = tree.get_many(lot.keys()).await?;
    for (value, expected) in values.iter().zip(lot.values()) {
        let counter = match value {
            None => &counts.missing,
            Some(value) if compare && **value != *expected => &counts.differing,
            Some(_) => &counts.found,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
