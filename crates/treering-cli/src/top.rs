//! `top` and `stat --watch`: a running database, second by second, from what it offers.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use crate::args::TopArgs;
use crate::error::{Failure, Verdict};
use crate::live::{Live, Rates};
use crate::output::{Output, grouped};

/// Lines between two heads of the table.
const HEAD_EVERY: u64 = 20;

/// One line a time, as `vmstat` has it.
pub(crate) async fn watch(path: &Path, every: u64, count: u64) -> Result<Verdict, Failure> {
    let mut line = 0;
    watch_with(path, every, count, |rates| {
        let mut out = Output::new();
        if line % HEAD_EVERY == 0 {
            out.line(row(COLUMNS.map(|(title, _)| title.to_owned())))?;
        }
        line += 1;
        out.line(row(COLUMNS.map(|(_, cell)| cell(rates))))?;
        out.finish()
    })
    .await
}

/// The whole screen.
pub(crate) async fn run(args: TopArgs) -> Result<Verdict, Failure> {
    let path = &args.database.database;
    let on_screen = std::io::stdout().is_terminal();
    watch_with(path, args.every, args.count, |rates| {
        let mut out = Output::new();
        if on_screen {
            // To the upper left corner, and nothing below it.
            out.bytes(b"\x1b[H\x1b[J")?;
        }
        screen(&mut out, path, rates)?;
        out.finish()
    })
    .await
}

/// Shows what happens until somebody interrupts it, `count` times (0: for ever), or until the database
/// is closed.
async fn watch_with(
    path: &Path,
    every: u64,
    count: u64,
    mut show: impl FnMut(&Rates<'_>) -> Result<(), Failure>,
) -> Result<Verdict, Failure> {
    let mut before = Live::read(path)?;
    let mut shown = 0;
    loop {
        tokio::select! {
            next = later(&before, path, every) => {
                let now = next?;
                show(&Rates::between(&before, &now))?;
                before = now;
            }
            _ = tokio::signal::ctrl_c() => return Ok(Verdict::Fine),
        }
        shown += 1;
        if shown == count {
            return Ok(Verdict::Fine);
        }
    }
}

/// A version that is about `every` seconds later.
async fn later(before: &Live, path: &Path, every: u64) -> Result<Live, Failure> {
    tokio::time::sleep(Duration::from_secs(every - 1)).await;
    before.next(path).await
}

type Cell = fn(&Rates<'_>) -> String;

const COLUMNS: [(&str, Cell); 11] = [
    ("gets/s", |rates| number(rates.rate("gets"))),
    ("hit %", |rates| percent(rates.hit_rate())),
    ("commits/s", |rates| number(rates.rate("sequence"))),
    ("log MB/s", |rates| format!("{:.1}", rates.rate("log_written_bytes") / 1e6)),
    ("log wr/s", |rates| number(rates.rate("log_writes"))),
    ("read/s", |rates| number(rates.rate("pool_loads"))),
    ("written/s", |rates| number(rates.rate("pool_writes"))),
    ("evict/s", |rates| number(rates.rate("pool_evictions"))),
    ("dirty %", |rates| percent(share(rates.now, "pool_dirty", "pool_frames"))),
    ("log %", |rates| percent(share(rates.now, "log_used_bytes", "log_capacity_bytes"))),
    ("file MB", |rates| number(rates.now.get("file_bytes") as f64 / 1e6)),
];

fn row<const N: usize>(cells: [String; N]) -> String {
    cells.map(|cell| format!("{cell:>10}")).concat()
}

fn screen(out: &mut Output, path: &Path, rates: &Rates<'_>) -> Result<(), Failure> {
    let now = rates.now;
    let open = Duration::from_millis(now.get("open_ms")).as_secs();
    out.line(format_args!(
        "treering {}   pid {}   open for {}:{:02}:{:02}   {}",
        path.display(),
        now.pid,
        open / 3600,
        open / 60 % 60,
        open % 60,
        now.io
    ))?;
    let mut line = |title: &str, what: String| out.line(format_args!("{title:<12}{what}"));
    line(
        "lookups",
        format!("{:>12}/s   {} in memory", number(rates.rate("gets")), percent(rates.hit_rate())),
    )?;
    let (commits, writes) = (rates.rate("sequence"), rates.rate("log_writes"));
    line(
        "commits",
        format!(
            "{:>12}/s   {} of them not durable yet",
            number(commits),
            grouped(now.get("sequence").saturating_sub(now.get("durable_sequence")))
        ),
    )?;
    line(
        "log",
        format!(
            "{:>12}/s   {:.1} records a write, {:.1} MB/s, {} used",
            number(writes),
            rates.grown("log_records") as f64 / rates.grown("log_writes").max(1) as f64,
            rates.rate("log_written_bytes") / 1e6,
            percent(share(now, "log_used_bytes", "log_capacity_bytes"))
        ),
    )?;
    line(
        "pages",
        format!(
            "{:>12}/s   read, {}/s written, {}/s evicted",
            number(rates.rate("pool_loads")),
            number(rates.rate("pool_writes")),
            number(rates.rate("pool_evictions"))
        ),
    )?;
    line(
        "cache",
        format!(
            "{:>12}     frames, {} dirty, {} pinned",
            grouped(now.get("pool_frames")),
            percent(share(now, "pool_dirty", "pool_frames")),
            grouped(now.get("pool_pinned"))
        ),
    )?;
    line(
        "disk",
        format!(
            "{:>12}/s   requests, {}/s syncs, {} slow ones since the opening",
            number(rates.rate("disk_requests")),
            number(rates.rate("disk_syncs")),
            grouped(now.get("disk_slow"))
        ),
    )?;
    line(
        "checkpoints",
        format!(
            "{:>12}     the last {} s ago: {} pages in {} ms",
            grouped(now.get("checkpoints")),
            now.get("checkpoint_ago_ms") / 1000,
            grouped(now.get("checkpoint_pages")),
            grouped(now.get("checkpoint_ms"))
        ),
    )?;
    line(
        "file",
        format!(
            "{:>12} MB  {} used, {} MB free, {} MB free after the next checkpoints",
            number(now.get("file_bytes") as f64 / 1e6),
            percent(share(now, "used_bytes", "file_bytes")),
            number(now.get("free_bytes") as f64 / 1e6),
            number(now.get("pending_release_bytes") as f64 / 1e6)
        ),
    )
}

fn share(live: &Live, part: &str, whole: &str) -> Option<f64> {
    let whole = live.get(whole);
    (whole > 0).then(|| live.get(part) as f64 / whole as f64)
}

fn number(value: f64) -> String {
    grouped(value.round() as u64)
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}
