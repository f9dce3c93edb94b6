//! Concurrent histories of a tree, and whether they are linearizable: whether each operation can be
//! given one moment between its call and its return, so that one map, to which they are applied one
//! after the other in the order of these moments, would have answered as the engine did (Herlihy and
//! Wing 1990).
//!
//! * [`model`] is that map: what each operation makes of it and answers.
//! * [`check`] looks for the moments.
//! * [`clients`] makes histories: tasks that run operations against a tree and write down when each
//!   was called and when it returned.

#![allow(dead_code)] // Each test file uses its part.

pub(crate) mod check;
pub(crate) mod clients;
pub(crate) mod model;
