//! Sorted runs in temporary files.
//!
//! The files have no name: the system removes them when they are closed, however the process ends.
//! They lie in the folder `tmp` of the database, so that they are on the disk that has the room. Each record
//! is the lengths of key and value, u32 little-endian each, and their bytes.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;

/// Bytes that are read or written at once.
const BUFFER: usize = 256 << 10;

/// A key and its value.
pub(super) type Record = (Vec<u8>, Vec<u8>);

/// Writes one run.
pub(super) struct RunWriter {
    file: BufWriter<File>,
    folder: Arc<Path>,
    bytes: u64,
}

/// A run that is complete.
pub(super) struct Run {
    file: File,
    folder: Arc<Path>,
    pub(super) bytes: u64,
    /// How often its records were merged before.
    pub(super) level: u32,
}

/// Reads a run from its start.
pub(super) struct RunReader {
    file: BufReader<File>,
    folder: Arc<Path>,
    left: u64,
}

impl RunWriter {
    /// A new file in `folder`, which is made if it is not there.
    pub(super) fn new(folder: &Arc<Path>) -> Result<Self, Error> {
        let create = || {
            std::fs::create_dir_all(folder)?;
            tempfile::tempfile_in(folder)
        };
        let file = create().map_err(|source| failed("making", folder, source))?;
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Self { file, folder: Arc::clone(folder), bytes: 0 })
    }

    /// Appends a record; its key is greater than those before.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let too_long = || Error::invalid_input("a key or value of a bulk load is too long");
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| too_long());
        let (key_len, value_len) = (len(key)?.to_le_bytes(), len(value)?.to_le_bytes());
        for bytes in [&key_len[..], &value_len, key, value] {
            let written = self.file.write_all(bytes);
            written.map_err(|source| failed("writing", &self.folder, source))?;
            self.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    pub(super) fn finish(self, level: u32) -> Result<Run, Error> {
        let Self { file, folder, bytes } = self;
        let file = file.into_inner();
        let file = file.map_err(|error| failed("writing", &folder, error.into_error()))?;
        Ok(Run { file, folder, bytes, level })
    }
}

impl Run {
    pub(super) fn read(mut self) -> Result<RunReader, Error> {
        self.file.rewind().map_err(|source| failed("reading", &self.folder, source))?;
        let file = BufReader::with_capacity(BUFFER, self.file);
        Ok(RunReader { file, folder: self.folder, left: self.bytes })
    }
}

impl RunReader {
    /// The next record; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let record =
            self.read_record().map_err(|source| failed("reading", &self.folder, source))?;
        self.left = self.left.saturating_sub((8 + record.0.len() + record.1.len()) as u64);
        Ok(Some(record))
    }

    fn read_record(&mut self) -> io::Result<Record> {
        let mut lens = [[0; 4]; 2];
        self.file.read_exact(lens.as_flattened_mut())?;
        let [key, value] = lens.map(u32::from_le_bytes);
        let (mut key, mut value) = (vec![0; key as usize], vec![0; value as usize]);
        self.file.read_exact(&mut key)?;
        self.file.read_exact(&mut value)?;
        Ok((key, value))
    }
}

fn failed(doing: &str, folder: &Path, source: io::Error) -> Error {
    let what = format!("{doing} a temporary file of a bulk load in {}", folder.display());
    match source.kind() {
        io::ErrorKind::StorageFull => Error::full(format!("{what}: the disk is full")),
        _ => Error::io(what, source),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_run_gives_back_what_was_written_and_leaves_no_file() {
        let home = tempfile::tempdir().unwrap();
        let folder: Arc<Path> = home.path().join("tmp").into();
        let mut writer = RunWriter::new(&folder).unwrap();
        let records: Vec<_> = (0..5000u32)
            .map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; n as usize % 300]))
            .collect();
        for (key, value) in &records {
            writer.push(key, value).unwrap();
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "the file has no name");
        let mut reader = writer.finish(0).unwrap().read().unwrap();
        let mut read = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            read.push(record);
        }
        assert!(read == records);
    }
}
