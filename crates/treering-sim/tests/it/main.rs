//! The tests of the simulations, as one program.

mod canary;
mod exhaustive;
mod histories;
mod replay;
