//! Concurrent sync requests for one file share one `fdatasync`.
//!
//! A sync covers the writes that completed before it *started*, so a request that arrives while one
//! is in flight cannot join it. It waits for the next one, together with everybody else who arrives
//! meanwhile. When a round ends, the next is started before the riders of the first are told.
//!
//! When a round fails, whoever waits for the next is told the same error: the kernel reports a lost
//! write to one sync only, and the writes of those who wait may be among the lost. None begins before all
//! of them have been told: it would succeed, and who asked for it would not know of the failure.

use std::io;
use std::sync::Arc;

use treering_latch::sync::Mutex;

use crate::buf::IoBuf;
use crate::counters::Counters;
use crate::directory::OpenFile;
use crate::disk::Completion;
use crate::work::{Work, share};

/// A back end, as seen by a round that ends: something that performs works in the background.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Takes over a work without running any completion.
    fn start(&self, work: Work);

    fn counters(&self) -> &Counters;
}

/// The syncs of one file.
#[derive(Default)]
pub(crate) struct SyncShare {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: bool,
    waiting: Vec<Work>,
}

/// Takes in a sync request; returns the work to start if none is in flight.
pub(crate) fn admit(backend: &Arc<dyn Backend>, rider: Work) -> Option<Work> {
    Counters::add(&backend.counters().syncs_asked, 1);
    let file = Arc::clone(&rider.file);
    let mut state = file.syncs.state.lock();
    if state.running {
        state.waiting.push(rider);
        return None;
    }
    state.running = true;
    drop(state);
    Some(round(backend, file, vec![rider]))
}

fn round(backend: &Arc<dyn Backend>, file: Arc<OpenFile>, riders: Vec<Work>) -> Work {
    Counters::add(&backend.counters().syncs_done, 1);
    let round =
        Round { backend: Arc::clone(backend), file: Arc::clone(&file), riders: Mutex::new(riders) };
    Work::sync(file, Arc::new(round))
}

/// One `fdatasync` and those who wait for it.
struct Round {
    backend: Arc<dyn Backend>,
    file: Arc<OpenFile>,
    riders: Mutex<Vec<Work>>,
}

impl Completion for Round {
    fn complete(self: Arc<Self>, _token: u64, _buf: IoBuf, result: io::Result<()>) {
        let mut riders = std::mem::take(&mut *self.riders.lock());
        let next = loop {
            let mut state = self.file.syncs.state.lock();
            let waiting = std::mem::take(&mut state.waiting);
            if result.is_ok() || (riders.is_empty() && waiting.is_empty()) {
                state.running = !waiting.is_empty();
                break waiting;
            }
            drop(state);
            riders.extend(waiting);
            let told = std::mem::take(&mut riders);
            crate::work::run(told.into_iter().map(|rider| rider.end(share(&result))));
        };
        if !next.is_empty() {
            self.backend.start(round(&self.backend, Arc::clone(&self.file), next));
        }
        crate::work::run(riders.into_iter().map(|rider| rider.end(share(&result))));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;

    use super::*;
    use crate::disk::{FileId, Op, Request};
    use crate::io_watch::IoWatch;
    use crate::work::Step;

    /// Keeps works until the test ends them.
    #[derive(Default)]
    struct Desk {
        works: Mutex<Vec<Work>>,
        counters: Counters,
    }

    impl Backend for Desk {
        fn start(&self, work: Work) {
            self.works.lock().push(work);
        }

        fn counters(&self) -> &Counters {
            &self.counters
        }
    }

    #[derive(Default)]
    struct Told(Mutex<Vec<(u64, Option<i32>)>>);

    impl Completion for Told {
        fn complete(self: Arc<Self>, token: u64, _: IoBuf, result: io::Result<()>) {
            self.0.lock().push((token, result.err().and_then(|error| error.raw_os_error())));
        }
    }

    struct Bench {
        desk: Arc<Desk>,
        backend: Arc<dyn Backend>,
        file: Arc<OpenFile>,
        told: Arc<Told>,
    }

    impl Bench {
        fn new() -> Self {
            let desk = Arc::new(Desk::default());
            let backend = Arc::clone(&desk) as Arc<dyn Backend>;
            let file = OpenFile {
                file: tempfile::tempfile().unwrap(),
                path: "a file".into(),
                direct: false,
                block_size: 512,
                device_len: None,
                syncs: SyncShare::default(),
                watch: Arc::new(IoWatch::new(Duration::MAX, None)),
            };
            Self { desk, backend, file: Arc::new(file), told: Arc::default() }
        }

        fn ask(&self, token: u64) {
            let done = Arc::clone(&self.told) as Arc<dyn Completion>;
            let (file, buf) = (FileId(0), IoBuf::None);
            let request = Request { file, op: Op::Sync, offset: 0, buf, done, token };
            if let Some(work) = admit(&self.backend, Work::new(request, Arc::clone(&self.file))) {
                self.desk.start(work);
            }
        }

        /// Ends the one sync that is in flight.
        fn end(&self, errno: i32) {
            let mut works = std::mem::take(&mut *self.desk.works.lock());
            assert_eq!(works.len(), 1, "one sync of a file is in flight at a time");
            let mut work = works.remove(0);
            let returned =
                if errno == 0 { Ok(0) } else { Err(io::Error::from_raw_os_error(errno)) };
            let Step::Over(result) = work.step(returned) else { panic!("a sync is one call") };
            crate::work::run(std::iter::once(work.end(result)));
        }

        fn told(&self) -> Vec<(u64, Option<i32>)> {
            std::mem::take(&mut *self.told.0.lock())
        }
    }

    #[test]
    fn whoever_comes_while_a_sync_is_in_flight_waits_for_the_next() {
        let bench = Bench::new();
        bench.ask(1);
        bench.ask(2);
        bench.ask(3);
        assert_eq!(bench.told(), []);
        bench.end(0);
        assert_eq!(bench.told(), [(1, None)]);
        bench.ask(4);
        bench.end(0);
        assert_eq!(bench.told(), [(2, None), (3, None)]);
        bench.end(0);
        assert_eq!(bench.told(), [(4, None)]);
        assert!(bench.desk.works.lock().is_empty());
        let counters = bench.desk.counters.read(&bench.file.watch);
        assert_eq!((counters.syncs_asked, counters.syncs_done), (4, 3));
    }

    /// Asks for another sync when it is told.
    struct Again(Arc<OpenFile>, Arc<dyn Backend>, Arc<Told>, AtomicBool);

    impl Completion for Again {
        fn complete(self: Arc<Self>, token: u64, buf: IoBuf, result: io::Result<()>) {
            Arc::clone(&self.2).complete(token, buf, result);
            let done = Arc::clone(&self.2) as Arc<dyn Completion>;
            let (file, buf) = (FileId(0), IoBuf::None);
            let request = Request { file, op: Op::Sync, offset: 0, buf, done, token: token + 1 };
            let begun = admit(&self.1, Work::new(request, Arc::clone(&self.0)));
            self.3.store(begun.is_some(), SeqCst);
        }
    }

    #[test]
    fn no_sync_begins_while_those_of_a_failed_one_are_told() {
        const EIO: i32 = 5;
        let bench = Bench::new();
        let (file, backend) = (Arc::clone(&bench.file), Arc::clone(&bench.backend));
        let again = Arc::new(Again(file, backend, Arc::clone(&bench.told), AtomicBool::new(true)));
        let done = Arc::clone(&again) as Arc<dyn Completion>;
        let (file, buf) = (FileId(0), IoBuf::None);
        let request = Request { file, op: Op::Sync, offset: 0, buf, done, token: 1 };
        bench
            .desk
            .start(admit(&bench.backend, Work::new(request, Arc::clone(&bench.file))).unwrap());
        bench.end(EIO);
        assert!(!again.3.load(SeqCst));
        assert_eq!(bench.told(), [(1, Some(EIO)), (2, Some(EIO))]);
        bench.ask(3);
        bench.end(0);
        assert_eq!(bench.told(), [(3, None)]);
    }

    #[test]
    fn a_failed_sync_fails_those_who_wait_for_the_next_and_no_later_one() {
        const EIO: i32 = 5;
        let bench = Bench::new();
        bench.ask(1);
        bench.ask(2);
        bench.end(EIO);
        assert_eq!(bench.told(), [(1, Some(EIO)), (2, Some(EIO))]);
        bench.ask(3);
        bench.end(0);
        assert_eq!(bench.told(), [(3, None)]);
    }
}
