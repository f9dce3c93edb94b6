//! The page ids that name nothing, as ranges.
//!
//! Pages of the tree take one id each; a value in overflow pages takes as many in a row as it has
//! pages. Ranges that touch are one range, and one that touches the end of all ids ever used is none
//! at all, so ids are dense again after large values have come and gone.

use std::collections::BTreeMap;

/// Ranges that a search for a long one looks at before it takes ids that were never used.
const RANGES_LOOKED_AT: usize = 256;

/// Free ids.
pub(crate) struct FreeIds {
    /// First id and number of ids of each range below `next`. No two touch, and none touches `next`.
    ranges: BTreeMap<u64, u64>,
    /// All ids from here on are free.
    next: u64,
}

impl FreeIds {
    /// All ids from 1 on.
    pub(crate) fn new() -> Self {
        Self { ranges: BTreeMap::new(), next: 1 }
    }

    /// All ids in use are below this.
    pub(crate) fn bound(&self) -> u64 {
        self.next
    }

    /// Takes `count` ids in a row, at least one, and returns the first.
    pub(crate) fn take(&mut self, count: u64) -> u64 {
        debug_assert!(count > 0);
        let fit = self.ranges.iter().take(RANGES_LOOKED_AT).find(|(_, len)| **len >= count);
        let Some((first, len)) = fit.map(|(first, len)| (*first, *len)) else {
            let first = self.next;
            self.next += count;
            return first;
        };
        self.ranges.remove(&first);
        if len > count {
            self.ranges.insert(first + count, len - count);
        }
        first
    }

    /// Takes the `count` ids from `first` on; false, and none is taken, if one of them is in use.
    pub(crate) fn claim(&mut self, first: u64, count: u64) -> bool {
        let Some(end) = first.checked_add(count).filter(|_| first > 0) else { return false };
        if first >= self.next {
            if first > self.next {
                self.ranges.insert(self.next, first - self.next);
            }
            self.next = end;
            return true;
        }
        let before = self.ranges.range(..=first).next_back().map(|(start, len)| (*start, *len));
        let Some((start, len)) = before.filter(|(start, len)| start + len >= end) else {
            return false;
        };
        self.ranges.remove(&start);
        if start < first {
            self.ranges.insert(start, first - start);
        }
        if end < start + len {
            self.ranges.insert(end, start + len - end);
        }
        true
    }

    /// Gives back `count` ids in a row, which name nothing.
    pub(crate) fn give(&mut self, first: u64, count: u64) {
        if count == 0 {
            return;
        }
        let (mut start, mut end) = (first, first + count);
        debug_assert!(first > 0 && end <= self.next, "ids that were taken are given back");
        if let Some((&before, &len)) = self.ranges.range(..first).next_back() {
            debug_assert!(before + len <= first, "an id is given back once");
            if before + len == first {
                self.ranges.remove(&before);
                start = before;
            }
        }
        if let Some(len) = self.ranges.remove(&end) {
            end += len;
        }
        if end == self.next {
            self.next = start;
        } else {
            self.ranges.insert(start, end - start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_and_are_one_range_again() {
        let mut ids = FreeIds::new();
        assert_eq!([ids.take(1), ids.take(100), ids.take(1), ids.take(5)], [1, 2, 102, 103]);
        ids.give(2, 100);
        assert_eq!(ids.take(101), 108, "what does not fit is taken from the top");
        assert_eq!([ids.take(60), ids.take(40), ids.take(1)], [2, 62, 209]);
        ids.give(62, 40);
        ids.give(2, 60);
        ids.give(102, 1);
        assert_eq!((ids.ranges.len(), ids.take(101)), (1, 2));
        ids.give(209, 1);
        ids.give(108, 101);
        ids.give(103, 5);
        ids.give(2, 101);
        assert_eq!((ids.ranges.len(), ids.bound()), (0, 2), "nothing is left but the first");
    }

    #[test]
    fn a_recovery_claims_ids_below_and_beyond_the_bound() {
        let mut ids = FreeIds::new();
        ids.take(10);
        ids.give(3, 4);
        assert!(!ids.claim(2, 2) && !ids.claim(6, 2) && !ids.claim(0, 1) && !ids.claim(9, 5));
        assert!(ids.claim(4, 2), "in the middle of a range");
        assert!(!ids.claim(4, 1) && !ids.claim(3, 2));
        assert!(ids.claim(20, 5) && ids.claim(25, 1) && !ids.claim(24, 1));
        assert_eq!([ids.take(1), ids.take(1), ids.take(9), ids.take(1)], [3, 6, 11, 26]);
    }
}
