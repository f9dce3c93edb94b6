//! What a folder is, before anything in it is touched: no lock file is left in a folder that is no
//! database, and no database is made among somebody else's files.

use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

use treering_pagefile::{FileError, FileErrorKind};

use crate::error::Error;

/// The file that every database has.
pub(crate) const PAGES: &str = "pages";
/// The folder for temporary files.
pub(crate) const SCRATCH: &str = "tmp";

/// Removes the temporary files of an earlier life.
pub(crate) fn clear_scratch(path: &Path) -> Result<(), Error> {
    let scratch = path.join(SCRATCH);
    match fs::remove_dir_all(&scratch) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", scratch.display()), source))
        }
        _ => Ok(()),
    }
}

/// Whether a database may be opened at `path`, or, with `create`, made; makes the folder then.
///
/// # Errors
/// [`crate::ErrorKind::InvalidOptions`] if there is something else, or nothing to open.
pub(crate) fn prepare(path: &Path, create: bool) -> Result<(), Error> {
    let name = path.display();
    let looking = |source| Error::io(format!("looking at {name}"), source);
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
            return fs::create_dir_all(path)
                .map_err(|source| Error::io(format!("creating the folder {name}"), source));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refusal(format!("there is no database {name}: there is no such folder")));
        }
        Err(error) => return Err(looking(error)),
        Ok(data) if !data.is_dir() => {
            return Err(refusal(format!("{name} is no database: a database is a folder")));
        }
        Ok(_) => {}
    }
    match fs::metadata(path.join(PAGES)) {
        Ok(pages) if !pages.is_dir() => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(looking(error)),
        _ => {}
    }
    if !create {
        let what = format!("there is no database in {name}: the folder has no file {PAGES:?}");
        return Err(refusal(what));
    }
    for entry in fs::read_dir(path).map_err(looking)? {
        let entry = entry.map_err(looking)?;
        if !may_be_there(&entry) {
            return Err(refusal(format!(
                "{name} is no database, and holds {:?}: name a folder that is empty or new",
                entry.file_name()
            )));
        }
    }
    Ok(())
}

/// What a creation that was interrupted, or a file system of its own, leaves in an empty folder.
fn may_be_there(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    name == "lock" || name == "lost+found" || name.starts_with(".probe-")
}

pub(crate) fn refusal(message: String) -> Error {
    FileError::new(FileErrorKind::NotADatabase, message).into()
}
