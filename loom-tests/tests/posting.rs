//! In the place of `ParentModification` (seed row T4): a flag on the page says that its parent has not
//! been told of a split, and whoever sees it may post it. With four preemptions.
//!
//! Protocol: who splits a page sets its right link, its new high fence and the flag, under the page's
//! latch, and lets go. Who posts latches the page and then the parent (leaves up), looks at the flag
//! again, puts the separator into the parent and clears the flag. A descent goes by what the parent
//! says, and right if the key is beyond the page's high fence. Checked:
//!
//! * two that post the same split post it once;
//! * a key that moved to the right page is found at every moment: before the split, after it, and
//!   after the posting;
//! * nobody waits for a posting who only wants the page: the splitter has let go of it.
//!
//! Planted: posting by a flag that was seen before the page was latched.
#![cfg(treering_loom)]
#![allow(clippy::unwrap_used)]
// What is planted in the model is used by `finds` only, and not every model is.
#![allow(dead_code)]
#![cfg_attr(treering_planted_bug, allow(unused_imports))]

use loom::thread;
use treering_latch::PhaseFair;
use treering_latch::sync::Arc;
use treering_latch::sync::atomic::AtomicU64;
use treering_latch::sync::atomic::Ordering::Relaxed;
use treering_loom_tests::{PREEMPTIONS, Reached, explore, explore_reaching};

/// Where the key is that a descent looks for.
const ON_LEFT: u64 = 0;
const ON_RIGHT: u64 = 1;

/// The state of the left page, in one word: the key is on it, or it has been split.
const WHOLE: u64 = 0;
const SPLIT_UNPOSTED: u64 = 1;
const SPLIT_POSTED: u64 = 2;

/// A leaf that is split, the page that takes its right half, and their parent. The right page comes
/// into being with the split and does not change, so it is no more than where the key ends up.
struct Family {
    left: PhaseFair,
    state: AtomicU64,
    parent: PhaseFair,
    /// How many separators the split has put into the parent: above 0 it points to the right page.
    separators: AtomicU64,
}

#[derive(Clone, Copy, PartialEq)]
enum Post {
    LooksAgain,
    BelievesFlag,
}

impl Family {
    fn new(state: u64) -> Arc<Self> {
        Arc::new(Self {
            left: PhaseFair::new(),
            state: AtomicU64::new(state),
            parent: PhaseFair::new(),
            separators: AtomicU64::new(0),
        })
    }

    fn split(&self) {
        let _guard = self.left.write();
        self.state.store(SPLIT_UNPOSTED, Relaxed);
    }

    /// By the splitter, by an engine task, by whoever crossed a flagged link.
    fn post(&self, post: Post) {
        let seen = {
            let _guard = self.left.read();
            self.state.load(Relaxed)
        };
        if seen != SPLIT_UNPOSTED {
            return;
        }
        let _left = self.left.write();
        if post == Post::LooksAgain && self.state.load(Relaxed) != SPLIT_UNPOSTED {
            return;
        }
        let _parent = self.parent.write();
        let separators = self.separators.load(Relaxed);
        assert_eq!(separators, 0, "a split was posted twice");
        self.separators.store(separators + 1, Relaxed);
        self.state.store(SPLIT_POSTED, Relaxed);
    }

    /// Which page a descent comes to in the end, and whether by the right link; latch by latch.
    fn descend(&self) -> (u64, bool) {
        let by_parent = {
            let _guard = self.parent.read();
            self.separators.load(Relaxed)
        };
        if by_parent > 0 {
            return (ON_RIGHT, false);
        }
        let _guard = self.left.read();
        match self.state.load(Relaxed) {
            WHOLE => (ON_LEFT, false),
            _ => (ON_RIGHT, true),
        }
    }
}

fn spawn(family: &Arc<Family>, body: impl FnOnce(&Family) + 'static) -> thread::JoinHandle<()> {
    let family = family.clone();
    thread::spawn(move || body(&family))
}

/// Main, too.
fn two_post_one_split(post: Post) {
    let family = Family::new(SPLIT_UNPOSTED);
    let other = spawn(&family, move |family| family.post(post));
    family.post(post);
    other.join().unwrap();
    assert_eq!(family.separators.load(Relaxed), 1, "nobody posted it");
}

/// Main descends beside a split and its posting, twice: it never goes back to the left page.
fn descents_beside_a_posting(reached: &Reached) {
    let family = Family::new(WHOLE);
    let splitter = spawn(&family, |family| {
        family.split();
        family.post(Post::LooksAgain);
    });
    let (first, by_link) = family.descend();
    if by_link {
        reached.now();
    }
    let (second, _) = family.descend();
    assert!(second >= first, "a key that has moved was looked for where it was");
    splitter.join().unwrap();
    assert_eq!(family.descend(), (ON_RIGHT, false), "the split was not posted");
}

/// Main stands between a split and its posting, and waits for somebody who wants the page.
fn nobody_waits_for_a_posting() {
    let family = Family::new(WHOLE);
    family.split();
    let other = spawn(&family, |family| drop(family.left.write()));
    other.join().unwrap();
    family.post(Post::LooksAgain);
    assert_eq!(family.separators.load(Relaxed), 1);
}

mod holds {
    use super::*;

    #[test]
    fn t4_a_split_is_posted_once_whoever_does_it() {
        explore(PREEMPTIONS, || two_post_one_split(Post::LooksAgain));
    }

    #[test]
    fn t4_a_key_is_found_before_and_after_its_page_is_posted() {
        explore_reaching(PREEMPTIONS, descents_beside_a_posting);
    }

    #[test]
    fn t4_nobody_waits_for_a_posting() {
        explore(PREEMPTIONS, nobody_waits_for_a_posting);
    }
}

#[cfg(treering_planted_bug)]
mod finds {
    use super::*;

    #[test]
    #[should_panic(expected = "a split was posted twice")]
    fn a_posting_that_does_not_look_again() {
        explore(PREEMPTIONS, || two_post_one_split(Post::BelievesFlag));
    }
}
