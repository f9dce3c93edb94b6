//! Small sound databases to begin from: one that was closed, and one whose machine lost power with
//! changes in the log only.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use treering::{Database, Error, Options, Tree};
use treering_pagefile::sim::{Sim, SimImage};
use treering_pagefile::{CheckpointInfo, Health, MapEntry, PageFile};

use crate::format::PAGE;
use crate::machine::{disk, machine, run};

/// A key and its value, as they are stored.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);
/// What is in each tree.
pub(crate) type State = BTreeMap<String, Vec<Pair>>;

/// A database on a disk that is off.
pub(crate) struct Base {
    pub(crate) image: SimImage,
    /// What is in it: as of the last checkpoint and after each commit since.
    pub(crate) states: Vec<State>,
    /// What its last checkpoint says, and where each page is.
    pub(crate) checkpoint: CheckpointInfo,
    pub(crate) pages: Vec<MapEntry>,
}

/// The options of all databases here: small pages, few frames, a small log.
pub(crate) fn options() -> Options {
    let options = Options::new().page_size(PAGE).cache_size(64 * PAGE as u64);
    options.log_size(64 << 10).log_buffer(8 << 10)
}

/// Opens the database on a machine's disk.
pub(crate) async fn open(sim: &Sim, options: Options, entropy: u64) -> Result<Database, Error> {
    options.open_on(disk(sim), sim.runtime(), entropy).await
}

impl Base {
    /// The database that was closed.
    pub(crate) fn closed() -> &'static Base {
        static CLOSED: OnceLock<Base> = OnceLock::new();
        CLOSED.get_or_init(|| Self::make(true))
    }

    /// The database that was not.
    pub(crate) fn crashed() -> &'static Base {
        static CRASHED: OnceLock<Base> = OnceLock::new();
        CRASHED.get_or_init(|| Self::make(false))
    }

    fn make(closed: bool) -> Self {
        let sim = machine(&SimImage::default());
        let states = run(&sim, async {
            let database = open(&sim, options(), 1).await?;
            fill(&database).await?;
            let mut states = vec![state(&database).await?];
            change(&database, &mut states).await?;
            if closed {
                database.close().await?;
                states.drain(..states.len() - 1);
            }
            Ok::<_, Error>(states)
        });
        let states = states.unwrap_or_else(|error| panic!("nothing fails here: {error}"));
        let image = sim.disk().image_durable_only();
        let sim = machine(&image);
        let health = Arc::new(Health::default());
        let opened = run(&sim, PageFile::open_read_only(disk(&sim), health, None));
        let opened = opened.unwrap_or_else(|error| panic!("it was just made: {error}"));
        Self { image, states, checkpoint: opened.checkpoint, pages: opened.entries }
    }
}

/// Trees of all kinds, over several checkpoints.
async fn fill(database: &Database) -> Result<(), Error> {
    let main = database.tree("main").await?;
    for number in 0..90u32 {
        let key = format!("key {:02}", number * 7 % 90);
        main.put(key, vec![number as u8; (number * 5 % 70) as usize]).await?;
        if number % 30 == 0 {
            database.checkpoint().await?;
        }
    }
    main.put("large", vec![1; 3000]).await?;
    main.put("larger", vec![2; 9000]).await?;
    let many = database.multi_tree("many").await?;
    for number in 0..24u8 {
        many.insert_dup([number / 3], [number; 30]).await?;
    }
    database.tree("gone").await?.put("a", "b").await?;
    database.drop_tree("gone").await?;
    for number in 20..50 {
        main.delete(format!("key {number}")).await?;
    }
    database.checkpoint().await
}

/// Changes of all kinds, and what is there after each.
async fn change(database: &Database, states: &mut Vec<State>) -> Result<(), Error> {
    let main = database.tree("main").await?;
    main.put("key 00", "changed").await?;
    states.push(state(database).await?);
    main.delete("key 01").await?;
    states.push(state(database).await?);
    main.put("large", vec![3; 2000]).await?;
    states.push(state(database).await?);
    main.delete_range("key 60".."key 65").await?;
    states.push(state(database).await?);
    let late = database.tree("late").await?;
    states.push(state(database).await?);
    let mut batch = database.batch();
    batch.put(&main, "b", "1").put(&late, "b", "2").delete(&main, "key 02");
    batch.commit().await?;
    states.push(state(database).await?);
    let many = database.multi_tree("many").await?;
    many.insert_dup([1], "more").await?;
    states.push(state(database).await?);
    database.rename_tree("late", "later").await?;
    states.push(state(database).await?);
    for number in 0..30 {
        main.put(format!("new {number}"), vec![9; number]).await?;
        states.push(state(database).await?);
    }
    Ok(())
}

/// Everything that is in a database.
async fn state(database: &Database) -> Result<State, Error> {
    let mut state = State::new();
    for name in database.tree_names() {
        let mut pairs = Vec::new();
        if let Some(tree) = database.raw_tree(&name)? {
            scan(&tree, &mut pairs).await?;
        }
        state.insert(name, pairs);
    }
    Ok(state)
}

/// Appends all pairs of a tree, up to where it cannot be read.
pub(crate) async fn scan(tree: &Tree, pairs: &mut Vec<Pair>) -> Result<(), Error> {
    let mut range = tree.range(..);
    while let Some(chunk) = range.next_chunk().await? {
        pairs.extend(chunk.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
    Ok(())
}
