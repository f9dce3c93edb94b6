//! How a database is asked for each step, and what it holds read out of it.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::Arc;

use treering::{Database, Error, ErrorKind, Tree};
use treering_txn::{BackupTarget, Batch, Durability, Finished, duplicates};

use super::machine::Machine;
use super::model::{Contents, Outcome, State};
use super::step::{Answer, Op, Step};

/// Files of a backup begin with this.
pub const COPY: &str = "copy-";

/// A value is streamed in pieces of this many bytes.
const PIECE: usize = 700;

/// Does one step, but for those that change the handle.
pub async fn perform(db: &Database, machine: &Machine, step: &Step) -> Result<Answer, Error> {
    match step {
        Step::Commit(ops, durability) => return commit(db, ops, *durability).await,
        Step::Delete(tree, key) => {
            let Some(tree) = db.raw_tree(tree)? else { return Ok(no_such_tree()) };
            return Ok(Answer::Was(tree.delete(key).await?));
        }
        Step::DeleteRange(tree, from, to) => {
            let Some(tree) = db.raw_tree(tree)? else { return Ok(no_such_tree()) };
            tree.delete_range(from.as_slice()..to.as_slice()).await?;
        }
        Step::Stream(tree, key, value) => {
            let Some(tree) = db.raw_tree(tree)? else { return Ok(no_such_tree()) };
            let mut writer = tree.write_stream(key)?;
            for piece in value.chunks(PIECE) {
                writer.write(piece).await?;
            }
            writer.commit().await?;
        }
        Step::Load(tree, pairs) => return load(db, tree, pairs).await,
        Step::InsertDuplicate(tree, key, value) => {
            db.multi_tree(tree).await?.insert_dup(key, value).await?;
        }
        Step::DeleteDuplicate(tree, key, value) => {
            let deleted = db.multi_tree(tree).await?.delete_value(key, value).await?;
            return Ok(Answer::Was(deleted.is_some()));
        }
        Step::CreateTree(name) => drop(db.tree(name).await?),
        Step::CreateMultiTree(name) => drop(db.multi_tree(name).await?),
        Step::DropTree(name) => db.drop_tree(name).await?,
        Step::RenameTree(old, new) => db.rename_tree(old, new).await?,
        Step::Sync => db.sync().await?,
        Step::Checkpoint => db.checkpoint().await?,
        Step::Tidy => db.tidy().await?,
        Step::Compact => drop(db.compact().await?),
        Step::Backup => {
            let disk = machine.disk_of(COPY);
            let entropy = machine.entropy();
            let target = move || Ok(BackupTarget { disk, entropy, keep: Box::new(()) });
            db.engine().backup(target).await?;
        }
        Step::Close | Step::Reopen => db.close().await?,
    }
    Ok(Answer::Done)
}

/// What became of a step; an error that must not be, if there was one. `faulty`: the disk fails.
pub fn judge(result: Result<Answer, Error>, faulty: bool) -> Result<Outcome, Error> {
    let error = match result {
        Ok(answer) => return Ok(Outcome::Answered(answer)),
        Err(error) => error,
    };
    match error.kind() {
        kind @ (ErrorKind::KeyExists
        | ErrorKind::KeyMissing
        | ErrorKind::ValueDiffers
        | ErrorKind::NoSuchTree
        | ErrorKind::InvalidInput) => {
            Ok(Outcome::Answered(Answer::Refused(kind, error.operation())))
        }
        ErrorKind::Full if faulty => Ok(Outcome::Nothing),
        ErrorKind::Io | ErrorKind::Poisoned if faulty => Ok(Outcome::InDoubt),
        _ => Err(error),
    }
}

async fn commit(db: &Database, ops: &[Op], durability: Durability) -> Result<Answer, Error> {
    db.engine().check()?;
    let mut batch = Batch::new();
    for Op { tree, kind, key, value } in ops {
        let Some(tree) = db.engine().find_tree(tree.as_bytes()) else {
            return Ok(no_such_tree());
        };
        batch.push(tree, *kind, key, value);
    }
    db.engine().commit(batch, durability).await?;
    Ok(Answer::Done)
}

/// The face sorts on a thread of its own, which a simulation cannot have: the engine is asked itself.
async fn load(
    db: &Database,
    tree: &str,
    pairs: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<Answer, Error> {
    let engine = db.engine();
    engine.check()?;
    let Some(tree) = engine.find_tree(tree.as_bytes()) else { return Ok(no_such_tree()) };
    let mut load = engine.load(tree)?;
    for (key, value) in pairs {
        load.push(key, value).await?;
    }
    match load.finish().await? {
        Finished::Committed { sequence } => {
            engine.settle(sequence, Durability::Durable).await?;
            Ok(Answer::Done)
        }
        Finished::NotEmpty => Ok(Answer::Refused(ErrorKind::InvalidInput, None)),
    }
}

fn no_such_tree() -> Answer {
    Answer::Refused(ErrorKind::NoSuchTree, None)
}

/// Reads everything that is there.
pub async fn contents(db: &Database) -> Result<State, Error> {
    let mut state = State::new();
    for (name, options) in db.trees() {
        let Some(tree) = db.raw_tree(&name)? else { continue };
        let pairs = pairs(&tree).await?;
        let contents = match options.duplicates {
            false => Contents::Unique(pairs),
            true => Contents::Duplicates(by_key(pairs)),
        };
        state.insert(name, contents);
    }
    Ok(state)
}

async fn pairs(tree: &Tree) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let mut pairs = BTreeMap::new();
    let mut range = tree.range(..);
    while let Some(chunk) = range.next_chunk().await? {
        for (key, value) in chunk.iter() {
            let again = pairs.insert(key.to_vec(), value.to_vec());
            assert!(again.is_none(), "the key \"{}\" was returned twice", key.escape_ascii());
        }
    }
    Ok(pairs)
}

/// Stored keys are in the order of keys and then of sequences.
fn by_key(pairs: BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut keys: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for (stored, value) in pairs {
        let mut key = Vec::new();
        let sequence = duplicates::split(&stored, &mut key);
        assert!(sequence.is_some(), "\"{}\" is no stored duplicate", stored.escape_ascii());
        keys.entry(key).or_default().push(value);
    }
    keys
}

/// A put, of a database that was just recovered, to its first tree with unique keys, or to one that is
/// made for it.
pub async fn put_something(db: &Database, state: &mut State) -> Result<(), Error> {
    let unique = |contents: &Contents| matches!(contents, Contents::Unique(_));
    let name = state.iter().find(|(_, contents)| unique(contents)).map(|(name, _)| name.clone());
    let name = name.unwrap_or_else(|| "afterwards".to_owned());
    let tree = Arc::new(db.tree(&name).await?);
    let (key, value) = (b"written after the crash".to_vec(), vec![0xac; 100]);
    tree.put(&key, &value).into_future().await?;
    let contents = state.entry(name).or_insert_with(|| Contents::Unique(BTreeMap::new()));
    if let Contents::Unique(pairs) = contents {
        pairs.insert(key, value);
    }
    Ok(())
}
