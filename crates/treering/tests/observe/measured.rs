//! The feature `metrics`: histograms of what users and the disk do, and the numbers of the
//! statistics, with the recorder that the process has.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use smol::block_on;
use treering::Options;

/// By name and labels: how often something was recorded, and the last of it.
type Kept = Arc<Mutex<BTreeMap<String, Arc<Value>>>>;

#[derive(Debug, Default)]
struct Value {
    count: AtomicU64,
    /// The bits of a float, or a count.
    last: AtomicU64,
}

impl Value {
    fn keep(&self, bits: u64) {
        self.last.store(bits, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

impl CounterFn for Value {
    fn increment(&self, _: u64) {
        unreachable!("totals are told as they are");
    }

    fn absolute(&self, value: u64) {
        self.keep(value);
    }
}

impl GaugeFn for Value {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        self.keep(value.to_bits());
    }
}

impl HistogramFn for Value {
    fn record(&self, value: f64) {
        self.keep(value.to_bits());
    }
}

struct Keeper(Kept);

impl Keeper {
    fn value(&self, key: &Key) -> Arc<Value> {
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }
}

impl Recorder for Keeper {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.value(key))
    }
}

#[test]
fn everything_is_measured_where_it_is_asked_for_and_nowhere_else() {
    let kept = Kept::default();
    metrics::set_global_recorder(Keeper(Arc::clone(&kept))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (path, quiet) = (folder.path().join("db"), folder.path().join("quiet"));
    let db = block_on(Options::new().metrics(true).cache_size(64 << 10).open(&path)).unwrap();
    let other = block_on(treering::Database::open(&quiet)).unwrap();
    for db in [&db, &other] {
        let tree = block_on(db.tree("t")).unwrap();
        for number in 0..1000_u32 {
            block_on(tree.put(number.to_be_bytes(), [1; 200]).into_future()).unwrap();
        }
        let mut batch = db.batch();
        batch.put(&tree, b"a", b"b");
        block_on(batch.commit().into_future()).unwrap();
        for number in 0..1000_u32 {
            assert!(block_on(tree.get(number.to_be_bytes())).unwrap().is_some());
        }
        block_on(tree.get_with(b"a", <[u8]>::len)).unwrap();
        block_on(db.checkpoint()).unwrap();
    }
    let database = format!("database={}", path.display());
    let of = |name: &str, more: &str| {
        let name = format!("{name} {database}{more}");
        kept.lock().unwrap().get(&name).cloned().unwrap_or_else(|| panic!("{name}: {kept:?}"))
    };
    let count = |name: &str, more: &str| of(name, more).count.load(Ordering::SeqCst);
    assert_eq!(count("treering_get_seconds", ""), 1001);
    assert_eq!(count("treering_commit_seconds", ""), 1001);
    let (loads, disk) = (db.stats().pool.loads, db.stats().disk);
    // Neighbours that are read at once are one request.
    assert!((1..=loads + 16).contains(&count("treering_fetch_seconds", "")), "{loads} loads");
    assert!(count("treering_fsync_seconds", " op=durable_write") >= 1000);
    assert_eq!(count("treering_fsync_seconds", " op=sync"), disk.syncs_done);
    assert_eq!(count("treering_checkpoint_seconds", ""), db.stats().checkpoints);
    let last = |name: &str, more: &str| f64::from_bits(of(name, more).last.load(Ordering::SeqCst));
    for name in ["get", "commit", "fetch", "checkpoint"] {
        let took = last(&format!("treering_{name}_seconds"), "");
        assert!((0.0..60.0).contains(&took), "{name}: {took}");
    }

    // Once a second the numbers are passed on.
    let begun = Instant::now();
    while of("treering_sequence", "").last.load(Ordering::SeqCst) != 1002 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the numbers are not passed on");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(last("treering_page_size", ""), 4096.0);
    assert_eq!(of("treering_gets", "").last.load(Ordering::SeqCst), 1001);
    assert!(!path.join("statistics.json").exists(), "a file was not asked for");

    block_on(db.close()).unwrap();
    block_on(other.close()).unwrap();
    let quiet = quiet.display().to_string();
    assert!(!kept.lock().unwrap().keys().any(|name| name.contains(&quiet)), "nobody asked");
}
