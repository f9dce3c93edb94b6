//! The text that `dump` writes and `restore` reads.
//!
//! Lines end with a newline. Text is escaped: the printable characters of ASCII stand for themselves,
//! but for the backslash, which is `\\`; any other byte is a backslash and two hexadecimal digits
//! (as in the dumps of LMDB). A dump is
//!
//! ```text
//! treering-dump 1              the format's version
//! page-size 4096               bytes a page, for a database that has to be made
//! tree users                   for each tree: its name, escaped
//! duplicates                   only if its keys may have duplicates
//! gap none                     only if it was set: `none`, or n for one slot in n
//! key-type 2 (u64,str)         only if it was set: the version, and the name, escaped
//! data
//!  ada                         a blank and the key, escaped
//!  lovelace                    a blank and the value, escaped
//! end 1                        how many pairs there were
//! done 1                       how many trees there were
//! ```
//!
//! Pairs are in key order, and duplicates of a key in the order in which they were inserted; their
//! sequences are not kept. The counts at the end tell a whole dump from one that was cut short.

use treering::{Gap, TreeOptions};

/// The first line.
pub(crate) const FIRST_LINE: &str = "treering-dump 1";

/// A line that begins with no blank, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    PageSize(usize),
    Tree(String),
    Duplicates,
    Gap(Gap),
    KeyType { version: u32, name: String },
    Data,
    End(u64),
    Done(u64),
}

/// Appends the escaped form of some bytes.
pub(crate) fn escape_into(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b' '..=b'~' => out.push(byte),
            _ => {
                let digits = [byte >> 4, byte & 15].map(|nibble| DIGITS[usize::from(nibble)]);
                out.push(b'\\');
                out.extend_from_slice(&digits);
            }
        }
    }
}

/// The inverse of [`escape_into`]; `None` for what it never writes.
pub(crate) fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'\\' => b'\\',
                high => digit(high)? << 4 | digit(rest.next()?)?,
            },
            b' '..=b'~' => byte,
            _ => return None,
        });
    }
    Some(bytes)
}

fn digit(character: u8) -> Option<u8> {
    let value = char::from(character).to_digit(16)?;
    u8::try_from(value).ok()
}

/// The lines of a tree before its pairs.
pub(crate) fn tree_header(name: &str, options: &TreeOptions, out: &mut Vec<u8>) {
    out.extend_from_slice(b"tree ");
    escape_into(name.as_bytes(), out);
    out.push(b'\n');
    if options.duplicates {
        out.extend_from_slice(b"duplicates\n");
    }
    match options.gap {
        Gap::None => out.extend_from_slice(b"gap none\n"),
        Gap::OneIn(slots) => out.extend_from_slice(format!("gap {slots}\n").as_bytes()),
        _ => {}
    }
    if let Some(key) = &options.key_type {
        out.extend_from_slice(format!("key-type {} ", key.version).as_bytes());
        escape_into(key.name.as_bytes(), out);
        out.push(b'\n');
    }
    out.extend_from_slice(b"data\n");
}

/// Takes a line without its newline apart; `None` if it is none of them.
pub(crate) fn parse(line: &[u8]) -> Option<Line> {
    let line = str::from_utf8(line).ok()?;
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    Some(match (word, rest) {
        ("page-size", size) => Line::PageSize(size.parse().ok()?),
        ("tree", name) => Line::Tree(unescape_text(name)?),
        ("duplicates", "") => Line::Duplicates,
        ("gap", "none") => Line::Gap(Gap::None),
        ("gap", slots) => Line::Gap(Gap::OneIn(slots.parse().ok().filter(|slots| *slots >= 2)?)),
        ("key-type", both) => {
            let (version, name) = both.split_once(' ')?;
            Line::KeyType { version: version.parse().ok()?, name: unescape_text(name)? }
        }
        ("data", "") => Line::Data,
        ("end", count) => Line::End(count.parse().ok()?),
        ("done", count) => Line::Done(count.parse().ok()?),
        _ => return None,
    })
}

fn unescape_text(text: &str) -> Option<String> {
    String::from_utf8(unescape(text.as_bytes())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_and_only_what_is_written_is_read() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&all[..], b"", b"\\", b"\\41", b" a b ", "\u{e9}".as_bytes()] {
            let mut text = Vec::new();
            escape_into(bytes, &mut text);
            assert!(text.iter().all(|byte| (b' '..=b'~').contains(byte)));
            assert_eq!(unescape(&text).as_deref(), Some(bytes));
        }
        for wrong in [&b"\\"[..], b"\\4", b"\\4g", b"\\ 1", b"\n", b"\x80"] {
            assert_eq!(unescape(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn headers_are_read_as_they_were_written() {
        let options =
            TreeOptions::new().duplicates(true).gap(Gap::OneIn(4)).key_type("(u64, str)", 2);
        let mut text = Vec::new();
        tree_header("a b\n\u{e9}", &options, &mut text);
        let lines: Vec<_> = text.split(|byte| *byte == b'\n').map(parse).collect();
        let expected = [
            Some(Line::Tree("a b\n\u{e9}".into())),
            Some(Line::Duplicates),
            Some(Line::Gap(Gap::OneIn(4))),
            Some(Line::KeyType { version: 2, name: "(u64, str)".into() }),
            Some(Line::Data),
            None,
        ];
        assert_eq!(lines, expected);
        assert_eq!(parse(b"gap none"), Some(Line::Gap(Gap::None)));
        for wrong in [&b"gap 1"[..], b"end", b"end x", b"key-type 1", b"data 1", b"tree \\x"] {
            assert_eq!(parse(wrong), None, "{}", wrong.escape_ascii());
        }
    }
}
