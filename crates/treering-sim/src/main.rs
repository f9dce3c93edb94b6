//! `treering-sim`: runs seeded histories of the whole engine.

fn main() {}
