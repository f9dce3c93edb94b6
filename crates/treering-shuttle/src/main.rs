//! `treering-shuttle`: the whole engine on many threads, under a scheduler that is a function of a
//! seed.
//!
//! On one thread every poll is atomic, so a simulation on one thread cannot see a latch that is
//! missing. Here, user threads, engine tasks, the disk's completions and the clock are threads of
//! shuttle's, which switches between them at every latch, atomic, lock and word of a page. A pool of
//! 16 frames, pages of 512 bytes; writers whose keys lie between each other's in the same leaves,
//! cursors and scans in both directions, splits, merges, checkpoints, evictions, and a picture of the
//! disk that a crash would leave.
//!
//! Needs `--cfg treering_shuttle`; `ci/shuttle` builds and runs it. Without, it is empty.

#[cfg(treering_shuttle)]
mod canaries;
#[cfg(treering_shuttle)]
mod explore;
#[cfg(treering_shuttle)]
mod history;
#[cfg(treering_shuttle)]
mod machine;
#[cfg(treering_shuttle)]
mod schedule;
#[cfg(treering_shuttle)]
mod story;
#[cfg(treering_shuttle)]
mod users;

#[cfg(treering_shuttle)]
fn main() -> std::process::ExitCode {
    explore::main()
}

#[cfg(not(treering_shuttle))]
fn main() {
    eprintln!("this is empty without --cfg treering_shuttle; run ci/shuttle");
}
