//! What benchmark programs share; the programs are in `src/bin`.

pub mod data;
pub mod fio;
pub mod folder;
pub mod latency;
pub mod measure;
pub mod raw;
pub mod steps;
pub mod table;
