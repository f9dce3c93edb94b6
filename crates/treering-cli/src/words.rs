//! The numbers of a database in words.

use crate::error::Failure;
use crate::output::{Output, grouped};
use crate::stat::Named;

/// In the order of the table; a line that begins with blanks goes with the one above it.
const WORDS: [(&str, &str); 42] = [
    ("page_size", "bytes a page"),
    ("open_ms", "open for, ms"),
    ("sequence", "sequence of the last commit"),
    ("durable_sequence", "sequence of the last durable commit"),
    ("replayed", "log records replayed by this opening"),
    ("file_bytes", "page file, bytes"),
    ("used_bytes", "  used by pages and the page map"),
    ("map_bytes", "  of that, the page map"),
    ("free_bytes", "  free"),
    ("reserved_bytes", "  of that, promised to changes under way"),
    ("floor_bytes", "  of that, kept for the page map"),
    ("pending_release_bytes", "  free after the next checkpoints"),
    ("log_used_bytes", "log in use, bytes"),
    ("log_capacity_bytes", "  at most"),
    ("log_segments", "  segments"),
    ("log_segments_kept", "  segments of an earlier life"),
    ("log_writes", "  writes since the opening"),
    ("log_written_bytes", "  bytes of these"),
    ("log_records", "  records in these"),
    ("pool_frames", "frames in the pool"),
    ("pool_dirty", "  dirty"),
    ("pool_pinned", "  pinned"),
    ("pool_loads", "  pages read since the opening"),
    ("pool_writes", "  pages written since the opening"),
    ("pool_writes_in_flight", "  writes on their way"),
    ("pool_evictions", "  pages evicted since the opening"),
    ("gets", "lookups since the opening"),
    ("gets_waited", "  that had to wait for the disk"),
    ("disk_requests", "requests to the disk since the opening"),
    ("disk_syncs_asked", "  syncs asked for"),
    ("disk_syncs", "  syncs done"),
    ("disk_rescued", "  completions that nobody came for"),
    ("disk_slow", "  slow ones"),
    ("checkpoints", "checkpoints since the opening"),
    ("checkpoint_sequence", "  the last one holds all up to sequence"),
    ("checkpoint_pages", "  pages written for it"),
    ("checkpoint_ms", "  it took, ms"),
    ("checkpoint_ago_ms", "  it ended so long ago, ms"),
    ("engine_records", "changes that the engine finished itself"),
    ("merges", "pages merged"),
    // Of the file that is offered, and not of the database.
    ("format", ""),
    ("unix_ms", ""),
];

pub(crate) fn table(out: &mut Output, numbers: &[Named]) -> Result<(), Failure> {
    let value = |name: &str| numbers.iter().find(|(other, _)| other == name).map(|(_, n)| *n);
    let known = WORDS.iter().filter(|(_, words)| !words.is_empty());
    for (name, words) in known {
        if let Some(number) = value(name) {
            line(out, words, grouped(number))?;
        }
        for (share, words, below) in SHARES {
            if below == *name
                && let Some((_, share)) = shares(numbers).into_iter().find(|(n, _)| *n == share)
            {
                line(out, words, format!("{:.1} %", share * 100.0))?;
            }
        }
    }
    // What a newer version of the library has, and this program knows nothing of.
    for (name, number) in numbers {
        if !WORDS.iter().any(|(known, _)| known == name) {
            line(out, name, grouped(*number))?;
        }
    }
    Ok(())
}

fn line(out: &mut Output, words: &str, number: String) -> Result<(), Failure> {
    out.line(format_args!("{words:<44}{number:>16}"))
}

/// Shares of something: name, words, and the line that they stand below.
const SHARES: [(&str, &str, &str); 3] = [
    ("file_fill", "  used of the file", "file_bytes"),
    ("log_fill", "  used of what it may have", "log_capacity_bytes"),
    ("hit_rate", "  that found all in memory", "gets_waited"),
];

/// What follows from the numbers: shares from 0 to 1, as far as they can be told.
pub(crate) fn shares(numbers: &[Named]) -> Vec<(&'static str, f64)> {
    let value = |name: &str| numbers.iter().find(|(other, _)| other == name).map(|(_, n)| *n);
    let share = |part: Option<u64>, whole: Option<u64>| match (part, whole) {
        (Some(part), Some(whole)) if whole > 0 => Some(part as f64 / whole as f64),
        _ => None,
    };
    let (gets, waited) = (value("gets"), value("gets_waited"));
    let found = gets.zip(waited).map(|(gets, waited)| gets.saturating_sub(waited));
    let all = [
        ("file_fill", share(value("used_bytes"), value("file_bytes"))),
        ("log_fill", share(value("log_used_bytes"), value("log_capacity_bytes"))),
        ("hit_rate", share(found, gets)),
    ];
    all.into_iter().filter_map(|(name, share)| Some((name, share?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_where_they_can_be() {
        let numbers = |pairs: &[(&str, u64)]| -> Vec<Named> {
            pairs.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
        };
        assert_eq!(shares(&numbers(&[("gets", 0), ("gets_waited", 0)])), []);
        assert_eq!(shares(&numbers(&[("gets", 8), ("gets_waited", 2)])), [("hit_rate", 0.75)]);
        let file = numbers(&[("file_bytes", 200), ("used_bytes", 50)]);
        assert_eq!(shares(&file), [("file_fill", 0.25)]);
    }
}
