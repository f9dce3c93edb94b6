//! The databases that this process has open, so that one which is just being closed can be waited
//! for.
//!
//! Dropping the last handle lets the engine end on its own thread. Whoever opens the same folder in
//! the meantime waits for that; whoever opens it while it is in use is told so at once. Readers do not
//! mind each other.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use event_listener::Event;

use crate::error::Error;

static OPEN: LazyLock<Mutex<HashMap<PathBuf, Vec<Arc<Entry>>>>> = LazyLock::new(Mutex::default);

/// A folder that this process has open.
#[derive(Default)]
pub(crate) struct Entry {
    read_only: bool,
    ending: AtomicBool,
    left: Event,
}

/// Held by the engine as long as it lives.
pub(crate) struct Entered {
    path: PathBuf,
    entry: Arc<Entry>,
}

impl Entry {
    /// Enters a folder, waiting for engines that are ending there and are in the way.
    pub(crate) async fn enter(path: &Path, read_only: bool) -> Result<Entered, Error> {
        let path = std::path::absolute(path)
            .map_err(|source| Error::io(format!("finding {}", path.display()), source))?;
        loop {
            let there = {
                let mut open = lock();
                let entries = open.entry(path.clone()).or_default();
                match entries.iter().find(|entry| !(read_only && entry.read_only)) {
                    Some(in_the_way) => Arc::clone(in_the_way),
                    None => {
                        let entry = Arc::new(Self { read_only, ..Self::default() });
                        entries.push(Arc::clone(&entry));
                        return Ok(Entered { path, entry });
                    }
                }
            };
            let left = there.left.listen();
            let still_there = lock().get(&path).is_some_and(|entries| holds(entries, &there));
            if still_there && !there.ending.load(Ordering::Acquire) {
                return Err(Error::locked(format!(
                    "{} is open in this process already: use that handle, or close it",
                    path.display()
                )));
            }
            if still_there {
                left.await;
            }
        }
    }

    /// Says that the engine is about to end.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }
}

impl Entered {
    pub(crate) fn entry(&self) -> Arc<Entry> {
        Arc::clone(&self.entry)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut open = lock();
        if let Some(entries) = open.get_mut(&self.path) {
            entries.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
            if entries.is_empty() {
                open.remove(&self.path);
            }
        }
        drop(open);
        self.entry.left.notify(usize::MAX);
    }
}

fn holds(entries: &[Arc<Entry>], entry: &Arc<Entry>) -> bool {
    entries.iter().any(|other| Arc::ptr_eq(other, entry))
}

fn lock() -> MutexGuard<'static, HashMap<PathBuf, Vec<Arc<Entry>>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
