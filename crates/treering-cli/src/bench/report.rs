//! What the measurements mean, in words, and as a plot.

use std::time::Duration;

use super::measure::Measured;
use crate::error::Failure;
use crate::output::{grouped, say};
use crate::svg::{Anchor, Fill, Picture};

/// All that was measured, in order.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) all: Vec<Measured>,
    /// Bytes of the file that were in use after the load.
    pub(crate) file_bytes: u64,
    /// The system caches pages beside the database.
    pub(crate) buffered: bool,
}

impl Results {
    /// Takes a measurement in, and prints its line.
    pub(crate) fn add(&mut self, measured: Measured) -> Result<(), Failure> {
        let times = measured.times.as_ref().map(|times| {
            let (half, most) = (shown(times.at(0.5)), shown(times.at(0.99)));
            format!("   half within {half}, 99 of 100 within {most}")
        });
        say(format_args!(
            "{:<32}{:>14}/s{}",
            measured.what,
            grouped(measured.rate().round() as u64),
            times.unwrap_or_default()
        ))?;
        self.all.push(measured);
        Ok(())
    }

    fn find(&self, what: &str) -> Option<&Measured> {
        self.all.iter().find(|measured| measured.what == what)
    }
}

/// A commit that is acknowledged quicker than this was not written to flash or a disk first.
const TOO_QUICK: Duration = Duration::from_micros(60);
/// One that takes this long was: by a disk that turns, or over a network.
const SLOW: Duration = Duration::from_millis(4);

/// Says what to expect of this disk.
pub(crate) fn words(results: &Results) -> Result<(), Failure> {
    say("\nwhat to expect here:")?;
    let one = results.find("durable commits, 1 task");
    let many = results.find("durable commits, 256 tasks");
    if let (Some(one), Some(many)) = (one, many) {
        let wait = one.times.as_ref().map(|times| times.at(0.5)).unwrap_or_default();
        say(format_args!(
            "- A durable commit takes {}, nearly all of it the disk's sync. {}",
            shown(wait),
            judgement(wait)
        ))?;
        say(format_args!(
            "- Commits that come at the same time share syncs: 256 tasks get {:.0} times as many done \
             as one. So use many tasks, or batches, and not one commit after the other.",
            many.rate() / one.rate().max(1e-9)
        ))?;
    }
    let warm = results.find("lookups in memory, 64 tasks");
    let cold = results.find("lookups on disk, 64 tasks");
    let alone = results.find("lookups on disk, 1 task");
    if let (Some(warm), Some(cold), Some(alone)) = (warm, cold, alone) {
        say(format_args!(
            "- A lookup that finds its page in memory is {:.0} times as quick as one that does not: \
             give the cache what is read often. 64 tasks read {:.1} times as much from disk as one, \
             so look many keys up at once.",
            warm.rate() / cold.rate().max(1e-9),
            cold.rate() / alone.rate().max(1e-9)
        ))?;
    }
    if let Some(load) = results.find("bulk load, durable at its end")
        && load.count > 0
    {
        say(format_args!(
            "- Loading 100 million such records at once takes about {} and {} GB.",
            shown(Duration::from_secs_f64(1e8 / load.rate().max(1.0))),
            grouped((results.file_bytes as f64 / load.count as f64 / 10.0).ceil() as u64)
        ))?;
    }
    if results.buffered {
        say(
            "- This file system has no O_DIRECT, so the system caches pages, too: what is called \
             \"on disk\" above may have been in memory.",
        )?;
    }
    Ok(())
}

fn judgement(wait: Duration) -> &'static str {
    if wait < TOO_QUICK {
        "That is quicker than flash is written: the device has a cache that survives a power loss, \
         or it only says that it has written; if you do not know which, find out before you rely on \
         it."
    } else if wait < SLOW {
        "That is what a solid-state disk takes."
    } else {
        "That is what a disk that turns takes, or one behind a network, or one that is busy."
    }
}

fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds >= 100.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds >= 1.0 => format!("{seconds:.1} s"),
        _ if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        _ if seconds >= 1e-6 => format!("{:.1} us", seconds * 1e6),
        _ => format!("{:.0} ns", seconds * 1e9),
    }
}

const BAR: f64 = 22.0;
const STEP: f64 = 30.0;
const WORDS: f64 = 240.0;
const WIDTH: f64 = 900.0;

/// Bars on a logarithmic scale: each vertical line is ten times the one before it.
pub(crate) fn plot(results: &Results) -> String {
    let rates: Vec<f64> = results.all.iter().map(|measured| measured.rate().max(1.0)).collect();
    let most = rates.iter().copied().fold(10.0, f64::max).log10().ceil();
    let scale = (WIDTH - WORDS - 120.0) / most;
    let height = 60.0 + results.all.len() as f64 * STEP;
    let mut picture = Picture::new(WIDTH, height + 40.0);
    picture.text((WIDTH / 2.0, 24.0), Anchor::Middle, "treering bench: operations a second");
    let line = |class| Fill { colour: "#cccccc", opacity: 1.0, class };
    for power in 0..=most as u32 {
        let x = WORDS + f64::from(power) * scale;
        picture.rect((x, 40.0), (1.0, height - 40.0), &line("line"), "");
        let label = grouped(10_u64.pow(power));
        picture.text((x, height + 18.0), Anchor::Middle, label);
    }
    for (number, (measured, rate)) in results.all.iter().zip(&rates).enumerate() {
        let y = 50.0 + number as f64 * STEP;
        let fill = Fill { colour: "#0072b2", opacity: 1.0, class: "bar" };
        picture.text((WORDS - 8.0, y + 16.0), Anchor::End, &measured.what);
        let length = rate.log10() * scale;
        let rate = format!("{}/s", grouped(measured.rate().round() as u64));
        picture.rect((WORDS, y), (length.max(1.0), BAR), &fill, &rate);
        picture.text((WORDS + length + 6.0, y + 16.0), Anchor::Start, rate);
    }
    picture.finish("treering bench")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fitting_units() {
        for (nanos, text) in
            [(5, "5 ns"), (1500, "1.5 us"), (2_500_000, "2.5 ms"), (3_000_000_000, "3.0 s")]
        {
            assert_eq!(shown(Duration::from_nanos(nanos)), text);
        }
        assert_eq!(shown(Duration::from_secs(600)), "10 min");
    }

    #[test]
    fn disks_are_told_apart() {
        assert!(judgement(Duration::from_micros(10)).contains("survives a power loss"));
        assert!(judgement(Duration::from_micros(500)).contains("solid-state"));
        assert!(judgement(Duration::from_millis(10)).contains("turns"));
    }
}
