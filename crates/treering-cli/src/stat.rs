//! `stat`: the database in numbers, for people or as JSON.
//!
//! A database that somebody else has open is shown as that process offers it, if it does.

use std::fmt::Write;
use std::path::Path;

use treering::{Database, ErrorKind, Outline};

use crate::args::{EngineArgs, StatArgs};
use crate::error::{Failure, Verdict};
use crate::live::{Live, NOT_OFFERED};
use crate::open::{Missing, with_database};
use crate::output::{Output, complain, grouped, quoted};
use crate::{top, words};

/// Leaves of each tree that are read to say how full they are, unless all are.
const LEAVES: usize = 256;

pub(crate) async fn run(engine: &EngineArgs, args: StatArgs) -> Result<Verdict, Failure> {
    let path = &args.database.database;
    if args.watch {
        return top::watch(path, args.every, args.count).await;
    }
    let leaves = if args.exact { usize::MAX } else { LEAVES };
    let looked = with_database(engine, path, Missing::Refuse, async |database| {
        Closed::look(database, leaves).await
    })
    .await;
    match looked {
        Ok(closed) => show(&closed, args.json)?,
        Err(Failure::Database(error)) if error.kind() == ErrorKind::Locked => {
            let live = Live::read(path)
                .map_err(|_| Failure::used_wrongly(format!("{error}; {NOT_OFFERED}")))?;
            show_live(path, &live, args.json)?;
        }
        Err(failure) => return Err(failure),
    }
    Ok(Verdict::Fine)
}

/// A number with its name.
pub(crate) type Named = (String, u64);

/// A database that nobody else has open.
struct Closed {
    /// How the disk is reached.
    backend: String,
    trees: Vec<(String, Option<Outline>)>,
    numbers: Vec<Named>,
}

impl Closed {
    async fn look(database: &Database, leaves: usize) -> Result<Self, Failure> {
        // Before the trees are looked at: that reads pages.
        let stats = database.stats();
        let mut numbers: Vec<Named> = Vec::new();
        for number in stats.numbers() {
            numbers.push((number.name.to_owned(), number.value));
            if number.name == "durable_sequence" {
                numbers.push(("replayed".to_owned(), database.recovery().replayed));
            }
        }
        let mut trees = Vec::new();
        for name in database.tree_names() {
            let outline = database.outline(&name, leaves).await?;
            trees.push((name, outline));
        }
        Ok(Self { backend: database.backend(), trees, numbers })
    }
}

fn show(closed: &Closed, json: bool) -> Result<(), Failure> {
    let mut out = Output::new();
    if json {
        out.line(closed_json(closed))?;
        return out.finish();
    }
    let width = closed.trees.iter().map(|(name, _)| format!("{name:?}").len()).max();
    let width = width.unwrap_or(0).max("trees".len());
    let row = |name: &str, cells: [String; 5]| {
        let [height, pages, leaves, fill, keys] = cells;
        format!("{name:<width$} {height:>7} {pages:>12} {leaves:>12} {fill:>6} {keys:>16}")
    };
    let head = ["height", "inner pages", "leaves", "full", "entries"].map(str::to_owned);
    out.line(row("trees", head))?;
    for (name, outline) in &closed.trees {
        let Some(outline) = outline else { continue };
        // What follows from some leaves is not exact.
        let about = if outline.is_exact() { "" } else { "~" };
        let cells = [
            outline.height.to_string(),
            grouped(outline.inner_pages),
            grouped(outline.leaves),
            format!("{about}{:.0} %", outline.fill() * 100.0),
            format!("{about}{}", grouped(outline.entries())),
        ];
        out.line(row(&format!("{name:?}"), cells))?;
    }
    out.line(format_args!("\nreached by {}", closed.backend))?;
    words::table(&mut out, &closed.numbers)?;
    out.finish()
}

fn closed_json(closed: &Closed) -> String {
    let names: Vec<String> = closed.trees.iter().map(|(name, _)| quoted(name)).collect();
    let mut text = format!("{{\"trees\":[{}]", names.join(","));
    numbers_json(&closed.numbers, &mut text);
    let outlines = closed.trees.iter().filter_map(|(name, outline)| Some((name, (*outline)?)));
    let outlines = outlines.map(|(name, outline)| {
        format!(
            "{{\"name\":{},\"height\":{},\"inner_pages\":{},\"leaves\":{},\"fill\":{:.4},\
             \"entries\":{},\"exact\":{}}}",
            quoted(name),
            outline.height,
            outline.inner_pages,
            outline.leaves,
            outline.fill(),
            outline.entries(),
            outline.is_exact(),
        )
    });
    let outlines: Vec<String> = outlines.collect();
    let (backend, outlines) = (quoted(&closed.backend), outlines.join(","));
    let _ = write!(text, ",\"io\":{backend},\"tree_details\":[{outlines}]}}");
    text
}

/// What another process offers.
fn show_live(path: &Path, live: &Live, json: bool) -> Result<(), Failure> {
    let mut out = Output::new();
    if json {
        let mut text = format!("{{\"live\":true,\"pid\":{}", live.pid);
        numbers_json(&live.numbers, &mut text);
        text.push('}');
        out.line(text)?;
    } else {
        let (path, pid) = (path.display(), live.pid);
        let _ = complain(format_args!("{path} is in use by pid {pid}: this is what that one says"));
        words::table(&mut out, &live.numbers)?;
    }
    out.finish()
}

fn numbers_json(numbers: &[Named], text: &mut String) {
    for (name, number) in numbers {
        let _ = write!(text, ",{}:{number}", quoted(name));
    }
    for (name, share) in words::shares(numbers) {
        let _ = write!(text, ",{}:{share:.4}", quoted(name));
    }
}
