//! What a running database offers of itself: the file `statistics.json` in its folder, which it
//! writes anew once a second.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::error::Failure;
use crate::stat::Named;

const FILE: &str = "statistics.json";

/// How one gets the file.
pub(crate) const NOT_OFFERED: &str = "to see it from here while it is open, have the program that \
                                      opens it say `Options::new().statistics_file(true)`";

/// Older than this, nobody writes it any more: the process was killed, or stands still.
const STALE: Duration = Duration::from_secs(5);
/// Between two looks for a new version.
const LOOK: Duration = Duration::from_millis(50);

/// One version of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    pub(crate) pid: u64,
    /// How that process reaches the disk.
    pub(crate) io: String,
    /// When it was written.
    unix_ms: u64,
    /// All numbers in it.
    pub(crate) numbers: Vec<Named>,
}

impl Live {
    /// Reads the file of the database in `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let file = path.join(FILE);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(absent(path)),
            Err(error) => {
                let file = file.display();
                return Err(Failure::used_wrongly(format!("reading {file}: {error}")));
            }
        };
        let live = Self::parse(&text).ok_or_else(|| {
            Failure::wrong(format!("{} is not what a treering database writes", file.display()))
        })?;
        let age = live.age();
        if age > STALE {
            return Err(Failure::wrong(format!(
                "the statistics of {} are {} s old: process {} was killed or stands still; \
                 `treering stat` opens a database that nobody has open",
                path.display(),
                age.as_secs(),
                live.pid
            )));
        }
        Ok(live)
    }

    /// Waits for a version that is newer than this one.
    pub(crate) async fn next(&self, path: &Path) -> Result<Self, Failure> {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let live = Self::read(path)?;
            // Another process may have the same folder by now.
            if (live.pid, live.unix_ms) != (self.pid, self.unix_ms) {
                return Ok(live);
            }
            if begun.elapsed() > STALE {
                let path = path.display();
                let what = format!("the statistics of {path} are not written any more");
                return Err(Failure::wrong(what));
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let Ok(Value::Object(object)) = serde_json::from_str(text) else { return None };
        let number = |name: &str| object.get(name)?.as_u64();
        if number("format")? != 1 {
            return None;
        }
        let all = object.iter().filter(|(name, _)| *name != "pid");
        let numbers = all.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)));
        Some(Self {
            pid: number("pid")?,
            io: object.get("io")?.as_str()?.to_owned(),
            unix_ms: number("unix_ms")?,
            numbers: numbers.collect(),
        })
    }

    fn age(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(Duration::from_millis(self.unix_ms))
    }

    /// A number, 0 if it is not there.
    pub(crate) fn get(&self, name: &str) -> u64 {
        let found = self.numbers.iter().find(|(other, _)| other == name);
        found.map_or(0, |(_, number)| *number)
    }
}

fn absent(path: &Path) -> Failure {
    let name = path.display();
    match fs::metadata(path) {
        Ok(data) if data.is_dir() => Failure::used_wrongly(format!(
            "{name} offers no statistics: {NOT_OFFERED}; `treering stat {name}` shows a database \
             that nobody has open"
        )),
        _ => Failure::used_wrongly(format!("there is no database {name}: there is no such folder")),
    }
}

/// What has happened between two versions, a second.
pub(crate) struct Rates<'l> {
    before: &'l Live,
    pub(crate) now: &'l Live,
}

impl<'l> Rates<'l> {
    pub(crate) fn between(before: &'l Live, now: &'l Live) -> Self {
        Self { before, now }
    }

    /// How much a total has grown.
    pub(crate) fn grown(&self, name: &str) -> u64 {
        self.now.get(name).saturating_sub(self.before.get(name))
    }

    /// The same, a second.
    pub(crate) fn rate(&self, name: &str) -> f64 {
        // By the clock of the database, which does not jump.
        let elapsed = self.grown("open_ms");
        if elapsed == 0 { 0.0 } else { self.grown(name) as f64 * 1000.0 / elapsed as f64 }
    }

    /// The share of lookups that found everything in memory, if there were any.
    pub(crate) fn hit_rate(&self) -> Option<f64> {
        let (gets, waited) = (self.grown("gets"), self.grown("gets_waited"));
        (gets > 0).then(|| gets.saturating_sub(waited) as f64 / gets as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(text: &str) -> Live {
        Live::parse(text).unwrap()
    }

    #[test]
    fn rates_are_by_the_clock_of_the_database() {
        let base = r#"{"format":1,"pid":7,"unix_ms":5,"io":"threads","open_ms":"#;
        let before = live(&format!("{base}1000,\"sequence\":10,\"gets\":0,\"gets_waited\":0}}"));
        let now = live(&format!("{base}3000,\"sequence\":110,\"gets\":8,\"gets_waited\":2}}"));
        let rates = Rates::between(&before, &now);
        assert_eq!((rates.grown("sequence"), rates.rate("sequence")), (100, 50.0));
        assert_eq!(rates.hit_rate(), Some(0.75));
        assert_eq!(Rates::between(&now, &now).hit_rate(), None);
        assert_eq!((now.pid, now.io.as_str()), (7, "threads"));
    }

    #[test]
    fn what_is_no_such_file_is_told_from_one() {
        for text in
            ["", "{}", "[1]", r#"{"format":2,"pid":1,"unix_ms":1,"io":""}"#, "{\"format\":1"]
        {
            assert!(Live::parse(text).is_none(), "{text}");
        }
    }
}
