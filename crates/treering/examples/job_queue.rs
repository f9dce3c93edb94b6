//! A queue of jobs that many workers take from, and that loses nothing: not when a worker dies half-way,
//! and not when the whole process is killed.
//!
//! A job is a key in one of three trees, `waiting`, `taken` or `done`, and each step moves it in one
//! batch, on the condition that it still is where it was. So two workers cannot take the same job, and
//! whatever is interrupted, the job is in exactly one of the three. A worker's death leaves a job in
//! `taken`, under the worker's number; whoever notices the death puts it back.
//!
//! A job whose worker died is begun again: what jobs do outside the database has to bear that. What they
//! do *inside* it is done in the same batch as the last step, and so exactly once.
//!
//! `cargo run --release -p treering --example job_queue`

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;
use treering::{Database, Durability, Error, ErrorKind, Options, TypedTree};

const JOBS: u64 = 1000;
const WORKERS: u32 = 16;

#[derive(Clone)]
struct Queue {
    db: Database,
    waiting: TypedTree<u64, String>,
    taken: TypedTree<(u32, u64), String>,
    done: TypedTree<u64, String>,
}

impl Queue {
    /// Opens the queue. Only one process at a time can, so whoever had taken a job before is dead.
    async fn open(path: &Path) -> Result<Self, Error> {
        let db = Options::new().cache_size(16 << 20).open(path).await?;
        let (waiting, taken) = (db.typed("waiting").await?, db.typed("taken").await?);
        let queue = Self { done: db.typed("done").await?, db, waiting, taken };
        queue.put_back((0, 0), (u32::MAX, u64::MAX)).await?;
        Ok(queue)
    }

    async fn add(&self, jobs: impl Iterator<Item = (u64, String)>) -> Result<(), Error> {
        let mut batch = self.db.batch();
        for (number, what) in jobs {
            batch.typed(&self.waiting).insert(number, &what);
        }
        batch.commit().await
    }

    /// Takes a job; `None` if there is none.
    async fn take(&self, worker: u32) -> Result<Option<(u64, String)>, Error> {
        loop {
            // Each worker begins with another of the first few, or all would want the same one.
            let first: Vec<_> = self.waiting.range(..).take(WORKERS as usize).try_collect().await?;
            if first.is_empty() {
                return Ok(None);
            }
            let (number, what) = first[worker as usize % first.len()].clone();
            let mut batch = self.db.batch();
            batch.typed(&self.waiting).require_value(number, &what).delete(number);
            batch.typed(&self.taken).insert((worker, number), &what);
            // That somebody took it need not be durable: after a crash it is waiting again.
            match batch.commit().durability(Durability::None).await {
                Ok(()) => return Ok(Some((number, what))),
                Err(error) if error.kind() == ErrorKind::KeyMissing => continue, // another was faster
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends a job with its result, durably.
    async fn finish(&self, worker: u32, number: u64, result: &str) -> Result<(), Error> {
        let mut batch = self.db.batch();
        batch.typed(&self.taken).require_present((worker, number)).delete((worker, number));
        batch.typed(&self.done).insert(number, result);
        batch.commit().await
    }

    /// Puts back what dead workers had taken; says how many jobs that were.
    async fn put_back(&self, from: (u32, u64), to: (u32, u64)) -> Result<usize, Error> {
        let stale: Vec<_> = self.taken.range(from..=to).try_collect().await?;
        let mut batch = self.db.batch();
        for ((worker, number), what) in &stale {
            batch.typed(&self.taken).require_present((*worker, *number)).delete((*worker, *number));
            batch.typed(&self.waiting).insert(*number, what);
        }
        batch.commit().await?;
        Ok(stale.len())
    }

    async fn work(self, worker: u32) -> Result<(), Error> {
        while let Some((number, what)) = self.take(worker).await? {
            tokio::task::yield_now().await; // where the work would be
            self.finish(worker, number, &what.to_uppercase()).await?;
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let [flag, path] = &std::env::args().skip(1).collect::<Vec<_>>()[..]
        && flag == "--until-killed"
    {
        return Ok(until_killed(path.as_ref()).await?);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("data.tr");
    let queue = Queue::open(&path).await?;
    queue.add((0..JOBS).map(|number| (number, format!("job {number}")))).await?;
    queue.db.close().await?;
    drop(queue);

    // The first life ends with SIGKILL, when a quarter of the jobs is done.
    let program = std::env::current_exe()?;
    let mut process =
        Command::new(program).arg("--until-killed").arg(&path).stdout(Stdio::piped()).spawn()?;
    let said = BufReader::new(process.stdout.take().expect("it is a pipe"));
    let acknowledged = said.lines().take(JOBS as usize / 4).collect::<Result<Vec<_>, _>>()?;
    process.kill()?;
    process.wait()?;

    // The second one goes on: what was acknowledged as done is done, all others are waiting.
    let queue = Queue::open(&path).await?;
    let (waiting, taken, done) = (queue.waiting.bytes(), queue.taken.bytes(), queue.done.bytes());
    let count = async |tree: &treering::Tree| tree.range(..).try_collect::<Vec<_>>().await;
    let found = (count(waiting).await?.len(), count(taken).await?.len(), count(done).await?.len());
    for number in &acknowledged {
        assert!(queue.done.contains(number.parse()?).await?, "job {number} was done");
    }
    assert_eq!((found.0 + found.2, found.1), (JOBS as usize, 0), "no job is lost or twice there");

    // One worker takes a job and dies over it.
    let (took, taking) = tokio::sync::oneshot::channel();
    let lost = tokio::spawn({
        let queue = queue.clone();
        async move {
            let _ = took.send(queue.take(99).await);
            std::future::pending::<()>().await
        }
    });
    let job = taking.await??;
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(queue.clone().work(worker));
    }
    lost.abort();
    assert!(lost.await.is_err(), "it was aborted");
    let put_back = queue.put_back((99, 0), (99, u64::MAX)).await?;
    assert_eq!(put_back, usize::from(job.is_some()));
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    queue.clone().work(0).await?; // if the others had ended before the job was put back

    let done: Vec<_> = queue.done.range(..).try_collect().await?;
    assert!(done.iter().map(|(number, _)| *number).eq(0..JOBS), "every job is done, once");
    assert!(done.iter().all(|(number, result)| *result == format!("JOB {number}")));
    assert!(count(waiting).await?.is_empty() && count(taken).await?.is_empty());
    println!(
        "{JOBS} jobs: {} done before the kill, {put_back} of a worker that died, none lost",
        found.2
    );
    Ok(queue.db.close().await?)
}

/// What the process that is killed does: works, and says which jobs are done.
async fn until_killed(path: &Path) -> Result<(), Error> {
    let queue = Queue::open(path).await?;
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let queue = queue.clone();
        workers.spawn(async move {
            while let Some((number, what)) = queue.take(worker).await? {
                queue.finish(worker, number, &what.to_uppercase()).await?;
                println!("{number}");
            }
            std::future::pending::<Result<(), Error>>().await
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.expect("no worker panics")?;
    }
    Ok(())
}
