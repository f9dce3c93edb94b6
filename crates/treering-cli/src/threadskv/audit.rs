//! `a`: is everything as it should be when nobody works?
//!
//! The old program looked for latches and pins that somebody had left behind, cleared them, and
//! counted keys by reading every page of the file. Here the whole database is verified, which counts
//! the keys on its way through the trees, and nothing is cleared: what was left behind is a bug, and
//! an error.

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
