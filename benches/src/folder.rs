//! Where a program's databases and files go.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::raw::Failure;

/// A folder: the one that was named, which stays, or a temporary one, which is removed when this is dropped.
pub struct Folder {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl Folder {
    /// The folder `named`, made if there is none, or a temporary one.
    ///
    /// # Errors
    /// When neither can be made.
    pub fn new(named: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = named.map(Path::to_path_buf) else {
            let temporary = tempfile::tempdir()?;
            return Ok(Self { path: temporary.path().to_path_buf(), _temporary: Some(temporary) });
        };
        std::fs::create_dir_all(&path)?;
        Ok(Self { path, _temporary: None })
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}
