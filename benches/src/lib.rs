//! Benchmark programs; see `src/bin`.
