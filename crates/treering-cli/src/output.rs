//! Standard output and standard error.

use std::fmt::Write as _;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::Failure;

/// Standard output, buffered. What is not flushed by [`Output::finish`] may be lost.
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(1 << 16, io::stdout().lock()))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).map_err(Failure::output)
    }

    pub(crate) fn line(&mut self, line: impl std::fmt::Display) -> Result<(), Failure> {
        writeln!(self.0, "{line}").map_err(Failure::output)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(Failure::output)
    }

    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// One line on standard output.
pub(crate) fn say(line: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = Output::new();
    out.line(line)?;
    out.finish()
}

/// One line on standard error, if it is still there.
pub(crate) fn complain(what: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stderr(), "treering: {what}")
}

/// A bar over `total` bytes, or a counter if nobody knows how many there will be. It is hidden
/// unless standard error is a terminal.
pub(crate) fn bytes_bar(what: &'static str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        ),
        None => (ProgressBar::no_length(), "{msg} {spinner} {bytes}, {bytes_per_sec}, {elapsed}"),
    };
    show(bar, template, what)
}

/// A bar over `total` things.
pub(crate) fn count_bar(what: &'static str, total: u64) -> ProgressBar {
    show(ProgressBar::new(total), "{msg} {wide_bar} {human_pos} of {human_len}, {per_sec}", what)
}

/// A counter of things, when nobody knows how many there will be.
pub(crate) fn counter(what: &'static str) -> ProgressBar {
    show(ProgressBar::no_length(), "{msg} {spinner} {human_pos}, {per_sec}, {elapsed}", what)
}

fn show(bar: ProgressBar, template: &str, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| {
        // A template that does not parse would be a mistake in this file; any bar will do then.
        ProgressStyle::default_bar()
    });
    bar.set_style(style);
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 tree`, `2 trees`, `0 trees`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A string of JSON, which those of the graph language `dot` are written like, too.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            control if control < ' ' => {
                // Writing to a string does not fail.
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
    fn things_are_counted_in_words_and_strings_quoted() {
        let counted = [0, 1, 2].map(|number| super::counted(number, "page"));
        assert_eq!(counted, ["0 pages", "1 page", "2 pages"]);
        let quoted = super::quoted("a \"b\" \\ c\nd\te\u{e9}");
        assert_eq!(quoted, "\"a \\\"b\\\" \\\\ c\\nd\\u0009e\u{e9}\"");
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(super::grouped(number), text);
        }
    }
}
