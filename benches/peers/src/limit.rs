//! A limit on the memory of a process, page cache included: a cgroup of its own.
//!
//! Both forms of cgroups are tried. Where neither may be used, the engines' caches are as small as
//! under a limit, but those that read through the page cache have all of the machine's memory for it;
//! the row's name says so.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engine::Result;

/// A group with a limit, which processes can join.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limit {
    folder: PathBuf,
}

impl Limit {
    /// Makes a group; `None` where that is not allowed.
    pub fn new(bytes: u64) -> Option<Self> {
        let name = format!("treering-peers-{}", std::process::id());
        let forms =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        forms.into_iter().find_map(|(root, limit)| {
            let folder = Path::new(root).join(&name);
            fs::create_dir(&folder).ok()?;
            match fs::write(folder.join(limit), bytes.to_string()) {
                Ok(()) => Some(Self { folder }),
                Err(_) => {
                    let _ = fs::remove_dir(folder);
                    None
                }
            }
        })
    }

    /// Puts this process into the group.
    pub fn join(&self) -> Result<()> {
        let pid = std::process::id().to_string();
        Ok(fs::write(self.folder.join("cgroup.procs"), pid)?)
    }

    /// Removes the group, which has no processes any more.
    pub fn remove(self) -> Result<()> {
        Ok(fs::remove_dir(self.folder)?)
    }
}

/// Has the kernel forget what it has cached of the files in a folder.
pub fn forget(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.metadata()?.is_dir() {
            forget(&entry.path())?;
        } else {
            let file = fs::File::open(entry.path())?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}
