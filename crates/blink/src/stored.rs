//! What stands in a leaf under a key: the value itself, or a reference to where it is.
//!
//! A value that does not fit into a leaf lives in overflow pages. Its entry is of another kind, and
//! its value is a reference of [`REFERENCE_LEN`] bytes. The tree carries both through splits and
//! rebuilds, and says which references a change has replaced ([`crate::Plan::commit`]), since the pages
//! that they refer to are then nobody's; it does not know what the bytes of a reference mean.

use crate::layout::{KIND_LIVE, KIND_OVERFLOW};

/// Bytes of a reference to a value in overflow pages.
pub const REFERENCE_LEN: usize = 24;

/// A reference to a value in overflow pages, as it stands in a leaf.
pub type Reference = [u8; REFERENCE_LEN];

/// How the value of an entry is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// In the leaf.
    #[default]
    Inline,
    /// In overflow pages; the leaf has a [`Reference`].
    Overflow,
}

/// What is to stand under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored<'v> {
    /// A value that the leaf holds.
    Inline(&'v [u8]),
    /// A reference to one that it does not.
    Overflow(&'v Reference),
}

impl<'v> Stored<'v> {
    /// The bytes that the leaf gets.
    pub fn bytes(self) -> &'v [u8] {
        match self {
            Stored::Inline(value) => value,
            Stored::Overflow(reference) => reference,
        }
    }

    /// Which of the two it is.
    pub fn kind(self) -> Kind {
        match self {
            Stored::Inline(_) => Kind::Inline,
            Stored::Overflow(_) => Kind::Overflow,
        }
    }
}

impl<'v> From<&'v [u8]> for Stored<'v> {
    fn from(value: &'v [u8]) -> Self {
        Stored::Inline(value)
    }
}

impl Kind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Kind::Inline => KIND_LIVE,
            Kind::Overflow => KIND_OVERFLOW,
        }
    }

    /// The kind that a slot says; whatever is no kind at all reads as the ordinary one.
    #[inline]
    pub(crate) fn of_code(code: u8) -> Self {
        if code == KIND_OVERFLOW { Kind::Overflow } else { Kind::Inline }
    }
}
