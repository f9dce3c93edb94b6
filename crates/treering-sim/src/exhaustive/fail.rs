//! Every I/O of a workload fails: once, or it and all after it.
//!
//! With `EIO`, and writes and reservations with `ENOSPC`, too. A write that fails may have written some
//! of its sectors; a sync that fails leaves its data marked clean. Every operation ends with an answer;
//! the answers, and what is read afterwards, have an explanation; and when the disk works again, what
//! was acknowledged as durable is there: in what the disk shows, and in what a crash would leave.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use treering_pagefile::Op;
use treering_pagefile::sim::{FailMode, SimImage};

use super::check::{Checker, Expected};
use super::crash::Share;
use super::life::{Mode, Start, live};
use super::machine::Planted;
use super::tally::Tally;
use super::workload::Workload;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Images of what a crash leaves, of those that chance chooses.
const BY_CHANCE: u64 = 3;

/// One way for an I/O to fail.
#[derive(Clone, Copy, Debug)]
struct Failing {
    index: u64,
    errno: i32,
    mode: FailMode,
}

/// Lets each of these I/Os of a workload fail; complaints are in the tally.
pub fn fail_all(
    workload: &Workload,
    start: &Start,
    seed: u64,
    share: Share,
    planted: Planted,
    tally: &mut Tally,
) {
    let trail = format!("{} --seed {seed}", workload.name);
    let all = match all_failures(workload, start, seed) {
        Ok(all) => all,
        Err(what) => return tally.complain(format!("{trail}: {what}")),
    };
    let checker = Checker::default();
    let mine = all.into_iter().enumerate().filter(|(number, _)| number % share.of == share.part);
    for (_, failing) in mine {
        if tally.is_enough() {
            return;
        }
        tally.failures += 1;
        let failed = catch_unwind(AssertUnwindSafe(|| {
            fail(workload, start, seed, failing, planted, &checker, tally)
        }));
        if let Err(what) = failed.unwrap_or_else(|_| Err("a panic".to_owned())) {
            tally.complain(format!("{trail}, {failing:?}: {what}"));
        }
    }
}

/// Runs the workload once: the ways in which its I/Os can fail.
fn all_failures(workload: &Workload, start: &Start, seed: u64) -> Result<Vec<Failing>, String> {
    let (machine, journal) = start.begin(seed, Planted::Nothing);
    let disk = machine.sim().disk();
    disk.record_trace();
    let opened = Cell::new(None);
    let lived = machine.sim().run(live(workload, &machine, &journal, &opened, Mode::Whole));
    drop(lived.map_err(|stalled| format!("without a failure: {stalled}"))??);
    let settled = machine.sim().settle();
    settled.map_err(|stalled| format!("without a failure, at rest: {stalled}"))?;
    let from = match opened.get() {
        Some(counts) if !workload.from_opening => counts.submitted,
        _ => 0,
    };
    let mut all = Vec::new();
    for event in disk.trace().iter().filter(|event| event.index >= from) {
        let writes = matches!(event.op, Op::Write | Op::WriteDurable | Op::Allocate { .. });
        for mode in [FailMode::Once, FailMode::FromThenOn] {
            all.push(Failing { index: event.index, errno: EIO, mode });
            if writes {
                all.push(Failing { index: event.index, errno: ENOSPC, mode });
            }
        }
    }
    Ok(all)
}

fn fail(
    workload: &Workload,
    start: &Start,
    seed: u64,
    failing: Failing,
    planted: Planted,
    checker: &Checker,
    tally: &mut Tally,
) -> Result<(), String> {
    let Failing { index, errno, mode } = failing;
    let (machine, journal) = start.begin(seed, planted);
    let disk = machine.sim().disk();
    match errno {
        // A disk that is full refuses what needs room, and nothing else; of a reservation that it refuses
        // a part may be taken all the same.
        ENOSPC => {
            disk.take_parts(2);
            disk.fail_when(move |point| {
                let struck = match mode {
                    FailMode::Once => point.index == index,
                    FailMode::FromThenOn => point.index >= index,
                };
                let needs_room = !matches!(point.op, Op::Read | Op::Sync);
                (struck && needs_room).then_some(ENOSPC.into())
            });
        }
        errno => disk.fail_at(index, errno, mode),
    }
    let opened = Cell::new(None);
    let lived = machine.sim().run(live(workload, &machine, &journal, &opened, Mode::Faulty));
    drop(lived.map_err(|stalled| stalled.to_string())??);
    machine.sim().settle().map_err(|stalled| format!("at rest: {stalled}"))?;
    disk.clear_faults();
    let expected = Expected::of(&journal);
    let named = [
        ("what reads show", disk.image_visible()),
        ("what is durable", disk.image_durable_only()),
        ("everything", disk.image_everything()),
    ];
    let by_chance = (0..BY_CHANCE).map(|seed| ("a subset", disk.image_by_seed(index * 10 + seed)));
    let mut seen = Vec::new();
    for (name, image) in named.into_iter().chain(by_chance) {
        check(&image, &expected, index, checker, &mut seen, tally)
            .map_err(|what| format!("{name}: {what}"))?;
    }
    Ok(())
}

fn check(
    image: &SimImage,
    expected: &Expected,
    seed: u64,
    checker: &Checker,
    seen: &mut Vec<u64>,
    tally: &mut Tally,
) -> Result<(), String> {
    let digest = image.digest();
    if seen.contains(&digest) {
        return Ok(());
    }
    seen.push(digest);
    tally.opened += 1;
    checker.check(image, expected, seed).0.map(drop)
}
