//! Loom's atomics, with loads and stores that are sequentially consistent when they say so.
//!
//! Loom treats a `SeqCst` load as `Acquire` and such a store as `Release`: of two threads that each
//! store to one word and then load the other's, both may see the old value. Protocols that rest on one
//! of them seeing the new one (count yourself in, then look whether the door is still open) would fail
//! in a model though they are right. Here such an access is a read-modify-write: a load changes
//! nothing, a store does not care for what was there. Loom lets those see the newest value only, so
//! where all accesses of such a protocol are sequentially consistent, that is what they are.
//!
//! Loom does not know either that nothing comes between the two halves of a read-modify-write: a plain
//! store that is no news to it might come before it, and be undone. So a `Release` store is one, too.
//! What is lost with that: a store does not end what an earlier release began. `Relaxed` stores and all
//! other loads are loom's as they are; a word that somebody loads with `SeqCst` must not be stored to
//! with `Relaxed` by two threads that do not know of each other.

use std::fmt;
use std::ops::Deref;

pub use loom::sync::atomic::{Ordering, fence};

macro_rules! atomic {
    ($name:ident, $value:ty, $nothing:expr) => {
        /// As in `std`.
        #[derive(Default)]
        pub struct $name(loom::sync::atomic::$name);

        impl $name {
            /// As in `std`, but not `const`.
            #[track_caller]
            pub fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            /// As in `std`; with `SeqCst`, the newest value.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                match order {
                    Ordering::SeqCst => self.0.fetch_or($nothing, order),
                    order => self.0.load(order),
                }
            }

            /// As in `std`; unless it is `Relaxed`, after all others there have been.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                match order {
                    Ordering::Relaxed => self.0.store(value, order),
                    order => {
                        self.0.swap(value, order);
                    }
                }
            }
        }

        impl Deref for $name {
            type Target = loom::sync::atomic::$name;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

atomic!(AtomicBool, bool, false);
atomic!(AtomicU8, u8, 0);
atomic!(AtomicU32, u32, 0);
atomic!(AtomicU64, u64, 0);
atomic!(AtomicUsize, usize, 0);
