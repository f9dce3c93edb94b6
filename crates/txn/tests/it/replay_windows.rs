//! What a recovery makes of a long log is what the commits in it came to one by one, however many of them
//! it takes together and however many tasks apply them: on maps, each commit changes its keys in its turn.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use futures::executor::block_on;
use treering_blink::TreeRef;
use treering_pagefile::sim::{Sim, SimImage};
use treering_pagefile::{Disk, DiskOptions, EngineThread, FileErrorKind, Runtime, open_directory};
use treering_txn::{Durability, Engine, EngineOptions, LogOptions, OpKind};

use crate::engine_support::{
    MAX_RECORD, Model, Op, Rng, apply, assert_clean, assert_same, batch, contents, large_value,
    machine, open, options, patient, seeds, small_log, value,
};

const NAMES: [&str; 3] = ["ascending", "scattered", "dropped"];

/// A log that no checkpoint makes short.
fn with_a_long_log(frames: usize, entropy: u64) -> EngineOptions {
    let log = LogOptions { segment_size: 4 << 20, ..small_log(4) };
    EngineOptions { log, ..options(frames, entropy) }
}

/// One life, whose log has everything that a window takes and everything that it does not.
struct Life {
    rng: Rng,
    engine: Arc<Engine>,
    trees: Vec<TreeRef>,
    model: Model,
    /// Of the tree to which keys are added at the end.
    next: u32,
}

impl Life {
    async fn begin(engine: Arc<Engine>, seed: u64) -> Self {
        let mut trees = Vec::new();
        for name in NAMES {
            trees.push(engine.tree(name.as_bytes()).await.unwrap());
        }
        Self { rng: Rng::new(seed), engine, trees, model: vec![Default::default(); 3], next: 0 }
    }

    async fn commit(&mut self, ops: &[Op]) {
        apply(&mut self.model, ops).unwrap();
        self.engine.commit(batch(&self.trees, ops), Durability::None).await.unwrap();
    }

    /// A put or a delete: of few keys in the first tree's past and in the last tree, so that a window has
    /// many writes of one key; of many in between.
    fn op(&mut self) -> Op {
        let (rng, tree) = (&mut self.rng, 0);
        let (tree, key) = match rng.below(10) {
            0..=2 => {
                self.next += 1;
                (tree, format!("at the end, {:08}", self.next).into_bytes())
            }
            3 => (tree, format!("at the end, {:08}", rng.below(30)).into_bytes()),
            4..=8 => (1, (rng.next() % 5000).to_string().into_bytes()),
            // The empty key, too.
            _ => (2, vec![b'k'; rng.below(12)]),
        };
        let mut op = Op::put(tree, &key, &value(rng, &key));
        match rng.below(100) {
            0..=19 => op.kind = OpKind::Delete,
            20..=21 => op.value = large_value(rng),
            _ => {}
        }
        op
    }

    async fn steps(&mut self, count: usize) {
        for _ in 0..count {
            match self.rng.below(200) {
                0 => {
                    let tree = self.rng.below(2);
                    let from =
                        self.rng.pick(&[b"1".to_vec(), b"at the end, 00000020".to_vec()]).clone();
                    let to = self.rng.chance(50).then(|| [from.as_slice(), b"5"].concat());
                    let (engine, handle) = (&self.engine, self.trees[tree]);
                    let done =
                        engine.delete_range(handle, from.clone(), to.clone(), Durability::None);
                    done.await.unwrap();
                    self.model[tree]
                        .retain(|key, _| *key < from || to.as_ref().is_some_and(|to| key >= to));
                }
                1 => {
                    self.engine.drop_tree(NAMES[2].as_bytes()).await.unwrap();
                    self.trees[2] = self.engine.tree(NAMES[2].as_bytes()).await.unwrap();
                    self.model[2].clear();
                }
                2 => {
                    self.engine.rename(NAMES[1].as_bytes(), b"for a moment").await.unwrap();
                    let op = self.op();
                    self.commit(&[op]).await;
                    self.engine.rename(b"for a moment", NAMES[1].as_bytes()).await.unwrap();
                }
                // More than the log's buffer takes: it is decided by one record, and applied behind it.
                3 => {
                    let many: Vec<_> = (0..150).map(|_| self.op()).collect();
                    self.commit(&many).await;
                }
                4..=150 => {
                    let op = self.op();
                    self.commit(&[op]).await;
                }
                _ => {
                    let some: Vec<_> = (0..1 + self.rng.below(20)).map(|_| self.op()).collect();
                    self.commit(&some).await;
                }
            }
        }
    }
}

/// What a life of so many steps leaves to the next one, and what that has to find.
fn life(seed: u64, steps: usize) -> (SimImage, Model) {
    let sim = machine(seed);
    let model = sim.run(async {
        let engine = open(&sim, with_a_long_log(512, seed)).await.unwrap();
        let mut life = Life::begin(Arc::clone(&engine), seed).await;
        // The first half of the first tree is in the checkpoint.
        life.steps(steps / 4).await;
        engine.checkpoint().await.unwrap();
        life.steps(steps).await;
        engine.sync().await.unwrap();
        engine.stop();
        life.model
    });
    (sim.disk().image_visible(), model.unwrap())
}

#[test]
fn a_long_log_is_replayed_to_what_its_commits_came_to() {
    for seed in seeds(1, 2) {
        let (image, model) = life(seed, 1500);
        // Windows of 4 KiB and one task; two tasks, and windows of 8 KiB; one window, in memory wholly.
        for frames in [16, 40, 256, 20_000] {
            let context = format!("seed {seed}, {frames} frames");
            let sim = patient(Sim::from_image(&image, seed ^ frames as u64));
            let done = sim.run(async {
                let options = with_a_long_log(frames, 77);
                let engine = open(&sim, options).await.unwrap_or_else(|e| panic!("{context}: {e}"));
                assert!(engine.recovery().replayed >= 1000, "{context}: {:?}", engine.recovery());
                assert_same(&contents(&engine, &NAMES).await.unwrap(), &model, &context);
                assert_clean(&engine, &context).await;
                engine.close().await.unwrap();
            });
            done.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
        }
    }
}

#[test]
fn a_long_log_is_replayed_in_memory_for_reading_only() {
    for seed in seeds(5, 2) {
        let (image, model) = life(seed, 400);
        // One task; two of them.
        for frames in [1000, 4000] {
            let context = format!("seed {seed}, {frames} frames");
            let sim = patient(Sim::from_image(&image, seed));
            let done = sim.run(async {
                let disk: Arc<dyn Disk> = sim.disk();
                let options = with_a_long_log(frames, 77);
                let opened =
                    Engine::open_read_only(disk, sim.runtime(), options, Box::new(())).await;
                let engine = opened.unwrap_or_else(|e| panic!("{context}: {e}"));
                assert_same(&contents(&engine, &NAMES).await.unwrap(), &model, &context);
                assert_clean(&engine, &context).await;
                engine.stop();
            });
            done.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
        }
    }
}

/// A recovery that is cut off anywhere leaves the next one what it found.
#[test]
fn the_power_fails_in_a_replay_of_many_windows() {
    let (image, model) = life(11, 500);
    let mut ends = 0;
    for stop in (0..).step_by(37) {
        let sim = patient(Sim::from_image(&image, stop));
        sim.disk().stop_at(stop);
        let opened = sim.run(open(&sim, with_a_long_log(40, 78)));
        ends += u64::from(opened.is_ok_and(|opened| opened.is_ok()));
        let context = format!("stopped at {stop}");
        let left = sim.disk().image_by_seed(stop);
        let sim = patient(Sim::from_image(&left, stop + 1));
        let done = sim.run(async {
            let opened = open(&sim, with_a_long_log(64, 79)).await;
            let engine = opened.unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_same(&contents(&engine, &NAMES).await.unwrap(), &model, &context);
            assert_clean(&engine, &context).await;
            engine.stop();
        });
        done.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
        if ends > 0 {
            break;
        }
    }
}

/// The disk has no more room than the life before it had taken. That is enough, or nearly: pages are written back
/// and changed again as the windows come, and tasks that meet the full disk leave the rest to one of them. If
/// it is not, the opening says so, and the next one finds what it found.
#[test]
fn a_disk_that_is_full_in_a_replay_harms_nothing() {
    for seed in seeds(20, 4) {
        let (image, model) = life(seed, 300);
        for frames in [16, 40, 200] {
            let context = format!("seed {seed}, {frames} frames");
            let mut sim = patient(Sim::from_image(&image, seed));
            sim.disk().set_capacity(sim.disk().space_used());
            let is_full = sim.run(async {
                match open(&sim, with_a_long_log(frames, 78)).await {
                    Ok(engine) => {
                        assert_same(&contents(&engine, &NAMES).await.unwrap(), &model, &context);
                        assert_clean(&engine, &context).await;
                        engine.stop();
                        false
                    }
                    Err(error) => {
                        let kind = error.file_kind();
                        assert_eq!(kind, Some(FileErrorKind::Full), "{context}: {error}");
                        true
                    }
                }
            });
            if is_full.unwrap_or_else(|stalled| panic!("{context}: {stalled}")) {
                sim.settle().unwrap();
                sim = patient(Sim::from_image(&sim.disk().image_visible(), seed + 1));
                sim.disk().set_capacity(u64::MAX);
                let done = sim.run(async {
                    let engine = open(&sim, with_a_long_log(frames, 79)).await.unwrap();
                    assert_same(&contents(&engine, &NAMES).await.unwrap(), &model, &context);
                    engine.stop();
                });
                done.unwrap_or_else(|stalled| panic!("{context}: {stalled}"));
            }
        }
    }
}

/// With threads: several tasks at once, in a cache that holds a part of the pages, and in one that holds
/// all of them.
#[test]
fn threads_replay_a_log_together() {
    let folder = tempfile::tempdir().unwrap();
    let options = |cache: usize, entropy| EngineOptions {
        page_size: Some(4096),
        cache_size: cache as u64,
        log: LogOptions { segment_size: 16 << 20, ..small_log(4) },
        create: true,
        entropy,
        observer: None,
    };
    let opened = |options| {
        let disk = open_directory(folder.path(), &DiskOptions::default()).unwrap();
        let runtime: Arc<dyn Runtime> = Arc::new(EngineThread::start().unwrap());
        block_on(Engine::open(disk, runtime, options, Box::new(()))).unwrap()
    };
    let engine = opened(options(32 << 20, 1));
    let mut rng = Rng::new(1);
    let mut model: Model = vec![Default::default(); 2];
    let trees = ["one", "two"].map(|name| block_on(engine.tree(name.as_bytes())).unwrap());
    for _ in 0..1000 {
        let ops: Vec<_> = (0..10)
            .map(|_| {
                let key = (rng.next() % 7_000).to_string().into_bytes();
                let mut op =
                    Op::put(rng.below(2), &key, &vec![rng.next() as u8; rng.below(MAX_RECORD)]);
                if rng.chance(20) {
                    op.kind = OpKind::Delete;
                }
                op
            })
            .collect();
        apply(&mut model, &ops).unwrap();
        block_on(engine.commit(batch(&trees, &ops), Durability::None)).unwrap();
    }
    block_on(engine.sync()).unwrap();
    engine.stop();
    drop(engine);
    for (round, cache) in [256 << 10, 32 << 20].into_iter().enumerate() {
        let context = format!("{cache} bytes of cache");
        let engine = opened(options(cache, 2 + round as u64));
        assert_same(&block_on(contents(&engine, &["one", "two"])).unwrap(), &model, &context);
        block_on(assert_clean(&engine, &context));
        block_on(engine.close()).unwrap();
    }
}
