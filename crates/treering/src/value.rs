//! Keys and values as they come back.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

macro_rules! bytes_type {
    ($name:ident, $what:literal) => {
        #[doc = $what]
        ///
        /// It is a copy of its own: holding it keeps nothing in the cache.
        #[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Vec<u8>);

        impl $name {
            /// The bytes as a vector, without a copy.
            pub fn into_vec(self) -> Vec<u8> {
                self.0
            }
        }

        impl Deref for $name {
            type Target = [u8];

            fn deref(&self) -> &[u8] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl Borrow<[u8]> for $name {
            fn borrow(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<Vec<u8>> for $name {
            fn from(bytes: Vec<u8>) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"{}\"", self.0.escape_ascii())
            }
        }
    };
}

bytes_type!(KeyBytes, "The bytes of a key.");
bytes_type!(ValueBytes, "The bytes of a value.");
