//! Records from text files.
//!
//! A file is read line by line into chunks, each one buffer and the places of the records in it, so
//! that handing a record to a task copies nothing. Every line is a record: a chunk's first line
//! number and a record's position say which line it was.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::args::Format;
use crate::error::Failure;

/// Bytes of a pennysort key.
pub(crate) const PENNYSORT_KEY_LEN: usize = 10;

/// A chunk ends when it has this many records.
const CHUNK_RECORDS: usize = 1024;
/// A chunk ends when it is this large.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes that are read at once.
const BUFFER: usize = 1 << 18;
/// Longer than any record can be: no page has more than 16 MiB.
const LINE_BYTES_MAX: u64 = 32 << 20;

/// A file that was opened, or standard input.
pub(crate) struct Input {
    name: Arc<str>,
    /// `None`: standard input.
    file: Option<File>,
}

/// Records of one file, in its order.
pub(crate) struct Chunk {
    name: Arc<str>,
    first_line: u64,
    bytes: Vec<u8>,
    records: Vec<Record>,
}

/// Where a record is in its chunk.
struct Record {
    key: Range<usize>,
    value: Range<usize>,
}

impl Input {
    /// Opens all files, so that what cannot be read is found before anything is done. No files at
    /// all mean standard input.
    pub(crate) fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>, Failure> {
        if paths.is_empty() {
            return Ok(vec![Self::standard_input()]);
        }
        paths.iter().map(|path| Self::open(path)).collect()
    }

    fn standard_input() -> Self {
        Self { name: "standard input".into(), file: None }
    }

    fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Self::standard_input());
        }
        let name = path.display().to_string();
        let file = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => Ok(file),
        });
        let file =
            file.map_err(|error| Failure::used_wrongly(format!("{name} cannot be read: {error}")))?;
        Ok(Self { name: name.into(), file: Some(file) })
    }

    /// Bytes of all inputs, if they are ordinary files.
    pub(crate) fn total_bytes(inputs: &[Self]) -> Option<u64> {
        let len = |input: &Self| {
            let data = input.file.as_ref()?.metadata().ok()?;
            data.is_file().then_some(data.len())
        };
        inputs.iter().map(len).sum()
    }

    /// Reads everything and hands it to `give`, in chunks whose records are a multiple of `batch`
    /// but for the last of a file, until `give` says that it takes no more.
    pub(crate) fn read(
        self,
        format: Format,
        batch: usize,
        give: &mut dyn FnMut(Chunk) -> bool,
    ) -> Result<bool, Failure> {
        let source: Box<dyn Read> = match self.file {
            Some(file) => Box::new(file),
            None => Box::new(io::stdin().lock()),
        };
        let mut reader = BufReader::with_capacity(BUFFER, source);
        Chunk::read_all(&mut reader, self.name, format, batch, give)
    }
}

impl Chunk {
    fn new(name: Arc<str>, first_line: u64) -> Self {
        Self { name, first_line, bytes: Vec::new(), records: Vec::new() }
    }

    /// Reads everything, as [`Input::read`] does.
    pub(crate) fn read_all<R: Read>(
        reader: &mut BufReader<R>,
        name: Arc<str>,
        format: Format,
        batch: usize,
        give: &mut dyn FnMut(Chunk) -> bool,
    ) -> Result<bool, Failure> {
        let mut line = 1;
        loop {
            let mut chunk = Chunk::new(Arc::clone(&name), line);
            let filled = chunk.fill(reader, format, batch);
            line += chunk.len() as u64;
            // Also what was good before a bad line, so that where a load ends is no accident.
            if !chunk.is_empty() && !give(chunk) {
                return Ok(false);
            }
            if !filled? {
                return Ok(true);
            }
        }
    }

    /// Takes lines until it is full, or the next one might not come for a while: true. False at the
    /// end of the input.
    fn fill<R: Read>(
        &mut self,
        reader: &mut BufReader<R>,
        format: Format,
        batch: usize,
    ) -> Result<bool, Failure> {
        while !self.is_full(batch, reader.buffer()) {
            let start = self.bytes.len();
            let mut limited = Read::take(&mut *reader, LINE_BYTES_MAX);
            let read = limited
                .read_until(b'\n', &mut self.bytes)
                .map_err(|error| Failure::wrong(format!("reading {}: {error}", self.name)))?;
            if read == 0 {
                return Ok(false);
            }
            if self.bytes.last() == Some(&b'\n') {
                self.bytes.pop();
            } else if read as u64 == LINE_BYTES_MAX {
                return Err(self.bad_line("it is longer than any record can be"));
            }
            match cut(&self.bytes[start..], format) {
                Ok((key, value)) => self.records.push(Record {
                    key: start + key.start..start + key.end,
                    value: start + value.start..start + value.end,
                }),
                Err(why) => return Err(self.bad_line(&why)),
            }
        }
        Ok(true)
    }

    fn is_full(&self, batch: usize, ahead: &[u8]) -> bool {
        !self.is_empty()
            && self.len().is_multiple_of(batch)
            && (self.len() >= CHUNK_RECORDS
                || self.bytes.len() >= CHUNK_BYTES
                || !ahead.contains(&b'\n'))
    }

    /// The failure of the line behind the last record.
    fn bad_line(&self, why: &str) -> Failure {
        Failure::wrong(format!("{}: {why}", self.place(&(self.len()..self.len() + 1))))
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of the chunk, without newlines.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn key(&self, record: usize) -> &[u8] {
        &self.bytes[self.records[record].key.clone()]
    }

    pub(crate) fn value(&self, record: usize) -> &[u8] {
        &self.bytes[self.records[record].value.clone()]
    }

    /// The file and the lines of some records.
    pub(crate) fn place(&self, records: &Range<usize>) -> String {
        let first = self.first_line + records.start as u64;
        match records.len() {
            0 | 1 => format!("{}, line {first}", self.name),
            more => format!("{}, lines {first} to {}", self.name, first + more as u64 - 1),
        }
    }
}

/// Where key and value are in a line.
fn cut(line: &[u8], format: Format) -> Result<(Range<usize>, Range<usize>), String> {
    let (key, value) = match format {
        Format::Lines => (line.len(), line.len()),
        Format::Pennysort if line.len() < PENNYSORT_KEY_LEN => {
            return Err(format!(
                "{} bytes are too few for a pennysort record, whose key alone has \
                 {PENNYSORT_KEY_LEN}",
                line.len()
            ));
        }
        Format::Pennysort => (PENNYSORT_KEY_LEN, PENNYSORT_KEY_LEN),
        Format::Tsv => match line.iter().position(|byte| *byte == b'\t') {
            Some(tab) => (tab, tab + 1),
            None => return Err("there is no tab between key and value".into()),
        },
    };
    Ok((0..key, value..line.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, format: Format) -> (Chunk, Result<bool, Failure>) {
        let mut chunk = Chunk::new("f".into(), 7);
        let filled = chunk.fill(&mut BufReader::new(text.as_bytes()), format, 1);
        (chunk, filled)
    }

    #[test]
    fn formats_are_cut_where_they_should_be() {
        for (format, text, key, value) in [
            (Format::Pennysort, "0123456789 abc\r\n", "0123456789", " abc\r"),
            (Format::Pennysort, "0123456789", "0123456789", ""),
            (Format::Lines, "a\tb\n", "a\tb", ""),
            (Format::Lines, "\n", "", ""),
            (Format::Tsv, "a\tb\tc\n", "a", "b\tc"),
            (Format::Tsv, "\t\n", "", ""),
        ] {
            let (chunk, filled) = fill(text, format);
            assert!(filled.is_ok());
            assert_eq!((chunk.key(0), chunk.value(0)), (key.as_bytes(), value.as_bytes()));
        }
    }

    #[test]
    fn a_bad_line_is_named_and_those_before_it_are_kept() {
        let (chunk, filled) = fill("0123456789\n012345678\n0123456789\n", Format::Pennysort);
        assert_eq!(chunk.len(), 1);
        let message = filled.unwrap_err().to_string();
        assert!(message.starts_with("f, line 8: 9 bytes are too few"), "{message}");
        let (_, filled) = fill("a\tb\nab\n", Format::Tsv);
        assert_eq!(
            filled.unwrap_err().to_string(),
            "f, line 8: there is no tab between key and value"
        );
    }

    #[test]
    fn chunks_hold_whole_batches() {
        let text = "k\n".repeat(5000);
        let mut lens = Vec::new();
        let mut reader = BufReader::with_capacity(100, text.as_bytes());
        loop {
            let mut chunk = Chunk::new("f".into(), 1);
            let more = chunk.fill(&mut reader, Format::Lines, 300).unwrap();
            lens.push(chunk.len());
            if !more {
                break;
            }
        }
        assert_eq!(lens, [[300; 16].as_slice(), &[200]].concat());
    }
}
