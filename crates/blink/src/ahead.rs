//! Read-ahead: the leaves that a scan will want soon are asked for before it comes to them.
//!
//! A scan that has come to its second leaf is taken for sequential. From then on the leaves in front
//! of it are asked for, as the pages above them know them: few at first, twice as many with each
//! leaf, up to [`WINDOW_MAX`] and an eighth of the pool. The next lot is asked for when half of the
//! last is used up, so that the disk always has many reads in hand and they are submitted many at a
//! time. At the end of a parent the next parent is asked for, and gone on with when it is there.
//!
//! All of it is a hint: nothing is held or waited for (I1), what the pool has no frame for is left
//! out, and whatever splits or merges go on, a wrong guess costs one read in vain. When the scan finds
//! that a page it asked for has been pushed out again, it asks for half as many from there on.

use treering_pagefile::PageId;

use crate::descend::{Live, Way};
use crate::forest::{Forest, Step, TreeRef};
use crate::scan::{Direction, From, target};

/// The first window, in leaves.
const WINDOW_MIN: usize = 4;
/// The most leaves asked for ahead of a scan.
const WINDOW_MAX: usize = 256;

/// How far ahead of a scan leaves have been asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadAhead {
    /// Leaves that should be on their way or in memory: 0 while the scan is in its first leaf.
    window: usize,
    /// About how many of them are still in front of the scan.
    ahead: usize,
    /// Where the first leaf is that has not been asked for.
    next: Option<From>,
    /// There is none.
    over: bool,
    /// The scan ends at this key.
    until: Option<Vec<u8>>,
}

/// Leaves to ask for, and where those after them are.
struct Lot {
    leaves: Vec<PageId>,
    next: Option<From>,
}

impl ReadAhead {
    pub(crate) fn until(key: Option<Vec<u8>>) -> Self {
        Self { until: key, ..Self::default() }
    }

    /// The scan has used up a leaf.
    pub(crate) fn advance(&mut self) {
        self.window = (self.window * 2).clamp(WINDOW_MIN, WINDOW_MAX);
        self.ahead = self.ahead.saturating_sub(1);
    }

    /// Whether nothing has been asked for that is still in front of the scan.
    pub(crate) fn is_idle(&self) -> bool {
        self.ahead == 0
    }

    fn start_over(&mut self, from: &From) {
        self.next = Some(from.clone());
        self.ahead = 0;
        self.over = false;
    }

    /// Whether the scan, which is at `from`, is further than what was asked for.
    fn is_behind(&self, direction: Direction, from: &From) -> bool {
        let (From::At(key) | From::Past(key)) = from else { return self.next.is_none() };
        match &self.next {
            Some(From::At(next) | From::Past(next)) => match direction {
                Direction::Forward => next < key,
                Direction::Backward => next > key,
            },
            Some(From::End) | None => !self.over,
        }
    }
}

impl Forest {
    /// Asks for leaves in front of a scan that goes on at `from`, if it is time for more.
    pub(crate) fn read_ahead(
        &self,
        tree: TreeRef,
        direction: Direction,
        from: &From,
        state: &mut ReadAhead,
    ) {
        let window = state.window.min(self.pool().frame_count() / 8);
        if window == 0 {
            return;
        }
        if state.is_behind(direction, from) {
            state.start_over(from);
        }
        if state.ahead > window / 2 {
            return;
        }
        while state.ahead < window
            && let Some(next) = &state.next
        {
            let room = window - state.ahead;
            let until = state.until.as_deref();
            let aim = target(direction, next);
            let step = self.descend(tree, 1, aim, &mut Way::default(), |parent| {
                lot(parent, aim.child_slot(parent), direction, room, until)
            });
            match step {
                Ok(Step::Done((_, lot))) => {
                    if !self.pool().prefetch(&lot.leaves) {
                        return;
                    }
                    state.ahead += lot.leaves.len();
                    state.over = lot.next.is_none();
                    state.next = lot.next;
                }
                // A page above the leaves: with the next leaf it will be there.
                Ok(Step::Fetch(pages)) => {
                    self.pool().prefetch(&pages);
                    return;
                }
                // The tree may have become a single leaf; if it is damaged, the scan will say so.
                Err(_) => {
                    state.next = None;
                    state.over = true;
                }
            }
        }
    }

    /// The scan has to wait for a leaf: if that was asked for and pushed out again, less is better.
    pub(crate) fn read_ahead_missed(&self, leaf: &[PageId], state: &mut ReadAhead) {
        let asked_for = leaf.iter().all(|&page| self.pool().is_coming(page));
        if state.window > 0 && !asked_for {
            state.window = (state.window / 2).max(WINDOW_MIN);
            state.next = None;
            state.over = false;
        }
    }
}

/// The leaves from `slot` of their parent on, `room` at most.
fn lot(
    parent: &Live<'_>,
    slot: usize,
    direction: Direction,
    room: usize,
    until: Option<&[u8]>,
) -> Lot {
    let mut leaves = Vec::new();
    let mut key = Vec::new();
    let next = match direction {
        Direction::Forward => {
            let end = parent.len().min(slot.saturating_add(room));
            let inside = |slot| until.is_none_or(|key| parent.compare_key(slot, key).is_lt());
            leaves.extend(
                (slot..end).take_while(|&at| at == slot || inside(at)).map(|at| parent.child(at)),
            );
            let after = slot + leaves.len();
            let more = if after < parent.len() {
                parent.key_into(after, &mut key);
                true
            } else {
                parent.high_into(&mut key)
            };
            (more && until.is_none_or(|until| key.as_slice() < until)).then_some(From::At(key))
        }
        Direction::Backward => {
            // The child of a slot begins at its key: with it the range may be reached in full.
            let mut more = true;
            for at in (0..=slot).rev().take(room) {
                leaves.push(parent.child(at));
                key.clear();
                parent.key_into(at, &mut key);
                more = !key.is_empty() && until.is_none_or(|until| key.as_slice() > until);
                if !more {
                    break;
                }
            }
            more.then_some(From::Past(key))
        }
    };
    Lot { leaves, next }
}
