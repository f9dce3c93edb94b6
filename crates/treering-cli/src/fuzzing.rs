//! The readers of text that comes from outside, as functions of bytes: for fuzzing.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::BufReader;

use clap::FromArgMatches;
use treering::TreeOptions;

use crate::args::{Arguments, Format, definition};
use crate::dump_format::{FIRST_LINE, escape_into, tree_header, unescape};
use crate::input::Chunk;
use crate::restore::{Part, Reader};

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// What a dump says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// Bytes a page, if it is said.
    pub page_size: Option<usize>,
    /// Each tree: its name, its options, its pairs.
    pub trees: Vec<(String, TreeOptions, Vec<Pair>)>,
}

/// What `restore` reads from these bytes, or what it says is wrong with them.
///
/// # Errors
/// They are no whole dump.
pub fn read_dump(bytes: &[u8]) -> Result<Dump, String> {
    let mut dump = Dump::default();
    let mut give = |part| {
        match part {
            Part::PageSize(size) => dump.page_size = Some(size),
            Part::Tree(name, options) => dump.trees.push((name, options, Vec::new())),
            Part::Pairs(pairs) => {
                let (_, _, all) = dump.trees.last_mut().expect("pairs follow their tree");
                all.extend(pairs);
            }
        }
        true
    };
    let read = Reader::new(bytes).read(&mut give);
    read.map(|()| dump).map_err(|failure| failure.to_string())
}

/// The text of a dump, as `dump` writes it.
pub fn write_dump(dump: &Dump) -> Vec<u8> {
    let mut text = format!("{FIRST_LINE}\n").into_bytes();
    if let Some(size) = dump.page_size {
        text.extend_from_slice(format!("page-size {size}\n").as_bytes());
    }
    for (name, options, pairs) in &dump.trees {
        tree_header(name, options, &mut text);
        for bytes in pairs.iter().flat_map(|(key, value)| [key, value]) {
            text.push(b' ');
            escape_into(bytes, &mut text);
            text.push(b'\n');
        }
        text.extend_from_slice(format!("end {}\n", pairs.len()).as_bytes());
    }
    text.extend_from_slice(format!("done {}\n", dump.trees.len()).as_bytes());
    text
}

/// The escaped form of these bytes.
pub fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    escape_into(bytes, &mut text);
    text
}

/// The inverse of [`escaped`]; `None` for what it never gives.
pub fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    unescape(text)
}

/// What a line is, in a file that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// A key of ten bytes, then the value.
    Pennysort,
    /// A key.
    Keys,
    /// A key, a tab, the value.
    Tsv,
}

/// The records that `load` reads from these bytes, `batch` of them together, and what it says at the
/// first line that is none.
pub fn read_lines(bytes: &[u8], lines: Lines, batch: usize) -> (Vec<Pair>, Option<String>) {
    let format = match lines {
        Lines::Pennysort => Format::Pennysort,
        Lines::Keys => Format::Lines,
        Lines::Tsv => Format::Tsv,
    };
    let mut pairs = Vec::new();
    let mut complaint = None;
    let mut give = |chunk: Chunk| {
        let pair = |record| (chunk.key(record).to_vec(), chunk.value(record).to_vec());
        pairs.extend((0..chunk.len()).map(pair));
        true
    };
    // Small, so that records lie across its ends.
    let mut reader = BufReader::with_capacity(64, bytes);
    if let Err(failure) = Chunk::read_all(&mut reader, "input".into(), format, batch, &mut give) {
        complaint = Some(failure.to_string());
    }
    (pairs, complaint)
}

thread_local! {
    /// The parser takes longer to make than to use, by far.
    static PARSER: RefCell<clap::Command> = RefCell::new(definition());
}

/// What the program makes of its arguments, its own name among them.
///
/// # Errors
/// What it says about them.
pub fn read_arguments(arguments: Vec<OsString>) -> Result<String, String> {
    PARSER.with_borrow_mut(|parser| {
        let matches = parser.try_get_matches_from_mut(arguments);
        match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
            Ok(arguments) => Ok(format!("{arguments:?}")),
            Err(error) => Err(error.to_string()),
        }
    })
}
