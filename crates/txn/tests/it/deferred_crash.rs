//! The power fails, and I/Os fail, while big batches, range deletes and dropped trees are decided, are
//! applied behind their decision, and are cleaned up, beside checkpoints and other writers; and while
//! the recovery from that does the same. What is told, and how it is judged, is in `deferred_support`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Mutex;

use crate::deferred_support::{Story, Told};
use crate::engine_support::{Rng, open, options, patient, seeds};
use treering_pagefile::FileErrorKind;
use treering_pagefile::sim::{FailMode, Sim, SimImage, Stalled};

const EIO: i32 = 5;

/// Runs it without a fault; how many I/Os it does.
fn count_ios(story: &Story, image: &SimImage) -> u64 {
    let whole = patient(Sim::from_image(image, story.seed));
    let told = Mutex::new(Told::default());
    let run = whole.run(story.run(&whole, &told)).unwrap_or_else(|why| panic!("{story:?}: {why}"));
    run.unwrap_or_else(|error| panic!("{story:?}: {error}"));
    let told = told.into_inner().unwrap();
    story.judge(&whole.disk().image_visible(), &told, 1, &format!("{story:?}, without a fault"));
    whole.disk().io_count()
}

fn crash_at(story: &Story, image: &SimImage, index: u64) -> (Sim, Told) {
    let sim = patient(Sim::from_image(image, story.seed));
    let told = Mutex::new(Told::default());
    sim.disk().stop_at(index);
    match sim.run(story.run(&sim, &told)) {
        Err(Stalled::Dead(_)) => {}
        Ok(_) if sim.disk().is_dead() || sim.disk().io_count() <= index => {}
        other => panic!("{story:?}, crash at I/O {index}: {other:?}"),
    }
    (sim, told.into_inner().unwrap())
}

/// The power fails at about `points` of the I/Os, evenly spread.
fn crash_everywhere(story: Story, points: u64) {
    let image = story.start();
    let count = count_ios(&story, &image);
    let stride = (count / points).max(1);
    for index in (story.seed % stride..=count).step_by(stride as usize) {
        let (sim, told) = crash_at(&story, &image, index);
        let images = [
            ("durable only", sim.disk().image_durable_only()),
            ("everything", sim.disk().image_everything()),
            ("a subset", sim.disk().image_by_seed(index * 1000)),
        ];
        for (name, image) in &images {
            let context = format!("{story:?}, crash at I/O {index} of {count}, {name}");
            story.judge(image, &told, index, &context);
        }
    }
}

/// The power fails, and then again and again while the database is opened.
fn crash_in_recoveries(story: Story, points: u64) {
    let image = story.start();
    let count = count_ios(&story, &image);
    let mut rng = Rng::new(story.seed);
    for round in 0..points {
        let index = rng.below(count as usize) as u64;
        let (sim, told) = crash_at(&story, &image, index);
        let mut image = sim.disk().image_by_seed(round);
        for depth in 0..3 {
            let again = rng.below(90) as u64;
            let sim = patient(Sim::from_image(&image, round + depth));
            sim.disk().stop_at(again);
            // What opened resumes what is left of it, and dies with it.
            let opening = sim.run(async {
                let opened = open(&sim, options(story.frames, round << 8 | depth)).await;
                if let Ok(engine) = &opened {
                    let _ = engine.verify().await;
                }
                opened.map(drop)
            });
            drop(opening);
            image = sim.disk().image_by_seed(round + depth * 100);
            let context = format!("{story:?}, I/O {index}, round {round}, {depth}: I/O {again}");
            story.judge(&image, &told, round, &context);
        }
    }
}

/// Each of about `points` of the I/Os fails, once or from then on.
fn fail_everywhere(story: Story, points: u64) {
    let image = story.start();
    let count = count_ios(&story, &image);
    let stride = (count / points).max(1);
    for index in (story.seed % stride..count).step_by(stride as usize) {
        for mode in [FailMode::Once, FailMode::FromThenOn] {
            let context = format!("{story:?}: I/O {index} of {count} fails, {mode:?}");
            let sim = patient(Sim::from_image(&image, story.seed));
            let told = Mutex::new(Told::default());
            sim.disk().fail_at(index, EIO, mode);
            let run = sim.run(story.run(&sim, &told));
            if let Err(error) = run.unwrap_or_else(|stalled| panic!("{context}: {stalled}")) {
                use FileErrorKind::{Damaged, Io, Poisoned};
                assert!(
                    matches!(error.file_kind(), Some(Io | Poisoned | Damaged)),
                    "{context}: {error}"
                );
            }
            sim.settle().unwrap_or_else(|stalled| panic!("{context}, at rest: {stalled}"));
            sim.disk().clear_faults();
            let told = told.into_inner().unwrap();
            for image in [sim.disk().image_visible(), sim.disk().image_durable_only()] {
                story.judge(&image, &told, index, &context);
            }
        }
    }
}

#[test]
fn t17_a_crash_anywhere_in_big_batches() {
    for seed in seeds(1, 1) {
        let story = Story { ranges: false, drops: false, ..Story::new(seed) };
        crash_everywhere(story, 60);
    }
}

#[test]
fn t17_a_crash_anywhere_in_big_batches_with_large_values_beside_checkpoints_and_writers() {
    for seed in seeds(2, 1) {
        let story = Story {
            frames: 16,
            large: 8,
            ops: 90,
            checkpoints: 8,
            others: 12,
            drops: false,
            ranges: false,
            ..Story::new(seed)
        };
        crash_everywhere(story, 50);
    }
}

#[test]
fn p5_a_crash_anywhere_in_range_deletes_and_dropped_trees() {
    for seed in seeds(3, 1) {
        crash_everywhere(Story::new(seed), 50);
    }
}

#[test]
fn p5_t14_a_crash_anywhere_in_all_of_it_beside_checkpoints_in_the_smallest_pool() {
    for seed in seeds(4, 1) {
        let story = Story { frames: 16, large: 3, checkpoints: 12, others: 15, ..Story::new(seed) };
        crash_everywhere(story, 50);
    }
}

#[test]
fn t17_a_crash_in_the_recovery_from_a_crash_in_a_big_change() {
    for seed in seeds(5, 1) {
        crash_in_recoveries(Story { checkpoints: 6, large: 3, ..Story::new(seed) }, 30);
    }
}

#[test]
fn t17_an_io_that_fails_in_a_big_change() {
    for seed in seeds(6, 1) {
        let story = Story { frames: 16, checkpoints: 4, others: 6, ..Story::new(seed) };
        fail_everywhere(story, 40);
    }
}
