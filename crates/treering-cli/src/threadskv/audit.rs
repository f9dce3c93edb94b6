//! `a`: is everything as it should be when nobody works?
//!
//! The old program looked for latches and pins that somebody had left behind, cleared them, and
//! counted keys by reading every page of the file. Here the whole database is verified, which counts
//! the keys on its way through the trees, and nothing is cleared: what was left behind is a bug, and
//! an error. Pins are counted when the database is closed and nobody works any more; whoever has a
//! page latched has it pinned, too.

use treering::Database;

use crate::error::{Failure, Verdict};
use crate::threadskv::tell;

pub(crate) async fn run(database: &Database) -> Result<Verdict, Failure> {
    tell("started latch mgr audit");
    let report = database.verify().await?;
    for problem in &report.problems {
        tell(problem);
    }
    tell(format_args!(" Total keys read {}", report.keys));
    tell(format_args!("finished latch mgr audit, found {} keys", report.keys));
    Ok(if report.problems.is_empty() { Verdict::Fine } else { Verdict::Wrong })
}

/// What to say of so many frames that are still pinned when nobody works any more.
pub(crate) fn left_behind(pinned: usize) -> Option<String> {
    (pinned > 0).then(|| format!("{pinned} frames of the pool are pinned, and nobody works"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_pins_are_left_behind() {
        assert_eq!(super::left_behind(0), None);
        assert!(super::left_behind(2).is_some_and(|said| said.starts_with("2 frames")));
    }
}
