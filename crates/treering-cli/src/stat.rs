//! `stat`: the database in numbers, for people or as JSON.

use std::fmt::Write;

use treering::Database;

use crate::args::{EngineArgs, StatArgs};
use crate::error::{Failure, Verdict};
use crate::open::{Missing, with_database};
use crate::output::{Output, grouped};

/// A number with its name in both forms.
struct Line {
    key: &'static str,
    words: &'static str,
    number: u64,
}

pub(crate) async fn run(engine: &EngineArgs, args: StatArgs) -> Result<Verdict, Failure> {
    let (names, lines) =
        with_database(engine, &args.database.database, Missing::Refuse, async |database| {
            Ok((database.tree_names(), lines(database)))
        })
        .await?;
    let mut out = Output::new();
    if args.json {
        out.line(json(&names, &lines))?;
    } else {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        out.line(format_args!("{:<44}{}", "trees", names.join(" ")))?;
        for line in &lines {
            out.line(format_args!("{:<44}{:>16}", line.words, grouped(line.number)))?;
        }
    }
    out.finish()?;
    Ok(Verdict::Fine)
}

fn lines(database: &Database) -> Vec<Line> {
    let (stats, recovery) = (database.stats(), database.recovery());
    let line = |key, words, number| Line { key, words, number };
    vec![
        line("page_size", "bytes a page", stats.page_size as u64),
        line("sequence", "sequence of the last commit", stats.sequence),
        line("durable_sequence", "sequence of the last durable commit", stats.durable_sequence),
        line("replayed", "log records replayed by this opening", recovery.replayed),
        line("file_bytes", "page file, bytes", stats.space.file),
        line("used_bytes", "  used by pages and the page map", stats.space.used),
        line("map_bytes", "  of that, the page map", stats.space.map),
        line("free_bytes", "  free", stats.space.free),
        line(
            "pending_release_bytes",
            "  free after the next checkpoints",
            stats.space.pending_release,
        ),
        line("log_used_bytes", "log in use, bytes", stats.log.used),
        line("log_capacity_bytes", "  at most", stats.log.capacity),
        line("log_segments", "  segments", stats.log.segments as u64),
        line("pool_frames", "frames in the pool", stats.pool.frames as u64),
        line("pool_dirty", "  dirty", stats.pool.dirty as u64),
        line("pool_pinned", "  pinned", stats.pool.pinned as u64),
        line("pool_loads", "  pages read since the opening", stats.pool.loads),
        line("pool_writes", "  pages written since the opening", stats.pool.writes),
        line("pool_evictions", "  pages evicted since the opening", stats.pool.evictions),
        line("checkpoints", "checkpoints since the opening", stats.checkpoints),
    ]
}

fn json(names: &[String], lines: &[Line]) -> String {
    let names: Vec<String> = names.iter().map(|name| json_string(name)).collect();
    let mut text = format!("{{\"trees\":[{}]", names.join(","));
    for line in lines {
        let _ = write!(text, ",\"{}\":{}", line.key, line.number);
    }
    text.push('}');
    text
}

fn json_string(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    #[test]
    fn strings_are_escaped() {
        assert_eq!(super::json_string("a\"b\\c\nd\u{e9}"), "\"a\\\"b\\\\c\\u000ad\u{e9}\"");
    }
}
