//! What a change that is too large for one step has made of its keys, before the pages say so.
//!
//! A big batch or the deletion of a range is decided by one log record, and from that moment on it
//! holds, though its pages are changed behind it, chunk by chunk, in the order of its keys. In
//! between, this is where its outcome stands:
//!
//! * *Readers* ask the overlay first. A key that is *pending* is as the overlay says; any other is as
//!   the pages say. They ask before they look at pages: a key that is not pending any more was put
//!   into its page before.
//! * *Writers* of a pending key wait, owning nothing, until its chunk has been applied. They look
//!   under the latches of their leaves, so that nobody is on his way who has not looked. Writers of
//!   other keys do not notice anything.
//!
//! Before the record is in the log an overlay may *claim* its keys: writers wait already, readers
//! look at the pages still. That is how the conditions of a big batch are checked; so until then it
//! also claims the keys that the batch only asks about.
//!
//! There is one overlay at a time; who wants the next waits for [`Overlays::turn`].

use std::ops::Bound;
use std::sync::Arc;

use event_listener::{Event, EventListener};
use treering_blink::{Direction, From};
use treering_latch::Ticket;
use treering_latch::sync::atomic::{AtomicBool, Ordering};
use treering_latch::sync::{RwLock, RwLockReadGuard};

use crate::batch::Batch;

/// A place in the order of all trees' keys.
type Place = (u32, Vec<u8>);

/// The outcome of a change, for the keys whose pages do not have it yet.
pub(crate) struct Overlay {
    what: What,
    /// The outcome holds.
    visible: AtomicBool,
    /// Everything before this place has been applied.
    applied: RwLock<Place>,
}

pub(crate) enum What {
    /// Operations by position in the batch, one for a key, by tree and key: those that decide what
    /// becomes of it; and one on each key that the batch only asks about.
    Batch { batch: Arc<Batch>, deciding: Vec<u32>, asking: Vec<u32> },
    /// All keys of a tree from where it is applied up to here, exclusive, are gone.
    Gone { tree: u32, to: Option<Vec<u8>> },
}

/// What was pending at one moment. Pages that are read after that moment have all the rest.
pub(crate) struct View<'o> {
    overlay: &'o Overlay,
    applied: Place,
}

impl Overlay {
    /// Nothing of it is applied. It claims its keys from `from` on.
    pub(crate) fn new(what: What, from: (u32, &[u8])) -> Self {
        let applied = RwLock::new((from.0, from.1.to_vec()));
        Self { what, visible: AtomicBool::new(false), applied }
    }

    /// It holds from now on. The caller holds whatever makes that one step with its record.
    pub(crate) fn show(&self) {
        self.visible.store(true, Ordering::SeqCst);
    }

    /// Whether a key belongs to it and has not been applied; or the outcome depends on it and does not
    /// hold yet.
    pub(crate) fn claims(&self, tree: u32, key: &[u8]) -> bool {
        self.find(&self.applied(), tree, key).is_some()
            || !self.visible.load(Ordering::SeqCst) && self.asks(tree, key)
    }

    /// Whether it is a batch that asks about a key and leaves it as it is.
    fn asks(&self, tree: u32, key: &[u8]) -> bool {
        match &self.what {
            What::Gone { .. } => false,
            What::Batch { batch, asking, .. } => position(batch, asking, tree, key).is_some(),
        }
    }

    /// What is pending now. `None` if it does not hold yet.
    pub(crate) fn view(&self) -> Option<View<'_>> {
        let holds = self.visible.load(Ordering::SeqCst);
        holds.then(|| View { overlay: self, applied: self.applied().clone() })
    }

    /// Everything before this place is in its page now.
    pub(crate) fn advance(&self, tree: u32, key: &[u8]) {
        let mut applied = self.applied.write();
        *applied = (tree, key.to_vec());
    }

    /// Where it stands: everything before is in its page.
    pub(crate) fn place(&self) -> (u32, Vec<u8>) {
        self.applied().clone()
    }

    fn applied(&self) -> RwLockReadGuard<'_, Place> {
        self.applied.read()
    }

    fn find(&self, applied: &Place, tree: u32, key: &[u8]) -> Option<Option<&[u8]>> {
        if (tree, key) < (applied.0, applied.1.as_slice()) {
            return None;
        }
        match &self.what {
            What::Gone { tree: of, to } => {
                let inside = *of == tree && to.as_ref().is_none_or(|to| key < to.as_slice());
                inside.then_some(None)
            }
            What::Batch { batch, deciding, .. } => {
                let op = batch.op(position(batch, deciding, tree, key)?);
                Some(op.kind.gives_value().then_some(op.value))
            }
        }
    }
}

/// The operation on a key, of some that are in the order of keys.
fn position(batch: &Batch, among: &[u32], tree: u32, key: &[u8]) -> Option<usize> {
    let found = among.binary_search_by(|&at| {
        let op = batch.op(at as usize);
        (op.tree.id, op.key).cmp(&(tree, key))
    });
    Some(among[found.ok()?] as usize)
}

impl<'o> View<'o> {
    /// What a pending key has become: `Some(None)` if it is gone. `None` if it is not pending.
    pub(crate) fn get(&self, tree: u32, key: &[u8]) -> Option<Option<&'o [u8]>> {
        self.overlay.find(&self.applied, tree, key)
    }

    /// The pending keys of a tree within the bounds that have a value, in ascending order.
    pub(crate) fn puts_between(
        &self,
        tree: u32,
        low: Bound<&[u8]>,
        high: Bound<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&'o [u8], &'o [u8])> {
        let (batch, deciding): (Option<&'o Batch>, &'o [u32]) = match &self.overlay.what {
            What::Batch { batch, deciding, .. } => (Some(batch), deciding),
            What::Gone { .. } => (None, &[]),
        };
        let op = move |at: u32| batch.map(|batch| batch.op(at as usize));
        let is_before = |at: &u32| {
            op(*at).is_some_and(|op| {
                (op.tree.id, op.key) < (self.applied.0, self.applied.1.as_slice())
                    || op.tree.id < tree
                    || op.tree.id == tree && !within_low(op.key, low)
            })
        };
        let first = deciding.partition_point(is_before);
        let is_inside =
            |at: &u32| op(*at).is_some_and(|op| op.tree.id == tree && within_high(op.key, high));
        let inside = deciding[first..].partition_point(is_inside);
        deciding[first..first + inside]
            .iter()
            .filter_map(move |&at| op(at).filter(|op| op.kind.gives_value()))
            .map(|op| (op.key, op.value))
    }
}

fn within_low(key: &[u8], low: Bound<&[u8]>) -> bool {
    match low {
        Bound::Included(low) => key >= low,
        Bound::Excluded(low) => key > low,
        Bound::Unbounded => true,
    }
}

fn within_high(key: &[u8], high: Bound<&[u8]>) -> bool {
    match high {
        Bound::Included(high) => key <= high,
        Bound::Excluded(high) => key < high,
        Bound::Unbounded => true,
    }
}

/// The overlay of a database, if there is one.
#[derive(Default)]
pub(crate) struct Overlays {
    /// Looked at by every operation, so that they pay nothing while there is none.
    active: AtomicBool,
    current: RwLock<Option<Arc<Overlay>>>,
    /// Some keys are not pending any more.
    moved: Event,
    /// Held by the engine's task whose overlay it is, and by who wants that there is none.
    pub(crate) turn: Ticket,
    /// Held by the engine's task that frees the pages of a dropped tree.
    pub(crate) freeing: Ticket,
}

impl Overlays {
    /// The overlay, if there is one.
    #[inline]
    pub(crate) fn current(&self) -> Option<Arc<Overlay>> {
        if !self.active.load(Ordering::SeqCst) {
            return None;
        }
        self.current.read().clone()
    }

    /// Makes this the overlay. The caller has the turn.
    pub(crate) fn set(&self, overlay: Arc<Overlay>) {
        *self.current.write() = Some(overlay);
        self.active.store(true, Ordering::SeqCst);
    }

    /// All of it is applied, or it did not come to hold.
    pub(crate) fn clear(&self) {
        self.active.store(false, Ordering::SeqCst);
        *self.current.write() = None;
        self.notify_moved();
    }

    pub(crate) fn notify_moved(&self) {
        self.moved.notify(usize::MAX);
    }

    /// Is woken when some keys are not pending any more. Listen first, then look, then wait.
    pub(crate) fn moved(&self) -> EventListener {
        self.moved.listen()
    }
}

/// The bounds of the keys that a scan or a search has passed on its way from one place to the next;
/// `to` is `None` if it came to the end.
pub(crate) fn passed<'f>(
    direction: Direction,
    from: &'f From,
    to: Option<&'f From>,
) -> (Bound<&'f [u8]>, Bound<&'f [u8]>) {
    // Where it began, and where it ended, seen in its direction.
    let near = match from {
        From::At(key) => Bound::Included(key.as_slice()),
        From::Past(key) => Bound::Excluded(key.as_slice()),
        From::End => Bound::Unbounded,
    };
    // What is at the next place has not been passed.
    let far = match to {
        Some(From::At(key)) => Bound::Excluded(key.as_slice()),
        Some(From::Past(key)) => Bound::Included(key.as_slice()),
        Some(From::End) | None => Bound::Unbounded,
    };
    match direction {
        Direction::Forward => (near, far),
        Direction::Backward => (far, near),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::OpKind;
    use treering_blink::TreeRef;
    use treering_pagefile::PageId;

    fn overlay() -> Overlay {
        let tree = |id| TreeRef::new(id, PageId(u64::from(id)));
        let mut batch = Batch::new();
        batch.push(tree(1), OpKind::Put, b"b", b"1");
        batch.push(tree(1), OpKind::Delete, b"d", b"");
        batch.push(tree(1), OpKind::Put, b"e", b"3");
        batch.push(tree(2), OpKind::Put, b"a", b"2");
        let what =
            What::Batch { batch: Arc::new(batch), deciding: vec![0, 1, 2, 3], asking: vec![] };
        Overlay::new(what, (0, b""))
    }

    #[test]
    fn a_pending_key_is_as_the_overlay_says_once_it_holds_and_until_it_is_applied() {
        let overlay = overlay();
        assert!(overlay.claims(1, b"b") && !overlay.claims(1, b"c") && !overlay.claims(3, b"a"));
        assert!(overlay.view().is_none(), "claimed, but it does not hold yet");
        overlay.show();
        let get = |key: &[u8]| overlay.view().unwrap().get(1, key);
        assert_eq!(get(b"b"), Some(Some(b"1".as_slice())));
        assert_eq!(get(b"d"), Some(None));
        overlay.advance(1, b"c");
        assert_eq!(get(b"b"), None);
        assert!(!overlay.claims(1, b"b") && overlay.claims(1, b"d") && overlay.claims(2, b"a"));
        overlay.advance(3, b"");
        assert!(!overlay.claims(2, b"a"));
    }

    #[test]
    fn what_is_pending_between_two_places_is_what_a_scan_has_passed() {
        let overlay = overlay();
        overlay.show();
        let keys = |direction, from: &From, to: Option<&From>| {
            let (low, high) = passed(direction, from, to);
            let view = overlay.view().unwrap();
            let found: Vec<_> = view.puts_between(1, low, high).map(|(key, _)| key).collect();
            found
        };
        let at = |key: &[u8]| From::At(key.to_vec());
        let past = |key: &[u8]| From::Past(key.to_vec());
        use Direction::{Backward, Forward};
        assert_eq!(keys(Forward, &From::End, None), [b"b", b"e"]);
        assert_eq!(keys(Forward, &at(b"b"), Some(&at(b"e"))), [b"b"]);
        assert_eq!(keys(Forward, &past(b"b"), None), [b"e"]);
        assert_eq!(keys(Backward, &From::End, Some(&past(b"e"))), [b"e"]);
        assert_eq!(keys(Backward, &past(b"e"), None), [b"b"]);
        overlay.advance(1, b"c");
        assert_eq!(keys(Forward, &From::End, None), [b"e"]);
    }

    #[test]
    fn all_keys_of_a_range_that_is_gone_are_pending() {
        let what = What::Gone { tree: 1, to: Some(b"m".to_vec()) };
        let overlay = Overlay::new(what, (1, b"c"));
        overlay.show();
        let get = |tree, key: &[u8]| overlay.view().unwrap().get(tree, key);
        assert_eq!(get(1, b"c"), Some(None));
        assert_eq!(get(1, b"lzz"), Some(None));
        assert!([b"b".as_slice(), b"m"].iter().all(|key| get(1, key).is_none()));
        assert_eq!(get(2, b"d"), None);
        overlay.advance(1, b"k");
        assert_eq!(get(1, b"d"), None);
    }
}
