//! The process that is killed: opens the database, and has each task do its operations, one after the
//! other. What a task was told it says at once, on standard output, before it goes on: so of each task
//! at most one operation is under way of which nobody knows.
//!
//! It says eight bytes each time, in one write(2): the task, and the number of the operation. A last
//! task, which says nothing, has the engine look after itself: checkpoints, merging, compaction, trees
//! that come and go.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use treering::{Database, Error, ErrorKind, Tree};

use crate::plan::{Change, Operation, Plan, TOGETHER, TREES};
use crate::{Settings, options};

/// What is said in place of a task.
pub(crate) const OPENED: u16 = u16::MAX;

/// One thing that was said.
pub(crate) fn message(task: u16, number: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..2].copy_from_slice(&task.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    bytes
}

pub(crate) fn parse(message: [u8; 8]) -> (u16, u32) {
    let [low, high, _, _, number @ ..] = message;
    (u16::from_le_bytes([low, high]), u32::from_le_bytes(number))
}

/// Says something; if nobody listens any more, the process has nothing left to do.
fn say(task: u16, number: u32) {
    let mut out = io::stdout().lock();
    if out.write_all(&message(task, number)).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Writes until it is killed. With no tasks, it only opens the database, again and again.
pub(crate) async fn run(folder: &Path, plan: Plan, settings: &Settings) -> Result<(), Error> {
    let db = loop {
        match options(settings, plan).open(folder).await {
            // The process that checks has just dropped it, and its engine is about to end there.
            Err(error) if error.kind() == ErrorKind::Locked => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            opened => break opened?,
        }
    };
    say(OPENED, 0);
    if settings.tasks == 0 {
        return Ok(());
    }
    let mut trees = Vec::new();
    for name in TREES {
        trees.push(db.tree(name).await?);
    }
    let trees: [Tree; 3] = trees.try_into().unwrap_or_else(|_| unreachable!("as many as names"));
    let mut tasks = Vec::new();
    for task in 0..settings.tasks {
        let (db, trees) = (db.clone(), trees.clone());
        tasks.push(tokio::spawn(async move {
            for number in 0.. {
                perform(&db, &trees, task, &plan.operation(task, number)).await?;
                say(task, number);
            }
            Ok(())
        }));
    }
    tasks.push(tokio::spawn(look_after(db, plan)));
    for task in tasks {
        task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    }
    Ok(())
}

async fn perform(
    db: &Database,
    trees: &[Tree; 3],
    task: u16,
    operation: &Operation,
) -> Result<(), Error> {
    let durability = operation.durability;
    match operation.changes[..] {
        [Change::DeleteRange(from, to)] => {
            let key = |index| crate::plan::Place { tree: TOGETHER, index }.key(task);
            return trees[TOGETHER].delete_range(key(from)..key(to)).await;
        }
        [Change::Put(place, value)] if operation.streamed => {
            let writer = trees[place.tree].write_stream(place.key(task))?;
            let mut writer = writer.durability(durability);
            for part in value.bytes().chunks(40_000) {
                writer.write(part).await?;
            }
            return writer.commit().await;
        }
        _ => {}
    }
    let mut batch = db.batch();
    for change in &operation.changes {
        match *change {
            Change::Put(place, value) => {
                batch.put(&trees[place.tree], place.key(task), value.bytes());
            }
            Change::Delete(place) => drop(batch.delete(&trees[place.tree], place.key(task))),
            Change::DeleteRange(..) => unreachable!("a range is alone in its operation"),
        }
    }
    batch.commit().durability(durability).await
}

async fn look_after(db: Database, plan: Plan) -> Result<(), Error> {
    for round in plan.cycle.. {
        match round % 5 {
            0 => db.checkpoint().await?,
            1 => db.tidy().await?,
            2 if round % 10 == 2 => db.compact().await.map(drop)?,
            2 => db.sync().await?,
            3 => {
                let tree = db.tree("comes and goes").await?;
                for number in 0..100_u32 {
                    tree.put(number.to_be_bytes(), [7; 300]).await?;
                }
            }
            _ => match db.drop_tree("comes and goes").await {
                Err(error) if error.kind() == ErrorKind::NoSuchTree => {}
                dropped => dropped?,
            },
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}
