//! What benchmark programs share; the programs are in `src/bin`.

pub mod raw;
