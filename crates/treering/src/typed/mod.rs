//! Trees whose keys and values are Rust types.
//!
//! A [`TypedTree`] is a [`crate::Tree`] and two encodings: a [`Key`] type says how its values become
//! bytes whose order is their order, a [`Value`] type how they become bytes at all. The name and the
//! version of the key type are stored with the tree, because whoever reads keys as another type
//! would also look for them in another order; opening the tree with another is an error. Values are
//! not looked at by the engine, so their type is the program's own business.
//!
//! Nothing here knows of pages or the log. How each type is encoded is in `docs/keys.md`.

mod batch;
mod composite;
mod error;
mod key;
#[cfg(feature = "bytemuck")]
mod pod;
mod range;
mod scalars;
#[cfg(feature = "serde")]
mod serde;
mod strings;
mod tree;
mod value;
mod write;

pub use batch::TypedBatch;
pub use error::{DecodeError, EncodeError};
pub use key::Key;
#[cfg(feature = "bytemuck")]
pub use pod::Pod;
pub use range::TypedRange;
#[cfg(feature = "serde")]
pub use serde::Serde;
pub use tree::TypedTree;
pub use value::{Value, View};
pub use write::TypedWrite;
