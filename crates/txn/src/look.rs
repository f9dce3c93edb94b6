//! Looks at trees through the overlay: a key that is pending is as the overlay says, any other is as
//! its page says. What is pending is noted before the page is looked at.

use event_listener::EventListener;
use futures::future::select;
use treering_blink::{Chunk, Direction, From, Kind, Nearest, Scan, Step, TreeRef, Way};

use crate::engine::Engine;
use crate::error::Error;
use crate::overlay::passed;

impl Engine {
    /// Whether a tree is still there.
    ///
    /// # Errors
    /// [`Error::NoSuchTree`].
    #[inline]
    pub(crate) fn check_tree(&self, tree: TreeRef) -> Result<(), Error> {
        if self.catalog.is_gone(tree.id) {
            return Err(Error::dropped(tree.id));
        }
        Ok(())
    }

    /// Waits until pending keys may not be pending any more. `moved` is `None` at first: whoever was
    /// told that they are pending looks once more, listening, before he waits.
    pub(crate) async fn wait_for_overlay(&self, moved: &mut Option<EventListener>) {
        match moved.take() {
            None => *moved = Some(self.overlays.moved()),
            Some(moved) => {
                let ending = select(self.closing.listen(), self.health.listen());
                if self.check().is_ok() {
                    select(moved, ending).await;
                }
            }
        }
    }

    /// Looks a key up: appends its value, or the reference to it, to `value`, which is cleared first.
    #[inline]
    pub(crate) fn look(
        &self,
        tree: TreeRef,
        key: &[u8],
        way: &mut Way,
        value: &mut Vec<u8>,
    ) -> Result<Step<Option<Kind>>, Error> {
        self.check_tree(tree)?;
        if let Some(overlay) = self.overlays.current()
            && let Some(known) = overlay.view().and_then(|view| view.get(tree.id, key))
        {
            value.clear();
            value.extend_from_slice(known.unwrap_or_default());
            return Ok(Step::Done(known.map(|_| Kind::Inline)));
        }
        Ok(self.forest.get(tree, key, way, value)?)
    }

    /// Fills `chunk` with the pairs of the leaf where `scan` stands, and moves it on.
    pub(crate) fn scan_step(&self, scan: &mut Scan, chunk: &mut Chunk) -> Result<Step<()>, Error> {
        let (tree, direction) = scan.way();
        self.check_tree(tree)?;
        let overlay = self.overlays.current();
        let view = overlay.as_ref().and_then(|overlay| overlay.view());
        let (Some(view), Some(from)) = (view, scan.next().cloned()) else {
            return Ok(self.forest.scan(scan, chunk)?);
        };
        let step = self.forest.scan(scan, chunk)?;
        if let Step::Done(()) = step {
            let (low, high) = passed(direction, &from, scan.next());
            let puts: Vec<_> = view.puts_between(tree.id, low, high).collect();
            chunk.correct(direction, |key| view.get(tree.id, key).is_some(), &puts);
        }
        Ok(step)
    }

    /// Finds the nearest entry that `search` aims at; says whether there is one.
    pub(crate) fn nearest_step(&self, search: &mut Nearest) -> Result<Step<bool>, Error> {
        let tree = search.tree();
        self.check_tree(tree)?;
        let overlay = self.overlays.current();
        let view = overlay.as_ref().and_then(|overlay| overlay.view());
        let Some(view) = view else { return Ok(self.forest.nearest(search)?) };
        loop {
            let (direction, from) = search.aimed();
            let from = from.clone();
            let found = match self.forest.nearest(search)? {
                Step::Done(found) => found,
                // The search has gone on to where it waits for a page. What it has passed on its way
                // may be pending: it begins anew then.
                Step::Fetch(pages) => {
                    search.aim(direction, from);
                    return Ok(Step::Fetch(pages));
                }
            };
            let to = found.then(|| From::At(search.key().to_vec()));
            let (low, high) = passed(direction, &from, to.as_ref());
            let mut puts = view.puts_between(tree.id, low, high);
            let pending = match direction {
                Direction::Forward => puts.next(),
                Direction::Backward => puts.next_back(),
            };
            if let Some((key, value)) = pending {
                let (key, value) = (key.to_vec(), value.to_vec());
                search.set_found(key, value);
                return Ok(Step::Done(true));
            }
            drop(puts);
            match found.then(|| view.get(tree.id, search.key())).flatten() {
                None => return Ok(Step::Done(found)),
                Some(Some(value)) => {
                    search.set_value(value.to_vec());
                    return Ok(Step::Done(true));
                }
                Some(None) => {
                    let past = From::Past(search.key().to_vec());
                    search.aim(direction, past);
                }
            }
        }
    }
}
