//! `verify`, `checkpoint`, `compact` and `backup`.

use crate::args::{BackupArgs, DatabaseArgs, EngineArgs};
use crate::error::{Failure, Verdict};
use crate::open::{Missing, with_database};
use crate::output::{Output, counted, grouped, say};

pub(crate) async fn verify(engine: &EngineArgs, args: DatabaseArgs) -> Result<Verdict, Failure> {
    let report = with_database(engine, &args.database, Missing::Refuse, async |database| {
        Ok(database.verify().await?)
    })
    .await?;
    let mut out = Output::new();
    for problem in &report.problems {
        out.line(problem)?;
    }
    let checked = format!(
        "{}, {}, {}, height {}, {}{}",
        counted(report.trees as u64, "tree"),
        counted(report.keys, "key"),
        counted(report.pages, "page"),
        report.height,
        counted(report.log_records, "log record"),
        if report.space_checked { ", the space map" } else { "" },
    );
    let verdict = if report.problems.is_empty() {
        out.line(format_args!("all is well: {checked}"))?;
        Verdict::Fine
    } else {
        let problems = counted(report.problems.len() as u64, "problem");
        out.line(format_args!("{problems}: {checked}"))?;
        Verdict::Wrong
    };
    out.finish()?;
    Ok(verdict)
}

pub(crate) async fn checkpoint(
    engine: &EngineArgs,
    args: DatabaseArgs,
) -> Result<Verdict, Failure> {
    let sequence = with_database(engine, &args.database, Missing::Refuse, async |database| {
        database.checkpoint().await?;
        Ok(database.stats().sequence)
    })
    .await?;
    say(format_args!("everything up to sequence {} is in the page file", grouped(sequence)))?;
    Ok(Verdict::Fine)
}

pub(crate) async fn compact(engine: &EngineArgs, args: DatabaseArgs) -> Result<Verdict, Failure> {
    let compacted = with_database(engine, &args.database, Missing::Refuse, async |database| {
        Ok(database.compact().await?)
    })
    .await?;
    say(format_args!(
        "the page file had {} bytes and has {}",
        grouped(compacted.before),
        grouped(compacted.after)
    ))?;
    Ok(Verdict::Fine)
}

pub(crate) async fn backup(engine: &EngineArgs, args: BackupArgs) -> Result<Verdict, Failure> {
    let BackupArgs { database, destination } = args;
    let copied = with_database(engine, &database.database, Missing::Refuse, async |database| {
        Ok(database.backup(&destination).await?)
    })
    .await?;
    say(format_args!(
        "{} pages, everything up to sequence {}, are in {}",
        grouped(copied.pages),
        grouped(copied.sequence),
        destination.display()
    ))?;
    Ok(Verdict::Fine)
}
