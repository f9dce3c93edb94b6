//! Opening a database as the command line says, and closing it again.

use std::path::Path;

use treering::{Database, Io, Options, Tree};

use crate::args::{EngineArgs, IoArg, TreeArgs};
use crate::error::Failure;
use crate::output::complain;
use crate::recovery::RecoveryBar;

/// Whether a command makes what is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Make,
    Refuse,
}

/// Opens a database, does something with it, and closes it, also after a failure.
pub(crate) async fn with_database<T>(
    engine: &EngineArgs,
    path: &Path,
    missing: Missing,
    command: impl AsyncFnOnce(&Database) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let database = open(engine, path, missing).await?;
    let result = command(&database).await;
    let closed = database.close().await;
    // After a failure, what closing adds to it would only hide it.
    let value = result?;
    closed?;
    Ok(value)
}

/// As [`with_database`], with one of its trees.
pub(crate) async fn with_tree<T>(
    engine: &EngineArgs,
    args: &TreeArgs,
    missing: Missing,
    command: impl AsyncFnOnce(&Database, &Tree) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let path = &args.database.database;
    with_database(engine, path, missing, async |database| {
        let tree = match missing {
            // The bytes of whatever is there; what is made has plain keys.
            Missing::Make => match database.raw_tree(&args.tree)? {
                Some(tree) => tree,
                None => database.tree(&args.tree).await?,
            },
            Missing::Refuse => existing_tree(database, path, &args.tree)?,
        };
        command(database, &tree).await
    })
    .await
}

pub(crate) async fn open(
    engine: &EngineArgs,
    path: &Path,
    missing: Missing,
) -> Result<Database, Failure> {
    let io = match engine.io {
        IoArg::Auto => Io::Auto,
        IoArg::Uring => Io::Uring,
        IoArg::Threads => Io::Threads,
    };
    let mut options =
        Options::new().cache_size(engine.cache).io(io).create(missing == Missing::Make);
    let bar = RecoveryBar::default();
    options = options.statistics_file(engine.statistics).on_recovery(move |told| bar.at(told));
    if let Some(size) = engine.page_size {
        // What does not fit is no page size anyway; the engine says which ones are.
        options = options.page_size(usize::try_from(size).unwrap_or(usize::MAX));
    }
    if let Some(size) = engine.log_size {
        options = options.log_size(size);
    }
    let database = options.open(path).await?;
    if let Some(damage) = &database.recovery().damaged_superblock {
        let _ = complain(format_args!("warning: {damage}"));
    }
    Ok(database)
}

pub(crate) fn existing_tree(database: &Database, path: &Path, name: &str) -> Result<Tree, Failure> {
    if let Some(tree) = database.raw_tree(name)? {
        return Ok(tree);
    }
    let names = database.tree_names();
    let there = if names.is_empty() {
        "it has none".to_owned()
    } else {
        let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        format!("it has {}", quoted.join(", "))
    };
    Err(Failure::used_wrongly(format!("there is no tree {name:?} in {}: {there}", path.display())))
}
