//! What the smallest steps of the engine take, measured by criterion: latches alone and while a second thread
//! wants the same one, pins, searching, changing and splitting a page, encoding keys, a get and a put.
//!
//! `cargo bench -p treering-benches --bench micro [-- FILTER]`; how many instructions they are says
//! `ci/instructions`.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use criterion::Criterion;
use treering::Io;
use treering_benches::raw::Failure;
use treering_benches::steps;
use treering_latch::PhaseFair;

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default().configure_from_args();
    let folder = tempfile::tempdir()?;
    let steps = steps::without_database().into_iter();
    for mut step in steps.chain(steps::with_database(folder.path(), Io::Auto)?) {
        criterion.bench_function(step.name, |bencher| {
            bencher.iter_custom(|times| {
                let begun = Instant::now();
                step.run(times);
                begun.elapsed()
            });
        });
    }
    type Once = fn(&PhaseFair);
    let shared: Once = |latch| drop(black_box(latch.read()));
    let exclusive: Once = |latch| drop(black_box(latch.write()));
    for (name, ours, theirs) in [
        ("latch: shared, beside a second reader", shared, shared),
        ("latch: shared, beside a writer", shared, exclusive),
        ("latch: exclusive, beside a second writer", exclusive, exclusive),
    ] {
        let (latch, over) = (Arc::new(PhaseFair::new()), Arc::new(AtomicBool::new(false)));
        let second = std::thread::spawn({
            let (latch, over) = (Arc::clone(&latch), Arc::clone(&over));
            move || {
                while !over.load(Ordering::Relaxed) {
                    theirs(&latch);
                }
            }
        });
        criterion.bench_function(name, |bencher| bencher.iter(|| ours(&latch)));
        over.store(true, Ordering::Relaxed);
        second.join().map_err(|_| "the second thread panicked")?;
    }
    criterion.final_summary();
    Ok(())
}
