//! Bugs planted on purpose: a check that finds nothing is worth something only if it would have found
//! something.
//!
//! Each is looked for in a process of its own, as what a bug does may be anything, an abort included.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use treering_latch::planted::Bug;

use crate::explore::Args;

/// All that executions here have to find.
const BUGS: [Bug; 13] = [
    Bug::NoValidation,
    Bug::PinNotCounted,
    Bug::EvictedWithoutLatch,
    Bug::CopiedWithoutLatch,
    Bug::FreedWhilePinned,
    Bug::LoadWakesTooSoon,
    Bug::SecondLeafNotLatched,
    Bug::BatchWaitsToLook,
    Bug::FenceNotChecked,
    Bug::LeafNotCheckedAgain,
    Bug::PostedWithoutFence,
    Bug::AcknowledgedTooSoon,
    Bug::CheckpointDoesNotWait,
];

/// For each bug, if nothing else is said.
const ITERATIONS: u64 = 20_000;

pub(crate) fn bug_named(name: &str) -> Option<Bug> {
    BUGS.into_iter().find(|bug| format!("{bug:?}") == name)
}

pub(crate) fn names() -> Vec<String> {
    BUGS.iter().map(|bug| format!("{bug:?}")).collect()
}

/// Looks for each bug; fails if one is not found.
pub(crate) fn look_for_all(args: &Args) -> ExitCode {
    let mut missed = Vec::new();
    for name in names() {
        let began = Instant::now();
        let said = match look_for(&name, args) {
            Ok(Some(said)) => said,
            Ok(None) => {
                missed.push(name.clone());
                "NOT FOUND".to_owned()
            }
            Err(error) => {
                eprintln!("cannot run myself: {error}");
                return ExitCode::FAILURE;
            }
        };
        println!("{name}: {:.1} s: {said}", began.elapsed().as_secs_f64());
    }
    if missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("not found: {}", missed.join(", "));
    ExitCode::FAILURE
}

/// What the process said that looked for a bug, if it found it.
fn look_for(name: &str, args: &Args) -> std::io::Result<Option<String>> {
    let iterations = args.iterations.unwrap_or(ITERATIONS).to_string();
    let seed = args.seed.to_string();
    let output = Command::new(std::env::current_exe()?)
        .args(["--bug", name, "--iterations", &iterations, "--seed", &seed])
        .stderr(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let ran = lines.next().unwrap_or("the process was ended");
    let how = lines.next().unwrap_or_default();
    let how: String = how.chars().take(160).collect();
    Ok(Some(format!("{ran}; {how}")))
}
