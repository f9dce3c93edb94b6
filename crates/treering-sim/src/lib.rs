//! Simulations of the whole engine on one thread, with virtual time and a simulated disk.
//!
//! A [`history`] is a database's lives: clients, faults, crashes, and what has to be there afterwards,
//! all of it a function of one seed, so that what went wrong once goes wrong again.

pub mod chance;
pub mod client;
pub mod exhaustive;
pub mod faults;
pub mod history;
pub mod isolation;
pub mod journal;
pub mod keeper;
pub mod lists;
pub mod world;
