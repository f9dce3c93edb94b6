//! Simulations of the whole engine on one thread, with virtual time and a simulated disk.

pub mod chance;
