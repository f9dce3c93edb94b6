//! Latching a page that was found by its id, without breaking the order of latches (I11).
//!
//! Between finding a page and latching it, the page may be freed and its id used again: for a page
//! of another tree or level, or further left. Waiting for that one's latch while holding others could
//! wait in a circle. What cannot happen is that a page is freed while it is pinned, nor that pages of
//! a level change places. So: pin first; look without a latch whether this is the page that was
//! meant; then wait for its latch. And a right link is followed by pinning the page it names before
//! the page that names it is let go.

use treering_bufpool::{ExclusivePage, PinnedPage, Pool};
use treering_latch::sync::hint;
use treering_pagefile::PageId;

use crate::descend::Live;
use crate::forest::Blocked;
use crate::page::Page;

/// Pins a page.
pub(crate) fn pin(pool: &Pool, page: PageId) -> Result<PinnedPage<'_>, Blocked> {
    pool.try_pin(page).ok_or_else(|| Blocked::Fetch(vec![page]))
}

/// Latches a page of which `meant` says that it is right to wait for it whatever the caller holds.
pub(crate) fn latch_meant<'p>(
    pool: &'p Pool,
    page: PageId,
    meant: impl Fn(&Live<'_>) -> bool,
) -> Result<ExclusivePage<'p>, Blocked> {
    let pinned = pin(pool, page)?;
    match look(pool, page, meant) {
        Some(true) => Ok(pinned.write()),
        Some(false) | None => Err(Blocked::Moved),
    }
}

/// What `look` makes of a page that the caller has pinned, without waiting for a latch. `None` if
/// somebody keeps changing it.
pub(crate) fn look<R>(
    pool: &Pool,
    page: PageId,
    mut look: impl FnMut(&Live<'_>) -> R,
) -> Option<R> {
    for _ in 0..LOOKS_MAX {
        if let Some(result) = pool.glance(page, |words| look(&Page::new(words))) {
            return Some(result);
        }
        hint::spin_loop();
    }
    None
}

/// A page is being changed for microseconds at a time.
const LOOKS_MAX: usize = 4096;
