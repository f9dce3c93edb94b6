//! Measurements of many sensors, in the order of sensor and time: typed tuple keys, ranges of one
//! sensor, the newest value, sums by the hour, and a range delete that makes the past go.
//!
//! A key is `(sensor, time)`. Its bytes sort as the tuple does, so all of one sensor is one stretch of the
//! tree, and any part of its time is a stretch of that.
//!
//! `cargo run --release -p treering --example time_series`

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use treering::{Durability, Error, Options, TypedTree};

/// Sensor, and seconds since 1970.
type Key = (String, u64);
type Readings = TypedTree<Key, f64>;

const SENSORS: [&str; 4] = ["cellar", "kitchen", "roof", "roof/north"];
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// A reading a minute.
const EVERY: u64 = 60;

/// All readings of a sensor in `[from, to)`.
async fn between(
    tree: &Readings,
    sensor: &str,
    from: u64,
    to: u64,
) -> Result<Vec<(u64, f64)>, Error> {
    tree.range((sensor, from)..(sensor, to))
        .map_ok(|((_, time), value)| (time, value))
        .try_collect()
        .await
}

/// The newest reading of a sensor: the first one of its stretch, from behind.
async fn newest(tree: &Readings, sensor: &str) -> Result<Option<(u64, f64)>, Error> {
    let mut backward = tree.range((sensor, 0)..=(sensor, u64::MAX)).rev();
    Ok(backward.try_next().await?.map(|((_, time), value)| (time, value)))
}

/// Means by the hour, one pass, without a reading in memory that is not needed.
async fn hourly(tree: &Readings, sensor: &str) -> Result<BTreeMap<u64, f64>, Error> {
    let mut sums = BTreeMap::<u64, (f64, u32)>::new();
    let mut range = tree.range((sensor, 0)..=(sensor, u64::MAX));
    while let Some(((_, time), value)) = range.try_next().await? {
        let (sum, count) = sums.entry(time / HOUR).or_default();
        (*sum, *count) = (*sum + value, *count + 1);
    }
    Ok(sums.into_iter().map(|(hour, (sum, count))| (hour, sum / f64::from(count))).collect())
}

/// Which sensors there are, by one step each: from the end of one stretch to the start of the next.
async fn sensors(tree: &Readings) -> Result<Vec<String>, Error> {
    let mut found: Vec<String> = Vec::new();
    loop {
        let after = found.last().map_or(("", 0), |sensor| (sensor.as_str(), u64::MAX));
        let Some(((sensor, _), _)) = tree.range(after..).try_next().await? else {
            return Ok(found);
        };
        found.push(sensor);
    }
}

/// Lets the past go: a range a sensor. Each is gone at once for whoever reads, and wholly, however many
/// readings it has; the pages come back behind that.
async fn forget_before(tree: &Readings, time: u64) -> Result<(), Error> {
    for sensor in sensors(tree).await? {
        tree.delete_range((sensor.as_str(), 0)..(sensor.as_str(), time)).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let db = Options::new().cache_size(32 << 20).open(folder.path().join("data.tr")).await?;
    let readings: Readings = db.typed("readings").await?;

    // Three days. A reading that is lost in a crash is missed by nobody, so they need not wait for the
    // disk: within ten milliseconds they are there, too.
    let today = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000 / DAY * DAY);
    let end = today.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let begin = end - 3 * DAY;
    for time in (begin..end).step_by(EVERY as usize) {
        let mut batch = db.batch();
        for (number, sensor) in SENSORS.iter().enumerate() {
            batch.typed(&readings).put((sensor, time), number as f64 + (time % DAY) as f64 / 1e6);
        }
        batch.commit().durability(Durability::Buffered).await?;
    }

    assert_eq!(sensors(&readings).await?, SENSORS);
    assert_eq!(newest(&readings, "roof").await?.map(|(time, _)| time), Some(end - EVERY));
    let hour = between(&readings, "kitchen", end - HOUR, end).await?;
    assert_eq!(hour.len() as u64, HOUR / EVERY);
    assert!(
        hour.iter().all(|(time, value)| (end - HOUR..end).contains(time) && value.floor() == 1.0)
    );
    let means = hourly(&readings, "roof").await?;
    assert_eq!((means.len(), means[&(end / HOUR - 1)].floor()), (72, 2.0));
    // "roof" is no prefix of "roof/north" as a key: a string in a tuple has an end of its own. Who wants
    // both asks for the bytes that both begin with.
    let roofs = readings.bytes().prefix("roof").try_collect::<Vec<_>>().await?;
    assert_eq!(roofs.len() as u64, 2 * 3 * DAY / EVERY);

    // Only the last day stays, and the file becomes shorter.
    forget_before(&readings, end - DAY).await?;
    let left: Vec<(Key, f64)> = readings.range(..).try_collect().await?;
    assert_eq!(left.len() as u64, SENSORS.len() as u64 * DAY / EVERY);
    assert!(left.iter().all(|((_, time), _)| *time >= end - DAY));
    let compacted = db.compact().await?;
    assert!(compacted.after < compacted.before);
    println!(
        "{} readings of {} sensors are left; the file went from {} to {} KiB",
        left.len(),
        SENSORS.len(),
        compacted.before >> 10,
        compacted.after >> 10
    );
    Ok(db.close().await?)
}
