//! Numbers that never repeat in the life of a database, and only grow.
//!
//! Such a number is the number of the opening, in its upper 24 bits, and a counter that begins anew
//! with each opening. The opening counts itself in the catalog before its first checkpoint, and gives
//! no number before that checkpoint is durable: so whatever a crash takes back, no later opening has
//! the number of one that gave any.

use treering_latch::sync::atomic::{AtomicU64, Ordering};

use crate::engine::Engine;
use crate::error::Error;

/// Bits of the counter.
const COUNTER_BITS: u32 = 40;

/// The number of this opening, and how many numbers it has given.
pub(crate) struct Unique {
    opening: u64,
    given: AtomicU64,
}

impl Unique {
    /// For the opening with this number, which [`next_opening`] gave.
    pub(crate) fn new(opening: u64) -> Self {
        Self { opening, given: AtomicU64::new(0) }
    }

    fn next(&self) -> Option<u64> {
        let number = self.given.fetch_add(1, Ordering::Relaxed) + 1;
        (number < 1 << COUNTER_BITS).then_some(self.opening << COUNTER_BITS | number)
    }
}

/// The number of the opening after so many.
///
/// # Errors
/// There have been 2^24 of them.
pub(crate) fn next_opening(openings: u64) -> Result<u64, Error> {
    let opening = openings.saturating_add(1);
    if opening >> (u64::BITS - COUNTER_BITS) != 0 {
        return Err(Error::Exhausted { what: "numbers of openings" });
    }
    Ok(opening)
}

impl Engine {
    /// A number, not 0, that was never given before in the life of this database, and is greater
    /// than all that were. There are 2^40 of them an opening, and 2^24 openings.
    ///
    /// # Errors
    /// [`Error::Exhausted`] when they are used up; opening the database again gives new ones.
    pub fn next_unique(&self) -> Result<u64, Error> {
        self.unique.next().ok_or(Error::Exhausted { what: "unique numbers of this opening" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_from_one_opening_to_the_next_and_end_with_an_error() {
        let (first, second) = (Unique::new(1), Unique::new(2));
        assert_eq!(first.next(), Some(1 << 40 | 1));
        assert_eq!(first.next(), Some(1 << 40 | 2));
        first.given.store((1 << 40) - 2, Ordering::Relaxed);
        let last = first.next().unwrap();
        assert_eq!((first.next(), first.next()), (None, None));
        assert!(last < second.next().unwrap());
        assert_eq!(next_opening(0).unwrap(), 1);
        assert_eq!(next_opening((1 << 24) - 2).unwrap(), (1 << 24) - 1);
        assert!(next_opening((1 << 24) - 1).is_err());
        assert!(next_opening(u64::MAX).is_err());
    }
}
