//! The names and fields of spans and events, as docs/observability.md lists them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use smol::block_on;
use tracing::Level;
use treering::{Database, Durability, Options, RecoveryProgress};
use treering_pagefile::sim::{FailMode, Sim};

use crate::collect::{Seen, events, install};

/// Leaves a log behind with so many commits: the database is dropped, and not closed.
fn leave_a_log(folder: &std::path::Path, commits: u64) {
    block_on(async {
        let db = Database::open(folder).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        for number in 0..commits {
            let write = tree.put(number.to_be_bytes(), [7; 100]);
            write.durability(Durability::Buffered).await.unwrap();
        }
        db.engine().sync().await.unwrap();
    });
}

#[test]
fn opening_and_recovery_tell_what_they_do() {
    install();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    leave_a_log(&path, 5000);
    let told = Arc::new(Mutex::new(Vec::<RecoveryProgress>::new()));
    let telling = Arc::clone(&told);
    let options = Options::new().on_recovery(move |told| telling.lock().unwrap().push(*told));
    let db = block_on(options.open(&path)).unwrap();

    let path = path.display().to_string();
    let opened = events("ready", |seen| seen.has("path", &path));
    let [created, recovered] = opened.as_slice() else { panic!("{opened:?}") };
    assert!(created.has("created", "true") && recovered.has("created", "false"));
    assert_eq!((created.number("replayed"), recovered.number("replayed")), (0, 5001));
    assert_eq!(recovered.number("sequence"), 5001);
    recovered.number("took_ms");
    assert_eq!(recovered.level, Level::INFO);
    assert!(
        recovered.is_in("open", "path", &path) && recovered.is_in("open", "read_only", "false")
    );
    let opened = events("opened", |seen| seen.is_in("open", "path", &path));
    let [first, second] = opened.as_slice() else { panic!("{opened:?}") };
    for seen in [first, second] {
        assert!(seen.level == Level::INFO && seen.has("directory", &path), "{seen:?}");
        assert_eq!(
            (&seen.fields["backend"], seen.fields["why"].is_empty()),
            (&db.backend(), false)
        );
    }

    let of_this = |seen: &Seen| seen.is_in("open", "path", &path);
    let [recovered] = &events("recovered from the log", of_this)[..] else {
        panic!("one recovery")
    };
    assert!(recovered.spans.iter().any(|(name, _)| *name == "recovery"), "{recovered:?}");
    assert_eq!((recovered.number("replayed"), recovered.number("sequence")), (5001, 5001));
    assert!(recovered.number("bytes") >= 5000 * 100);
    recovered.number("took_ms");

    // The program itself is told the same, with an estimate.
    let told = told.lock().unwrap();
    let (first, last) = (told.first().unwrap(), told.last().unwrap());
    assert!(told.len() >= 2 && !first.done && last.done);
    assert_eq!((first.bytes, first.records, first.remaining), (0, 0, None));
    assert_eq!((last.records, last.remaining), (5001, Some(Duration::ZERO)));
    assert_eq!((last.bytes, last.bytes), (last.bytes_at_most, recovered.number("bytes")));
    assert!(first.bytes_at_most >= last.bytes);
    assert!(told.is_sorted_by_key(|progress| (progress.bytes, progress.elapsed)));
    drop(db);
}

#[test]
fn a_checkpoint_is_a_span_and_tells_what_it_wrote() {
    install();
    let folder = tempfile::tempdir().unwrap();
    let db = block_on(Database::open(folder.path().join("db"))).unwrap();
    let tree = block_on(db.tree("t")).unwrap();
    for number in 0..1234_u64 {
        block_on(tree.put(number.to_be_bytes(), b"value").into_future()).unwrap();
    }
    block_on(db.checkpoint()).unwrap();
    // No other test here has as many commits.
    let [checkpoint] = &events("checkpoint", |seen| seen.has("sequence", "1235"))[..] else {
        panic!("one checkpoint");
    };
    assert_eq!(checkpoint.level, Level::DEBUG);
    assert!(checkpoint.is_in("checkpoint", "sequence", "1235"), "{checkpoint:?}");
    assert!(checkpoint.number("pages") >= 4);
    checkpoint.number("took_ms");
    checkpoint.number("epoch");
    let last = db.stats().last_checkpoint.unwrap();
    assert_eq!((last.sequence, last.pages), (1235, checkpoint.number("pages")));
}

#[test]
fn slow_io_is_reported_with_its_place_and_not_too_often() {
    install();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    // Everything is slower than nothing.
    let db = block_on(Options::new().slow_io(Duration::ZERO).open(&path)).unwrap();
    let tree = block_on(db.tree("t")).unwrap();
    for number in 0..100_u64 {
        block_on(tree.put(number.to_be_bytes(), b"value").into_future()).unwrap();
    }
    let path = path.display().to_string();
    let slow = events("slow I/O", |seen| seen.fields["file"].starts_with(&path));
    let disk = db.stats().disk;
    assert!(disk.slow >= 100 && disk.slow <= disk.requests + disk.syncs_done, "{disk:?}");
    // One a second.
    let seconds = db.stats().open_for.as_secs() as usize;
    assert!((1..=seconds + 2).contains(&slow.len()), "{} reports in {seconds} s", slow.len());
    for report in &slow {
        assert_eq!(report.level, Level::WARN);
        for field in ["offset", "bytes", "took_ms"] {
            report.number(field);
        }
        assert!(report.number("since_last") >= 1);
        let ops = ["read", "write", "durable write", "sync", "allocate"];
        assert!(ops.iter().any(|op| report.has("op", op)), "{report:?}");
    }
    block_on(db.close()).unwrap();
    // By default nothing here is slow.
    let db = block_on(Database::open(folder.path().join("db"))).unwrap();
    assert_eq!(db.stats().disk.slow, 0);
}

#[test]
fn poisoning_is_an_error_event_with_its_cause() {
    install();
    let sim = Sim::new(7);
    let options = Options::new().cache_size(1 << 20);
    let db = sim.run(options.open_on(sim.disk(), sim.runtime(), 1)).unwrap().unwrap();
    let tree = sim.run(db.tree("t")).unwrap().unwrap();
    const EXOTIC: i32 = 77;
    sim.disk().fail_at(sim.disk().io_count(), EXOTIC, FailMode::FromThenOn);
    let error = sim.run(async { tree.put(b"k", b"v").await }).unwrap().unwrap_err();
    assert_eq!(error.kind(), treering::ErrorKind::Poisoned);
    let exotic = format!("os error {EXOTIC}");
    let words = "the engine is poisoned: reopen the database";
    let [poisoned] = &events(words, |seen| seen.fields["error"].contains(&exotic))[..] else {
        panic!("poisoned once");
    };
    assert_eq!(poisoned.level, Level::ERROR);
}

#[test]
fn reading_and_writing_what_is_in_memory_makes_no_events() {
    install();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quiet");
    let db = block_on(Database::open(&path)).unwrap();
    let tree = block_on(db.tree("t")).unwrap();
    block_on(tree.put(b"k", b"v").into_future()).unwrap();
    // Those of other tests come from other threads, and from engines' threads: this thread's own
    // dispatcher sees what this thread does.
    let counter = Arc::new(Mutex::new(0));
    let counting = tracing_subscriber::registry::Registry::default();
    let counting = Count { inner: counting, count: Arc::clone(&counter) };
    tracing::subscriber::with_default(counting, || {
        tracing::info!("it does count");
        assert_eq!(std::mem::take(&mut *counter.lock().unwrap()), 1);
        for _ in 0..100 {
            block_on(tree.get(b"k")).unwrap();
            block_on(tree.put(b"k", b"v").durability(Durability::None).into_future()).unwrap();
        }
    });
    assert_eq!(*counter.lock().unwrap(), 0, "spans and events");
}

/// Counts spans and events.
struct Count {
    inner: tracing_subscriber::registry::Registry,
    count: Arc<Mutex<u64>>,
}

impl tracing::Subscriber for Count {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        *self.count.lock().unwrap() += 1;
        self.inner.new_span(attributes)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        *self.count.lock().unwrap() += 1;
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
