//! The file of acknowledged keys.
//!
//! A key is in it only after its commit was acknowledged as durable. Keys are collected while the
//! one before is being written, and each write(2) appends whole lines; when the program is killed
//! within one, the last line may be incomplete. Whoever reads the file after that ignores a last
//! line without a newline, and opening the file to go on cuts it off.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::error::Failure;
use crate::feed::{Feed, Lot};

/// Lots that wait to be written, and how many go into one write.
const LOTS_WAITING: usize = 4096;
/// How much is read at a time in search of the last newline.
const BLOCK: usize = 1 << 16;

/// An open file of acknowledged keys. Whoever makes it says where it writes to; the thread that
/// writes ends when it is dropped.
pub(crate) struct Acks {
    sender: mpsc::Sender<Lot>,
    writer: JoinHandle<()>,
}

/// The file, before anything is done with the database.
pub(crate) struct AcksFile {
    path: PathBuf,
    file: File,
}

impl AcksFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let opened = OpenOptions::new().append(true).create(true).open(path).and_then(|file| {
            if file.metadata()?.is_file() {
                cut_incomplete_line(path, &file)?;
            }
            Ok(file)
        });
        let file = opened.map_err(|error| {
            Failure::used_wrongly(format!("{} cannot be written: {error}", path.display()))
        })?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Starts the thread that writes; what it cannot write stops the feed.
    pub(crate) fn start(self, feed: Arc<Feed>) -> Result<Acks, Failure> {
        let (sender, mut lots) = mpsc::channel::<Lot>(LOTS_WAITING);
        let Self { path, mut file } = self;
        let write = move || {
            let (mut waiting, mut lines) = (Vec::new(), Vec::new());
            while lots.blocking_recv_many(&mut waiting, LOTS_WAITING) > 0 {
                lines.clear();
                for key in waiting.iter().flat_map(Lot::keys) {
                    lines.extend_from_slice(key);
                    lines.push(b'\n');
                }
                waiting.clear();
                if let Err(error) = file.write_all(&lines) {
                    feed.fail(Failure::wrong(format!("writing {}: {error}", path.display())));
                    return;
                }
            }
        };
        let writer = std::thread::Builder::new()
            .name("acks".into())
            .spawn(write)
            .map_err(|error| Failure::wrong(format!("starting a thread: {error}")))?;
        Ok(Acks { sender, writer })
    }
}

impl Acks {
    /// What tasks hand their lots to.
    pub(crate) fn sender(&self) -> mpsc::Sender<Lot> {
        self.sender.clone()
    }

    /// Waits until everything is written; all senders have to be gone.
    pub(crate) async fn finish(self) {
        let Self { sender, writer } = self;
        drop(sender);
        // It tells of its failures through the feed.
        let _ = tokio::task::spawn_blocking(move || writer.join()).await;
    }
}

fn cut_incomplete_line(path: &Path, file: &File) -> io::Result<()> {
    let readable = File::open(path)?;
    let len = file.metadata()?.len();
    let (mut end, mut block) = (len, vec![0; BLOCK]);
    let keep = loop {
        if end == 0 {
            break 0;
        }
        let start = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..(end - start) as usize];
        readable.read_exact_at(part, start)?;
        if let Some(newline) = part.iter().rposition(|byte| *byte == b'\n') {
            break start + newline as u64 + 1;
        }
        end = start;
    };
    if keep < len { file.set_len(keep) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kill_left_of_a_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acks");
        let long = "x".repeat(BLOCK * 2 + 17);
        for (before, after) in [
            ("".to_owned(), ""),
            ("abc".to_owned(), ""),
            ("abc\n".to_owned(), "abc\n"),
            (format!("abc\n{long}"), "abc\n"),
            (long, ""),
        ] {
            std::fs::write(&path, before).unwrap();
            AcksFile::open(&path).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}
