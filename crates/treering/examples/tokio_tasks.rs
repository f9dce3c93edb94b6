//! Ten thousand tasks on the multi-thread Tokio runtime, each with a durable commit of its own.
//!
//! Nothing is wrapped in `spawn_blocking`, and nobody batches by hand: commits that are under way at
//! the same time share a write of the log.
//!
//! `cargo run --release -p treering --example tokio_tasks`

use std::time::Instant;

use tokio::task::JoinSet;
use treering::{Error, Options};

const TASKS: u32 = 10_000;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let db = Options::new().cache_size(64 << 20).open(folder.path().join("data.tr")).await?;
    let visits = db.tree("visits").await?;

    // Handles are clones of each other; every future is Send.
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..TASKS {
        let visits = visits.clone();
        tasks.spawn(async move {
            let (key, value) = (n.to_be_bytes(), format!("visit {n}"));
            visits.put(key, &value).await?; // on disk when it returns
            let read = visits.get_with(key, |stored| stored == value.as_bytes()).await?;
            assert_eq!(read, Some(true), "a task reads its own write");
            Ok::<(), Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panics")?;
    }
    let seconds = begun.elapsed().as_secs_f64();

    // Keys come in order: numbers do as big-endian bytes.
    let mut expected = 0..TASKS;
    let mut all = visits.range(..);
    while let Some(chunk) = all.next_chunk().await? {
        for (key, value) in chunk.iter() {
            let n = expected.next().expect("no key that nobody wrote");
            assert_eq!((key, value), (&n.to_be_bytes()[..], format!("visit {n}").as_bytes()));
        }
    }
    assert!(expected.is_empty(), "no key is missing");

    let log = db.stats().log;
    assert!(log.groups_written < u64::from(TASKS), "commits share log writes");
    println!(
        "{TASKS} durable commits in {seconds:.3} s: {:.0}/s, {} log writes",
        f64::from(TASKS) / seconds,
        log.groups_written
    );
    db.close().await
}
