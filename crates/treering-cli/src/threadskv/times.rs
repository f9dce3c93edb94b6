//! The times at the end: ` real 0m1.234s`, and what the process has spent in user and in system mode.

use std::time::{Duration, Instant};

/// A clock that was started.
pub(crate) struct Times(Instant);

impl Times {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The three lines. Times of the processor are those of the whole process, in steps of the
    /// kernel's clock tick; zero where the kernel does not tell.
    pub(crate) fn lines(&self) -> [String; 3] {
        let (user, system) = std::fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|stat| processor(&stat, rustix::param::clock_ticks_per_second()))
            .unwrap_or_default();
        [("real", self.0.elapsed()), ("user", user), ("sys ", system)]
            .map(|(name, time)| line(name, time))
    }
}

fn line(name: &str, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let minutes = (seconds / 60.0).floor();
    format!(" {name} {minutes}m{:.3}s", seconds - minutes * 60.0)
}

/// Fields 14 and 15 of the kernel's line about a process; its second field is the name of the
/// program in parentheses, in which there may be anything.
fn processor(stat: &str, ticks_per_second: u64) -> Option<(Duration, Duration)> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut time = || {
        let ticks: f64 = fields.next()?.parse().ok()?;
        Some(Duration::from_secs_f64(ticks / ticks_per_second.max(1) as f64))
    };
    Some((time()?, time()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_look_as_they_did() {
        assert_eq!(line("real", Duration::from_millis(62_034)), " real 1m2.034s");
        assert_eq!(line("sys ", Duration::ZERO), " sys  0m0.000s");
    }

    #[test]
    fn the_kernels_line_is_read_behind_a_strange_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 30 0 0";
        let (user, system) = processor(stat, 100).unwrap();
        assert_eq!((user.as_millis(), system.as_millis()), (2500, 300));
        assert!(processor("7 (a) S 1", 100).is_none());
    }
}
