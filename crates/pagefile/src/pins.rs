//! Extents that are kept as they are while somebody copies a checkpoint.
//!
//! Pinning remembers which slots were in use: those of the checkpoint are among them. What later
//! checkpoints release is held if it was in use then, and free at once otherwise; so what a pin keeps
//! is bounded by what there was when it began, however much is written while it lasts. A later pin
//! remembers anew: what the earlier ones hold is still in use.
//!
//! The last pin to go frees what is held. Where space would run out otherwise, all pins are broken
//! ([`Pins::break_all`]), so no pin ever makes a reservation fail that could be granted without it.

use crate::space::{Run, SpaceMap};

/// The right to have the extents of a checkpoint left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pin(u64);

/// All pins on a file.
#[derive(Default)]
pub(crate) struct Pins {
    count: usize,
    /// How often all pins have been broken.
    breaks: u64,
    /// What was in use when the last pin began; empty without pins.
    in_use: Option<SpaceMap>,
    /// Released since, and held.
    held: Vec<Run>,
}

impl Pins {
    pub(crate) fn pin(&mut self, space: &SpaceMap) -> Pin {
        self.count += 1;
        self.in_use = Some(space.clone());
        Pin(self.breaks)
    }

    /// Whether the pin has not been broken.
    pub(crate) fn is_pinned(&self, pin: Pin) -> bool {
        pin.0 == self.breaks
    }

    /// Takes a pin back; follow with [`Pins::released`].
    pub(crate) fn unpin(&mut self, pin: Pin) {
        if self.is_pinned(pin) {
            self.count = self.count.checked_sub(1).expect("a pin is taken back once");
            if self.count == 0 {
                self.in_use = None;
            }
        }
    }

    /// Ends all pins if that gives space back; whether it does. Follow with [`Pins::released`].
    pub(crate) fn break_all(&mut self) -> bool {
        let any = !self.held.is_empty();
        if any {
            self.count = 0;
            self.in_use = None;
            self.breaks += 1;
        }
        any
    }

    /// Holds a slot that a checkpoint releases, if a pin needs it; whether it does.
    pub(crate) fn hold(&mut self, slot: Run) -> bool {
        let Some(in_use) = &self.in_use else { return false };
        let held = slot.end() <= in_use.slots() && in_use.is_used(slot.start);
        if held {
            self.held.push(slot);
        }
        held
    }

    /// Up to `most` slots that are held no more, and whether there are others.
    pub(crate) fn released(&mut self, most: usize) -> (Vec<Run>, bool) {
        if self.count > 0 {
            return (Vec::new(), false);
        }
        let keep = self.held.len().saturating_sub(most);
        (self.held.split_off(keep), keep > 0)
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = Run> {
        self.held.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(start: usize) -> Run {
        Run { start, len: 1 }
    }

    #[test]
    fn what_was_in_use_is_held_until_the_last_pin_goes() {
        let (mut pins, mut space) = (Pins::default(), SpaceMap::new(10));
        assert!(!pins.hold(slot(1)), "nobody has pinned anything");
        space.set(Run { start: 0, len: 4 });
        let first = pins.pin(&space);
        space.set(slot(5));
        assert!(pins.hold(slot(1)) && !pins.hold(slot(5)) && !pins.hold(slot(12)));
        let second = pins.pin(&space);
        assert!(pins.hold(slot(2)) && pins.hold(slot(5)));
        pins.unpin(first);
        assert_eq!(pins.released(10), (vec![], false));
        pins.unpin(second);
        assert_eq!(pins.released(2), (vec![slot(2), slot(5)], true));
        assert_eq!(pins.released(2), (vec![slot(1)], false));
        assert!(!pins.hold(slot(0)));
    }

    #[test]
    fn broken_pins_hold_nothing_and_know_it() {
        let (mut pins, mut space) = (Pins::default(), SpaceMap::new(10));
        space.set(Run { start: 0, len: 4 });
        let old = pins.pin(&space);
        assert!(!pins.break_all() && pins.is_pinned(old), "that would give nothing back");
        assert!(pins.hold(slot(3)) && pins.break_all() && !pins.is_pinned(old));
        assert_eq!(pins.released(5), (vec![slot(3)], false));
        let new = pins.pin(&space);
        pins.unpin(old);
        assert!(pins.is_pinned(new) && pins.hold(slot(0)), "an old pin takes no new one back");
    }
}
