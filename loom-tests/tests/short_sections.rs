//! What stands for a spin latch (seed row T3): `sync::Mutex`, as the latches have it around the
//! short sections on their queues, with four preemptions.
//!
//! Protocol: two threads insist, one tries. Checked: each section sees the one before whole, a try
//! that is refused has changed nothing, and nobody sleeps through a release. That this is a model at
//! all is the reason for it: two threads that spin until a third has left have no end that loom
//! could come to.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
#![cfg_attr(treering_planted_bug, allow(dead_code, unused_imports))]

use loom::thread;
use treering_latch::sync::atomic::AtomicU32;
use treering_latch::sync::atomic::Ordering::Relaxed;
use treering_latch::sync::{Arc, Mutex};
use treering_loom_tests::{PREEMPTIONS, Reached, explore_reaching};

/// Two numbers that are equal whenever nobody is inside, and whether somebody is. Loom sees the
/// coming and going by the latter only: the end of a section alone is not a point at which it would
/// let another thread try.
#[derive(Default)]
struct Section {
    pair: Mutex<(u32, u32)>,
    inside: AtomicU32,
}

impl Section {
    /// With the mutex held.
    fn bump(&self, pair: &mut (u32, u32)) {
        assert_eq!(pair.0, pair.1, "a section began within another");
        pair.0 += 1;
        self.inside.fetch_add(1, Relaxed);
        self.inside.fetch_sub(1, Relaxed);
        pair.1 += 1;
    }
}

fn insist_and_try(reached: &Reached) {
    let section = Arc::new(Section::default());
    let threads = [(), ()].map(|()| {
        let section = section.clone();
        thread::spawn(move || section.bump(&mut section.pair.lock()))
    });
    let mut sections = 2;
    let somebody_inside = section.inside.fetch_add(0, Relaxed) == 1;
    match section.pair.try_lock() {
        Some(mut pair) => {
            section.bump(&mut pair);
            sections += 1;
        }
        None if somebody_inside => reached.now(),
        None => {}
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(*section.pair.lock(), (sections, sections), "a section was lost");
    assert!(section.pair.try_lock().is_some(), "somebody left a trace");
}

mod holds {
    use super::*;

    #[test]
    fn t3_short_sections_exclude_each_other_and_a_try_does_not_wait() {
        explore_reaching(PREEMPTIONS, insist_and_try);
    }
}
