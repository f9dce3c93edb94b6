//! Exhaustive crashes and failures: for each of some short workloads, the power fails at every moment,
//! with every subset of what was not durable, and every I/O fails, once and from then on.
//!
//! The [workloads] are a few operations on a small database each (pages of 512 bytes, a tiny
//! pool, the smallest log), on the simulated disk. What a database may hold after a crash follows from
//! what it [answered](model::Journal). [`crash`] and [`fail`] say what is done to it, [`check`] what has to be true
//! afterwards. That the checks find anything is checked, too: see [`machine::Planted`].
//!
//! All of it is a function of its seeds. More seeds are other orders of the same I/Os.

pub mod check;
pub mod crash;
pub mod fail;
pub mod fates;
pub mod life;
pub mod machine;
pub mod model;
pub mod perform;
pub mod run;
pub mod step;
pub mod tally;
pub mod workload;
pub mod workloads;

pub use run::{Plan, Results, run};
