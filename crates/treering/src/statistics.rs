//! The statistics that a running database offers to other processes: a file in its folder, written
//! anew once a second; and what else is published at that pace.
//!
//! A thread of its own does that, outside of the engine: it may wait for a file system that is busy
//! with the log's syncs, and the engine's thread must not. It ends, and takes the file away, before
//! the folder is free for the next who opens it ([`StopOnDrop`] is among what the engine keeps to its
//! end). A process that is killed leaves the file behind. That says when it was written, so whoever
//! reads it can tell, and the next opening removes it.
//!
//! The new contents are written to another file, which then gets the name: who reads never sees half
//! of them. Nothing is synced.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use treering_txn::{Engine, EngineStats};

use crate::watch::Watch;

/// The file's name.
pub(crate) const STATISTICS: &str = "statistics.json";
/// What it is called while it is written.
const NEW: &str = "statistics.json.new";

/// Between two versions of it.
const EVERY: Duration = Duration::from_secs(1);

/// Removes what a process that was killed has left.
pub(crate) fn clear(path: &Path) -> io::Result<()> {
    for name in [STATISTICS, NEW] {
        match fs::remove_file(path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What is published of a database.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) watch: Watch,
    /// The folder, if the file is wanted.
    pub(crate) file: Option<StatisticsFile>,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: Option<Arc<crate::metrics::Metrics>>,
}

#[derive(Debug)]
pub(crate) struct StatisticsFile {
    pub(crate) folder: PathBuf,
    /// How the disk is reached.
    pub(crate) io: String,
}

/// The publishing thread, once there is one, shared by who starts it and who ends it.
#[derive(Clone, Default)]
pub(crate) struct Publishing(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    #[default]
    NotBegun,
    Running(Sender<()>, JoinHandle<()>),
    Over,
}

impl Publishing {
    /// Publishes for the first time, so that whoever knows of the opening finds something, and starts
    /// the thread; unless the engine has ended meanwhile.
    pub(crate) fn start(&self, engine: &Arc<Engine>, publisher: Publisher) -> io::Result<()> {
        let mut state = self.lock();
        if !matches!(*state, State::NotBegun) {
            return Ok(());
        }
        let mut failed = false;
        publisher.publish(engine, &mut failed);
        let engine = Arc::downgrade(engine);
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("treering-stats".into()).spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let Some(engine) = engine.upgrade() else { break };
                publisher.publish(&engine, &mut failed);
            }
            if let Some(file) = &publisher.file {
                // If that cannot be done, the file tells its age.
                let _ = clear(&file.folder);
            }
        })?;
        *state = State::Running(stop, thread);
        Ok(())
    }

    /// Ends it when the answer is dropped.
    pub(crate) fn stop_on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the publishing and waits for its thread: for one write of a small file at most.
pub(crate) struct StopOnDrop(Publishing);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut *self.0.lock(), State::Over);
        if let State::Running(stop, thread) = state {
            drop(stop);
            // The last reference to the engine may have been dropped by that very thread.
            if thread.thread().id() != thread::current().id() {
                // A thread that panicked has said so.
                let _ = thread.join();
            }
        }
    }
}

impl Publisher {
    pub(crate) fn has_something(&self) -> bool {
        #[cfg(feature = "metrics")]
        if self.metrics.is_some() {
            return true;
        }
        self.file.is_some()
    }

    fn publish(&self, engine: &Engine, failed: &mut bool) {
        let mut stats = engine.stats();
        stats.lookups = self.watch.lookups();
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.metrics {
            metrics.publish(&stats);
        }
        let Some(file) = &self.file else { return };
        match file.write(&stats) {
            Ok(()) => *failed = false,
            // Once, and not every second.
            Err(error) if !*failed => {
                *failed = true;
                let folder = file.folder.display();
                tracing::warn!(%error, %folder, "the statistics file cannot be written");
            }
            Err(_) => {}
        }
    }
}

impl StatisticsFile {
    fn write(&self, stats: &EngineStats) -> io::Result<()> {
        let new = self.folder.join(NEW);
        fs::write(&new, self.text(stats))?;
        fs::rename(new, self.folder.join(STATISTICS))
    }

    /// One JSON object.
    fn text(&self, stats: &EngineStats) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (pid, unix_ms) = (std::process::id(), now.as_millis());
        // What a back end says of itself has nothing in it that needs to be escaped.
        let io: String =
            self.io.chars().filter(|c| !matches!(c, '"' | '\\') && *c >= ' ').collect();
        let mut text =
            format!("{{\"format\":1,\"pid\":{pid},\"unix_ms\":{unix_ms},\"io\":\"{io}\"");
        for number in stats.numbers() {
            text.push_str(&format!(",\"{}\":{}", number.name, number.value));
        }
        text.push_str("}\n");
        text
    }
}
